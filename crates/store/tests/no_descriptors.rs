//! Running out of file descriptors says nothing about the store: everything is an error value, and nothing that was
//! there is dropped. A test binary of its own, since the limit is the process's.

use std::fs::{self, File};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::event::{Event, Outcome};
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::InputRecord;
use kache_store::Store;
use kache_store::blobs::IngestHow;
use kache_store::evict::{Purge, SweepOptions};
use kache_store::hashing::DigestMemo;
use kache_store::link::{Note, Permission, Sharing, Stamp, place, place_bytes};
use kache_store::verify::Checksums;

fn entry(unit: UnitKey) -> Entry {
    let mut entry = Entry::new(unit, "demo");
    entry.dep_info_name = "demo.d".into();
    entry
}

#[test]
fn without_descriptors_everything_is_an_error_and_nothing_is_lost() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    let file = dir.path().join("file");
    fs::write(&file, vec![7; 100_000]).expect("write");
    let digest = Digest::of(&[7; 100_000]);
    let unit = UnitKey(Digest::of(b"unit"));
    let key = EntryKey(Digest::of(b"key"));
    store.ingest(&digest, &file, IngestHow::Clone, 1_704_067_201, Permission::Plain).expect("ingest");
    store.publish(&key, &entry(unit), &Evidence::default()).expect("publish");
    store.add_record(&unit, InputRecord::default()).expect("added");
    let entry_before = fs::read(store.entry_path(&key)).expect("read");
    let records_before = fs::read(store.records_path(&unit)).expect("read");
    fs::write(dir.path().join("other"), "x").expect("write");

    let mut hoard = Vec::new();
    let files = rustix::process::Resource::Nofile;
    let limit = rustix::process::Rlimit { current: Some(64), ..rustix::process::getrlimit(files) };
    rustix::process::setrlimit(files, limit).expect("setrlimit");
    while let Ok(file) = File::open(&file) {
        hoard.push(file);
    }
    let everything =
        SweepOptions { purge: Purge::Everything, grace: Duration::ZERO, ..SweepOptions::default() };
    let dest = dir.path().join("dest");
    let blob = store.blob_path(&digest);
    let errors = [
        ("entry", store.entry(&key).err()),
        ("records", store.records(&unit).err()),
        (
            "add_record",
            store.add_record(&unit, InputRecord { rendered: true, ..InputRecord::default() }).err(),
        ),
        ("evidence", store.evidence(&key).err()),
        ("publish", store.publish(&key, &entry(unit), &Evidence::default()).err()),
        ("ingest_bytes", store.ingest_bytes(b"new").err()),
        ("ingest", {
            let other = dir.path().join("other");
            store.ingest(&Digest::of(b"x"), &other, IngestHow::Link, 1, Permission::Plain).err()
        }),
        ("verify_blob", store.verify_blob(&digest).err()),
        ("read_blob", store.read_blob(&digest, 1 << 20).err()),
        ("digest", DigestMemo::new(&store).digest(&dir.path().join("other")).err()),
        ("remember", DigestMemo::new(&store).remember(&file, &digest).err()),
        ("place", place(&blob, &dest, Sharing::Private(Stamp::Now), Permission::Plain, Note::None).err()),
        ("place_bytes", place_bytes(b"x", &dest).err()),
        ("lock_unit", store.lock_unit(&unit, Duration::ZERO).err()),
        ("append", store.append(&Event::new("demo", Outcome::Hit)).err()),
        ("usage_estimate", store.usage_estimate().err()),
        ("entries", store.entries().err()),
        ("survey", store.survey().err()),
        ("plan_sweep", store.plan_sweep(&everything).err()),
        ("sweep", store.sweep(&everything).err()),
        ("verify", store.verify(Checksums::Read, &mut |_| ()).err()),
        ("memo_put", store.memo_put("kind", &digest, b"x").err()),
    ];
    let memo = store.memo_get("kind", &digest);
    let events = store.events(None).count();
    drop(hoard);

    for (what, error) in errors {
        assert!(error.as_ref().is_some_and(|error| error.is_transient()), "{what}: {error:?}");
    }
    assert_eq!((memo, events), (None, 0));
    assert_eq!(fs::read(store.entry_path(&key)).expect("read"), entry_before);
    assert_eq!(fs::read(store.records_path(&unit)).expect("read"), records_before);
    assert!(store.verify_blob(&digest).expect("readable"));
    assert!(!dest.exists());
    assert_eq!(fs::read_dir(dir.path().join("v1/tmp")).expect("list").count(), 0);
}
