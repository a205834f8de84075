//! The right to make a unit's result, which one process has at a time. Knows nothing of what is made.

use std::time::{Duration, Instant};

use kache_core::event::Event;
use kache_core::key::UnitKey;
use kache_store::Store;
use kache_store::lock::{Lock, Locking};

use crate::report;

/// Longest wait for another process that makes the same; then both do.
const WAIT_MAX: Duration = Duration::from_secs(600);

/// Takes the right; `true` when another process had it meanwhile, so that another look pays.
pub fn take(store: &Store, key: &UnitKey, event: &mut Event) -> (Option<Lock>, bool) {
    if let Ok(Locking::Locked(lock)) = store.lock_unit(key, Duration::ZERO) {
        return (Some(lock), false);
    }
    let clock = Instant::now();
    let lock = store.lock_unit(key, WAIT_MAX);
    event.times.wait_us = report::micros(clock.elapsed());
    (if let Ok(Locking::Locked(lock)) = lock { Some(lock) } else { None }, true)
}
