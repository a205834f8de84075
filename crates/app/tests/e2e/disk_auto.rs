//! Target directories that are cleaned by themselves, after a build: what goes comes back without a compile, the rest stays,
//! and each removal has its receipt.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_testkit::{Project, wait_for};
use serde_json::Value;

use crate::disk::{age, has, hashes, json};
use crate::fixtures::{ALL_KINDS, PAIR};
use crate::remote::command;
use crate::support::{Lab, Outcomes, lean_lab};

/// All that says when a directory was last used says that it was so many days ago.
fn forget(lab: &Lab, projects: &[(&Project<'_>, &str)], days: u64) {
    for (project, package) in projects {
        age(&hashes(lab, project, package), days);
    }
    for note in fs::read_dir(lab.cache_dir().join("served")).expect("notes").flatten() {
        let time = SystemTime::now() - Duration::from_secs(days * 86_400);
        fs::File::options()
            .write(true)
            .open(note.path())
            .and_then(|file| file.set_modified(time))
            .expect("dated");
    }
}

/// A settings file with these lines in `[clean]`.
fn settings(lab: &Lab, lines: &str) -> String {
    lab.write("settings.toml", format!("[clean]\nauto = true\n{lines}")).display().to_string()
}

/// What a build starts once its Cargo has ended.
fn clean_by_itself(p: &Project<'_>, settings: &str) {
    let output =
        command(p, "clean --auto 999999-1").env("KACHE_CONFIG", settings).output().expect("kache runs");
    assert!(output.status.success(), "{output:?}");
}

/// The receipts.
fn log(lab: &Lab) -> Vec<Value> {
    json(lab, &["disk", "--log"])["removals"].as_array().expect("removals").clone()
}

/// A worktree of a project, and another one whose target directory lies elsewhere, built.
fn apart(lab: &Lab) -> (Project<'_>, Project<'_>, PathBuf) {
    let one = lab.project("one", PAIR);
    one.cargo("build").ok();
    let target = lab.root().join("targets/two");
    let two = one.checkout("two").with_target(&target);
    two.cargo("build").env("CARGO_TARGET_DIR", &target).ok().all_hit();
    assert!(log(lab).is_empty());
    (one, two, target)
}

/// A worktree is removed. A day later a build elsewhere has its target directory removed, once that build has ended, and
/// says so in the log; should the worktree come back, nothing is compiled. Without the setting nothing happens.
#[test]
fn the_target_directory_of_a_worktree_that_is_gone() {
    let lab = lean_lab();
    let (one, two, target) = apart(&lab);
    lab.remove(&two);
    let settings = settings(&lab, "");
    clean_by_itself(&one, &settings);
    assert!(target.exists(), "it was used within the day");
    forget(&lab, &[(&two, "dep"), (&two, "app")], 2);
    one.edit("app/src/main.rs", "println", "eprintln");
    one.cargo("build").ok();
    assert!(!lab.cache_dir().join("journal/cleaned").exists() && target.exists());
    forget(&lab, &[(&two, "dep"), (&two, "app")], 2);
    one.edit("app/src/main.rs", "eprintln", "println");
    one.cargo("build").env("KACHE_CONFIG", &settings).ok();
    wait_for("the cleaning", || log(&lab).iter().any(|receipt| receipt["end"] == "removed"));
    assert!(!target.exists());
    let log = log(&lab);
    let receipt = &log[0];
    assert!(receipt["auto"] == true && receipt["why"] == "project gone" && receipt["units"].is_null());
    assert!(receipt["path"] == target.display().to_string().as_str() && log.len() == 1, "{log:#?}");
    one.nothing_to_do("build");
    let again = one.checkout("two").with_target(&target);
    again.cargo("build").env("CARGO_TARGET_DIR", &target).ok().all_hit();
}

/// What would take a compile stays, and so does all that it was built from: only the rest goes.
#[test]
fn what_takes_a_compile_stays() {
    let lab = lean_lab();
    let (one, two, target) = apart(&lab);
    one.cargo("build -p dep --release").ok();
    let elsewhere = |args: &str| two.cargo(args).env("CARGO_TARGET_DIR", &target);
    elsewhere("build -p dep --release").ok().all_hit();
    two.edit("app/src/main.rs", "println", "eprintln");
    elsewhere("build").env("KACHE_DISABLED", "1").ok();
    let aside = two.dir().with_extension("aside");
    fs::rename(two.dir(), &aside).expect("rename");
    forget(&lab, &[(&two, "dep"), (&two, "app")], 2);
    age(&release_hashes(&lab, &two), 2);
    clean_by_itself(&one, &settings(&lab, ""));
    let log = log(&lab);
    assert!(log[0]["units"] == 1 && log[0]["stay"] == 2 && log[0]["end"] == "removed", "{log:#?}");
    assert!(has(&two, "dep") && !release_dep(&target));
    fs::rename(&aside, two.dir()).expect("rename");
    elsewhere("build").nothing_to_do();
    elsewhere("build -p dep --release").ok().all_hit();
    lab.assert_doctor_is_content();
}

fn release_hashes(lab: &Lab, p: &Project<'_>) -> Vec<std::path::PathBuf> {
    let dirs = lab.layout().fingerprints(&p.target().join("release"));
    let files = dirs.iter().flat_map(|dir| kache_testkit::walk(dir));
    files.filter(|file| file.with_extension("json").is_file() && file.extension().is_none()).collect()
}

/// Whether the library is there, apart from its second name for users.
fn release_dep(target: &Path) -> bool {
    let release = target.join("release");
    let is_library = |file: &&std::path::PathBuf| file.extension().is_some_and(|end| end == "rlib");
    kache_testkit::walk(&release).iter().filter(is_library).any(|file| file.parent() != Some(&release))
}

/// Units that no build has used for thirty days go, of directories in use as well, and come back as hits. So does all of a
/// directory that wasn't used for a day where the disk is nearly full.
#[test]
fn what_is_old_and_what_is_in_the_way() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").ok();
    let standard = settings(&lab, "");
    clean_by_itself(&p, &standard);
    assert!(log(&lab).is_empty());
    age(&hashes(&lab, &p, "mid"), 40);
    age(&hashes(&lab, &p, "app"), 20);
    clean_by_itself(&p, &standard);
    assert!(!has(&p, "mid") && has(&p, "gen"));
    assert!(log(&lab)[0]["why"] == "unused for 30d" && log(&lab)[0]["units"] == 1, "{:#?}", log(&lab));
    p.cargo("run").same().all_hit();
    p.nothing_to_do("build");
    let everything = ["gen", "mac", "mid", "app"].map(|package| (&p, package));
    forget(&lab, &everything, 2);
    clean_by_itself(&p, &settings(&lab, "min_free_space = \"1MiB\"\n"));
    assert_eq!(log(&lab).len(), 1);
    clean_by_itself(&p, &settings(&lab, "min_free_space = \"1000TiB\"\n"));
    assert!(log(&lab)[1]["why"] == "disk nearly full" && !has(&p, "gen"), "{:#?}", log(&lab));
    p.cargo("run").same().all_hit();
    p.nothing_to_do("build");
    // A rule that can't be read is none.
    forget(&lab, &everything, 90);
    clean_by_itself(&p, &settings(&lab, "unused_for = \"soon\"\n"));
    assert_eq!(log(&lab).len(), 2);
}

/// What a user has put into a directory of a project that is gone stays, and so does a directory in which a build runs.
#[test]
fn what_is_not_cargos_stays() {
    let lab = lean_lab();
    let (one, two, target) = apart(&lab);
    lab.remove(&two);
    forget(&lab, &[(&two, "dep"), (&two, "app")], 2);
    let lock = fs::File::open(target.join("debug/.cargo-lock")).expect("a lock");
    lock.lock().expect("locked");
    clean_by_itself(&one, &settings(&lab, ""));
    assert!(log(&lab).is_empty() && has(&two, "dep"));
    drop(lock);
    let notes = target.join("criterion/base.json");
    fs::create_dir_all(notes.parent().expect("a folder")).expect("mkdir");
    fs::write(&notes, "{}").expect("write");
    clean_by_itself(&one, &settings(&lab, ""));
    assert!(notes.exists() && !has(&two, "dep"), "{:#?}", log(&lab));
    assert_eq!(log(&lab)[0]["units"], 2);
}

/// The cleaning is killed at each of its steps: the receipt says so, Cargo builds what is gone, and the next cleaning
/// removes the rest.
#[cfg(debug_assertions)]
#[test]
fn cleaning_by_itself_is_interrupted() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let settings = settings(&lab, "");
    for point in ["UnitDisowned", "UnitEmptied"] {
        for cleans_again in [false, true] {
            p.wipe();
            p.cargo("run").ok();
            age(&hashes(&lab, &p, "mac"), 40);
            let trap = lab.write("tmp/trap", "");
            let fault = format!("{point}:{}", trap.display());
            let mut clean = command(&p, "clean --auto 999999-1");
            let died =
                clean.env("KACHE_CONFIG", &settings).env("KACHE_FAULT", fault).output().expect("kache runs");
            assert!(!died.status.success() && !trap.exists(), "{point}: {died:?}");
            assert_eq!(log(&lab).last().expect("a receipt")["end"], "interrupted");
            if cleans_again {
                clean_by_itself(&p, &settings);
            }
            p.cargo("run").same().all_hit();
            // What was built against a unit that has lost its hash alone, Cargo builds once more.
            p.cargo("run").same();
            p.nothing_to_do("build");
        }
    }
    lab.assert_doctor_is_content();
}
