//! Locks between processes: `flock` on a fixed set of files that are never removed. Does not know what the holder of
//! a lock does; keys that share a file merely wait for each other.

use std::fs::{File, OpenOptions, Permissions};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use kache_core::key::UnitKey;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::{Doing, Error, is_absent};
use crate::layout::{Store, inherit_owner, with_folder};
use crate::progress::{Patience, own_name};

/// Shortest and longest pause between two attempts.
const PAUSE_MIN: Duration = Duration::from_millis(1);
const PAUSE_MAX: Duration = Duration::from_millis(50);
/// How often another unit's holder is seen before it counts as one: over seven milliseconds.
const OTHERS_MAX: u32 = 4;

/// How long a change of a small file is waited for.
const BRIEF: Duration = Duration::from_secs(5);

/// A lock that is held until this is dropped (or the process ends, however it ends).
#[derive(Debug)]
pub struct Lock {
    file: File,
}

/// What came of waiting for a lock.
#[derive(Debug)]
pub enum Locking {
    Locked(Lock),
    /// Another process held it all the time, or gets nowhere with it.
    TimedOut,
}

impl Store {
    /// Waits at most `timeout` for the right to compile a unit, and no longer than its holder gets anywhere; zero tries
    /// once. Units share 4096 files: a holder that has another unit isn't waited for.
    pub fn lock_unit(&self, unit: &UnitKey, timeout: Duration) -> Result<Locking, Error> {
        let mut patience = Patience::new();
        let unit = unit.to_string();
        let mut others = 0;
        let locking = self.lock_while(&format!("unit-{}", &unit[..3]), timeout, |file| {
            let (holder, of_holder) = holder_of(file);
            // A holder that has just come may not have written itself down.
            others = if of_holder.is_empty() || of_holder == unit { 0 } else { others + 1 };
            others < OTHERS_MAX && patience.lasts(|| holder)
        })?;
        if let Locking::Locked(Lock { file }) = &locking {
            // Without it others wait for a process that they can't see.
            let text = format!("{}{unit}\n", own_name());
            let _ = file.set_len(0).and_then(|()| file.write_all_at(text.as_bytes(), 0));
        }
        Ok(locking)
    }

    /// The lock under which a snapshot is read, completed and written again.
    pub fn lock_snapshots(&self, timeout: Duration) -> Result<Locking, Error> {
        self.lock("snapshots", timeout)
    }

    /// The lock under which results are proven to be independent of their place.
    pub fn lock_proofs(&self, timeout: Duration) -> Result<Locking, Error> {
        self.lock("proofs", timeout)
    }

    /// The lock under which target directories are cleaned in the background.
    ///
    /// # Errors
    /// When it can't be asked for.
    pub fn lock_cleaning(&self) -> Result<Locking, Error> {
        self.lock("cleaning", Duration::ZERO)
    }

    /// The lock under which a unit's records are changed. Apart from [`Store::lock_unit`], whose holder changes them.
    pub(crate) fn lock_records(&self, unit: &UnitKey) -> Result<Locking, Error> {
        self.lock(&format!("records-{}", &unit.to_string()[..2]), BRIEF)
    }

    /// Waits at most `timeout` for the lock of this name: lower-case letters, digits and `-`.
    pub(crate) fn lock(&self, name: &str, timeout: Duration) -> Result<Locking, Error> {
        self.lock_while(name, timeout, |_| true)
    }

    fn lock_while(
        &self,
        name: &str,
        timeout: Duration,
        mut is_worth_while: impl FnMut(&File) -> bool,
    ) -> Result<Locking, Error> {
        let path = self.locks_dir().join(name);
        let file = open(&path)?;
        let start = Instant::now();
        let mut pause = PAUSE_MIN;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Locking::Locked(Lock { file })),
                Err(Errno::WOULDBLOCK | Errno::INTR) => {}
                Err(errno) => return Err(Error::new("lock", path, errno)),
            }
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() || !is_worth_while(&file) {
                return Ok(Locking::TimedOut);
            }
            std::thread::sleep(pause.min(left));
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// The process that has written itself into a lock file last, as [`own_name`] has it, and its unit.
fn holder_of(file: &File) -> (String, String) {
    let mut bytes = [0; 128];
    let count = file.read_at(&mut bytes, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..count]);
    let (name, unit) = text.split_once('\n').unwrap_or((&text, ""));
    (format!("{name}\n"), unit.trim_end().to_owned())
}

fn open(path: &Path) -> Result<File, Error> {
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    match options.open(path) {
        Err(error) if is_absent(&error) => {
            let create = || options.create(true).truncate(false).mode(0o600).open(path);
            let file = with_folder(path, create).doing("create lock file", path)?;
            file.set_permissions(Permissions::from_mode(0o600)).doing("set permissions of", path)?;
            inherit_owner(&file, path).doing("set the owner of", path)?;
            Ok(file)
        }
        result => result.doing("open lock file", path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::digest::Digest;

    #[test]
    fn a_lock_excludes_until_it_is_dropped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let unit = UnitKey(Digest::of(b"u"));
        let Ok(Locking::Locked(held)) = store.lock_unit(&unit, Duration::ZERO) else { panic!("free") };
        assert!(matches!(store.lock_unit(&unit, Duration::ZERO), Ok(Locking::TimedOut)));
        assert!(matches!(store.lock_unit(&unit, Duration::from_millis(20)), Ok(Locking::TimedOut)));
        assert!(matches!(store.lock_records(&unit), Ok(Locking::Locked(_))), "its holder may add records");
        std::thread::scope(|scope| {
            let waiter = scope.spawn(|| store.lock_unit(&unit, Duration::from_secs(20)));
            std::thread::sleep(Duration::from_millis(30));
            drop(held);
            assert!(matches!(waiter.join().expect("no panic"), Ok(Locking::Locked(_))));
        });
    }

    #[test]
    fn the_holder_of_another_unit_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let mut units = (0_u32..).map(|n| UnitKey(Digest::of(&n.to_le_bytes())));
        let unit = units.next().expect("endless");
        let other = units.find(|other| other.to_string()[..3] == unit.to_string()[..3]).expect("endless");
        let Ok(Locking::Locked(_held)) = store.lock_unit(&unit, Duration::ZERO) else { panic!("free") };
        // Where it is waited for, this takes longer than a test may.
        assert!(matches!(store.lock_unit(&other, Duration::from_secs(3600)), Ok(Locking::TimedOut)));
    }
}
