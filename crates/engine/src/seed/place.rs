//! Puts the units of a snapshot into a build directory that nobody has built in, while Cargo waits for the answer to
//! a question. Cargo judges them afterwards by its own rules; here it is checked what Cargo takes for granted.
//!
//! Order is everything: Cargo's locks first; of each unit the ledger's mark, then outputs, then the fingerprint
//! directory, and in it the hash last. Without the hash Cargo has never heard of the unit. Dependencies come before
//! dependents, so that whatever is there at any moment is whole.
//!
//! # Times
//!
//! Every time that Cargo compares files *outside* the build directory with is the one of the recorded build:
//! dep-info, `output`, `invoked.timestamp`, the files of `OUT_DIR`. So what has changed since then is newer, and Cargo
//! runs again what it would have run again there. Outputs of compiles are only compared with each other: they share
//! the store's inode and its canonical time where no dependency is newer, and are dated now where one is.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

use kache_core::cargo::layout::Layout;
use kache_core::entry::{Entry, OutputKind};
use kache_core::event::{Moved, Seeding};
use kache_core::plan::{is_canonical, may_share};
use kache_core::seed_selection::Selection;
use kache_core::seed_unit::{Content, Made, SeedUnit};
use kache_core::seeding::{Unseeded, choose};
use kache_core::snapshot::{Snapshot, Unfit};
use kache_store::Store;
use kache_store::cargo_locks;
use kache_store::fault::{self, Point};
use kache_store::ledger::{Ledger, Origin};
use kache_store::link::{self, Note, Permission, Sharing, Stamp};

use super::judge::Judge;
use super::run_files::RunFiles;
use super::runs::Site;
use super::surroundings::Surroundings;
use super::target_dir;
use crate::restore;
use crate::times::{mtime_ns, set_mtime_ns};

#[derive(Debug, Default)]
pub struct Placed {
    pub seeding: Seeding,
    /// Bytes moved.
    pub moved: Moved,
    /// What the placed units took when they were made, in milliseconds.
    pub saved_ms: u64,
    /// Units that were not placed, and why; those that no snapshot could hold come first.
    pub left_out: Vec<Unfit>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    Busy,
    Populated,
    /// The directory can't be written.
    Refused(String),
}

pub fn place(
    store: &Store,
    around: &Surroundings,
    mut judge: Judge<'_>,
    (session, selection): (&str, &Selection),
    snapshot: &Snapshot,
) -> Result<Placed, Declined> {
    let mut choice = choose(&snapshot.units, |unit| judge.judge(unit));
    let entries = judge.entries;
    let mut placed = Placed { left_out: snapshot.header.unfit.clone(), ..Placed::default() };
    choice.placed = selection.used(&snapshot.units, choice.placed, |unit, kind| {
        entries.get(&unit.place()).is_some_and(|entry| entry.outputs.iter().any(|output| output.kind == kind))
    });
    let mut left_out = choice.left_out;
    if !choice.placed.is_empty() {
        let profiles: BTreeSet<&str> =
            choice.placed.iter().map(|i| snapshot.units[*i].profile.as_str()).collect();
        let ground = Ground::take(&around.dirs.build, &profiles, session)?;
        let mut hand = Hand { store, around, ground: &ground, entries: &entries, newest: HashMap::new() };
        let mut is_placed: BTreeMap<&str, bool> = BTreeMap::new();
        for i in choice.placed {
            let unit = &snapshot.units[i];
            let lacking = unit.deps.iter().find(|dep| is_placed.get(dep.hash.as_str()) != Some(&true));
            let outcome = match lacking {
                Some(dep) => Err(Unseeded::Dependency(dep.hash.clone())),
                None => hand.place(unit, &mut placed.moved).inspect_err(|_| hand.take_back(unit)),
            };
            let fine = is_placed.get(unit.hash.as_str()).copied().unwrap_or(true) && outcome.is_ok();
            is_placed.insert(&unit.hash, fine);
            match outcome {
                Ok(()) => count(&mut placed.seeding, unit),
                Err(why) => drop(left_out.insert(i, why)),
            }
            if fine {
                placed.saved_ms += unit.took_ms;
            }
        }
    }
    fault::point(Point::Seeded);
    let scripts = left_out.keys().filter(|i| snapshot.units[**i].is_run());
    placed.seeding.asked.runs_left =
        scripts.filter(|i| !lacks_script(&snapshot.units, **i, &left_out)).count() as u64;
    let unfit =
        placed.left_out.iter().filter(|unfit| unfit.unit.split('/').any(|part| part == selection.profile));
    let codes = unfit.map(|unfit| unfit.code.clone());
    // What the lockfile doesn't name, no build asks for.
    let left = left_out.values().filter(|why| **why != Unseeded::Package).map(|why| why.code().to_owned());
    for code in codes.chain(left).collect::<Vec<_>>() {
        placed.seeding.left_out += 1;
        *placed.seeding.reasons.entry(code).or_default() += 1;
    }
    for (i, why) in left_out {
        placed.left_out.push(why.about(&snapshot.units[i].place(), &snapshot.units[i].package));
    }
    Ok(placed)
}

fn count(seeding: &mut Seeding, unit: &SeedUnit) {
    let (all, asked) = match unit.is_run() {
        true => (&mut seeding.runs, &mut seeding.asked.runs),
        false => (&mut seeding.units, &mut seeding.asked.units),
    };
    *all += 1;
    *asked += 1;
    seeding.asked.saved_ms += unit.took_ms;
}

/// Whether the script of a run is left to Cargo too: then a compiler call tells of it.
fn lacks_script(units: &[SeedUnit], run: usize, left_out: &BTreeMap<usize, Unseeded>) -> bool {
    let of = |dep: &str| left_out.keys().any(|i| units[*i].hash == dep && !units[*i].is_run());
    units[run].deps.iter().any(|dep| of(&dep.hash))
}

struct Ground<'a> {
    ledgers: BTreeMap<&'a str, Ledger>,
    _locks: Vec<fs::File>,
}

impl<'a> Ground<'a> {
    /// Makes the profile directories and locks them, as long as nobody has built there.
    fn take(build: &Path, profiles: &BTreeSet<&'a str>, session: &str) -> Result<Self, Declined> {
        let refused = |error: std::io::Error| Declined::Refused(error.to_string());
        target_dir::create(build).map_err(refused)?;
        let mut locks = Vec::new();
        for profile in profiles {
            locks.extend(cargo_locks::take(&build.join(profile)).map_err(refused)?.ok_or(Declined::Busy)?);
        }
        if target_dir::is_populated(build) {
            return Err(Declined::Populated);
        }
        let ledgers = profiles.iter().map(|profile| (*profile, Ledger::open(&build.join(profile), session)));
        Ok(Self { ledgers: ledgers.collect(), _locks: locks })
    }
}

/// Places units one after the other.
struct Hand<'a> {
    store: &'a Store,
    around: &'a Surroundings,
    ground: &'a Ground<'a>,
    entries: &'a HashMap<String, Entry>,
    /// The newest time of each unit that is in place, by fingerprint hash.
    newest: HashMap<&'a str, i64>,
}

impl<'a> Hand<'a> {
    fn place(&mut self, unit: &'a SeedUnit, moved: &mut Moved) -> Result<(), Unseeded> {
        let refused = |error: std::io::Error| Unseeded::Refused(error.to_string());
        let profile_dir = self.around.dirs.build.join(&unit.profile);
        let entry = self.entries.get(&unit.place()).ok_or(Unseeded::EntryGone)?;
        let newest_ns = match &unit.made {
            Made::Compile { .. } => {
                let out_dir = profile_dir.join(unit.dir.outputs(unit.is_script()));
                self.compile(unit, entry, &out_dir, moved)?
            }
            Made::Run { output_ns, .. } => {
                let files = RunFiles::of(&profile_dir, &unit.dir);
                Site { store: self.store, roots: &self.around.roots, files }
                    .place(entry, &unit.made, moved)?;
                *output_ns
            }
        };
        fault::point(Point::SeedPlaced);
        let dir = profile_dir.join(unit.dir.fingerprint());
        fs::create_dir_all(&dir).map_err(refused)?;
        for file in &unit.files {
            let path = dir.join(&file.name);
            let bytes = match &file.content {
                Content::Text(text) => self.around.roots.detokenize(text).map(String::into_bytes),
                Content::Hex(hex) => Content::bytes_of_hex(hex),
            };
            fs::write(&path, bytes.ok_or(Unseeded::EntryGone)?).map_err(refused)?;
            set_mtime_ns(&path, file.mtime_ns).map_err(refused)?;
        }
        fault::point(Point::SeedUnproven);
        fs::write(dir.join(&unit.name), &unit.hash).map_err(refused)?;
        let newest = self.newest.entry(unit.hash.as_str()).or_insert(newest_ns);
        *newest = (*newest).max(newest_ns);
        Ok(())
    }

    /// Removes what there is of a unit that couldn't be placed as a whole: a script would find files in its `OUT_DIR`.
    fn take_back(&self, unit: &SeedUnit) {
        let profile_dir = self.around.dirs.build.join(&unit.profile);
        // What stays in spite of this is never believed: the hash comes last.
        let _ = fs::remove_dir_all(profile_dir.join(unit.dir.fingerprint()));
        if unit.is_run() || unit.dir.layout == Layout::PerUnit {
            let _ = fs::remove_dir_all(profile_dir.join(unit.dir.own_folder()));
        }
    }

    /// The outputs of a compile; the newest time among them.
    fn compile(
        &self,
        unit: &SeedUnit,
        entry: &Entry,
        out_dir: &Path,
        moved: &mut Moved,
    ) -> Result<i64, Unseeded> {
        let refused = |error: kache_store::Error| Unseeded::Refused(error.to_string());
        let failed = |error: std::io::Error| Unseeded::Refused(error.to_string());
        let texts = restore::check(self.store, entry, &self.around.roots).map_err(|_| Unseeded::EntryGone)?;
        let oldest_s = entry.oldest_mtime_s().unwrap_or_default();
        let newest_dep = unit.deps.iter().filter_map(|dep| self.newest.get(dep.hash.as_str())).max();
        let in_order = newest_dep.is_none_or(|ns| *ns <= oldest_s.saturating_mul(1_000_000_000));
        let shared = entry.outputs.iter().all(|output| is_shareable(output.kind))
            && in_order
            && is_canonical(oldest_s);
        let mark = unit.dir.mark(entry.dep_info_name.trim_end_matches(".d"));
        let ledger = self.ground.ledgers.get(unit.profile.as_str());
        let ledger = ledger.filter(|ledger| ledger.known_from_birth());
        let ledger = ledger.ok_or_else(|| Unseeded::Refused("the directory has no ledger".to_owned()))?;
        let package_dir = Some(unit.package_dir.clone());
        let origin = Origin { entry: unit.entry(), package_dir, provenance: unit.provenance.clone() };
        ledger.mark_with(&mark, oldest_s, &origin).map_err(failed)?;
        fs::create_dir_all(out_dir).map_err(failed)?;
        let mut newest_ns = i64::MIN;
        for output in &entry.outputs {
            let dest = out_dir.join(&output.name);
            let sharing = if shared { Sharing::Shared } else { Sharing::Private(Stamp::Now) };
            let permission = Permission::executable(output.executable);
            let blob = self.store.blob_path(&output.digest);
            let mode = link::place(&blob, &dest, sharing, permission, Note::Digest(&output.digest))
                .map_err(refused)?;
            restore::count(moved, mode, output.size);
            newest_ns = newest_ns.max(if shared {
                output.mtime_s.saturating_mul(1_000_000_000)
            } else {
                mtime_ns(&dest).unwrap_or(i64::MAX)
            });
        }
        fs::write(out_dir.join(&entry.dep_info_name), texts.dep_info()).map_err(failed)?;
        Ok(newest_ns)
    }
}

/// Whether outputs of this kind may share an inode with the store. Metadata of `check` units may, unlike when it is
/// restored: Cargo re-dates it after running the wrapper, and for a unit that it finds fresh it doesn't.
const fn is_shareable(kind: OutputKind) -> bool {
    may_share(kind) || matches!(kind, OutputKind::CheckMetadata)
}
