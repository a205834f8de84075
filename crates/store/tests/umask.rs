//! The umask is for the user's files, not for the store's. A test binary of its own, since it is the process's.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::event::{Event, Outcome};
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::InputRecord;
use kache_store::Store;
use kache_store::blobs::IngestHow;
use kache_store::link::{Note, Permission, Sharing, Stamp, place};
use rustix::fs::Mode;

fn modes_below(dir: &Path, found: &mut Vec<(String, u32)>) {
    for item in fs::read_dir(dir).expect("list") {
        let path = item.expect("item").path();
        let meta = fs::symlink_metadata(&path).expect("stat");
        found.push((path.display().to_string(), meta.permissions().mode() & 0o7777));
        if meta.is_dir() {
            modes_below(&path, found);
        }
    }
}

#[test]
fn the_strictest_umask_leaves_the_store_usable() {
    let dir = tempfile::tempdir().expect("temp dir");
    let files: Vec<_> = (0..4u8).map(|n| (n, dir.path().join(n.to_string()))).collect();
    for (n, path) in &files {
        fs::write(path, [*n]).expect("write");
    }
    rustix::process::umask(Mode::from_raw_mode(0o777));
    let root = dir.path().join("cache");
    let store = Store::open(&root).expect("open");
    let unit = UnitKey(Digest::of(b"unit"));
    for (n, path) in &files {
        let how = if n % 2 == 0 { IngestHow::Link } else { IngestHow::Clone };
        let permission = Permission::executable(*n < 2);
        store.ingest(&Digest::of(&[*n]), path, how, 1_704_067_201, permission).expect("ingest");
    }
    store.ingest_bytes(b"text").expect("ingest");
    store.publish(&EntryKey(unit.0), &Entry::new(unit, "demo"), &Evidence::default()).expect("publish");
    store.add_record(&unit, InputRecord::default()).expect("added");
    store.append(&Event::new("demo", Outcome::Hit)).expect("appended");
    store.memo_put("kind", &unit.0, b"value").expect("remembered");
    store.lock_unit(&unit, Duration::ZERO).expect("locked");
    let mut found = Vec::new();
    modes_below(&root, &mut found);
    for (path, mode) in found {
        let expected: &[u32] = match Path::new(&path) {
            path if path.is_dir() => &[0o700],
            path if path.ends_with("CACHEDIR.TAG") || path.ends_with(".gitignore") => &[0o644],
            path if path.starts_with(root.join("v1/blobs")) => &[0o644, 0o755],
            _ => &[0o600],
        };
        assert!(expected.contains(&mode), "{path}: {mode:o}");
    }
    // What is put into a target directory is the user's, like a compiler's output; what is linked is the store's.
    rustix::process::umask(Mode::from_raw_mode(0o027));
    let blob = store.blob_path(&Digest::of(&[0]));
    let dest = dir.path().join("dest");
    place(&blob, &dest, Sharing::Private(Stamp::Now), Permission::Executable, Note::None).expect("placed");
    assert_eq!(fs::metadata(&dest).expect("stat").permissions().mode() & 0o7777, 0o750);
}
