//! What the store has from other machines: entries, input records and units of snapshots, by the notes of their
//! provenance. Finds and drops them; whom to believe is the caller's business.

use std::collections::BTreeMap;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};
use kache_core::provenance::Provenance;
use rustix::io::Errno;

use crate::error::Error;
use crate::layout::{Shelf, Store};
use crate::lock::Locking;

/// How long others are waited for that write snapshots.
const SNAPSHOTS_WAIT: Duration = Duration::from_secs(30);

/// What is done with what isn't believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sorting {
    List,
    /// It is removed; contents that nothing else needs go with the next sweep.
    Drop,
}

/// What isn't believed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Foreign {
    /// Entries, with their package or crate for people.
    pub entries: Vec<(EntryKey, String, Provenance)>,
    pub records: BTreeMap<Provenance, u64>,
    pub units: BTreeMap<Provenance, u64>,
}

impl Foreign {
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.records.is_empty() && self.units.is_empty()
    }
}

impl Store {
    /// Finds what `believes` doesn't, and drops it if `sorting` says so.
    ///
    /// # Errors
    /// When a part of the store can't be read or changed. What was dropped before stays dropped.
    pub fn sort_out(
        &self,
        believes: impl Fn(&Provenance) -> bool,
        sorting: Sorting,
    ) -> Result<Foreign, Error> {
        let mut found = Foreign::default();
        for stat in self.entries()? {
            let Some(entry) = self.peek_entry(&stat.key)? else { continue };
            if believes(&entry.provenance) {
                continue;
            }
            if sorting == Sorting::Drop {
                self.drop_entry(&stat.key)?;
            }
            let package = format!("{} {}", entry.package, entry.package_version);
            let name = if entry.package.is_empty() { entry.crate_name } else { package };
            found.entries.push((stat.key, name, entry.provenance));
        }
        found.entries.sort_by(|one, two| (&one.1, one.0).cmp(&(&two.1, two.0)));
        for unit in self.shelf_files(Shelf::Units, |digest, _| UnitKey(digest))? {
            self.sort_out_records(&unit, &believes, sorting, &mut found.records)?;
        }
        self.sort_out_snapshots(&believes, sorting, &mut found.units)?;
        Ok(found)
    }

    fn sort_out_records(
        &self,
        unit: &UnitKey,
        believes: impl Fn(&Provenance) -> bool,
        sorting: Sorting,
        found: &mut BTreeMap<Provenance, u64>,
    ) -> Result<(), Error> {
        let Locking::Locked(_lock) = self.lock_records(unit)? else {
            return Err(Error::new("lock records", self.records_path(unit), Errno::AGAIN));
        };
        let mut set = self.records(unit)?;
        let before = set.records.len();
        set.records.retain(|record| {
            let is_believed = believes(&record.provenance);
            if !is_believed {
                *found.entry(record.provenance.clone()).or_default() += 1;
            }
            is_believed
        });
        if sorting == Sorting::Drop && set.records.len() < before {
            self.publish_bytes(&self.records_path(unit), &set.encode())?;
        }
        Ok(())
    }

    fn sort_out_snapshots(
        &self,
        believes: impl Fn(&Provenance) -> bool,
        sorting: Sorting,
        found: &mut BTreeMap<Provenance, u64>,
    ) -> Result<(), Error> {
        let _one_at_a_time = self.lock_snapshots(SNAPSHOTS_WAIT)?;
        for context in self.snapshot_contexts() {
            for lock in self.snapshot_locks(&context) {
                let Some(mut snapshot) = self.snapshot(&context, &lock)? else { continue };
                let before = snapshot.units.len();
                snapshot.units.retain(|unit| {
                    let is_believed = believes(&unit.provenance);
                    if !is_believed {
                        *found.entry(unit.provenance.clone()).or_default() += 1;
                    }
                    is_believed
                });
                if sorting == Sorting::Drop && snapshot.units.len() < before {
                    self.put_snapshot(&snapshot)?;
                }
            }
        }
        Ok(())
    }

    pub(crate) fn snapshot_contexts(&self) -> Vec<Digest> {
        let dirs = std::fs::read_dir(self.snapshots_dir()).into_iter().flatten().flatten();
        dirs.filter_map(|dir| dir.file_name().to_str()?.parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::cargo::layout::UnitDir;
    use kache_core::entry::{Entry, Evidence};
    use kache_core::record::{Input, InputRecord};
    use kache_core::seed_unit::{Made, SeedUnit};
    use kache_core::snapshot::{Header, Snapshot};

    fn key(name: &str) -> EntryKey {
        EntryKey(Digest::of(name.as_bytes()))
    }

    #[test]
    fn what_is_not_believed_is_listed_and_then_dropped() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let (ours, theirs) = (Provenance::Signed("aa".into()), Provenance::Signed("bb".into()));
        let kinds = [Provenance::Here, ours.clone(), theirs.clone(), Provenance::Unsigned];
        let unit = UnitKey(Digest::of(b"unit"));
        let mut snapshot =
            Snapshot { header: Header::new(Digest::of(b"c"), Digest::of(b"l")), units: vec![] };
        for (i, provenance) in kinds.iter().enumerate() {
            let mut entry = Entry::new(unit, "demo");
            entry.dep_info_name = "demo.d".into();
            entry.provenance = provenance.clone();
            let name = provenance.to_string();
            store.publish(&key(&name), &entry, &Evidence::default()).expect("published");
            let (inputs, provenance) = (vec![Input::Env(name.clone())], provenance.clone());
            let record = InputRecord { inputs, provenance: provenance.clone(), ..InputRecord::default() };
            store.add_record(&unit, record).expect("added");
            let dir = UnitDir::parse(&format!("demo-{i:016}")).expect("a unit");
            let made = Made::Compile { entry: key(&name) };
            let unit = SeedUnit { provenance, ..SeedUnit::new("debug", dir, "lib-demo", made) };
            snapshot.units.push(unit);
        }
        store.put_snapshot(&snapshot).expect("written");
        let believes = |provenance: &Provenance| *provenance == Provenance::Here || *provenance == ours;
        let listed = store.sort_out(believes, Sorting::List).expect("listed");
        let count = BTreeMap::from([(theirs.clone(), 1), (Provenance::Unsigned, 1)]);
        assert_eq!((&listed.records, &listed.units), (&count, &count));
        let mut keys = listed.entries.iter().map(|(key, ..)| *key).collect::<Vec<_>>();
        let mut expected = [key(&theirs.to_string()), key("unsigned")];
        keys.sort_unstable();
        expected.sort_unstable();
        assert_eq!(keys, expected);
        assert_eq!(store.sort_out(believes, Sorting::Drop).expect("dropped"), listed);
        assert!(store.sort_out(believes, Sorting::List).expect("listed").is_empty());
        assert_eq!(store.entry_count().expect("counted"), 2);
        assert_eq!(store.records(&unit).expect("readable").records.len(), 2);
        let left = store.snapshot(&Digest::of(b"c"), &Digest::of(b"l")).expect("readable").expect("there");
        assert_eq!(left.units.len(), 2);
    }
}
