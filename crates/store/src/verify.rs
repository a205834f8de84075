//! Integrity: compares what entries say with what is there, and drops what is broken. Does not bring anything back;
//! the next compile does.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Output};
use kache_core::key::EntryKey;

use crate::blobs::BlobState;
use crate::clock::FileTime;
use crate::entries::{EntryFile, read_entry};
use crate::error::{Doing, Error, unless_absent};
use crate::fault::{self, Point};
use crate::layout::{Shelf, Store};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checksums {
    /// Sizes and times only.
    Skip,
    Read,
}

/// Something that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    #[error("entry {0} can't be understood")]
    MalformedEntry(EntryKey),
    #[error("entry {0} needs blob {1}, which is missing")]
    MissingBlob(EntryKey, Digest),
    /// An entry's blob has another size than the entry recorded, or another time and other content.
    #[error("blob {1} of entry {0} was changed: other size or content")]
    AlteredBlob(EntryKey, Digest),
    /// The blob of an entry's output has another mtime than the entry recorded, and the right content: not broken.
    #[error("blob {blob} of entry {0} is intact and has another time", blob = .1.digest)]
    RedatedBlob(EntryKey, Box<Output>),
    #[error("blob {0} has other content ({count} entries need it)", count = .1.len())]
    WrongContent(Digest, Vec<EntryKey>),
    /// Nothing needs a blob of this many bytes. Not broken: the next sweep removes it.
    #[error("no entry needs blob {0} ({1} bytes)")]
    OrphanBlob(Digest, u64),
    /// Something could not be looked at, which says nothing about it.
    #[error("{0}")]
    Unreadable(Error),
}

impl Problem {
    pub const fn is_repairable(&self) -> bool {
        !matches!(self, Problem::OrphanBlob(..) | Problem::Unreadable(_))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repair {
    /// Dropped it; the next compile brings it back.
    Dropped,
    /// Kept it: its content is right.
    Intact,
}

#[derive(Debug, Default)]
pub struct Verification {
    pub entries: u64,
    pub blobs: u64,
    /// Everything that is not as it should be.
    pub problems: Vec<Problem>,
}

/// How far a check has come, for a progress display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    pub total: u64,
}

/// A blob that changed more recently may belong to an entry that is about to be published.
const ORPHAN_AGE: Duration = Duration::from_secs(600);

impl Store {
    /// Checks every entry and blob. Changes nothing. `progress` hears of every blob.
    pub fn verify(
        &self,
        checksums: Checksums,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Verification, Error> {
        let mut found = Verification::default();
        let needed = self.verify_entries(&mut found)?;
        let blobs =
            self.shelf_files(Shelf::Blobs, |digest, meta| (digest, meta.size(), FileTime::changed(meta)))?;
        let total = blobs.len() as u64;
        let orphan_age_s = i64::try_from(ORPHAN_AGE.as_secs()).unwrap_or(i64::MAX);
        for (digest, size, changed) in blobs {
            found.blobs += 1;
            let needing = needed.get(&digest);
            if needing.is_none() && changed.age_s(FileTime::now()) >= orphan_age_s {
                found.problems.push(Problem::OrphanBlob(digest, size));
            }
            if checksums == Checksums::Read {
                match self.verify_blob(&digest) {
                    Ok(false) if self.blob_path(&digest).exists() => {
                        let keys = needing.into_iter().flatten().copied().collect();
                        found.problems.push(Problem::WrongContent(digest, keys));
                    }
                    Ok(_) => {}
                    Err(error) => found.problems.push(Problem::Unreadable(error)),
                }
            }
            progress(Progress { done: found.blobs, total });
        }
        Ok(found)
    }

    /// Checks the entries; gives what they need, and who needs it.
    fn verify_entries(
        &self,
        found: &mut Verification,
    ) -> Result<BTreeMap<Digest, BTreeSet<EntryKey>>, Error> {
        let mut needed = BTreeMap::<_, BTreeSet<_>>::new();
        for stat in self.entries()? {
            let entry = match read_entry(&self.entry_path(&stat.key)) {
                Ok(EntryFile::Usable(entry, _)) => entry,
                Ok(EntryFile::Malformed) => {
                    found.problems.push(Problem::MalformedEntry(stat.key));
                    continue;
                }
                Ok(EntryFile::Newer(bytes)) => {
                    for digest in crate::survey::digests_in(&bytes) {
                        needed.entry(digest).or_default().insert(stat.key);
                    }
                    continue;
                }
                Ok(EntryFile::Absent) => continue,
                Err(error) => {
                    found.problems.push(Problem::Unreadable(error));
                    continue;
                }
            };
            found.entries += 1;
            for digest in entry.blobs() {
                needed.entry(digest).or_default().insert(stat.key);
            }
            if let Err(error) = self.verify_entry(stat.key, &entry, &mut found.problems) {
                found.problems.push(Problem::Unreadable(error));
            }
        }
        Ok(needed)
    }

    fn verify_entry(&self, key: EntryKey, entry: &Entry, problems: &mut Vec<Problem>) -> Result<(), Error> {
        for output in &entry.outputs {
            match self.check_blob(output)? {
                BlobState::Present | BlobState::OtherMode => {}
                BlobState::Missing => problems.push(Problem::MissingBlob(key, output.digest)),
                BlobState::Altered => problems.push(Problem::AlteredBlob(key, output.digest)),
                BlobState::Redated if self.verify_blob(&output.digest)? => {
                    problems.push(Problem::RedatedBlob(key, Box::new(output.clone())));
                }
                BlobState::Redated => problems.push(Problem::AlteredBlob(key, output.digest)),
            }
        }
        for digest in entry.blobs().skip(entry.outputs.len()) {
            let path = self.blob_path(&digest);
            if unless_absent(fs::symlink_metadata(&path)).doing("look at blob", &path)?.is_none() {
                problems.push(Problem::MissingBlob(key, digest));
            }
        }
        Ok(())
    }

    /// Drops what is broken: entries, and blobs that were changed. A blob with the right content stays and gets its
    /// mtime back. Orphans and what could not be read stay.
    ///
    /// # Errors
    /// When something can't be removed; what came before it is.
    pub fn repair(&self, problem: &Problem) -> Result<Repair, Error> {
        match problem {
            Problem::MalformedEntry(key) | Problem::MissingBlob(key, _) => self.drop_entry(key)?,
            Problem::RedatedBlob(_, output) if self.acquit(output)? => return Ok(Repair::Intact),
            Problem::RedatedBlob(key, output) => self.drop_altered(key, &output.digest)?,
            Problem::AlteredBlob(key, digest) => self.drop_altered(key, digest)?,
            Problem::WrongContent(digest, keys) => {
                for key in keys {
                    self.drop_entry(key)?;
                }
                self.drop_damaged(digest)?;
            }
            Problem::OrphanBlob(..) | Problem::Unreadable(_) => return Ok(Repair::Intact),
        }
        Ok(Repair::Dropped)
    }

    fn drop_altered(&self, key: &EntryKey, digest: &Digest) -> Result<(), Error> {
        self.drop_entry(key)?;
        fault::point(Point::RepairBegun);
        // Another entry may have recorded the blob as it is now; only wrong content is of no use to anyone.
        if self.verify_blob(digest)? { Ok(()) } else { self.drop_damaged(digest) }
    }
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
