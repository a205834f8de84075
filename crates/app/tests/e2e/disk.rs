//! `kache disk` and `kache clean` on what the real Cargo has built: the census is true, what is removed comes back, and
//! nothing is removed that a build needs.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_testkit::{Project, walk};
use serde_json::Value;

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::remote::command;
use crate::support::{Lab, Outcomes, lean_lab};
use crate::toolchains::toolchain_copy;

#[track_caller]
pub fn json(lab: &Lab, args: &[&str]) -> Value {
    let output = lab.cli(&[args, &["--json"]].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// What `kache disk` says of a project's target directory.
#[track_caller]
fn row(lab: &Lab, project: &Project<'_>) -> Value {
    let all = json(lab, &["disk"]);
    let rows = all["targets"].as_array().expect("targets");
    let path = project.target().display().to_string();
    let row = rows.iter().find(|row| row["path"] == path.as_str());
    row.unwrap_or_else(|| panic!("no {path} in {all:#}")).clone()
}

#[track_caller]
fn clean(lab: &Lab, args: &[&str]) -> String {
    let output = lab.cli(&[&["clean", "-y"], args].concat());
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn number(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("no {name} in {value:#}"))
}

/// Whether a library of this name is among the outputs.
pub fn has(project: &Project<'_>, name: &str) -> bool {
    let library = format!("lib{name}");
    !project.compiled(|file| file.starts_with(&library) && file.ends_with(".rlib")).is_empty()
}

/// Files with the hashes of a package's units.
pub fn hashes(lab: &Lab, project: &Project<'_>, package: &str) -> Vec<PathBuf> {
    let dirs = lab.layout().fingerprints(&project.target().join("debug"));
    let of_package = |dir: &PathBuf| dir.display().to_string().contains(&format!("/{package}"));
    let files = dirs.into_iter().filter(of_package).flat_map(|dir| walk(&dir));
    files.filter(|file| file.with_extension("json").is_file() && file.extension().is_none()).collect()
}

/// No build has used these units for so many days.
pub fn age(hashes: &[PathBuf], days: u64) {
    assert!(!hashes.is_empty());
    let time = SystemTime::now() - Duration::from_secs(days * 86_400);
    for hash in hashes {
        let file = fs::File::options().write(true).open(hash).expect("a hash");
        let times = fs::FileTimes::new().set_accessed(time).set_modified(time);
        file.set_times(times).expect("dated");
    }
}

fn du(dir: &Path) -> u64 {
    let output = std::process::Command::new("du").args(["-s", "-B1"]).arg(dir).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.split_whitespace().next().and_then(|bytes| bytes.parse().ok()).expect("a number")
}

/// Every directory that was served is in the census with what `du` says of it, its project and branch, and what the store
/// has of it; one that was not is when its parent is named.
#[test]
fn the_census_agrees_with_du() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    lab.git(one.dir(), &["init", "-q", "-b", "topic"]);
    one.cargo("build").ok();
    let two = one.checkout("two").with_target(lab.root().join("elsewhere"));
    let apart = |args: &str| two.cargo(args).env("CARGO_TARGET_DIR", two.target());
    apart("build").ok().all_hit();
    let three = lab.project("deep/three", PAIR);
    three.cargo("build").plain().ok();
    for project in [&one, &two] {
        let row = row(&lab, project);
        assert_eq!(number(&row, "disk_bytes"), du(project.target()), "{row:#}");
        assert_eq!(number(&row, "own_bytes") + number(&row, "shared_bytes"), number(&row, "disk_bytes"));
        assert!(row["served"] == true && row["orphaned"] == false, "{row:#}");
        let dir = project.dir().display().to_string();
        assert_eq!(row["projects"][0]["path"], dir.as_str());
        let cost = &row["cost"];
        assert_eq!(
            (number(cost, "served"), number(cost, "compiles"), number(cost, "runs")),
            (5, 0, 1),
            "{row:#}"
        );
    }
    assert_eq!(row(&lab, &one)["projects"][0]["branch"], "topic");
    let dirs = |value: &Value| value["targets"].as_array().map_or(0, Vec::len);
    assert_eq!(dirs(&json(&lab, &["disk"])), 2);
    let all = json(&lab, &["disk", &lab.root().join("deep").display().to_string()]);
    assert_eq!(dirs(&all), 3);
    let unseen = all["targets"].as_array().expect("targets").iter().find(|row| row["served"] == false);
    let unseen = unseen.expect("the one without kache");
    assert_eq!((number(unseen, "disk_bytes"), number(&unseen["cost"], "compiles")), (du(three.target()), 2));
    assert_eq!(unseen["projects"][0]["path"], three.dir().display().to_string().as_str());
}

/// A hundred directories that kache has never seen, with files of all sizes, holes, links within and between them: of each it
/// says what `du` says, and of all together what `du` says of all together.
#[test]
fn a_hundred_directories_agree_with_du() {
    let lab = lean_lab();
    let root = lab.root().join("src");
    let targets: Vec<PathBuf> = (0..100).map(|number| root.join(format!("p{number}/target"))).collect();
    for (number, target) in targets.iter().enumerate() {
        let deps = target.join("debug/deps");
        fs::create_dir_all(deps.join("x".repeat(1 + number % 200))).expect("mkdir");
        let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
        fs::write(target.join("CACHEDIR.TAG"), tag).expect("write");
        fs::write(target.join(".rustc_info.json"), "{}").expect("write");
        for size in [0, 1, 59, 4095, 4096, 4097, 100_000 + number] {
            fs::write(deps.join(format!("lib{size}.rlib")), vec![7; size]).expect("write");
        }
        let hole = fs::File::create(deps.join("hole")).expect("create");
        hole.set_len(1 << 20).expect("a hole");
        fs::hard_link(deps.join("lib4097.rlib"), target.join("debug/lib4097.rlib")).expect("link");
        if number % 3 == 1 {
            let other = targets[number - 1].join("debug/deps/lib4096.rlib");
            fs::hard_link(other, deps.join("shared.rlib")).expect("link");
        }
        std::os::unix::fs::symlink(&root, deps.join("loop")).expect("symlink");
    }
    let all = json(&lab, &["disk", &root.display().to_string()]);
    let rows = all["targets"].as_array().expect("targets");
    assert_eq!(rows.len(), 100);
    for row in rows {
        let path = row["path"].as_str().expect("a path");
        assert_eq!(number(row, "disk_bytes"), du(Path::new(path)), "{row:#}");
        assert_eq!(number(row, "own_bytes") + number(row, "shared_bytes"), number(row, "disk_bytes"));
        assert!(number(row, "shared_bytes") <= 4096, "{row:#}");
    }
    let output =
        std::process::Command::new("du").args(["-s", "-c", "-B1"]).args(&targets).output().expect("du");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let total = text.lines().last().and_then(|line| line.split_whitespace().next()).expect("a total");
    assert_eq!(number(&all, "disk_bytes").to_string(), total);
    assert_eq!(number(&all, "own_bytes"), number(&all, "disk_bytes"), "all links are within");
}

/// A worktree is removed, and its target directory elsewhere stays behind: that one is known, and it alone goes.
#[test]
fn a_worktree_is_removed() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    one.cargo("build").ok();
    let target = lab.root().join("targets/two");
    let two = one.checkout("two").with_target(&target);
    two.cargo("build").env("CARGO_TARGET_DIR", &target).ok().all_hit();
    assert_eq!(row(&lab, &two)["orphaned"], false);
    assert!(clean(&lab, &["--all", "--orphaned"]).is_empty(), "nothing is to be removed");
    lab.remove(&two);
    assert_eq!(row(&lab, &two)["orphaned"], true);
    let shown = json(&lab, &["clean", "--all", "--orphaned", "--dry-run"]);
    assert_eq!(shown["targets"][0]["path"], target.display().to_string().as_str(), "{shown:#}");
    assert!(number(&shown["cost"], "served") == 2 && target.is_dir(), "{shown:#}");
    let said = clean(&lab, &["--all", "--orphaned"]);
    assert!(said.contains("Removed 1 target directory") && said.contains("2 units from the store"), "{said}");
    assert!(!target.exists());
    one.nothing_to_do("build");
    let again = one.checkout("two").with_target(&target);
    again.cargo("build").env("CARGO_TARGET_DIR", &target).ok().all_hit();
}

/// A compiler is removed: what it made goes, what others made in the same directory stays fresh.
#[test]
fn a_compiler_is_removed() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let old = toolchain_copy(&lab, "old", "another build");
    p.cargo("build --release").env("RUSTC", old.join("bin/rustc")).ok();
    p.cargo("build").ok();
    let libraries = || p.compiled(|file| file.starts_with("libdep") && file.ends_with(".rlib")).len();
    assert_eq!(libraries(), 2);
    let of_gone = || number(&row(&lab, &p)["old_compilers"], "units");
    assert_eq!(of_gone(), 0, "it is installed");
    let dir = p.dir().display().to_string();
    let nothing = json(&lab, &["clean", "--dry-run", "--old-compilers", &dir]);
    assert_eq!(nothing["targets"].as_array().map(Vec::len), Some(0), "{nothing:#}");
    fs::remove_dir_all(&old).expect("remove the compiler");
    assert_eq!(of_gone(), 2);
    let shown = json(&lab, &["clean", "--dry-run", "--old-compilers", &dir]);
    assert_eq!(number(&shown["targets"][0], "units"), 2, "{shown:#}");
    let before = du(p.target());
    let said = clean(&lab, &["--old-compilers", &dir]);
    assert!(said.contains("Removed 2 units in 1 target directory"), "{said}");
    assert!(libraries() == 1 && du(p.target()) < before);
    assert_eq!(of_gone(), 0);
    p.nothing_to_do("build");
    p.cargo("build --release").same();
    p.nothing_to_do("build --release");
}

/// Over the limit, entries of a compiler that is gone go, and those that builds use stay, however old.
#[test]
fn entries_of_a_compiler_that_is_removed_go_first() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    let mine = lab.entries();
    let old = toolchain_copy(&lab, "old", "another build");
    p.cargo("build --release").env("RUSTC", old.join("bin/rustc")).ok().not_hit("dep");
    p.wipe();
    let days_ago = |days: u64| SystemTime::now() - Duration::from_secs(days * 86_400);
    for entry in lab.entries() {
        let used = days_ago(if mine.contains(&entry) { 9 } else { 2 });
        fs::File::options().write(true).open(&entry).and_then(|file| file.set_modified(used)).expect("dated");
    }
    fs::remove_dir_all(&old).expect("remove the compiler");
    let blobs: u64 = lab.blobs().iter().map(|blob| blob.metadata().expect("a blob").len()).sum();
    let limit = format!("{}B", blobs * 9 / 10);
    let mut gc = lab.command(lab.wrapper());
    let output = gc.args(["gc", "--json"]).env("KACHE_MAX_SIZE", &limit).output().expect("kache runs");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let gone = value["entries"].as_array().expect("entries");
    assert!(!gone.is_empty() && gone.iter().all(|entry| entry["why"] == "compiler gone"), "{value:#}");
    p.cargo("build").same().all_hit();
}

/// Where less is free than the user wants, the store gives way, and builds go on.
#[test]
fn a_floor_of_free_disk_space() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").ok();
    p.wipe();
    let used = SystemTime::now() - Duration::from_secs(3600);
    for entry in lab.entries() {
        fs::File::options().write(true).open(&entry).and_then(|file| file.set_modified(used)).expect("dated");
    }
    let evicted = |floor: &str| {
        let mut gc = lab.command(lab.wrapper());
        let output =
            gc.args(["gc", "--json"]).env("KACHE_MIN_FREE_SPACE", floor).output().expect("kache runs");
        let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        value["entries"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((evicted("1MiB"), evicted("1000TiB")), (0, 2));
    p.cargo("run").env("KACHE_MIN_FREE_SPACE", "1000TiB").same().not_hit("dep");
}

/// Units that no build has used for long go, and come back as hits. All else stays as it is.
#[test]
fn units_that_were_not_used_for_long() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").ok();
    let dir = p.dir().display().to_string();
    let args = ["--unused-for", "30d", dir.as_str()];
    assert!(clean(&lab, &args).is_empty(), "everything was used just now");
    age(&hashes(&lab, &p, "mid"), 40);
    age(&hashes(&lab, &p, "app"), 20);
    let said = clean(&lab, &args);
    assert!(said.contains("Removed 1 unit in 1 target directory"), "{said}");
    assert!(said.contains("To have it back takes 1 unit from the store."), "{said}");
    assert!(!has(&p, "mid") && has(&p, "gen"));
    let again = p.cargo("run").same();
    again.outcome("mid", "hit");
    assert!(again.of("gen").is_empty() && again.of("mac").is_empty(), "{again}");
    p.nothing_to_do("build");
    age(&hashes(&lab, &p, "gen"), 40);
    clean(&lab, &args);
    assert!(!has(&p, "gen"));
    p.cargo("run").same().outcome("gen", "hit");
    p.nothing_to_do("build");
}

/// A directory in which a build runs is left alone, and the build gets what it needs.
#[cfg(debug_assertions)]
#[test]
fn a_build_is_running() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    p.edit("app/src/main.rs", "println", "eprintln");
    let trap = lab.write("tmp/trap", "stop");
    let running = p.cargo("build").env("KACHE_FAULT", format!("CompilerStarted:{}", trap.display())).spawn();
    kache_testkit::wait_for("the compiler's start", || !trap.exists());
    let dir = p.dir().display().to_string();
    age(&hashes(&lab, &p, "dep"), 40);
    for args in [&[dir.as_str()][..], &["--unused-for", "30d", &dir]] {
        let said = clean(&lab, args);
        assert!(said.contains("stays: a build is running in it"), "{said}");
    }
    assert!(has(&p, "dep"));
    assert!(row(&lab, &p)["busy"].as_str().is_some_and(|why| why.contains("a build is running")));
    kache_testkit::wait_for("the end of the build", || {
        running.signal("CONT");
        running.has_ended()
    });
    let run = running.wait(&p);
    assert!(run.status.success(), "{run}");
    p.cargo("run").same();
    p.nothing_to_do("build");
}

/// `kache clean` dies at each of its steps: Cargo builds what is gone, no build sees half of anything, and the next
/// cleaning removes the rest.
#[cfg(debug_assertions)]
#[test]
fn cleaning_is_interrupted() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let dir = p.dir().display().to_string();
    for (point, args) in [
        ("UnitDisowned", "clean -y --unused-for 30d"),
        ("UnitEmptied", "clean -y --unused-for 30d"),
        ("UnitDisowned", "clean -y"),
    ] {
        for cleans_again in [false, true] {
            p.wipe();
            p.cargo("run").ok();
            age(&hashes(&lab, &p, "gen"), 40);
            let trap = lab.write("tmp/trap", "");
            let fault = format!("{point}:{}", trap.display());
            let died = command(&p, args).env("KACHE_FAULT", fault).output().expect("kache runs");
            assert!(!died.status.success() && !trap.exists(), "{point}: {died:?}");
            if cleans_again {
                clean(&lab, &["--unused-for", "30d", &dir]);
                assert!(!has(&p, "gen"), "{point}");
            }
            p.cargo("run").same();
            // After another run of its script alone, Cargo compiles a package once more, also without kache.
            p.cargo("run").same();
            p.nothing_to_do("build");
        }
    }
    lab.assert_doctor_is_content();
}
