//! The seam between the daemon's decisions and the transfers that they lead to: what can be had from a remote and given
//! to it, with outcomes by what they mean for whoever asked. [`super::bucket`] is the real one.

use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;

use kache_core::key::{EntryKey, UnitKey};
use kache_core::protocol::{Build, Seed};
pub use kache_core::remote::fit::{Kind, Shape};
use kache_core::snapshot::Snapshot;
use tokio::sync::{mpsc, watch};

use super::traffic::Traffic;
pub use super::trouble::{Blame, Trouble};

/// What a transfer answers, some time later.
pub type Promise<'a, T> = Pin<Box<dyn Future<Output = Result<T, Trouble>> + Send + 'a>>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Names {
    /// `--crate-name`.
    pub crate_name: String,
    /// Its Cargo package; empty outside of packages.
    pub package: String,
}

/// A result that a build is likely to need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub names: Names,
    pub unit: UnitKey,
    pub entry: EntryKey,
    /// Which units of the build it is for, where that is known.
    pub kind: Option<Kind>,
    /// Bytes that have to come for it, where that is known.
    pub bytes: u64,
}

/// The kinds of units that a build has asked for so far.
pub type Asked = watch::Receiver<HashSet<Kind>>;

/// Whether something came into the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It wasn't there before; so many bytes came for it.
    New {
        bytes: u64,
    },
    Known,
    /// The remote doesn't have it.
    Absent,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    Done,
    Known,
    /// It will never be uploaded, and why.
    Dropped(String),
    /// It isn't for this daemon to upload, and why.
    Left(String),
}

/// What a daemon does with a remote. Every one of these ends by itself, however the remote behaves.
pub trait DaemonBackend: Send + Sync + 'static {
    /// Brings an entry with everything it needs into the store; for the build `session` before that asks for it, where
    /// one is given.
    fn fetch_entry<'a>(&'a self, key: EntryKey, names: &'a Names, session: &'a str) -> Promise<'a, Fetched>;

    /// Brings the input records of a unit into the store.
    fn fetch_records<'a>(&'a self, unit: UnitKey, names: &'a Names) -> Promise<'a, Fetched>;

    /// Tells what a build is likely to need, dependencies first, until nobody listens any more. Its requests are guesses
    /// in `traffic`.
    fn foresee<'a>(
        &'a self,
        build: &'a Build,
        asked: Asked,
        candidates: mpsc::Sender<Candidate>,
        traffic: Arc<Traffic>,
    ) -> Promise<'a, ()>;

    /// The snapshot that a fresh directory could use, as far as it is about packages of the lockfile there. Takes nothing
    /// into the store.
    fn find_snapshot<'a>(&'a self, wanted: &'a Seed) -> Promise<'a, Option<Snapshot>>;

    /// Takes a snapshot into the store; how many units there are now.
    fn take_snapshot(&self, snapshot: Snapshot) -> Promise<'_, usize>;

    /// Uploads an entry with the records that lead to it.
    fn push(&self, key: EntryKey) -> Promise<'_, Pushed>;
}
