//! What clients of servers have in common: ways to them, patience, bodies that show that they move, and what failures mean.

pub(super) mod body;
pub(super) mod fault;
pub(crate) mod route;
pub(super) mod sink;

use std::time::Duration;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the first byte of an answer, once the request is sent, and for each further piece of a body.
    pub silence: Duration,
    /// Slowest upload that is waited for, in bytes per second.
    pub slowest_upload: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), silence: Duration::from_secs(30), slowest_upload: 64 << 10 }
    }
}

impl Patience {
    /// How long the answer to a request that carries so many bytes is waited for.
    pub(super) fn for_upload(&self, bytes: u64) -> Duration {
        self.silence + Duration::from_secs(bytes / self.slowest_upload.max(1))
    }
}
