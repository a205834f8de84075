"""Who takes part: plain Cargo, kache, sccache and the floor.

A contestant knows how to be switched on for one checkout and how to say what it did. It knows nothing of phases.
"""

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from . import sealed

FLOOR_FLAGS = (
    *("--edition", "2024", "-O", "-C", "panic=abort", "-C", "strip=symbols"),
    *("-C", "relocation-model=static", "-C", "target-feature=+crt-static"),
)

# How kache's journal calls the ways in which outputs come from the store.
WAYS = ("reflinked", "linked", "copied", "kept")


@dataclass
class Tally:
    """What a contestant has done since it was started. `hits` and `compiled` are None where it can't tell, `seeded_units`
    and `seeded_runs` where it doesn't seed."""

    hits: int | None = None
    compiled: int | None = None
    # Compiles and build-script runs that were put into place before Cargo looked.
    seeded_units: int | None = None
    seeded_runs: int | None = None
    reasons: Counter[str] = field(default_factory=Counter)
    moved: Counter[str] = field(default_factory=Counter)
    # Runs of build scripts that Cargo started: those whose results were put back instead, and the others.
    runs_served: int = 0
    runs_done: int = 0

    def since(self, before: "Tally") -> "Tally":
        def less(now: int | None, then: int | None) -> int | None:
            return None if now is None else now - (then or 0)

        return Tally(
            less(self.hits, before.hits),
            less(self.compiled, before.compiled),
            less(self.seeded_units, before.seeded_units),
            less(self.seeded_runs, before.seeded_runs),
            self.reasons - before.reasons,
            self.moved - before.moved,
            self.runs_served - before.runs_served,
            self.runs_done - before.runs_done,
        )


class Plain:
    """Cargo without a wrapper. Every unit that Cargo dispatches is compiled."""

    name = "plain"
    is_cache = False

    def start(self, home: Path, base_env: dict[str, str]) -> None:
        self.home = home
        self.cache = home / "cache"
        self.cache.mkdir(parents=True)
        self.base_env = base_env

    def env(self, checkout: Path) -> dict[str, str]:
        return self.base_env

    def tally(self) -> Tally:
        return Tally(hits=0)

    def stop(self) -> None:
        pass

    def version(self) -> str:
        return "no wrapper"


class Wrapped(Plain):
    """Cargo with a compiler wrapper that caches."""

    is_cache = True

    def __init__(self, wrapper: Path) -> None:
        self.wrapper = wrapper

    def version(self) -> str:
        return sealed.output_of(str(self.wrapper), "--version") or "version unknown"


class Floor(Wrapped):
    """bench/floor/floor.rs: a hit links files and does nothing else. One manifest is written for each unit compiled."""

    name = "floor"

    def env(self, checkout: Path) -> dict[str, str]:
        return self.base_env | {
            "RUSTC_WRAPPER": str(self.wrapper),
            "FLOOR_DIR": str(self.cache),
            "FLOOR_ROOT": str(checkout),
        }

    def tally(self) -> Tally:
        return Tally(compiled=sum(1 for _ in self.cache.glob("*.manifest")))

    def version(self) -> str:
        return "bench/floor/floor.rs"


class Kache(Wrapped):
    """kache with its defaults. Its journal has one event for each compile unit it was called for; what it has put into
    place beforehand, Cargo finds fresh and doesn't ask for."""

    name = "kache"

    def env(self, checkout: Path) -> dict[str, str]:
        return self.base_env | {"RUSTC_WRAPPER": str(self.wrapper), "KACHE_CACHE_DIR": str(self.cache)}

    def tally(self) -> Tally:
        outcomes: Counter[str] = Counter()
        seeded: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        moved: Counter[str] = Counter()
        runs: Counter[bool] = Counter()
        for path in self.cache.glob("journal/*.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    event = json.loads(line)
                    outcome = event["outcome"]
                except (ValueError, KeyError, TypeError):
                    continue  # A torn last line, or an event of another kind.
                if event.get("reason") in ("probe", "stdin"):
                    continue  # A build script tries what the compiler can do: no unit of Cargo's.
                if event.get("kind") == "seeding":
                    moved.update({way: event.get("moved", {}).get(f"{way}_bytes", 0) for way in WAYS})
                    told = event.get("seeding") or {}
                    seeded.update({name: told.get(name, 0) for name in ("units", "runs")})
                    continue  # Before Cargo looked at any unit.
                if event.get("kind") == "build-script-run":
                    runs[outcome == "hit"] += 1
                    continue
                outcomes[outcome] += 1
                moved.update({way: event.get("moved", {}).get(f"{way}_bytes", 0) for way in WAYS})
                if outcome != "hit":
                    reasons[f"{outcome}: {event.get('reason') or 'no reason'}"] += 1
        hits = outcomes.pop("hit", 0)
        return Tally(hits, outcomes.total(), seeded["units"], seeded["runs"], reasons, moved, runs[True], runs[False])


class KacheNoSeed(Kache):
    """The same without seeding: every unit is asked for, every build script runs."""

    name = "kache-noseed"

    def env(self, checkout: Path) -> dict[str, str]:
        return super().env(checkout) | {"KACHE_SEED": "0"}


class Sccache(Wrapped):
    """sccache with a local disk cache, its server started beforehand, its checkouts declared as base directories."""

    name = "sccache"

    def start(self, home: Path, base_env: dict[str, str]) -> None:
        super().start(home, base_env)
        self.server_env = base_env | {
            "SCCACHE_DIR": str(self.cache),
            "SCCACHE_CACHE_SIZE": "100G",
            "SCCACHE_SERVER_UDS": str(home / "socket"),
            "SCCACHE_IDLE_TIMEOUT": "0",
            "SCCACHE_BASEDIRS": ":".join(str(home / name) for name in ("first", "second", "third")),
        }
        self.ask("--start-server")

    def env(self, checkout: Path) -> dict[str, str]:
        return self.server_env | {"RUSTC_WRAPPER": str(self.wrapper)}

    def tally(self) -> Tally:
        stats = json.loads(self.ask("--show-stats", "--stats-format=json"))["stats"]
        reasons = Counter({f"not cacheable: {why}": count for why, count in stats["not_cached"].items()})
        return Tally(hits=stats["cache_hits"]["counts"].get("Rust", 0), reasons=reasons)

    def stop(self) -> None:
        self.ask("--stop-server")

    def ask(self, *args: str) -> str:
        done = subprocess.run(
            [self.wrapper, *args], env=self.server_env, capture_output=True, text=True, check=False, timeout=60
        )
        if done.returncode != 0:
            sys.exit(f"bench: sccache {' '.join(args)} failed: {done.stderr.strip()}")
        return done.stdout


def gather(names: list[str], work: Path, kache: str | None, sccache: str | None) -> list[Plain]:
    """The contestants asked for, without those that aren't installed: each of these is named on standard error."""
    chosen: list[Plain] = []
    for name in names:
        if name == "plain":
            chosen.append(Plain())
        elif name == "floor":
            chosen.append(Floor(build_floor(work)))
        elif name in ("kache", "kache-noseed"):
            kind = KacheNoSeed if name == "kache-noseed" else Kache
            add_if_found(chosen, kind, sealed.find_tool("kache", kache, sealed.KACHE_BESIDE))
        elif name == "sccache":
            add_if_found(chosen, Sccache, sealed.find_tool("sccache", sccache, []))
        else:
            sys.exit(f"bench: unknown contestant {name}; known: plain, floor, kache, kache-noseed, sccache")
    return chosen


def add_if_found(chosen: list[Plain], kind: type[Wrapped], wrapper: Path | None) -> None:
    if wrapper is None:
        print(f"bench: {kind.name} SKIPPED: not on PATH, not built; name it with --{kind.name} PATH", file=sys.stderr)
    else:
        chosen.append(kind(wrapper))


def build_floor(work: Path) -> Path:
    wrapper = work / "floor"
    source = sealed.BENCH / "floor/floor.rs"
    done = subprocess.run(["rustc", *FLOOR_FLAGS, source, "-o", wrapper], cwd=work, check=False)
    if done.returncode != 0:
        sys.exit("bench: the floor doesn't compile")
    return wrapper
