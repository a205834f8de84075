//! Records a snapshot of a build directory after its Cargo has ended: every registry and git unit that is complete,
//! fresh by Cargo's rules, and the result of an entry. Runs in a process of its own; nobody waits for it.
//!
//! Cargo is never made to wait either: the build directory is read without its lock. What the reading could get wrong
//! is checked against what doesn't change: outputs by their digests, dependencies by the digests that the dependent's
//! key was made with, a build script's run by its times before and after.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use kache_core::cargo::layout::Layout;
use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::seed_unit::SeedUnit;
use kache_core::seeding::{self, Unseeded, choose};
use kache_core::snapshot::{Header, Snapshot};
use kache_store::Store;
use kache_store::cargo_locks;
use kache_store::clock::since_1970;
use kache_store::fault::{self, Point};
use kache_store::ledger;

use super::fingerprints::{self, Kind};
use super::parent::Parent;
use super::surroundings::Surroundings;
use super::target_dir;
use super::unit::{Case, Found, Reader, Script};
use crate::inputs::Observer;
use crate::times::newest_ns;

/// A snapshot is written again, although nothing in it is new, when it is this old, in seconds: its age keeps it.
const RENEW_S: u64 = 86_400;

/// How far the start of a process may be off, in nanoseconds.
const START_NS: i64 = 50_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// While its Cargo works: what is complete by then.
    DuringBuild,
    /// Once its Cargo has ended.
    AfterBuild,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Recorded {
    /// A snapshot was written; `left_out` has the units that are not in it, by reason.
    #[error("recorded {units} units, {new} of them new{}", listed(.left_out))]
    Written { units: usize, new: usize, left_out: BTreeMap<String, usize> },
    /// It would have been the snapshot that is there.
    #[error("nothing new to record")]
    Unchanged,
    #[error("another Cargo was at work")]
    Busy,
    #[error("no dependencies to record")]
    Nothing,
    #[error("none of {units} fingerprints is understood: this Cargo writes them in another form")]
    NotUnderstood { units: usize },
}

fn listed(left_out: &BTreeMap<String, usize>) -> String {
    left_out.iter().map(|(code, count)| format!(", left out {count} {code}")).collect()
}

/// Records what `around` has built in the layout of its Cargo; `when` says whether that Cargo has ended.
pub fn record(
    store: &Store,
    parent: &Parent,
    around: &Surroundings,
    (layout, when): (Layout, When),
) -> Result<Recorded, kache_store::Error> {
    let build = &around.dirs.build;
    let profiles = target_dir::profiles(build);
    let is_busy = || {
        when == When::AfterBuild && profiles.iter().any(|profile| cargo_locks::is_held(&build.join(profile)))
    };
    if is_busy() {
        return Ok(Recorded::Busy);
    }
    let locked = seeding::locked_packages(&around.lockfile);
    let mut earlier = super::nearest(store, &around.context, &around.lockfile);
    if let Some(earlier) = &mut earlier {
        // Of another lockfile's, what this one names too: its units may be what lies here, made by an earlier Cargo.
        earlier.units.retain(|unit| locked.get(&unit.package) == Some(&unit.locked));
    }
    let known: HashMap<String, &SeedUnit> =
        earlier.iter().flat_map(|snapshot| &snapshot.units).map(|unit| (unit.place(), unit)).collect();
    let reader = Reader {
        store,
        around,
        env: &parent.seen,
        observer: Observer::new(store, &parent.seen, &around.key_roots),
        locked: &locked,
        since_ns: parent.started_ns.saturating_sub(START_NS),
        sources: RefCell::default(),
        known: &known,
    };
    let (found, skipped) = cases(build, &profiles, layout);
    if found.is_empty() && skipped > 0 {
        return Ok(Recorded::NotUnderstood { units: skipped });
    }
    let mut read = read_units(&reader, &found);
    check_times(around, &mut read);
    check_externs(&mut read);
    check_unmoved(build, &mut read);
    if is_busy() {
        return Ok(Recorded::Busy);
    }
    pin(&mut read);
    let mut header = Header::new(around.context, around.lock());
    header.compiler = Some(around.toolchain);
    header.cargo_home.clone_from(&around.cargo_home);
    header.packages = locked.into_keys().collect();
    header.recorded_s = since_1970().as_secs();
    let snapshot = assemble(header, read);
    write(store, snapshot, earlier)
}

/// The units whose fingerprints are understood, and how many fingerprints of libraries and build scripts aren't.
fn cases(build: &Path, profiles: &[String], layout: Layout) -> (Vec<Case>, usize) {
    let (mut found, mut skipped) = (Vec::new(), 0);
    for profile in profiles {
        let ledger = ledger::peek(&build.join(profile));
        for dir in target_dir::units(&build.join(profile), layout) {
            let path = build.join(profile).join(dir.fingerprint());
            match fingerprints::read(&path) {
                Some(fingerprint) => {
                    found.push(Case { profile: profile.clone(), dir, fingerprint, ledger: ledger.clone() });
                }
                None => skipped += usize::from(fingerprints::is_of_a_kind_that_is_seeded(&path)),
            }
        }
    }
    (found, skipped)
}

/// Reads all units: compiles first, since a run's package is known from its script's.
fn read_units(reader: &Reader<'_>, cases: &[Case]) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut scripts: HashMap<String, Script> = HashMap::new();
    for case in cases.iter().filter(|case| case.fingerprint.kind != Kind::Run) {
        if let Some(read) = reader.compile(case) {
            if let (Kind::Script, Some(program)) = (case.fingerprint.kind, read.outputs.first()) {
                let SeedUnit { package, package_dir, hash, .. } = read.unit.clone();
                scripts.insert(hash, Script { package, package_dir, program: *program });
            }
            found.push(read);
        }
    }
    for case in cases.iter().filter(|case| case.fingerprint.kind == Kind::Run) {
        // A run whose script isn't there as a unit of a registry or git package is a member's, or incomplete.
        if let Some(script) = case.fingerprint.deps.iter().find_map(|hash| scripts.get(hash)) {
            found.push(reader.run(case, script));
        }
    }
    found
}

/// What was made again since reading it began is of two states: the file with its hash tells.
fn check_unmoved(build: &Path, found: &mut [Found]) {
    for unit in found.iter_mut().filter(|unit| unit.unfit.is_none()) {
        let dir = build.join(&unit.unit.profile).join(unit.unit.dir.fingerprint());
        if fingerprints::stamp(&dir, &unit.unit.name) != Some(unit.stamp) {
            unit.unfit = Some(Unseeded::Stale("it was made again meanwhile".to_owned()));
        }
    }
}

/// Notes with each unit what its dependencies are, beyond what Cargo's hashes say.
fn pin(found: &mut [Found]) {
    let mut places: HashMap<String, Vec<(String, EntryKey)>> = HashMap::new();
    for unit in found.iter() {
        places.entry(unit.unit.hash.clone()).or_default().push((unit.unit.place(), unit.unit.entry()));
    }
    for dep in found.iter_mut().flat_map(|unit| &mut unit.unit.deps) {
        dep.pins = places.get(&dep.hash).cloned().unwrap_or_default();
        dep.pins.sort();
    }
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
        let newer =
            unit.unit.deps.iter().filter_map(|dep| times.get(&dep.hash)).find(|(newest, metadata, _)| {
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

/// Each compile must have been made with the very files that its dependencies are: times say it to Cargo, digests to us.
fn check_externs(found: &mut [Found]) {
    let mut made: HashMap<String, BTreeSet<Digest>> = HashMap::new();
    for unit in found.iter() {
        made.entry(unit.unit.hash.clone()).or_default().extend(&unit.outputs);
    }
    for unit in found.iter_mut().filter(|unit| unit.unfit.is_none()) {
        let deps: Vec<&BTreeSet<Digest>> =
            unit.unit.deps.iter().filter_map(|dep| made.get(&dep.hash)).collect();
        let is_there = |digest: &Digest| deps.iter().any(|made| made.contains(digest));
        if let Some((name, _)) = unit.externs.iter().find(|(_, digest)| !is_there(digest)) {
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
    let is_known = |unit: &&SeedUnit| known.get(&unit.place()).is_some_and(|other| is_same(unit, other));
    let new = snapshot.units.iter().filter(|unit| !is_known(unit)).count();
    if let Some(earlier) = earlier.as_ref().filter(|earlier| earlier.header.lock == snapshot.header.lock) {
        let age_s = snapshot.header.recorded_s.saturating_sub(earlier.header.recorded_s);
        if new == 0 && snapshot.header.unfit == earlier.header.unfit && age_s < RENEW_S {
            return Ok(Recorded::Unchanged);
        }
    }
    let mut left_out = BTreeMap::new();
    for unfit in &snapshot.header.unfit {
        *left_out.entry(unfit.code.clone()).or_default() += 1;
    }
    if let Some(earlier) = earlier {
        snapshot.absorb(earlier);
    }
    fault::point(Point::SnapshotReady);
    store.put_snapshot(&snapshot)?;
    Ok(Recorded::Written { units: snapshot.units.len(), new, left_out })
}
