//! `kache disk --share` on what the real Cargo has built: bytes become one, no build does anything before or after, and
//! what one directory does with its files reaches no other.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use kache_core::cargo::layout::BUILD_LOCKS;
use kache_testkit::{FileSystem, Project, Volume, walk};
use serde_json::Value;

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::remote::command;
use crate::seeding::{LIB, SCRIPT, Upstream};
use crate::support::{Lab, Outcomes, lean_lab, lean_lab_on};

/// What `kache disk --share` says of a project's target directory.
#[track_caller]
fn share(p: &Project<'_>, args: &str) -> Value {
    let output = command(p, &format!("disk --share --json {args} {}", p.dir().display())).output();
    let output = output.expect("kache runs");
    assert!(output.status.success(), "{output:?}");
    let all: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let path = p.target().display().to_string();
    let mut rows = all["targets"].as_array().expect("targets").iter();
    rows.find(|row| row["path"] == path.as_str()).unwrap_or_else(|| panic!("no {path} in {all:#}")).clone()
}

fn files(row: &Value, way: &str) -> u64 {
    row[way]["files"].as_u64().unwrap_or(0)
}

/// The story where files are linked, and where they are cloned.
fn both_ways(story: impl Fn(&Lab, bool)) {
    story(&lean_lab(), false);
    if let Some(volume) = Volume::mount(FileSystem::Xfs) {
        story(&lean_lab_on(&volume.root()), true);
    }
}

/// Puts a copy in the place of a directory: other inodes, the same times and links among its files.
fn copied(target: &Path) {
    let aside = target.with_extension("aside");
    fs::rename(target, &aside).expect("rename");
    let copy = Command::new("cp").args(["-a", "--reflink=never"]).args([&aside, target]).status();
    assert!(copy.expect("cp").success());
    fs::remove_dir_all(&aside).expect("remove");
}

/// Every file with its content, time and permissions.
fn state(target: &Path) -> BTreeMap<PathBuf, (Vec<u8>, i64, i64, u32)> {
    let of = |path: PathBuf| {
        let meta = fs::metadata(&path).expect("metadata");
        let content = fs::read(&path).expect("read");
        (path, (content, meta.mtime(), meta.mtime_nsec(), meta.mode()))
    };
    let is_lock = |path: &PathBuf| path.display().to_string().contains("/.cargo-");
    walk(target).into_iter().filter(|path| path.is_file() && !is_lock(path)).map(of).collect()
}

/// Files of a project that have the very inode of a blob.
fn linked(lab: &Lab, p: &Project<'_>) -> usize {
    let inode = |path: &PathBuf| fs::metadata(path).map(|meta| (meta.dev(), meta.ino())).ok();
    let blobs: Vec<_> = lab.blobs().iter().filter_map(inode).collect();
    walk(p.target()).iter().filter_map(inode).filter(|file| blobs.contains(file)).count()
}

/// A directory that was copied has nothing of the store any more; afterwards it has, with the same contents, times and
/// permissions, also for what has two names. A dry run tells the same and changes nothing.
#[test]
fn a_copied_directory() {
    both_ways(|lab, clones| {
        let p = lab.project("w", ALL_KINDS);
        p.cargo("build --all-targets").ok();
        copied(p.target());
        p.nothing_to_do("build --all-targets");
        let before = state(p.target());
        assert_eq!(linked(lab, &p), 0);
        let dry = share(&p, "--dry-run");
        assert_eq!(linked(lab, &p), 0);
        let row = share(&p, "");
        assert_eq!((&row["cloned"], &row["linked"]), (&dry["cloned"], &dry["linked"]));
        let (way, other) = if clones { ("cloned", "linked") } else { ("linked", "cloned") };
        assert!(files(&row, way) >= 2 && files(&row, other) == 0, "{row:#}");
        assert_eq!(linked(lab, &p) > 0, !clones);
        assert_eq!(state(p.target()), before);
        assert_eq!(row["left"]["private"].is_object(), !clones, "{row:#}");
        p.nothing_to_do("build --all-targets");
        let again = share(&p, "");
        assert_eq!((files(&again, "cloned"), files(&again, "linked")), (0, 0), "{again:#}");
    });
}

/// Dependencies that were removed and came back are dated now, and copies. What the store has of them becomes links, dated back
/// with the run of the script in between, and both with and without kache nothing is built.
#[test]
fn dependencies_that_came_back() {
    let lab = lean_lab();
    let upstream = Upstream::new(&lab, SCRIPT, LIB);
    let one = upstream.user(&lab);
    one.cargo("build").ok();
    let two = one.checkout("two");
    two.cargo("build").env("KACHE_SEED", "0").ok();
    one.cargo("clean -p low -p mac -p top").plain().ok();
    one.cargo("build").ok().all_hit();
    let before = linked(&lab, &one);
    let row = share(&one, "");
    assert!(files(&row, "linked") >= 6, "the macro, the script and two libraries: {row:#}");
    assert!(linked(&lab, &one) as u64 >= before as u64 + files(&row, "linked"));
    one.cargo("build").plain().nothing_to_do();
    one.nothing_to_do("build");
    two.nothing_to_do("build");
    // What is edited now reaches nobody else, whoever compiles it.
    one.edit("beside/src/lib.rs", "u32 { 1 }", "u32 { 2 }");
    one.cargo("run").plain().ok();
    one.edit("beside/src/lib.rs", "u32 { 2 }", "u32 { 3 }");
    one.cargo("run").same();
    one.nothing_to_do("build");
    two.nothing_to_do("build");
    let flavour = |p: &Project<'_>| p.cargo("run").env("FLAVOUR", "other").same();
    flavour(&one);
    two.nothing_to_do("build");
    flavour(&two);
    one.cargo("build").env("FLAVOUR", "other").nothing_to_do();
}

/// A unit that was made anew, with the same content, and is newer than what was built against it: that must be built
/// again, whatever is shared.
#[test]
fn what_is_dirty_stays_dirty() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    p.cargo("clean -p dep -p app").plain().ok();
    p.cargo("build").ok().all_hit();
    assert_eq!(linked(&lab, &p), 0, "they are dated now");
    let libraries = p.compiled(|file| file.starts_with("libdep"));
    for library in &libraries {
        let later = SystemTime::now() + Duration::from_secs(2);
        File::open(library).and_then(|file| file.set_modified(later)).expect("dated");
    }
    let row = share(&p, "");
    assert!(files(&row, "linked") == 0 && files(&row["left"], "times") == 2, "{row:#}");
    std::thread::sleep(Duration::from_secs(2));
    let build = p.cargo("build").ok();
    assert!(build.of("dep").is_empty() && !build.of("app").is_empty(), "{build}");
    p.nothing_to_do("build");
    let row = share(&p, "");
    assert_eq!(files(&row, "linked"), 2, "nothing is dirty by it any more: {row:#}");
    p.nothing_to_do("build");
}

/// After two checkouts share, each can edit, strip and build, and the other one is as it was.
#[test]
fn checkouts_that_share_stay_apart() {
    both_ways(|lab, _| {
        let one = lab.project("one", ALL_KINDS);
        one.cargo("build --all-targets").ok();
        let two = one.checkout("two");
        two.cargo("build --all-targets").ok().all_hit();
        for p in [&one, &two] {
            copied(p.target());
            let row = share(p, "");
            assert!(files(&row, "cloned") + files(&row, "linked") > 0, "{row:#}");
            p.nothing_to_do("build --all-targets");
        }
        for (mine, other, number) in [(&one, &two, 8), (&two, &one, 9)] {
            let before = state(other.target());
            for program in walk(mine.target()) {
                let name = program.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                let is_program = name == "app" || name.starts_with("app-") || name.starts_with("it-");
                let is_cargos = program.display().to_string().contains("/.");
                if is_program && !is_cargos && !name.contains('.') && program.is_file() {
                    assert!(
                        Command::new("strip").arg(&program).status().is_ok_and(|status| status.success())
                    );
                }
            }
            mine.write("gen/number.txt", format!("{number}\n"));
            mine.cargo("run").same();
            mine.cargo("build --all-targets").ok();
            assert_eq!(state(other.target()), before);
            other.nothing_to_do("build --all-targets");
        }
        lab.assert_doctor_is_content();
    });
}

/// Whoever holds one of the locks under which a Cargo builds, in whichever way, is a build: nothing is shared, nothing is
/// removed.
#[test]
fn a_lock_of_any_cargo() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    copied(p.target());
    let before = state(p.target());
    for name in BUILD_LOCKS {
        for is_exclusive in [true, false] {
            let path = p.target().join("debug").join(name);
            let is_made = !path.exists();
            let file = File::options().create(true).append(true).open(&path).expect("a lock");
            if is_exclusive { file.lock() } else { file.lock_shared() }.expect("locked");
            let row = share(&p, "");
            assert!(row["why"] == "a build is running in it" && files(&row, "linked") == 0, "{row:#}");
            let cleaned = command(&p, "clean -y .").output().expect("kache runs");
            let said = String::from_utf8_lossy(&cleaned.stderr).into_owned();
            assert!(said.contains("stays: a build is running in it"), "{name}: {said}");
            drop(file);
            if is_made {
                fs::remove_file(&path).expect("remove");
            }
            assert_eq!(state(p.target()), before, "{name}");
        }
    }
    assert!(files(&share(&p, ""), "linked") > 0);
    p.nothing_to_do("build");
}

/// Sharing dies at its steps: everything is fresh as before, and the next time the rest is shared.
#[cfg(debug_assertions)]
#[test]
fn sharing_is_interrupted() {
    both_ways(|lab, clones| {
        let p = lab.project("w", ALL_KINDS);
        p.cargo("build").ok();
        for point in if clones { &["PlaceMade", "Placed"][..] } else { &["Placed"] } {
            copied(p.target());
            let trap = lab.write("tmp/trap", "");
            let fault = format!("{point}:{}", trap.display());
            let died = command(&p, "disk --share").env("KACHE_FAULT", fault).output().expect("kache runs");
            assert!(!died.status.success() && !trap.exists(), "{point}: {died:?}");
            p.nothing_to_do("build");
            let row = share(&p, "");
            assert!(files(&row, "cloned") + files(&row, "linked") > 0, "{row:#}");
            p.nothing_to_do("build");
        }
    });
}
