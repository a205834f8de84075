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

from harness import contestants, matrix, measure, report, volumes, workspace  # noqa: E402


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
        text = "\n".join(json.dumps(event) for event in events) + '\n{"outc'
        (kache.cache / "journal/1.jsonl").write_text(text)
        tally = kache.tally()
        self.assertEqual((tally.hits, tally.compiled, dict(tally.reasons)), (2, 1, {"miss: new": 1}))
        self.assertEqual((tally.moved["linked"], tally.moved["copied"], tally.moved["reflinked"]), (10, 2, 0))


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
        self.assertIn("NOT FRESH: kache, noop", report.tables("x", [dirty], cores=2))


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


class Scripts(WithFolder):
    def test_what_was_put_there_has_not_run(self) -> None:
        for name, age_s in (("debug/build/a-1", 0), ("debug/build/b-2", 60), ("x86_64-unknown-none/debug/build/c-3", 0)):
            mark = self.folder / name / "invoked.timestamp"
            mark.parent.mkdir(parents=True)
            mark.touch()
            os.utime(mark, (time.time() - age_s,) * 2)
        self.assertEqual(matrix.count_scripts(self.folder, time.time() - 1), 2)


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
