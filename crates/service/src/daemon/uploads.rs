//! Works the queue of uploads off, oldest first, a few at a time. What fails is tried again, later each time; nothing
//! is given up because the remote is away or this machine's disk is full. Does not know how an upload is done.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::protocol::Uploads as Numbers;
use kache_store::Store;
use kache_store::clock::FileTime;
use kache_store::queue::{Backlog, Owed};
use tokio::sync::{Notify, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::Instant;

use super::backend::{Blame, DaemonBackend, Pushed, Trouble};
use super::dispatcher::TRANSFER_MAX;
use super::health::Health;
use super::lock;

/// How often the queue is looked at: one system call unless it has changed.
const LOOK: Duration = Duration::from_secs(1);
/// First and longest wait before an upload is tried again.
const RETRY_MIN: Duration = Duration::from_secs(5);
const RETRY_MAX: Duration = Duration::from_secs(600);
/// How often an upload is tried whose object in the remote is in the way, before it is dropped.
const OBJECTIONS_MAX: u32 = 5;
/// How long credentials that may not write are left alone, at first and at most.
const REFUSED_MIN: Duration = Duration::from_secs(3600);
const REFUSED_MAX: Duration = Duration::from_secs(6 * 3600);

pub struct Uploads<D> {
    store: Arc<Store>,
    backend: Arc<D>,
    remote: Digest,
    slots: usize,
    /// Of the remote, and of this machine as far as it gets in the way of every upload.
    health: Health,
    permission: Health,
    numbers: Mutex<Numbers>,
    /// Sizes in the store of what is owed, as far as they are known, in bytes.
    sizes: Mutex<HashMap<EntryKey, u64>>,
    /// Set while something is being uploaded.
    busy: AtomicBool,
    /// Counts the moments at which nothing could be done.
    rests: watch::Sender<u64>,
    /// Somebody waits for the next one.
    hurry: Notify,
}

/// What is to be done, and what is being done.
#[derive(Default)]
struct Work {
    /// What is owed and due, the oldest first.
    due: VecDeque<Owed>,
    single_flight: JoinSet<Result<Pushed, Trouble>>,
    in_flight: HashMap<Id, Owed>,
    failures: HashMap<EntryKey, Failure>,
    /// When the queue had last changed when it was listed.
    seen: Option<FileTime>,
    listed: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Failure {
    attempts: u32,
    /// Of these, attempts that failed because of the object.
    objections: u32,
    next: Instant,
}

/// Whether there is anything in the queue that isn't known.
#[derive(Debug, PartialEq, Eq)]
enum Looked {
    /// Not at this moment.
    UpToDate,
    /// Perhaps: it is too early to look again.
    TooEarly,
}

impl<D: DaemonBackend> Uploads<D> {
    /// Uploads what `store` owes to `remote`, `slots` at a time; none where that is zero.
    pub fn new(store: Arc<Store>, backend: Arc<D>, remote: Digest, slots: usize) -> Arc<Self> {
        Arc::new(Self {
            store,
            backend,
            remote,
            slots,
            health: Health::default(),
            permission: Health::with_pauses(REFUSED_MIN, REFUSED_MAX),
            numbers: Mutex::default(),
            sizes: Mutex::default(),
            busy: AtomicBool::new(false),
            rests: watch::Sender::new(0),
            hurry: Notify::new(),
        })
    }

    /// Works for as long as this is polled.
    pub async fn run(self: Arc<Self>) {
        let mut work = Work::default();
        loop {
            let looked = self.look(&mut work).await;
            self.begin(&mut work);
            let is_resting = work.single_flight.is_empty();
            self.busy.store(!is_resting, Ordering::Relaxed);
            if is_resting && looked == Looked::UpToDate {
                self.rests.send_modify(|rests| *rests += 1);
            }
            tokio::select! {
                Some(ended) = work.single_flight.join_next_with_id() => self.land(&mut work, ended),
                () = tokio::time::sleep(LOOK) => {}
                () = self.hurry.notified() => work.listed = None,
            }
        }
    }

    /// Lists the queue when all that was due is under way and there may be more.
    async fn look(&self, work: &mut Work) -> Looked {
        if !work.due.is_empty() {
            return Looked::UpToDate;
        }
        let changed = self.store.queue_changed();
        // Within a tick of the clock, a second change doesn't show.
        let is_fresh = changed.is_some_and(|time| time.age_s(FileTime::now()) < 2);
        let now = Instant::now();
        let is_due = work.failures.values().any(|failure| failure.next <= now);
        if changed == work.seen && !is_fresh && !is_due {
            return Looked::UpToDate;
        }
        if work.listed.is_some_and(|listed| now < listed + LOOK) {
            return Looked::TooEarly;
        }
        work.listed = Some(now);
        match self.owed().await {
            Ok(owed) => {
                work.seen = changed;
                work.sort_out(&owed, now);
            }
            Err(error) => tracing::warn!(%error, "the queue of uploads can't be read"),
        }
        Looked::UpToDate
    }

    /// Begins what there is room for.
    fn begin(&self, work: &mut Work) {
        while work.single_flight.len() < self.slots
            && let Some(item) = work.due.front().copied()
        {
            let now = Instant::now();
            if !(self.health.permits(now) && self.permission.permits(now)) {
                return;
            }
            work.due.pop_front();
            let backend = Arc::clone(&self.backend);
            let push = async move {
                let late =
                    |_| Err(Trouble { blame: Blame::Remote, why: "an upload took too long".to_owned() });
                tokio::time::timeout(TRANSFER_MAX, backend.push(item.key)).await.unwrap_or_else(late)
            };
            work.in_flight.insert(work.single_flight.spawn(push).id(), item);
        }
    }

    /// Sees to what an upload came to.
    fn land(&self, work: &mut Work, ended: Result<(Id, Result<Pushed, Trouble>), JoinError>) {
        let (id, result) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                let why = format!("an upload broke off: {error}");
                (error.id(), Err(Trouble { blame: Blame::Local, why }))
            }
        };
        let Some(item) = work.in_flight.remove(&id) else { return };
        let trouble = match result {
            Ok(Pushed::Left(why)) => {
                tracing::debug!(key = %item.key, why, "stays in the queue");
                work.failures.insert(item.key, Failure::again_in(RETRY_MAX));
                return;
            }
            Ok(pushed) => {
                self.settle(&item, &pushed);
                work.failures.remove(&item.key);
                return;
            }
            Err(trouble) => trouble,
        };
        tracing::warn!(key = %item.key, %trouble, "an upload failed");
        self.count(|numbers| {
            numbers.failed += 1;
            numbers.last_error = Some(trouble.why.clone());
        });
        let now = Instant::now();
        match trouble.blame {
            Blame::Denied => self.permission.failed(trouble.blame, &trouble.why, now),
            Blame::Remote | Blame::Unreachable | Blame::Credentials | Blame::Local => {
                self.health.failed(trouble.blame, &trouble.why, now);
            }
            Blame::Object => {}
        }
        let failure = work.failures.entry(item.key).or_insert(Failure::again_in(Duration::ZERO));
        failure.count(trouble.blame, now);
        if failure.objections > OBJECTIONS_MAX {
            work.failures.remove(&item.key);
            self.settle(&item, &Pushed::Dropped(trouble.why));
        }
    }

    /// Nothing is left to do for an item.
    fn settle(&self, item: &Owed, pushed: &Pushed) {
        match pushed {
            Pushed::Dropped(why) => {
                tracing::info!(key = %item.key, why, "stays local");
                self.count(|numbers| numbers.dropped += 1);
            }
            Pushed::Left(_) => return,
            Pushed::Done | Pushed::Known => {
                self.health.well();
                self.count(|numbers| {
                    numbers.done += 1;
                    numbers.known += u64::from(*pushed == Pushed::Known);
                });
            }
        }
        if *pushed == Pushed::Done {
            self.permission.well();
        }
        // An item that can't be struck is uploaded again after the next start; the remote has it then.
        if let Err(error) = self.store.strike_upload(item) {
            tracing::warn!(%error, "an upload stays in the queue");
        }
    }

    /// Waits until there is nothing that could be uploaded now.
    pub async fn drained(&self) {
        let mut rests = self.rests.subscribe();
        // What was queued just before this may have been missed by the look that is under way.
        for _ in 0..2 {
            self.hurry.notify_one();
            let _ = rests.changed().await;
        }
    }

    pub fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// Why nothing is uploaded at the moment.
    pub fn sickness(&self) -> Option<String> {
        self.health.sickness(Instant::now())
    }

    /// Whether that is because the credentials are not accepted.
    pub fn lacks_credentials(&self) -> bool {
        self.health.lacks_credentials()
    }

    /// Where the credentials were refused, the next upload begins at once.
    pub fn try_credentials_again(&self) {
        self.health.try_credentials_again(Instant::now());
        self.hurry.notify_one();
    }

    /// What is owed, the oldest first. Listed where waiting for the disk keeps nobody else waiting.
    pub async fn owed(&self) -> Result<Vec<Owed>, kache_store::Error> {
        let (store, remote) = (Arc::clone(&self.store), self.remote);
        let listed = tokio::task::spawn_blocking(move || store.owed_uploads(Some(&remote))).await;
        // The task only fails where the daemon ends.
        listed.unwrap_or(Ok(Vec::new()))
    }

    /// The numbers so far, with those of the queue.
    pub async fn numbers(self: &Arc<Self>) -> Numbers {
        let owed = self.owed().await.unwrap_or_default();
        let me = Arc::clone(self);
        let backlog = tokio::task::spawn_blocking(move || me.backlog(&owed)).await.unwrap_or_default();
        Numbers {
            owed: backlog.count,
            owed_bytes: backlog.bytes,
            oldest_s: backlog.oldest_s,
            refused: self.permission.sickness(Instant::now()),
            ..lock(&self.numbers).clone()
        }
    }

    /// What is owed in numbers. Entries are read once: there may be very many, and somebody may ask every second.
    fn backlog(&self, owed: &[Owed]) -> Backlog {
        let known = std::mem::take(&mut *lock(&self.sizes));
        let mut sizes = HashMap::new();
        let backlog = Backlog::of(owed, |key| {
            let size = known.get(key).copied().unwrap_or_else(|| self.store.owed_bytes(key));
            sizes.insert(*key, size);
            size
        });
        *lock(&self.sizes) = sizes;
        backlog
    }

    fn count(&self, change: impl FnOnce(&mut Numbers)) {
        change(&mut lock(&self.numbers));
    }
}

impl Work {
    /// Takes from what is owed what is due, and forgets failures of what no longer is.
    fn sort_out(&mut self, owed: &[Owed], now: Instant) {
        let keys: HashSet<EntryKey> = owed.iter().map(|item| item.key).collect();
        self.failures.retain(|key, _| keys.contains(key));
        let busy: HashSet<EntryKey> = self.in_flight.values().map(|item| item.key).collect();
        let is_due = |item: &&Owed| {
            !busy.contains(&item.key)
                && self.failures.get(&item.key).is_none_or(|failure| failure.next <= now)
        };
        self.due = owed.iter().filter(is_due).copied().collect();
    }
}

impl Failure {
    fn again_in(wait: Duration) -> Self {
        Self { attempts: 0, objections: 0, next: Instant::now() + wait }
    }

    /// One more, after which it is left alone for longer than before.
    fn count(&mut self, blame: Blame, now: Instant) {
        // It says nothing about the upload; corrected credentials are to find it due.
        if blame == Blame::Credentials {
            self.next = now;
            return;
        }
        self.next = now + RETRY_MIN.saturating_mul(1 << self.attempts.min(8)).min(RETRY_MAX);
        self.attempts += 1;
        self.objections += u32::from(blame == Blame::Object);
    }
}

#[cfg(test)]
#[path = "uploads_tests.rs"]
mod tests;
