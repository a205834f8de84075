//! Reads the cache's journal in its published form: JSON lines, one for each compiler invocation. Independent of the
//! cache's own reader, so that a change of the form is noticed.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// One compiler invocation as the journal tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// `--crate-name`.
    pub crate_name: String,
    /// Cargo package.
    pub package: String,
    /// `lib`, `bin`, `test`, `proc-macro`, `build-script`, …
    pub kind: String,
    /// `build`, `check` or `clippy`.
    pub mode: String,
    /// `hit`, `dup`, `miss`, `passthrough` or `error`.
    pub outcome: String,
    /// Stable code of the miss or bypass.
    pub reason: String,
    /// The same for people.
    pub detail: String,
    /// Why a compile's result was not stored.
    pub not_stored: String,
    pub unit_key: String,
    pub entry_key: String,
    /// The whole line.
    pub json: Value,
}

impl Event {
    fn parse(line: &str) -> Option<Self> {
        let json: Value = serde_json::from_str(line).ok()?;
        let text = |name: &str| json.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        Some(Self {
            crate_name: text("crate_name"),
            package: text("package"),
            kind: text("kind"),
            mode: text("mode"),
            outcome: text("outcome"),
            reason: text("reason"),
            detail: text("detail"),
            not_stored: text("not_stored"),
            unit_key: text("unit_key"),
            entry_key: text("entry_key"),
            json: json.clone(),
        })
    }

    /// A number below `/`, for instance `moved/copied_bytes`; 0 where there is none.
    pub fn number(&self, pointer: &str) -> u64 {
        self.json.pointer(&format!("/{pointer}")).and_then(Value::as_u64).unwrap_or(0)
    }
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:12}{} [{} {}]", self.outcome, self.crate_name, self.kind, self.mode)?;
        for (label, text) in [("", &self.reason), ("", &self.detail), ("not stored: ", &self.not_stored)] {
            if !text.is_empty() {
                write!(f, "  {label}{text}")?;
            }
        }
        Ok(())
    }
}

/// A place in the journal.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mark(BTreeMap<PathBuf, usize>);

impl Mark {
    /// The journal's present end.
    pub fn of(cache_dir: &Path) -> Self {
        Self(logs(cache_dir).into_iter().map(|(path, text)| (path, text.len())).collect())
    }
}

/// Events written since `mark`.
pub fn read_journal(cache_dir: &Path, mark: &Mark) -> Vec<Event> {
    let mut events = Vec::new();
    for (path, text) in logs(cache_dir) {
        let from = mark.0.get(&path).copied().unwrap_or(0).min(text.len());
        for line in text[from..].lines().filter(|line| !line.trim().is_empty()) {
            // A writer that was killed leaves a torn line, which readers skip.
            events.extend(Event::parse(line));
        }
    }
    events
}

fn logs(cache_dir: &Path) -> Vec<(PathBuf, String)> {
    let Ok(list) = fs::read_dir(cache_dir.join("journal")) else { return Vec::new() };
    let mut logs: Vec<(PathBuf, String)> = list
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "jsonl"))
        .map(|path| {
            let text = fs::read(&path).unwrap_or_default();
            (path, String::from_utf8_lossy(&text).into_owned())
        })
        .collect();
    logs.sort();
    logs
}

/// How many events had which outcome.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Served from the store.
    pub hits: usize,
    /// Compiled; new to the store or not stored.
    pub misses: usize,
    /// Compiled; every output was known.
    pub dups: usize,
    /// Handed to the compiler unseen.
    pub passthrough: usize,
    /// The compiler failed.
    pub errors: usize,
    /// How runs of build scripts ended, by package; in none of the other counts.
    pub runs: BTreeMap<String, Vec<String>>,
    /// Outcomes by crate, in order of the journal.
    pub by_crate: BTreeMap<String, Vec<String>>,
}

impl Tally {
    /// Counts `events`, but for what was put into place before Cargo looked, or waited for: that is no call of a compiler.
    pub fn of(events: &[Event]) -> Self {
        let mut tally = Self::default();
        for event in events.iter().filter(|event| event.kind != "seeding") {
            if event.kind == "build-script-run" {
                tally.runs.entry(event.package.clone()).or_default().push(event.outcome.clone());
                continue;
            }
            match event.outcome.as_str() {
                "hit" => tally.hits += 1,
                "miss" => tally.misses += 1,
                "dup" => tally.dups += 1,
                "passthrough" => tally.passthrough += 1,
                "error" => tally.errors += 1,
                other => panic!("unknown outcome {other:?} in {event}"),
            }
            tally.by_crate.entry(event.crate_name.clone()).or_default().push(event.outcome.clone());
        }
        tally
    }

    /// Times the compiler really worked.
    pub fn compiles(&self) -> usize {
        self.misses + self.dups + self.passthrough + self.errors
    }

    /// All compiles, and runs of build scripts.
    pub fn results(&self) -> usize {
        self.total() + self.runs.values().map(Vec::len).sum::<usize>()
    }

    /// What was served of them.
    pub fn served(&self) -> usize {
        self.hits + self.runs.values().flatten().filter(|outcome| *outcome == "hit").count()
    }

    /// All compiles.
    pub fn total(&self) -> usize {
        self.hits + self.compiles()
    }
}
