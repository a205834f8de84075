//! Fetches what a build is likely to need before it asks. Begins at a build's first question and goes on until all is
//! there or the build is over. Measures what was of use. Does not know how the guess is made.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kache_core::event::Outcome;
use kache_core::key::EntryKey;
use kache_core::protocol::{Build, Prefetch as Numbers};
use kache_store::Store;
use kache_store::journal::Follower;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::depot::{Depot, Shape, Wish};
use super::dispatcher::{Dispatcher, Landing, Subject, Urgency};
use super::sessions;

/// Builds that are remembered as begun.
const BUILDS_MAX: usize = 1000;
/// Wishes that are worked on at a time; the dispatcher has its own limit of transfers.
const AT_ONCE: usize = 64;
/// Most wishes that wait for their shape to be asked for.
const ASIDE_MAX: usize = 20_000;
/// How often it is looked whether the build is still running.
const LOOK: Duration = Duration::from_secs(1);

/// Prefetches for all builds.
pub struct Prefetch<D> {
    store: Arc<Store>,
    depot: Arc<D>,
    dispatcher: Arc<Dispatcher<D>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The builds that are being prefetched for, with the shapes of the units that they have asked for.
    running: HashMap<String, watch::Sender<HashSet<Shape>>>,
    /// Builds that it was begun for.
    begun: HashSet<String>,
    /// Entries that nobody has used yet, with their sizes.
    unused: HashMap<EntryKey, u64>,
    numbers: Numbers,
}

impl<D: Depot> Prefetch<D> {
    /// No prefetch yet.
    pub fn new(store: Arc<Store>, depot: Arc<D>, dispatcher: Arc<Dispatcher<D>>) -> Arc<Self> {
        Arc::new(Self { store, depot, dispatcher, state: Mutex::default() })
    }

    /// A build has asked something. Its first question begins the prefetch; each tells what shape of units it needs.
    pub fn heard_of(self: &Arc<Self>, build: &Build) {
        if build.session.is_empty() || build.dir.is_empty() {
            return;
        }
        let shape = Shape { mode: build.mode.clone(), profile: build.profile.clone() };
        let mut state = self.lock();
        if let Some(shapes) = state.running.get(&build.session) {
            shapes.send_if_modified(|shapes| shapes.insert(shape));
            return;
        }
        if state.begun.len() >= BUILDS_MAX {
            state.begun.clear();
        }
        if !state.begun.insert(build.session.clone()) {
            return;
        }
        state.numbers.builds += 1;
        let (sender, shapes) = watch::channel(HashSet::from([shape]));
        state.running.insert(build.session.clone(), sender);
        drop(state);
        let (me, build) = (Arc::clone(self), build.clone());
        tokio::spawn(async move {
            let _over = Over { state: &me.state, session: &build.session };
            let (sender, wishes) = mpsc::channel(AT_ONCE);
            let foresight = async {
                if let Err(trouble) = me.depot.foresee(&build, sender).await {
                    tracing::warn!(%trouble, dir = build.dir, "little is known about the build");
                }
            };
            tokio::join!(foresight, me.fulfil(&build, wishes, shapes));
        });
    }

    /// Grants wishes as they come. Those for other units than the build has asked for so far wait until it does.
    async fn fulfil(
        self: &Arc<Self>,
        build: &Build,
        mut wishes: mpsc::Receiver<Wish>,
        mut shapes: watch::Receiver<HashSet<Shape>>,
    ) {
        let mut flights = JoinSet::new();
        let mut aside: Vec<Wish> = Vec::new();
        let mut look = tokio::time::interval(LOOK);
        let mut all_known = false;
        while !(all_known && aside.is_empty()) {
            let ripe = tokio::select! {
                wish = wishes.recv(), if !all_known && aside.len() < ASIDE_MAX => match wish {
                    Some(wish) => vec![wish],
                    None => {
                        all_known = true;
                        continue;
                    }
                },
                _ = shapes.changed() => std::mem::take(&mut aside),
                _ = look.tick() => {
                    if !sessions::is_running(&build.session) {
                        break;
                    }
                    continue;
                }
            };
            for wish in ripe {
                if !wish.shape.as_ref().is_none_or(|shape| shapes.borrow().contains(shape)) {
                    aside.push(wish);
                    continue;
                }
                if flights.len() >= AT_ONCE {
                    flights.join_next().await;
                }
                let (me, session) = (Arc::clone(self), build.session.clone());
                flights.spawn(async move { me.bring_entry(&wish, &session, Urgency::Ahead).await });
            }
        }
        // What has begun is finished; what hasn't is no longer wanted.
        drop(wishes);
        while flights.join_next().await.is_some() {}
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
        !self.lock().running.is_empty()
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
