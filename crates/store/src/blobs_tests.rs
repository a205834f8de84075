use super::*;
use std::os::unix::fs::MetadataExt;

use crate::sys::Shared;
use crate::testing::{BLOB_S, Bench};
use kache_core::entry::{Output, OutputKind};

fn blob_meta(bench: &Bench, digest: &Digest) -> Metadata {
    fs::symlink_metadata(bench.store.blob_path(digest)).expect("blob is there")
}

fn output(digest: Digest, size: u64, mtime_s: i64) -> Output {
    Output { name: "x".into(), kind: OutputKind::Rlib, digest, size, mtime_s, executable: false }
}

fn state(bench: &Bench, output: &Output) -> BlobState {
    bench.store.check_blob(output).expect("looked at")
}

#[test]
fn a_taken_over_file_becomes_a_dated_blob() {
    for bench in Bench::everywhere() {
        let natural = FileTime::from_parts(1_800_000_000, 0);
        for (how, file_s) in [(IngestHow::Link, BLOB_S), (IngestHow::Clone, 1_800_000_000)] {
            for (permission, mode) in [(Permission::Plain, 0o644), (Permission::Executable, 0o755)] {
                let content = format!("{how:?} {permission:?}");
                let digest = Digest::of(content.as_bytes());
                let file = bench.write("file", &content);
                fs::set_permissions(&file, Permissions::from_mode(0o600)).expect("chmod");
                set_mtime_of(&file, natural.seconds()).expect("utimes");
                let stored = bench.store.ingest(&digest, &file, how, BLOB_S, permission).expect("ingest");
                let stat = BlobStat { size: content.len() as u64, mtime_s: BLOB_S };
                assert_eq!(stored, Stored::New(stat), "{content}");
                let meta = blob_meta(&bench, &digest);
                assert_eq!(meta.permissions().mode() & 0o7777, mode, "{content}");
                assert_eq!(FileTime::modified(&meta), FileTime::from_parts(BLOB_S, 0), "{content}");
                let executable = permission == Permission::Executable;
                let recorded = Output { executable, ..output(digest, stat.size, BLOB_S) };
                assert_eq!(state(&bench, &recorded), BlobState::Present);
                assert!(bench.store.verify_blob(&digest).expect("readable"));
                let file_meta = fs::metadata(&file).expect("still there");
                assert_eq!(FileTime::modified(&file_meta).seconds(), file_s, "{content}");
                fs::remove_file(&file).expect("remove");
            }
        }
        assert_eq!(bench.leftovers(), 0);
    }
}

#[test]
fn linking_shares_an_inode_where_there_are_no_reflinks() {
    let bench = Bench::new();
    let file = bench.write("file", "x");
    bench.ingest(&file, IngestHow::Link);
    let blob = blob_meta(&bench, &Digest::of(b"x"));
    let meta = fs::metadata(&file).expect("stat");
    assert!(blob.ino() == meta.ino() || blob.nlink() == 1, "one inode, or reflinks");
}

#[test]
fn a_known_blob_is_never_re_dated() {
    for bench in Bench::everywhere() {
        let digest = Digest::of(b"same");
        for (i, how) in [IngestHow::Clone, IngestHow::Link, IngestHow::Clone].into_iter().enumerate() {
            let file = bench.write(&format!("file{i}"), "same");
            let mtime_s = BLOB_S + i64::try_from(i).expect("small");
            let stored = bench.store.ingest(&digest, &file, how, mtime_s, Permission::Plain).expect("ingest");
            assert_eq!(stored.stat().mtime_s, BLOB_S);
            assert_eq!(matches!(stored, Stored::New(_)), i == 0);
            let left = FileTime::modified(&fs::metadata(&file).expect("stat")).seconds();
            assert_ne!(left, mtime_s, "a file whose content is known stays as it is");
        }
        assert_eq!(bench.leftovers(), 0);
    }
}

/// A compile that comes to what the store has already costs no bytes where the file systems clone.
#[test]
fn a_file_whose_content_is_known_becomes_a_clone_with_its_own_time_and_permissions() {
    for bench in Bench::everywhere() {
        let content = vec![5u8; 1 << 20];
        bench.ingest(&bench.write("first", &content), IngestHow::Clone);
        for (name, links) in [("second", 1), ("third", 2)] {
            let file = bench.write(name, &content);
            fs::set_permissions(&file, Permissions::from_mode(0o750)).expect("chmod");
            set_mtime(&File::open(&file).expect("open"), 1_800_000_000).expect("utimes");
            (1..links).for_each(|_| fs::hard_link(&file, bench.path("other name")).expect("link"));
            let before = fs::metadata(&file).expect("stat");
            bench.ingest(&file, IngestHow::Clone);
            let after = fs::metadata(&file).expect("stat");
            assert_eq!(fs::read(&file).expect("read"), content);
            assert_eq!((after.mode(), after.nlink()), (before.mode(), links));
            assert_eq!(FileTime::modified(&after), FileTime::modified(&before));
            let is_clone = after.ino() != before.ino();
            if bench.volume.is_some() {
                assert_eq!(is_clone, links == 1, "{name}");
            }
            let extents = crate::sys::extents(&File::open(&file).expect("open")).unwrap_or_default();
            let is_shared = extents.iter().any(|extent| extent.sharing == Shared::Yes);
            assert_eq!(is_shared, is_clone, "{name}: {extents:?}");
        }
        assert_eq!(bench.leftovers(), 0);
    }
}

#[test]
fn a_known_blob_counts_as_new_for_the_period_of_grace() {
    let bench = Bench::new();
    let file = bench.write("file", "x");
    bench.ingest(&file, IngestHow::Clone);
    let before = FileTime::changed(&blob_meta(&bench, &Digest::of(b"x")));
    std::thread::sleep(std::time::Duration::from_millis(20));
    bench.ingest(&file, IngestHow::Clone);
    assert!(FileTime::changed(&blob_meta(&bench, &Digest::of(b"x"))) > before);
}

#[test]
fn an_altered_blob_is_noticed_and_replaced() {
    type Alter = fn(&Path);
    let alterations: [(&str, BlobState, Alter); 3] = [
        ("longer", BlobState::Altered, |path| fs::write(path, "good and more").expect("write")),
        ("other content, other time", BlobState::Redated, |path| fs::write(path, "evil").expect("write")),
        ("other content, whole seconds", BlobState::Redated, |path| {
            fs::write(path, "evil").expect("write");
            set_mtime_of(path, BLOB_S + 5).expect("utimes");
        }),
    ];
    for (what, found, alter) in alterations {
        let bench = Bench::new();
        let digest = Digest::of(b"good");
        let file = bench.write("file", "good");
        let stat = bench.ingest(&file, IngestHow::Clone).stat();
        let recorded = output(digest, stat.size, stat.mtime_s);
        assert_eq!(state(&bench, &recorded), BlobState::Present);
        alter(&bench.store.blob_path(&digest));
        assert_eq!(state(&bench, &recorded), found, "{what}");
        assert!(!bench.store.acquit(&recorded).expect("readable"), "{what}");
        let again = bench.ingest(&file, IngestHow::Clone);
        assert_eq!(again, Stored::New(stat), "{what}");
        assert_eq!(state(&bench, &recorded), BlobState::Present, "{what}");
        assert!(bench.store.verify_blob(&digest).expect("readable"), "{what}");
        bench.store.drop_damaged(&digest).expect("removed");
        bench.store.drop_damaged(&digest).expect("gone is fine");
        assert_eq!(state(&bench, &recorded), BlobState::Missing, "{what}");
        assert!(!bench.store.verify_blob(&digest).expect("absent is not an error"), "{what}");
    }
}

#[test]
fn an_intact_blob_gets_its_time_back() {
    for bench in Bench::everywhere() {
        let digest = Digest::of(b"good");
        let file = bench.write("file", "good");
        let stat = bench.ingest(&file, IngestHow::Clone).stat();
        let recorded = output(digest, stat.size, stat.mtime_s);
        let blob = bench.store.blob_path(&digest);
        for seconds in [1, BLOB_S - 1, BLOB_S + 1, crate::clock::since_1970().as_secs() as i64] {
            set_mtime_of(&blob, seconds).expect("utimes");
            assert_eq!(state(&bench, &recorded), BlobState::Redated, "{seconds}");
            assert!(bench.store.acquit(&recorded).expect("readable"), "{seconds}");
            assert_eq!(state(&bench, &recorded), BlobState::Present, "{seconds}");
        }
        let missing = output(Digest::of(b"none"), 4, BLOB_S);
        assert!(!bench.store.acquit(&missing).expect("absent is not an error"));
    }
}

#[test]
fn texts_are_read_back_checked_and_capped() {
    let bench = Bench::new();
    let digest = bench.store.ingest_bytes(b"a long text").expect("ingest");
    assert_eq!(digest, bench.store.ingest_bytes(b"a long text").expect("known"));
    let read = |cap| bench.store.read_blob(&digest, cap).expect("readable");
    assert_eq!(read(11).as_deref(), Some(&b"a long text"[..]));
    assert_eq!(read(10), None);
    fs::write(bench.store.blob_path(&digest), "a tall text").expect("write");
    assert_eq!(read(11), None);
}

#[test]
fn what_is_not_a_finished_file_is_refused() {
    let bench = Bench::new();
    let digest = Digest::of(b"x");
    let ingest = |path: &Path| bench.store.ingest(&digest, path, IngestHow::Link, BLOB_S, Permission::Plain);
    assert!(ingest(&bench.path("none")).expect_err("missing").is_missing());
    ingest(bench.dir.path()).expect_err("a directory");
    std::os::unix::fs::symlink(bench.write("file", "x"), bench.path("link")).expect("symlink");
    ingest(&bench.path("link")).expect_err("a symbolic link");
    assert_eq!(bench.leftovers(), 0);
    assert!(!bench.store.blob_path(&digest).exists());
}

#[test]
fn one_content_from_many_threads_is_one_blob() {
    for bench in Bench::everywhere() {
        let digest = Digest::of(b"same");
        let news: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|i| {
                    let bench = &bench;
                    scope.spawn(move || {
                        let file = bench.write(&format!("file{i}"), "same");
                        let how = if i % 2 == 0 { IngestHow::Link } else { IngestHow::Clone };
                        let stored = bench
                            .store
                            .ingest(&digest, &file, how, BLOB_S + i, Permission::Plain)
                            .expect("ingest");
                        let now = blob_meta(bench, &digest);
                        assert_eq!(stored.stat().mtime_s, FileTime::modified(&now).seconds());
                        usize::from(matches!(stored, Stored::New(_)))
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().expect("no panic")).sum()
        });
        assert_eq!(news, 1);
        assert_eq!(bench.leftovers(), 0);
    }
}
