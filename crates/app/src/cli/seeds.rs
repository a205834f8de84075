//! Snapshots that are shared: `kache save-manifest` publishes those of the workspace's lockfile, `kache sync --pull` takes
//! them over. What a snapshot is worth, each machine decides for itself when it places it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use kache_core::config::Settings;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::shared::About;
use kache_core::seed_unit::SeedUnit;
use kache_core::seeding::{Unseeded, choose};
use kache_core::snapshot::Snapshot;
use kache_engine::seed;
use kache_service::setup::Level;
use kache_service::sync::{self, Pushing};
use kache_service::transfer::{BuildPlace, Listed, Pushed, Saved, Transfer, missing_entries};

use super::transfers::{self, Meter};
use super::workspace::{Compilers, Workspace};
use crate::error::CliError;
use crate::ui::Ui;

/// How long recorders are waited for: one takes seconds.
const RECORDERS_WAIT: Duration = Duration::from_secs(60);

/// What the workspace's snapshots are about; `None` where there can be none.
pub fn about(
    settings: &Settings,
    place: &BuildPlace,
    workspace: &Workspace,
    compilers: &Compilers<'_>,
) -> Option<About> {
    let lockfile = workspace.lockfile.as_ref().filter(|_| settings.seed.value)?.digest;
    let (manifest_key, compiler) = (place.manifest_key.clone(), compilers.id());
    Some(About { manifest_key, lockfile, compiler, cargo_home: seed::cargo_home()? })
}

/// Publishes what builds with this lockfile have left, as far as it may leave this machine: entries of build scripts'
/// runs, which no build asks for, and then the snapshots. Entries of compiles are `kache sync --push`'s business.
pub async fn save(level: &Level, concurrency: usize, about: &About, ui: &Ui) -> Result<(), CliError> {
    let Level { transfer, remote } = level;
    if !seed::wait_for_recorders(transfer.store(), RECORDERS_WAIT) {
        ui.warn("what the latest build left is still being recorded; only what was recorded before is saved");
    }
    let failed = |error| transfers::failure("what the dependencies left can't be saved", &error, remote);
    let mut snapshots = Vec::new();
    for snapshot in transfer.store().snapshots_of(&about.lockfile) {
        if about.is_of(&snapshot) {
            let snapshot = transfer.shareable(snapshot).await.map_err(failed)?;
            snapshots.extend(Some(snapshot).filter(|snapshot| !snapshot.units.is_empty()));
        }
    }
    if snapshots.is_empty() {
        return Ok(());
    }
    let runs: BTreeSet<_> = snapshots
        .iter()
        .flat_map(|snapshot| &snapshot.units)
        .filter(|unit| unit.is_run())
        .map(|unit| unit.entry())
        .collect();
    let mut meter = Meter::new(ui, "pushing", runs.len());
    let runs = runs.into_iter().collect();
    let ended = sync::push(transfer, runs, concurrency, Pushing::Really, |result| {
        meter.step(match result {
            Ok(Pushed::Uploaded(bytes)) => *bytes,
            _ => 0,
        });
    })
    .await;
    meter.end();
    for (_, result) in ended {
        result.transpose().map_err(failed)?;
    }
    let count = count(&snapshots);
    match transfer.save_snapshots(about, snapshots).await.map_err(failed)? {
        Saved::Here(name) => ui.status(&format!("Saved what {count} units of dependencies left as {name}.")),
        Saved::Signed => ui.warn(
            "what others have saved of the dependencies is signed, and this machine has no signing key \
             (`cache.remote.signing_key`): it stays as it is",
        ),
        Saved::Newer => ui.warn("a newer kache has saved what the dependencies left: it stays as it is"),
        Saved::TooLarge => ui.warn("what the dependencies left is more than one object may hold"),
    }
    Ok(())
}

pub fn count(snapshots: &[Snapshot]) -> usize {
    snapshots.iter().map(|snapshot| snapshot.units.len()).sum()
}

/// Entries that are wanted for snapshots, without those that the store has.
pub fn wanted(transfer: &Transfer, snapshots: &[Snapshot]) -> Vec<Listed> {
    let missing = missing_entries(transfer.store(), snapshots).into_iter();
    missing.filter_map(|(package, key)| Some(Listed { dir: CrateDir::of(package, "")?, key })).collect()
}

/// Takes snapshots over, and says what they are good for; how many units of them have all results here.
pub async fn take(
    Level { transfer, remote }: &Level,
    snapshots: Vec<Snapshot>,
    ui: &Ui,
) -> Result<usize, CliError> {
    let mut joined = Vec::new();
    for snapshot in snapshots {
        let taken = transfer.take_snapshot(snapshot).await;
        joined.push(
            taken.map_err(|error| transfers::failure("a snapshot can't be taken over", &error, remote))?,
        );
    }
    // What rests on a unit that can't be placed can't either.
    let lacks_entry = |unit: &SeedUnit| !transfer.store().has_entry(&unit.entry());
    let lacks_sources = |unit: &SeedUnit| !Path::new(&unit.package_dir).is_dir();
    let placeable = |is_out: &dyn Fn(&SeedUnit) -> bool| -> usize {
        let judge = |unit: &SeedUnit| is_out(unit).then_some(Unseeded::EntryGone);
        joined.iter().map(|snapshot| choose(&snapshot.units, judge).placed.len()).sum()
    };
    let ready = placeable(&|unit| lacks_entry(unit) || lacks_sources(unit));
    let stored = placeable(&lacks_entry);
    ui.status(&format!(
        "A fresh target directory will have {ready} units of dependencies in place before Cargo looks."
    ));
    if stored > ready {
        ui.status(&format!(
            "{} more follow once their packages' sources are here: `cargo fetch --locked`.",
            stored - ready
        ));
    }
    let lost = count(&joined) - stored;
    if lost > 0 {
        ui.status(&format!("{lost} stay out: results that they need are neither here nor in the remote."));
    }
    Ok(stored)
}
