//! When something was last moved to or from a remote, so that commands can give up where nothing is. Knows no requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How often it is looked whether this machine itself is at work.
const LOOK: Duration = Duration::from_millis(500);

/// The progress of everything that goes on with one remote. Clones share it.
#[derive(Debug, Clone)]
pub struct Progress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    last: Mutex<Instant>,
    /// Pieces of work on this machine, which keep the remote waiting.
    at_work: AtomicUsize,
}

impl Default for Progress {
    fn default() -> Self {
        Self(Arc::new(Shared { last: Mutex::new(Instant::now()), at_work: AtomicUsize::new(0) }))
    }
}

impl Progress {
    /// Something was moved, or the server has answered.
    pub fn note(&self) {
        *self.0.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// This machine packs, unpacks or reads for as long as the value lives.
    pub fn at_work(&self) -> AtWork {
        self.0.at_work.fetch_add(1, Ordering::Relaxed);
        AtWork(self.clone())
    }

    /// Waits until nothing has moved for so long, from now on; never, where that is zero.
    pub async fn stalled(&self, patience: Duration) {
        if patience.is_zero() {
            return std::future::pending().await;
        }
        let begun = Instant::now();
        loop {
            if self.0.at_work.load(Ordering::Relaxed) > 0 {
                self.note();
            }
            let last = *self.0.last.lock().unwrap_or_else(PoisonError::into_inner);
            let rest = patience.saturating_sub(last.max(begun).elapsed());
            if rest.is_zero() {
                return;
            }
            tokio::time::sleep(rest.min(LOOK)).await;
        }
    }
}

/// See [`Progress::at_work`].
#[derive(Debug)]
pub struct AtWork(Progress);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.0.at_work.fetch_sub(1, Ordering::Relaxed);
        self.0.note();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn only_silence_that_this_machine_does_not_cause_counts() {
        let progress = Progress::default();
        let patience = Duration::from_secs(60);
        tokio::time::sleep(patience * 2).await;
        let begun = Instant::now();
        let moving = async {
            for _ in 0..3 {
                tokio::time::sleep(patience / 2).await;
                progress.note();
            }
            let _at_work = progress.at_work();
            tokio::time::sleep(patience * 3).await;
        };
        tokio::join!(moving, progress.stalled(patience));
        let expected = patience * 3 / 2 + patience * 3 + patience;
        assert!(
            begun.elapsed() >= expected && begun.elapsed() < expected + LOOK * 2,
            "{:?}",
            begun.elapsed()
        );
        let never = tokio::time::timeout(patience * 100, progress.stalled(Duration::ZERO)).await;
        assert!(never.is_err());
    }
}
