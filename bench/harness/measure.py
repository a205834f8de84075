"""Measures one command: wall time, CPU time of everything it started, and blocks on disk.

It knows nothing of Cargo or of caches. The harness makes itself the *subreaper* of its descendants, so a daemon that a
wrapper leaves behind becomes a child of the harness: its CPU time can be read and none of it is lost or misattributed.
"""

import ctypes
import os
import signal
import stat
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PR_SET_CHILD_SUBREAPER = 36
# Background work counts as finished when nothing of ours has used CPU for this long.
QUIET_S = 1.0
SETTLE_S_MAX = 60.0


@dataclass(frozen=True)
class Sample:
    exit_code: int
    wall_s: float
    # User and system time of the command and every descendant that it, or one of them, waited for.
    cpu_s: float
    # The same of processes that outlived the command: daemons (the difference) and detached helpers.
    background_cpu_s: float
    # What the rest of the machine used meanwhile: how far to trust `wall_s`.
    other_cpu_s: float


def become_subreaper() -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def run(command: list[str], cwd: Path, env: dict[str, str], stdout: Path, stderr: Path) -> Sample:
    """Runs `command`, then waits until what it left in the background has gone quiet."""
    daemons_before = {pid: tree_cpu_s(pid) for pid in children()}
    busy_before = machine_busy_s()
    with open(stdout, "wb") as out, open(stderr, "wb") as err:
        start = time.perf_counter()
        process = subprocess.Popen(command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - start
    busy_s = machine_busy_s() - busy_before
    process.returncode = os.waitstatus_to_exitcode(status)
    cpu_s = usage.ru_utime + usage.ru_stime
    alongside_s = sum(tree_cpu_s(pid) - daemons_before.get(pid, 0.0) for pid in children())
    background_cpu_s = settle(daemons_before)
    other_cpu_s = max(0.0, busy_s - cpu_s - alongside_s)
    return Sample(process.returncode, wall_s, cpu_s, background_cpu_s, other_cpu_s)


def settle(daemons_before: dict[int, float]) -> float:
    """Waits for background work to end or go idle; returns the CPU seconds it used beyond `daemons_before`."""
    ended_s = 0.0
    last_s, quiet_since = -1.0, time.monotonic()
    deadline = quiet_since + SETTLE_S_MAX
    while True:
        for pid, used_s in reap():
            ended_s += used_s - daemons_before.get(pid, 0.0)
        alive = children()
        alive_s = sum(tree_cpu_s(pid) - daemons_before.get(pid, 0.0) for pid in alive)
        now = time.monotonic()
        if alive_s != last_s:
            last_s, quiet_since = alive_s, now
        if not alive or now - quiet_since > QUIET_S or now > deadline:
            return max(0.0, ended_s + alive_s)
        time.sleep(0.05)


def reap() -> list[tuple[int, float]]:
    """Collects ended orphans: process id and CPU seconds of each."""
    ended = []
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return ended
        if pid == 0:
            return ended
        ended.append((pid, usage.ru_utime + usage.ru_stime))


def end_orphans(grace_s: float = 5.0) -> None:
    """Ends the daemons that were left behind: only ever children of this process."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in children():
            os.kill(pid, number)
        deadline = time.monotonic() + grace_s
        while children() and time.monotonic() < deadline:
            reap()
            time.sleep(0.02)


def processes() -> dict[int, tuple[int, float]]:
    """Every process: its parent, and its CPU seconds with those of the children it has waited for."""
    found = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                text = Path("/proc", name, "stat").read_text()
            except OSError:
                continue  # It ended between the listing and the look.
            # The command's name is in parentheses and may hold anything; the fixed fields follow the last one.
            fields = text[text.rindex(")") + 2 :].split()
            ticks = sum(int(field) for field in fields[11:15])
            found[int(name)] = (int(fields[1]), ticks / TICKS_PER_SECOND)
    return found


def children() -> list[int]:
    return [pid for pid, (parent, _) in processes().items() if parent == os.getpid()]


def tree_cpu_s(root: int) -> float:
    table = processes()
    total, queue = 0.0, [root]
    while queue:
        pid = queue.pop()
        total += table.get(pid, (0, 0.0))[1]
        queue += [child for child, (parent, _) in table.items() if parent == pid]
    return total


def machine_busy_s() -> float:
    """CPU seconds that the machine has spent at work, stolen time included."""
    fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields[:8]
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def allocated_bytes(*roots: Path) -> int:
    """Blocks really allocated under `roots`, each inode once however many hard links it has."""
    seen: set[tuple[int, int]] = set()
    total = 0
    queue = [root for root in roots if root.exists()]
    while queue:
        with os.scandir(queue.pop()) as entries:
            for entry in entries:
                try:
                    info = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue  # A daemon removed it under our eyes.
                if (info.st_dev, info.st_ino) not in seen:
                    seen.add((info.st_dev, info.st_ino))
                    total += info.st_blocks * 512
                if stat.S_ISDIR(info.st_mode):
                    queue.append(Path(entry.path))
    return total
