//! Reads one unit out of a build directory, with everything that Cargo doesn't look at when it judges the unit. A
//! reason why it can't be seeded stays with it, so that people can be told. Knows nothing about other units.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{INVOKED, Layout, UnitDir};
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, OutputKind};
use kache_core::entry_key::input_field;
use kache_core::invocation::Env;
use kache_core::key::{EntryKey, Field, field};
use kache_core::paths::Root;
use kache_core::record::{Input, Sight};
use kache_core::seed_unit::{Dependency, Made, SeedUnit};
use kache_core::seeding::Unseeded;
use kache_store::Store;
use kache_store::hashing::DigestMemo;
use kache_store::ledger::Ledger;

use super::fingerprints::{Fingerprint, Stamp};
use super::run_files::RunFiles;
use super::runs;
use super::stamps::{self, Tree};
use super::surroundings::Surroundings;
use super::{local, since};
use crate::inputs::Observer;
use crate::macro_env;
use crate::times::{mtime_ns, output_times};

/// The mark of a run in the ledger of its profile directory.
pub fn run_mark(dir: &UnitDir) -> String {
    format!("{}.run", dir.id())
}

/// A fingerprint directory and whose it is.
pub struct Case {
    pub profile: String,
    pub dir: UnitDir,
    /// What is in its fingerprint directory.
    pub fingerprint: Fingerprint,
    /// What kache knows about the profile directory.
    pub ledger: Ledger,
}

impl Case {
    /// The unit's mark in the ledger; `None` for a run.
    fn mark(&self) -> Option<String> {
        Some(self.dir.mark(&self.fingerprint.stem(&self.dir)?))
    }
}

/// A unit, and what else is known about it for the moment.
pub struct Found {
    pub unit: SeedUnit,
    /// Why it can't be seeded.
    pub unfit: Option<Unseeded>,
    /// The newest time of its outputs.
    pub newest_ns: i64,
    /// The time of its metadata, which is all that a library needs of a library.
    pub metadata_ns: i64,
    /// Whether its dependencies' metadata is all that it needs.
    pub needs_metadata_only: bool,
    pub watched: Vec<PathBuf>,
    pub outputs: Vec<Digest>,
    /// What its key says it was compiled with.
    pub externs: Vec<(String, Digest)>,
    /// The stamp of its fingerprint when reading began.
    pub stamp: Stamp,
}

/// The build script of a run.
#[derive(Debug, Clone)]
pub struct Script {
    /// Name and version of its package.
    pub package: String,
    pub package_dir: String,
    pub program: Digest,
}

/// Reads units of one build directory.
pub struct Reader<'a> {
    pub store: &'a Store,
    /// The build directory and its roots.
    pub around: &'a Surroundings,
    /// The environment of compilers and scripts.
    pub env: &'a Env,
    pub observer: Observer<'a>,
    /// What the lockfile says of packages.
    pub locked: &'a BTreeMap<String, String>,
    /// When the Cargo was started whose environment this is, in nanoseconds since 1970. What was made before may have
    /// been made in another one.
    pub since_ns: i64,
    /// Packages' directories that were looked at.
    pub sources: RefCell<HashMap<String, Option<Tree>>>,
    /// What an earlier snapshot knew, by place.
    pub known: &'a HashMap<String, &'a SeedUnit>,
}

impl Reader<'_> {
    /// A compile; `None` for what belongs to the workspace, or was never seen by kache.
    pub fn compile(&self, case: &Case) -> Option<Found> {
        let mark = case.mark()?;
        let origin = case.ledger.origin_of(&mark)?;
        let package_dir = origin.package_dir?;
        let made = Made::Compile { entry: origin.entry };
        let mut found = self.blank(case, package_dir, made);
        found.unit.provenance = origin.provenance;
        let dir = self.profile_dir(case).join(case.dir.outputs(found.unit.is_script()));
        if let Err(why) = self.fill_compile(case, &mut found, &origin.entry, &dir) {
            found.unfit = Some(why);
        }
        Some(found)
    }

    fn fill_compile(
        &self,
        case: &Case,
        found: &mut Found,
        key: &EntryKey,
        dir: &Path,
    ) -> Result<(), Unseeded> {
        let gone = |_| Unseeded::EntryGone;
        let entry = self.store.peek_entry(key).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        let evidence = self.store.evidence(key).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        found.unit.package = format!("{} {}", entry.package, entry.package_version);
        found.unit.took_ms = entry.compile_ms;
        let judged = entry.outputs.iter().filter(|output| output.kind != OutputKind::Debug);
        let paths: Vec<PathBuf> = judged.map(|output| dir.join(&output.name)).collect();
        let times = output_times(&paths).ok_or_else(|| Unseeded::Stale("an output is missing".to_owned()))?;
        (found.newest_ns, found.metadata_ns) = times;
        found.needs_metadata_only = !entry.outputs.iter().any(|output| output.kind.is_linked());
        self.check_outputs(&entry, case, dir)?;
        found.outputs = entry.outputs.iter().map(|output| output.digest).collect();
        found.externs = externs(&evidence);
        let tree = self.ground(&mut found.unit)?;
        if let Some(known) = self.unchanged(case, &found.unit) {
            found.unit = SeedUnit { took_ms: found.unit.took_ms, ..known };
            return Ok(());
        }
        since::compiled(&self.observer, &evidence)?;
        let dep_info = self.fingerprint_dir(case).join(format!("dep-{}", case.fingerprint.name));
        let began_ns = mtime_ns(&dep_info);
        if !found.needs_metadata_only && evidence.record.observed == Sight::Reported {
            return Err(Unseeded::Unobserved);
        }
        found.unit.sources = tree.stamp;
        found.unit.bound_to = local::binding(self.around, &evidence, &entry, dir)?;
        found.unit.inputs = self.inputs(&evidence, &found.unit.package_dir);
        found.unit.inputs.extend(since::named_linker(&self.observer, self.env, &evidence)?);
        found.unit.macros = self.macros(&evidence);
        if !found.unit.macros.is_empty() {
            self.require_own(began_ns)?;
        }
        let value = |name| Field::value_of(&evidence.unit_fields, name);
        found.unit.cpu = value(field::CPU).and_then(|cpu| cpu.parse().ok());
        found.unit.source =
            value(field::SOURCE).and_then(|name| self.around.key_roots.path_of(name)).unwrap_or_default();
        let compiler = value(field::COMPILER).ok_or(Unseeded::EntryGone)?.to_owned();
        found.unit.compiler = Some((value(field::TARGET).unwrap_or_default().to_owned(), compiler));
        local::small_files(self.around, &self.fingerprint_dir(case), &mut found.unit)
    }

    /// What the unit's package is here: by the lockfile, and by its files.
    fn ground(&self, unit: &mut SeedUnit) -> Result<Tree, Unseeded> {
        let locked = self.locked.get(&unit.package).filter(|locked| !locked.is_empty());
        unit.locked.clone_from(locked.ok_or(Unseeded::Package)?);
        let dir = unit.package_dir.clone();
        let mut sources = self.sources.borrow_mut();
        let look = |dir: &String| stamps::package(Path::new(dir), &self.around.cargo_home);
        let tree = *sources.entry(dir).or_insert_with_key(look);
        tree.ok_or_else(|| Unseeded::Sources(unit.package_dir.clone()))
    }

    /// What could see the environment must have been made in this one.
    fn require_own(&self, began_ns: Option<i64>) -> Result<(), Unseeded> {
        if began_ns.is_some_and(|began_ns| began_ns >= self.since_ns) {
            return Ok(());
        }
        Err(Unseeded::Stale("an earlier Cargo made it, with what variables isn't known".to_owned()))
    }

    pub fn run(&self, case: &Case, script: &Script) -> Found {
        let key = EntryKey(Digest::of(b"none"));
        let made = Made::Compile { entry: key };
        let mut found = self.blank(case, script.package_dir.clone(), made);
        found.unit.package.clone_from(&script.package);
        found.newest_ns = mtime_ns(&self.stdout(case)).unwrap_or(i64::MIN);
        found.metadata_ns = found.newest_ns;
        found.watched.clone_from(&case.fingerprint.watched);
        if let Err(why) = self.fill_run(case, script, &mut found.unit) {
            found.unfit = Some(why);
        }
        found
    }

    fn fill_run(&self, case: &Case, script: &Script, unit: &mut SeedUnit) -> Result<(), Unseeded> {
        let tree = self.ground(unit)?;
        if let Some(known) = self.unchanged(case, unit) {
            *unit = known;
            if let (Made::Run { output_ns, .. }, Some(ns)) = (&mut unit.made, mtime_ns(&self.stdout(case))) {
                *output_ns = ns;
            }
            return Ok(());
        }
        let began_ns = mtime_ns(&self.profile_dir(case).join(case.dir.run()).join(INVOKED));
        if began_ns.is_none_or(|began_ns| tree.changed_ns >= began_ns) {
            return Err(Unseeded::Sources(unit.package_dir.clone()));
        }
        unit.sources = tree.stamp;
        self.require_own(began_ns)?;
        let gone = |_| Unseeded::EntryGone;
        let origin = case.ledger.origin_of(&run_mark(&case.dir)).ok_or(Unseeded::Unobserved)?;
        let entry = self.store.peek_entry(&origin.entry).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        let evidence = self.store.evidence(&origin.entry).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        let program = Field::value_of(&evidence.unit_fields, field::PROGRAM);
        if program != Some(script.program.to_string().as_str()) {
            return Err(Unseeded::Unknown("its program".to_owned()));
        }
        since::compiled(&self.observer, &evidence)?;
        unit.provenance = origin.provenance;
        unit.inputs = self.inputs(&evidence, &unit.package_dir);
        unit.macros = self.macros(&evidence);
        unit.took_ms = entry.compile_ms;
        let files = RunFiles::of(&self.profile_dir(case), &case.dir);
        unit.made = runs::made(self.store, &files, (&origin.entry, &entry), &self.around.roots)?;
        if let Made::Run { asked, .. } = &mut unit.made {
            let value = |value: &String| Digest::of(value.as_bytes());
            let watched = case.fingerprint.asked.iter();
            *asked = watched.map(|(name, v)| (name.clone(), v.as_ref().map(value))).collect();
        }
        local::small_files(self.around, &self.fingerprint_dir(case), unit)
    }

    fn profile_dir(&self, case: &Case) -> PathBuf {
        self.around.dirs.build.join(&case.profile)
    }

    fn stdout(&self, case: &Case) -> PathBuf {
        self.profile_dir(case).join(case.dir.stdout())
    }

    fn fingerprint_dir(&self, case: &Case) -> PathBuf {
        self.profile_dir(case).join(case.dir.fingerprint())
    }

    /// What is on record about the unit, where that still describes it and the files of its package.
    fn unchanged(&self, case: &Case, unit: &SeedUnit) -> Option<SeedUnit> {
        let known = self.known.get(&unit.place())?;
        let stamp = self.sources.borrow().get(&unit.package_dir).copied().flatten()?.stamp;
        let is_same = (known.sources, &known.locked) == (stamp, &unit.locked)
            && since::is_unchanged(known, &case.fingerprint, &self.profile_dir(case))
            && match (&known.made, case.mark()) {
                (Made::Compile { entry }, Some(mark)) => {
                    case.ledger.origin_of(&mark).is_some_and(|origin| origin.entry == *entry)
                }
                (Made::Run { entry, .. }, None) => self.store.entry_path(entry).exists(),
                _ => false,
            };
        is_same.then(|| SeedUnit::clone(known))
    }

    fn blank(&self, case: &Case, package_dir: String, made: Made) -> Found {
        Found {
            unit: SeedUnit {
                hash: case.fingerprint.hash.clone(),
                deps: case
                    .fingerprint
                    .deps
                    .iter()
                    .map(|hash| Dependency { hash: hash.clone(), pins: Vec::new() })
                    .collect(),
                package_dir,
                ..SeedUnit::new(&case.profile, case.dir.clone(), &case.fingerprint.name, made)
            },
            unfit: None,
            newest_ns: i64::MIN,
            metadata_ns: i64::MIN,
            needs_metadata_only: false,
            watched: Vec::new(),
            outputs: Vec::new(),
            externs: Vec::new(),
            stamp: case.fingerprint.stamp,
        }
    }

    /// What lies there must be what the entry says, under names that no other unit uses.
    fn check_outputs(&self, entry: &Entry, case: &Case, dir: &Path) -> Result<(), Unseeded> {
        let stem = case.fingerprint.stem(&case.dir).unwrap_or_default();
        let is_own = |name: &str| case.dir.layout == Layout::PerUnit || name.contains(&stem);
        let memo = DigestMemo::new(self.store);
        for output in &entry.outputs {
            let unknown = || Unseeded::Unknown(output.name.clone());
            let digest = memo.digest(&dir.join(&output.name)).map_err(|_| unknown())?;
            if !is_own(&output.name) || digest != Some(output.digest) {
                return Err(unknown());
            }
        }
        Ok(())
    }

    /// What went in from outside the package, the toolchain and the build directory, as it was. Of variables those
    /// that Cargo's own environment decides; what Cargo sets for each unit follows from the unit.
    fn inputs(&self, evidence: &Evidence, package_dir: &str) -> Vec<(Input, String)> {
        let own =
            [Some(package_dir), self.around.roots.get(Root::Target), self.around.roots.get(Root::Sysroot)];
        let is_own = |name: &str| {
            let path = self.around.roots.path_of(name).unwrap_or_default();
            own.iter().flatten().any(|dir| Path::new(&path).starts_with(dir))
        };
        let inputs = evidence.record.inputs.iter().filter_map(|input| {
            let value = Field::value_of(&evidence.entry_fields, &input_field(input))?.to_owned();
            let counts = match input {
                Input::File(name) | Input::Dir(name) | Input::Link(name) | Input::Probe(name) => {
                    !is_own(name)
                }
                Input::Program(_) => true,
                Input::Env(_) => self.observer.observe(input).is_some_and(|now| now.to_string() == value),
                Input::MacroEnv(_) | Input::PortableMacroEnv(_) => false,
            };
            counts.then(|| (input.clone(), value))
        });
        inputs.collect()
    }

    /// Proc macros that took part, with a digest of what they could see in Cargo's environment.
    fn macros(&self, evidence: &Evidence) -> Vec<(Digest, Digest)> {
        let memo = DigestMemo::new(self.store);
        let libraries = evidence.record.inputs.iter().filter_map(|input| match input {
            Input::MacroEnv(name) | Input::PortableMacroEnv(name) => self.around.roots.path_of(name),
            _ => None,
        });
        let seen = libraries.filter_map(|path| {
            let digest = memo.digest(Path::new(&path)).ok()??;
            Some((digest, macro_env::digest(self.store, self.env, Path::new(&path), &digest)?))
        });
        seen.collect()
    }
}

/// Files that the unit was compiled with, by the fields of its key.
fn externs(evidence: &Evidence) -> Vec<(String, Digest)> {
    let fields = evidence.unit_fields.iter().filter(|field| field.name.starts_with(field::EXTERN));
    let digests = fields.filter_map(|field| {
        let (_, digest) = field.value.rsplit_once(' ')?;
        Some((field.name.trim_start_matches(field::EXTERN).to_owned(), digest.parse().ok()?))
    });
    digests.collect()
}
