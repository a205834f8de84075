//! Works the queue of uploads off, oldest first, a few at a time. What fails is tried again, later each time; nothing
//! is given up because a remote is away. Does not know how an upload is done.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::protocol::Uploads as Numbers;
use kache_store::Store;
use kache_store::clock::FileTime;
use kache_store::queue::Owed;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::depot::{Blame, Depot, Pushed};
use super::health::Health;

/// How often the queue is looked at: one system call unless it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// First and longest wait before an upload is tried again.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// How often something that is this machine's fault is tried before it is dropped.
const LOCAL_ATTEMPTS_MAX: u32 = 5;
/// Longest time for one upload.
const UPLOAD_MAX: Duration = Duration::from_secs(900);

/// Uploads to one remote.
pub struct Uploads<D> {
    store: Arc<Store>,
    depot: Arc<D>,
    remote: Digest,
    slots: usize,
    health: Health,
    numbers: Mutex<Numbers>,
    /// Set while something is being uploaded or could be.
    busy: std::sync::atomic::AtomicBool,
    /// Wakes whoever waits for the queue to be empty.
    settled: Notify,
}

/// An upload that failed.
#[derive(Debug, Clone, Copy)]
struct Failure {
    attempts: u32,
    next: Instant,
}

impl<D: Depot> Uploads<D> {
    /// Uploads what `store` owes to `remote`, `slots` at a time.
    pub fn new(store: Arc<Store>, depot: Arc<D>, remote: Digest, slots: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            depot,
            remote,
            slots: slots.max(1),
            health: Health::default(),
            numbers: Mutex::default(),
            busy: false.into(),
            settled: Notify::new(),
        })
    }

    /// Works for as long as this is polled.
    pub async fn run(self: Arc<Self>) {
        let mut failures: HashMap<EntryKey, Failure> = HashMap::new();
        let mut seen: Option<FileTime> = None;
        loop {
            let changed = self.store.queue_changed();
            let now = Instant::now();
            let is_due = failures.values().any(|failure| failure.next <= now);
            // Within a tick of the clock, a second change doesn't show.
            let is_fresh = changed.is_some_and(|time| time.age_s(FileTime::now()) < 2);
            if changed != seen || is_fresh || is_due {
                seen = changed;
                self.round(&mut failures).await;
            }
            self.settled.notify_waiters();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Uploads everything that is owed and due.
    async fn round(self: &Arc<Self>, failures: &mut HashMap<EntryKey, Failure>) {
        let owed = match self.store.owed_uploads(Some(&self.remote)) {
            Ok(owed) => owed,
            Err(error) => {
                tracing::warn!(%error, "the queue of uploads can't be read");
                return;
            }
        };
        failures.retain(|key, _| owed.iter().any(|item| item.key == *key));
        let now = Instant::now();
        let due = |item: &&Owed| failures.get(&item.key).is_none_or(|failure| failure.next <= now);
        let mut due: std::collections::VecDeque<Owed> = owed.iter().filter(due).copied().collect();
        let mut flights = JoinSet::new();
        loop {
            while flights.len() < self.slots
                && let Some(item) = due.pop_front()
            {
                if !self.health.permits(Instant::now()) {
                    // The rest is due again once the remote may be well.
                    let later = Failure { attempts: 0, next: Instant::now() + RETRY_MIN };
                    failures.extend([item].into_iter().chain(due.drain(..)).map(|item| (item.key, later)));
                    break;
                }
                self.set_busy(true);
                let me = Arc::clone(self);
                flights.spawn(async move { (item, me.upload(&item).await) });
            }
            let Some(result) = flights.join_next().await else { break };
            let Ok((item, success)) = result else { continue };
            match success {
                Success::Settled => {
                    failures.remove(&item.key);
                }
                Success::Later => {
                    let attempts = failures.get(&item.key).map_or(0, |failure| failure.attempts) + 1;
                    let wait = RETRY_MIN.saturating_mul(1 << attempts.min(8)).min(RETRY_MAX);
                    failures.insert(item.key, Failure { attempts, next: Instant::now() + wait });
                }
                Success::Local
                    if failures.get(&item.key).is_some_and(|f| f.attempts >= LOCAL_ATTEMPTS_MAX) =>
                {
                    self.strike(&item);
                    self.count(|numbers| numbers.dropped += 1);
                    failures.remove(&item.key);
                }
                Success::Local => {
                    let attempts = failures.get(&item.key).map_or(0, |failure| failure.attempts) + 1;
                    failures.insert(item.key, Failure { attempts, next: Instant::now() + RETRY_MIN });
                }
            }
        }
        self.set_busy(false);
    }

    async fn upload(&self, item: &Owed) -> Success {
        let result = tokio::time::timeout(UPLOAD_MAX, self.depot.push(item.key)).await;
        let trouble = match result {
            Ok(Ok(pushed)) => {
                self.health.well();
                match &pushed {
                    Pushed::Done => self.count(|numbers| numbers.done += 1),
                    Pushed::Known => self.count(|numbers| {
                        numbers.done += 1;
                        numbers.known += 1;
                    }),
                    Pushed::Dropped(why) => {
                        tracing::info!(key = %item.key, why, "stays local");
                        self.count(|numbers| numbers.dropped += 1);
                    }
                }
                self.strike(item);
                return Success::Settled;
            }
            Ok(Err(trouble)) => trouble,
            Err(_) => {
                super::depot::Trouble { blame: Blame::Remote, why: "an upload took too long".to_owned() }
            }
        };
        tracing::warn!(key = %item.key, %trouble, "an upload failed");
        self.count(|numbers| {
            numbers.failed += 1;
            numbers.last_error = Some(trouble.why.clone());
        });
        if trouble.blame == Blame::Remote {
            self.health.failed(&trouble.why, Instant::now());
            return Success::Later;
        }
        Success::Local
    }

    /// An item that can't be struck is uploaded again after the next start; the remote has it then.
    fn strike(&self, item: &Owed) {
        if let Err(error) = self.store.strike_upload(item) {
            tracing::warn!(%error, "an upload stays in the queue");
        }
    }

    /// Waits until nothing is owed that could be uploaded now.
    pub async fn drained(&self) {
        loop {
            let settled = self.settled.notified();
            if self.store.owed_uploads(Some(&self.remote)).is_ok_and(|owed| owed.is_empty())
                || self.sickness().is_some()
            {
                return;
            }
            settled.await;
        }
    }

    /// Whether uploads are under way.
    pub fn is_busy(&self) -> bool {
        self.busy.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// Why nothing is uploaded at the moment.
    pub fn sickness(&self) -> Option<String> {
        self.health.sickness(Instant::now())
    }

    /// The numbers so far, with those of the queue.
    pub fn numbers(&self) -> Numbers {
        let backlog = self.store.backlog(Some(&self.remote)).unwrap_or_default();
        let numbers = self.lock().clone();
        Numbers { owed: backlog.count, owed_bytes: backlog.bytes, oldest_s: backlog.oldest_s, ..numbers }
    }

    fn set_busy(&self, busy: bool) {
        self.busy.store(busy, std::sync::atomic::Ordering::Relaxed);
    }

    fn count(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Numbers> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What became of one attempt.
enum Success {
    /// Nothing is left to do.
    Settled,
    /// To be tried again whenever the remote is well.
    Later,
    /// Something here is wrong; to be tried a few times.
    Local,
}

#[cfg(test)]
#[path = "uploads_tests.rs"]
mod tests;
