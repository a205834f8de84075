use super::*;
use crate::clock::FileTime;
use crate::testing::{BLOB_S, Bench};
use std::os::unix::fs::PermissionsExt;

fn stat(path: &Path) -> Metadata {
    fs::metadata(path).expect("exists")
}

fn inode(path: &Path) -> (u64, u64) {
    (stat(path).dev(), stat(path).ino())
}

fn mtime(path: &Path) -> FileTime {
    FileTime::modified(&stat(path))
}

fn blob(bench: &Bench, mode: u32) -> std::path::PathBuf {
    let path = bench.write("blob", "content of the blob");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
    set_mtime_of(&path, BLOB_S).expect("utimes");
    path
}

/// Files of a folder under temporary names.
fn leftovers(folder: &Path) -> usize {
    let names = fs::read_dir(folder).expect("list").map(|file| file.expect("entry").file_name());
    names.filter(|name| name.to_string_lossy().starts_with(".kache-")).count()
}

#[test]
fn every_rung_gives_the_content_and_the_wanted_time() {
    use Sharing::{Private, Shared};
    let canonical = FileTime::from_parts(BLOB_S, 0);
    let cases = [
        (Shared, Some(canonical)),
        (Private(Stamp::Blob), Some(canonical)),
        (Private(Stamp::At(77)), Some(FileTime::from_parts(77, 0))),
        (Private(Stamp::Now), None),
    ];
    for bench in Bench::everywhere() {
        let blob = blob(&bench, 0o644);
        for (sharing, expected) in cases {
            for occupied in [false, true] {
                let dest = bench.path(&format!("dest-{sharing:?}-{occupied}"));
                if occupied {
                    fs::write(&dest, "former").expect("write");
                }
                let before = FileTime::now_coarse();
                let mode = place(&blob, &dest, sharing, Permission::Plain, Note::None).expect("placed");
                assert_eq!(fs::read(&dest).expect("read"), b"content of the blob");
                assert_eq!(inode(&dest) == inode(&blob), mode == Mode::HardLink, "{sharing:?}");
                match expected {
                    Some(time) => assert_eq!(mtime(&dest), time, "{sharing:?} {mode:?}"),
                    None => assert!(mtime(&dest) >= before, "{sharing:?} {mode:?}"),
                }
                assert_eq!(mtime(&blob), canonical);
                if sharing != Shared {
                    assert_ne!(mode, Mode::HardLink);
                    fs::write(&dest, "edited in place").expect("write");
                    assert_eq!(fs::read(&blob).expect("read"), b"content of the blob");
                }
            }
        }
        assert_eq!(leftovers(bench.dir.path()), 0);
    }
}

#[test]
fn a_reflinking_file_system_gets_an_inode_of_its_own_and_others_a_hard_link() {
    for bench in Bench::everywhere() {
        let blob = blob(&bench, 0o644);
        let shared = place(&blob, &bench.path("shared"), Sharing::Shared, Permission::Plain, Note::None)
            .expect("placed");
        let private =
            place(&blob, &bench.path("private"), Sharing::Private(Stamp::Now), Permission::Plain, Note::None)
                .expect("placed");
        let expected =
            if shared == Mode::Reflink { [Mode::Reflink; 2] } else { [Mode::HardLink, Mode::Copy] };
        assert_eq!([shared, private], expected, "{}", bench.dir.path().display());
    }
}

#[test]
fn a_replaced_file_keeps_its_content_for_whoever_holds_it() {
    let bench = Bench::new();
    let blob = blob(&bench, 0o644);
    let dest = bench.write("dest", "former");
    let other_name = bench.path("other");
    fs::hard_link(&dest, &other_name).expect("link");
    for sharing in [Sharing::Shared, Sharing::Private(Stamp::Now)] {
        place(&blob, &dest, sharing, Permission::Plain, Note::None).expect("placed");
        assert_eq!(fs::read(&other_name).expect("read"), b"former");
    }
    place_bytes(b"text", &dest).expect("written");
    assert_eq!(fs::read(&dest).expect("read"), b"text");
    assert_eq!(fs::read(&blob).expect("read"), b"content of the blob");
}

#[test]
fn placing_the_very_inode_again_changes_nothing_and_leaves_nothing() {
    let bench = Bench::new();
    let blob = blob(&bench, 0o644);
    let dest = bench.path("dest");
    for _ in 0..3 {
        assert_eq!(
            place(&blob, &dest, Sharing::Shared, Permission::Plain, Note::None).expect("placed"),
            Mode::HardLink
        );
        assert_eq!(stat(&blob).nlink(), 2);
    }
    assert_eq!(leftovers(bench.dir.path()), 0);
}

#[test]
fn permissions_are_those_of_a_compilers_output_and_a_link_never_changes_the_blobs() {
    let bench = Bench::new();
    let fresh = bench.write("fresh", "");
    let umask = 0o666 & !(stat(&fresh).permissions().mode() & 0o777);
    let cases = [
        (0o644, Permission::Plain, Mode::HardLink, 0o644),
        (0o755, Permission::Executable, Mode::HardLink, 0o755),
        (0o644, Permission::Executable, Mode::Copy, 0o777 & !umask),
        (0o755, Permission::Plain, Mode::Copy, 0o666 & !umask),
    ];
    for (i, (blob_mode, permission, mode, dest_mode)) in cases.into_iter().enumerate() {
        let blob = blob(&bench, blob_mode);
        let dest = bench.path(&i.to_string());
        assert_eq!(
            place(&blob, &dest, Sharing::Shared, permission, Note::None).expect("placed"),
            mode,
            "case {i}"
        );
        assert_eq!(stat(&dest).permissions().mode() & 0o777, dest_mode, "case {i}");
        assert_eq!(stat(&blob).permissions().mode() & 0o777, blob_mode, "case {i}");
        fs::remove_file(&blob).expect("remove");
    }
}

#[test]
fn another_file_system_gets_a_copy() {
    let bench = Bench::new();
    let blob = blob(&bench, 0o644);
    let Ok(elsewhere) = tempfile::tempdir_in("/dev/shm") else { return };
    if stat(elsewhere.path()).dev() == stat(&blob).dev() {
        return;
    }
    let dest = elsewhere.path().join("dest");
    assert_eq!(
        place(&blob, &dest, Sharing::Shared, Permission::Plain, Note::None).expect("placed"),
        Mode::Copy
    );
    assert_eq!(mtime(&dest), FileTime::from_parts(BLOB_S, 0));
}

#[test]
fn failures_name_the_path_and_leave_the_destination_alone() {
    let bench = Bench::new();
    let dest = bench.write("dest", "former");
    let gone = bench.path("gone");
    for sharing in [Sharing::Shared, Sharing::Private(Stamp::Now)] {
        let error = place(&gone, &dest, sharing, Permission::Plain, Note::None).expect_err("no blob");
        assert!(error.is_missing() && error.path() == gone, "{error}");
        let blob = blob(&bench, 0o644);
        let error =
            place(&blob, &gone.join("x"), sharing, Permission::Plain, Note::None).expect_err("no folder");
        assert!(error.is_missing(), "{error}");
        fs::create_dir_all(bench.path("dir")).expect("mkdir");
        place(&blob, &bench.path("dir"), sharing, Permission::Plain, Note::None)
            .expect_err("a folder is in the way");
    }
    assert_eq!(fs::read(&dest).expect("read"), b"former");
    assert_eq!(leftovers(bench.dir.path()), 0);
}

#[test]
fn only_files_with_other_names_are_unlinked() {
    let bench = Bench::new();
    let alone = bench.write("alone", "x");
    let linked = bench.write("linked", "x");
    fs::hard_link(&linked, bench.path("other")).expect("link");
    let cases =
        [(alone, false), (linked, true), (bench.path("none"), false), (bench.dir.path().into(), false)];
    for (path, expected) in cases {
        assert_eq!(unlink_shared(&path).expect("looked at"), expected, "{}", path.display());
    }
    assert!(bench.path("alone").exists() && !bench.path("linked").exists() && bench.path("other").exists());
}

#[test]
fn an_inode_with_too_many_links_is_copied() {
    // Only ext4's limit is low enough to try.
    let bench = Bench::new();
    let blob = blob(&bench, 0o644);
    let links = bench.path("links");
    fs::create_dir(&links).expect("mkdir");
    for i in 0..70_000 {
        if let Err(error) = fs::hard_link(&blob, links.join(i.to_string())) {
            assert!(is_link_refused(&error), "{error}");
            let mode = place(&blob, &bench.path("dest"), Sharing::Shared, Permission::Plain, Note::None)
                .expect("placed");
            assert_eq!(mode, Mode::Copy);
            break;
        }
    }
}
