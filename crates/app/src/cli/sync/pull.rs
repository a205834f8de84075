//! From the remote into the store: what a build manifest names, else what the listings of the lockfile's packages have
//! for this compiler, else everything.

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use kache_service::sync::{self, Wanted};
use kache_service::transfer::{BuildPlace, Fetched, Listed};

use super::{Done, Mode, Moved, Sync, Trouble, counted};
use crate::cli::transfers::Meter;
use crate::error::CliError;

/// What is to be pulled.
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
            let (lockfile, compiler) = (workspace.lockfile.digest, compilers.id());
            sync.transfer.find_build(place, &lockfile, &compiler).await.unwrap_or_else(|error| {
                trouble.add(sync.ui, error);
                None
            })
        }
        _ => None,
    };
    if trouble.first.as_ref().is_some_and(sync::is_lasting) {
        trouble.is_over = true;
        return Ok(Done { trouble, moved: Moved::default() });
    }
    let listed = match recorded {
        Some(build) => {
            let named = build.units.iter().filter_map(|unit| {
                let dir = CrateDir::of(&unit.package, &unit.crate_name)?;
                Some(Listed { dir, key: unit.entry_key })
            });
            let named: Vec<_> = named.collect();
            sync.ui.status(&format!(
                "A saved build of this Cargo.lock and compiler needs {} entries.",
                named.len()
            ));
            (named, Vec::new())
        }
        None => list(sync, &mut trouble).await,
    };
    let plan = describe(sync, listed, &mut trouble).await;
    let Plan { bytes, known, absent, .. } = plan;
    let planned = Moved { entries: plan.wanted.len(), bytes, known, absent, ..Moved::default() };
    if trouble.is_over {
        return Ok(Done { trouble, moved: Moved { entries: 0, bytes: 0, ..planned } });
    }
    if sync.mode == Mode::DryRun {
        let (what, there) = (counted(planned.entries, bytes), sync.transfer.remote().address());
        sync.ui.status(&format!("Would pull {what} from {there}; {known} are here already."));
        return Ok(Done { trouble, moved: planned });
    }
    let moved = fetch(sync, plan, &mut trouble).await;
    Ok(Done { trouble, moved })
}

/// What the remote lists for the scope: named by a build, or found.
async fn list(sync: &Sync<'_>, trouble: &mut Trouble) -> (Vec<Listed>, Vec<Listed>) {
    let crates = sync.scope.as_ref().map(|(workspace, _)| {
        let mut dirs: Vec<_> = workspace.lockfile.names().filter_map(|name| CrateDir::of(name, "")).collect();
        dirs.dedup();
        dirs
    });
    let mut meter = Meter::new(sync.ui, "listing", crates.as_ref().map_or(1, Vec::len));
    let ended = sync::list(&sync.transfer, crates, sync.concurrency, |_| meter.step(0)).await;
    meter.end();
    let mut found = Vec::new();
    for (_, result) in ended {
        match result {
            Some(Ok(listed)) => found.extend(listed),
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    (Vec::new(), found)
}

/// Fetches manifests and keeps what is of use here. What a build named needs no such choice.
async fn describe(
    sync: &Sync<'_>,
    (named, found): (Vec<Listed>, Vec<Listed>),
    trouble: &mut Trouble,
) -> Plan {
    let mut plan = Plan { wanted: Vec::new(), bytes: 0, known: 0, absent: 0 };
    if sync.mode == Mode::Really && !named.is_empty() {
        plan.wanted = named.into_iter().map(Wanted::Named).collect();
        return plan;
    }
    let is_named = !named.is_empty();
    let mut here = Vec::new();
    let mut elsewhere = Vec::new();
    for listed in named.into_iter().chain(found) {
        match sync.transfer.has_here(listed.key).await {
            Ok(true) => here.push(listed.key),
            _ => elsewhere.push(listed),
        }
    }
    plan.known = here.len();
    let mut meter = Meter::new(sync.ui, "manifests", elsewhere.len());
    let ended = sync::describe(&sync.transfer, elsewhere, sync.concurrency, |_| meter.step(0)).await;
    meter.end();
    for (listed, result) in ended {
        match result {
            Some(Ok(Some(manifest))) if is_named || is_wanted(sync, &manifest) => {
                plan.bytes += manifest.pack.size;
                plan.wanted.push(Wanted::Described(listed.dir, Box::new(manifest)));
            }
            Some(Ok(Some(_))) => {}
            Some(Ok(None)) => plan.absent += 1,
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    plan
}

/// Whether an entry is for a package of the lockfile and by a compiler that is used here.
fn is_wanted(sync: &Sync<'_>, manifest: &Manifest) -> bool {
    sync.scope.as_ref().is_none_or(|(workspace, compilers)| {
        workspace.lockfile.has(&manifest.package, &manifest.package_version)
            && compilers.accept(&manifest.target, &manifest.toolchain)
    })
}

async fn fetch(sync: &Sync<'_>, plan: Plan, trouble: &mut Trouble) -> Moved {
    let Plan { wanted, mut known, mut absent, .. } = plan;
    let mut meter = Meter::new(sync.ui, "pulling", wanted.len());
    let bytes_of = |fetched: &Fetched| match fetched {
        Fetched::Imported { packed_bytes, .. } => *packed_bytes,
        Fetched::Known | Fetched::Absent => 0,
    };
    let ended = sync::pull(&sync.transfer, wanted, sync.concurrency, |result| {
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
    let there = sync.transfer.remote().address();
    let mut text = format!("Pulled {} from {there}; {known} were here already", counted(keys.len(), bytes));
    if absent > 0 {
        text.push_str(&format!(", {absent} are not in the remote"));
    }
    sync.ui.status(&format!("{text}."));
    Moved { entries: keys.len(), bytes, known, absent, ..Moved::default() }
}
