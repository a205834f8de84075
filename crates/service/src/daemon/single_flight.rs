//! What is being brought, each thing once however many want it, and for a while what was found to be absent. Does not
//! know what the things are, nor how they are brought.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use super::lock;

/// How long it is remembered that the remote doesn't have something.
pub const ABSENT: Duration = Duration::from_secs(120);
/// Most absences that are remembered; beyond it all are forgotten.
const ABSENT_MAX: usize = 100_000;

/// How an attempt to bring something ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Landing {
    /// It is in the store now.
    Arrived,
    Known,
    /// The remote doesn't have it, or not in a usable form.
    Absent,
    /// The remote was asked and failed.
    Failed,
    /// The remote was not asked: it fails too often.
    Sick,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The remote was asked for it.
    Asked,
    /// Somebody else had it brought at the same time.
    Shared,
    Remembered,
}

/// Where the end of a transfer is announced.
#[derive(Debug, Clone)]
pub struct Flight(watch::Receiver<Option<Landing>>);

impl Flight {
    pub async fn landing(mut self) -> Landing {
        match self.0.wait_for(Option::is_some).await {
            Ok(landing) => landing.unwrap_or(Landing::Failed),
            // Its task is gone without a word: it panicked, or the daemon ends.
            Err(_) => Landing::Failed,
        }
    }
}

/// All transfers of one sort that are under way.
#[derive(Debug)]
pub struct SingleFlight<K> {
    under_way: Mutex<HashMap<K, Flight>>,
    absent: Mutex<HashMap<K, Instant>>,
}

impl<K: Copy + Eq + Hash + Send + 'static> SingleFlight<K> {
    pub fn new() -> Arc<Self> {
        Arc::new(Self { under_way: Mutex::default(), absent: Mutex::default() })
    }

    pub fn is_empty(&self) -> bool {
        lock(&self.under_way).is_empty()
    }

    /// The flight that brings `thing`, begun now with `transfer` unless there is one; or how it ends without one. It goes
    /// on when nobody waits for it any more.
    pub fn join_or_depart<F>(
        self: &Arc<Self>,
        thing: K,
        is_permitted: impl FnOnce() -> bool,
        transfer: impl FnOnce() -> F,
    ) -> Result<(Flight, How), (Landing, How)>
    where
        F: Future<Output = Landing> + Send + 'static,
    {
        let mut under_way = lock(&self.under_way);
        if let Some(flight) = under_way.get(&thing) {
            return Ok((flight.clone(), How::Shared));
        }
        let now = Instant::now();
        if lock(&self.absent).get(&thing).is_some_and(|until| now < *until) {
            return Err((Landing::Absent, How::Remembered));
        }
        if !is_permitted() {
            return Err((Landing::Sick, How::Remembered));
        }
        let (land, flight) = watch::channel(None);
        let flight = Flight(flight);
        under_way.insert(thing, flight.clone());
        drop(under_way);
        let (me, transfer) = (Arc::clone(self), transfer());
        tokio::spawn(async move {
            // However the transfer ends, even by a panic, the flight ends with it.
            let _gone = Gone { single_flight: &me, thing };
            let landing = transfer.await;
            land.send_replace(Some(landing));
        });
        Ok((flight, How::Asked))
    }

    /// The remote doesn't have it: for a while it isn't asked again.
    pub fn remember_absent(&self, thing: K) {
        let mut absent = lock(&self.absent);
        if absent.len() >= ABSENT_MAX {
            absent.clear();
        }
        absent.insert(thing, Instant::now() + ABSENT);
    }

    /// What was found to be absent is asked for again.
    pub fn forget_absent(&self) {
        lock(&self.absent).clear();
    }
}

/// Takes a flight off the board when it goes out of scope.
struct Gone<'a, K: Eq + Hash> {
    single_flight: &'a SingleFlight<K>,
    thing: K,
}

impl<K: Eq + Hash> Drop for Gone<'_, K> {
    fn drop(&mut self) {
        lock(&self.single_flight.under_way).remove(&self.thing);
    }
}
