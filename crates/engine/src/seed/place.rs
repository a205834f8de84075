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

use kache_core::digest::Digest;
use kache_core::entry::{Entry, OutputKind};
use kache_core::event::{Moved, Seeding};
use kache_core::invocation::Env;
use kache_core::plan::{is_canonical, may_share};
use kache_core::seeding::{self, Unseeded, choose};
use kache_core::snapshot::{Content, Made, SeedUnit, Snapshot, Unfit};
use kache_store::Store;
use kache_store::entries::Settled;
use kache_store::fault::{self, Point};
use kache_store::ledger::{Ledger, Origin};
use kache_store::link::{self, Mode, Note, Permission, Sharing, Stamp};

use super::runs::Site;
use super::surroundings::Surroundings;
use super::times::{mtime_ns, set_mtime_ns};
use super::{stamps, target_dir};
use crate::facts::cpu_identity;
use crate::inputs::Observer;
use crate::{macro_env, restore};

/// What placing came to.
#[derive(Debug, Default)]
pub struct Placed {
    /// For the journal.
    pub seeding: Seeding,
    /// Bytes moved.
    pub moved: Moved,
    /// What the placed units took when they were made, in milliseconds.
    pub saved_ms: u64,
    /// Units that were not placed, and why; those that no snapshot could hold come first.
    pub left_out: Vec<Unfit>,
}

/// Why nothing was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Declined {
    /// Another Cargo works there.
    Busy,
    /// Somebody has built there meanwhile.
    Populated,
    /// The directory can't be written.
    Refused(String),
}

/// Places what fits.
pub fn place(
    store: &Store,
    around: &Surroundings,
    env: &Env,
    session: &str,
    snapshot: &Snapshot,
) -> Result<Placed, Declined> {
    let packages = seeding::locked_packages(&around.lockfile);
    let mut judge = Judge::new(store, around, env, snapshot, packages);
    let choice = choose(&snapshot.units, |unit| judge.judge(unit));
    let entries = judge.entries;
    let mut placed = Placed { left_out: snapshot.header.unfit.clone(), ..Placed::default() };
    let mut left_out = choice.left_out;
    if !choice.placed.is_empty() {
        let refused = |error: std::io::Error| Declined::Refused(error.to_string());
        let build = &around.dirs.build;
        target_dir::create(build).map_err(refused)?;
        let profiles: BTreeSet<&str> =
            choice.placed.iter().map(|i| snapshot.units[*i].profile.as_str()).collect();
        let mut ground = Ground { ledgers: BTreeMap::new(), _locks: Vec::new() };
        for profile in profiles {
            let dir = build.join(profile);
            ground._locks.push(target_dir::lock(&dir).map_err(refused)?.ok_or(Declined::Busy)?);
            ground.ledgers.insert(profile, (String::new(), None));
        }
        if target_dir::is_populated(build) {
            return Err(Declined::Populated);
        }
        for (profile, ledger) in &mut ground.ledgers {
            *ledger = (session.to_owned(), Some(Ledger::open(&build.join(profile), session)));
        }
        let mut hand = Hand { store, around, ground: &ground, entries: &entries, newest: HashMap::new() };
        let mut is_placed: BTreeMap<&str, bool> = BTreeMap::new();
        for i in choice.placed {
            let unit = &snapshot.units[i];
            let lacking = unit.deps.iter().find(|hash| is_placed.get(hash.as_str()) != Some(&true));
            let outcome = match lacking {
                Some(hash) => Err(Unseeded::Dependency(hash.clone())),
                None => hand.place(unit, &mut placed.moved),
            };
            let fine = is_placed.get(unit.hash.as_str()).copied().unwrap_or(true) && outcome.is_ok();
            is_placed.insert(&unit.hash, fine);
            match outcome {
                Ok(()) if unit.is_run() => placed.seeding.runs += 1,
                Ok(()) => placed.seeding.units += 1,
                Err(why) => drop(left_out.insert(i, why)),
            }
            if fine {
                placed.saved_ms += unit.took_ms;
            }
        }
    }
    fault::point(Point::Seeded);
    for (i, why) in left_out {
        placed.left_out.push(why.about(&snapshot.units[i].place(), &snapshot.units[i].package));
    }
    placed.seeding.left_out = placed.left_out.len() as u64;
    for unfit in &placed.left_out {
        *placed.seeding.reasons.entry(unfit.code.clone()).or_default() += 1;
    }
    Ok(placed)
}

/// Judges units by what Cargo doesn't look at. Each thing is looked at once.
struct Judge<'a> {
    store: &'a Store,
    around: &'a Surroundings,
    packages: BTreeSet<String>,
    sources: BTreeMap<String, Digest>,
    recorded: &'a BTreeMap<String, Digest>,
    changed_tool: Option<String>,
    observer: Observer<'a>,
    env: &'a Env,
    cpu: Option<Digest>,
    macros: HashMap<Digest, Option<Digest>>,
    files: HashMap<String, String>,
    entries: HashMap<String, Entry>,
}

impl<'a> Judge<'a> {
    fn new(
        store: &'a Store,
        around: &'a Surroundings,
        env: &'a Env,
        snapshot: &'a Snapshot,
        packages: BTreeSet<String>,
    ) -> Self {
        let recorded = &snapshot.header.sources;
        let tools = stamps::tools(env.get("PATH"));
        let changed = tools.into_iter().find(|(name, stamp)| snapshot.header.tools.get(name) != Some(stamp));
        let wanted = snapshot.units.iter().filter(|unit| packages.contains(&unit.package));
        let dirs: BTreeSet<String> = wanted.map(|unit| unit.package_dir.clone()).collect();
        let has_cpu = snapshot.units.iter().any(|unit| unit.cpu.is_some());
        Self {
            store,
            around,
            packages,
            sources: stamps::packages(&dirs.into_iter().collect::<Vec<_>>()),
            recorded,
            changed_tool: changed.map(|(name, _)| name),
            observer: Observer::new(store, env, &around.key_roots),
            env,
            cpu: if has_cpu { cpu_identity() } else { None },
            macros: HashMap::new(),
            files: HashMap::new(),
            entries: HashMap::new(),
        }
    }

    fn judge(&mut self, unit: &SeedUnit) -> Option<Unseeded> {
        if !self.packages.contains(&unit.package) {
            return Some(Unseeded::Package);
        }
        let dir = &unit.package_dir;
        if !self.sources.contains_key(dir) || self.sources.get(dir) != self.recorded.get(dir) {
            return Some(Unseeded::Sources(dir.clone()));
        }
        if let Some(bound) = &unit.bound_to
            && Path::new(bound) != self.around.dirs.build
        {
            return Some(Unseeded::PathInOutput(bound.clone()));
        }
        if unit.cpu.is_some() && unit.cpu != self.cpu {
            return Some(Unseeded::Cpu);
        }
        for (input, value) in &unit.inputs {
            if self.observer.observe(input).is_none_or(|now| now.to_string() != *value) {
                return Some(Unseeded::Input(kache_core::entry_key::input_field(input)));
            }
        }
        if unit.macros.iter().any(|(library, seen)| self.macro_environment(library) != Some(*seen)) {
            return Some(Unseeded::Environment);
        }
        if let Made::Run { witnesses, .. } = &unit.made {
            if let Some(tool) = &self.changed_tool {
                return Some(Unseeded::Native(tool.clone()));
            }
            let changed = witnesses.iter().find(|(path, stamp)| {
                let now = self.files.entry((*path).clone()).or_insert_with(|| stamps::file(Path::new(path)));
                now != *stamp
            });
            if let Some((path, _)) = changed {
                return Some(Unseeded::Native(path.clone()));
            }
        }
        let key = unit.entry();
        let entry = self.store.entry(&key).ok().flatten();
        let trusted = entry.filter(|entry| matches!(self.store.settle(&key, entry), Ok(Settled::Trusted)));
        match trusted {
            Some(entry) => drop(self.entries.insert(unit.place(), entry)),
            None => return Some(Unseeded::EntryGone),
        }
        None
    }

    fn macro_environment(&mut self, library: &Digest) -> Option<Digest> {
        let (store, env) = (self.store, self.env);
        let look = || macro_env::digest(store, env, &store.blob_path(library), library);
        *self.macros.entry(*library).or_insert_with(look)
    }
}

/// The profile directories, locked.
struct Ground<'a> {
    ledgers: BTreeMap<&'a str, (String, Option<Ledger>)>,
    _locks: Vec<fs::File>,
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
            Made::Compile { out_dir, .. } => self.compile(unit, entry, &profile_dir.join(out_dir), moved)?,
            Made::Run { output_ns, .. } => {
                let run_dir = profile_dir.join("build").join(&unit.dir);
                Site { store: self.store, roots: &self.around.roots, run_dir }
                    .place(entry, &unit.made, moved)?;
                *output_ns
            }
        };
        fault::point(Point::SeedPlaced);
        let dir = profile_dir.join(".fingerprint").join(&unit.dir);
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
        let newest_dep = unit.deps.iter().filter_map(|hash| self.newest.get(hash.as_str())).max();
        let in_order = newest_dep.is_none_or(|ns| *ns <= oldest_s.saturating_mul(1_000_000_000));
        let shared = entry.outputs.iter().all(|output| is_shareable(output.kind))
            && in_order
            && is_canonical(oldest_s);
        let stem = entry.dep_info_name.trim_end_matches(".d");
        let ledger = self.ground.ledgers.get(unit.profile.as_str()).and_then(|(_, ledger)| ledger.as_ref());
        let ledger = ledger.filter(|ledger| ledger.known_from_birth());
        let ledger = ledger.ok_or_else(|| Unseeded::Refused("the directory has no ledger".to_owned()))?;
        let origin = Origin { entry: unit.entry(), package_dir: Some(unit.package_dir.clone()) };
        ledger.mark_with(stem, oldest_s, &origin).map_err(failed)?;
        fs::create_dir_all(out_dir).map_err(failed)?;
        let mut newest_ns = i64::MIN;
        for output in &entry.outputs {
            let dest = out_dir.join(&output.name);
            let sharing = if shared { Sharing::Shared } else { Sharing::Private(Stamp::Now) };
            let permission = Permission::executable(output.executable);
            let blob = self.store.blob_path(&output.digest);
            let mode = link::place(&blob, &dest, sharing, permission, Note::Digest(&output.digest))
                .map_err(refused)?;
            match mode {
                Mode::Reflink => moved.reflinked_bytes += output.size,
                Mode::HardLink => moved.linked_bytes += output.size,
                Mode::Copy => moved.copied_bytes += output.size,
            }
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
