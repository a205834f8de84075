//! Moves entries, input records, build manifests and snapshots between the store and a bucket, in the order that keeps both
//! whole: pack before manifest, manifest before input records. `kache sync`, `kache save-manifest` and the daemon all
//! go through here. Does not decide what is worth moving.

mod attest;
mod builds;
mod fetch;
mod inputs;
mod listing;
mod presence;
mod push;
mod retry;
mod snapshots;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::form::FormError;
use kache_core::key::EntryKey;
use kache_core::remote::keys::Keys;
use kache_store::Store;
use tokio::sync::Semaphore;

pub use attest::Attested;
pub use builds::{BuildPlace, units_used};
pub use fetch::Fetched;
pub(crate) use inputs::encode_within;
pub use listing::Listed;
pub(crate) use push::Ready;
pub use push::{Kept, Pushed};
use retry::Pace;
pub use snapshots::{Saved, missing_entries};

use crate::pack::{PackError, UnpackError};
use crate::remote::{Fault, Remote, RemoteError};
use crate::trust::{Trust, Untrusted};

/// From this level on, a compressor needs so much memory that only a few may run at a time.
const HUNGRY_LEVEL: i32 = 16;
const HUNGRY_MAX: usize = 4;
/// Memory for bodies is given out in pieces of this size, in bytes.
const BODY_UNIT_BYTES: u64 = 64 << 10;
/// So many of them: 64 MiB, whatever the concurrency.
const BODY_UNITS: usize = 1024;

/// Kind of the memos of entries that turned out to be broken in the remote; a push replaces them.
const BROKEN_MEMO: &str = "broken";

/// What the settings say about sharing.
#[derive(Debug, Default)]
pub struct Policy {
    /// zstd level of packs, 1 to 22.
    pub compression_level: i32,
    /// Variables that count as credentials besides those that look like it.
    pub secret_env: Vec<String>,
    /// Keys to sign with and to believe.
    pub trust: Trust,
    /// How long a remote that moves nothing is waited for; zero for ever.
    pub stall: Duration,
    /// The remote's identity; without it, nothing is remembered of what it has.
    pub remote: Option<Digest>,
}

/// A store, a bucket, and how to move things between them. Cheap to clone; clones share their limits.
#[derive(Debug, Clone)]
pub struct Transfer {
    store: Arc<Store>,
    remote: Arc<dyn Remote>,
    keys: Keys,
    policy: Arc<Policy>,
    /// The build for which entries are fetched before it asks for them; empty for all others.
    session: String,
    shared: Arc<Shared>,
}

/// What all clones share.
#[derive(Debug)]
struct Shared {
    /// Bounds compression and decompression, which take a core and memory each.
    packers: Semaphore,
    /// Bounds what bodies that are sent from memory take there, in units of [`BODY_UNIT_BYTES`].
    bodies: Semaphore,
    /// Slows everybody down when the server asks for it.
    pace: Pace,
    /// A missing object was answered with "denied": the credentials may not list.
    is_blind: AtomicBool,
    /// Entries that too few trusted keys have signed.
    unwitnessed: AtomicUsize,
    /// Whether the server refuses to write over what is there when it is asked to, once that was tried.
    keeps_what_is_there: OnceLock<bool>,
}

/// Why something was not moved.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Remote(#[from] RemoteError),
    /// What came from the bucket is not to be used.
    #[error("refused {name}: {refusal}")]
    Refused { name: String, refusal: Refusal },
    /// It can't be packed.
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Store(#[from] kache_store::Error),
    /// The remote did nothing for as long as the settings allow.
    #[error("the remote moved nothing for {} s", .0.as_secs())]
    Stalled(Duration),
    #[error("interrupted")]
    Interrupted,
    /// Code of this program panicked; the message is in its own output.
    #[error("a transfer broke off because of a mistake in kache itself; please report it")]
    Panicked,
}

/// Why an object was not used.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error(transparent)]
    Form(#[from] FormError),
    #[error(transparent)]
    Untrusted(#[from] Untrusted),
    /// The pack is missing although its manifest is there.
    #[error("its pack is missing")]
    NoPack,
    #[error(transparent)]
    Pack(UnpackError),
    #[error("the listing doesn't advance")]
    Listing,
}

impl TransferError {
    /// The kind of trouble with the bucket, if it is that.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            TransferError::Remote(error) => Some(error.fault),
            _ => None,
        }
    }
}

impl Transfer {
    /// Transfers between `store` and the objects below `prefix` in `remote`.
    pub fn new(store: Arc<Store>, remote: Arc<dyn Remote>, prefix: &str, policy: Policy) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let hungry = policy.compression_level >= HUNGRY_LEVEL;
        let packers = if hungry { cores.min(HUNGRY_MAX) } else { cores };
        let shared = Shared {
            packers: Semaphore::new(packers),
            bodies: Semaphore::new(BODY_UNITS),
            pace: Pace::default(),
            is_blind: AtomicBool::new(false),
            unwitnessed: AtomicUsize::new(0),
            keeps_what_is_there: OnceLock::new(),
        };
        Self {
            store,
            remote,
            keys: Keys::new(prefix),
            policy: Arc::new(policy),
            session: String::new(),
            shared: Arc::new(shared),
        }
    }

    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether the remote can say what it has; where it can't, saved builds tell what to ask for.
    pub fn can_list(&self) -> bool {
        self.remote.can_list()
    }

    /// Whether others see what was put only after [`Transfer::flush`].
    pub fn collects(&self) -> bool {
        self.remote.collects()
    }

    /// Lets others see what was put.
    ///
    /// # Errors
    /// When the remote doesn't take it; it stays collected.
    pub async fn flush(&self) -> Result<(), TransferError> {
        if !self.remote.collects() {
            return Ok(());
        }
        self.watched(async { Ok(self.retry(|| self.remote.flush()).await?) }).await
    }

    /// Whether a missing object was answered with "denied": the credentials can't list the bucket, and a miss can't be
    /// told from a lack of permission.
    pub fn is_blind(&self) -> bool {
        self.shared.is_blind.load(Ordering::Relaxed)
    }

    /// Entries so far that too few trusted keys have signed, counted among those that are absent.
    pub fn unwitnessed(&self) -> usize {
        self.shared.unwitnessed.load(Ordering::Relaxed)
    }

    /// `None` where the object isn't there; where the credentials may not say, that counts as the same, and is logged
    /// once.
    fn unless_missing<T>(&self, result: Result<T, RemoteError>) -> Result<Option<T>, RemoteError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error) if error.fault == Fault::NotFound => Ok(None),
            Err(error) if error.fault == Fault::Denied => {
                if !self.shared.is_blind.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        %error,
                        "the remote denies access to an object; where the credentials may not list (in a bucket: \
                         s3:ListBucket) that is also its answer for one that isn't there, so it counts as a miss"
                    );
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Tries again what may succeed a moment later; where the server asks for fewer requests, all clones wait.
    async fn retry<T, F>(&self, mut act: impl FnMut() -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        let attempt = || {
            let request = act();
            async {
                let result = request.await;
                if !result.as_ref().is_err_and(|error| error.fault.is_passing()) {
                    self.remote.progress().note();
                }
                result
            }
        };
        self.shared.pace.retry(attempt).await
    }

    /// Waits until the remote has moved nothing for as long as the settings allow, from now on.
    pub async fn stalled(&self) -> TransferError {
        self.remote.progress().stalled(self.policy.stall).await;
        TransferError::Stalled(self.policy.stall)
    }

    /// Waits until the remote has moved nothing for so long, from now on.
    pub async fn silent_for(&self, wait: Duration) {
        self.remote.progress().stalled(wait).await;
    }

    /// Does some work as long as the remote moves.
    async fn watched<T>(
        &self,
        work: impl Future<Output = Result<T, TransferError>>,
    ) -> Result<T, TransferError> {
        tokio::select! {
            result = work => result,
            stalled = self.stalled() => Err(stalled),
        }
    }

    fn note_broken(&self, key: &EntryKey) {
        if let Err(error) = self.store.memo_put(BROKEN_MEMO, &key.0, b"") {
            tracing::warn!(%error, "the next push won't replace what is broken in the remote");
        }
    }

    fn is_broken(&self, key: &EntryKey) -> bool {
        self.store.memo_get(BROKEN_MEMO, &key.0).is_some()
    }

    /// Runs blocking work that packs or unpacks, as soon as there is a core for it.
    async fn on_a_core<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transfer) -> T + Send + 'static,
    ) -> Result<T, TransferError> {
        let _permit = self.shared.packers.acquire().await.map_err(|_| TransferError::Interrupted)?;
        self.blocking(work).await
    }

    /// Runs work that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transfer) -> T + Send + 'static,
    ) -> Result<T, TransferError> {
        let (this, at_work) = (self.clone(), self.remote.progress().at_work());
        let work = move || {
            let done = work(&this);
            drop(at_work);
            done
        };
        tokio::task::spawn_blocking(work).await.map_err(TransferError::from)
    }
}

impl From<tokio::task::JoinError> for TransferError {
    fn from(error: tokio::task::JoinError) -> Self {
        if error.is_panic() { TransferError::Panicked } else { TransferError::Interrupted }
    }
}

/// A refusal of the object `name`.
fn refuse(name: &str, refusal: impl Into<Refusal>) -> TransferError {
    TransferError::Refused { name: name.to_owned(), refusal: refusal.into() }
}

#[cfg(test)]
#[path = "transfer/foreign_tests.rs"]
mod foreign_tests;
#[cfg(test)]
#[path = "transfer/poison_tests.rs"]
mod poison_tests;
#[cfg(test)]
#[path = "transfer/snapshots_tests.rs"]
mod snapshots_tests;
#[cfg(test)]
#[path = "transfer/tests.rs"]
mod tests;
