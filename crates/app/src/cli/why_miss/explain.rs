//! Finds what a miss is compared with, and follows differing dependencies to the first thing that changed. Reads the
//! journal and the kept evidence; the comparison itself is `core::why`.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};

use kache_core::entry::Evidence;
use kache_core::event::{Event, Outcome};
use kache_core::key::EntryKey;
use kache_core::why::{self, Class, Difference};
use kache_core::why_words::words;
use kache_store::Store;
use kache_store::journal_index::Index;

use crate::cli::is_named;

/// How many earlier results are compared; the newest.
const CANDIDATES_MAX: usize = 100;
/// How many dependencies deep the cause is followed.
const DEPTH_MAX: usize = 16;

/// Why one compile was not served.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    pub event: Event,
    pub cause: Cause,
}

/// Why a compile was not served.
#[derive(Debug, Clone, PartialEq)]
pub enum Cause {
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
    pub key: EntryKey,
    /// When it was stored or served last before.
    pub at_ms: u64,
    pub lines: Vec<Line>,
    /// What differs as a consequence: dependencies that were compiled again for the same reasons.
    pub follows: Vec<Difference>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    pub difference: Difference,
    /// For a dependency: why it was compiled in the same build.
    pub because: Option<Box<Explanation>>,
}

/// What a look back needs of an event; names by their hashes.
struct Call {
    at_ms: u64,
    outcome: Outcome,
    entry_key: Option<EntryKey>,
    session: u64,
    crate_name: u64,
    /// Crate and package, and to what end it is compiled: what clippy or `check` makes of a crate has little to do with
    /// what a build does, and a library little with its tests.
    who: u64,
    /// Whether it is about what the user asks for.
    is_asked_for: bool,
}

/// The journal, for looking back. Of its events only those are read that turn out to matter.
pub struct History<'a> {
    store: &'a Store,
    index: Index<Call>,
    hashes: RandomState,
    /// Events that are being explained, so that a loop ends.
    busy: RefCell<BTreeSet<usize>>,
}

impl<'a> History<'a> {
    /// Everything that the journal remembers, for somebody who asks for a crate or package. Cargo's `-` and the
    /// compiler's `_` are the same here.
    pub fn new(store: &'a Store, name: &str) -> Self {
        let hashes = RandomState::new();
        let index = store.index_journal(|event| {
            Some(Call {
                at_ms: event.at_ms,
                outcome: event.outcome,
                entry_key: event.entry_key,
                session: hashes.hash_one(&*event.session),
                crate_name: hashes.hash_one(&*event.crate_name),
                who: hashes.hash_one([&event.crate_name, &event.package, &event.kind, &event.mode]),
                is_asked_for: is_named(&event.crate_name, &event.package, name),
            })
        });
        Self { store, index, hashes, busy: RefCell::default() }
    }

    /// The latest event about what is asked for.
    pub fn latest(&self) -> Option<Event> {
        let at = self.index.found.iter().rposition(|(call, _)| call.is_asked_for)?;
        self.event(at)
    }

    /// The compiles of what is asked for in the latest build that had any.
    pub fn misses(&self) -> Vec<usize> {
        let is_miss = |call: &Call| call.outcome != Outcome::Hit && call.is_asked_for;
        let Some((last, _)) = self.index.found.iter().rev().find(|(call, _)| is_miss(call)) else {
            return Vec::new();
        };
        let all = self.index.found.iter().enumerate();
        let those = all.filter(|(_, (call, _))| is_miss(call) && call.session == last.session);
        those.map(|(at, _)| at).collect()
    }

    fn event(&self, at: usize) -> Option<Event> {
        self.index.event(self.index.found[at].1)
    }

    /// The calls before one that are alike, latest first.
    fn before(&self, at: usize) -> impl Iterator<Item = usize> {
        let who = self.index.found[at].0.who;
        (0..at).rev().filter(move |before| self.index.found[*before].0.who == who)
    }

    /// Why the compile of an event was not served; `None` when the event can't be read any more.
    pub fn explain(&self, at: usize) -> Option<Explanation> {
        let event = self.event(at)?;
        let cause = match (event.outcome, event.reason.as_deref()) {
            (Outcome::Passthrough, _) => Cause::Bypassed,
            (_, Some("verify" | "verify-mismatch")) => Cause::Verified,
            (_, Some("broken-entry")) => Cause::Broken,
            _ => self.compare(at, &event),
        };
        Some(Explanation { event, cause })
    }

    fn compare(&self, at: usize, event: &Event) -> Cause {
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
                let unstored = self.before(at).next().and_then(|before| self.event(before));
                Cause::FirstSeen(unstored.and_then(|event| event.not_stored))
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
        for before in self.before(at) {
            let other = &self.index.found[before].0;
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

    /// Tells causes from consequences: a dependency that was compiled again for reasons that this crate has itself.
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
        let session = self.index.found[at].0.session;
        let crate_name = self.hashes.hash_one(name);
        let is_library = |event: Event| !matches!(event.kind.as_str(), "test" | "bin" | "build-script");
        let position = (0..at).rev().find(|before| {
            let call = &self.index.found[*before].0;
            call.session == session
                && call.outcome != Outcome::Hit
                && call.crate_name == crate_name
                && self.event(*before).is_some_and(is_library)
        })?;
        if self.busy.borrow().len() >= DEPTH_MAX || !self.busy.borrow_mut().insert(position) {
            return None;
        }
        let explanation = self.explain(position);
        self.busy.borrow_mut().remove(&position);
        explanation
    }
}

impl Explanation {
    /// The explanation of the compile that all this follows from: the first dependency that was compiled again for
    /// reasons of its own.
    pub fn root(&self) -> &Self {
        match &self.cause {
            Cause::Changed(comparison) => {
                let has_own = comparison.lines.iter().any(|line| line.difference.class != Class::Extern);
                let deeper = comparison.lines.iter().find_map(|line| line.because.as_deref());
                deeper.filter(|_| !has_own).map_or(self, Self::root)
            }
            _ => self,
        }
    }

    pub fn words(&self) -> String {
        let event = &self.event;
        match &self.cause {
            Cause::Changed(comparison) => {
                let differences: Vec<Difference> =
                    comparison.lines.iter().map(|line| line.difference.clone()).collect();
                words(&differences).unwrap_or_else(|| "nothing that was recorded differs".to_owned())
            }
            Cause::Bypassed => format!(
                "it is not cached: {}",
                event.detail.as_deref().or(event.reason.as_deref()).unwrap_or("no reason was recorded")
            ),
            Cause::Verified => "its entry was to be verified".to_owned(),
            Cause::Broken => "the files of its entry were gone or changed".to_owned(),
            Cause::FirstSeen(None) => "it is built for the first time".to_owned(),
            Cause::FirstSeen(Some(why)) => format!("the earlier compile was not stored: {why}"),
            Cause::Gone(_) | Cause::AllGone(_) => "its entry was evicted or purged".to_owned(),
            Cause::Unrecorded => "nothing was kept to compare it with".to_owned(),
        }
    }

    /// The whole answer in one sentence.
    pub fn summary(&self) -> String {
        let (name, root) = (self.event.label(), self.root());
        if root.event.label() == name {
            format!("{name} was compiled: {}", self.words())
        } else {
            format!("{name} was compiled because {} was: {}", root.event.label(), root.words())
        }
    }

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
