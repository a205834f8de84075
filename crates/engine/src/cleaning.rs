//! Starts `kache clean --auto` in the background after a build, where the settings want it. What is removed is decided in the
//! command.

use std::process::Command;

use kache_core::config::{Settings, env};
use kache_store::{Store, sys};

use crate::seed;
use crate::world::Session;

/// Shortest time between two cleanings.
const PAUSE_S: i64 = 3600;

/// Starts a cleaning for the calling Cargo, unless one was started within the last hour.
pub(crate) fn start_if_due(store: &Store, settings: &Settings, session: &Session) {
    if !settings.clean.auto.value || session.project.is_none() || !store.claim_cleaning(PAUSE_S) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let mut command = Command::new(program);
    command.args(["clean", "--auto", &session.id]);
    command.env(env::KACHE_CACHE_DIR, store.root()).env(env::KACHE_CLEAN_AUTO, "1");
    // A project's settings file is not found from where it runs.
    if let Some(file) = &settings.file {
        command.env(env::KACHE_CONFIG, file);
    }
    if let Err(error) = sys::detach_and_spawn(command) {
        tracing::warn!(%error, "target directories are not cleaned");
    }
}

/// Gives this thread the lowest priority, and waits for the Cargo of a session to end.
pub fn stand_back(session: &str) {
    sys::idle_priority();
    seed::wait_for(&Session { id: session.to_owned(), ..Session::default() });
}
