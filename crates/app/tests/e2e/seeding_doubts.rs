//! Seeding, by somebody who wants it to be wrong: whatever changes behind Cargo's back between the build that was
//! recorded and the one that is seeded, the result is that of a clean build.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kache_testkit::Project;

use crate::seeding::{LIB, SCRIPT, Upstream, assert_idle, built, fetch, left_out, reading, recorded, seeded};
use crate::support::{Lab, Outcomes, lean_lab};

/// A file in the checkout of the repository in Cargo's home.
fn source(lab: &Lab, name: &str) -> PathBuf {
    let checkouts = lab.root().join("cargo-home/git/checkouts");
    let found = kache_testkit::walk(&checkouts).into_iter().find(|path| path.ends_with(name));
    found.unwrap_or_else(|| panic!("{name} in the checkout"))
}

/// `low` is made again under the same hash with other content, and what was built on the former isn't: the two are never
/// put together.
#[test]
fn what_was_built_on_another_state_of_a_dependency_is_not_placed_beside_this_one() {
    let lab = lean_lab();
    let hidden = lab.write("hidden.txt", "former");
    let script = reading(&format!("std::fs::read_to_string({:?}).unwrap()", hidden.to_str().expect("UTF-8")));
    let (_, one) = built(&lab, &script, LIB, "build");
    fs::write(&hidden, "latter").expect("write");
    one.cargo("clean -p low").plain().ok();
    recorded(&one.cargo("build -p low"));
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert!(run.stdout.contains("latter"), "{run}");
    assert!(left_out(&run, "dependency-rebuilt") > 0, "{run}");
    assert_idle(&two.cargo("run"));
}

/// A package is edited in Cargo's home after it was recorded, and something else of the same directory is recorded then.
#[test]
fn recording_again_does_not_vouch_for_what_was_recorded_before() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let path = source(&lab, "top/src/lib.rs");
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace("format!(\"{}", "format!(\"edited {}")).expect("write");
    recorded(&one.cargo("check"));
    let run = one.checkout("two").cargo("run").same();
    assert!(run.stdout.contains("edited"), "{run}");
    // What a script may have read of its package is told by time alone.
    fs::write(source(&lab, "low/build.rs").with_file_name("notes.txt"), "new").expect("write");
    recorded(&one.cargo("build --release"));
    let run = one.checkout("three").cargo("build --release").same();
    assert!(run.of("low").iter().all(|event| event.outcome == "hit"), "{run}");
}

/// The same name and version with another content of the same length, as from a registry of one's own.
#[test]
fn a_package_published_again_is_another_one() {
    let lab = lean_lab();
    // Not the one that is shared with the user's home.
    let registry = lab.root().join("cargo-home/registry");
    if registry.is_symlink() {
        fs::remove_file(&registry).expect("a link");
    }
    publish(&lab, "1");
    let one = lab.project(
        "one",
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\npub_p = \"1\"\n",
            ),
            ("src/main.rs", "fn main() { println!(\"{}\", pub_p::value()); }\n"),
            (
                ".cargo/config.toml",
                "[source.crates-io]\nreplace-with = \"mine\"\n[source.mine]\nlocal-registry = \"../registry\"\n",
            ),
        ],
    );
    fetch(&one);
    recorded(&one.cargo("run"));
    let two = one.checkout("two");
    let run = two.cargo("run").ok();
    assert_eq!(seeded(&run), (1, 0), "{run}");
    publish(&lab, "2");
    fs::remove_dir_all(registry.join("src")).expect("forget the sources");
    let three = one.checkout("three");
    three.remove("Cargo.lock");
    fetch(&three);
    let run = three.cargo("run").ok();
    assert_eq!(run.stdout.trim(), "2", "{run}");
    assert_eq!(seeded(&run), (0, 0), "{run}");
    // What isn't in this lockfile isn't left to Cargo: it isn't needed.
    assert_eq!(left_out(&run, "not-in-lockfile"), 0, "{run}");
}

/// Puts version 1.0.0 of `pub_p` into a registry of files.
fn publish(lab: &Lab, value: &str) {
    let package = lab.project(
        &format!("pub_p-{value}"),
        &[
            (
                "Cargo.toml",
                "[package]\nname = \"pub_p\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"x\"\nlicense = \"MIT\"\n",
            ),
            ("src/lib.rs", &format!("pub fn value() -> u32 {{ {value} }}\n")),
        ],
    );
    package.cargo("package --no-verify --offline --allow-dirty").plain().ok();
    let packed = package.target().join("package/pub_p-1.0.0.crate");
    let sum = lab.command("sha256sum").arg(&packed).output().expect("sha256sum");
    let sum = String::from_utf8(sum.stdout).expect("text");
    let sum = sum.split_whitespace().next().expect("a checksum");
    lab.write("registry/pub_p-1.0.0.crate", fs::read(&packed).expect("read"));
    let line = format!(
        "{{\"name\":\"pub_p\",\"vers\":\"1.0.0\",\"deps\":[],\"cksum\":\"{sum}\",\"features\":{{}},\"yanked\":false}}\n"
    );
    lab.write("registry/index/pu/b_/pub_p", line);
}

/// A clean build sees the variables of this shell and of this workspace's configuration, declared or not.
#[test]
fn variables_that_nobody_declared() {
    let lab = lean_lab();
    let (_, one) = built(&lab, &reading("std::env::var(\"HIDDEN_KIND\").unwrap_or_default()"), LIB, "run");
    let same = one.checkout("same").cargo("run").env("UNRELATED", "x").same();
    assert_eq!(seeded(&same), (4, 1), "{same}");
    let run = one.checkout("two").cargo("run").env("HIDDEN_KIND", "by variable").same();
    assert!(run.stdout.contains("by variable"), "{run}");
    assert_eq!(left_out(&run, "input-changed"), 1, "{run}");
    let mut why = lab.command(lab.wrapper());
    let why = why.args(["why-miss", "low"]).current_dir(lab.root().join("two")).output().expect("kache");
    let text = String::from_utf8_lossy(&why.stdout);
    assert!(text.contains("HIDDEN_KIND"), "{why:?}");
    let by_table = one.checkout("three");
    by_table.write(".cargo/config.toml", "[env]\nHIDDEN_KIND = \"by table\"\n");
    let run = by_table.cargo("run").same();
    assert!(run.stdout.contains("by table"), "{run}");
    assert_idle(&by_table.cargo("run"));
    // And what the table said where it was recorded is known.
    recorded(&one.checkout("four").cargo("run").env("HIDDEN_KIND", "recorded"));
    let run = one.checkout("five").cargo("run").same();
    assert!(!run.stdout.contains("recorded"), "{run}");
}

/// What was made by an earlier Cargo, which nobody recorded, was made in an environment that nobody knows.
#[test]
fn a_recorder_speaks_for_its_own_cargo_only() {
    let lab = lean_lab();
    let script = reading("std::env::var(\"HIDDEN_KIND\").unwrap_or_default()");
    let upstream = Upstream::new(&lab, &script, LIB);
    let one = upstream.user(&lab);
    recorded(&one.cargo("run").env("HIDDEN_KIND", "former"));
    fs::remove_dir_all(lab.cache_dir().join("v1/snapshots")).expect("forget it");
    recorded(&one.cargo("check"));
    let run = one.checkout("two").cargo("run").same();
    assert!(!run.stdout.contains("former"), "{run}");
}

/// The same for macros, and for a recording where a table set the variable.
#[test]
fn a_table_of_variables_where_it_was_recorded() {
    let lab = lean_lab();
    let upstream = Upstream::new(&lab, &reading("std::env::var(\"HIDDEN_KIND\").unwrap_or_default()"), LIB);
    let one = upstream.user(&lab);
    one.write(".cargo/config.toml", "[env]\nHIDDEN_KIND = \"table\"\n");
    recorded(&one.cargo("run"));
    let same = one.checkout("two").cargo("run").same();
    assert_eq!(seeded(&same), (4, 1), "{same}");
    let without = one.checkout("three");
    without.remove(".cargo/config.toml");
    let run = without.cargo("run").same();
    assert!(!run.stdout.contains("table"), "{run}");
}

/// A tool that the script runs is another one by now; recording something else in between doesn't hide that.
#[test]
fn a_tool_that_a_script_runs_changes() {
    let lab = lean_lab();
    let tool = |says: &str| lab.write_program("tools/pkg-config", format!("#!/bin/sh\necho {says}\n"));
    let path = std::env::var("PATH").expect("a PATH");
    lab.set_env("PATH", format!("{}:{path}", tool("former").parent().expect("a folder").display()));
    let read =
        "String::from_utf8(std::process::Command::new(\"pkg-config\").output().unwrap().stdout).unwrap()";
    let (_, one) = built(&lab, &reading(read), LIB, "run");
    let run = one.checkout("same").cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    tool("latter");
    recorded(&one.cargo("check"));
    let run = one.checkout("two").cargo("run").same();
    assert!(run.stdout.contains("latter"), "{run}");
    assert!(left_out(&run, "input-changed") > 0, "{run}");
}

/// A watched file is replaced by one that is older: Cargo would not notice in a directory where it has built.
#[test]
fn a_watched_file_is_replaced_by_an_older_one() {
    let lab = lean_lab();
    let file = lab.write("etc/flavour", "new");
    let script = format!(
        "    println!(\"cargo:rerun-if-changed={{}}\", {0:?});\n{1}",
        file.to_str().expect("UTF-8"),
        reading(&format!("std::fs::read_to_string({:?}).unwrap()", file.to_str().expect("UTF-8")))
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    fs::write(&file, "older").expect("write");
    let past = SystemTime::now() - Duration::from_secs(86_400);
    fs::File::open(&file).expect("open").set_modified(past).expect("date");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert!(run.stdout.contains("older"), "{run}");
    assert_idle(&two.cargo("run"));
}

/// A script that leaves something outside `OUT_DIR` has to run to leave it in another directory too.
#[test]
fn a_script_that_writes_beside_the_programs_runs() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    let profile = out.ancestors().nth({}).unwrap();\n    \
         std::fs::write(profile.join(\"libextra.so\"), \"x\").unwrap();\n",
        lab.layout().depth_of_out_dir()
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert!(two.target().join("debug/libextra.so").is_file(), "{run}");
    assert_idle(&two.cargo("run"));
}

/// What would be run again isn't placed: a script may count on an empty directory.
#[test]
fn a_script_that_runs_finds_its_directory_empty() {
    let lab = lean_lab();
    let script = format!("{SCRIPT}    std::fs::create_dir(out.join(\"made\")).unwrap();\n");
    let (_, one) = built(&lab, &script, LIB, "run");
    let run = one.checkout("two").cargo("run").env("FLAVOUR", "sour").same();
    assert!(run.stdout.contains("sour"), "{run}");
    assert_eq!(left_out(&run, "variable-changed"), 1, "{run}");
}

/// Cargo dates the metadata of `check` after each call of the wrapper; the store's own file must not be what it dates.
#[test]
fn metadata_that_is_asked_for_again_is_not_the_stores() {
    let lab = lean_lab();
    // Another value makes the script run, and changes nothing that comes of it.
    let script = "    println!(\"cargo:rerun-if-env-changed=NOISE\");\n    \
        std::fs::write(out.join(\"g.rs\"), \"pub const FLAVOUR: &str = \\\"x\\\";\\n\").unwrap();\n";
    let (_, one) = built(&lab, script, LIB, "check");
    let (two, three) = (one.checkout("two"), one.checkout("three"));
    for p in [&two, &three] {
        assert_eq!(seeded(&p.cargo("check").same()), (4, 1));
    }
    for noise in ["a", "b"] {
        // Not recorded: the fourth checkout is to find the first one's state.
        let run = two.cargo("check").env("NOISE", noise).env("KACHE_SEED", "0").same();
        run.outcome("low", "hit");
        assert_idle(&two.cargo("check").env("NOISE", noise));
    }
    assert_idle(&three.cargo("check"));
    assert_idle(&one.cargo("check"));
    assert_eq!(seeded(&one.checkout("four").cargo("check").same()), (4, 1));
    lab.assert_doctor_is_content();
}

/// `b` may mean anything.
#[test]
fn an_abbreviation_with_another_meaning_is_a_doubt() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("b").ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    let three = one.checkout("three");
    three.write(".cargo/config.toml", "[alias]\nb = \"build --target-dir elsewhere\"\n");
    let run = three.cargo("b").ok();
    assert_eq!(seeded(&run), (0, 0), "{run}");
    assert!(!three.target().exists(), "nothing is put where nobody builds");
    let why = run.events.iter().find(|event| event.kind == "seeding").expect("a word about it");
    assert!(why.json["seeding"]["declined"].as_str().is_some_and(|why| why.contains("alias")), "{run}");
}

/// What is not to be served from the cache isn't served by this way either.
#[test]
fn settings_that_keep_units_from_being_served() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let run = one.checkout("two").cargo("run").env("KACHE_VERIFY", "100%").same();
    assert_eq!(seeded(&run).0, 0, "{run}");
    let run = one.checkout("three").cargo("run").env("KACHE_CACHE_EXECUTABLES", "0").same();
    assert_eq!(seeded(&run).1, 0, "{run}");
    let four = one.checkout("four");
    let settings = lab.write("kache-settings.toml", "[cache]\nexclude = [\"**/low/**\"]\n");
    let run = four.cargo("run").env("KACHE_CONFIG", &settings).same();
    assert_eq!(seeded(&run), (1, 0), "the macro alone: {run}");
    run.not_hit("low");
    let run = one.checkout("five").cargo("run").env("KACHE_PORTABLE_PATHS", "0").same();
    assert_eq!(seeded(&run), (0, 0), "{run}");
}

/// A clock that was wrong, or another machine's: files that are changed from now on would look older.
#[test]
fn nothing_is_dated_in_the_future() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let recorded = kache_testkit::walk(&lab.cache_dir().join("v1/snapshots"));
    for file in recorded.iter().filter(|path| path.is_file()) {
        let text = fs::read_to_string(file).expect("text");
        let times = text.replace("\"mtime_ns\":1", "\"mtime_ns\":3");
        assert_ne!(times, text);
        fs::write(file, times).expect("write");
    }
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (0, 0), "{run}");
    assert!(left_out(&run, "stale") > 0, "{run}");
}

/// Two Cargos one after the other, so that the first one's recorder reads while the second one builds something else:
/// whatever it records, nobody gets the wrong flavour.
#[test]
fn a_recorder_reads_while_another_cargo_builds() {
    let lab = lean_lab();
    let upstream = Upstream::new(&lab, SCRIPT, LIB);
    let one = upstream.user(&lab);
    one.cargo("build").ok();
    for round in 0..4 {
        let flavour = format!("f{round}");
        one.cargo("build").env("FLAVOUR", &flavour).ok();
        if round % 2 == 0 {
            std::thread::sleep(Duration::from_millis(30 * round));
        }
        one.cargo("build").ok();
        let two = one.checkout("two");
        let run = two.cargo("run").env("FLAVOUR", &flavour).same();
        assert!(run.stdout.contains(&flavour), "{run}");
        lab.remove(&two);
    }
    let run = one.checkout("three").cargo("run").same();
    assert!(run.stdout.contains("plain"), "{run}");
}

/// A path dependency that lies in Cargo's home is a path dependency.
#[test]
fn a_path_into_cargos_home_is_nobody_elses_package() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    let path = source(&lab, "mac/Cargo.toml");
    let dir: &Path = path.parent().expect("a folder");
    two.write(
        "Cargo.toml",
        two.read("Cargo.toml").replace("beside = {", &format!("mac = {{ path = {dir:?} }}\nbeside = {{")),
    );
    fetch(&two);
    recorded(&two.cargo("run"));
    let check = |p: &Project<'_>| {
        let run = p.cargo("run").same();
        assert_eq!(run.status.code(), Some(0), "{run}");
        run
    };
    check(&two);
    fs::write(
        dir.join("src/lib.rs"),
        fs::read_to_string(dir.join("src/lib.rs")).expect("read").replace("41", "40"),
    )
    .expect("write");
    let three = two.checkout("three");
    let run = check(&three);
    assert!(run.stdout.contains("41"), "40 + 1: {run}");
}
