//! Many processes at once, played by threads: whatever is found under a key and checks as present has the key's
//! content.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, Output, OutputKind};
use kache_core::key::{EntryKey, UnitKey};

use crate::blobs::{BlobState, IngestHow};
use crate::evict::SweepOptions;
use crate::layout::Store;
use crate::link::{Note, Permission, Sharing, Stamp, place};
use crate::testing::{BLOB_S, Bench};

const KEYS: usize = 12;
const ROUNDS: usize = 150;

fn key(i: usize) -> EntryKey {
    EntryKey(Digest::of(format!("key {i}").as_bytes()))
}

/// Two outputs for each entry; neighbouring entries share one.
fn contents(i: usize) -> [Vec<u8>; 2] {
    [i, i + 1].map(|n| format!("content {n} ").repeat(200 + n).into_bytes())
}

fn put(store: &Store, dir: &std::path::Path, i: usize, how: IngestHow) {
    let mut entry = Entry::new(UnitKey(Digest::of(b"unit")), "demo");
    entry.dep_info_name = "demo.d".into();
    for (n, content) in contents(i).iter().enumerate() {
        let path = dir.join(format!("compiled-{n}"));
        let _ = fs::remove_file(&path);
        fs::write(&path, content).expect("write");
        let digest = Digest::of(content);
        let stored = store.ingest(&digest, &path, how, BLOB_S, Permission::Plain).expect("ingest").stat();
        entry.outputs.push(Output {
            name: format!("o{n}"),
            kind: OutputKind::Rlib,
            digest,
            size: stored.size,
            mtime_s: stored.mtime_s,
            executable: false,
        });
    }
    store.publish(&key(i), &entry, &Evidence::default()).expect("publish");
}

/// Restores an entry as a hit would; a hole on the way makes it a miss. Returns whether it was a hit.
fn get(store: &Store, dir: &std::path::Path, i: usize, sharing: Sharing) -> bool {
    let Some(entry) = store.entry(&key(i)).expect("readable") else { return false };
    assert_eq!(entry.outputs.len(), 2);
    for (output, content) in entry.outputs.iter().zip(contents(i)) {
        if store.check_blob(output).expect("looked at") != BlobState::Present {
            return false;
        }
        let dest = dir.join(format!("restored-{}", output.name));
        match place(&store.blob_path(&output.digest), &dest, sharing, Permission::Plain, Note::None) {
            Ok(_) => assert!(fs::read(&dest).expect("read") == content, "wrong content under key {i}"),
            Err(error) if error.is_missing() => return false,
            Err(error) => panic!("{error}"),
        }
    }
    true
}

#[test]
fn putters_droppers_and_sweepers_never_make_a_wrong_hit() {
    for bench in Bench::everywhere() {
        let done = AtomicBool::new(false);
        let hits = AtomicUsize::new(0);
        let store = &bench.store;
        std::thread::scope(|scope| {
            let putters: Vec<_> = (0..8)
                .map(|thread| {
                    let dir = bench.path(&format!("putter-{thread}"));
                    fs::create_dir(&dir).expect("mkdir");
                    let hits = &hits;
                    scope.spawn(move || {
                        for round in 0..ROUNDS {
                            let i = (round * 7 + thread * 5) % KEYS;
                            let how = if round % 2 == 0 { IngestHow::Link } else { IngestHow::Clone };
                            put(store, &dir, i, how);
                            let shared = (round + thread) % 3 != 0;
                            let sharing = if shared { Sharing::Shared } else { Sharing::Private(Stamp::Now) };
                            hits.fetch_add(
                                usize::from(get(store, &dir, (i + round) % KEYS, sharing)),
                                Ordering::Relaxed,
                            );
                        }
                    })
                })
                .collect();
            for thread in 0..4 {
                let done = &done;
                scope.spawn(move || {
                    let mut i = thread;
                    while !done.load(Ordering::Relaxed) {
                        i = (i * 5 + 3) % (KEYS * 4);
                        if i % 4 == 0 {
                            store.drop_damaged(&Digest::of(&contents(i % KEYS)[0])).expect("removed");
                        } else {
                            store.drop_entry(&key(i % KEYS)).expect("dropped");
                        }
                        std::thread::sleep(Duration::from_micros(300));
                    }
                });
            }
            scope.spawn(|| {
                let options = SweepOptions {
                    limit_bytes: Some(10_000),
                    grace: Duration::ZERO,
                    ..SweepOptions::default()
                };
                while !done.load(Ordering::Relaxed) {
                    store.sweep(&options).expect("swept");
                    std::thread::sleep(Duration::from_millis(2));
                }
            });
            let outcomes: Vec<_> = putters.into_iter().map(|putter| putter.join()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(outcomes.iter().all(Result::is_ok));
        });
        assert!(hits.load(Ordering::Relaxed) > ROUNDS, "hardly a hit: {hits:?}");
        assert_eq!(bench.leftovers(), 0);
        for i in 0..KEYS {
            put(store, bench.dir.path(), i, IngestHow::Clone);
            assert!(get(store, bench.dir.path(), i, Sharing::Shared), "a compile heals every hole");
        }
    }
}
