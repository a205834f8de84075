//! Finds what a miss is compared with, and follows differing dependencies to the first thing that changed. Reads the
//! journal and the kept evidence; the comparison itself is `core::why`.

use std::cell::RefCell;
use std::collections::BTreeSet;

use kache_core::entry::Evidence;
use kache_core::event::{Event, Outcome};
use kache_core::key::EntryKey;
use kache_core::why::{self, Class, Difference};
use kache_store::Store;

use super::is_of;

/// How many earlier results are compared; the newest.
const CANDIDATES_MAX: usize = 100;
/// How many dependencies deep the cause is followed.
const DEPTH_MAX: usize = 16;

/// Why one compile was not served.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// The compile.
    pub event: Event,
    /// Why.
    pub cause: Cause,
}

/// Why a compile was not served.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
    /// Nothing was looked up.
    Bypassed,
    /// There was an entry, and it was to be verified.
    Verified,
    /// The entry's files were gone or changed.
    Broken,
    /// No earlier compile is on record; what is said about one that was not stored.
    FirstSeen(Option<String>),
    /// This very result was in the store at this time, and was removed since.
    Gone(u64),
    /// There were earlier results, and none is left to compare with.
    AllGone(u64),
    /// These inputs differ from the nearest earlier result.
    Changed(Comparison),
    /// Nothing was kept that would tell.
    Unrecorded,
}

/// A comparison with an earlier result.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// The earlier result.
    pub key: EntryKey,
    /// When it was stored or served last before.
    pub at_ms: u64,
    /// What differs.
    pub lines: Vec<Line>,
    /// What differs as a consequence: dependencies that were compiled anew for the same reasons.
    pub follows: Vec<Difference>,
}

/// One difference.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What differs.
    pub difference: Difference,
    /// For a dependency: why it was compiled in the same build.
    pub because: Option<Box<Explanation>>,
}

/// The journal, for looking back.
pub struct History<'a> {
    store: &'a Store,
    events: Vec<Event>,
    /// Events that are being explained, so that a loop ends.
    busy: RefCell<BTreeSet<usize>>,
}

impl<'a> History<'a> {
    /// Everything that the journal remembers.
    pub fn new(store: &'a Store) -> Self {
        Self { store, events: store.events(None).collect(), busy: RefCell::default() }
    }

    /// The latest event about a crate or package.
    pub fn latest(&self, name: &str) -> Option<&Event> {
        self.events.iter().rev().find(|event| is_of(event, name))
    }

    /// The compiles of a crate or package in the latest build that had any.
    pub fn misses(&self, name: &str) -> Vec<usize> {
        let is_miss = |event: &Event| event.outcome != Outcome::Hit && is_of(event, name);
        let Some(last) = self.events.iter().rev().find(|event| is_miss(event)) else { return Vec::new() };
        let all = self.events.iter().enumerate();
        all.filter(|(_, event)| is_miss(event) && event.session == last.session).map(|(at, _)| at).collect()
    }

    /// Why the compile of an event was not served.
    pub fn explain(&self, at: usize) -> Explanation {
        let event = self.events[at].clone();
        let cause = match (event.outcome, event.reason.as_deref()) {
            (Outcome::Passthrough, _) => Cause::Bypassed,
            (_, Some("verify" | "verify-mismatch")) => Cause::Verified,
            (_, Some("broken-entry")) => Cause::Broken,
            _ => self.compare(at),
        };
        Explanation { event, cause }
    }

    fn compare(&self, at: usize) -> Cause {
        let event = &self.events[at];
        let now = self.evidence(event);
        let key = event.entry_key.or_else(|| why::key_of(now.as_ref()?));
        let earlier = self.earlier(at);
        if let Some(key) = key
            && let Some((_, seen_ms)) = earlier.iter().find(|(earlier, _)| *earlier == key)
        {
            return Cause::Gone(*seen_ms);
        }
        let mut candidates = self.with_evidence(&earlier);
        if candidates.is_empty() {
            candidates = self.stored_before(event, key, now.as_ref());
        }
        let Some(now) = now else { return Cause::Unrecorded };
        // Newest first, so of several equally near ones the newest wins.
        let nearest = candidates.iter().min_by_key(|(_, _, evidence)| why::distance(evidence, &now));
        match (nearest, earlier.first()) {
            (Some((key, at_ms, before)), _) => {
                self.changed(at, (*key, *at_ms), why::differences(before, &now))
            }
            (None, Some((_, seen_ms))) => Cause::AllGone(*seen_ms),
            (None, None) => {
                let unstored = self.events[..at].iter().rev().find(|other| is_alike(event, other));
                Cause::FirstSeen(unstored.and_then(|event| event.not_stored.clone()))
            }
        }
    }

    /// What was compared when the event happened.
    fn evidence(&self, event: &Event) -> Option<Evidence> {
        match (&event.entry_key, &event.unit_key) {
            (Some(key), _) => self.store.evidence(key).ok().flatten(),
            (None, Some(unit)) => self.store.miss(unit),
            (None, None) => None,
        }
    }

    /// Results of like compiles before an event, each once, with the time they were seen last; newest first.
    fn earlier(&self, at: usize) -> Vec<(EntryKey, u64)> {
        let mut found: Vec<(EntryKey, u64)> = Vec::new();
        let event = &self.events[at];
        for other in self.events[..at].iter().rev().filter(|other| is_alike(event, other)) {
            if let Some(key) = other.entry_key
                && !found.iter().any(|(known, _)| *known == key)
            {
                found.push((key, other.at_ms));
                if found.len() == CANDIDATES_MAX {
                    break;
                }
            }
        }
        found
    }

    fn with_evidence(&self, earlier: &[(EntryKey, u64)]) -> Vec<(EntryKey, u64, Evidence)> {
        let kept = |(key, at_ms): &(EntryKey, u64)| {
            self.store.evidence(key).ok().flatten().map(|evidence| (*key, *at_ms, evidence))
        };
        earlier.iter().filter_map(kept).collect()
    }

    /// Entries of like compiles that the journal no longer tells about.
    fn stored_before(
        &self,
        event: &Event,
        own: Option<EntryKey>,
        now: Option<&Evidence>,
    ) -> Vec<(EntryKey, u64, Evidence)> {
        let Ok(entries) = self.store.entries() else { return Vec::new() };
        let mut found: Vec<(EntryKey, u64, Evidence)> = entries
            .filter(|stat| Some(stat.key) != own)
            .filter_map(|stat| Some((stat.key, self.store.peek_entry(&stat.key).ok()??)))
            .filter(|(_, entry)| entry.crate_name == event.crate_name && entry.package == event.package)
            .filter(|(_, entry)| entry.created_s < event.at_ms / 1000)
            .filter_map(|(key, entry)| Some((key, entry.created_s * 1000, self.store.evidence(&key).ok()??)))
            .filter(|(_, _, evidence)| now.is_none_or(|now| why::is_alike(evidence, now)))
            .collect();
        found.sort_by_key(|(_, at_ms, _)| std::cmp::Reverse(*at_ms));
        found.truncate(CANDIDATES_MAX);
        found
    }

    /// Tells causes from consequences: a dependency that was compiled anew for reasons that this crate has itself.
    fn changed(&self, at: usize, against: (EntryKey, u64), differences: Vec<Difference>) -> Cause {
        if differences.is_empty() {
            return Cause::Unrecorded;
        }
        let own: BTreeSet<String> = differences
            .iter()
            .filter(|difference| difference.class != Class::Extern)
            .map(|difference| difference.field.clone())
            .collect();
        let (mut lines, mut follows): (Vec<Line>, Vec<Difference>) = (Vec::new(), Vec::new());
        for difference in differences {
            let Some(name) = why::dependency_of(&difference.field) else {
                lines.push(Line { difference, because: None });
                continue;
            };
            let is_told =
                |because: &Option<Box<Explanation>>| because.as_ref().is_some_and(|b| b.tells_of(name));
            if lines.iter().any(|line| is_told(&line.because)) {
                follows.push(difference);
                continue;
            }
            let because = self.dependency(at, name);
            match because.as_ref().map(|because| &because.cause) {
                Some(Cause::Changed(theirs)) if !own.is_empty() && theirs.is_within(&own) => {
                    follows.push(difference);
                }
                _ => lines.push(Line { difference, because: because.map(Box::new) }),
            }
        }
        let (key, at_ms) = against;
        Cause::Changed(Comparison { key, at_ms, lines, follows })
    }

    /// Why a dependency was compiled in the same build as the event.
    fn dependency(&self, at: usize, name: &str) -> Option<Explanation> {
        let session = &self.events[at].session;
        let compiled = |event: &Event| {
            event.session == *session
                && event.outcome != Outcome::Hit
                && event.crate_name == name
                && !matches!(event.kind.as_str(), "test" | "bin" | "build-script")
        };
        let position = self.events[..at].iter().rposition(compiled)?;
        if self.busy.borrow().len() >= DEPTH_MAX || !self.busy.borrow_mut().insert(position) {
            return None;
        }
        let explanation = self.explain(position);
        self.busy.borrow_mut().remove(&position);
        Some(explanation)
    }
}

impl Explanation {
    /// Whether this explains a crate, or leads to one that it explains.
    fn tells_of(&self, name: &str) -> bool {
        let deeper = match &self.cause {
            Cause::Changed(comparison) => comparison.lines.as_slice(),
            _ => &[],
        };
        self.event.crate_name == name
            || deeper.iter().filter_map(|line| line.because.as_ref()).any(|because| because.tells_of(name))
    }
}

impl Comparison {
    /// Whether everything that differs is among these fields.
    fn is_within(&self, fields: &BTreeSet<String>) -> bool {
        self.lines.iter().all(|line| fields.contains(&line.difference.field))
    }
}

/// Whether two events are about the same crate of the same package, compiled to the same end: what clippy or `check`
/// makes of a crate has little to do with what a build does, and a library little with its tests.
fn is_alike(a: &Event, b: &Event) -> bool {
    let form =
        |event: &Event| [&event.crate_name, &event.package, &event.kind, &event.mode].map(String::clone);
    form(a) == form(b)
}
