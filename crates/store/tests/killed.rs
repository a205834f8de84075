//! Killed at any moment: whatever a process was doing, what is visible afterwards is whole, and a sweep takes away the
//! rest. The test starts itself as the victim.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, Output, OutputKind};
use kache_core::event::{Event, Outcome};
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::{Input, InputRecord};
use kache_store::Store;
use kache_store::blobs::{BlobState, IngestHow};
use kache_store::evict::SweepOptions;
use kache_store::link::{Note, Permission, Sharing, Stamp, place};
use kache_store::verify::Checksums;

const VICTIM_DIR: &str = "KACHE_TEST_VICTIM_DIR";
const KEYS: u64 = 40;

fn content(n: u64) -> Vec<u8> {
    format!("content {n} ").repeat(20_000).into_bytes()
}

fn key(n: u64) -> EntryKey {
    EntryKey(Digest::of(&n.to_le_bytes()))
}

/// Everything a wrapper does, for ever.
fn work(dir: &Path) {
    let store = Store::open(&dir.join("cache")).expect("open");
    let unit = UnitKey(Digest::of(b"unit"));
    for n in (0..KEYS).cycle() {
        let (file, dest, bytes) = (dir.join("compiled"), dir.join("restored"), content(n));
        let _ = fs::remove_file(&file);
        fs::write(&file, &bytes).expect("write");
        let digest = Digest::of(&bytes);
        let how = if n % 2 == 0 { IngestHow::Link } else { IngestHow::Clone };
        let stat =
            store.ingest(&digest, &file, how, 1_704_067_201, Permission::Plain).expect("ingest").stat();
        let mut entry = Entry::new(unit, "demo");
        entry.dep_info_name = "demo.d".into();
        entry.outputs.push(Output {
            name: "libdemo.rlib".into(),
            kind: OutputKind::Rlib,
            digest,
            size: stat.size,
            mtime_s: stat.mtime_s,
            executable: false,
        });
        store.publish(&key(n), &entry, &Evidence::default()).expect("publish");
        let inputs = vec![Input::File(n.to_string())];
        store.add_record(&unit, InputRecord { inputs, ..InputRecord::default() }).expect("added");
        let sharing = if n % 3 == 0 { Sharing::Shared } else { Sharing::Private(Stamp::Now) };
        place(&store.blob_path(&digest), &dest, sharing, Permission::Plain, Note::None).expect("placed");
        store.append(&Event::new(&n.to_string(), Outcome::Miss)).expect("appended");
        if n % 10 == 9 {
            let options = SweepOptions {
                limit_bytes: Some(4_000_000),
                grace: Duration::ZERO,
                ..SweepOptions::default()
            };
            store.sweep(&options).expect("swept");
        }
    }
}

/// What must hold whenever a process died.
fn check(dir: &Path) {
    let store = Store::open(&dir.join("cache")).expect("open");
    let found = store.verify(Checksums::Read, &mut |_| ()).expect("verified");
    // A sweep that died between an entry and its blobs leaves blobs; one that removes blobs has removed their entries.
    let broken: Vec<_> = found.problems.iter().filter(|problem| problem.is_repairable()).collect();
    assert!(broken.is_empty(), "{broken:?}");
    for n in 0..KEYS {
        let Some(entry) = store.entry(&key(n)).expect("readable") else { continue };
        assert_eq!(entry.outputs[0].digest, Digest::of(&content(n)));
        assert_eq!(store.check_blob(&entry.outputs[0]).expect("looked at"), BlobState::Present);
    }
    if let Ok(restored) = fs::read(dir.join("restored")) {
        assert!((0..KEYS).any(|n| content(n) == restored), "half a file was visible");
    }
    store.records(&UnitKey(Digest::of(b"unit"))).expect("readable");
    store.events(None).for_each(drop);
}

#[test]
fn whoever_is_killed_leaves_only_whole_files() {
    if let Some(dir) = std::env::var_os(VICTIM_DIR) {
        work(&PathBuf::from(dir));
        return;
    }
    let dir = tempfile::tempdir().expect("temp dir");
    let myself = std::env::current_exe().expect("path");
    for round in 0..25 {
        let mut victim = Command::new(&myself)
            .args(["whoever_is_killed_leaves_only_whole_files", "--exact"])
            .env(VICTIM_DIR, dir.path())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("start");
        std::thread::sleep(Duration::from_millis(20 + round * 13 % 90));
        victim.kill().expect("kill");
        let status = victim.wait().expect("wait");
        assert_eq!(status.code(), None, "died of something else");
        check(dir.path());
    }
    let store = Store::open(&dir.path().join("cache")).expect("open");
    assert!(store.entries().expect("listed").count() > 0, "the victims got something done");
}
