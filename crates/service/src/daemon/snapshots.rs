//! Brings snapshots that other machines have saved, for a Cargo that begins in a fresh target directory. First the
//! entries that one names, then itself: who finds it in the store finds all of it. Goes on when that build is over, for the
//! next directory is as well served. Does not know what a snapshot is worth; whoever places it judges.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::protocol::{Reply, Seed, Snapshots as Numbers, Unavailable};
use kache_core::snapshot::Snapshot;
use kache_store::Store;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::backend::{Blame, DaemonBackend, Names};
use super::dispatcher::{Dispatcher, Subject};
use super::lock;
use super::single_flight::{Flight, How, Landing, SingleFlight};
use super::traffic::{SMALL_MAX, Urgency};
use crate::transfer::missing_entries;

/// Entries that are worked on at a time; the dispatcher has its own limit of transfers.
const AT_ONCE: usize = 64;
/// Builds that are remembered as having waited.
const BUILDS_MAX: usize = 1000;

/// What names a snapshot: the hash in the object's name, and the context.
type Id = (Digest, Digest);

/// Brings snapshots, see the module.
pub struct Snapshots<D> {
    store: Arc<Store>,
    backend: Arc<D>,
    dispatcher: Arc<Dispatcher<D>>,
    single_flight: Arc<SingleFlight<Id>>,
    /// One is brought at a time, and no more are held in memory.
    turn: tokio::sync::Mutex<()>,
    /// The one that the remote has, while its entries are on their way.
    found: Mutex<Option<Id>>,
    /// Builds that have waited in vain.
    disappointed: Mutex<HashSet<String>>,
    numbers: Mutex<Numbers>,
}

impl<D: DaemonBackend> Snapshots<D> {
    pub fn new(store: Arc<Store>, backend: Arc<D>, dispatcher: Arc<Dispatcher<D>>) -> Arc<Self> {
        Arc::new(Self {
            store,
            backend,
            dispatcher,
            single_flight: SingleFlight::new(),
            turn: tokio::sync::Mutex::default(),
            found: Mutex::default(),
            disappointed: Mutex::default(),
            numbers: Mutex::default(),
        })
    }

    /// Has a snapshot brought. Whoever asks first is told at once that it takes a while: in a fresh directory Cargo asks
    /// again, at last when it has all sources. Who asks while it is on its way waits, as long as for an entry; but no
    /// longer than for any other small object until it shows that the remote has it, and no build twice.
    pub async fn bring(self: &Arc<Self>, wanted: &Seed) -> Reply {
        lock(&self.numbers).asked += 1;
        if self.store.has_snapshot(&wanted.context, &wanted.about.lockfile) {
            return Reply::Arrived;
        }
        let id = (wanted.about.hash(), wanted.context);
        let is_well = || self.dispatcher.traffic().sickness().is_none();
        let (me, seed) = (Arc::clone(self), wanted.clone());
        let joined =
            self.single_flight.join_or_depart(id, is_well, || async move { me.transfer(id, &seed).await });
        let landing = match joined {
            Err((landing, _)) => Some(landing),
            Ok((_, How::Asked)) => None,
            Ok((flight, _)) => self.wait(id, flight, wanted).await,
        };
        match landing {
            Some(Landing::Arrived | Landing::Known) => Reply::Arrived,
            Some(Landing::Absent) => Reply::Absent,
            Some(Landing::Failed | Landing::Sick) => Reply::Unavailable(Unavailable::Sick),
            None => Reply::Unavailable(Unavailable::Late),
        }
    }

    /// Waits for what is on its way; `None` when that takes too long.
    async fn wait(&self, id: Id, flight: Flight, wanted: &Seed) -> Option<Landing> {
        if lock(&self.disappointed).contains(&wanted.session) {
            return None;
        }
        let patience = Duration::from_millis(wanted.patience_ms).min(Subject::ENTRY_MAX);
        let landing = flight.landing();
        tokio::pin!(landing);
        let landed = match timeout(patience.min(SMALL_MAX), &mut landing).await {
            Err(_) if *lock(&self.found) == Some(id) => {
                timeout(patience.saturating_sub(SMALL_MAX), landing).await.ok()
            }
            landed => landed.ok(),
        };
        if landed.is_none() {
            let mut disappointed = lock(&self.disappointed);
            if disappointed.len() >= BUILDS_MAX {
                disappointed.clear();
            }
            disappointed.insert(wanted.session.clone());
        }
        landed
    }

    async fn transfer(&self, id: Id, wanted: &Seed) -> Landing {
        let _turn = self.turn.lock().await;
        let traffic = self.dispatcher.traffic();
        let snapshot = match traffic.guess(|| self.backend.find_snapshot(wanted)).await {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => {
                self.single_flight.remember_absent(id);
                return Landing::Absent;
            }
            Err(trouble) => {
                tracing::warn!(%trouble, dir = wanted.dir, "no snapshot is taken over");
                if trouble.blame != Blame::Object {
                    return Landing::Failed;
                }
                self.single_flight.remember_absent(id);
                return Landing::Absent;
            }
        };
        let _found = Found::note(&self.found, id);
        // Without some of them it would stay as it came; the next question begins with what is missing.
        if !self.bring_entries(&snapshot, &wanted.session).await {
            return Landing::Failed;
        }
        match self.backend.take_snapshot(snapshot).await {
            Ok(units) => {
                tracing::info!(units, dir = wanted.dir, "a snapshot is taken over");
                lock(&self.numbers).taken += 1;
                Landing::Arrived
            }
            Err(trouble) => {
                tracing::warn!(%trouble, dir = wanted.dir, "a snapshot can't be taken over");
                Landing::Failed
            }
        }
    }

    /// Brings all entries that the remote has; `false` when it didn't say of one whether it has it.
    async fn bring_entries(&self, snapshot: &Snapshot, session: &str) -> bool {
        let mut missing = missing_entries(&self.store, std::slice::from_ref(snapshot)).into_iter();
        let mut single_flight = JoinSet::new();
        let mut is_whole = true;
        loop {
            while single_flight.len() < AT_ONCE
                && let Some((package, key)) = missing.next()
            {
                let (dispatcher, session) = (Arc::clone(&self.dispatcher), session.to_owned());
                let names = Names { crate_name: package.to_owned(), package: package.to_owned() };
                single_flight.spawn(async move {
                    let subject = Subject::Entry(key);
                    dispatcher.bring(subject, &names, Urgency::Ahead, &session).await.0
                });
            }
            match single_flight.join_next().await {
                None => return is_whole,
                Some(Ok(Landing::Arrived)) => lock(&self.numbers).entries += 1,
                Some(Ok(Landing::Known | Landing::Absent)) => {}
                Some(Ok(Landing::Failed | Landing::Sick) | Err(_)) => is_whole = false,
            }
        }
    }

    pub fn numbers(&self) -> Numbers {
        *lock(&self.numbers)
    }
}

/// Says of a snapshot that the remote has it, for as long as this lives.
struct Found<'a>(&'a Mutex<Option<Id>>);

impl<'a> Found<'a> {
    fn note(found: &'a Mutex<Option<Id>>, id: Id) -> Self {
        *lock(found) = Some(id);
        Self(found)
    }
}

impl Drop for Found<'_> {
    fn drop(&mut self) {
        *lock(self.0) = None;
    }
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
