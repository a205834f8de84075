//! The time, as everything that is shown counts it: in milliseconds since 1970.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub fn ms_ago(duration: Duration) -> u64 {
    now_ms().saturating_sub(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}
