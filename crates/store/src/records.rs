//! Input records of a unit: one small file, changed under a lock and by rename. Does not know what the records mean.

use kache_core::key::UnitKey;
use kache_core::record::{InputRecord, RECORDS_BYTES_MAX, RecordSet};
use kache_core::remote::records::{Grown, merge};
use rustix::io::Errno;

use crate::error::Error;
use crate::fault::{self, Point};
use crate::files::{Content, read_capped, remove};
use crate::layout::Store;
use crate::lock::Locking;

/// What the file of a unit holds.
enum Held {
    Records(RecordSet),
    /// Written by a newer kache: neither used nor changed.
    Newer,
}

impl Store {
    /// The records of a unit, newest first; empty where there are none, or only ones of a newer kache. A file that
    /// can't be understood is removed.
    pub fn records(&self, unit: &UnitKey) -> Result<RecordSet, Error> {
        Ok(match self.held_records(unit)? {
            Held::Records(set) => set,
            Held::Newer => RecordSet::default(),
        })
    }

    /// Puts a record in front of the unit's others. Two processes that add at the same time both succeed.
    ///
    /// # Errors
    /// When the lock or the file can't be had; the records are then as they were.
    pub fn add_record(&self, unit: &UnitKey, record: InputRecord) -> Result<(), Error> {
        // Mostly the record is there already, and then nobody has to wait.
        match self.held_records(unit)? {
            Held::Newer => return Ok(()),
            Held::Records(set) if set.records.first() == Some(&record) => return Ok(()),
            Held::Records(_) => {}
        }
        let Locking::Locked(_lock) = self.lock_records(unit)? else {
            return Err(Error::new("lock records", self.records_path(unit), Errno::AGAIN));
        };
        if let Held::Records(mut set) = self.held_records(unit)?
            && set.add(record)
        {
            fault::point(Point::RecordsLocked);
            self.publish_bytes(&self.records_path(unit), &set.encode())?;
            fault::point(Point::RecordsPublished);
        }
        Ok(())
    }

    /// Puts records of another machine behind the unit's own. Returns whether there were new ones.
    ///
    /// # Errors
    /// When the lock or the file can't be had; the records are then as they were.
    pub fn merge_records(&self, unit: &UnitKey, theirs: &RecordSet) -> Result<Grown, Error> {
        let Locking::Locked(_lock) = self.lock_records(unit)? else {
            return Err(Error::new("lock records", self.records_path(unit), Errno::AGAIN));
        };
        let Held::Records(mut set) = self.held_records(unit)? else { return Ok(Grown::No) };
        let grown = merge(&mut set, theirs);
        if grown == Grown::Yes {
            self.publish_bytes(&self.records_path(unit), &set.encode())?;
        }
        Ok(grown)
    }

    fn held_records(&self, unit: &UnitKey) -> Result<Held, Error> {
        let path = self.records_path(unit);
        let decoded = match read_capped(&path, RECORDS_BYTES_MAX)? {
            Content::Absent => return Ok(Held::Records(RecordSet::default())),
            Content::TooLong => None,
            Content::Whole(bytes, _) => Some(RecordSet::decode(&bytes)),
        };
        match decoded {
            Some(Ok(set)) => Ok(Held::Records(set)),
            Some(Err(error)) if error.is_newer() => Ok(Held::Newer),
            Some(Err(_)) | None => {
                remove(&path)?;
                Ok(Held::Records(RecordSet::default()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::digest::Digest;
    use kache_core::record::{Input, RECORDS_MAX};

    fn record(name: &str) -> InputRecord {
        InputRecord { inputs: vec![Input::File(name.into())], ..InputRecord::default() }
    }

    fn names(store: &Store, unit: &UnitKey) -> Vec<InputRecord> {
        store.records(unit).expect("readable").records
    }

    #[test]
    fn records_are_kept_newest_first() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let unit = UnitKey(Digest::of(b"u"));
        assert_eq!(names(&store, &unit), []);
        for name in ["a", "b", "b", "a"] {
            store.add_record(&unit, record(name)).expect("added");
        }
        assert_eq!(names(&store, &unit), [record("a"), record("b")]);
    }

    #[test]
    fn a_newer_file_is_left_alone_and_a_malformed_one_is_replaced() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let unit = UnitKey(Digest::of(b"u"));
        store.add_record(&unit, record("a")).expect("added");
        let path = store.records_path(&unit);
        let newer = br#"{"version":99,"records":[]}"#;
        std::fs::write(&path, newer).expect("write");
        assert_eq!(names(&store, &unit), []);
        store.add_record(&unit, record("b")).expect("ignored");
        assert_eq!(std::fs::read(&path).expect("still there"), newer);
        for torn in [&b""[..], b"{\"version\":1,\"rec"] {
            std::fs::write(&path, torn).expect("write");
            assert_eq!(names(&store, &unit), []);
            assert!(!path.exists());
            store.add_record(&unit, record("c")).expect("added");
            assert_eq!(names(&store, &unit), [record("c")]);
        }
    }

    #[test]
    fn concurrent_additions_all_arrive() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let unit = UnitKey(Digest::of(b"u"));
        std::thread::scope(|scope| {
            for i in 0..RECORDS_MAX {
                let (store, unit) = (&store, &unit);
                scope.spawn(move || store.add_record(unit, record(&i.to_string())).expect("added"));
            }
        });
        assert_eq!(names(&store, &unit).len(), RECORDS_MAX);
    }
}
