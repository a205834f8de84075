//! Brings things from the remote into the store, once however many ask, and remembers for a while what the remote
//! doesn't have. A remote that fails is left alone. Does not know how a transfer is done, nor who asks.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kache_core::key::{EntryKey, UnitKey};
use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;

use super::depot::{Blame, Depot, Fetched, Names, Trouble};
use super::health::Health;

/// How long it is remembered that the remote doesn't have something.
const ABSENT: Duration = Duration::from_secs(120);
/// Most absences that are remembered; beyond it all are forgotten.
const ABSENT_MAX: usize = 100_000;
/// Longest time for one transfer: one that takes longer is given up, and the remote counts as sick.
const TRANSFER_MAX: Duration = Duration::from_secs(300);

/// Something that a remote may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    /// An entry.
    Entry(EntryKey),
    /// The input records of a unit.
    Records(UnitKey),
}

/// How an attempt to bring something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// It is in the store now.
    Arrived,
    /// It was in the store.
    Known,
    /// The remote doesn't have it, or not in a usable form.
    Absent,
    /// The remote was asked and failed.
    Failed,
    /// The remote was not asked: it fails too often.
    Sick,
}

/// Who wants something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// A build waits.
    Demand,
    /// A build may ask later.
    Ahead,
}

/// How a landing came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The remote was asked for it.
    Asked,
    /// Somebody else had it brought at the same time.
    Shared,
    /// It was remembered.
    Remembered,
}

/// Where the end of a transfer is announced.
type Flight = watch::Receiver<Option<Landing>>;

/// Brings things, see the module.
pub struct Dispatcher<D> {
    depot: Arc<D>,
    health: Health,
    flights: Mutex<HashMap<Subject, Flight>>,
    absent: Mutex<HashMap<Subject, Instant>>,
    slots: Semaphore,
    /// What is brought ahead leaves some of the slots free.
    ahead: Semaphore,
}

impl<D: Depot> Dispatcher<D> {
    /// A dispatcher that makes at most `slots` transfers at a time.
    pub fn new(depot: Arc<D>, slots: usize) -> Arc<Self> {
        let slots = slots.max(2);
        Arc::new(Self {
            depot,
            health: Health::default(),
            flights: Mutex::default(),
            absent: Mutex::default(),
            slots: Semaphore::new(slots),
            ahead: Semaphore::new(slots - slots.div_ceil(4)),
        })
    }

    /// Why the remote is left alone at the moment.
    pub fn sickness(&self) -> Option<String> {
        self.health.sickness(Instant::now())
    }

    /// A build waited longer than it was ready to: counts as a failure of the remote.
    pub fn was_too_slow(&self) {
        self.health.failed("the remote is too slow", Instant::now());
    }

    /// Whether something is being brought.
    pub fn is_busy(&self) -> bool {
        !lock(&self.flights).is_empty()
    }

    /// Brings something. Dropping the future leaves the transfer running: others may wait for it.
    pub async fn bring(
        self: &Arc<Self>,
        subject: Subject,
        names: &Names,
        urgency: Urgency,
    ) -> (Landing, How) {
        // Whoever waits for a slot ahead of need has not begun: a build that needs the same doesn't queue behind it.
        let _place = match urgency {
            Urgency::Ahead => self.ahead.acquire().await.ok(),
            Urgency::Demand => None,
        };
        let (mut flight, how) = match self.join_or_depart(subject, names) {
            Ok(flight) => flight,
            Err(landing) => return landing,
        };
        let landing = match flight.wait_for(Option::is_some).await {
            Ok(landing) => landing.unwrap_or(Landing::Failed),
            // Its task is gone without a word: it panicked, or the daemon ends.
            Err(_) => Landing::Failed,
        };
        (landing, how)
    }

    /// The flight that brings the subject, begun now unless there is one; or how it ends without one.
    fn join_or_depart(
        self: &Arc<Self>,
        subject: Subject,
        names: &Names,
    ) -> Result<(Flight, How), (Landing, How)> {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(&subject) {
            return Ok((flight.clone(), How::Shared));
        }
        let now = Instant::now();
        if lock(&self.absent).get(&subject).is_some_and(|until| now < *until) {
            return Err((Landing::Absent, How::Remembered));
        }
        if !self.health.permits(now) {
            return Err((Landing::Sick, How::Remembered));
        }
        let (land, flight) = watch::channel(None);
        flights.insert(subject, flight.clone());
        drop(flights);
        let (me, names) = (Arc::clone(self), names.clone());
        tokio::spawn(async move {
            // However the transfer ends, even by a panic, the flight ends with it.
            let _gone = Gone { flights: &me.flights, subject };
            let landing = me.transfer(subject, &names).await;
            land.send_replace(Some(landing));
        });
        Ok((flight, How::Asked))
    }

    async fn transfer(&self, subject: Subject, names: &Names) -> Landing {
        let _slot = self.slots.acquire().await.ok();
        let work = async {
            match subject {
                Subject::Entry(key) => self.depot.fetch_entry(key, names).await,
                Subject::Records(unit) => self.depot.fetch_records(unit, names).await,
            }
        };
        let result = tokio::time::timeout(TRANSFER_MAX, work).await.unwrap_or_else(|_| {
            Err(Trouble { blame: Blame::Remote, why: "a transfer took too long".to_owned() })
        });
        match result {
            Ok(fetched) => {
                self.health.well();
                // Records that have just come bring nothing new a moment later.
                if fetched == Fetched::Absent || matches!(subject, Subject::Records(_)) {
                    self.remember_absent(subject);
                }
                match fetched {
                    Fetched::New => Landing::Arrived,
                    Fetched::Known => Landing::Known,
                    Fetched::Absent => Landing::Absent,
                }
            }
            Err(trouble) => {
                tracing::warn!(?subject, crate_name = names.crate_name, %trouble, "a transfer failed");
                match trouble.blame {
                    Blame::Remote => self.health.failed(&trouble.why, Instant::now()),
                    Blame::Object => self.remember_absent(subject),
                    Blame::Local => {}
                }
                Landing::Failed
            }
        }
    }

    fn remember_absent(&self, subject: Subject) {
        let mut absent = lock(&self.absent);
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(subject, Instant::now() + ABSENT);
    }

    /// Forgets that something was absent: it has just been uploaded from here, or evicted.
    pub fn forget(&self, subject: Subject) {
        lock(&self.absent).remove(&subject);
    }
}

/// Takes a flight off the board when it goes out of scope.
struct Gone<'a> {
    flights: &'a Mutex<HashMap<Subject, Flight>>,
    subject: Subject,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        lock(self.flights).remove(&self.subject);
    }
}

/// Nothing that can panic is done while one of these locks is held.
fn lock<K: Eq + Hash, V>(mutex: &Mutex<HashMap<K, V>>) -> MutexGuard<'_, HashMap<K, V>> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
