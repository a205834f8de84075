//! Fetches what a build is likely to need before it asks. Begins at a build's first question and goes on until all is
//! there or the build is over; while the remote is sick it waits. Measures what was of use. Does not know how the guess
//! is made.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kache_core::event::Outcome;
use kache_core::key::EntryKey;
use kache_core::protocol::{Build, Prefetch as Numbers};
use kache_store::Store;
use kache_store::journal::Follower;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::backend::{Asked, Candidate, DaemonBackend, Kind, Shape};
use super::dispatcher::{Dispatcher, How, Landing, Subject};
use super::sessions;
use super::traffic::Urgency;

/// Builds that are remembered as begun.
const BUILDS_MAX: usize = 1000;
/// Candidates that are worked on at a time; the dispatcher has its own limit of transfers.
const AT_ONCE: usize = 64;
/// Most candidates that wait for their kind to be asked for; more are not taken.
const ASIDE_MAX: usize = 20_000;
/// Most that is fetched for one build before it asks, in bytes of packs, as far as their sizes are known.
const BYTES_MAX: u64 = 2 << 30;
/// How often it is looked whether the build is still running.
const LOOK: Duration = Duration::from_secs(1);
/// Attempts at one candidate that fail. While the remote is sick, none is made.
const ATTEMPTS_MAX: u32 = 3;
/// How long after a failure it is tried again to learn what a build needs, or to fetch it.
const AGAIN: Duration = Duration::from_secs(5);

pub struct Prefetch<D> {
    store: Arc<Store>,
    backend: Arc<D>,
    dispatcher: Arc<Dispatcher<D>>,
    state: Mutex<State>,
    /// Set once nothing is to be fetched ahead of need any more.
    ended: watch::Sender<bool>,
}

#[derive(Default)]
struct State {
    /// The builds that are being prefetched for, with the kinds of units that they have asked for.
    running: HashMap<String, watch::Sender<HashSet<Kind>>>,
    /// Builds that it was begun for.
    begun: HashSet<String>,
    /// Entries that nobody has used yet, with their sizes.
    unused: HashMap<EntryKey, u64>,
    /// Hits of entries that are not among those. One that has just arrived may be used before it is counted; they are
    /// looked for once more.
    early: Vec<EntryKey>,
    numbers: Numbers,
}

impl<D: DaemonBackend> Prefetch<D> {
    pub fn new(store: Arc<Store>, backend: Arc<D>, dispatcher: Arc<Dispatcher<D>>) -> Arc<Self> {
        Arc::new(Self {
            store,
            backend,
            dispatcher,
            state: Mutex::default(),
            ended: watch::Sender::new(false),
        })
    }

    /// A build has asked something. Its first question begins the prefetch; each tells what kind of units it needs.
    pub fn heard_of(self: &Arc<Self>, build: &Build) {
        if build.session.is_empty() || build.dir.is_empty() || *self.ended.borrow() {
            return;
        }
        let kind = Kind {
            target: build.target.clone(),
            toolchain: build.toolchain.clone(),
            shape: Shape { mode: build.mode.clone(), profile: build.profile.clone() },
        };
        let mut state = self.lock();
        if let Some(asked) = state.running.get(&build.session) {
            asked.send_if_modified(|kinds| kinds.insert(kind));
            return;
        }
        if state.begun.len() >= BUILDS_MAX {
            state.begun.clear();
        }
        if !state.begun.insert(build.session.clone()) {
            return;
        }
        state.numbers.builds += 1;
        let (sender, asked) = watch::channel(HashSet::from([kind]));
        state.running.insert(build.session.clone(), sender);
        drop(state);
        let (me, build) = (Arc::clone(self), build.clone());
        tokio::spawn(async move {
            let _over = Over { state: &me.state, session: &build.session };
            let (sender, candidates) = mpsc::channel(AT_ONCE);
            let granted = me.grant_all(&build, candidates, asked.clone());
            tokio::pin!(granted);
            let mut ended = me.ended.subscribe();
            tokio::select! {
                // Once all that is known is known, what is known is still to be fetched.
                () = async { me.foresee(&build, asked, sender).await; std::future::pending().await } => {}
                () = &mut granted => {}
                _ = ended.wait_for(|ended| *ended) => {}
            }
        });
    }

    /// Nothing more is fetched ahead of need. What is on its way may still arrive.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }

    /// Learns what the build needs. Should the remote fail, again: the build goes on for as long as this is polled.
    async fn foresee(&self, build: &Build, asked: Asked, candidates: mpsc::Sender<Candidate>) {
        loop {
            let traffic = Arc::clone(self.dispatcher.traffic());
            match self.backend.foresee(build, asked.clone(), candidates.clone(), traffic).await {
                Err(trouble) if trouble.blame.is_remote() => {
                    tracing::warn!(%trouble, dir = build.dir, "what the build needs is looked for again");
                }
                Err(trouble) => {
                    tracing::warn!(%trouble, dir = build.dir, "little is known about the build");
                    return;
                }
                Ok(()) => return,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Takes candidates as they come. Those for other units than the build has asked for so far wait until it does.
    async fn grant_all(
        self: &Arc<Self>,
        build: &Build,
        mut candidates: mpsc::Receiver<Candidate>,
        mut asked: Asked,
    ) {
        let mut single_flight = JoinSet::new();
        let (mut ready, mut aside) = (VecDeque::<Candidate>::new(), Vec::<Candidate>::new());
        let mut look = tokio::time::interval(LOOK);
        let mut all_known = false;
        let mut bytes = 0;
        while !(all_known && aside.is_empty() && ready.is_empty() && single_flight.is_empty()) {
            while single_flight.len() < AT_ONCE
                && let Some(candidate) = ready.pop_front()
            {
                if self.store.has_entry(&candidate.entry) || bytes + candidate.bytes > BYTES_MAX {
                    continue;
                }
                bytes += candidate.bytes;
                let (me, session) = (Arc::clone(self), build.session.clone());
                single_flight.spawn(async move { me.grant(&candidate, &session).await });
            }
            tokio::select! {
                candidate = candidates.recv(), if !all_known && single_flight.len() < AT_ONCE => match candidate {
                    Some(candidate) if candidate.kind.as_ref().is_none_or(|kind| asked.borrow().contains(kind)) => {
                        ready.push_back(candidate);
                    }
                    Some(candidate) if aside.len() < ASIDE_MAX => aside.push(candidate),
                    Some(_) => {}
                    None => all_known = true,
                },
                _ = asked.changed() => {
                    let kinds = asked.borrow_and_update();
                    let is_ripe = |candidate: &mut Candidate| candidate.kind.as_ref().is_none_or(|kind| kinds.contains(kind));
                    ready.extend(aside.extract_if(.., is_ripe));
                }
                _ = single_flight.join_next(), if !single_flight.is_empty() => {}
                _ = look.tick() => if !sessions::is_running(&build.session) {
                    // Transfers that have begun go on; whatever waits is no longer wanted.
                    return;
                },
            }
        }
    }

    /// Brings what a candidate names, as soon as the remote is well; tries again what fails.
    async fn grant(&self, candidate: &Candidate, session: &str) {
        let mut attempts = 0;
        while attempts < ATTEMPTS_MAX {
            match self.bring_entry(candidate, session, Urgency::Ahead).await {
                Landing::Sick => {}
                Landing::Failed => attempts += 1,
                Landing::Arrived | Landing::Known | Landing::Absent => return,
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Brings an entry that nobody has asked for yet.
    pub async fn bring_entry(&self, candidate: &Candidate, session: &str, urgency: Urgency) -> Landing {
        if self.store.has_entry(&candidate.entry) {
            return Landing::Known;
        }
        let subject = Subject::Entry(candidate.entry);
        let (landing, how) = self.dispatcher.bring(subject, &candidate.names, urgency, session).await;
        // What somebody else had brought is no merit of this.
        if landing == Landing::Arrived
            && how == How::Asked
            && let Ok(Some(entry)) = self.store.peek_entry(&candidate.entry)
        {
            let bytes = entry.size_bytes();
            let mut state = self.lock();
            state.numbers.entries += 1;
            state.numbers.bytes += bytes;
            state.unused.insert(candidate.entry, bytes);
        }
        landing
    }

    /// Sees from the journal what was of use.
    pub fn learn_from(&self, journal: &mut Follower) {
        let Ok(events) = journal.poll() else { return };
        let hits = events.iter().filter(|event| event.outcome == Outcome::Hit);
        let mut state = self.lock();
        let again = std::mem::take(&mut state.early);
        for (key, is_new) in again
            .into_iter()
            .map(|key| (key, false))
            .chain(hits.filter_map(|event| event.entry_key).map(|key| (key, true)))
        {
            match state.unused.remove(&key) {
                Some(bytes) => {
                    state.numbers.used += 1;
                    state.numbers.used_bytes += bytes;
                }
                None if is_new => state.early.push(key),
                None => {}
            }
        }
    }

    pub fn numbers(&self) -> Numbers {
        self.lock().numbers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the end of a prefetch when it goes out of scope.
struct Over<'a> {
    state: &'a Mutex<State>,
    session: &'a str,
}

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.running.remove(self.session);
    }
}

#[cfg(test)]
#[path = "prefetch_tests.rs"]
mod tests;
