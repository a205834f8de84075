"""The Cargo that is driven, and the two layouts of its build directory. It knows nothing of caches or of phases.

Classic keeps all units side by side: `deps`, `.fingerprint/PKG-HASH`, `build/PKG-HASH`. Per-unit gives each unit a directory
of its own: `build/PKG/HASH/{out,fingerprint,run}`. Both are below `target/PROFILE` or `target/TRIPLE/PROFILE`.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import sealed

CLASSIC, PER_UNIT = "classic", "per-unit"
LAYOUTS = (CLASSIC, PER_UNIT)
PER_UNIT_IS_DEFAULT_SINCE = (1, 100)

# What only one layout has.
MARKS = {CLASSIC: ".fingerprint/*", PER_UNIT: "build/*/*/fingerprint"}
# Cargo writes this file when it starts a build script.
RUN_MARKS = ("build/*/invoked.timestamp", "build/*/*/run/invoked.timestamp")

PROBE_MANIFEST = '[package]\nname = "probe"\nversion = "0.1.0"\nedition = "2021"\n'


@dataclass(frozen=True)
class Cargo:
    """`env` is what every build sees beyond the sealed environment, `switch` the part of it that sets the layout."""

    program: str
    # The line that `cargo -V` prints.
    version: str
    layout: str
    switch: dict[str, str]
    env: dict[str, str]

    def describe(self) -> dict[str, str]:
        by = " ".join(f"{name}={value}" for name, value in self.switch.items())
        return {"cargo": self.version, "layout": self.layout, "layout set by": by or "Cargo's default"}


def choose(path: str | None, layout: str | None, base_env: dict[str, str], work: Path) -> Cargo:
    """The Cargo at `path` or the one on PATH, in `layout` or its own default. Builds an empty crate to see which it is."""
    env: dict[str, str] = {}
    program = "cargo"
    if path is not None:
        program = os.path.abspath(path)
        if not os.access(program, os.X_OK):
            sys.exit(f"bench: {program} is not an executable file")
        # Only rustup's own Cargo finds the compiler behind rustup's proxy; any other would start the proxy each time.
        sysroot = sealed.output_of("rustc", "--print", "sysroot", env=base_env)
        if not sysroot:
            sys.exit("bench: rustc doesn't tell its sysroot")
        env["RUSTC"] = str(Path(sysroot) / "bin/rustc")
    version = sealed.output_of(program, "-V", env=base_env)
    switch = switch_for(layout, number_of(version))
    env |= switch
    seen = probe(program, base_env | env, work)
    if layout not in (None, seen):
        sys.exit(f"bench: {version} was asked for the {layout} layout but uses the {seen} one")
    return Cargo(program, version, seen, switch, env)


def number_of(version: str) -> tuple[int, int]:
    found = re.match(r"cargo (\d+)\.(\d+)\.", version)
    if found is None:
        sys.exit(f"bench: not a Cargo: -V prints {version!r}")
    return int(found[1]), int(found[2])


def switch_for(layout: str | None, number: tuple[int, int]) -> dict[str, str]:
    """The variables that make a Cargo of that version use `layout`; none for its default."""
    default = PER_UNIT if number >= PER_UNIT_IS_DEFAULT_SINCE else CLASSIC
    if layout in (None, default):
        return {}
    if layout == PER_UNIT:
        return {"RUSTC_BOOTSTRAP": "1", "CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true"}
    return {"__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT": "1"}


def probe(program: str, env: dict[str, str], work: Path) -> str:
    """The layout that this Cargo uses in this environment."""
    home = work / "probe"
    (home / "src").mkdir(parents=True, exist_ok=True)
    (home / "Cargo.toml").write_text(PROBE_MANIFEST)
    (home / "src/lib.rs").touch()
    done = subprocess.run([program, "check"], cwd=home, env=env, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stderr}bench: {program} doesn't check an empty crate")
    found = layout_of(home / "target")
    if found is None:
        sys.exit(f"bench: {program} uses no known layout below `target`; does a Cargo configuration set build.build-dir?")
    return found


def layout_of(target: Path) -> str | None:
    """The layout of a target directory in which something was built."""
    return next((layout for layout, mark in MARKS.items() if any(below_profiles(target, mark))), None)


def run_marks(target: Path) -> Iterator[Path]:
    """For each run of a build script the file that Cargo wrote when it started it."""
    for pattern in RUN_MARKS:
        yield from below_profiles(target, pattern)


def below_profiles(target: Path, pattern: str) -> Iterator[Path]:
    yield from target.glob(f"*/{pattern}")
    yield from target.glob(f"*/*/{pattern}")
