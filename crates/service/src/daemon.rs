//! The daemon: makes the remote invisible to builds. Uploads happen behind the build, what a build will need is fetched
//! before it asks, and what it asks for is brought while it waits. This module is its life, from the socket to the last
//! upload; the parts know nothing of each other beyond what is passed here.
//!
//! ```text
//! wrapper ──socket──► server ──► Desk ─┬─ find ──► dispatcher ──► depot (bucket) ──► store
//!                                      └─ first question of a build ──► prefetch ──► dispatcher
//! store::queue ──► uploads ──► depot
//! every few seconds: idle? replaced? journal read? upkeep due?
//! ```
//! Everything it does can be lost at any moment: the queue is on disk, and whatever comes in becomes visible complete.

pub mod bucket;
pub mod depot;
pub mod dispatcher;
mod health;
mod lifecycle;
mod prefetch;
#[cfg(test)]
mod scripted;
mod serve;
mod server;
mod sessions;
mod upkeep;
mod uploads;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::protocol::{Demand, Find, Reply, Request, Status, Unavailable, Uploads as UploadNumbers};
use kache_store::Store;
use tokio::sync::watch;
use tokio::time::Instant;

pub use lifecycle::{End, Program};
pub use serve::{ServeError, serve};
pub use server::{BindError, Endpoint};

use depot::{Depot, Names, Wish};
use dispatcher::{Dispatcher, How, Landing, Subject, Urgency};
use lifecycle::Caretaker;
use prefetch::Prefetch;
use uploads::Uploads;

/// Longest time that a build is kept waiting for an entry, and for records, which are small. The transfer goes on: who
/// asks later finds its result.
const ENTRY_MAX: Duration = Duration::from_secs(15);
const RECORDS_MAX: Duration = Duration::from_secs(3);
/// Records whose newest results are fetched without waiting for the question.
const AHEAD_MAX: usize = 1;

/// What a daemon has to know.
#[derive(Debug)]
pub struct Config {
    /// The store it serves.
    pub store: Arc<Store>,
    /// The remote's name for people, and its identity; `None` when no remote is configured.
    pub remote: Option<(String, Digest)>,
    /// Transfers at a time.
    pub slots: usize,
    /// It ends when nobody has asked for this long; `None` for never.
    pub idle: Option<Duration>,
    /// Size limit of the store, in bytes.
    pub limit_bytes: u64,
    /// The program it runs, which may be replaced on disk.
    pub program: Program,
    /// Version of the program.
    pub version: String,
}

/// Answers questions, whoever asks.
struct Desk<D> {
    config: Config,
    started_ms: u64,
    service: Option<Service<D>>,
    demand: Mutex<Demand>,
    last_asked: Mutex<Instant>,
    is_ending: AtomicBool,
    stop: watch::Sender<Option<Duration>>,
}

/// What there is only with a remote.
struct Service<D> {
    id: Digest,
    dispatcher: Arc<Dispatcher<D>>,
    prefetch: Arc<Prefetch<D>>,
    uploads: Arc<Uploads<D>>,
}

/// Serves until there is a reason to end, and finishes what is in flight. The socket is gone when this returns.
pub async fn run<D: Depot>(config: Config, endpoint: Endpoint, depot: Option<Arc<D>>) -> End {
    let service = config.remote.as_ref().zip(depot).map(|((_, id), depot)| {
        let dispatcher = Dispatcher::new(Arc::clone(&depot), config.slots);
        let prefetch = Prefetch::new(Arc::clone(&config.store), Arc::clone(&depot), Arc::clone(&dispatcher));
        let slots = config.slots.div_ceil(2);
        let uploads = Uploads::new(Arc::clone(&config.store), depot, *id, slots);
        Service { id: *id, dispatcher, prefetch, uploads }
    });
    let uploading = service.as_ref().map(|service| tokio::spawn(Arc::clone(&service.uploads).run()));
    let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let desk = Arc::new(Desk {
        config,
        started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        service,
        demand: Mutex::default(),
        last_asked: Mutex::new(Instant::now()),
        is_ending: AtomicBool::new(false),
        stop: watch::Sender::new(None),
    });
    tracing::info!(version = desk.config.version, remote = ?desk.config.remote, "serving");
    let end = tokio::select! {
        () = endpoint.serve(Arc::clone(&desk)) => End::Stopped,
        end = desk.finish() => end,
    };
    if let Some(uploading) = uploading {
        uploading.abort();
    }
    endpoint.close(&desk.config.store);
    tracing::info!(?end, "ended");
    end
}

impl<D: Depot> Desk<D> {
    /// Waits for a reason to end, then for what is in flight. Whoever asks meanwhile is told so.
    async fn finish(&self) -> End {
        let (end, drain) = self.reason().await;
        tracing::info!(?end, "ending");
        self.is_ending.store(true, Ordering::Relaxed);
        let in_flight = async {
            if let Some(service) = self.service.as_ref().filter(|_| end != End::Orphaned) {
                if end == End::Stopped {
                    service.uploads.drained().await;
                }
                while service.dispatcher.is_busy() || (end == End::Replaced && service.uploads.is_busy()) {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
            // The last answers have to be written.
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        if tokio::time::timeout(drain, in_flight).await.is_err() {
            tracing::info!("what is still owed stays in the queue");
        }
        end
    }

    async fn reason(&self) -> (End, Duration) {
        let mut stop = self.stop.subscribe();
        let mut caretaker = Caretaker::new(&self.config);
        let told = async {
            let told = stop.wait_for(Option::is_some).await;
            told.ok().and_then(|drain| *drain).unwrap_or_default()
        };
        tokio::select! {
            drain = told => (End::Stopped, drain),
            () = lifecycle::signalled() => (End::Stopped, lifecycle::DRAIN),
            end = caretaker.watch(|| self.pulse()) => (end, lifecycle::DRAIN),
        }
    }

    /// What the caretaker goes by.
    fn pulse(&self) -> lifecycle::Pulse<'_, D> {
        let is_busy = self.service.as_ref().is_some_and(|service| {
            // Uploads to a remote that is away are no reason to stay: they are in the queue.
            let owes = service.uploads.sickness().is_none() && service.uploads.is_busy();
            owes || service.dispatcher.is_busy() || service.prefetch.is_busy()
        });
        lifecycle::Pulse {
            last_asked: *lock(&self.last_asked),
            is_busy,
            prefetch: self.service.as_ref().map(|service| &*service.prefetch),
        }
    }

    async fn find(&self, find: &Find) -> Reply {
        let Some(service) = self.service.as_ref().filter(|service| service.id == find.remote) else {
            return Reply::Unavailable(Unavailable::OtherRemote);
        };
        self.count(|demand| demand.asked += 1);
        if self.is_ending.load(Ordering::Relaxed) {
            return Reply::Unavailable(Unavailable::Ending);
        }
        service.prefetch.heard_of(&find.build);
        let reply = self.look(service, find).await;
        self.count(|demand| match reply {
            Reply::Arrived => demand.arrived += 1,
            Reply::Absent => demand.absent += 1,
            _ => demand.unavailable += 1,
        });
        reply
    }

    /// Entries first, then records that may lead to others.
    async fn look(&self, service: &Service<D>, find: &Find) -> Reply {
        let names = Names { crate_name: find.crate_name.clone(), package: find.package.clone() };
        let mut fails = false;
        let subjects = find.wanted.iter().map(|key| Subject::Entry(*key));
        for subject in subjects.chain([Subject::Records(find.unit)]) {
            let patience = if matches!(subject, Subject::Entry(_)) { ENTRY_MAX } else { RECORDS_MAX };
            let bringing = service.dispatcher.bring(subject, &names, Urgency::Demand);
            let Ok((landing, how)) = tokio::time::timeout(patience, bringing).await else {
                service.dispatcher.was_too_slow();
                return Reply::Unavailable(Unavailable::Late);
            };
            self.count(|demand| match how {
                How::Asked => {}
                How::Shared => demand.shared += 1,
                How::Remembered => demand.remembered += 1,
            });
            match landing {
                Landing::Arrived | Landing::Known => {
                    if subject == Subject::Records(find.unit) {
                        self.bring_ahead(service, find, &names);
                    }
                    return Reply::Arrived;
                }
                Landing::Absent => {}
                Landing::Failed | Landing::Sick => fails = true,
            }
        }
        if fails { Reply::Unavailable(Unavailable::Sick) } else { Reply::Absent }
    }

    /// New records have arrived, and the next question will most likely be for the result that they were stored with.
    fn bring_ahead(&self, service: &Service<D>, find: &Find, names: &Names) {
        let Ok(set) = self.config.store.records(&find.unit) else { return };
        let newest: Vec<EntryKey> =
            set.records.iter().filter_map(|record| record.last).take(AHEAD_MAX).collect();
        for entry in newest {
            let wish = Wish { names: names.clone(), unit: find.unit, entry, shape: None };
            let prefetch = Arc::clone(&service.prefetch);
            tokio::spawn(async move { prefetch.bring_entry(&wish, "", Urgency::Demand).await });
        }
    }

    fn status(&self) -> Status {
        let (remote, remote_id) = self.config.remote.clone().unzip();
        let uploads = match &self.service {
            Some(service) => service.uploads.numbers(),
            None => UploadNumbers::default(),
        };
        let sick = self.service.as_ref().and_then(|service| {
            let uploads = || service.uploads.sickness().map(|why| format!("uploads: {why}"));
            service.dispatcher.sickness().or_else(uploads)
        });
        Status {
            version: self.config.version.clone(),
            pid: std::process::id(),
            started_ms: self.started_ms,
            remote: remote.unwrap_or_default(),
            remote_id,
            sick,
            uploads,
            demand: *lock(&self.demand),
            prefetch: self.service.as_ref().map(|service| service.prefetch.numbers()).unwrap_or_default(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Demand)) {
        change(&mut lock(&self.demand));
    }
}

impl<D: Depot> server::Answers for Desk<D> {
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Find(find) => {
                *lock(&self.last_asked) = Instant::now();
                self.find(&find).await
            }
            Request::Status => Reply::Status(Box::new(self.status())),
            Request::Stop { drain_ms } => {
                let drain = Duration::from_millis(drain_ms).min(lifecycle::DRAIN_MAX);
                self.stop.send_replace(Some(drain));
                Reply::Stopping { owed: self.status().uploads.owed }
            }
        }
    }
}

/// Nothing that can panic is done while one of these locks is held.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "daemon/tests.rs"]
mod tests;
