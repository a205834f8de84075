//! Entries and their evidence: published by rename after their blobs, dropped before them. Does not look at blobs,
//! except to settle an entry that a power cut may have hurt.

use std::fs::File;
use std::path::Path;
use std::sync::atomic::Ordering;

use kache_core::digest::Digest;
use kache_core::entry::{ENTRY_BYTES_MAX, Entry, Evidence};
use kache_core::key::{EntryKey, UnitKey};

use crate::clock::{FileTime, boot_id, set_mtime_now};
use crate::error::{Doing, Error, is_absent};
use crate::fault::{self, Point};
use crate::files::{Content, read_capped, remove};
use crate::layout::{Shelf, Store};

/// Longest evidence file that is read, in bytes.
const EVIDENCE_BYTES_MAX: u64 = 64 << 20;

/// Kind of the memos about misses that were not stored.
const MISSES: &str = "misses";

/// A last use is noted no more often than this, in seconds, so that a hit seldom writes. The sweep allows for it.
pub(crate) const TOUCH_EVERY_S: i64 = 60;

/// What checking an entry of an earlier boot came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Everything it names was read back and is right, or was written under this boot.
    Trusted,
    /// This blob is missing or has other content; the entry is of no use.
    Broken(Digest),
}

/// An entry's file, seen from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryStat {
    pub key: EntryKey,
    /// Size of the entry file itself, in bytes.
    pub file_bytes: u64,
    /// Last use, to the minute.
    pub used: FileTime,
}

pub(crate) enum EntryFile {
    Absent,
    Usable(Box<Entry>, File),
    /// Of a newer kache, with its bytes.
    Newer(Vec<u8>),
    Malformed,
}

impl Store {
    /// The entry of this key, and notes its use. One that can't be understood is removed; one of a newer kache is
    /// left alone.
    ///
    /// # Errors
    /// When the file can't be read although it is there; this says nothing about the entry.
    pub fn entry(&self, key: &EntryKey) -> Result<Option<Entry>, Error> {
        let path = self.entry_path(key);
        match read_entry(&path)? {
            EntryFile::Usable(entry, file) => {
                note_use(&file);
                Ok(Some(*entry))
            }
            EntryFile::Malformed => self.drop_entry(key).map(|()| None),
            EntryFile::Absent | EntryFile::Newer(_) => Ok(None),
        }
    }

    /// The entry of this key, for looking at: neither notes a use nor removes anything.
    pub fn peek_entry(&self, key: &EntryKey) -> Result<Option<Entry>, Error> {
        match read_entry(&self.entry_path(key))? {
            EntryFile::Usable(entry, _) => Ok(Some(*entry)),
            EntryFile::Absent | EntryFile::Newer(_) | EntryFile::Malformed => Ok(None),
        }
    }

    /// Whether there is a file for the entry of this key, be it one that only a newer kache understands.
    pub fn has_entry(&self, key: &EntryKey) -> bool {
        // What can't be looked at may be there.
        std::fs::symlink_metadata(self.entry_path(key)).map_or_else(|error| !is_absent(&error), |_| true)
    }

    /// Makes an entry visible, with its evidence. All its blobs must be in the store.
    ///
    /// # Errors
    /// When a file can't be written; the entry is then not visible.
    pub fn publish(&self, key: &EntryKey, entry: &Entry, evidence: &Evidence) -> Result<(), Error> {
        if self.is_newer(key)? {
            return Ok(());
        }
        let json = serde_json::to_vec(evidence).unwrap_or_default();
        self.publish_bytes(&self.evidence_path(key), &json)?;
        fault::point(Point::EvidencePublished);
        self.publish_bytes(&self.entry_path(key), &entry.encode())?;
        fault::point(Point::EntryPublished);
        self.note_usage(self.new_bytes.swap(0, Ordering::Relaxed));
        Ok(())
    }

    /// Whether a newer kache has written this entry: its file is left alone.
    pub fn is_newer(&self, key: &EntryKey) -> Result<bool, Error> {
        let content = read_capped(&self.entry_path(key), ENTRY_BYTES_MAX)?;
        let Content::Whole(bytes, _) = content else { return Ok(false) };
        Ok(Entry::decode(&bytes).is_err_and(|error| error.is_newer()))
    }

    /// Removes an entry and its evidence; its blobs stay until a sweep. One that is gone is fine.
    pub fn drop_entry(&self, key: &EntryKey) -> Result<(), Error> {
        remove(&self.entry_path(key))?;
        fault::point(Point::EntryDropped);
        remove(&self.evidence_path(key))?;
        Ok(())
    }

    /// What made an entry's key, if that was kept.
    pub fn evidence(&self, key: &EntryKey) -> Result<Option<Evidence>, Error> {
        match read_capped(&self.evidence_path(key), EVIDENCE_BYTES_MAX)? {
            Content::Whole(bytes, _) => Ok(serde_json::from_slice(&bytes).ok()),
            Content::Absent | Content::TooLong => Ok(None),
        }
    }

    /// What a look-up of this unit compared when its compile was not stored afterwards, if that was kept.
    pub fn miss(&self, unit: &UnitKey) -> Option<Evidence> {
        serde_json::from_slice(&self.memo_get(MISSES, &unit.0)?).ok()
    }

    /// Keeps what a look-up of this unit compared, for a miss whose compile is not stored.
    pub fn note_miss(&self, unit: &UnitKey, evidence: &Evidence) -> Result<(), Error> {
        self.memo_put(MISSES, &unit.0, &serde_json::to_vec(evidence).unwrap_or_default())
    }

    /// All entries, in no order.
    ///
    /// # Errors
    /// When a folder can't be listed: a part of the entries would be worse than none.
    pub fn entries(&self) -> Result<impl Iterator<Item = EntryStat> + use<>, Error> {
        let stats = self.shelf_files(Shelf::Entries, |digest, meta| EntryStat {
            key: EntryKey(digest),
            file_bytes: meta.len(),
            used: FileTime::modified(meta),
        })?;
        Ok(stats.into_iter())
    }

    /// How many entries there are; cheaper than looking at each.
    pub fn entry_count(&self) -> Result<u64, Error> {
        self.shelf_count(Shelf::Entries)
    }

    /// Checks an entry that was written under another boot and may have lost blobs to a power cut: reads them all
    /// back, and remembers the good news. Costs nothing for other entries.
    pub fn settle(&self, key: &EntryKey, entry: &Entry) -> Result<Settled, Error> {
        if entry.boot.is_empty() || entry.boot == boot_id() {
            return Ok(Settled::Trusted);
        }
        for output in &entry.outputs {
            if !self.acquit(output)? {
                return Ok(Settled::Broken(output.digest));
            }
        }
        for digest in entry.blobs().skip(entry.outputs.len()) {
            if !self.verify_blob(&digest)? {
                return Ok(Settled::Broken(digest));
            }
        }
        self.mark_durable(key, entry)?;
        Ok(Settled::Trusted)
    }

    /// Writes everything the store holds to stable storage (Linux; elsewhere a no-op) and notes that for these
    /// entries, so that they need no check after a power cut. Not for the compile path.
    pub fn make_durable(&self, keys: &[EntryKey]) -> Result<(), Error> {
        let mut of_this_boot = Vec::new();
        for key in keys {
            of_this_boot
                .extend(self.peek_entry(key)?.filter(|entry| entry.boot == boot_id()).map(|e| (key, e)));
        }
        if of_this_boot.is_empty() || !sync_all(self.root())? {
            return Ok(());
        }
        of_this_boot.iter().try_for_each(|(key, entry)| self.mark_durable(key, entry))
    }

    /// Its last use stays what it was: nobody has used it now.
    fn mark_durable(&self, key: &EntryKey, entry: &Entry) -> Result<(), Error> {
        let mut durable = entry.clone();
        durable.boot.clear();
        let path = self.entry_path(key);
        let used = std::fs::metadata(&path).and_then(|meta| meta.modified());
        self.publish_bytes(&path, &durable.encode())?;
        fault::point(Point::EntrySettled);
        if let Ok(used) = used {
            let dated = File::options().write(true).open(&path).and_then(|file| file.set_modified(used));
            dated.doing("set the time of", &path)?;
        }
        Ok(())
    }
}

/// Writes a whole file system to stable storage; `false` where that can't be asked for.
#[cfg(target_os = "linux")]
fn sync_all(dir: &Path) -> Result<bool, Error> {
    let dir_file = File::open(dir).doing("open", dir)?;
    rustix::fs::syncfs(&dir_file).doing("sync", dir)?;
    Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sync_all(_: &Path) -> Result<bool, Error> {
    Ok(false)
}

pub(crate) fn read_entry(path: &Path) -> Result<EntryFile, Error> {
    let (bytes, file) = match read_capped(path, ENTRY_BYTES_MAX)? {
        Content::Absent => return Ok(EntryFile::Absent),
        Content::TooLong => return Ok(EntryFile::Malformed),
        Content::Whole(bytes, file) => (bytes, file),
    };
    Ok(match Entry::decode(&bytes) {
        Ok(entry) => EntryFile::Usable(Box::new(entry), file),
        Err(error) if error.is_newer() => EntryFile::Newer(bytes),
        Err(_) => EntryFile::Malformed,
    })
}

/// A read-only store still serves hits, so failing to note one is nothing.
fn note_use(file: &File) {
    let Ok(meta) = file.metadata() else { return };
    let age_s = FileTime::modified(&meta).age_s(FileTime::now_coarse());
    if !(-TOUCH_EVERY_S..TOUCH_EVERY_S).contains(&age_s) {
        let _ = set_mtime_now(file);
    }
}

#[cfg(test)]
#[path = "entries_tests.rs"]
mod tests;
