"""File systems of one's own: an image made and mounted through a loop device, or one in memory. Needs root and mkfs.*.

What is on such a volume is what the benchmark put there, so the file system's own count of used blocks is the honest measure
of disk: extents that files share count once, metadata counts too.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KINDS = ("ext4", "xfs", "btrfs", "tmpfs")
# Kinds on which files can share extents.
REFLINKING = ("xfs", "btrfs")
IMAGE_BYTES = 24 << 30
MKFS = {
    "ext4": ["mkfs.ext4", "-q"],
    "xfs": ["mkfs.xfs", "-q"],
    # One copy of the metadata, so that it isn't counted twice.
    "btrfs": ["mkfs.btrfs", "-q", "-m", "single"],
}
SETTLE_S_MAX = 30.0


def check(kinds: list[str]) -> None:
    """Stops with a reason unless all of these can be made."""
    for kind in kinds:
        if kind not in KINDS:
            sys.exit(f"bench: unknown file system {kind}; known: {', '.join(KINDS)}")
        if kind in MKFS and shutil.which(MKFS[kind][0]) is None:
            sys.exit(f"bench: {MKFS[kind][0]} is not installed")
    if kinds and os.geteuid() != 0:
        sys.exit("bench: only root can mount file systems")


@contextmanager
def mounted(kind: str, parent: Path) -> Iterator[Path]:
    """A new, empty file system of that kind; unmounted and removed at the end."""
    home = Path(tempfile.mkdtemp(prefix=f"kb-{kind}-", dir=parent))
    point, image = home / "v", home / "image"
    point.mkdir()
    try:
        if kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", "size=80%", "tmpfs", point]
        else:
            with open(image, "wb") as file:
                file.truncate(IMAGE_BYTES)
            subprocess.run([*MKFS[kind], image], check=True, capture_output=True)
            command = ["mount", "-o", "loop", image, point]
        subprocess.run(command, check=True)
        try:
            yield point
        finally:
            if subprocess.run(["umount", point], check=False).returncode != 0:
                subprocess.run(["umount", "--lazy", point], check=True)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def used_bytes(point: Path) -> int:
    """What is allocated on the file system, once everything is written and nothing is being freed any more."""
    deadline = time.monotonic() + SETTLE_S_MAX
    last = -1
    while True:
        os.sync()
        info = os.statvfs(point)
        used = (info.f_blocks - info.f_bfree) * info.f_frsize
        if used == last or time.monotonic() > deadline:
            return used
        last = used
        time.sleep(0.2)
