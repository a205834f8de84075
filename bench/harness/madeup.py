"""Stores and journals of any size, made up: entries with sparse blobs, events about them. Knows kache's published forms.

Nothing was compiled, so a made-up blob doesn't have the content that its name says; sizes and times are as recorded.
"""

import hashlib
import json
import os
import time
import zlib
from pathlib import Path

EVENT_FILE_BYTES = 4 << 20
CRATES = 500
# Of each entry, in bytes: metadata and library. Together half a MiB, so that 100,000 entries are about 50 GiB.
OUTPUTS = (("rmeta", "metadata", 100 << 10), ("rlib", "rlib", 412 << 10))
# A canonical time of blobs, in seconds since 1970.
BLOB_S = 1_704_067_201
DAY_S = 86_400


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def make_directories(root: Path) -> None:
    for name in ("journal", "memo", "queue", "locks", "daemon", "v1/tmp"):
        (root / name).mkdir(parents=True, exist_ok=True, mode=0o700)
    for shelf in ("entries", "evidence", "blobs", "units"):
        for number in range(256):
            (root / "v1" / shelf / f"{number:02x}").mkdir(parents=True, exist_ok=True)


def shelved(root: Path, shelf: str, name: str) -> Path:
    return root / "v1" / shelf / name[:2] / name


def entry_of(number: int) -> dict[str, object]:
    key, name = digest(f"entry {number}"), f"crate_{number % CRATES}"
    outputs = [
        {"name": f"lib{name}-{key[:16]}.{end}", "kind": kind, "digest": digest(f"{end} {number}"), "size": size, "mtime_s": BLOB_S}
        for end, kind, size in OUTPUTS
    ]
    return {
        "version": 1, "unit": digest(f"unit {number}"), "crate_name": name, "package": name, "package_version": "1.2.3",
        "outputs": outputs, "dep_info": {"inline": "x" * 600}, "dep_info_name": f"{name}.d", "compile_ms": 900,
        "created_s": 1_700_000_000,
    }  # fmt: skip


def summed(entry: str) -> str:
    """The stored form of an entry: with its checksum."""
    return f"{entry}\n{zlib.crc32(entry.encode()):08x}\n"


def make_entries(root: Path, first: int, end: int) -> None:
    """Entries alone, as commands that only read them want it."""
    for number in range(first, end):
        shelved(root, "entries", digest(f"entry {number}")).write_text(summed(json.dumps(entry_of(number))))


def make_whole_entries(root: Path, first: int, end: int) -> None:
    """Entries with blobs, evidence and input records, last used over the last sixty days."""
    now_s = time.time()
    for number in range(first, end):
        key, entry = digest(f"entry {number}"), entry_of(number)
        for output in entry["outputs"]:
            path = shelved(root, "blobs", output["digest"])
            with open(path, "wb") as file:
                file.truncate(output["size"])
            os.utime(path, (BLOB_S, BLOB_S))
        fields = [{"name": f"flag {field}", "value": digest(f"{field}")} for field in range(12)]
        shelved(root, "evidence", key).write_text(json.dumps({"unit_fields": fields}))
        inputs = [{"file": f"{{ws}}/src/module_{source}.rs"} for source in range(8)]
        records = {"version": 1, "records": [{"inputs": inputs, "last": key}]}
        shelved(root, "units", entry["unit"]).write_text(json.dumps(records))
        path = shelved(root, "entries", key)
        path.write_text(summed(json.dumps(entry)))
        used_s = now_s - DAY_S - (number * 7919 % 100_000) / 100_000 * 59 * DAY_S
        os.utime(path, (used_s, used_s))


def make_journal(root: Path, count: int, entries: int) -> None:
    """Events about these entries: three hits to a miss, 400 ms apart, 200 to a build; the last one was just now."""
    journal = root / "journal"
    for old in journal.iterdir():
        old.unlink()
    now_ms = int(time.time() * 1000)
    lines: list[str] = []

    def flush(name: str) -> None:
        (journal / name).write_text("".join(lines))
        lines.clear()

    size = 0
    for number in range(count):
        at_ms = now_ms - (count - number) * 400
        hit = number % 4 != 0
        name = f"crate_{number % CRATES}"
        event = {
            "version": 1, "at_ms": at_ms, "session": f"{number // 200}-{number // 200}", "project": f"/home/me/src/p{number % 9}",
            "crate_name": name, "package": name, "package_version": "1.2.3", "kind": "lib", "mode": "build",
            "outcome": "hit" if hit else "miss", "unit_key": digest(f"unit {number % entries}"),
            "entry_key": digest(f"entry {number % entries}"),
            "times": {"total_us": 1500, "key_us": 300, "lookup_us": 400, "restore_us": 500}, "moved": {"linked_bytes": 200_000},
            "saved_ms": 900 if hit else 0, **({"source": "local"} if hit else {"reason": "unit-unknown", "detail": "first compile"}),
        }  # fmt: skip
        lines.append(json.dumps(event, separators=(",", ":")) + "\n")
        size += len(lines[-1])
        if size >= EVENT_FILE_BYTES:
            flush(f"{at_ms:013}.jsonl")
            size = 0
    flush("current.jsonl")
