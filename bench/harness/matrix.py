"""The phases of bench/run: every contestant goes through one phase before any goes on to the next.

So two figures of one phase and round were taken within seconds of each other, and what else the machine did at the time
weighs on both. The order of the contestants rotates from round to round.
"""

import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import cargo, measure
from .contestants import Plain, Tally
from .projects import Project, checkout

COLD, WARM, WARM2, NOOP2, WARM3, NOOP = "cold", "warm", "warm2", "noop2", "warm3", "noop"
CHECKOUTS = ("first", "second", "third")


@dataclass(frozen=True)
class Phase:
    name: str
    checkout: str
    # Whether `target` is removed before, and the phase repeated as often as --rounds says.
    is_fresh: bool
    is_repeated: bool
    # Without a cache, only the first build and the no-op after it tell anything new.
    is_for_plain: bool
    meaning: str


PHASES = (
    Phase(COLD, "first", True, False, True, "empty cache, fresh target directory"),
    Phase(WARM, "first", True, True, False, "same checkout, target directory removed"),
    Phase(WARM2, "second", True, True, False, "second checkout at another path, fresh target directory"),
    Phase(NOOP2, "second", False, True, False, "second checkout again, nothing changed"),
    Phase(WARM3, "third", True, False, False, "third checkout, fresh target directory"),
    Phase(NOOP, "first", False, True, True, "back in the first checkout, nothing changed"),
)


@dataclass(frozen=True)
class Plan:
    # Cargo and its arguments.
    command: list[str]
    reps: int
    rounds: int
    keeps_work: bool
    # Name of the file system, and what is allocated for these directories there.
    file_system: str
    disk_bytes: Callable[..., int]
    # Where Cargo's output goes: not onto a file system whose blocks are counted.
    notes: Path


@dataclass
class Record:
    """One build: a row of results.json."""

    project: str
    contestant: str
    file_system: str
    rep: int
    round: int
    phase: str
    wall_s: float
    cpu_s: float
    background_cpu_s: float
    other_cpu_s: float
    disk_added_bytes: int
    # What the target directory holds afterwards, shared or not: each inode once.
    target_bytes: int
    units: int
    dispatched: int
    compiled: int
    hits: int
    # Build scripts that really ran.
    scripts: int
    is_noop_clean: bool
    # Compiles and build-script runs that were put into place before Cargo looked, where the contestant does that.
    seeded_units: int | None = None
    seeded_runs: int | None = None
    reasons: dict[str, int] = field(default_factory=dict)
    # Bytes of outputs by the way they came from the cache, where the contestant tells.
    moved: dict[str, int] = field(default_factory=dict)


def run_project(project: Project, source: Path, contestants: list[Plain], plan: Plan, work: Path, env: dict[str, str]):
    """Yields one Record for each build."""
    for rep in range(plan.reps):
        home = work / "runs" / f"{project.name}-{rep}"
        for contestant in contestants:
            contestant.start(home / contestant.name, env)
            for name in CHECKOUTS:
                checkout(source, contestant.home / name)
        for phase in PHASES:
            for number in range(plan.rounds if phase.is_repeated else 1):
                turn = (rep + number) % len(contestants)
                for contestant in contestants[turn:] + contestants[:turn]:
                    if contestant.is_cache or phase.is_for_plain:
                        yield run_phase(project, contestant, phase, rep, number, plan)
        for contestant in contestants:
            contestant.stop()
        measure.end_orphans()
        if not plan.keeps_work:
            shutil.rmtree(home)


def run_phase(project: Project, contestant: Plain, phase: Phase, rep: int, number: int, plan: Plan) -> Record:
    where = contestant.home / phase.checkout
    places = (contestant.cache, *(contestant.home / name / "target" for name in CHECKOUTS))
    if phase.is_fresh:
        shutil.rmtree(where / "target", ignore_errors=True)
    blocks_before = plan.disk_bytes(*places)
    before = contestant.tally()
    os.sync()  # So that nobody pays for writing back what the one before has written.
    stdout, stderr = plan.notes / "stdout", plan.notes / "stderr"
    began_s = time.time()
    sample = measure.run(plan.command, where, contestant.env(where), stdout, stderr)
    if sample.exit_code != 0:
        tail = "".join(stderr.read_text(errors="replace").splitlines(keepends=True)[-30:])
        measure.end_orphans()
        sys.exit(f"{tail}bench: {project.name}, {contestant.name}, {phase.name}: exit code {sample.exit_code}")
    units, dispatched = count_units(stdout)
    done = settle_tally(contestant.tally().since(before), dispatched)
    return Record(
        project=project.name,
        contestant=contestant.name,
        file_system=plan.file_system,
        rep=rep,
        round=number,
        phase=phase.name,
        wall_s=round(sample.wall_s, 4),
        cpu_s=round(sample.cpu_s, 4),
        background_cpu_s=round(sample.background_cpu_s, 4),
        other_cpu_s=round(sample.other_cpu_s, 2),
        disk_added_bytes=plan.disk_bytes(*places) - blocks_before,
        target_bytes=measure.allocated_bytes(where / "target"),
        units=units,
        dispatched=dispatched,
        compiled=done.compiled or 0,
        hits=done.hits or 0,
        scripts=count_scripts(where / "target", began_s) - done.runs_served,
        is_noop_clean=phase.is_fresh or (dispatched == 0 and not names_work(stderr)),
        seeded_units=done.seeded_units,
        seeded_runs=done.seeded_runs,
        reasons=dict(done.reasons),
        moved=dict(done.moved),
    )


def count_units(messages: Path) -> tuple[int, int]:
    """Compile units in Cargo's messages, and how many of them weren't fresh, so that the compiler's turn had come."""
    units = dispatched = 0
    for line in messages.read_bytes().splitlines():
        if line.startswith(b'{"reason":"compiler-artifact"'):
            units += 1
            dispatched += not json.loads(line)["fresh"]
    return units, dispatched


def count_scripts(target: Path, began_s: float) -> int:
    """Build scripts that ran since then: Cargo writes a file when it starts one. A result that was put there is older."""
    # Times of files run a tick behind the clock.
    return sum(mark.stat().st_mtime >= began_s - 0.02 for mark in cargo.run_marks(target))


def settle_tally(done: Tally, dispatched: int) -> Tally:
    """Fills in what the contestant can't tell: of the dispatched units, what is no hit was compiled and vice versa."""
    if done.compiled is None:
        done.compiled = dispatched - (done.hits or 0)
    if done.hits is None:
        done.hits = dispatched - done.compiled
    return done


def names_work(status: Path) -> bool:
    """Whether Cargo says it did something for a package, be it only to run its build script again."""
    verbs = (b"Compiling", b"Checking", b"Dirty")
    return any(line.strip().startswith(verbs) for line in status.read_bytes().splitlines())
