"""A machine of its own, as far as a build can tell: home, Cargo home and the checkout's path."""

import os
import sys
from pathlib import Path

from . import measure, projects, sealed


class Machine:
    """A home, a Cargo home and a checkout of its own; only the downloaded packages are shared, as archives."""

    def __init__(self, name: str, work: Path, source: Path, base_env: dict[str, str]) -> None:
        self.home = work / name
        # Another depth and length for everyone, so that no path fits by accident.
        self.checkout = self.home / "src" / f"of-{name}" / "project"
        projects.checkout(source, self.checkout)
        cargo_home = self.home / "cargo-home"
        (cargo_home / "registry").mkdir(parents=True)
        for shared in ("cache", "index"):
            (cargo_home / "registry" / shared).symlink_to(sealed.cargo_home() / "registry" / shared)
        self.env = base_env | {"HOME": str(self.home), "CARGO_HOME": str(cargo_home)}
        # Unpacks what is locked.
        projects.cargo(["fetch", "--quiet", "--locked"], self.checkout, self.env)

    def build(self, command: list[str], env: dict[str, str]) -> measure.Sample:
        notes = self.home / "cargo.err"
        sample = measure.run(["cargo", *command], self.checkout, self.env | env, Path(os.devnull), notes)
        if sample.exit_code:
            sys.exit(f"bench: the build failed:\n{notes.read_text()}")
        return sample
