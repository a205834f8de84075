//! Fetches what a build is likely to need before it asks. Begins at a build's first question and goes on until all is
//! there or the build is over. Measures what was of use. Does not know how the guess is made.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kache_core::event::Outcome;
use kache_core::key::EntryKey;
use kache_core::protocol::{Build, Prefetch as Numbers};
use kache_store::Store;
use kache_store::journal::Follower;
use tokio::task::JoinSet;

use super::depot::{Depot, Wish};
use super::dispatcher::{Dispatcher, Landing, Subject, Urgency};
use super::sessions;

/// Builds that are remembered as begun.
const BUILDS_MAX: usize = 1000;
/// Wishes that are worked on at a time; the dispatcher has its own limit of transfers.
const AT_ONCE: usize = 64;

/// Prefetches for all builds.
pub struct Prefetch<D> {
    store: Arc<Store>,
    depot: Arc<D>,
    dispatcher: Arc<Dispatcher<D>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    begun: HashSet<String>,
    running: u32,
    /// Entries that nobody has used yet, with their sizes.
    unused: HashMap<EntryKey, u64>,
    numbers: Numbers,
}

impl<D: Depot> Prefetch<D> {
    /// No prefetch yet.
    pub fn new(store: Arc<Store>, depot: Arc<D>, dispatcher: Arc<Dispatcher<D>>) -> Arc<Self> {
        Arc::new(Self { store, depot, dispatcher, state: Mutex::default() })
    }

    /// A build has asked something. Its first question begins the prefetch.
    pub fn heard_of(self: &Arc<Self>, build: &Build) {
        if build.session.is_empty() || build.dir.is_empty() {
            return;
        }
        {
            let mut state = self.lock();
            if state.begun.len() >= BUILDS_MAX {
                state.begun.clear();
            }
            if !state.begun.insert(build.session.clone()) {
                return;
            }
            state.running += 1;
            state.numbers.builds += 1;
        }
        let (me, build) = (Arc::clone(self), build.clone());
        tokio::spawn(async move {
            let _over = Over(&me.state);
            match me.depot.foresee(&build).await {
                Ok(wishes) => me.fulfil(&build, wishes).await,
                Err(trouble) => tracing::warn!(%trouble, dir = build.dir, "nothing is known about the build"),
            }
        });
    }

    async fn fulfil(self: &Arc<Self>, build: &Build, wishes: Vec<Wish>) {
        tracing::info!(dir = build.dir, count = wishes.len(), "prefetching");
        let mut flights = JoinSet::new();
        for wish in wishes {
            if !sessions::is_running(&build.session) {
                tracing::info!(dir = build.dir, "the build is over");
                break;
            }
            if flights.len() >= AT_ONCE {
                flights.join_next().await;
            }
            let (me, session) = (Arc::clone(self), build.session.clone());
            flights.spawn(async move { me.grant(&wish, &session).await });
        }
        while flights.join_next().await.is_some() {}
    }

    /// Records first: without them an entry is not found.
    async fn grant(self: Arc<Self>, wish: &Wish, session: &str) {
        let has_records = self.store.records(&wish.unit).is_ok_and(|set| {
            set.records.iter().any(|record| record.last == Some(wish.entry))
        });
        if !has_records {
            self.dispatcher.bring(Subject::Records(wish.unit), &wish.names, Urgency::Ahead).await;
        }
        self.bring_entry(wish, session, Urgency::Ahead).await;
    }

    /// Brings an entry that nobody has asked for yet.
    pub async fn bring_entry(&self, wish: &Wish, session: &str, urgency: Urgency) {
        if self.store.peek_entry(&wish.entry).is_ok_and(|entry| entry.is_some()) {
            return;
        }
        let (landing, _) = self.dispatcher.bring(Subject::Entry(wish.entry), &wish.names, urgency).await;
        if landing != Landing::Arrived {
            return;
        }
        match self.store.note_prefetch(&wish.entry, session) {
            Ok(Some(bytes)) => {
                let mut state = self.lock();
                state.numbers.entries += 1;
                state.numbers.bytes += bytes;
                state.unused.insert(wish.entry, bytes);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "a prefetched entry counts as a local one"),
        }
    }

    /// Sees from the journal what was of use.
    pub fn learn_from(&self, journal: &mut Follower) {
        let Ok(events) = journal.poll() else { return };
        let mut state = self.lock();
        for event in events.iter().filter(|event| event.outcome == Outcome::Hit) {
            if let Some(bytes) = event.entry_key.and_then(|key| state.unused.remove(&key)) {
                state.numbers.used += 1;
                state.numbers.used_bytes += bytes;
            }
        }
    }

    /// Whether something is being prefetched.
    pub fn is_busy(&self) -> bool {
        self.lock().running > 0
    }

    /// The numbers so far.
    pub fn numbers(&self) -> Numbers {
        self.lock().numbers
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Notes the end of a prefetch when it goes out of scope.
struct Over<'a>(&'a Mutex<State>);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = state.running.saturating_sub(1);
    }
}
