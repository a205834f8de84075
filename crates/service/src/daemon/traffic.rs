//! When the daemon may talk to the remote: a few requests at a time, some of them kept for builds that wait, and none
//! while the remote is sick. Judges by what it is told; does not know what is asked for.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::health::Health;
use super::trouble::{Blame, Trouble};

/// Longest time for a small object: a remote that takes longer is of no use to a build.
pub const SMALL_MAX: Duration = Duration::from_secs(3);
/// Attempts at one request of a guess.
const GUESSES_MAX: u32 = 3;
/// How often somebody who waits for a sick remote looks again.
const LOOK: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    Demand,
    Ahead,
}

/// All requests to one remote, uploads aside.
pub struct Traffic {
    health: Health,
    slots: Semaphore,
    slots_max: usize,
    /// What is brought ahead leaves some of the slots free.
    ahead: Semaphore,
}

impl Traffic {
    /// At most `slots` requests at a time.
    pub fn new(slots: usize) -> Self {
        let slots = slots.max(2);
        Self {
            health: Health::default(),
            slots: Semaphore::new(slots),
            slots_max: slots,
            ahead: Semaphore::new(slots - slots.div_ceil(4)),
        }
    }

    /// Waits for one's turn among those who are not urgent; the others need none.
    pub async fn turn(&self, urgency: Urgency) -> Option<SemaphorePermit<'_>> {
        match urgency {
            Urgency::Ahead => self.ahead.acquire().await.ok(),
            Urgency::Demand => None,
        }
    }

    pub async fn slot(&self) -> Option<SemaphorePermit<'_>> {
        self.slots.acquire().await.ok()
    }

    /// Whether any slot is taken.
    pub fn is_busy(&self) -> bool {
        self.slots.available_permits() < self.slots_max
    }

    /// Whether to ask the remote now. While it is sick, one of many gets a yes now and then.
    pub fn permits(&self) -> bool {
        self.health.permits(Instant::now())
    }

    /// Why the remote is left alone at the moment.
    pub fn sickness(&self) -> Option<String> {
        self.health.sickness(Instant::now())
    }

    /// Whether it is left alone because the credentials are not accepted.
    pub fn lacks_credentials(&self) -> bool {
        self.health.lacks_credentials()
    }

    /// Where the credentials were refused, the next request is permitted at once.
    pub fn try_credentials_again(&self) {
        self.health.try_credentials_again(Instant::now());
    }

    /// The remote has answered, after so long. One that takes longer than it may is as good as none.
    pub fn answered(&self, took: Duration, allowed: Duration) {
        if took <= allowed {
            self.health.well();
        } else {
            self.is_late(took);
        }
    }

    /// The remote has had so long and not answered, or not in time.
    pub fn is_late(&self, waited: Duration) {
        let why = format!("the remote is too slow: {:.1} s for one answer", waited.as_secs_f64());
        self.health.failed(Blame::Remote, &why, Instant::now());
    }

    pub fn failed(&self, trouble: &Trouble) {
        match trouble.blame {
            Blame::Remote | Blame::Unreachable | Blame::Credentials => {
                self.health.failed(trouble.blame, &trouble.why, Instant::now());
            }
            // Of no use, but an answer.
            Blame::Object | Blame::Denied => self.health.well(),
            Blame::Local => {}
        }
    }

    /// One request of a guess at what a build needs: waits for its turn and for a remote that is sick, and tries again
    /// what the remote failed to do.
    pub async fn guess<T, F>(&self, mut request: impl FnMut() -> F) -> Result<T, Trouble>
    where
        F: Future<Output = Result<T, Trouble>>,
    {
        let mut attempts = 0;
        loop {
            let turn = self.turn(Urgency::Ahead).await;
            let slot = self.slot().await;
            if !self.permits() {
                drop((turn, slot));
                tokio::time::sleep(LOOK).await;
                continue;
            }
            let begun = Instant::now();
            match request().await {
                Ok(answer) => {
                    self.answered(begun.elapsed(), SMALL_MAX);
                    return Ok(answer);
                }
                Err(trouble) => {
                    self.failed(&trouble);
                    attempts += 1;
                    if attempts >= GUESSES_MAX || !trouble.blame.is_remote() {
                        return Err(trouble);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn trouble(blame: Blame) -> Trouble {
        Trouble { blame, why: "arranged".to_owned() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_guess_waits_for_a_sick_remote_and_tries_again() {
        let traffic = Traffic::new(4);
        for _ in 0..3 {
            traffic.failed(&trouble(Blame::Remote));
        }
        assert!(traffic.sickness().is_some());
        let tries = Cell::new(0);
        let begun = Instant::now();
        let answer = traffic
            .guess(|| async {
                tries.set(tries.get() + 1);
                if tries.get() < 2 { Err(trouble(Blame::Remote)) } else { Ok(tries.get()) }
            })
            .await;
        assert_eq!(answer, Ok(2));
        assert!(
            begun.elapsed() >= Duration::from_secs(30),
            "one pause, and another after the attempt in between"
        );
        assert!(traffic.sickness().is_none() && !traffic.is_busy());
    }

    #[tokio::test(start_paused = true)]
    async fn what_only_fails_again_is_not_tried_again() {
        let traffic = Traffic::new(4);
        for (blame, expected) in
            [(Blame::Remote, 3), (Blame::Object, 1), (Blame::Local, 1), (Blame::Denied, 1)]
        {
            let tries = Cell::new(0);
            let answer: Result<(), Trouble> = traffic
                .guess(|| async {
                    tries.set(tries.get() + 1);
                    Err(trouble(blame))
                })
                .await;
            assert_eq!((answer.is_err(), tries.get()), (true, expected), "{blame:?}");
            traffic.answered(Duration::ZERO, SMALL_MAX);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_remote_that_answers_late_is_sick_and_stays_so() {
        let traffic = Traffic::new(4);
        for _ in 0..20 {
            traffic.answered(SMALL_MAX * 2, SMALL_MAX);
        }
        assert!(traffic.sickness().is_some_and(|why| why.contains("too slow: 6.0 s")));
        traffic.answered(SMALL_MAX, SMALL_MAX);
        assert!(traffic.sickness().is_none());
    }
}
