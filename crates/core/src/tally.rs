//! Sums over events: what `kache stats` and `kache report` show. Knows nothing about the journal or about rendering.
//!
//! Tallies merge, so parts of a journal can be summed apart. The hit rate counts only invocations that were looked
//! up and succeeded: hits over hits, dups and misses. Passthroughs and compile errors are counted beside it, so a
//! project that bypasses the cache can't look well served.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::event::{Event, Moved, Outcome, Source};
use crate::seed_sums::SeedSums;

/// How often each outcome occurred.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcomes {
    pub hit: u64,
    /// Compiled, with nothing new in the result.
    pub dup: u64,
    pub miss: u64,
    /// Handed to the compiler without a look-up.
    pub passthrough: u64,
    pub error: u64,
}

impl Outcomes {
    /// Every outcome with its count, in the order in which people see them.
    pub fn iter(&self) -> impl Iterator<Item = (Outcome, u64)> {
        [
            (Outcome::Hit, self.hit),
            (Outcome::Dup, self.dup),
            (Outcome::Miss, self.miss),
            (Outcome::Passthrough, self.passthrough),
            (Outcome::Error, self.error),
        ]
        .into_iter()
    }

    pub fn total(&self) -> u64 {
        self.iter().map(|(_, count)| count).sum()
    }

    /// Hits per successful look-up, from 0 to 1; `None` when nothing was looked up.
    pub fn hit_rate(&self) -> Option<f64> {
        let looked_up = self.hit + self.dup + self.miss;
        (looked_up > 0).then(|| self.hit as f64 / looked_up as f64)
    }

    fn count(&mut self, outcome: Outcome) {
        *match outcome {
            Outcome::Hit => &mut self.hit,
            Outcome::Dup => &mut self.dup,
            Outcome::Miss => &mut self.miss,
            Outcome::Passthrough => &mut self.passthrough,
            Outcome::Error => &mut self.error,
        } += 1;
    }

    fn merge(&mut self, other: &Self) {
        self.hit += other.hit;
        self.dup += other.dup;
        self.miss += other.miss;
        self.passthrough += other.passthrough;
        self.error += other.error;
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    pub local: u64,
    /// The local store, because the daemon had fetched the entry in time.
    pub prefetch: u64,
    pub remote: u64,
}

/// One reason and how often it was given.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReasonCount {
    pub count: u64,
    /// The latest occurrence in words, with the crate it concerned.
    pub example: String,
}

pub type Reasons = BTreeMap<String, ReasonCount>;

/// Where the time went, in microseconds, summed over processes that ran side by side.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeSums {
    pub saved_us: u64,
    pub compile_us: u64,
    pub hit_us: u64,
    /// What misses took beyond the compiler: keys, look-ups, storing.
    pub miss_overhead_us: u64,
    /// Waiting for another process that compiled the same unit.
    pub wait_us: u64,
    /// Waiting for the daemon to look at the remote, for hits and misses.
    pub remote_us: u64,
}

/// The sums over a crate's or a build's events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub outcomes: Outcomes,
    pub times: TimeSums,
    /// Calls that were no compiles of the build: build scripts try things out.
    #[serde(default)]
    pub asides: u64,
    /// Calls that compiled build scripts, or served them: Cargo runs these itself.
    #[serde(default)]
    pub scripts: u64,
    /// How runs of build scripts ended. They are in none of the other counts.
    #[serde(default)]
    pub runs: Outcomes,
    /// When the first of them ended, in milliseconds since 1970.
    pub first_ms: u64,
    /// When the last of them ended, in milliseconds since 1970.
    pub last_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Directory in which Cargo was started.
    pub project: String,
    pub part: Part,
    /// Units that were in place before it looked.
    #[serde(default)]
    pub seeded: u64,
}

impl Build {
    /// Whether anything was compiled for it, or there already.
    pub fn has_compiles(&self) -> bool {
        self.seeded > 0 || self.part.outcomes.total() > self.part.asides
    }
}

/// Sums over any number of events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub all: Part,
    pub sources: Sources,
    /// Bytes moved.
    pub moved: Moved,
    pub misses: Reasons,
    pub passthroughs: Reasons,
    /// Why results weren't stored.
    pub not_stored: Reasons,
    /// Degradations of hits and errors: everything else that carries a reason.
    pub notes: Reasons,
    /// What was put into place before builds.
    pub seeding: SeedSums,
    pub crates: BTreeMap<String, Part>,
    /// By session; what belongs to another session is counted there.
    pub builds: BTreeMap<String, Build>,
}

impl Tally {
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut tally = Self::default();
        for event in events {
            tally.add(event);
        }
        tally
    }

    pub fn add(&mut self, event: &Event) {
        if self.seeding.add(event) {
            self.all.times.wait_us += event.times.wait_us;
            self.all.times.remote_us += event.times.remote_us;
            self.add_seeded(event);
            return add_moved(&mut self.moved, &event.moved);
        }
        self.all.add(event);
        with(&mut self.crates, &event.label(), |part| part.add(event));
        self.add_to_build(event, |build| build.part.add(event));
        match event.source.filter(|_| !event.is_run()) {
            Some(Source::Local) => self.sources.local += 1,
            Some(Source::Prefetch) => self.sources.prefetch += 1,
            Some(Source::Remote) => self.sources.remote += 1,
            None => {}
        }
        add_moved(&mut self.moved, &event.moved);
        let reasons = match event.outcome {
            // Of runs it counts why they weren't stored.
            _ if event.is_run() => &mut Reasons::new(),
            Outcome::Miss | Outcome::Dup => &mut self.misses,
            Outcome::Passthrough => &mut self.passthroughs,
            Outcome::Hit | Outcome::Error => &mut self.notes,
        };
        if let Some(code) = &event.reason {
            give(reasons, code, event, event.detail.as_deref());
        }
        if event.unobserved {
            give(&mut self.notes, "unobserved", event, Some("what it read could not be observed"));
        }
        if let Some(why) = &event.not_stored {
            let (code, detail) =
                why.split_once(": ").map_or((why.as_str(), None), |(code, rest)| (code, Some(rest)));
            give(&mut self.not_stored, code, event, detail);
        }
    }

    /// A build that finds everything in place calls no compiler, and is a build all the same.
    fn add_seeded(&mut self, event: &Event) {
        let placed = event.seeding.as_ref().map_or(0, |seeding| seeding.units + seeding.runs);
        if placed > 0 {
            self.add_to_build(event, |build| {
                build.seeded += placed;
                build.part.last_ms = build.part.last_ms.max(event.at_ms);
            });
        }
    }

    fn add_to_build(&mut self, event: &Event, add: impl FnOnce(&mut Build)) {
        if event.build().is_empty() {
            return;
        }
        with(&mut self.builds, event.build(), |build: &mut Build| {
            add(build);
            if event.within.is_none() {
                build.project.clone_from(&event.project);
            }
        });
    }

    /// Adds the sums over other, later events.
    pub fn merge(&mut self, later: Self) {
        self.all.merge(&later.all);
        for (name, part) in &later.crates {
            with(&mut self.crates, name, |mine| mine.merge(part));
        }
        for (session, build) in later.builds {
            with(&mut self.builds, &session, |mine: &mut Build| {
                mine.part.merge(&build.part);
                mine.seeded += build.seeded;
                if !build.project.is_empty() {
                    mine.project = build.project;
                }
            });
        }
        self.sources.local += later.sources.local;
        self.sources.prefetch += later.sources.prefetch;
        self.sources.remote += later.sources.remote;
        add_moved(&mut self.moved, &later.moved);
        self.seeding.merge(later.seeding);
        merge_reasons(&mut self.misses, later.misses);
        merge_reasons(&mut self.passthroughs, later.passthroughs);
        merge_reasons(&mut self.not_stored, later.not_stored);
        merge_reasons(&mut self.notes, later.notes);
    }

    pub fn build_count(&self) -> usize {
        self.builds.values().filter(|build| build.has_compiles()).count()
    }
}

impl Part {
    pub fn of<'a>(events: impl IntoIterator<Item = &'a Event>) -> Self {
        let mut part = Self::default();
        events.into_iter().for_each(|event| part.add(event));
        part
    }

    pub fn add(&mut self, event: &Event) {
        let mut outcomes = Outcomes::default();
        let mut runs = Outcomes::default();
        if event.is_run() { &mut runs } else { &mut outcomes }.count(event.outcome);
        let times = TimeSums::of(event);
        let is_script = event.kind == "build-script" && event.is_compile();
        self.merge(&Self {
            outcomes,
            times,
            runs,
            asides: u64::from(!event.is_run() && !event.is_compile()),
            scripts: u64::from(is_script && event.outcome != Outcome::Error),
            first_ms: event.at_ms,
            last_ms: event.at_ms,
        });
    }

    fn merge(&mut self, other: &Self) {
        self.first_ms = match (self.outcomes.total(), other.outcomes.total()) {
            (0, _) => other.first_ms,
            (_, 0) => self.first_ms,
            _ => self.first_ms.min(other.first_ms),
        };
        self.last_ms = self.last_ms.max(other.last_ms);
        self.outcomes.merge(&other.outcomes);
        self.asides += other.asides;
        self.scripts += other.scripts;
        self.runs.merge(&other.runs);
        self.times.saved_us += other.times.saved_us;
        self.times.compile_us += other.times.compile_us;
        self.times.hit_us += other.times.hit_us;
        self.times.miss_overhead_us += other.times.miss_overhead_us;
        self.times.wait_us += other.times.wait_us;
        self.times.remote_us += other.times.remote_us;
    }
}

impl TimeSums {
    fn of(event: &Event) -> Self {
        let times = &event.times;
        let is_hit = event.outcome == Outcome::Hit;
        let looked_up = matches!(event.outcome, Outcome::Miss | Outcome::Dup | Outcome::Error);
        let elsewhere_us = times.compile_us.saturating_add(times.wait_us).saturating_add(times.remote_us);
        let beyond = times.total_us.saturating_sub(elsewhere_us);
        Self {
            saved_us: if is_hit { event.saved_ms.saturating_mul(1000) } else { 0 },
            compile_us: times.compile_us,
            hit_us: if is_hit { times.total_us } else { 0 },
            miss_overhead_us: if looked_up { beyond } else { 0 },
            wait_us: times.wait_us,
            remote_us: times.remote_us,
        }
    }

    pub fn saved(&self) -> Duration {
        Duration::from_micros(self.saved_us)
    }

    pub fn compile(&self) -> Duration {
        Duration::from_micros(self.compile_us)
    }
}

/// Changes the value at `key`, made when missing. Allocates the key only then: this runs for every event.
fn with<T: Default>(map: &mut BTreeMap<String, T>, key: &str, change: impl FnOnce(&mut T)) {
    match map.get_mut(key) {
        Some(value) => change(value),
        None => change(map.entry(key.to_owned()).or_default()),
    }
}

fn give(reasons: &mut Reasons, code: &str, event: &Event, detail: Option<&str>) {
    with(reasons, code, |reason: &mut ReasonCount| {
        reason.count += 1;
        event.label().as_ref().clone_into(&mut reason.example);
        if let Some(detail) = detail {
            reason.example.push_str(": ");
            reason.example.push_str(detail);
        }
    });
}

fn merge_reasons(mine: &mut Reasons, later: Reasons) {
    for (code, reason) in later {
        with(mine, &code, |mine: &mut ReasonCount| {
            mine.count += reason.count;
            mine.example = reason.example;
        });
    }
}

fn add_moved(sum: &mut Moved, moved: &Moved) {
    sum.linked_bytes += moved.linked_bytes;
    sum.reflinked_bytes += moved.reflinked_bytes;
    sum.copied_bytes += moved.copied_bytes;
    sum.kept_bytes += moved.kept_bytes;
    sum.stored_bytes += moved.stored_bytes;
}

#[cfg(test)]
#[path = "tally_tests.rs"]
mod tests;
