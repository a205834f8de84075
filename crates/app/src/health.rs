//! Asks a store's daemon how it is. Starts none.

use std::time::Duration;

use kache_core::protocol::{Reply, Request, Status};
use kache_engine::daemon_client::{self, Trouble};
use kache_store::Store;

/// Longest time for the daemon's first word.
pub const PATIENCE: Duration = Duration::from_secs(3);

/// The daemon's own account of itself; `None` when none is running.
pub fn of_daemon(store: &Store) -> Result<Option<Status>, Trouble> {
    match daemon_client::ask(store, &Request::Status, PATIENCE) {
        Ok(Reply::Status(status)) => Ok(Some(*status)),
        Ok(other) => Err(Trouble::Refused(format!("{other:?}"))),
        Err(Trouble::Absent(_)) => Ok(None),
        Err(trouble) => Err(trouble),
    }
}
