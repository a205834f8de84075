//! Failures of transfers, by whose fault they are: that decides what is done next. Knows nothing about transfers.

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Trouble {
    pub blame: Blame,
    pub why: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// The remote's or the network's: others will fail, too.
    Remote,
    /// The network's: nobody takes connections at the remote's address.
    Unreachable,
    /// The credentials': they are not accepted, or no longer.
    Credentials,
    /// The credentials may not do this, whatever the object.
    Denied,
    /// The object's: it isn't what it should be, and won't be in a moment.
    Object,
    /// This machine's: a full disk, say.
    Local,
}

impl Blame {
    /// Whether other requests to the remote will fail, too.
    pub const fn is_remote(self) -> bool {
        matches!(self, Blame::Remote | Blame::Unreachable | Blame::Credentials)
    }
}
