//! What a look-up reads from the disk: `cargo bench -p kache-store`. CI compiles this and doesn't run it.

use divan::{Bencher, black_box};
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::{Input, InputRecord};
use kache_store::Store;

fn main() {
    divan::main();
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().expect("temporary directory");
    let store = Store::open(dir.path()).expect("a store");
    (dir, store)
}

/// The records of a unit of so many files, as many records as are kept.
#[divan::bench(args = [10, 1000])]
fn records(bencher: Bencher, files: usize) {
    let (_dir, store) = store();
    let unit = UnitKey(Digest::of(b"unit"));
    for round in 0..8 {
        let file = |i| Input::File(format!("{{ws}}/src/{round}/module{i}.rs"));
        let inputs = (0..files).map(file).collect();
        store.add_record(&unit, InputRecord { inputs, ..InputRecord::default() }).expect("added");
    }
    bencher.bench(|| store.records(black_box(&unit)));
}

#[divan::bench]
fn entry(bencher: Bencher) {
    let (_dir, store) = store();
    let key = EntryKey(Digest::of(b"entry"));
    let mut entry = Entry::new(UnitKey(Digest::of(b"unit")), "demo");
    "demo.d".clone_into(&mut entry.dep_info_name);
    store.publish(&key, &entry, &Evidence::default()).expect("published");
    bencher.bench(|| store.entry(black_box(&key)));
}

#[divan::bench]
fn nothing_there(bencher: Bencher) {
    let (_dir, store) = store();
    let unit = UnitKey(Digest::of(b"unit"));
    bencher.bench(|| store.records(black_box(&unit)));
}
