//! `kache clean --auto`: what goes by itself after a build. Only of directories that kache has served, only what the settings
//! name, and only what comes back without a compile; of the rest the receipt says how much it is.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::config::Clean;
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Output};
use kache_core::tree::NodeKind;
use kache_engine::cleaning;
use kache_store::Store;
use kache_store::blobs::BlobState;
use kache_store::footprint::Footprint;
use kache_store::hashing::DigestMemo;
use kache_store::lock::Locking;
use kache_store::receipts::Receipt;
use walkdir::WalkDir;

use super::plan::{Removal, What};
use super::with_receipt;
use crate::cli::census::find::Programs;
use crate::cli::census::units::{Kind, Unit, Use};
use crate::cli::census::{Census, Durations, Scope, Target};
use crate::cli::now_ms;
use crate::error::{Outcome, Status};
use crate::ui::Ui;

/// For lack of room nothing goes that was used within this time, in seconds.
const RECENT_S: i64 = 86_400;
/// What Cargo and kache write beside units.
const BOOKKEEPING: [&str; 6] = [
    "CACHEDIR.TAG",
    ".rustc_info.json",
    ".cargo-lock",
    ".cargo-build-lock",
    ".cargo-artifact-lock",
    ".gitignore",
];

/// Which units a rule names, and what the rule is called.
type Rule<'r> = (String, Box<dyn Fn(&Unit) -> bool + 'r>);

pub fn run(session: &str, ui: &Ui) -> Outcome {
    cleaning::stand_back(session);
    let (settings, _) = crate::settings::load(None)?;
    let store = Store::open_existing(settings.cache_dir()?)?;
    let rules = &settings.clean;
    let Locking::Locked(_lock) = store.lock_cleaning()? else { return Ok(Status::Done) };
    if !rules.auto.value {
        return Ok(Status::Done);
    }
    let census = Census::take(&settings, Scope::ServedAnd(&[]), ui)?;
    let durations = Durations::read(&settings);
    let now_s = i64::try_from(now_ms() / 1000).unwrap_or(i64::MAX);
    let programs = Programs::running();
    let mut targets: Vec<&Target> =
        census.targets.iter().filter(|target| target.found.busy.is_none()).collect();
    targets.sort_by_key(|target| target.used_s);
    for target in targets {
        let Some((why, names)) = rule(rules, target, now_s) else { continue };
        let Some((what, stay)) = choose((&store, &census), target, names) else { continue };
        let footprint = match &what {
            What::Whole => target.footprint.clone(),
            What::Units(units) => Footprint::of_all(units.iter().flat_map(Unit::paths), &census.blobs)?,
        };
        let cost = census.cost(&target.units, &durations);
        let receipt = Receipt { auto: true, stay, ..Receipt::begin(target.found.path.clone(), why) };
        with_receipt(Some(&store), receipt, &Removal { target, what, footprint, cost }, &programs)?;
    }
    Ok(Status::Done)
}

/// The first rule that a directory falls under.
fn rule<'r>(rules: &'r Clean, target: &Target, now_s: i64) -> Option<Rule<'r>> {
    let seconds = |age: Duration| i64::try_from(age.as_secs()).unwrap_or(i64::MAX);
    // Without a known last use nothing is old.
    let unused_s = now_s.saturating_sub(target.used_s?);
    if target.is_orphaned() && unused_s > seconds(*rules.orphaned_after) {
        return Some(("project gone".to_owned(), Box::new(|_| true)));
    }
    let floor = rules.free_bytes_min.as_ref().map_or(0, |free| free.value);
    if unused_s > RECENT_S && free_bytes(&target.found.path).is_some_and(|free| free < floor) {
        return Some(("disk nearly full".to_owned(), Box::new(|_| true)));
    }
    let max_s = seconds(*rules.unused_for);
    let is_old =
        move |unit: &Unit| matches!(unit.used, Use::At(used_s) if now_s.saturating_sub(used_s) > max_s);
    let why = format!("unused for {}", kache_core::quantity::format_duration(*rules.unused_for));
    Some((why, Box::new(is_old)))
}

fn free_bytes(dir: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(dir).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What goes of a directory, and how many units stay that the rule names: each has to be compiled to have it, or something
/// that depends on it would be compiled again. `None` where nothing goes.
fn choose(
    (store, census): (&Store, &Census),
    target: &Target,
    names: impl Fn(&Unit) -> bool,
) -> Option<(What, u64)> {
    let named: Vec<usize> = (0..target.units.len()).filter(|at| names(&target.units[*at])).collect();
    if named.is_empty() {
        return None;
    }
    let comes_back: Vec<bool> = target.units.iter().map(|unit| comes_back(store, census, unit)).collect();
    let needed = needed(&target.units, &comes_back)?;
    let goes = |at: &&usize| comes_back[**at] && !needed.contains(*at);
    let units: Vec<Unit> = named.iter().filter(goes).map(|at| target.units[*at].clone()).collect();
    let stay = (named.len() - units.len()) as u64;
    if units.is_empty() {
        return None;
    }
    let is_all = units.len() == target.units.len() && holds_nothing_else(&target.found.path, &units);
    Some((if is_all { What::Whole } else { What::Units(units) }, stay))
}

/// Whether no compile is needed to have a unit again: all that its entry holds is in the store, and is what the unit has. A
/// build without the cache leaves no word that it has made something else.
fn comes_back(store: &Store, census: &Census, unit: &Unit) -> bool {
    if unit.kind == Kind::State || unit.used == Use::Broken {
        return true;
    }
    let entry = unit.entry.filter(|_| census.has(unit)).and_then(|key| store.peek_entry(&key).ok().flatten());
    let Some(entry) = entry else { return false };
    let is_there = |output: &Output| {
        store.check_blob(output).is_ok_and(|state| matches!(state, BlobState::Present | BlobState::OtherMode))
    };
    // What is missing Cargo makes again, and it comes from the store.
    let is_same = |(path, digest): (PathBuf, Digest)| {
        DigestMemo::new(store).digest(&path).is_ok_and(|found| found.is_none_or(|found| found == digest))
    };
    entry.outputs.iter().all(is_there) && contents(unit, &entry).into_iter().all(is_same)
}

/// Files of a unit, and what is in them according to its entry.
fn contents(unit: &Unit, entry: &Entry) -> Vec<(PathBuf, Digest)> {
    let mut found = Vec::new();
    for path in unit.paths() {
        if unit.kind == Kind::Run {
            let out_dir = if path.ends_with("out") { path.to_owned() } else { path.join("out") };
            found.extend(entry.tree.iter().filter_map(|node| match &node.kind {
                NodeKind::File { blob, tokens: false, .. } => Some((out_dir.join(&node.path), *blob)),
                _ => None,
            }));
        } else {
            let is_dir = path.is_dir();
            let named = entry.outputs.iter().filter(|output| is_dir || path.ends_with(&output.name));
            let whole = |name: &str| if is_dir { path.join(name) } else { path.to_owned() };
            found.extend(named.map(|output| (whole(&output.name), output.digest)));
        }
    }
    found
}

/// Positions of units that something depends on which doesn't come back without a compile: if they are made again, Cargo
/// makes that again as well. `None` where dependencies can't be told.
fn needed(units: &[Unit], comes_back: &[bool]) -> Option<HashSet<usize>> {
    let edges: Option<Vec<_>> = units.iter().map(Unit::edges).collect();
    let edges = edges?;
    let mut of_hash: HashMap<&str, Vec<usize>> = HashMap::new();
    for (at, edge) in edges.iter().enumerate().flat_map(|(at, all)| all.iter().map(move |edge| (at, edge))) {
        of_hash.entry(&edge.hash).or_default().push(at);
    }
    let mut waiting: Vec<usize> = (0..units.len()).filter(|at| !comes_back[*at]).collect();
    let mut needed = HashSet::new();
    while let Some(at) = waiting.pop() {
        let deps = edges[at].iter().flat_map(|edge| &edge.deps);
        for dep in deps.filter_map(|hash| of_hash.get(hash.as_str())).flatten() {
            if needed.insert(*dep) {
                waiting.push(*dep);
            }
        }
    }
    Some(needed)
}

/// Whether all that is in a directory belongs to these units, is another name of their files, or is what Cargo and kache
/// write beside units: documentation and whatever users put there doesn't come back.
fn holds_nothing_else(dir: &Path, units: &[Unit]) -> bool {
    let paths: HashSet<&Path> = units.iter().flat_map(Unit::paths).collect();
    let inode = |path: &Path| fs::symlink_metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let files =
        |dir: &Path| WalkDir::new(dir).into_iter().flatten().filter(|item| !item.file_type().is_dir());
    let own: HashSet<_> =
        paths.iter().flat_map(|path| files(path)).filter_map(|item| inode(item.path())).collect();
    let is_known = |path: &Path| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        BOOKKEEPING.contains(&name)
            || name.ends_with(".d")
            || path.ancestors().any(|above| paths.contains(above) || above.ends_with(".kache"))
            || inode(path).is_some_and(|inode| own.contains(&inode))
    };
    files(dir).all(|item| is_known(item.path()))
}
