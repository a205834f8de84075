use kache_core::cargo::layout::UnitDir;
use kache_core::key::EntryKey;
use kache_core::seed_unit::{Made, SeedUnit};

use super::*;
use crate::evict::{Purge, SweepOptions, plan};

fn snapshot(lock: &str, units: &[&str]) -> Snapshot {
    let header = Header::new(Digest::of(b"context"), Digest::of(lock.as_bytes()));
    let mut snapshot = Snapshot { header, units: Vec::new() };
    for name in units {
        let made = Made::Compile { entry: EntryKey(Digest::of(name.as_bytes())) };
        snapshot.units.push(SeedUnit {
            hash: "0".repeat(16),
            package: format!("{name} 1.0.0"),
            package_dir: (*name).to_owned(),
            ..SeedUnit::new(
                "debug",
                UnitDir::parse(&format!("{name}-{:016}", 1)).expect("a unit"),
                &format!("lib-{name}"),
                made,
            )
        });
    }
    snapshot
}

fn context() -> Digest {
    Digest::of(b"context")
}

#[test]
fn snapshots_are_found_by_lockfile_and_listed_by_use() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    assert!(store.snapshot_locks(&context()).is_empty());
    for (lock, age_s) in [("one", 20), ("two", 10), ("three", 30)] {
        let snapshot = snapshot(lock, &["a"]);
        store.put_snapshot(&snapshot).expect("put");
        let path = store.snapshot_path(&context(), &snapshot.header.lock);
        let now = std::time::SystemTime::now();
        fs::File::open(path)
            .expect("open")
            .set_modified(now - std::time::Duration::from_secs(age_s))
            .expect("date");
    }
    let locks = ["two", "one", "three"].map(|lock| Digest::of(lock.as_bytes()));
    assert_eq!(store.snapshot_locks(&context()), locks);
    assert_eq!(store.snapshot(&context(), &locks[0]).expect("readable"), Some(snapshot("two", &["a"])));
    assert_eq!(store.snapshot_header(&context(), &locks[0]), Some(snapshot("two", &["a"]).header));
    assert_eq!(store.snapshot(&Digest::of(b"other"), &locks[0]).expect("readable"), None);
    assert!(store.snapshot_locks(&Digest::of(b"other")).is_empty());
}

#[test]
fn what_is_not_a_snapshot_of_this_name_is_none() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    store.put_snapshot(&snapshot("one", &["a"])).expect("put");
    let one = store.snapshot_path(&context(), &Digest::of(b"one"));
    let two = store.snapshot_path(&context(), &Digest::of(b"two"));
    fs::copy(&one, &two).expect("copy");
    assert_eq!(store.snapshot(&context(), &Digest::of(b"two")).expect("readable"), None);
    let text = fs::read(&one).expect("read");
    fs::write(&one, &text[..text.len() - 9]).expect("tear");
    assert_eq!(store.snapshot(&context(), &Digest::of(b"one")).expect("readable"), None);
}

#[test]
fn a_snapshot_from_elsewhere_joins_what_is_there() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    let lock = Digest::of(b"one");
    assert!(store.snapshots_of(&lock).is_empty());
    assert_eq!(store.join_snapshot(snapshot("one", &["a", "b"])).expect("written").units.len(), 2);
    assert_eq!(store.snapshots_of(&lock), [snapshot("one", &["a", "b"])]);
    store.put_snapshot(&snapshot("one", &["b", "c"])).expect("put");
    assert_eq!(store.join_snapshot(snapshot("one", &["a", "b"])).expect("written").units.len(), 3);
    let joined = store.snapshot(&context(), &lock).expect("readable").expect("there");
    let names: std::collections::BTreeSet<_> =
        joined.units.iter().map(|unit| unit.package_dir.as_str()).collect();
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["a", "b", "c"]);
    // Another context of the same lockfile, of use earlier.
    let mut other = snapshot("one", &["d"]);
    other.header.context = Digest::of(b"other");
    store.join_snapshot(other.clone()).expect("written");
    let path = store.snapshot_path(&other.header.context, &lock);
    fs::File::open(path).expect("open").set_modified(std::time::UNIX_EPOCH).expect("date");
    assert_eq!(store.snapshots_of(&lock), [joined, other]);
    assert!(store.snapshots_of(&Digest::of(b"two")).is_empty());
}

#[test]
fn old_snapshots_go_and_so_do_all_with_everything() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    store.put_snapshot(&snapshot("one", &["a"])).expect("put");
    let path = store.snapshot_path(&context(), &Digest::of(b"one"));
    let mut survey = store.survey().expect("survey");
    assert_eq!(survey.snapshots.len(), 1);
    assert!(survey.sizes().meta_bytes >= fs::metadata(&path).expect("there").len());
    let strays = |survey: &crate::survey::Survey, options: &SweepOptions| plan(survey, options).strays;
    assert!(strays(&survey, &SweepOptions::default()).is_empty());
    let month = std::time::Duration::from_secs(32 * 86_400);
    survey.now = FileTime::from_parts(survey.now.seconds() + 61 * 86_400, 0);
    assert_eq!(strays(&survey, &SweepOptions::default()), std::slice::from_ref(&path));
    survey.now = FileTime::from_parts(survey.now.seconds() - 28 * 86_400, 0);
    assert!(strays(&survey, &SweepOptions::default()).is_empty());
    assert_eq!(
        strays(&survey, &SweepOptions { age_max: Some(month), ..SweepOptions::default() }),
        std::slice::from_ref(&path)
    );
    let purge = SweepOptions { purge: Purge::Everything, ..SweepOptions::default() };
    assert_eq!(strays(&survey, &purge), [path]);
}
