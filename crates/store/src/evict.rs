//! What a sweep removes and why: a plan made from a survey. Pure; does not look at the disk.
//!
//! Entries go first in the plan, blobs that nobody needs any more follow. What counts against the limit is what
//! removing would free: bytes that only the store holds. A blob that a target directory has a hard link to costs
//! nothing, and evicting it would gain nothing, so it doesn't count until that directory is gone.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::PathBuf;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};

use crate::clock::FileTime;
use crate::survey::{EntryContent, Holding, Sizes, Survey, SurveyedEntry, SurveyedFile};

/// A file in the making that is this old has been left behind, in seconds.
const TMP_AGE_S: i64 = 3600;
/// Records of a unit without entries are kept this long, in seconds.
const UNIT_AGE_S: i64 = 86_400;
/// Snapshots that were of no use for this long go, in seconds.
const SNAPSHOT_AGE_S: i64 = 60 * 86_400;
/// Memos are found out again after this long, in seconds.
const MEMO_AGE_S: i64 = 30 * 86_400;
/// Notes of build directories without a build for this long go, in seconds.
const SERVED_AGE_S: i64 = 365 * 86_400;
/// Entries of compilers that are gone go first once they are this old, in seconds: where containers share a store, each
/// sees its own compilers only, and uses their entries.
const GONE_AGE_S: i64 = 86_400;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SweepOptions {
    /// When the store is larger, entries go, least recently used first, down to nine tenths of this; in bytes.
    pub limit_bytes: Option<u64>,
    /// So much is to be freed whatever the size of the store; in bytes.
    pub room_bytes: u64,
    /// Entries not used for longer go.
    pub age_max: Option<Duration>,
    /// Entries that go whatever their age.
    pub purge: Purge,
    /// Blobs that changed and entries that were used more recently stay: a build may be about to need them.
    pub grace: Duration,
    /// Everything counts as it does in a copy of the store: what target directories share, journal and memos too.
    pub whole: bool,
}

impl Default for SweepOptions {
    fn default() -> Self {
        Self {
            limit_bytes: None,
            room_bytes: 0,
            age_max: None,
            purge: Purge::Nothing,
            grace: Duration::from_secs(600),
            whole: false,
        }
    }
}

/// Entries that go whatever their age.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purge {
    Nothing,
    /// Those of the crate or package with this name; `-` and `_` are the same.
    Crate(String),
    Everything,
}

kache_core::words! {
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum Why {
        Purged = "purged",
        /// It can't be understood.
        Malformed = "malformed",
        /// A blob that it needs is missing.
        Hole = "incomplete",
        /// It wasn't used for longer than the maximum age.
        TooOld = "too old",
        /// The store is over its limit, and the compiler that made it is no longer installed.
        CompilerGone = "compiler gone",
        /// The store is over its limit, and it is among the least recently used.
        OverLimit = "over limit",
    }
}

impl Why {
    /// All of them, in the order in which they are explained.
    pub const ALL: [Why; 6] =
        [Why::Purged, Why::Malformed, Why::Hole, Why::TooOld, Why::CompilerGone, Why::OverLimit];
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    pub key: EntryKey,
    /// Its crate; empty where that isn't known.
    pub crate_name: String,
    pub why: Why,
    /// Last use as surveyed: an entry that was used since stays.
    pub used: FileTime,
    /// Bytes of its outputs and texts, whoever else needs them.
    pub blob_bytes: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobRemoval {
    pub digest: Digest,
    /// Length, in bytes.
    pub size: u64,
    /// Its change time as surveyed: a blob that changed since stays.
    pub changed: FileTime,
    /// Whether removing it frees anything now.
    pub holding: Holding,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EvictPlan {
    /// Entries that go, in the order of removal.
    pub entries: Vec<Eviction>,
    /// Blobs that go once those entries are gone.
    pub blobs: Vec<BlobRemoval>,
    /// Evidence, records, memos and files in the making that nobody needs.
    pub strays: Vec<PathBuf>,
    /// Blobs of each entry that goes, in case one stays after all.
    pub(crate) needs: HashMap<EntryKey, BTreeSet<Digest>>,
    /// What could not be looked at: folders and entries of another user.
    pub denied: Vec<PathBuf>,
    pub before: Sizes,
    /// Sizes after, if everything can be removed.
    pub after: Sizes,
}

impl EvictPlan {
    /// Bytes that are free afterwards and weren't before.
    pub fn freed_bytes(&self) -> u64 {
        self.blobs.iter().filter(|blob| blob.holding == Holding::StoreOnly).map(|blob| blob.size).sum()
    }
}

pub fn plan(survey: &Survey, options: &SweepOptions) -> EvictPlan {
    let grace_s = i64::try_from(options.grace.as_secs()).unwrap_or(i64::MAX);
    let mut chosen = Chosen::new(survey, grace_s);
    for (i, entry) in survey.entries.iter().enumerate() {
        if let Some(why) = unconditional(survey, options, entry) {
            chosen.evict(i, why);
        }
    }
    if let Some(limit_bytes) = options.limit_bytes
        && chosen.counted_bytes > limit_bytes
    {
        chosen.shrink_to(limit_bytes / 10 * 9);
    }
    let enough_bytes = survey.sizes().counted_bytes().saturating_sub(options.room_bytes);
    if options.room_bytes > 0 && chosen.counted_bytes > enough_bytes {
        chosen.shrink_to(enough_bytes);
    }
    chosen.into_plan(options)
}

/// Why an entry goes whatever the size of the store.
fn unconditional(survey: &Survey, options: &SweepOptions, entry: &SurveyedEntry) -> Option<Why> {
    let same = |a: &str, b: &str| a.replace('-', "_") == b.replace('-', "_");
    let is_purged = match (&options.purge, &entry.content) {
        (Purge::Everything, _) => true,
        (Purge::Crate(name), EntryContent::Entry { crate_name, package, .. }) => {
            same(name, crate_name) || same(name, package)
        }
        (Purge::Crate(_) | Purge::Nothing, _) => false,
    };
    let age_max_s = options.age_max_s();
    match entry.content {
        _ if is_purged => Some(Why::Purged),
        EntryContent::Malformed => Some(Why::Malformed),
        EntryContent::Entry { .. } if survey.has_hole(entry) => Some(Why::Hole),
        _ if age_max_s.is_some_and(|max_s| entry.used.age_s(survey.now) > max_s) => Some(Why::TooOld),
        EntryContent::Entry { .. } | EntryContent::Newer => None,
    }
}

struct Chosen<'a> {
    survey: &'a Survey,
    grace_s: i64,
    /// For each entry of the survey, why it goes.
    why: Vec<Option<Why>>,
    /// How many of the remaining entries need a blob.
    needed_by: HashMap<Digest, u32>,
    /// What counts against the limit once everything chosen is gone. The few bytes of the entries' own files are left
    /// in, so that an entry that frees nothing else gains nothing.
    counted_bytes: u64,
}

impl<'a> Chosen<'a> {
    fn new(survey: &'a Survey, grace_s: i64) -> Self {
        let mut needed_by = HashMap::new();
        for blob in survey.entries.iter().flat_map(|entry| &entry.blobs) {
            *needed_by.entry(*blob).or_insert(0) += 1;
        }
        let why = vec![None; survey.entries.len()];
        let counted_bytes = survey.sizes().counted_bytes();
        let mut chosen = Self { survey, grace_s, why, needed_by, counted_bytes };
        // Orphans that are too young to go now are as good as gone: an earlier sweep has evicted their entries, or they go
        // with the next one. If they counted, each sweep until then would evict more, and free nothing.
        let orphans = survey.blobs.keys().filter(|digest| !chosen.needed_by.contains_key(digest));
        let gone: u64 = orphans.map(|digest| chosen.counted_size(digest)).sum();
        chosen.counted_bytes -= gone;
        chosen
    }

    /// Bytes of a blob that count against the limit.
    fn counted_size(&self, digest: &Digest) -> u64 {
        let blob = self.survey.blobs.get(digest);
        blob.filter(|blob| blob.holding == Holding::StoreOnly).map_or(0, |blob| blob.size)
    }

    fn evict(&mut self, entry: usize, why: Why) {
        self.why[entry] = Some(why);
        for blob in &self.survey.entries[entry].blobs {
            let needed_by = self.needed_by.entry(*blob).or_insert(1);
            *needed_by -= 1;
            if *needed_by == 0 {
                self.counted_bytes -= self.counted_size(blob);
            }
        }
    }

    /// Whether an entry was made by a compiler that is no longer installed, and nobody has used it lately.
    fn is_of_gone_compiler(&self, entry: &SurveyedEntry) -> bool {
        let EntryContent::Entry { compiler: Some(compiler), .. } = &entry.content else { return false };
        self.survey.gone_compilers.contains(compiler) && entry.used.age_s(self.survey.now) >= GONE_AGE_S
    }

    /// Evicts what gone compilers have made and then the least recently used, then takes back whatever frees nothing.
    fn shrink_to(&mut self, target_bytes: u64) {
        let entries = &self.survey.entries;
        let mut by_use: Vec<usize> = (0..entries.len()).filter(|i| self.why[*i].is_none()).collect();
        by_use.retain(|i| entries[*i].used.age_s(self.survey.now) >= self.grace_s);
        by_use.sort_by_key(|i| (!self.is_of_gone_compiler(&entries[*i]), entries[*i].used, entries[*i].key));
        let mut evicted = Vec::new();
        for i in by_use {
            if self.counted_bytes <= target_bytes {
                break;
            }
            let is_gone = self.is_of_gone_compiler(&entries[i]);
            self.evict(i, if is_gone { Why::CompilerGone } else { Why::OverLimit });
            evicted.push(i);
        }
        for i in evicted.into_iter().rev() {
            let frees = |blob| self.needed_by.get(blob) == Some(&0) && self.counted_size(blob) > 0;
            if !entries[i].blobs.iter().any(frees) {
                self.reprieve(i);
            }
        }
    }

    fn reprieve(&mut self, entry: usize) {
        self.why[entry] = None;
        for blob in &self.survey.entries[entry].blobs {
            *self.needed_by.entry(*blob).or_insert(0) += 1;
        }
    }

    fn into_plan(self, options: &SweepOptions) -> EvictPlan {
        let survey = self.survey;
        let is_past = |changed: FileTime, age_s: i64| changed.age_s(survey.now) >= age_s;
        let (before, denied) = (survey.sizes(), survey.denied.clone());
        let mut plan = EvictPlan { before, after: before, denied, ..EvictPlan::default() };
        let mut evicted: Vec<(&SurveyedEntry, Why)> =
            survey.entries.iter().zip(&self.why).filter_map(|(entry, why)| Some((entry, (*why)?))).collect();
        evicted.sort_by_key(|(entry, _)| (entry.used, entry.key));
        for (entry, why) in evicted {
            plan.after.entries -= 1;
            plan.after.meta_bytes -= entry.file_bytes;
            plan.needs.insert(entry.key, entry.blobs.clone());
            plan.entries.push(self.eviction(entry, why));
        }
        for (digest, blob) in &survey.blobs {
            // An entry that this user may not see may need a blob that no other one does.
            let is_needed = self.needed_by.get(digest).map_or(!survey.denied.is_empty(), |count| *count > 0);
            if !is_needed && is_past(blob.changed, self.grace_s) {
                let (size, changed, holding) = (blob.size, blob.changed, blob.holding);
                plan.blobs.push(BlobRemoval { digest: *digest, size, changed, holding });
                plan.after.blobs -= 1;
                plan.after.blob_bytes -= size;
                plan.after.held_bytes -= if holding == Holding::Shared { size } else { 0 };
            }
        }
        plan.blobs.sort_by_key(|blob| blob.digest);
        let kept: HashSet<EntryKey> = self.kept().map(|entry| entry.key).collect();
        let units = self.needed_units();
        // A purge of everything takes the records along, whatever their age.
        let unit_age_s = if options.purge == Purge::Everything { self.grace_s } else { UNIT_AGE_S };
        let stray_units = survey
            .units
            .iter()
            .filter(|(unit, file)| !units.contains(&unit.0) && is_past(file.changed, unit_age_s));
        for (_, file) in stray_units {
            plan.after.meta_bytes -= file.size;
            plan.strays.push(file.path.clone());
        }
        for (key, file) in survey.evidence.iter().filter(|(key, _)| !kept.contains(key)) {
            if plan.needs.contains_key(key) {
                // Removed with its entry, or kept with it.
                plan.after.meta_bytes -= file.size;
            } else if is_past(file.changed, self.grace_s) {
                plan.after.meta_bytes -= file.size;
                plan.strays.push(file.path.clone());
            }
        }
        let age_max_s = options.age_max_s().unwrap_or(SNAPSHOT_AGE_S);
        let age_max_s =
            if options.purge == Purge::Everything { self.grace_s } else { age_max_s.min(SNAPSHOT_AGE_S) };
        for file in survey.snapshots.iter().filter(|file| is_past(file.changed, age_max_s)) {
            plan.after.meta_bytes -= file.size;
            plan.strays.push(file.path.clone());
        }
        let old = |files: &[SurveyedFile], age_s| {
            let old = files.iter().filter(|file| is_past(file.changed, age_s));
            old.map(|file| file.path.clone()).collect::<Vec<_>>()
        };
        plan.strays.extend(old(&survey.tmp, TMP_AGE_S));
        plan.strays.extend(old(&survey.memos, MEMO_AGE_S));
        plan.strays.extend(old(&survey.served, SERVED_AGE_S));
        plan
    }

    fn eviction(&self, entry: &SurveyedEntry, why: Why) -> Eviction {
        let crate_name = match &entry.content {
            EntryContent::Entry { crate_name, .. } => crate_name.clone(),
            EntryContent::Newer | EntryContent::Malformed => String::new(),
        };
        let sizes = entry.blobs.iter().filter_map(|blob| self.survey.blobs.get(blob)).map(|blob| blob.size);
        Eviction { key: entry.key, crate_name, why, used: entry.used, blob_bytes: sizes.sum() }
    }

    fn kept(&self) -> impl Iterator<Item = &'a SurveyedEntry> {
        self.survey.entries.iter().zip(&self.why).filter(|(_, why)| why.is_none()).map(|(entry, _)| entry)
    }

    /// Units of the entries that stay. Of an entry of a newer kache it isn't known which digest is its unit.
    fn needed_units(&self) -> HashSet<Digest> {
        let mut units = HashSet::new();
        for entry in self.kept() {
            match &entry.content {
                EntryContent::Entry { unit: UnitKey(unit), .. } => units.extend([*unit]),
                EntryContent::Newer => units.extend(&entry.blobs),
                EntryContent::Malformed => {}
            }
        }
        units
    }
}

#[cfg(test)]
#[path = "evict_tests.rs"]
mod tests;
