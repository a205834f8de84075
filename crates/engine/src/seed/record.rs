//! Records a snapshot of a build directory after its Cargo has ended: every registry and git unit that is complete,
//! fresh by Cargo's rules, and the result of an entry. Runs in a process of its own; nobody waits for it.
//!
//! Cargo is never made to wait either: the build directory is read without its lock. What the reading could get wrong
//! is checked against what doesn't change: outputs by their digests, dependencies by the digests that the dependent's
//! key was made with, a build script's run by its times before and after.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kache_core::seeding::{self, Unseeded, choose};
use kache_core::snapshot::{Header, SeedUnit, Snapshot};
use kache_store::Store;
use kache_store::fault::{self, Point};
use kache_store::ledger;

use super::fingerprints::{self, Kind};
use super::parent::Parent;
use super::surroundings::Surroundings;
use super::times::newest_ns;
use super::unit::{Case, Found, Reader};
use super::{stamps, target_dir};

/// A snapshot is written again, although nothing in it is new, when it is this old, in seconds: its age keeps it.
const RENEW_S: u64 = 86_400;

/// What recording came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// A snapshot of this many units was written, of which so many are new.
    Written {
        /// Units in it.
        units: usize,
        /// Of which new.
        new: usize,
    },
    /// It would have been the snapshot that is there.
    Unchanged,
    /// Another Cargo is at work there.
    Busy,
    /// There is nothing that could be recorded.
    Nothing,
}

impl std::fmt::Display for Recorded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Recorded::Written { units, new } => write!(f, "recorded {units} units, {new} of them new"),
            Recorded::Unchanged => f.write_str("nothing new to record"),
            Recorded::Busy => f.write_str("another Cargo was at work"),
            Recorded::Nothing => f.write_str("no dependencies to record"),
        }
    }
}

/// Records what `around` has built.
pub fn record(store: &Store, parent: &Parent, around: &Surroundings) -> Result<Recorded, kache_store::Error> {
    let build = &around.dirs.build;
    let profiles = target_dir::profiles(build);
    let is_busy = || profiles.iter().any(|profile| target_dir::is_locked(&build.join(profile)));
    if is_busy() {
        return Ok(Recorded::Busy);
    }
    let earlier = store.snapshot(&around.context, &around.lock())?;
    let known: HashMap<String, &SeedUnit> =
        earlier.iter().flat_map(|snapshot| &snapshot.units).map(|unit| (unit.place(), unit)).collect();
    let reader = Reader { store, around, env: &parent.env, known: &known };
    let mut found = Vec::new();
    for profile in &profiles {
        let ledger = ledger::peek(&build.join(profile));
        for dir in target_dir::folders(&build.join(profile).join(".fingerprint")) {
            let path = build.join(profile).join(".fingerprint").join(&dir);
            if let Some(fingerprint) = fingerprints::read(&path) {
                found.push(Case { profile: profile.clone(), dir, fingerprint, ledger: ledger.clone() });
            }
        }
    }
    let mut read = read_units(&reader, &found);
    check_times(around, &mut read);
    check_externs(&mut read);
    if is_busy() {
        return Ok(Recorded::Busy);
    }
    let mut header = Header::new(around.context, around.lock());
    header.packages = seeding::locked_packages(&around.lockfile);
    header.tools = stamps::tools(parent.env.get("PATH"));
    header.recorded_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let snapshot = assemble(header, read);
    write(store, snapshot, earlier)
}

/// Reads all units: compiles first, since a run's package is known from its script's.
fn read_units(reader: &Reader<'_>, cases: &[Case]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut scripts: HashMap<String, String> = HashMap::new();
    for case in cases.iter().filter(|case| case.fingerprint.kind != Kind::Run) {
        if let Some(unit) = reader.compile(case) {
            if case.fingerprint.kind == Kind::Script {
                scripts.insert(unit.unit.hash.clone(), unit.unit.package_dir.clone());
            }
            found.push(unit);
        }
    }
    let packages: HashMap<String, String> =
        found.iter().map(|unit| (unit.unit.package_dir.clone(), unit.unit.package.clone())).collect();
    for case in cases.iter().filter(|case| case.fingerprint.kind == Kind::Run) {
        // A run whose script isn't there as a unit of a registry or git package is a member's, or incomplete.
        let dir = case.fingerprint.deps.iter().find_map(|hash| scripts.get(hash));
        if let Some((dir, package)) = dir.and_then(|dir| Some((dir, packages.get(dir)?))) {
            found.push(reader.run(case, dir, package));
        }
    }
    found
}

/// Cargo's own comparison of times (`check_filesystem` and `find_stale_file`, 1.95): what it would not take for fresh
/// where it is, is not recorded.
fn check_times(around: &Surroundings, found: &mut [Found]) {
    let immutable = ["git", "registry"].map(|name| Path::new(&around.cargo_home).join(name));
    let times: HashMap<String, (i64, i64, String)> = found
        .iter()
        .map(|unit| (unit.unit.hash.clone(), (unit.newest_ns, unit.metadata_ns, unit.unit.place())))
        .collect();
    for unit in found.iter_mut().filter(|unit| unit.unfit.is_none()) {
        let newer = unit.unit.deps.iter().filter_map(|hash| times.get(hash)).find(|(newest, metadata, _)| {
            let of_dependency = if unit.needs_metadata_only { *metadata } else { *newest };
            of_dependency > unit.newest_ns
        });
        if let Some((_, _, place)) = newer {
            unit.unfit = Some(Unseeded::Stale(format!("{place} is newer")));
            continue;
        }
        for path in unit.watched.iter().map(|path| Path::new(&unit.unit.package_dir).join(path)) {
            let skipped = immutable.iter().any(|dir| path.starts_with(dir));
            if !skipped && newest_ns(&path).is_none_or(|ns| ns > unit.newest_ns) {
                unit.unfit = Some(Unseeded::Stale(format!("{} changed", path.display())));
                break;
            }
        }
    }
}

/// Each compile must have been made with the very files that lie beside it: times say it to Cargo, digests to us.
fn check_externs(found: &mut [Found]) {
    let made: BTreeSet<_> = found.iter().flat_map(|unit| unit.outputs.iter().copied()).collect();
    for unit in found.iter_mut().filter(|unit| unit.unfit.is_none()) {
        if let Some((name, _)) = unit.externs.iter().find(|(_, digest)| !made.contains(digest)) {
            unit.unfit = Some(Unseeded::Stale(format!("it was compiled with another {name}")));
        }
    }
}

/// The snapshot of what is fit and whose dependencies are.
fn assemble(mut header: Header, found: Vec<Found>) -> Snapshot {
    let (units, unfit): (Vec<SeedUnit>, Vec<_>) =
        found.into_iter().map(|unit| (unit.unit, unit.unfit)).unzip();
    let unfit: BTreeMap<String, Unseeded> =
        units.iter().zip(unfit).filter_map(|(unit, why)| Some((unit.place(), why?))).collect();
    let choice = choose(&units, |unit| unfit.get(&unit.place()).cloned());
    header.unfit =
        choice.left_out.iter().map(|(i, why)| why.about(&units[*i].place(), &units[*i].package)).collect();
    let mut units: Vec<Option<SeedUnit>> = units.into_iter().map(Some).collect();
    let mut kept: Vec<SeedUnit> = choice.placed.iter().filter_map(|i| units[*i].take()).collect();
    for unit in &mut kept {
        unit.seen_s = header.recorded_s;
    }
    let dirs: BTreeSet<String> = kept.iter().map(|unit| unit.package_dir.clone()).collect();
    header.sources = stamps::packages(&dirs.into_iter().collect::<Vec<_>>());
    Snapshot { header, units: kept }
}

fn write(
    store: &Store,
    mut snapshot: Snapshot,
    earlier: Option<Snapshot>,
) -> Result<Recorded, kache_store::Error> {
    if snapshot.units.is_empty() {
        return Ok(Recorded::Nothing);
    }
    let is_same =
        |unit: &SeedUnit, other: &SeedUnit| SeedUnit { seen_s: other.seen_s, ..unit.clone() } == *other;
    let known: HashMap<String, &SeedUnit> =
        earlier.iter().flat_map(|snapshot| &snapshot.units).map(|unit| (unit.place(), unit)).collect();
    let new: Vec<_> = snapshot
        .units
        .iter()
        .filter(|unit| !known.get(&unit.place()).is_some_and(|other| is_same(unit, other)))
        .map(SeedUnit::entry)
        .collect();
    if let Some(earlier) = &earlier {
        let age_s = snapshot.header.recorded_s.saturating_sub(earlier.header.recorded_s);
        let same_ground = snapshot.header.tools == earlier.header.tools
            && snapshot.header.unfit == earlier.header.unfit
            && snapshot
                .header
                .sources
                .iter()
                .all(|(dir, stamp)| earlier.header.sources.get(dir) == Some(stamp));
        if new.is_empty() && same_ground && age_s < RENEW_S {
            return Ok(Recorded::Unchanged);
        }
    }
    if let Some(earlier) = earlier {
        snapshot.absorb(earlier);
    }
    // Off the compile path, so that after a power cut nothing has to be read back before it is placed.
    store.make_durable(&new)?;
    fault::point(Point::SnapshotReady);
    store.put_snapshot(&snapshot)?;
    Ok(Recorded::Written { units: snapshot.units.len(), new: new.len() })
}
