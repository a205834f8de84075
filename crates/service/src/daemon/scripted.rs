//! A backend for tests: does what it is told, counts, and can be held up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};
use kache_core::protocol::{Build, Seed};
use kache_core::snapshot::Snapshot;
use tokio::sync::{Semaphore, mpsc};

use super::backend::{Asked, Blame, Candidate, DaemonBackend, Fetched, Names, Promise, Pushed, Trouble};
use super::dispatcher::Subject;
use super::traffic::Traffic;

#[derive(Debug, Clone)]
pub enum Fate {
    Fetched(Fetched),
    Trouble(Blame),
    Panic,
}

/// See the module. What nothing was arranged for is absent.
pub struct Scripted {
    pub fates: Mutex<HashMap<Subject, Fate>>,
    pub pushes: Mutex<HashMap<EntryKey, Result<Pushed, Blame>>>,
    /// What becomes of all pushes for which nothing else was arranged.
    pub all_pushes: Mutex<Result<Pushed, Blame>>,
    pub candidates: Mutex<Vec<Candidate>>,
    /// Failures of the next attempts to foresee anything.
    pub foresight: Mutex<Vec<Blame>>,
    /// What the remote has for every fresh directory.
    pub snapshot: Mutex<Option<Snapshot>>,
    pub taken: Mutex<Vec<Snapshot>>,
    /// How often one was looked for.
    pub snapshots_looked_for: AtomicUsize,
    /// In the order in which they began.
    pub asked: Mutex<Vec<Subject>>,
    pub pushed: Mutex<Vec<EntryKey>>,
    /// A transfer takes a permit to end, after this time.
    pub gate: Semaphore,
    pub takes: Duration,
    pub under_way: AtomicUsize,
    pub under_way_max: AtomicUsize,
}

impl Scripted {
    /// One whose transfers take no time.
    pub fn new() -> Arc<Self> {
        Self::gated(Semaphore::MAX_PERMITS)
    }

    /// One of whose transfers this many end; others wait for permits.
    pub fn gated(permits: usize) -> Arc<Self> {
        Arc::new(Self::with(permits, Duration::ZERO))
    }

    /// One whose transfers take so long.
    pub fn slow(takes: Duration) -> Arc<Self> {
        Arc::new(Self::with(Semaphore::MAX_PERMITS, takes))
    }

    fn with(permits: usize, takes: Duration) -> Self {
        Self {
            fates: Mutex::default(),
            pushes: Mutex::default(),
            all_pushes: Mutex::new(Ok(Pushed::Done)),
            candidates: Mutex::default(),
            foresight: Mutex::default(),
            snapshot: Mutex::default(),
            taken: Mutex::default(),
            snapshots_looked_for: AtomicUsize::new(0),
            asked: Mutex::default(),
            pushed: Mutex::default(),
            gate: Semaphore::new(permits),
            under_way: AtomicUsize::new(0),
            under_way_max: AtomicUsize::new(0),
            takes,
        }
    }

    pub fn arrange(&self, subject: Subject, fate: Fate) {
        self.fates.lock().expect("lock").insert(subject, fate);
    }

    pub fn times_asked(&self) -> usize {
        self.asked.lock().expect("lock").len()
    }

    async fn pass(&self) {
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.under_way_max.fetch_max(now, Ordering::SeqCst);
        if !self.takes.is_zero() {
            tokio::time::sleep(self.takes).await;
        }
        self.gate.acquire().await.expect("open").forget();
        self.under_way.fetch_sub(1, Ordering::SeqCst);
    }

    async fn fetch(&self, subject: Subject) -> Result<Fetched, Trouble> {
        self.asked.lock().expect("lock").push(subject);
        self.pass().await;
        let fate = self.fates.lock().expect("lock").get(&subject).cloned();
        match fate.unwrap_or(Fate::Fetched(Fetched::Absent)) {
            Fate::Fetched(fetched) => Ok(fetched),
            Fate::Trouble(blame) => Err(Trouble { blame, why: "arranged".to_owned() }),
            Fate::Panic => panic!("arranged"),
        }
    }
}

impl DaemonBackend for Scripted {
    fn fetch_entry<'a>(&'a self, key: EntryKey, _: &'a Names, _: &'a str) -> Promise<'a, Fetched> {
        Box::pin(self.fetch(Subject::Entry(key)))
    }

    fn fetch_records<'a>(&'a self, unit: UnitKey, _: &'a Names) -> Promise<'a, Fetched> {
        Box::pin(self.fetch(Subject::Records(unit)))
    }

    fn foresee<'a>(
        &'a self,
        _: &'a Build,
        _: Asked,
        candidates: mpsc::Sender<Candidate>,
        _: Arc<Traffic>,
    ) -> Promise<'a, ()> {
        Box::pin(async move {
            if let Some(blame) = self.foresight.lock().expect("lock").pop() {
                return Err(Trouble { blame, why: "arranged".to_owned() });
            }
            let all = self.candidates.lock().expect("lock").clone();
            for candidate in all {
                if candidates.send(candidate).await.is_err() {
                    break;
                }
            }
            Ok(())
        })
    }

    fn find_snapshot<'a>(&'a self, _: &'a Seed) -> Promise<'a, Option<Snapshot>> {
        Box::pin(async move {
            self.snapshots_looked_for.fetch_add(1, Ordering::SeqCst);
            self.pass().await;
            Ok(self.snapshot.lock().expect("lock").clone())
        })
    }

    fn take_snapshot(&self, snapshot: Snapshot) -> Promise<'_, usize> {
        Box::pin(async move {
            let units = snapshot.units.len();
            self.taken.lock().expect("lock").push(snapshot);
            Ok(units)
        })
    }

    fn push(&self, key: EntryKey) -> Promise<'_, Pushed> {
        Box::pin(async move {
            self.pushed.lock().expect("lock").push(key);
            self.pass().await;
            let result = self.pushes.lock().expect("lock").get(&key).cloned();
            let result = result.unwrap_or_else(|| self.all_pushes.lock().expect("lock").clone());
            result.map_err(|blame| Trouble { blame, why: "arranged".to_owned() })
        })
    }
}

pub fn key(name: &str) -> EntryKey {
    EntryKey(Digest::of(name.as_bytes()))
}

/// Names that don't matter.
pub fn names() -> Names {
    Names { crate_name: "demo".to_owned(), package: "demo".to_owned() }
}
