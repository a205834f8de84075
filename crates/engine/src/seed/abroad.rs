//! Asks the daemon for the snapshot of a lockfile that this machine knows none of: another machine may have saved one.
//! Decides when that is worth a question; what the daemon brings is judged like everything else in the store.

use std::time::Duration;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::protocol::Seed;
use kache_core::remote::shared::About;
use kache_core::seeding::locked_packages;
use kache_store::Store;

use super::parent::Parent;
use super::surroundings;
use crate::daemon_client::Daemon;
use crate::toolchain::Toolchain;
use crate::world::Session;

/// How long a snapshot is waited for that is on its way when Cargo asks again. The daemon has its own bounds.
const PATIENCE: Duration = Duration::from_secs(15);

/// Has the daemon bring the snapshot of the lockfile where it most probably is. The first question only has it begin;
/// later ones wait a while for what is on its way, but not where another lockfile's snapshot can be placed at once.
pub fn send_for(
    store: &Store,
    settings: &Settings,
    session: &Session,
    parent: &Parent,
    identity: &(Digest, Toolchain),
) {
    if let Some(daemon) = Daemon::of(store, settings)
        && let Some(wanted) = wanted(&daemon, store, session, parent, identity)
    {
        daemon.seed(wanted);
    }
}

/// The question; `None` where it isn't worth one.
fn wanted(
    daemon: &Daemon<'_>,
    store: &Store,
    session: &Session,
    parent: &Parent,
    (context, toolchain): &(Digest, Toolchain),
) -> Option<Seed> {
    let workspace = parent.probable_workspace()?;
    let text = surroundings::lockfile(workspace)?;
    let lockfile = Digest::of(text.as_bytes());
    // Of packages of the workspace alone there is no snapshot.
    let is_worth_it = || locked_packages(&text).values().any(|source| !source.is_empty());
    if store.has_snapshot(context, &lockfile) || !is_worth_it() {
        return None;
    }
    let has_another = !store.snapshot_locks(context).is_empty();
    let patience = if has_another { Duration::ZERO } else { PATIENCE };
    let about = About {
        manifest_key: toolchain.host.parse().ok()?,
        lockfile,
        compiler: toolchain.id,
        cargo_home: parent.cargo_home()?,
    };
    Some(Seed {
        remote: *daemon.remote(),
        about,
        context: *context,
        dir: workspace.to_str()?.to_owned(),
        session: session.id.clone(),
        patience_ms: u64::try_from(patience.as_millis()).unwrap_or(u64::MAX),
        ambient: daemon.ambient(),
    })
}
