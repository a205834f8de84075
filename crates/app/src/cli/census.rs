//! A census of target directories: those that kache has served and those below given directories, with what each
//! occupies, whose it is, when it was last used, and what of it comes back without a compile. For `kache disk`, which
//! shows it, and `kache clean`, which removes things. Finding is in `find`, units are in `units`.

pub mod checkout;
pub mod find;
pub mod units;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_store::Store;
use kache_store::footprint::{BlobIndex, Footprint};
use kache_store::served::{self, Served};
use serde_json::{Value, json};

use crate::error::CliError;
use crate::ui::Ui;
use checkout::Checkout;
use find::{Found, Programs};
use units::{Kind, Maker, Unit, Use};

/// A target directory with what is known about it.
pub struct Target {
    /// Where it is, and why it can't be removed right now.
    pub found: Found,
    pub footprint: Footprint,
    /// The workspaces that were built there, as far as that is known.
    pub projects: Vec<Checkout>,
    pub is_served: bool,
    /// The last use, in seconds since 1970; `None` where nothing tells.
    pub used_s: Option<i64>,
    pub units: Vec<Unit>,
}

impl Target {
    /// Whether every workspace that was built there is gone; `false` where none is known.
    pub fn is_orphaned(&self) -> bool {
        !self.projects.is_empty() && self.projects.iter().all(|project| !project.is_there)
    }
}

/// Target directories, and what is known about all of them together.
pub struct Census {
    /// The directories, those with most bytes of their own first.
    pub targets: Vec<Target>,
    pub blobs: BlobIndex,
    makers: Makers,
    entries: HashSet<EntryKey>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'d> {
    /// Those at or below these.
    Below(&'d [PathBuf]),
    /// These, and all that kache has served.
    ServedAnd(&'d [PathBuf]),
}

impl Census {
    pub fn take(settings: &Settings, scope: Scope<'_>, ui: &Ui) -> Result<Self, CliError> {
        let store = settings.cache_dir().ok().and_then(|dir| Store::open_existing(dir).ok());
        let (mut blobs, mut entries, mut served) = Default::default();
        if let Some(store) = &store {
            blobs = store.blob_index()?;
            entries = store.entries()?.map(|entry| entry.key).collect();
            served = store.served();
        }
        let found = find(scope, &mut served, ui);
        let looked = each(&found, |found| {
            ui.progress(&format!("measuring {}", found.path.display()));
            Footprint::of(&found.path, &blobs).map(|footprint| target(found.clone(), footprint, &served))
        });
        ui.progress("");
        let mut targets = Vec::new();
        for (found, target) in found.iter().zip(looked) {
            match target {
                Ok(target) => targets.push(target),
                Err(error) => ui.warn(&format!("{} is left out: {error}", found.path.display())),
            }
        }
        targets.sort_by_key(|target| std::cmp::Reverse(target.footprint.reclaimable_bytes()));
        let makers = Makers::learn(&targets, &served, store.as_ref());
        Ok(Self { targets, blobs, makers, entries })
    }

    /// Whether the store has the result of a unit.
    pub fn has(&self, unit: &Unit) -> bool {
        unit.entry.is_some_and(|entry| self.entries.contains(&entry))
    }

    /// Whether the compiler that made a unit is no longer installed. An unknown compiler counts as installed.
    pub fn is_of_gone_compiler(&self, unit: &Unit) -> bool {
        self.makers.is_installed(unit) == Some(false)
    }

    /// Versions of the compilers that made units and are no longer installed.
    pub fn gone_versions(&self, target: &Target) -> BTreeSet<String> {
        target.units.iter().filter_map(|unit| self.makers.gone_version(unit)).collect()
    }
}

/// Finds target directories, each once however it is reached. The notes get the real paths of theirs.
pub fn find(scope: Scope<'_>, served: &mut [Served], ui: &Ui) -> Vec<Found> {
    for note in &mut *served {
        note.build_dir = note.build_dir.canonicalize().unwrap_or_else(|_| note.build_dir.clone());
    }
    let programs = Programs::running();
    let (dirs, known) = match scope {
        Scope::Below(dirs) => (dirs, BTreeSet::new()),
        Scope::ServedAnd(dirs) => (dirs, served.iter().map(|note| note.build_dir.as_path()).collect()),
    };
    let mut found =
        find::below(dirs, &programs, |path| ui.progress(&format!("looking in {}", path.display())));
    found.extend(known.into_iter().filter_map(|dir| find::check(dir, &programs)));
    let real = |found: &Found| found.path.canonicalize().unwrap_or_else(|_| found.path.clone());
    found.sort_by_cached_key(real);
    found.dedup_by_key(|found| real(found));
    found
}

fn target(found: Found, footprint: Footprint, served: &[Served]) -> Target {
    let real = found.path.canonicalize().unwrap_or_else(|_| found.path.clone());
    let notes: Vec<&Served> = served.iter().filter(|note| note.build_dir == real).collect();
    let mut projects: BTreeSet<&Path> = notes.iter().map(|note| note.project.as_path()).collect();
    // One that kache has not seen is its neighbour's.
    projects.extend(real.parent().filter(|dir| projects.is_empty() && dir.join("Cargo.toml").is_file()));
    let units = units::of(&found.path);
    let of_units = units.iter().filter_map(|unit| match unit.used {
        Use::At(used_s) => Some(used_s),
        Use::Unknown | Use::Broken => None,
    });
    Target {
        projects: projects.into_iter().map(|project| Checkout::of(project, &real)).collect(),
        is_served: !notes.is_empty(),
        used_s: notes.iter().map(|note| note.used_s).chain(of_units).max(),
        found,
        footprint,
        units,
    }
}

/// What `work` makes of each, with all processors.
fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let workers = thread::available_parallelism().map_or(1, usize::from).min(items.len());
    thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                while let Some((at, item)) = Some(next.fetch_add(1, Ordering::Relaxed))
                    .and_then(|at| items.get(at).map(|item| (at, item)))
                {
                    let result = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).insert(at, result);
                }
            });
        }
    });
    done.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect()
}

/// What is known about compilers: of an entry's by its identity, of a unit without entry by Cargo's hash, which is learnt
/// from units with one, of incremental state by the version.
#[derive(Debug, Default)]
struct Makers {
    /// Whether each is installed, and its version.
    compilers: BTreeMap<Digest, (bool, String)>,
    of_entries: HashMap<EntryKey, Digest>,
    of_hashes: HashMap<u64, BTreeSet<Digest>>,
}

impl Makers {
    fn learn(targets: &[Target], served: &[Served], store: Option<&Store>) -> Self {
        let mut makers = Self::default();
        let installed = served::compilers(served);
        for Served { compiler, .. } in served {
            let version = compiler.version.strip_prefix("rustc ").unwrap_or(&compiler.version).to_owned();
            let is_installed = installed.get(&compiler.id).copied().unwrap_or_default();
            makers.compilers.insert(compiler.id, (is_installed, version));
        }
        // Which compiler made a unit matters only where one of them is gone.
        let Some(store) = store.filter(|_| makers.compilers.values().any(|(is_installed, _)| !is_installed))
        else {
            return makers;
        };
        for unit in targets.iter().flat_map(|target| &target.units) {
            let Some(key) = unit.entry else { continue };
            if !makers.of_entries.contains_key(&key)
                && let Some(compiler) = store.peek_entry(&key).ok().flatten().and_then(|entry| entry.compiler)
            {
                makers.of_entries.insert(key, compiler);
            }
            if let (Some(compiler), Maker::Hash(hash)) = (makers.of_entries.get(&key), &unit.maker) {
                makers.of_hashes.entry(*hash).or_default().insert(*compiler);
            }
        }
        makers
    }

    /// The compilers that may have made a unit, as far as they are known.
    fn of(&self, unit: &Unit) -> Vec<&(bool, String)> {
        let own = unit.entry.and_then(|entry| self.of_entries.get(&entry));
        let ids: Vec<&Digest> = match (own, &unit.maker) {
            (Some(own), _) => vec![own],
            (None, Maker::Hash(hash)) => self.of_hashes.get(hash).into_iter().flatten().collect(),
            (None, Maker::Version(version)) => {
                return self.compilers.values().filter(|(_, known)| known == version).collect();
            }
            (None, Maker::Unknown) => Vec::new(),
        };
        ids.into_iter().filter_map(|id| self.compilers.get(id)).collect()
    }

    /// `None` where no compiler is known that may have made the unit.
    fn is_installed(&self, unit: &Unit) -> Option<bool> {
        let makers = self.of(unit);
        (!makers.is_empty()).then(|| makers.iter().any(|(is_installed, _)| *is_installed))
    }

    fn gone_version(&self, unit: &Unit) -> Option<String> {
        let version = self.of(unit).first().map(|(_, version)| version.clone());
        version.filter(|_| self.is_installed(unit) == Some(false))
    }
}

/// What it takes to have units back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    /// Compiles that the store has the result of.
    pub served: u64,
    /// Compiles that have to be done again.
    pub compiles: u64,
    pub runs: u64,
    /// How long the compiles took of which that is known, in milliseconds; one after the other.
    pub compile_ms: u64,
    /// Compiles of which nothing is known.
    pub untimed: u64,
}

impl Cost {
    pub fn add(&mut self, other: Cost) {
        self.served += other.served;
        self.compiles += other.compiles;
        self.runs += other.runs;
        self.compile_ms += other.compile_ms;
        self.untimed += other.untimed;
    }
}

/// What compiles took, by the package and whether it was its build script: the latest that the journal knows, in
/// milliseconds.
pub struct Durations(HashMap<(String, bool), u64>);

impl Durations {
    pub fn read(settings: &Settings) -> Self {
        let store = settings.cache_dir().ok().and_then(|dir| Store::open_existing(dir).ok());
        let events = store.iter().flat_map(|store| store.events(None));
        let compiled = events.filter(|event| event.times.compile_us > 0);
        let by_package = compiled.map(|event| {
            let of_script = event.kind == "build-script";
            ((event.package, of_script), event.times.compile_us / 1000)
        });
        Self(by_package.collect())
    }
}

impl Census {
    /// What it takes to have units back.
    pub fn cost<'u>(&self, units: impl IntoIterator<Item = &'u Unit>, durations: &Durations) -> Cost {
        let mut cost = Cost::default();
        for unit in units {
            match unit.kind {
                Kind::State => {}
                Kind::Run => cost.runs += 1,
                Kind::Compile | Kind::Script if self.has(unit) => cost.served += 1,
                Kind::Compile | Kind::Script => {
                    cost.compiles += 1;
                    match durations.0.get(&(unit.name.clone(), unit.kind == Kind::Script)) {
                        Some(ms) => cost.compile_ms += ms,
                        None => cost.untimed += 1,
                    }
                }
            }
        }
        cost
    }
}

pub fn cost_json(cost: &Cost) -> Value {
    json!({
        "served": cost.served,
        "compiles": cost.compiles,
        "runs": cost.runs,
        "compile_ms": cost.compile_ms,
        "untimed": cost.untimed,
    })
}

/// Directories that a user has named, absolute; each has to be there.
pub fn existing(dirs: &[PathBuf]) -> Result<Vec<PathBuf>, CliError> {
    let cwd = super::current_dir()?;
    // Without `.` in between.
    let dirs: Vec<PathBuf> = dirs.iter().map(|dir| cwd.join(dir).components().collect()).collect();
    match dirs.iter().find(|dir| !dir.is_dir()) {
        Some(missing) => Err(CliError::usage(format!("{} is not a directory", missing.display()))),
        None => Ok(dirs),
    }
}
