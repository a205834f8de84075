"""Turns records into tables and into the files of bench/runs/. Pure but for `save`.

A ratio is the median of the ratios of figures that were taken in the same repetition and round, one right after the
other; never a ratio of medians, which on a shared machine may come from different weather.
"""

import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from statistics import median

from .contestants import WAYS
from .matrix import COLD, NOOP, NOOP2, PHASES, WARM, WARM2, WARM3, Record
from .volumes import REFLINKING

# A figure is marked when the rest of the machine used more than this share of all cores meanwhile.
NOISY_SHARE = 0.15
DASH = "-"
# What a further worktree may add, as a share of the first one's target directory.
BUDGET, BUDGET_REFLINKING = 0.15, 0.03

Value = Callable[[Record], float]


class Results:
    """The records of one project, and the few questions that the tables ask."""

    def __init__(self, records: list[Record], cores: int) -> None:
        self.records = records
        self.cores = cores
        self.contestants = list(dict.fromkeys(record.contestant for record in records))

    def of(self, contestant: str, phase: str) -> list[Record]:
        return [r for r in self.records if r.contestant == contestant and r.phase == phase]

    def middle(self, contestant: str, phase: str, value: Value) -> float | None:
        found = self.of(contestant, phase)
        return median(value(record) for record in found) if found else None

    def ratio(self, contestant: str, phase: str, base: str, base_phase: str, value: Value) -> float | None:
        """Median of `contestant`'s figure over `base`'s of the same turn (of the same repetition, for another phase)."""
        turns = {(r.rep, r.round if base_phase == phase else 0): value(r) for r in self.of(base, base_phase)}
        ratios = []
        for record in self.of(contestant, phase):
            below = turns.get((record.rep, record.round if base_phase == phase else 0))
            if below:
                ratios.append(value(record) / below)
        return median(ratios) if ratios else None

    def above_floor_ms(self, contestant: str, phase: str) -> float | None:
        """CPU milliseconds per unit beyond what the floor needed in the same turn."""
        turns = {(r.rep, r.round): r for r in self.of("floor", phase)}
        pairs = [(r, turns.get((r.rep, r.round))) for r in self.of(contestant, phase)]
        extra = [(all_cpu(r) - all_cpu(f)) * 1000 / r.units for r, f in pairs if f and r.units]
        return median(extra) if extra else None

    def is_noisy(self, contestant: str, phase: str) -> bool:
        found = self.of(contestant, phase)
        return bool(found) and median(r.other_cpu_s / (r.wall_s * self.cores) for r in found) > NOISY_SHARE

    def disk(self, contestant: str, phase: str) -> float | None:
        """Bytes that the first round of a phase added; later rounds rebuild what was just removed."""
        found = [r.disk_added_bytes for r in self.of(contestant, phase) if r.round == 0]
        return median(found) if found else None


def wall(record: Record) -> float:
    return record.wall_s


def all_cpu(record: Record) -> float:
    return record.cpu_s + record.background_cpu_s


def tables(title: str, cargo_line: str, records: list[Record], cores: int) -> str:
    """`cargo_line` says which Cargo was driven, in which layout."""
    results = Results(records, cores)
    units = max(record.units for record in records)
    parts = [f"{title}: {units} units\n{cargo_line}"]
    parts += [table(results) for table in (phase_table, time_table, cpu_table, disk_table)]
    return "\n\n".join(parts + [f"  {line}" for line in remarks(results)])


def time_table(results: Results) -> str:
    rows = [["wall, s", "cold", "/plain", "warm", "/floor", "warm2", "/floor", "/plain cold", "noop2", "noop", "/plain"]]
    for name in results.contestants:
        rows.append(
            [name, seconds(results, name, COLD, wall), times(results.ratio(name, COLD, "plain", COLD, wall))]
            + [seconds(results, name, WARM, wall), times(results.ratio(name, WARM, "floor", WARM, wall))]
            + [seconds(results, name, WARM2, wall), times(results.ratio(name, WARM2, "floor", WARM2, wall))]
            + [times(results.ratio(name, WARM2, "plain", COLD, wall), 3)]
            + [seconds(results, name, NOOP2, wall), seconds(results, name, NOOP, wall)]
            + [times(results.ratio(name, NOOP, "plain", NOOP, wall))]
        )
    return aligned(rows)


def cpu_table(results: Results) -> str:
    rows = [["cpu, s", "cold", "/plain", "warm", "/floor", "warm2", "/floor", "above floor, ms/unit", "background"]]
    for name in results.contestants:
        above = results.above_floor_ms(name, WARM2)
        background = results.middle(name, WARM2, lambda record: record.background_cpu_s)
        rows.append(
            [name, seconds(results, name, COLD, all_cpu), times(results.ratio(name, COLD, "plain", COLD, all_cpu))]
            + [seconds(results, name, WARM, all_cpu), times(results.ratio(name, WARM, "floor", WARM, all_cpu))]
            + [seconds(results, name, WARM2, all_cpu), times(results.ratio(name, WARM2, "floor", WARM2, all_cpu))]
            + [DASH if above is None else f"{above:+.2f}", DASH if background is None else f"{background:.2f}"]
        )
    return aligned(rows)


def phase_table(results: Results) -> str:
    """One row for each phase and contestant: what it cost and what was done. Of several rounds, the worst counts."""
    rows = [["phase  contestant", "wall, s", "cpu, s", "compiled", "scripts", "seeded", "runs", "disk, MB", "no-op"]]
    for phase in PHASES:
        for name in results.contestants:
            found = results.of(name, phase.name)
            if not found:
                continue
            clean = "yes" if all(record.is_noop_clean for record in found) else "NO"
            seeded = [(record.seeded_units, record.seeded_runs) for record in found if record.seeded_units is not None]
            rows.append(
                [f"{phase.name:6} {name}", seconds(results, name, phase.name, wall), seconds(results, name, phase.name, all_cpu)]
                + [str(max(record.compiled for record in found)), str(max(record.scripts for record in found))]
                + ([str(number) for number in min(seeded)] if seeded else [DASH, DASH])
                + [megabytes(results.disk(name, phase.name)), DASH if phase.is_fresh else clean]
            )
    return aligned(rows)


def disk_table(results: Results) -> str:
    """What the first build adds beside plain Cargo's, what further worktrees add beside what the first one's target directory
    holds, and how kache brought the second one's outputs."""
    rows = [["disk, MB", "cold adds", "/plain", "target", "2nd adds", "/target", "3rd adds", "/target"]]
    rows[0] += [f"2nd {way}" for way in WAYS]
    plain = results.disk("plain", COLD)
    for name in results.contestants:
        cold = results.disk(name, COLD)
        target = results.middle(name, COLD, lambda record: record.target_bytes)
        row = [name, megabytes(cold), share(cold, plain), megabytes(target)]
        for phase in (WARM2, WARM3):
            added = results.disk(name, phase)
            row += [megabytes(added), share(added, target)]
        moved = [record.moved for record in results.of(name, WARM2) if record.round == 0 and record.moved]
        rows.append(row + [megabytes(median(one.get(way, 0) for one in moved)) if moved else DASH for way in WAYS])
    return aligned(rows)


def budgets(results: Results) -> list[str]:
    """Whether kache's further worktrees stay within what was promised for this file system."""
    lines = []
    target = results.middle("kache", COLD, lambda record: record.target_bytes)
    for phase, which in ((WARM2, "second"), (WARM3, "third")):
        added = results.disk("kache", phase)
        if target and added is not None:
            file_system = results.of("kache", phase)[0].file_system
            most = BUDGET_REFLINKING if file_system in REFLINKING else BUDGET
            verdict = "met" if added <= most * target else "NOT MET"
            lines.append(
                f"budget {verdict}: on {file_system} kache's {which} worktree adds {added / target:.1%} of the first "
                f"one's target directory, at most {most:.0%} are granted"
            )
    return lines


def remarks(results: Results) -> list[str]:
    """What a reader must know before believing the tables."""
    lines = budgets(results)
    for name in results.contestants:
        for phase in (NOOP2, NOOP):
            bad = [record for record in results.of(name, phase) if not record.is_noop_clean]
            if bad:
                lines.append(
                    f"NOT FRESH: {name}, {phase}: Cargo redid work in {len(bad)} of {len(results.of(name, phase))} "
                    f"no-op builds, {max(record.dispatched for record in bad)} units at most"
                )
        missed = [record for record in results.of(name, WARM2) if record.compiled and record.reasons]
        if missed and name != "plain":
            top = sorted(missed[0].reasons.items(), key=lambda item: -item[1])[:4]
            lines.append(f"{name} compiled in {WARM2}: " + ", ".join(f"{count} x {why}" for why, count in top))
    if any(results.is_noisy(name, phase.name) for name in results.contestants for phase in PHASES):
        lines.append(f"~ others used more than {NOISY_SHARE:.0%} of the machine meanwhile: trust ratios and CPU, not seconds")
    return lines


def seconds(results: Results, contestant: str, phase: str, value: Value) -> str:
    middle = results.middle(contestant, phase, value)
    if middle is None:
        return DASH
    mark = "~" if value is wall and results.is_noisy(contestant, phase) else ""
    return mark + (f"{middle:.3f}" if middle < 10 else f"{middle:.1f}")


def times(ratio: float | None, digits: int = 2) -> str:
    return DASH if ratio is None else f"{ratio:.{digits}f}"


def megabytes(size_bytes: float | None) -> str:
    return DASH if size_bytes is None else f"{size_bytes / 1e6:.1f}"


def share(part: float | None, whole: float | None) -> str:
    return DASH if part is None or not whole else f"{part / whole:.3f}"


def aligned(rows: list[list[str]]) -> str:
    """The first column to the left, the others to the right, each as wide as it needs."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def command_line(program: str, argv: list[str]) -> str:
    """The command as it may be published: a path says nothing to a reader, the versions are in the set-up."""
    return shlex.join([program, *(Path(word).name if word.startswith("/") else word for word in argv)])


def save(out: Path, command: str, setup: dict[str, str], records: list[object], text: str) -> None:
    """Writes results.json (raw) and README.md (set-up and tables); called after every project, so little is lost."""
    out.mkdir(parents=True, exist_ok=True)
    raw = {"format": 1, "command": command, "setup": setup, "records": [asdict(record) for record in records]}
    (out / "results.json").write_text(json.dumps(raw, indent=1) + "\n")
    lines = [f"# {out.name}", "", f"`{command}`", "", "| | |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in setup.items()]
    lines += ["", "The columns are explained in [bench/README.md](../../README.md).", "", "```", text, "```", ""]
    (out / "README.md").write_text("\n".join(lines))
