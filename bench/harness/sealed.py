"""The sealed environment of a measured build, and the description of the machine it ran on.

Nothing of the caller's environment reaches a build but what is named here: no RUSTFLAGS, no wrapper, no settings of any
cache. The registry under CARGO_HOME and the toolchains under RUSTUP_HOME are shared, since both are only read.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
BENCH = REPO / "bench"


# Where release builds of kache are, under the repository.
KACHE_BESIDE = ["target/release/kache", "target/*/release/kache"]


def cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")


def base_env(work: Path) -> dict[str, str]:
    """What every contestant's build sees.

    RUSTC_WRAPPER is absent, not empty: with an empty one Cargo 1.95 can't use `target/.rustc_info.json` and asks the
    compiler three questions at the start of every build, which nearly doubles a small no-op build.
    """
    refuse_foreign_config(work)
    for name in ("home", "tmp"):
        (work / name).mkdir(parents=True, exist_ok=True)
    env = {
        "PATH": os.environ["PATH"],
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "CARGO_HOME": str(cargo_home()),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME") or str(Path.home() / ".rustup"),
        "CARGO_NET_OFFLINE": "true",
        "CARGO_TERM_COLOR": "never",
        "LC_ALL": "C.UTF-8",
        "TERM": "dumb",
    }
    # Named outright, so that a project's own toolchain file can't ask for another one.
    toolchain = os.environ.get("RUSTUP_TOOLCHAIN") or output_of("rustup", "show", "active-toolchain").split(" ")[0]
    if toolchain:
        env["RUSTUP_TOOLCHAIN"] = toolchain
    return env


def refuse_foreign_config(work: Path) -> None:
    """Cargo merges configuration from its home and from every directory above the build: none may name a wrapper."""
    for home in (cargo_home(), *(parent / ".cargo" for parent in (work, *work.parents))):
        for path in (home / "config.toml", home / "config"):
            if path.is_file():
                build = tomllib.loads(path.read_text()).get("build", {})
                if {"rustc-wrapper", "rustc-workspace-wrapper"} & build.keys():
                    sys.exit(f"bench: {path} sets a compiler wrapper, so there is no plain build; set CARGO_HOME elsewhere")
                print(f"bench: note: {path} applies to every contestant", file=sys.stderr)


def work_dir(asked: Path | None) -> Path:
    """A fresh directory on the repository's file system, outside the repository and its Cargo configuration."""
    if asked is not None:
        asked.mkdir(parents=True, exist_ok=True)
        if any(asked.iterdir()):
            sys.exit(f"bench: --work {asked} is not empty")
        return asked.resolve()
    home = Path(tempfile.gettempdir())
    if home.stat().st_dev != REPO.stat().st_dev:
        home = REPO.parent
    # Short: a Unix socket's path must fit into 108 bytes.
    return Path(tempfile.mkdtemp(prefix="kb-", dir=home)).resolve()


def find_tool(name: str, asked: str | None, beside: list[str]) -> Path | None:
    """`asked` if given (it must exist), else the newest of `beside` (globs under the repository), else from PATH."""
    if asked:
        path = Path(asked).resolve()
        if not os.access(path, os.X_OK):
            sys.exit(f"bench: {path} is not an executable file")
        return path
    built = [path for pattern in beside for path in REPO.glob(pattern) if os.access(path, os.X_OK)]
    if built:
        return max(built, key=lambda path: path.stat().st_mtime)
    found = shutil.which(name)
    return Path(found).resolve() if found else None


def find_kache(asked: str | None) -> Path:
    """As `find_tool`, of kache, without which there is nothing to measure."""
    found = find_tool("kache", asked, KACHE_BESIDE)
    if found is None:
        sys.exit("bench: no kache; `cargo build --release` first")
    return found


def output_of(*command: str, env: dict[str, str] | None = None) -> str:
    """First line a command prints, or nothing when it isn't there or fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip().split("\n")[0] if done.returncode == 0 else ""


def describe(work: Path) -> dict[str, str]:
    """The set-up as names and values that may be published: no host name, no path."""
    cpu = [line.split(":", 1)[1].strip() for line in Path("/proc/cpuinfo").read_text().split("\n") if "model name" in line]
    memory_kib = int(Path("/proc/meminfo").read_text().split("\n", 1)[0].split()[1])
    return {
        "cpu": f"{len(os.sched_getaffinity(0))} x {cpu[0] if cpu else platform.machine()}",
        "memory": f"{memory_kib / 2**20:.0f} GiB",
        "kernel": platform.release(),
        "file system": file_system_of(work),
        "niceness": str(os.nice(0)),
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
        "rustc": output_of("rustc", "--version"),
        "cargo": output_of("cargo", "--version"),
        "cc": output_of("cc", "--version"),
        "ld": output_of("ld", "--version"),
        "python": platform.python_version(),
        "harness commit": output_of("git", "-C", str(REPO), "rev-parse", "--short", "HEAD"),
    }


def file_system_of(path: Path) -> str:
    """Type and options of the mount that `path` is on: the longest mount point that is a parent of it."""
    best, answer = -1, "unknown"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _device, point, kind, options = line.split()[:4]
        if path.is_relative_to(point) and len(point) >= best:
            best, answer = len(point), f"{kind} ({options})"
    return answer
