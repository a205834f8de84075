//! Stores that travel: copied, unpacked, kept by a CI system, or inside a checkout. What is intact is served, wherever
//! it has been.

use std::fs;

use kache_testkit::Project;

use crate::fixtures::ALL_KINDS;
use crate::support::{Lab, Outcomes, lean_lab};

/// Ways to make the directory `new` from the store `old`.
const WAYS: &[&str] = &[
    "cp -r old new",
    "mkdir new; tar -C old -cf - . | tar -C new -xmf -",
    "cp -r old new; find new -type f -exec chmod 644 {} +",
    "cp -r old new; find new -type d -empty -delete",
    "cp -a old new",
];

/// Puts a copy in the place of the store. Nothing links to its files.
fn travel(lab: &Lab, way: &str) {
    let line = format!("rm -rf old; mv '{}' old; {way}; mv new '{0}'", lab.cache_dir().display());
    let status = lab.command("sh").args(["-ec", &line]).status().expect("a shell runs");
    assert!(status.success(), "{line}");
}

/// Builds from nothing: everything hits and runs, and afterwards there is nothing to do.
fn build_from_store(p: &Project<'_>, what: &str) {
    p.wipe();
    let run = p.cargo("build --tests").same();
    assert_eq!(run.tally().compiles(), 0, "{what}: {:?}", run.tally());
    run.all_hit();
    p.nothing_to_do("build --tests");
    p.cargo("run").same();
}

#[test]
fn a_copied_store_is_served_whole() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build --tests").same();
    for way in WAYS {
        travel(&lab, way);
        build_from_store(&p, way);
        // What was put back is put back for good: another checkout links to it.
        let other = p.checkout("other");
        other.cargo("build --tests").ok().all_hit().shared();
        lab.remove(&other);
        lab.assert_doctor_is_content();
    }
}

#[test]
fn a_repair_drops_nothing_that_is_intact() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build --tests").same();
    let before = (lab.blobs(), lab.entries());
    travel(&lab, WAYS[0]);
    let said = lab.cli(&["doctor", "--repair"]);
    let text = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(text.contains("got theirs back") && !text.contains("dropped"), "{text}");
    assert_eq!((lab.blobs(), lab.entries()), before);
    let said = lab.cli(&["doctor", "--verify"]);
    assert!(!String::from_utf8_lossy(&said.stdout).contains("another time"), "{said:?}");
    build_from_store(&p, "repaired");
}

/// A file that a user touches where it is linked: the entry stays, and so does what Cargo thinks of other checkouts.
#[test]
fn a_touched_link_costs_no_compile() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").same();
    let other = p.checkout("other");
    other.cargo("build").ok().all_hit();
    for file in p.outputs(|name| name.ends_with(".rlib")) {
        let file = fs::File::options().append(true).open(file).expect("open");
        file.set_modified(std::time::SystemTime::now()).expect("touch");
    }
    for dir in [&other, &p] {
        dir.wipe();
        dir.cargo("run").same().all_hit();
        dir.nothing_to_do("build");
    }
}

/// A script without `rerun-if-changed` runs again when any file of its package changes; `cargo package` takes every file
/// that Git doesn't ignore. The store is neither.
#[test]
fn a_store_inside_a_checkout_is_no_source() {
    let lab = lean_lab();
    let p = lab.project(
        "w",
        &[
            ("Cargo.toml", "[package]\nname = \"w\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ("build.rs", "fn main() {}\n"),
            ("src/main.rs", "fn main() {}\n"),
            (".gitignore", "target\n"),
        ],
    );
    let lab_store = p.path("store");
    p.cargo("build").env("KACHE_CACHE_DIR", &lab_store).ok();
    lab.git(p.dir(), &["init", "-q"]);
    lab.git(p.dir(), &["add", "."]);
    lab.git(p.dir(), &["commit", "-qm", "x"]);
    let list = p.cargo("package --list").env("KACHE_CACHE_DIR", &lab_store).ok();
    assert!(!list.stdout.contains("store/"), "{}", list.stdout);
    p.cargo("build").env("KACHE_CACHE_DIR", &lab_store).ok();
    p.cargo("build --release").env("KACHE_CACHE_DIR", &lab_store).ok();
    let again = p.cargo("build -v").env("KACHE_CACHE_DIR", &lab_store).ok();
    assert!(again.stderr.contains("Fresh w "), "{}", again.stderr);
}
