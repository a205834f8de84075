"""The projects that are built: where their sources come from and how a checkout of one is made.

Every project is a published crate, built with the lockfile that ships in it, so everyone measures the same code.
"""

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from . import sealed

# Left out of a checkout: Cargo's own notes about the package.
NOT_SOURCE = (".cargo-ok", ".cargo_vcs_info.json")


@dataclass(frozen=True)
class Project:
    name: str
    crate: str
    version: str
    # Compiler runs and build-script runs of a debug build with Cargo 1.95, for choosing, not for checking.
    size: str


PROJECTS = {
    project.name: project
    for project in (
        Project("hexyl", "hexyl", "0.17.0", "small; for trying the harness"),
        Project("ripgrep", "ripgrep", "15.2.0", "44 units, 10 script runs; pure Rust"),
        Project("bat", "bat", "0.26.1", "200 units, 23 script runs; libgit2 and onig are C"),
        Project("gitoxide", "gitoxide", "0.61.0", "324 units, 30 script runs; needs libssl-dev and libcurl"),
        Project("jj", "jj-cli", "0.45.1", "400 units, 37 script runs; hardly any C"),
    )
}
DEFAULT = ("ripgrep", "bat", "jj")


def find(name: str) -> Project:
    """A project by its name above, or any other published crate as `crate@version`."""
    if name in PROJECTS:
        return PROJECTS[name]
    crate, at, version = name.partition("@")
    if not at:
        sys.exit(f"bench: unknown project {name}; known: {', '.join(PROJECTS)}, or crate@version")
    return Project(name, crate, version, "")


def obtain(project: Project, env: dict[str, str], work: Path, program: str = "cargo") -> Path:
    """Downloads the crate and everything it locks, through the Cargo that builds it later: another one may not read the
    notes on the index that this one leaves. Returns a pristine source tree."""
    online = env | {"CARGO_NET_OFFLINE": "false"}
    # `cargo info` downloads and unpacks the one crate; a dependency on it would resolve and fetch all of its own anew.
    scratch = work / "scratch"
    scratch.mkdir(exist_ok=True)
    if unpacked(project) is None:
        cargo(["info", "--quiet", f"{project.crate}@{project.version}"], scratch, online, program)
    found = unpacked(project)
    if found is None:
        sys.exit(f"bench: Cargo has no source of {project.crate} {project.version} after downloading it")
    source = work / "source" / project.name
    checkout(found, source)
    if not (source / "Cargo.lock").exists():
        sys.exit(f"bench: {project.crate} {project.version} ships no Cargo.lock")
    cargo(["fetch", "--quiet", "--locked"], source, online, program)
    return source


def unpacked(project: Project) -> Path | None:
    """The crate's sources in Cargo's registry folder."""
    found = (sealed.cargo_home() / "registry/src").glob(f"*/{project.crate}-{project.version}")
    return next((path for path in found if (path / ".cargo-ok").exists()), None)


def checkout(source: Path, to: Path) -> None:
    """Copies a source tree. Like a fresh checkout, its files are as old as the copy."""
    shutil.copytree(source, to, copy_function=shutil.copy, ignore=shutil.ignore_patterns(*NOT_SOURCE))


def cargo(args: list[str], cwd: Path, env: dict[str, str], program: str = "cargo") -> None:
    done = subprocess.run([program, *args], cwd=cwd, env=env, stdout=subprocess.DEVNULL, check=False)
    if done.returncode != 0:
        sys.exit(f"bench: cargo {' '.join(args)} failed with exit code {done.returncode}")
