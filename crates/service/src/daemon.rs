//! The daemon: makes the remote invisible to builds. Uploads happen behind the build, what a build will need is fetched
//! before it asks, and what it asks for is brought while it waits. This module is its life, from the socket to the last
//! upload; the parts know nothing of each other beyond what is passed here.
//!
//! ```text
//! wrapper ──socket──► server ──► Handler ─┬─ find ──► dispatcher ──► backend (bucket) ──► store
//!                                      ├─ first question of a build ──► prefetch ──► dispatcher
//!                                      └─ fresh target directory ──► snapshots ──► dispatcher
//! store::queue ──► uploads ──► backend
//! every few seconds: idle? replaced? journal read? upkeep due?
//! ```
//! Everything it does can be lost at any moment: the queue is on disk, and whatever comes in becomes visible complete.

pub mod backend;
pub mod bucket;
pub mod dispatcher;
mod health;
mod levels;
mod lifecycle;
mod prefetch;
#[cfg(test)]
mod scripted;
mod serve;
mod server;
mod sessions;
mod single_flight;
mod snapshots;
mod traffic;
mod trouble;
mod upkeep;
mod uploads;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::protocol::{Demand, Find, Reply, Request, Seed, Status, Unavailable};
use kache_store::Store;
use kache_store::clock::since_1970;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use lifecycle::{End, Program, signalled};
pub use serve::{ServeError, serve};
use server::Socket;
pub use server::{BindError, Endpoint};

use backend::{Candidate, DaemonBackend, Names};
use dispatcher::{Dispatcher, How, Landing, Subject};
use lifecycle::{Counted, Supervisor};
use prefetch::Prefetch;
use sessions::Builds;
use snapshots::Snapshots;
use traffic::Urgency;
use uploads::Uploads;

/// Records whose newest results are fetched without waiting for the question.
const AHEAD_MAX: usize = 1;

/// What a daemon has to know.
#[derive(Debug)]
pub struct Config {
    pub store: Arc<Store>,
    /// The remote's name for people, and its identity; `None` when no remote is configured.
    pub remote: Option<(String, Digest)>,
    /// Which credentials it uses, see `config::Remote::credentials_id`.
    pub ambient: Option<Digest>,
    /// Whether nothing is uploaded, whoever owes it.
    pub read_only: bool,
    pub slots: usize,
    /// It ends when nobody has asked for this long; `None` for never.
    pub idle: Option<Duration>,
    /// Size limit of the store, in bytes.
    pub limit_bytes: u64,
    /// The program it runs, which may be replaced on disk.
    pub program: Program,
    pub version: String,
}

struct Handler<D> {
    config: Config,
    started_ms: u64,
    service: Option<Service<D>>,
    demand: Mutex<Demand>,
    last_asked: Mutex<Instant>,
    builds: Builds,
    /// Builds that wait for an answer.
    waiting: AtomicUsize,
    is_ending: AtomicBool,
    /// Set when somebody wants it to end, and how long uploads may take then.
    stop: watch::Sender<Option<(End, Duration)>>,
}

/// What there is only with a remote.
struct Service<D> {
    id: Digest,
    dispatcher: Arc<Dispatcher<D>>,
    prefetch: Arc<Prefetch<D>>,
    snapshots: Arc<Snapshots<D>>,
    uploads: Arc<Uploads<D>>,
}

impl<D: DaemonBackend> Service<D> {
    fn lacks_credentials(&self) -> bool {
        self.dispatcher.traffic().lacks_credentials() || self.uploads.lacks_credentials()
    }

    /// Has the remote asked at once whether it accepts the credentials by now.
    fn try_credentials_again(&self) {
        self.dispatcher.traffic().try_credentials_again();
        self.uploads.try_credentials_again();
    }

    /// Whether an upload is under way that a daemon which ends like this finishes.
    fn is_uploading(&self, end: End) -> bool {
        end == End::Replaced && self.uploads.is_busy()
    }
}

/// Serves until there is a reason to end, and finishes what is in flight. The socket is gone when this returns.
pub async fn run<D: DaemonBackend>(config: Config, endpoint: Endpoint, backend: Option<Arc<D>>) -> End {
    let service = config.remote.as_ref().zip(backend).map(|((_, id), backend)| {
        let dispatcher = Dispatcher::new(Arc::clone(&backend), config.slots);
        let store = || Arc::clone(&config.store);
        let prefetch = Prefetch::new(store(), Arc::clone(&backend), Arc::clone(&dispatcher));
        let snapshots = Snapshots::new(store(), Arc::clone(&backend), Arc::clone(&dispatcher));
        let slots = config.slots.div_ceil(2);
        let uploads = Uploads::new(store(), backend, *id, if config.read_only { 0 } else { slots });
        Service { id: *id, dispatcher, prefetch, snapshots, uploads }
    });
    let uploading = service.as_ref().map(|service| tokio::spawn(Arc::clone(&service.uploads).run()));
    let started = since_1970();
    let handler = Arc::new(Handler {
        config,
        started_ms: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        service,
        demand: Mutex::default(),
        last_asked: Mutex::new(Instant::now()),
        builds: Builds::default(),
        waiting: AtomicUsize::new(0),
        is_ending: AtomicBool::new(false),
        stop: watch::Sender::new(None),
    });
    tracing::info!(version = handler.config.version, remote = ?handler.config.remote, "serving");
    let end = tokio::select! {
        () = endpoint.serve(Arc::clone(&handler)) => End::Stopped,
        end = handler.finish(endpoint.socket()) => end,
    };
    if let Some(uploading) = uploading {
        uploading.abort();
    }
    endpoint.close();
    tracing::info!(?end, "ended");
    end
}

impl<D: DaemonBackend> Handler<D> {
    /// Waits for a reason to end, then for what is in flight. Whoever asks meanwhile is told so.
    async fn finish(&self, socket: &Socket) -> End {
        let (end, drain) = self.reason(socket).await;
        tracing::info!(?end, "ending");
        self.is_ending.store(true, Ordering::Relaxed);
        let in_flight = async {
            if let Some(service) = self.service.as_ref().filter(|_| end != End::Orphaned) {
                // Nobody waits for what is fetched ahead.
                service.prefetch.end();
                if end == End::Stopped {
                    service.uploads.drained().await;
                }
                while self.waiting.load(Ordering::Relaxed) > 0 || service.is_uploading(end) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
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

    async fn reason(&self, socket: &Socket) -> (End, Duration) {
        let mut stop = self.stop.subscribe();
        let mut supervisor = Supervisor::new(&self.config, socket);
        let told = async {
            let told = stop.wait_for(Option::is_some).await;
            told.ok().and_then(|told| *told).unwrap_or((End::Stopped, Duration::ZERO))
        };
        tokio::select! {
            told = told => told,
            () = signalled() => (End::Stopped, lifecycle::DRAIN),
            end = supervisor.watch(|| self.pulse()) => (end, lifecycle::DRAIN),
        }
    }

    fn pulse(&self) -> lifecycle::Pulse<'_, D> {
        let is_busy = self.service.as_ref().is_some_and(|service| {
            // Uploads to a remote that is away are no reason to stay: they are in the queue.
            let owes = service.uploads.sickness().is_none() && service.uploads.is_busy();
            owes || service.dispatcher.is_busy()
        });
        lifecycle::Pulse {
            last_asked: *lock(&self.last_asked),
            is_busy,
            prefetch: self.service.as_ref().map(|service| &*service.prefetch),
        }
    }

    /// What there is for an asker of this build who means this remote and has these credentials; or why nothing.
    fn service_for(
        &self,
        (remote, ambient): (Digest, Option<Digest>),
        session: &str,
    ) -> Result<&Service<D>, Unavailable> {
        *lock(&self.last_asked) = Instant::now();
        let service = self.service.as_ref().ok_or(Unavailable::OtherRemote)?;
        let is_new = self.builds.is_new(session);
        let is_other = ambient.is_some() && ambient != self.config.ambient;
        if service.lacks_credentials() || (is_other && self.config.read_only) {
            if service.id != remote || is_other {
                // Its own are refused; the asker's may be newer, and a daemon that a build starts gets the build's.
                tracing::info!("a build has other credentials, or may write");
                self.stop.send_replace(Some((End::Outdated, lifecycle::DRAIN)));
                return Err(Unavailable::Outdated);
            }
            // A profile may have been corrected, which shows in no variable.
            if is_new {
                service.try_credentials_again();
            }
        }
        if service.id != remote {
            return Err(Unavailable::OtherRemote);
        }
        match *self.stop.borrow() {
            Some((End::Outdated, _)) => Err(Unavailable::Outdated),
            _ if self.is_ending.load(Ordering::Relaxed) => Err(Unavailable::Ending),
            _ => Ok(service),
        }
    }

    async fn seed(&self, seed: &Seed) -> Reply {
        match self.service_for((seed.remote, seed.ambient), &seed.session) {
            Ok(service) => {
                let _waiting = Counted::one_more(&self.waiting);
                service.snapshots.bring(seed).await
            }
            Err(why) => Reply::Unavailable(why),
        }
    }

    async fn find(&self, find: &Find) -> Reply {
        let service = match self.service_for((find.remote, find.ambient), &find.build.session) {
            Ok(service) => service,
            Err(why) => return Reply::Unavailable(why),
        };
        self.count(|demand| demand.asked += 1);
        let _waiting = Counted::one_more(&self.waiting);
        service.prefetch.heard_of(&find.build);
        let reply = self.look(service, find).await;
        self.count(|demand| match reply {
            Reply::Arrived => demand.arrived += 1,
            Reply::Absent => demand.absent += 1,
            _ => demand.unavailable += 1,
        });
        reply
    }

    /// Has all that may be of use brought together, and answers with the first entry. Records count when no entry comes:
    /// they may lead to others.
    async fn look(&self, service: &Service<D>, find: &Find) -> Reply {
        let names = Names { crate_name: find.crate_name.clone(), package: find.package.clone() };
        let records = Subject::Records(find.unit);
        let mut looks = JoinSet::new();
        for subject in find.wanted.iter().map(|key| Subject::Entry(*key)).chain([records]) {
            let (dispatcher, names) = (Arc::clone(&service.dispatcher), names.clone());
            looks.spawn(async move {
                let bringing = dispatcher.bring(subject, &names, Urgency::Demand, "");
                (subject, tokio::time::timeout(subject.patience(), bringing).await)
            });
        }
        let (mut best, mut grown) = (Reply::Absent, false);
        while let Some(look) = looks.join_next().await {
            let Ok((subject, Ok((landing, how)))) = look else {
                best = Reply::Unavailable(Unavailable::Late);
                continue;
            };
            self.count(|demand| match how {
                How::Asked => {}
                How::Shared => demand.shared += 1,
                How::Remembered => demand.remembered += 1,
            });
            match landing {
                Landing::Arrived | Landing::Known if subject == records => grown = true,
                Landing::Arrived | Landing::Known => return Reply::Arrived,
                Landing::Absent => {}
                Landing::Failed | Landing::Sick if best == Reply::Absent => {
                    best = Reply::Unavailable(Unavailable::Sick);
                }
                Landing::Failed | Landing::Sick => {}
            }
        }
        if grown {
            self.bring_ahead(service, find, &names);
            return Reply::Arrived;
        }
        best
    }

    /// New records have arrived, and the next question will most likely be for the result that they were stored with.
    fn bring_ahead(&self, service: &Service<D>, find: &Find, names: &Names) {
        let Ok(set) = self.config.store.records(&find.unit) else { return };
        let newest: Vec<EntryKey> =
            set.records.iter().filter_map(|record| record.last).take(AHEAD_MAX).collect();
        for entry in newest {
            let candidate = Candidate { names: names.clone(), unit: find.unit, entry, kind: None, bytes: 0 };
            let prefetch = Arc::clone(&service.prefetch);
            tokio::spawn(async move { prefetch.bring_entry(&candidate, "", Urgency::Demand).await });
        }
    }

    async fn status(&self) -> Status {
        let (remote, remote_id) = self.config.remote.clone().unzip();
        let service = self.service.as_ref();
        let uploads = match service {
            Some(service) => service.uploads.numbers().await,
            None => Default::default(),
        };
        let sick = service.and_then(|service| {
            let uploads = || service.uploads.sickness().map(|why| format!("uploads: {why}"));
            service.dispatcher.traffic().sickness().or_else(uploads)
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
            prefetch: service.map(|service| service.prefetch.numbers()).unwrap_or_default(),
            snapshots: service.map(|service| service.snapshots.numbers()).unwrap_or_default(),
        }
    }

    fn count(&self, change: impl FnOnce(&mut Demand)) {
        change(&mut lock(&self.demand));
    }
}

impl<D: DaemonBackend> server::Answers for Handler<D> {
    async fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Find(find) => self.find(&find).await,
            Request::Seed(seed) => self.seed(&seed).await,
            Request::Status => Reply::Status(Box::new(self.status().await)),
            Request::Forget => {
                if let Some(service) = &self.service {
                    service.dispatcher.forget();
                }
                Reply::Done
            }
            Request::Stop { drain_ms } => {
                let drain = Duration::from_millis(drain_ms).min(lifecycle::DRAIN_MAX);
                self.stop.send_replace(Some((End::Stopped, drain)));
                let owed = match &self.service {
                    Some(service) => service.uploads.owed().await.map_or(0, |owed| owed.len() as u64),
                    None => 0,
                };
                Reply::Stopping { owed }
            }
        }
    }
}

/// Nothing that can panic is done while one of these locks is held.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "daemon/hostile_tests.rs"]
mod hostile_tests;
#[cfg(test)]
#[path = "daemon/tests.rs"]
mod tests;
