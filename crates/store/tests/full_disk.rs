//! A full disk: every failure is an error value that says so, nothing half-written is visible, and all is well once
//! there is room again. Needs a small file system in `KACHE_TEST_SMALL_DIR` (CI mounts one); without it, nothing is
//! tried.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::event::{Event, Outcome};
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::InputRecord;
use kache_store::blobs::IngestHow;
use kache_store::evict::{Purge, SweepOptions};
use kache_store::link::{Note, Permission, Sharing, Stamp, place, place_bytes};
use kache_store::sweep::Sweeping;
use kache_store::{Error, Store};

fn fill(path: &Path) {
    let mut file = File::create(path).expect("create");
    for chunk in [1 << 20, 4096, 512, 1] {
        while file.write_all(&vec![1; chunk]).is_ok() {}
    }
}

fn must_be_full<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    let error = result.expect_err(what);
    assert!(error.is_full(), "{what}: {error}");
}

fn entry(unit: UnitKey) -> Entry {
    let mut entry = Entry::new(unit, "demo");
    entry.dep_info_name = "demo.d".into();
    entry
}

#[test]
fn a_full_disk_costs_entries_and_nothing_else() {
    let Some(small) = std::env::var_os("KACHE_TEST_SMALL_DIR") else { return };
    let dir = tempfile::tempdir_in(small).expect("temp dir");
    let store = Store::open(&dir.path().join("cache")).expect("open");
    let elsewhere = tempfile::tempdir().expect("temp dir");
    let unit = UnitKey(Digest::of(b"unit"));
    let key = |n: u64| EntryKey(Digest::of(&n.to_le_bytes()));
    let publish = |n| store.publish(&key(n), &entry(unit), &Evidence::default());
    let compiled = |n: u8| {
        let path = elsewhere.path().join(n.to_string());
        fs::write(&path, vec![n; 50_000]).expect("write");
        (Digest::of(&vec![n; 50_000]), path)
    };
    let (known, path) = compiled(1);
    store.ingest(&known, &path, IngestHow::Link, 1_704_067_201, Permission::Plain).expect("ingest");
    publish(1).expect("publish");
    store.add_record(&unit, InputRecord::default()).expect("added");
    let filler = dir.path().join("filler");
    fill(&filler);

    let (digest, path) = compiled(2);
    for how in [IngestHow::Link, IngestHow::Clone] {
        must_be_full("ingest", store.ingest(&digest, &path, how, 1_704_067_201, Permission::Plain));
        assert!(!store.blob_path(&digest).exists());
    }
    let dest = dir.path().join("dest");
    let private = Sharing::Private(Stamp::Now);
    must_be_full("ingest_bytes", store.ingest_bytes(&[3; 100_000]));
    must_be_full("place", place(&store.blob_path(&known), &dest, private, Permission::Plain, Note::None));
    must_be_full("place_bytes", place_bytes(&[4; 100_000], &dest));
    assert!(!dest.exists());
    for n in 2..200 {
        // The first ones may still fit into what a directory or the file system has left.
        if let Err(error) = publish(n) {
            assert!(error.is_full(), "{error}");
            assert!(store.entry(&key(n)).expect("readable").is_none());
        }
    }
    assert!(store.entry(&key(199)).expect("readable").is_none());
    let _ = store.append(&Event::new("torn", Outcome::Hit));
    assert_eq!(fs::read_dir(dir.path().join("cache/v1/tmp")).expect("list").count(), 0);
    assert!(store.entry(&key(1)).expect("readable").is_some());
    assert!(store.verify_blob(&known).expect("readable"));
    assert_eq!(store.records(&unit).expect("readable").records.len(), 1);

    // A sweep must work although there is no room for its own notes.
    let everything = SweepOptions {
        purge: Purge::Everything,
        grace: std::time::Duration::ZERO,
        ..SweepOptions::default()
    };
    assert!(matches!(store.sweep(&everything), Ok(Sweeping::Done(report)) if report.entries > 0));
    fs::remove_file(&filler).expect("remove");
    store.ingest(&digest, &path, IngestHow::Link, 1_704_067_201, Permission::Plain).expect("room again");
    publish(2).expect("publish");
    store.append(&Event::new("whole", Outcome::Hit)).expect("appended");
    assert_eq!(store.events(None).last().map(|event| event.crate_name).as_deref(), Some("whole"));
}
