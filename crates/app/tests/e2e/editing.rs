//! Someone edits: incremental compiles stay incremental and out of the store, first builds and reverts are served;
//! what was saved while the compiler ran poisons nothing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;

use kache_testkit::{Project, wait_for};

use crate::fixtures::{PAIR, macro_world, user_world};
use crate::freshness::add_dep;
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// B21, C8, design §6: the first compile of a unit in a target directory is stored; later misses with incremental
/// wanted are incremental and not stored; known content is served all the same.
#[test]
fn b21_incremental_policy() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    let run = one.cargo("run").same();
    assert!(run.events.iter().all(|e| e.outcome == "miss" && e.not_stored.is_empty()), "{run}");
    one.edit("dep/src/lib.rs", "1", "2");
    let run = one.cargo("run").same();
    assert!(run.one("dep").not_stored.starts_with("incremental"), "{run}");
    one.edit("dep/src/lib.rs", "2", "3");
    let run = one.cargo("run").same();
    assert!(run.one("dep").not_stored.starts_with("incremental"), "{run}");
    assert!(one.target().join("debug/incremental").is_dir());
    one.edit("dep/src/lib.rs", "3", "1");
    one.cargo("run").same().outcome("dep", "hit");
    one.nothing_to_do("build");
    // A second checkout with content that the first one only built incrementally: its own first compile is stored.
    let two = one.checkout("two");
    two.edit("dep/src/lib.rs", "1", "3");
    let run = two.cargo("run").same();
    assert!(run.one("dep").outcome == "miss" && run.one("dep").not_stored.is_empty(), "{run}");
    let three = two.checkout("three");
    three.cargo("run").same().all_hit();
}

/// B21: `CARGO_INCREMENTAL=1`, also in release, is obeyed and is no reason to refuse.
#[test]
fn b21_incremental_by_variable() {
    let lab = lean_lab();
    lab.set_env("CARGO_INCREMENTAL", "1");
    let p = lab.project("w", PAIR);
    for args in ["run", "run --release"] {
        p.cargo(args).same();
        p.edit("dep/src/lib.rs", "1", "2");
        p.cargo(args).same();
        p.edit("dep/src/lib.rs", "2", "1");
        p.cargo(args).same();
        p.nothing_to_do(&args.replace("run", "build"));
    }
    p.wipe();
    p.cargo("run").same().all_hit();
    // Without it, other keys: nothing is mixed up.
    p.cargo("run").env("CARGO_INCREMENTAL", "0").same();
}

/// Design §6: the first build leaves the state that makes the first edit quick: objects of what didn't change are taken
/// over, which rustc does only for state that was made with the same flags.
#[test]
fn the_first_edit_uses_the_state_of_the_first_build() {
    let lab = lab();
    let p = lab.project("w", PAIR);
    p.write("dep/src/lib.rs", "pub mod other;\npub fn value() -> i64 {\n    1\n}\n");
    p.write("dep/src/other.rs", "pub fn unchanged() -> i64 {\n    5\n}\n");
    let run = p.cargo("run").same();
    assert!(run.events.iter().all(|e| e.outcome == "miss" && e.not_stored.is_empty()), "{run}");
    let objects = |p: &Project<'_>| -> BTreeSet<u64> {
        let files = kache_testkit::walk(&p.target().join("debug/incremental"));
        let objects = files.into_iter().filter(|f| f.extension().is_some_and(|e| e == "o"));
        objects.map(|file| std::fs::metadata(file).expect("object").ino()).collect()
    };
    let before = objects(&p);
    p.edit("dep/src/lib.rs", "1", "2");
    let run = p.cargo("run").same();
    assert!(run.one("dep").not_stored.starts_with("incremental"), "{run}");
    assert!(before.intersection(&objects(&p)).next().is_some(), "the state was made anew");
    p.nothing_to_do("build");
    // Elsewhere the first build is served, and the first edit starts from nothing.
    let two = p.checkout("two");
    two.edit("dep/src/lib.rs", "2", "1");
    two.cargo("run").same().all_hit();
    two.edit("dep/src/lib.rs", "1", "2");
    two.cargo("run").same();
}

/// rustc takes metadata over from the incremental state with the time of the compile that made it. When the cache
/// served other content in between, dependents that were built against that are younger, and still out of date.
#[test]
fn metadata_from_the_state_is_not_older_than_what_it_replaces() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    one.write("dep/src/lib.rs", "pub const VALUE: i64 = 1;\n");
    one.write("mid/Cargo.toml", one.read("app/Cargo.toml").replace("app", "mid"));
    one.write("mid/src/lib.rs", "pub const VALUE: i64 = dep::VALUE;\n");
    one.edit("Cargo.toml", "\"dep\"", "\"dep\", \"mid\"");
    one.edit("app/Cargo.toml", "dep = { path = \"../dep\" }", "mid = { path = \"../mid\" }");
    one.edit("app/src/main.rs", "dep::value()", "mid::VALUE");
    one.cargo("run").same();
    let two = one.checkout("two");
    two.edit("dep/src/lib.rs", "1", "3");
    two.cargo("run").same();
    // State of 2; then 3 from the cache, with dependents; then 2 from the state, alone; then the dependents.
    one.edit("dep/src/lib.rs", "1", "2");
    let run = one.cargo("run").same();
    assert!(run.one("dep").not_stored.starts_with("incremental"), "{run}");
    one.edit("dep/src/lib.rs", "2", "3");
    one.cargo("run").same().outcome("dep", "hit");
    one.edit("dep/src/lib.rs", "3", "2");
    let run = one.cargo("build -p dep").ok();
    assert!(run.one("dep").not_stored.starts_with("incremental"), "{run}");
    one.cargo("run").same();
}

/// A file is saved by somebody while rustc waits in a macro ([`macro_world`]'s `gate`). The result isn't stored, and
/// neither content gets the other's result afterwards.
fn saved_meanwhile(lab: &Lab, p: &Project<'_>, file: &str, content: &str, keeps_time: bool) {
    let (before, time) = (p.read(file), p.mtime(file));
    p.write("user/gate", "");
    let running = p.cargo("build").spawn();
    wait_for("the compile of user", || p.path("user/reached").exists());
    p.write(file, content);
    if keeps_time {
        p.set_mtime(file, time);
    }
    p.remove("user/gate");
    let run = running.wait(p);
    assert!(run.status.success(), "{run}");
    assert!(run.one("user").not_stored.starts_with("input-changed-during-compile"), "{run}");
    for (text, name) in [(content, "new"), (&before, "old"), (content, "new again")] {
        p.write(file, text);
        p.wipe();
        let run = p.cargo("run").same();
        assert!(run.status.success(), "{name} content: {run}");
    }
    lab.assert_store_is_sound();
}

/// A7, R4: an included file is saved after it was read.
#[test]
fn a7_included_file_is_saved_meanwhile() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(include_str!(\"data.txt\"), mac::gate!())");
    p.write("user/src/data.txt", "old");
    saved_meanwhile(&lab, &p, "user/src/data.txt", "new", false);
}

/// A7, R4: the same with same size and the old modification time.
#[test]
fn a7_saved_meanwhile_with_the_old_time() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(include_str!(\"data.txt\"), mac::gate!())");
    p.write("user/src/data.txt", "old");
    saved_meanwhile(&lab, &p, "user/src/data.txt", "new", true);
}

/// A7, R4: the crate's own source is saved after it was read.
#[test]
fn a7_source_is_saved_meanwhile() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(\"old\", mac::gate!())");
    let new = p.read("user/src/lib.rs").replace("old", "new");
    saved_meanwhile(&lab, &p, "user/src/lib.rs", &new, false);
}

/// A7: a module is saved before it is read: the key must not be that of what was there when the compile started.
#[test]
fn a7_saved_before_it_is_read() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(mac::gate!(), include_str!(\"data.txt\"))");
    p.write("user/src/data.txt", "old");
    saved_meanwhile(&lab, &p, "user/src/data.txt", "new", false);
}

/// A7: a file that a macro reads unreported is saved meanwhile.
#[test]
fn a7_hidden_input_is_saved_meanwhile() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(mac::text!(\"t.txt\"), mac::gate!())");
    p.write("user/t.txt", "old");
    saved_meanwhile(&lab, &p, "user/t.txt", "new", false);
}

/// R4: a file is saved after it was found unchanged, while the result is being stored: the key is that of what was looked
/// at before.
#[test]
fn a7_saved_while_the_result_is_stored() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "concat!(include_str!(\"data.txt\"), mac::gate!())");
    p.write("user/src/data.txt", "old");
    p.write("user/gate", "");
    let trap = lab.root().join("trap");
    let running = p.cargo("build").env("KACHE_FAULT", format!("OutputsTaken:{}", trap.display())).spawn();
    wait_for("the compile of user", || p.path("user/reached").exists());
    fs::write(&trap, "stop").expect("write");
    p.remove("user/gate");
    wait_for("the result of user", || !trap.exists());
    p.write("user/src/data.txt", "new");
    wait_for("the end of the build", || {
        running.signal("CONT");
        running.has_ended()
    });
    let run = running.wait(&p);
    assert_eq!(run.one("user").outcome, "miss", "{run}");
    for text in ["new", "old"] {
        p.write("user/src/data.txt", text);
        p.wipe();
        p.cargo("run").same();
    }
}

/// R4: what a unit is compiled against is replaced meanwhile, by a Cargo that builds there without this one's lock.
#[test]
fn a7_dependency_is_replaced_meanwhile() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::gate!()");
    add_dep(&p);
    p.write("user/gate", "");
    let running = p.cargo("build").spawn();
    wait_for("the compile of user", || p.path("user/reached").exists());
    for metadata in p.outputs(|name| name.starts_with("libdep-") && name.ends_with(".rmeta")) {
        let other = [fs::read(&metadata).expect("read"), b" ".to_vec()].concat();
        fs::write(p.path("other"), other).expect("write");
        fs::rename(p.path("other"), metadata).expect("rename");
    }
    p.remove("user/gate");
    let run = running.wait(&p);
    assert!(run.status.success(), "{run}");
    assert!(run.one("user").not_stored.starts_with("input-changed-during-compile"), "{run}");
}

/// Branches: switching back and forth between two states; each switch is served after its first build.
#[test]
fn branches_back_and_forth() {
    let lab = lean_lab();
    let one = user_world(&lab, "one", "mod a;\npub fn value() -> u32 { a::N }\n");
    one.write("user/src/a.rs", "pub const N: u32 = 1;\n");
    let main = |p: &Project<'_>| p.write_all(&[("user/src/a.rs", "pub const N: u32 = 1;\n")]);
    let branch = |p: &Project<'_>| {
        p.write_all(&[
            ("user/src/a.rs", "pub use super::b::N;\n"),
            ("user/src/b.rs", "pub const N: u32 = 2;\n"),
        ]);
        p.write("user/src/lib.rs", "mod a;\nmod b;\npub fn value() -> u32 { a::N }\n");
    };
    let back = |p: &Project<'_>| {
        main(p);
        p.remove("user/src/b.rs");
        p.write("user/src/lib.rs", "mod a;\npub fn value() -> u32 { a::N }\n");
    };
    one.cargo("run").same();
    branch(&one);
    one.cargo("run").same();
    for _ in 0..2 {
        back(&one);
        one.cargo("run").same().all_hit();
        one.nothing_to_do("build");
        branch(&one);
        one.cargo("run").same().all_hit();
        one.nothing_to_do("build");
    }
}
