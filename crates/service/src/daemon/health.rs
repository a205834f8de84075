//! Whether a remote is worth asking: after some failures in a row it is left alone for a while, then a single attempt
//! shows whether it is well again. Credentials that are refused need no second failure,
//! nor does a server that takes no connections. Pure bookkeeping; the time comes
//! in as a value.

use std::sync::Mutex;
use std::time::Duration;

use tokio::time::Instant;

use super::trouble::Blame;

/// Failures in a row that make a remote sick.
const FAILURES_MAX: u32 = 3;
/// How long it is left alone at first, and at most.
const PAUSE_MIN: Duration = Duration::from_secs(10);
const PAUSE_MAX: Duration = Duration::from_secs(600);

/// The health of one kind of request to one remote.
#[derive(Debug)]
pub struct Health {
    state: Mutex<State>,
    pause_min: Duration,
    pause_max: Duration,
}

impl Default for Health {
    fn default() -> Self {
        Self::with_pauses(PAUSE_MIN, PAUSE_MAX)
    }
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Whose fault the latest one was.
    blame: Option<Blame>,
    pause: Duration,
    /// Left alone until then.
    until: Option<Instant>,
    /// Somebody tries whether it is well again.
    probing: bool,
    why: String,
}

impl Health {
    /// One that is left alone for so long at first and at most.
    pub fn with_pauses(pause_min: Duration, pause_max: Duration) -> Self {
        Self { state: Mutex::default(), pause_min, pause_max }
    }

    /// Whether to try now. After a pause only one of many gets a yes, until it has reported.
    pub fn permits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match state.until {
            None => true,
            Some(until) if now < until => false,
            Some(_) => {
                // Others wait for what this attempt brings; should it bring nothing, for one pause more.
                state.until = Some(now + state.pause);
                state.probing = true;
                true
            }
        }
    }

    /// An attempt succeeded; to have nothing is a success.
    pub fn well(&self) {
        *self.lock() = State::default();
    }

    /// An attempt failed, or took too long.
    pub fn failed(&self, blame: Blame, why: &str, now: Instant) {
        let mut state = self.lock();
        state.failures += 1;
        state.blame = Some(blame);
        why.clone_into(&mut state.why);
        if state.failures < FAILURES_MAX && !matches!(blame, Blame::Credentials | Blame::Unreachable) {
            return;
        }
        // Attempts that were under way when it fell sick prolong nothing.
        let was_under_way = state.until.is_some_and(|until| now < until) && !state.probing;
        if !was_under_way {
            let longer = (state.pause * 2).min(self.pause_max);
            state.pause = if state.until.is_none() { self.pause_min } else { longer };
            state.until = Some(now + state.pause);
            state.probing = false;
        }
    }

    /// What is wrong, while it is left alone.
    pub fn sickness(&self, now: Instant) -> Option<String> {
        let state = self.lock();
        let until = state.until?;
        let seconds = until.saturating_duration_since(now).as_secs();
        Some(match state.blame {
            Some(Blame::Credentials) => format!(
                "the credentials are refused: {} (tried again in {seconds} s, and by the next build)",
                state.why
            ),
            _ => format!("{} (tried again in {seconds} s)", state.why),
        })
    }

    /// Where the credentials were refused, one attempt is permitted now.
    pub fn try_credentials_again(&self, now: Instant) {
        let mut state = self.lock();
        if state.blame == Some(Blame::Credentials) {
            state.until = state.until.map(|until| until.min(now));
        }
    }

    /// Whether it is left alone because the credentials are not accepted.
    pub fn lacks_credentials(&self) -> bool {
        let state = self.lock();
        state.until.is_some() && state.blame == Some(Blame::Credentials)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // Nothing can panic while it is held.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remote_that_fails_in_a_row_is_left_alone_and_tried_by_one() {
        let health = Health::default();
        let start = Instant::now();
        for _ in 0..10 {
            health.failed(Blame::Remote, "500", start);
            health.well();
        }
        assert!(health.permits(start) && health.sickness(start).is_none(), "never in a row");
        for _ in 0..FAILURES_MAX {
            assert!(health.permits(start));
            health.failed(Blame::Remote, "timed out", start);
        }
        assert!(!health.permits(start) && !health.permits(start + PAUSE_MIN / 2));
        assert!(health.sickness(start).is_some_and(|why| why.starts_with("timed out")));
        let later = start + PAUSE_MIN;
        assert!(health.permits(later), "one may try");
        assert!(!health.permits(later), "only one");
        health.well();
        assert!(health.permits(later) && health.permits(later));
    }

    #[test]
    fn pauses_grow_to_their_limit() {
        let health = Health::default();
        let mut now = Instant::now();
        for _ in 0..FAILURES_MAX {
            health.failed(Blame::Credentials, "x", now);
        }
        let mut pauses = Vec::new();
        for _ in 0..9 {
            let start = now;
            while !health.permits(now) {
                now += Duration::from_secs(1);
            }
            pauses.push((now - start).as_secs());
            health.failed(Blame::Credentials, "x", now);
        }
        assert_eq!(pauses, [10, 20, 40, 80, 160, 320, 600, 600, 600]);
        assert!(health.lacks_credentials());
        health.well();
        assert!(!health.lacks_credentials());
    }

    #[test]
    fn refused_credentials_show_at_once_and_a_new_build_tries_them_again() {
        let (health, now) = (Health::default(), Instant::now());
        health.failed(Blame::Credentials, "expired", now);
        assert!(health.lacks_credentials() && !health.permits(now));
        assert!(
            health.sickness(now).is_some_and(|why| why.starts_with("the credentials are refused: expired"))
        );
        health.try_credentials_again(now);
        assert!(health.permits(now) && !health.permits(now), "one");
        // A server that is away is tried when its pause is over.
        let health = Health::default();
        (0..FAILURES_MAX).for_each(|_| health.failed(Blame::Remote, "x", now));
        health.try_credentials_again(now);
        assert!(!health.permits(now));
    }
}
