//! Tries again what may succeed a moment later, waiting longer each time. Knows nothing about what is tried.

use std::collections::hash_map::RandomState;
use std::future::Future;
use std::hash::BuildHasher;
use std::time::Duration;

use crate::remote::RemoteError;

/// Attempts in all.
const ATTEMPTS: u32 = 4;
/// Longest first wait; each further one may be twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(200);

/// Runs `act` until it succeeds, fails for good, or has failed often enough.
pub(super) async fn retry<T, F>(mut act: impl FnMut() -> F) -> Result<T, RemoteError>
where
    F: Future<Output = Result<T, RemoteError>>,
{
    let mut attempt = 0;
    loop {
        match act().await {
            Err(error) if error.fault.is_passing() && attempt + 1 < ATTEMPTS => {
                tokio::time::sleep(wait(attempt, RandomState::new().hash_one(attempt))).await;
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// Between half and all of the longest wait after that many failures, so that many clients spread out.
fn wait(failures: u32, random: u64) -> Duration {
    let longest = FIRST_WAIT * 2u32.pow(failures);
    longest / 2 + (longest / 2).mul_f64((random % 1000) as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Fault;
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
            (Fault::Throttled, ATTEMPTS),
            (Fault::Unavailable, ATTEMPTS),
            (Fault::NotFound, 1),
            (Fault::Credentials, 1),
        ] {
            let tries = Cell::new(0);
            let result: Result<(), _> = retry(|| async {
                tries.set(tries.get() + 1);
                Err(RemoteError::new("read", "x", fault, ""))
            })
            .await;
            assert!(result.is_err());
            assert_eq!(tries.get(), expected, "{fault:?}");
        }
    }
}
