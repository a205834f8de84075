use super::*;
use crate::link::set_mtime_of;
use crate::testing::Bench;
use std::path::Path;

fn problems(bench: &Bench, checksums: Checksums) -> Vec<String> {
    let mut seen = 0;
    let found = bench.store.verify(checksums, &mut |progress| seen = progress.done).expect("verified");
    assert_eq!(seen, found.blobs);
    found.problems.iter().map(|problem| problem.to_string()).collect()
}

/// Breaks the blob or the entry file of one of two entries.
type Break = fn(&Bench, &Path, &Path);

#[test]
fn each_kind_of_damage_is_found_and_repaired() {
    let cases: [(&str, Checksums, Break); 4] = [
        ("is missing", Checksums::Skip, |_, blob, _| fs::remove_file(blob).expect("remove")),
        ("was changed", Checksums::Skip, |_, blob, _| fs::write(blob, "cONTENT").expect("write")),
        ("can't be understood", Checksums::Skip, |_, _, entry| fs::write(entry, "{").expect("write")),
        ("has other content", Checksums::Read, |_, blob, _| {
            let meta = fs::metadata(blob).expect("stat");
            fs::write(blob, "cONTENT").expect("write");
            set_mtime_of(blob, FileTime::modified(&meta).seconds()).expect("utimes");
        }),
    ];
    for (expected, checksums, damage) in cases {
        let bench = Bench::new();
        let (sound, _) = bench.publish("sound", b"other");
        let (key, entry) = bench.publish("hurt", b"content");
        assert_eq!(problems(&bench, checksums), Vec::<String>::new());
        damage(&bench, &bench.store.blob_path(&entry.outputs[0].digest), &bench.store.entry_path(&key));
        let found = bench.store.verify(checksums, &mut |_| ()).expect("verified");
        let [problem] = &found.problems[..] else { panic!("{:?}", found.problems) };
        assert!(problem.to_string().contains(expected) && problem.is_repairable(), "{problem}");
        assert_eq!(bench.store.repair(problem).expect("repaired"), Repair::Dropped);
        assert_eq!(problems(&bench, Checksums::Read), Vec::<String>::new(), "{expected}");
        assert!(bench.store.entry(&sound).expect("readable").is_some());
        assert!(bench.store.entry(&key).expect("readable").is_none());
        let (key, entry) = bench.publish("hurt", b"content");
        assert_eq!(bench.store.entry(&key).expect("readable"), Some(entry), "a compile heals it");
        assert_eq!(problems(&bench, Checksums::Read), Vec::<String>::new(), "{expected}");
    }
}

#[test]
fn an_intact_blob_with_another_time_is_never_dropped() {
    let bench = Bench::new();
    let (key, entry) = bench.publish("copied", b"content");
    let blob = bench.store.blob_path(&entry.outputs[0].digest);
    for checksums in [Checksums::Skip, Checksums::Read] {
        set_mtime_of(&blob, 77).expect("utimes");
        let found = bench.store.verify(checksums, &mut |_| ()).expect("verified");
        let [problem] = &found.problems[..] else { panic!("{:?}", found.problems) };
        assert_eq!(bench.store.repair(problem).expect("repaired"), Repair::Intact, "{problem}");
        assert_eq!(problems(&bench, Checksums::Read), Vec::<String>::new());
        assert_eq!(bench.store.entry(&key).expect("readable").as_ref(), Some(&entry));
    }
}

#[test]
fn quick_checks_do_not_read_and_orphans_are_not_broken() {
    let bench = Bench::new();
    let (_, entry) = bench.publish("hurt", b"content");
    let blob = bench.store.blob_path(&entry.outputs[0].digest);
    fs::write(&blob, "cONTENT").expect("write");
    set_mtime_of(&blob, entry.outputs[0].mtime_s).expect("utimes");
    assert_eq!(problems(&bench, Checksums::Skip), Vec::<String>::new());
    let orphan = bench.store.ingest_bytes(b"about to be needed").expect("ingest");
    assert_eq!(problems(&bench, Checksums::Skip), Vec::<String>::new(), "young");
    let problem = Problem::OrphanBlob(orphan, 1);
    assert!(!problem.is_repairable());
    assert_eq!(bench.store.repair(&problem).expect("nothing to do"), Repair::Intact);
    assert!(bench.store.blob_path(&orphan).exists());
}
