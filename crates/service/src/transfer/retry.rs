//! Tries again what may succeed a moment later, waiting longer each time. When the server asks for fewer requests,
//! everybody waits, not only whoever was told. Knows nothing about what is tried.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use crate::remote::{Fault, RemoteError};

const ATTEMPTS: u32 = 4;
/// Attempts in all while the server only asks for fewer requests.
const THROTTLED_ATTEMPTS: u32 = 8;
/// Attempts in all where nobody takes connections; the client itself tries each twice.
const UNREACHABLE_ATTEMPTS: u32 = 2;
/// For how long a server that one request found away, with all its attempts, counts as away for the others.
const AWAY: Duration = Duration::from_secs(2);
/// Longest first wait; each further one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest wait that a server is granted.
const PAUSE_MAX: Duration = Duration::from_secs(30);

/// When the next request may go out.
#[derive(Debug, Default)]
pub(super) struct Pace {
    not_before: Mutex<Option<Instant>>,
    /// Nobody takes connections: since when, and what was said.
    away: Mutex<Option<(Instant, RemoteError)>>,
}

impl Pace {
    /// Runs `act` until it succeeds, fails for good, or has failed often enough.
    pub(super) async fn retry<T, F>(&self, mut act: impl FnMut() -> F) -> Result<T, RemoteError>
    where
        F: Future<Output = Result<T, RemoteError>>,
    {
        let mut attempt = 0;
        loop {
            self.turn().await;
            if let Some(error) = self.is_away() {
                return Err(error);
            }
            let error = match caught(act()).await {
                // A profile may have been corrected, or a session renewed.
                Err(error) if error.is_renewed && attempt == 0 => {
                    attempt += 1;
                    continue;
                }
                Err(error) if error.fault.is_passing() => error,
                result => return result,
            };
            let is_throttled = error.fault == Fault::Throttled;
            let attempts = match error.fault {
                Fault::Throttled => THROTTLED_ATTEMPTS,
                Fault::Unreachable => UNREACHABLE_ATTEMPTS,
                _ => ATTEMPTS,
            };
            let wait = wait(attempt, RandomState::new().hash_one(attempt));
            if is_throttled {
                self.slow_down(wait.max(error.pause.unwrap_or_default()).min(PAUSE_MAX));
            }
            attempt += 1;
            if attempt >= attempts {
                if error.fault == Fault::Unreachable {
                    let away = Some((Instant::now(), error.clone()));
                    *self.away.lock().unwrap_or_else(PoisonError::into_inner) = away;
                }
                return Err(error);
            }
            tokio::time::sleep(wait).await;
        }
    }

    /// Waits until requests are welcome, and a little longer, so that those who wait don't all begin at once.
    async fn turn(&self) {
        while let Some(until) = self.pause() {
            let rest = until.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return;
            }
            let random = RandomState::new().hash_one(0);
            tokio::time::sleep(rest + wait(0, random)).await;
        }
    }

    /// What another request has just found out.
    fn is_away(&self) -> Option<RemoteError> {
        let away = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        away.as_ref().filter(|(since, _)| since.elapsed() < AWAY).map(|(_, error)| error.clone())
    }

    fn pause(&self) -> Option<Instant> {
        *self.not_before.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slow_down(&self, pause: Duration) {
        let mut not_before = self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        *not_before = (*not_before).max(Some(Instant::now() + pause));
    }
}

/// A request; one that panics has failed, and the others go on.
async fn caught<T>(request: impl Future<Output = Result<T, RemoteError>>) -> Result<T, RemoteError> {
    let mut request = std::pin::pin!(request);
    std::future::poll_fn(|context| {
        let polled = catch_unwind(AssertUnwindSafe(|| request.as_mut().poll(context)));
        polled.unwrap_or_else(|panic| {
            let why = panic.downcast_ref::<&str>().map(|why| (*why).to_owned());
            let why = why.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
            tracing::error!(why, "a request broke off because of a mistake in kache or its libraries");
            let detail = format!("a mistake in kache or its libraries, please report it: {why}");
            Poll::Ready(Err(RemoteError::new("make a request about", "the remote", Fault::Local, detail)))
        })
    })
    .await
}

/// Between half and all of the longest wait after that many failures, so that many clients spread out.
fn wait(failures: u32, random: u64) -> Duration {
    let longest = FIRST_WAIT * 2u32.pow(failures);
    longest / 2 + (longest / 2).mul_f64((random % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    #[test]
    fn waits_grow_and_differ() {
        assert_eq!(wait(0, 0), Duration::from_millis(100));
        assert_eq!(wait(2, 500), Duration::from_millis(600));
        assert!(wait(3, 999) < Duration::from_millis(1600));
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_passes_is_tried_again() {
        for (fault, expected) in [
            (Fault::Throttled, THROTTLED_ATTEMPTS),
            (Fault::Unavailable, ATTEMPTS),
            (Fault::Unreachable, UNREACHABLE_ATTEMPTS),
            (Fault::NotFound, 1),
            (Fault::Credentials, 1),
        ] {
            let tries = Cell::new(0);
            let pace = Pace::default();
            let result: Result<(), _> = pace
                .retry(|| async {
                    tries.set(tries.get() + 1);
                    Err(RemoteError::new("read", "x", fault, ""))
                })
                .await;
            assert!(result.is_err());
            assert_eq!(tries.get(), expected, "{fault:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_tried_once_for_all() {
        let pace = Pace::default();
        let tries = Cell::new(0);
        let attempt = || async {
            tries.set(tries.get() + 1);
            Err::<(), _>(RemoteError::new("read", "x", Fault::Unreachable, "refused"))
        };
        for _ in 0..100 {
            pace.retry(attempt).await.expect_err("away");
        }
        assert_eq!(tries.get(), UNREACHABLE_ATTEMPTS);
        tokio::time::sleep(AWAY).await;
        pace.retry(|| async { Ok(()) }).await.expect("it is back");
    }

    #[tokio::test]
    async fn a_request_that_panics_is_one_failed_request() {
        let pace = Pace::default();
        let result: Result<(), _> = pace.retry(|| async { panic!("in a library") }).await;
        let error = result.expect_err("failed");
        assert!(error.fault == Fault::Local && error.detail.contains("in a library"), "{error}");
        assert_eq!(pace.retry(|| async { Ok(7) }).await.expect("the next one"), 7);
    }

    #[tokio::test]
    async fn a_request_with_renewed_credentials_is_made_once_more() {
        let pace = Pace::default();
        let tries = Cell::new(0);
        let refused = || RemoteError::new("read", "x", Fault::Credentials, "");
        let result: Result<(), _> = pace
            .retry(|| async {
                tries.set(tries.get() + 1);
                Err(RemoteError { is_renewed: true, ..refused() })
            })
            .await;
        assert!(result.is_err() && tries.get() == 2, "{}", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_told_to_wait_keeps_the_others_waiting() {
        for (asked_s, granted_s) in [(7, 7), (1000, 30)] {
            let pace = Pace::default();
            let begun = Instant::now();
            let first = Cell::new(true);
            let told = pace.retry(|| async {
                if !first.replace(false) {
                    return Ok(begun.elapsed());
                }
                let error = RemoteError::new("read", "x", Fault::Throttled, "");
                Err(RemoteError { pause: Some(Duration::from_secs(asked_s)), ..error })
            });
            let other = async {
                tokio::time::sleep(Duration::from_millis(10)).await;
                pace.retry(|| async { Ok(begun.elapsed()) }).await
            };
            let (told, other) = tokio::join!(told, other);
            for elapsed in [told.expect("in the end"), other.expect("in the end")] {
                let granted = Duration::from_secs(granted_s);
                assert!(elapsed >= granted && elapsed < granted + Duration::from_secs(1), "{elapsed:?}");
            }
        }
    }
}
