"""Rules of the harness that a wrong table would hide. `python3 -m unittest discover bench/tests`."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from harness import cargo, contestants, matrix, measure, report, volumes, workspace  # noqa: E402


class WithFolder(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)


class Disk(WithFolder):
    def test_a_hard_link_costs_nothing(self) -> None:
        (self.folder / "a").mkdir()
        (self.folder / "b").mkdir()
        (self.folder / "a/file").write_bytes(os.urandom(1 << 20))
        alone = measure.allocated_bytes(self.folder)
        os.link(self.folder / "a/file", self.folder / "b/file")
        self.assertGreaterEqual(alone, 1 << 20)
        self.assertEqual(measure.allocated_bytes(self.folder / "a", self.folder / "b", self.folder), alone)


class Cpu(WithFolder):
    """In a process of its own, since being a subreaper can't be taken back cleanly."""

    BURN = "import time; end = time.process_time() + 0.5\nwhile time.process_time() < end: pass"

    def sample(self, script: str) -> measure.Sample:
        command = [sys.executable, "-c", script]
        return measure.run(command, self.folder, dict(os.environ), self.folder / "out", self.folder / "err")

    def test_what_the_command_waits_for_is_its_own(self) -> None:
        sample = self.sample(f"import subprocess, sys; subprocess.run([sys.executable, '-c', '''{self.BURN}'''])")
        self.assertGreater(sample.cpu_s, 0.45)
        self.assertLess(sample.background_cpu_s, 0.1)

    def test_what_outlives_the_command_is_background(self) -> None:
        measure.become_subreaper()
        self.addCleanup(measure.end_orphans)
        sample = self.sample(
            f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', '''{self.BURN}'''], start_new_session=True)"
        )
        self.assertLess(sample.cpu_s, 0.4)
        self.assertGreater(sample.background_cpu_s, 0.3)

    def test_a_daemon_is_charged_for_the_difference_only(self) -> None:
        measure.become_subreaper()
        self.addCleanup(measure.end_orphans)
        daemon = subprocess.Popen([sys.executable, "-c", self.BURN + "\ntime.sleep(60)"])
        while measure.tree_cpu_s(daemon.pid) < 0.5:
            time.sleep(0.05)
        self.assertLess(self.sample("pass").background_cpu_s, 0.1)
        daemon.kill()
        daemon.wait()


class Counting(WithFolder):
    def test_units_that_are_not_fresh_were_dispatched(self) -> None:
        messages = [{"reason": "compiler-artifact", "fresh": fresh} for fresh in (True, False, False)]
        messages += [{"reason": "build-script-executed"}, {"reason": "build-finished", "success": True}]
        lines = [json.dumps(message, separators=(",", ":")) for message in messages]
        (self.folder / "out").write_text("\n".join(lines) + "\n")
        self.assertEqual(matrix.count_units(self.folder / "out"), (3, 2))

    def test_a_script_that_ran_again_is_work(self) -> None:
        status = self.folder / "err"
        for text, expected in (("   Compiling a v1\n    Finished\n", True), ("warning: x\n    Finished\n", False)):
            status.write_text(text)
            self.assertEqual(matrix.names_work(status), expected, text)

    def test_kache_journal_with_a_torn_last_line(self) -> None:
        kache = contestants.Kache(Path("kache"))
        kache.start(self.folder / "home", {})
        (kache.cache / "journal").mkdir()
        events = [{"outcome": "hit", "moved": {"linked_bytes": 7, "copied_bytes": 2}}, {"outcome": "miss", "reason": "new"}]
        events.append({"outcome": "hit", "moved": {"linked_bytes": 3}})
        events.append({"outcome": "passthrough", "reason": "probe"})
        seeding = {"units": 40, "runs": 9, "left_out": 3}
        events.append({"kind": "seeding", "outcome": "passthrough", "seeding": seeding, "moved": {"linked_bytes": 5}})
        events.append({"kind": "seeding", "outcome": "passthrough", "seeding": {"units": 2}})
        events.append({"kind": "seeding", "outcome": "passthrough"})
        events.append({"kind": "build-script-run", "outcome": "hit"})
        events.append({"kind": "build-script-run", "outcome": "miss"})
        text = "\n".join(json.dumps(event) for event in events) + '\n{"outc'
        (kache.cache / "journal/1.jsonl").write_text(text)
        tally = kache.tally()
        self.assertEqual((tally.seeded_units, tally.seeded_runs), (42, 9))
        self.assertEqual((tally.hits, tally.compiled, dict(tally.reasons)), (2, 1, {"miss: new": 1}))
        self.assertEqual((tally.runs_served, tally.runs_done), (1, 1))
        self.assertEqual((tally.moved["linked"], tally.moved["copied"], tally.moved["reflinked"]), (15, 2, 0))


class Ratios(unittest.TestCase):
    def test_a_ratio_pairs_figures_of_one_turn(self) -> None:
        records = [record("floor", 0, 1.0), record("kache", 0, 2.0), record("floor", 1, 10.0), record("kache", 1, 20.0)]
        records += [record("floor", 2, 1.0), record("kache", 2, 20.0)]
        results = report.Results(records, cores=2)
        self.assertEqual(results.ratio("kache", "warm2", "floor", "warm2", report.wall), 2.0)
        self.assertIsNone(results.ratio("kache", "warm2", "plain", "cold", report.wall))
        self.assertEqual(results.above_floor_ms("kache", "warm2"), 10_000.0)

    def test_a_no_op_that_did_work_is_said_aloud(self) -> None:
        dirty = record("kache", 0, 1.0, phase="noop", is_noop_clean=False)
        self.assertIn("NOT FRESH: kache, noop", report.tables("x", "cargo 1.100.0, classic layout", [dirty], cores=2))


    def test_a_phase_has_one_row_for_each_contestant(self) -> None:
        seeding = dataclasses.replace(record("kache", 0, 1.0), seeded_units=40, seeded_runs=9, disk_added_bytes=2_500_000, scripts=1)
        records = [seeding, record("floor", 0, 2.0), record("kache", 0, 0.5, phase="noop")]
        rows = [line.split() for line in report.phase_table(report.Results(records, cores=2)).splitlines()]
        self.assertEqual(rows[1], ["warm2", "kache", "1.000", "1.000", "0", "1", "40", "9", "2.5", "-"])
        self.assertEqual(rows[2], ["warm2", "floor", "2.000", "2.000", "0", "0", "-", "-", "0.0", "-"])
        self.assertEqual(rows[3][-1], "yes")
        self.assertEqual(len(rows), 4)
        self.assertIn("\ncargo 1.100.0, classic layout\n", report.tables("x", "cargo 1.100.0, classic layout", records, cores=2))


class Budgets(unittest.TestCase):
    def test_a_share_of_the_first_target_directory_is_granted(self) -> None:
        for file_system, added, expected in (
            ("ext4", 150, "budget met"), ("ext4", 151, "budget NOT MET"), ("tmpfs", 150, "budget met"),
            ("xfs", 30, "budget met"), ("btrfs", 31, "budget NOT MET"),
        ):  # fmt: skip
            cold = dataclasses.replace(record("kache", 0, 1.0, phase="cold"), target_bytes=1000)
            second = dataclasses.replace(record("kache", 0, 1.0), disk_added_bytes=added, file_system=file_system)
            # A later round rebuilds what was just removed: it says nothing about disk.
            later = dataclasses.replace(second, round=1, disk_added_bytes=0)
            lines = report.budgets(report.Results([cold, second, later], cores=2))
            self.assertEqual([line.startswith(expected) for line in lines], [True], (file_system, added, lines))


class Volumes(unittest.TestCase):
    """What is mounted is counted as the file system counts it. Needs root; fails without it where CI says so."""

    def test_shared_extents_count_once(self) -> None:
        for kind in ("xfs", "btrfs", "ext4", "tmpfs"):
            tool = volumes.MKFS.get(kind, ["true"])[0]
            if os.geteuid() != 0 or shutil.which(tool) is None:
                self.assertNotEqual(os.environ.get("CI"), "true", f"no {kind} here")
                continue
            with self.subTest(kind), tempfile.TemporaryDirectory() as folder:
                with volumes.mounted(kind, Path(folder)) as point:
                    empty = volumes.used_bytes(point)
                    (point / "one").write_bytes(os.urandom(8 << 20))
                    one = volumes.used_bytes(point) - empty
                    how = "always" if kind in volumes.REFLINKING else "never"
                    subprocess.run(["cp", f"--reflink={how}", point / "one", point / "two"], check=True)
                    two = volumes.used_bytes(point) - empty
                    self.assertGreaterEqual(one, 8 << 20)
                    self.assertLess(one, 9 << 20)
                    if kind in volumes.REFLINKING:
                        self.assertLess(two - one, 1 << 20)
                    else:
                        self.assertGreaterEqual(two - one, 8 << 20)
                self.assertFalse(os.path.ismount(point))
                self.assertEqual(list(Path(folder).iterdir()), [])


class Layouts(WithFolder):
    def test_a_layout_is_switched_on_only_where_it_is_not_the_default(self) -> None:
        per_unit = {"RUSTC_BOOTSTRAP": "1", "CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT": "true"}
        classic = {"__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT": "1"}
        for version, layout, expected in (
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", None, {}),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "classic", {}),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", "per-unit", per_unit),
            ("cargo 1.97.0-nightly (0123456 2026-05-01)", "per-unit", per_unit),
            ("cargo 1.100.0", None, {}),
            ("cargo 1.100.0", "per-unit", {}),
            ("cargo 1.100.0", "classic", classic),
        ):  # fmt: skip
            self.assertEqual(cargo.switch_for(layout, cargo.number_of(version)), expected, (version, layout))

    def test_what_is_no_cargo_stops_the_benchmark(self) -> None:
        for version in ("", "rustup 1.28.0", "cargo"):
            with self.assertRaises(SystemExit, msg=version):
                cargo.number_of(version)

    def test_a_target_directory_tells_its_layout(self) -> None:
        for made, expected in (
            ("debug/.fingerprint/a-1", "classic"),
            ("debug/build/a-1/out", None),
            ("debug/build/a/1/fingerprint", "per-unit"),
            ("x86_64-unknown-none/release/build/a/1/fingerprint", "per-unit"),
            ("x86_64-unknown-none/release/.fingerprint/a-1", "classic"),
        ):
            target = self.folder / made.replace("/", "_")
            (target / made).mkdir(parents=True)
            self.assertEqual(cargo.layout_of(target), expected, made)


class FakeCargo(WithFolder):
    """A script in the place of Cargo, which makes the classic layout whatever it is asked for."""

    def setUp(self) -> None:
        super().setUp()
        self.program = self.folder / "cargo"
        self.says("mkdir -p target/debug/.fingerprint/probe-1; env > env")

    def says(self, otherwise: str) -> None:
        self.program.write_text(f'#!/bin/sh\nif [ "$1" = -V ]; then echo "cargo 1.101.0"; else {otherwise}; fi\n')
        self.program.chmod(0o755)

    def test_what_is_recorded_is_what_was_seen(self) -> None:
        chosen = cargo.choose(str(self.program), "classic", dict(os.environ), self.folder)
        self.assertEqual((chosen.program, chosen.layout), (str(self.program), "classic"))
        self.assertEqual(chosen.describe()["cargo"], "cargo 1.101.0")
        seen = (self.folder / "probe/env").read_text().splitlines()
        self.assertIn("__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT=1", seen)
        # The compiler itself, not rustup's proxy.
        self.assertIn(f"RUSTC={chosen.env['RUSTC']}", seen)
        self.assertTrue(chosen.env["RUSTC"].endswith("/bin/rustc") and "/.cargo/bin/" not in chosen.env["RUSTC"])

    def test_a_layout_that_was_not_asked_for_stops_the_benchmark(self) -> None:
        with self.assertRaisesRegex(SystemExit, "asked for the per-unit layout but uses the classic one"):
            cargo.choose(str(self.program), "per-unit", dict(os.environ), self.folder)

    def test_a_cargo_that_cannot_build_stops_the_benchmark(self) -> None:
        self.says("echo broken >&2; exit 1")
        with self.assertRaisesRegex(SystemExit, "broken"):
            cargo.choose(str(self.program), None, dict(os.environ), self.folder)


class Scripts(WithFolder):
    def test_what_was_put_there_has_not_run(self) -> None:
        for name, age_s in (
            ("debug/build/a-1", 0),
            ("debug/build/b-2", 60),
            ("x86_64-unknown-none/debug/build/c-3", 0),
            ("debug/build/d/4/run", 0),
            ("debug/build/e/5/run", 60),
            ("x86_64-unknown-none/debug/build/f/6/run", 0),
            # A compile in the per-unit layout, and one of a package that is called like the folder.
            ("debug/build/g/7/fingerprint", 0),
            ("debug/build/build/8/fingerprint", 0),
        ):
            mark = self.folder / name / "invoked.timestamp"
            mark.parent.mkdir(parents=True)
            mark.touch()
            os.utime(mark, (time.time() - age_s,) * 2)
        self.assertEqual(matrix.count_scripts(self.folder, time.time() - 1), 4)


class Floor(WithFolder):
    """The floor's second build in another checkout compiles nothing and is a no-op afterwards, in both layouts; the crate
    has units without a hash in their names, two of them with the same name."""

    FILES = {
        "Cargo.toml": """[workspace]
            members = ["a", "b"]
            resolver = "2"
        """,
        "a/Cargo.toml": """[package]
            name = "a"
            version = "0.1.0"
            edition = "2021"
            [lib]
            crate-type = ["rlib", "cdylib"]
        """,
        "a/src/lib.rs": 'pub fn word() -> &\'static str { concat!("from ", env!("WORD")) }\n',
        "a/build.rs": 'fn main() { println!("cargo::rustc-env=WORD=a"); println!("cargo::rerun-if-changed=build.rs"); }\n',
        "b/Cargo.toml": """[package]
            name = "b"
            version = "0.1.0"
            edition = "2021"
            [dependencies]
            a = { path = "../a" }
        """,
        "b/src/main.rs": 'fn main() { println!("{} {}", a::word(), env!("WORD")) }\n',
        "b/build.rs": 'fn main() { println!("cargo::rustc-env=WORD=b"); println!("cargo::rerun-if-changed=build.rs"); }\n',
    }

    def test_both_layouts(self) -> None:
        wrapper = contestants.build_floor(self.folder)
        for layout in cargo.LAYOUTS:
            with self.subTest(layout):
                env = {name: value for name, value in os.environ.items() if not name.startswith(("CARGO_", "RUSTC"))}
                env |= {"CARGO_NET_OFFLINE": "true", "CARGO_INCREMENTAL": "0"}
                if home := os.environ.get("CARGO_HOME"):
                    env["CARGO_HOME"] = home
                driven = cargo.choose(None, layout, env, self.folder / layout)
                floor = contestants.Floor(wrapper)
                floor.start(self.folder / layout, env | driven.env)
                compiled = []
                for name in ("first", "second"):
                    where = self.folder / layout / name
                    for path, text in self.FILES.items():
                        (where / path).parent.mkdir(parents=True, exist_ok=True)
                        (where / path).write_text(text)
                    before = floor.tally()
                    self.build(floor, driven, where)
                    compiled.append(floor.tally().since(before).compiled)
                    answer = subprocess.run([where / "target/debug/b"], capture_output=True, text=True, check=True)
                    self.assertEqual(answer.stdout, "from a b\n")
                    self.assertEqual(self.build(floor, driven, where), 0, name)
                self.assertEqual(compiled, [4, 0])

    def build(self, floor: contestants.Floor, driven: cargo.Cargo, where: Path) -> int:
        """Units that Cargo dispatched."""
        command = [driven.program, "build", "--message-format=json"]
        done = subprocess.run(command, cwd=where, env=floor.env(where), capture_output=True, check=False)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        (where / "messages").write_bytes(done.stdout)
        return matrix.count_units(where / "messages")[1]


class Workspace(WithFolder):
    def test_an_edit_changes_one_line(self) -> None:
        root = self.folder / "w"
        workspace.generate(root, blocks=2)
        before = workspace.source_of(root, "base").read_text().split("\n")
        workspace.edit(root, "base", 5)
        after = workspace.source_of(root, "base").read_text().split("\n")
        changed = [new for old, new in zip(before, after, strict=True) if old != new]
        self.assertEqual(changed, [workspace.number_line(5)])


def record(contestant: str, number: int, wall_s: float, phase: str = "warm2", is_noop_clean: bool = True) -> matrix.Record:
    return matrix.Record(
        project="x", contestant=contestant, file_system="ext4", rep=0, round=number, phase=phase, wall_s=wall_s, cpu_s=wall_s,
        background_cpu_s=0.0, other_cpu_s=0.0, disk_added_bytes=0, target_bytes=0, units=1, dispatched=1, compiled=0, hits=1,
        scripts=0, is_noop_clean=is_noop_clean,
    )  # fmt: skip


if __name__ == "__main__":
    unittest.main()
