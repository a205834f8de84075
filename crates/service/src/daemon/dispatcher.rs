//! Brings things from the remote into the store, once however many ask, and remembers for a while what the remote
//! doesn't have. A remote that fails is left alone. Does not know how a transfer is done, nor who asks.

use std::sync::Arc;
use std::time::Duration;

use kache_core::key::{EntryKey, UnitKey};
use tokio::time::Instant;

use super::backend::{Blame, DaemonBackend, Fetched, Names, Trouble};
use super::single_flight::{Flight, SingleFlight};
pub use super::single_flight::{How, Landing};
use super::traffic::{SMALL_MAX, Traffic, Urgency};

/// Longest time for one transfer, should it ever fail to end by itself. The largest pack on a slow line takes hours.
pub const TRANSFER_MAX: Duration = Duration::from_secs(6 * 3600);
/// A line that carries less than this makes the remote too slow, in bytes per second; it is shared by all transfers.
const SLOWEST: u64 = 16 << 10;

/// Something that a remote may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Subject {
    Entry(EntryKey),
    /// The input records of a unit.
    Records(UnitKey),
}

impl Subject {
    /// Longest time that a build is kept waiting for an entry. The transfer goes on: who asks later finds its result.
    pub const ENTRY_MAX: Duration = Duration::from_secs(15);

    /// How long a build waits for it.
    pub const fn patience(self) -> Duration {
        match self {
            Subject::Entry(_) => Self::ENTRY_MAX,
            Subject::Records(_) => SMALL_MAX,
        }
    }

    /// How long a remote of use may take to bring it, or to say that it has none.
    fn allowance(self, fetched: Fetched) -> Duration {
        match (self, fetched) {
            // The manifest, then the pack.
            (Subject::Entry(_), Fetched::New { bytes }) => {
                SMALL_MAX * 2 + Duration::from_secs(bytes / SLOWEST)
            }
            _ => SMALL_MAX,
        }
    }
}

/// Brings things, see the module.
pub struct Dispatcher<D> {
    backend: Arc<D>,
    traffic: Arc<Traffic>,
    single_flight: Arc<SingleFlight<Subject>>,
}

impl<D: DaemonBackend> Dispatcher<D> {
    /// A dispatcher that makes at most `slots` transfers at a time.
    pub fn new(backend: Arc<D>, slots: usize) -> Arc<Self> {
        Arc::new(Self { backend, traffic: Arc::new(Traffic::new(slots)), single_flight: SingleFlight::new() })
    }

    /// All requests to the remote, for whoever makes some of them without bringing anything.
    pub fn traffic(&self) -> &Arc<Traffic> {
        &self.traffic
    }

    /// Whether something is being brought, or looked for.
    pub fn is_busy(&self) -> bool {
        self.traffic.is_busy() || !self.single_flight.is_empty()
    }

    /// What the remote was found not to have, and records that came, are asked for again.
    pub fn forget(&self) {
        self.single_flight.forget_absent();
    }

    /// Brings something; an entry for the build `session` before that asks for it, where one is given. Dropping the
    /// future leaves the transfer running: others may wait for it.
    pub async fn bring(
        self: &Arc<Self>,
        subject: Subject,
        names: &Names,
        urgency: Urgency,
        session: &str,
    ) -> (Landing, How) {
        // Whoever waits for a slot ahead of need has not begun: a build that needs the same doesn't queue behind it.
        let _turn = self.traffic.turn(urgency).await;
        match self.join_or_depart(subject, names, urgency, session) {
            Ok((flight, how)) => (flight.landing().await, how),
            Err(landing) => landing,
        }
    }

    /// The flight that brings the subject, begun now unless there is one; or how it ends without one.
    fn join_or_depart(
        self: &Arc<Self>,
        subject: Subject,
        names: &Names,
        urgency: Urgency,
        session: &str,
    ) -> Result<(Flight, How), (Landing, How)> {
        let (me, names, session) = (Arc::clone(self), names.clone(), session.to_owned());
        let transfer = || async move { me.transfer(subject, &names, urgency, &session).await };
        self.single_flight.join_or_depart(subject, || self.traffic.permits(), transfer)
    }

    async fn transfer(&self, subject: Subject, names: &Names, urgency: Urgency, session: &str) -> Landing {
        let _slot = self.traffic.slot().await;
        // Only from here on: what waits behind other transfers says nothing about the remote.
        let begun = Instant::now();
        let (result, is_late) = self.attempt(subject, names, urgency, session).await;
        match result {
            Ok(fetched) => {
                let allowed = subject.allowance(fetched);
                if !is_late || begun.elapsed() <= allowed {
                    self.traffic.answered(begun.elapsed(), allowed);
                }
                // Records that have just come bring nothing new a moment later.
                if fetched == Fetched::Absent || matches!(subject, Subject::Records(_)) {
                    self.single_flight.remember_absent(subject);
                }
                match fetched {
                    Fetched::New { .. } => Landing::Arrived,
                    Fetched::Known => Landing::Known,
                    Fetched::Absent => Landing::Absent,
                }
            }
            Err(trouble) => {
                tracing::warn!(?subject, crate_name = names.crate_name, %trouble, "a transfer failed");
                self.traffic.failed(&trouble);
                if trouble.blame == Blame::Object {
                    self.single_flight.remember_absent(subject);
                    return Landing::Absent;
                }
                Landing::Failed
            }
        }
    }

    /// One transfer, and whether it had to be counted as late before it ended: a remote that hangs is noticed as soon as
    /// builds give up waiting for it, and not when the last attempt at it ends.
    async fn attempt(
        &self,
        subject: Subject,
        names: &Names,
        urgency: Urgency,
        session: &str,
    ) -> (Result<Fetched, Trouble>, bool) {
        let work = async {
            match subject {
                Subject::Entry(key) => self.backend.fetch_entry(key, names, session).await,
                Subject::Records(unit) => self.backend.fetch_records(unit, names).await,
            }
        };
        let work = tokio::time::timeout(TRANSFER_MAX, work);
        tokio::pin!(work);
        let mut is_late = false;
        // A large entry that nobody waits for may take its time.
        let is_awaited = urgency == Urgency::Demand || matches!(subject, Subject::Records(_));
        let result = loop {
            tokio::select! {
                result = &mut work => break result,
                () = tokio::time::sleep(subject.patience()), if is_awaited && !is_late => {
                    is_late = true;
                    self.traffic.is_late(subject.patience());
                }
            }
        };
        let never = |_| Err(Trouble { blame: Blame::Remote, why: "a transfer took too long".to_owned() });
        (result.unwrap_or_else(never), is_late)
    }
}

#[cfg(test)]
#[path = "dispatcher_tests.rs"]
mod tests;
