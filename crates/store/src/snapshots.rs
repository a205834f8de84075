//! Snapshots on disk: one file for each lockfile, in a folder for each context, published by rename. The file's time
//! is when it was last of use. Does not look at the entries that a snapshot names.
//!
//! `v1/snapshots/<context>/<lock>`, in the form of [`kache_core::snapshot`].

use std::fs;
use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::snapshot::{Header, SNAPSHOT_BYTES_MAX, Snapshot};

use crate::clock::{FileTime, set_mtime_now};
use crate::entries::TOUCH_EVERY_S;
use crate::error::Error;
use crate::files::{Content, read_capped};
use crate::layout::Store;

/// Longest first line that is read, in bytes.
const HEADER_BYTES_MAX: u64 = 8 << 20;
/// How long others are waited for that write snapshots.
const JOIN_WAIT: Duration = Duration::from_secs(30);

impl Store {
    /// The snapshot of a lockfile, and notes its use; `None` also for one that can't be understood.
    pub fn snapshot(&self, context: &Digest, lock: &Digest) -> Result<Option<Snapshot>, Error> {
        match read_capped(&self.snapshot_path(context, lock), SNAPSHOT_BYTES_MAX)? {
            Content::Whole(bytes, file) => {
                let age_s =
                    file.metadata().map(|meta| FileTime::modified(&meta).age_s(FileTime::now_coarse()));
                if age_s.is_ok_and(|age_s| !(-TOUCH_EVERY_S..TOUCH_EVERY_S).contains(&age_s)) {
                    // A store that can't be written still serves.
                    let _ = set_mtime_now(&file);
                }
                let snapshot = Snapshot::decode(&bytes).ok();
                Ok(snapshot.filter(|found| (found.header.context, found.header.lock) == (*context, *lock)))
            }
            Content::Absent | Content::TooLong => Ok(None),
        }
    }

    /// Whether there is a snapshot of a lockfile.
    pub fn has_snapshot(&self, context: &Digest, lock: &Digest) -> bool {
        self.snapshot_path(context, lock).is_file()
    }

    /// The first part of a snapshot.
    pub fn snapshot_header(&self, context: &Digest, lock: &Digest) -> Option<Header> {
        let file = fs::File::open(self.snapshot_path(context, lock)).ok()?;
        let mut line = Vec::new();
        std::io::BufRead::read_until(
            &mut std::io::BufReader::new(file.take(HEADER_BYTES_MAX)),
            b'\n',
            &mut line,
        )
        .ok()?;
        Header::decode(&line).ok()
    }

    /// Lockfiles of which there are snapshots in a context, the one that was of use last first.
    pub fn snapshot_locks(&self, context: &Digest) -> Vec<Digest> {
        let entries =
            fs::read_dir(self.snapshots_dir().join(context.to_string())).into_iter().flatten().flatten();
        let mut locks: Vec<(FileTime, Digest)> = entries
            .filter_map(|entry| {
                let lock = entry.file_name().to_str()?.parse().ok()?;
                Some((FileTime::modified(&entry.metadata().ok()?), lock))
            })
            .collect();
        locks.sort_by_key(|(used, lock)| (std::cmp::Reverse(*used), *lock));
        locks.into_iter().map(|(_, lock)| lock).collect()
    }

    /// Publishes a snapshot in place of a former one.
    pub fn put_snapshot(&self, snapshot: &Snapshot) -> Result<(), Error> {
        self.publish_bytes(
            &self.snapshot_path(&snapshot.header.context, &snapshot.header.lock),
            &snapshot.encode(),
        )
    }

    /// The snapshots of a lockfile, whatever their context, the one that was of use last first.
    pub fn snapshots_of(&self, lock: &Digest) -> Vec<Snapshot> {
        let mut found: Vec<(FileTime, Digest)> = self
            .snapshot_contexts()
            .into_iter()
            .filter_map(|context| {
                let meta = fs::metadata(self.snapshot_path(&context, lock)).ok()?;
                Some((FileTime::modified(&meta), context))
            })
            .collect();
        found.sort_by_key(|(used, context)| (std::cmp::Reverse(*used), *context));
        found.into_iter().filter_map(|(_, context)| self.snapshot(&context, lock).ok().flatten()).collect()
    }

    /// The first parts of all snapshots.
    pub fn snapshot_headers(&self) -> impl Iterator<Item = Header> {
        self.snapshot_contexts().into_iter().flat_map(move |context| {
            let locks = self.snapshot_locks(&context).into_iter();
            locks.filter_map(move |lock| self.snapshot_header(&context, &lock))
        })
    }

    /// Takes a snapshot in that comes from elsewhere, with what is known here of the same context and lockfile. Its
    /// entries may come before or after: a unit without its entry is not seeded. Returns what there is now.
    pub fn join_snapshot(&self, foreign: Snapshot) -> Result<Snapshot, Error> {
        let _one_at_a_time = self.lock_snapshots(JOIN_WAIT)?;
        let snapshot = match self.snapshot(&foreign.header.context, &foreign.header.lock)? {
            None => foreign,
            // What this machine has built itself is known to fit it.
            Some(mut own) => {
                own.absorb(foreign);
                own
            }
        };
        self.put_snapshot(&snapshot)?;
        Ok(snapshot)
    }

    pub(crate) fn snapshots_dir(&self) -> PathBuf {
        self.base_dir().join("snapshots")
    }

    fn snapshot_path(&self, context: &Digest, lock: &Digest) -> PathBuf {
        self.snapshots_dir().join(context.to_string()).join(lock.to_string())
    }
}

#[cfg(test)]
#[path = "snapshots_tests.rs"]
mod tests;
