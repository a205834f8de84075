//! From the remote into the store: what a build manifest names, else what the listings of the lockfile's packages have
//! for this compiler, else everything.

use std::collections::BTreeSet;

use kache_core::key::EntryKey;
use kache_core::remote::build::Build;
use kache_core::remote::fit::{Offer, Wanted as Candidate};
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use kache_core::snapshot::Snapshot;
use kache_service::sync::{self, Described, Wanted};
use kache_service::transfer::{BuildPlace, Fetched, Listed};

use super::{Done, Mode, Moved, Sync, Trouble, counted, entries};
use crate::cli::seeds;
use crate::cli::transfers::Meter;
use crate::error::CliError;

#[derive(Default)]
struct Plan {
    wanted: Vec<Wanted>,
    /// Bytes of the packs, as far as their manifests are known.
    bytes: u64,
    /// How many of what was found are in the store.
    known: usize,
    /// How many of what was named the remote doesn't have.
    absent: usize,
}

pub async fn run(sync: &Sync<'_>, place: Option<&BuildPlace>) -> Result<Done, CliError> {
    let mut trouble = Trouble::default();
    let recorded = match (place, &sync.scope) {
        (Some(place), Some((workspace, compilers))) => {
            let (lockfile, compiler) = (workspace.lock_digest(), compilers.id());
            sync.level.transfer.find_build(place, &lockfile, &compiler).await.unwrap_or_else(|error| {
                trouble.add(sync.ui, error);
                None
            })
        }
        _ => None,
    };
    if trouble.first.as_ref().is_some_and(sync::is_lasting) {
        trouble.is_over = true;
        return Ok(Done { trouble, ..Done::default() });
    }
    let snapshots = snapshots(sync, place, &mut trouble).await;
    let mut plan = match recorded {
        Some(build) => {
            let named = named(sync, &build);
            let count = entries(named.len());
            sync.ui.status(&format!("A saved build of this Cargo.lock and compiler needs {count}."));
            if sync.mode == Mode::Really {
                Plan { wanted: named.into_iter().map(Wanted::Named).collect(), ..Plan::default() }
            } else {
                describe(sync, named, &mut trouble, |manifest| is_wanted(sync, manifest)).await
            }
        }
        None => {
            let found = list(sync, &mut trouble).await?;
            describe(sync, found, &mut trouble, |manifest| is_wanted(sync, manifest)).await
        }
    };
    add_entries(sync, &mut plan, &snapshots, &mut trouble).await;
    let Plan { bytes, known, absent, .. } = plan;
    let snapshot_units = seeds::count(&snapshots);
    let planned =
        Moved { entries: plan.wanted.len(), bytes, known, absent, snapshot_units, ..Moved::default() };
    if trouble.is_over {
        let moved = Moved { entries: 0, bytes: 0, snapshot_units: 0, ..planned };
        return Ok(Done { trouble, moved, ..Done::default() });
    }
    if sync.mode == Mode::DryRun {
        let (what, there) = (counted(planned.entries, bytes), &sync.there());
        sync.ui.status(&format!("Would pull {what} from {there}; {known} are here already."));
        if snapshot_units > 0 {
            sync.ui.status(&format!(
                "Would take over {snapshot_units} units of dependencies for fresh target directories."
            ));
        }
        return Ok(Done { trouble, moved: planned, ..Done::default() });
    }
    let (mut moved, keys) = fetch(sync, plan, &mut trouble).await;
    if !snapshots.is_empty() {
        moved.snapshot_units = seeds::take(&sync.level, snapshots, sync.ui).await?;
    }
    Ok(Done { trouble, moved, keys })
}

/// What machines have saved of the dependencies of this very build.
async fn snapshots(sync: &Sync<'_>, place: Option<&BuildPlace>, trouble: &mut Trouble) -> Vec<Snapshot> {
    let (Some(about), Some((workspace, _))) = (sync.about(place), &sync.scope) else { return Vec::new() };
    let Some(lockfile) = &workspace.lockfile else { return Vec::new() };
    sync.level.transfer.find_snapshots_for(&about, lockfile).await.unwrap_or_else(|error| {
        trouble.add(sync.ui, error);
        Vec::new()
    })
}

/// Adds the entries that snapshots need to a plan. Among them are results of build scripts, which no compiler made.
async fn add_entries(sync: &Sync<'_>, plan: &mut Plan, snapshots: &[Snapshot], trouble: &mut Trouble) {
    let planned: BTreeSet<EntryKey> = plan.wanted.iter().map(Wanted::key).collect();
    let mut more = seeds::wanted(&sync.level.transfer, snapshots);
    more.retain(|listed| !planned.contains(&listed.key));
    if sync.mode == Mode::Really {
        plan.wanted.extend(more.into_iter().map(Wanted::Named));
        return;
    }
    let more = describe(sync, more, trouble, |_| true).await;
    plan.wanted.extend(more.wanted);
    plan.bytes += more.bytes;
    plan.known += more.known;
    plan.absent += more.absent;
}

/// What a build needed, as far as it is for the compilers in use here.
fn named(sync: &Sync<'_>, build: &Build) -> Vec<Listed> {
    let units = build.units.iter().filter(|unit| is_wanted(sync, *unit));
    let listed = |dir, key| Listed { dir, key };
    let listed =
        units.filter_map(|unit| Some(listed(CrateDir::of(&unit.package, &unit.crate_name)?, unit.entry_key)));
    listed.collect()
}

/// What the remote lists for the scope.
async fn list(sync: &Sync<'_>, trouble: &mut Trouble) -> Result<Vec<Listed>, CliError> {
    if !sync.level.transfer.can_list() {
        sync.ui.warn(
            "there is no saved build of this Cargo.lock and compiler, and a web server doesn't say what else it has; \
             `kache save-manifest` after a build saves one",
        );
        return Ok(Vec::new());
    }
    let crates = match &sync.scope {
        None => None,
        Some((workspace, _)) => {
            let Some(lockfile) = &workspace.lockfile else {
                let what = format!("there is no Cargo.lock in {} or above it", workspace.root.display());
                return Err(CliError::failure(what).hint(
                    "`cargo generate-lockfile` makes one; `--manifest-path` names another workspace; `--all` \
                     needs none",
                ));
            };
            let mut dirs: Vec<_> = lockfile.names().filter_map(|name| CrateDir::of(name, "")).collect();
            dirs.dedup();
            Some(dirs)
        }
    };
    let mut meter = Meter::new(sync.ui, "listing", crates.as_ref().map_or(1, Vec::len));
    let ended = sync::list(&sync.level.transfer, crates, sync.concurrency, |_| meter.step(0)).await;
    meter.end();
    let mut found = Vec::new();
    for (_, result) in ended {
        match result {
            Some(Ok(listed)) => found.extend(listed),
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    Ok(found)
}

/// Fetches manifests of what isn't here and keeps what is of use here.
async fn describe(
    sync: &Sync<'_>,
    listed: Vec<Listed>,
    trouble: &mut Trouble,
    is_of_use: impl Fn(&Manifest) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let mut meter = Meter::new(sync.ui, "manifests", listed.len());
    let ended = sync::describe(&sync.level.transfer, listed, sync.concurrency, |_| meter.step(0)).await;
    meter.end();
    for (listed, result) in ended {
        match result {
            Some(Ok(Described::There(manifest))) => {
                if is_of_use(&manifest) {
                    plan.bytes += manifest.pack.size;
                    plan.wanted.push(Wanted::Described(listed.dir, manifest));
                }
            }
            Some(Ok(Described::Here)) => plan.known += 1,
            Some(Ok(Described::Absent)) => plan.absent += 1,
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    plan
}

/// Whether an entry is for a package of the lockfile and by a compiler that is used here. Which profiles will be built,
/// nobody knows yet.
fn is_wanted<'o>(sync: &Sync<'_>, offer: impl Into<Offer<'o>>) -> bool {
    sync.scope.as_ref().is_none_or(|(workspace, compilers)| {
        let candidate = Candidate {
            has_package: &|package, version| workspace.has_package(package, version),
            uses_compiler: &|target, compiler| compilers.accept(target, compiler),
        };
        candidate.takes(offer)
    })
}

async fn fetch(sync: &Sync<'_>, plan: Plan, trouble: &mut Trouble) -> (Moved, Vec<EntryKey>) {
    let Plan { wanted, mut known, mut absent, .. } = plan;
    let mut meter = Meter::new(sync.ui, "pulling", wanted.len());
    let bytes_of = |fetched: &Fetched| match fetched {
        Fetched::Imported { packed_bytes, .. } => *packed_bytes,
        Fetched::Known | Fetched::Absent => 0,
    };
    let ended = sync::pull(&sync.level.transfer, wanted, sync.concurrency, |result| {
        meter.step(result.as_ref().map_or(0, bytes_of));
    })
    .await;
    meter.end();
    let (mut keys, mut bytes): (Vec<EntryKey>, u64) = (Vec::new(), 0);
    for (wanted, result) in ended {
        match result {
            Some(Ok(fetched @ Fetched::Imported { .. })) => {
                bytes += bytes_of(&fetched);
                keys.push(wanted.key());
            }
            Some(Ok(Fetched::Known)) => known += 1,
            Some(Ok(Fetched::Absent)) => absent += 1,
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    // Written out once for all, so that none has to be read back after a power cut.
    if let Err(error) = sync.store.make_durable(&keys) {
        sync.ui.warn(&error.to_string());
    }
    let there = &sync.there();
    let mut text = format!("Pulled {} from {there}; {known} were here already", counted(keys.len(), bytes));
    if absent > 0 {
        text.push_str(&format!(", {absent} are not in the remote"));
    }
    sync.ui.status(&format!("{text}."));
    let unwitnessed = sync.level.transfer.unwitnessed();
    if unwitnessed > 0 {
        sync.ui.status(&format!(
            "{unwitnessed} are in the remote with fewer signatures than `cache.remote.witnesses` asks for: `kache verify \
             --attest` on another machine adds them."
        ));
    }
    (Moved { entries: keys.len(), bytes, known, absent, ..Moved::default() }, keys)
}
