//! The time, as everything that is shown counts it: in milliseconds since 1970.

use std::time::Duration;

use kache_store::clock::since_1970;

pub fn now_ms() -> u64 {
    u64::try_from(since_1970().as_millis()).unwrap_or(u64::MAX)
}

pub fn ms_ago(duration: Duration) -> u64 {
    now_ms().saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
