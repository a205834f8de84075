//! `kache why-miss`: one thing is changed at a time, and exactly that is named, with its old and new value, from what
//! was recorded when the compile happened.

use serde_json::Value;

use crate::fixtures::PAIR;
use crate::scripted::Direct;
use crate::support::{Lab, lean_lab};

/// What the command says about the compiles of a crate in the latest build.
fn misses(lab: &Lab, name: &str) -> Vec<Value> {
    let output = lab.cli(&["why-miss", name, "--json"]);
    assert!(output.status.success(), "{output:?}");
    let value: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    value["misses"].as_array().expect("a list").clone()
}

/// The latest of them.
fn last(lab: &Lab, name: &str) -> Value {
    misses(lab, name).pop().expect("a miss")
}

/// The fields that differ, with old and new value.
fn differences(miss: &Value) -> Vec<(String, String, String)> {
    assert_eq!(miss["cause"], "changed", "{miss:#}");
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let list = miss["differences"].as_array().expect("a list");
    list.iter().map(|d| (text(&d["field"]), text(&d["old"]), text(&d["new"]))).collect()
}

const READS_A_FILE: &str = "dep src/t.txt\nenv-dep BUILD_ID\nemit dep-info\nemit metadata\nannounce metadata\n\
                            emit link\nannounce link\n";

/// A compile with the scripted compiler, changed in one way, and what must be named.
struct Story {
    d: Direct,
}

impl Story {
    fn new() -> Self {
        let d = Direct::new();
        d.fake.script("demo", READS_A_FILE);
        d.lab.write("ws/src/t.txt", "one\n");
        let story = Self { d };
        story.compile(&[], &[]);
        assert_eq!(last(&story.d.lab, "demo")["cause"], "first-seen");
        story
    }

    fn compile(&self, args: &[&str], env: &[(&str, &str)]) {
        self.d.wipe();
        let mut command = self.d.command("demo");
        let output = command.args(args).envs(env.iter().copied()).output().expect("start kache");
        assert!(output.status.success(), "{output:?}");
    }

    fn named(&self) -> (String, String, String) {
        let differences = differences(&last(&self.d.lab, "demo"));
        assert_eq!(differences.len(), 1, "{differences:?}");
        differences[0].clone()
    }
}

fn owned(parts: (&str, &str, &str)) -> (String, String, String) {
    (parts.0.to_owned(), parts.1.to_owned(), parts.2.to_owned())
}

/// One result has one key, with and without a remote, and whatever else is only about how it is looked for. The one
/// setting that changes results is named.
#[test]
fn settings_that_are_no_part_of_a_key() {
    let story = Story::new();
    let hits = |env: &[(&str, &str)]| {
        let mark = story.d.lab.mark();
        story.compile(&[], env);
        let events = story.d.lab.events_since(&mark);
        events.iter().all(|event| event.outcome == "hit") && !events.is_empty()
    };
    let remote = ("KACHE_S3_BUCKET", "bucket");
    let no_daemon = ("KACHE_DAEMON", "0");
    for env in [
        &[][..],
        &[remote, no_daemon],
        &[remote, ("KACHE_LOCAL_ONLY", "1")],
        &[("KACHE_LOCAL_ONLY", "1")],
        &[no_daemon, ("KACHE_SEED", "0")],
        &[("KACHE_S3_TRUSTED_KEYS", "nobody's"), no_daemon, ("KACHE_LOCAL_ONLY", "1")],
        &[("KACHE_MAX_SIZE", "1GiB"), ("KACHE_PROGRESS", "1"), ("KACHE_LOG", "debug")],
    ] {
        assert!(hits(env), "{env:?}");
    }
    story.compile(&[], &[("KACHE_VERIFY", "1")]);
    assert!(hits(&[]), "what was verified stays");
    assert!(!hits(&[("KACHE_PORTABLE_PATHS", "0")]));
    let named = differences(&last(&story.d.lab, "demo"));
    assert_eq!(named[0], owned(("portable paths", "true", "false")), "{named:?}");
    let output = story.d.lab.cli(&["why-miss", "demo"]);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("cache.portable_paths"), "{text}");
    assert!(hits(&[("KACHE_PORTABLE_PATHS", "0")]) && hits(&[]));
}

#[test]
fn a_flag() {
    let story = Story::new();
    story.compile(&["-C", "debug-assertions=on", "-C", "metadata=aaaaaaaaaaaaaaaa"], &[]);
    assert_eq!(story.named(), owned(("flag -C debug-assertions", "-", "on")));
    story.compile(&["-C", "debug-assertions=off"], &[]);
    assert_eq!(
        story.named(),
        owned(("flag -C debug-assertions", "on", "off")),
        "the newest of equally near ones"
    );
    story.compile(&["-C", "metadata=bbbbbbbbbbbbbbbb"], &[]);
    assert_eq!(
        story.named().0,
        "flag -C metadata",
        "what follows from others is named when nothing else differs"
    );
}

#[test]
fn a_variable_with_its_values() {
    let story = Story::new();
    story.compile(&[], &[("BUILD_ID", "1")]);
    assert_eq!(story.named(), owned(("env BUILD_ID", "absent", "\"1\"")));
    story.compile(&[], &[("BUILD_ID", "2")]);
    let (field, _, new) = story.named();
    assert_eq!((field.as_str(), new.as_str()), ("env BUILD_ID", "\"2\""));
    let text = String::from_utf8(story.d.lab.cli(&["why-miss", "demo"]).stdout).expect("UTF-8");
    assert!(
        text.contains("env BUILD_ID\n") && text.contains("is  \"2\"\n") && text.contains("hint: "),
        "{text}"
    );
}

#[test]
fn a_file() {
    let story = Story::new();
    for (file, content) in [("src/t.txt", "two\n"), ("src/lib.rs", "pub fn g() {}\n")] {
        story.d.lab.write(&format!("ws/{file}"), content);
        story.compile(&[], &[]);
        let (field, old, new) = story.named();
        assert_eq!(field, format!("file {{ws}}/{file}"));
        assert!(old != new && old.len() == 12 && new.len() == 12, "{old} {new}");
    }
}

#[test]
fn the_compiler() {
    let story = Story::new();
    kache_testkit::settle();
    story
        .d
        .fake
        .set_version("rustc 9.9.9 (changed 2030-01-01)\nhost: x86_64-unknown-linux-gnu\nrelease: 9.9.9\n");
    // The compiler's own stamp is what the memo of its version depends on.
    story.d.fake.set_driver("driver library 2");
    story.compile(&[], &[]);
    let (field, old, new) = story.named();
    assert_eq!((field.as_str(), new.as_str()), ("compiler", "rustc 9.9.9 (changed 2030-01-01)"));
    assert!(old.starts_with("rustc "), "{old}");
}

#[test]
fn a_path_that_is_baked_in() {
    let d = Direct::new();
    let script = |ws: &str| {
        let path = d.lab.root().join(ws);
        format!(
            "emit dep-info\nemit metadata\nannounce metadata\nemit link text {}\nannounce link\n",
            path.display()
        )
    };
    d.fake.script("demo", &script("ws"));
    assert!(d.run("demo").status.success());
    d.add_checkout("other");
    d.fake.script("demo", &script("other"));
    assert!(d.command_in("other", "demo").output().expect("start kache").status.success());
    let differences = differences(&last(&d.lab, "demo"));
    let path = |ws: &str| d.lab.root().join(ws).display().to_string();
    assert_eq!(differences, [("baked path {ws}".to_owned(), path("ws"), path("other"))]);
}

#[test]
fn a_bypass_has_its_reason_and_remedy() {
    let story = Story::new();
    story.compile(&["-Zself-profile-not"], &[]);
    let miss = last(&story.d.lab, "demo");
    assert_eq!((&miss["cause"], &miss["reason"]), (&"bypassed".into(), &"unknown-flag".into()));
    assert!(miss["detail"].as_str().is_some_and(|detail| detail.contains("self-profile-not")), "{miss:#}");
    assert!(miss["remedy"].is_string());
}

#[test]
fn an_evicted_entry() {
    let story = Story::new();
    assert!(story.d.lab.cli(&["purge", "-y"]).status.success());
    story.compile(&[], &[]);
    assert_eq!(last(&story.d.lab, "demo")["cause"], "evicted");
    assert!(story.d.lab.cli(&["purge", "-y"]).status.success());
    story.d.lab.write("ws/src/t.txt", "three\n");
    story.compile(&[], &[]);
    assert_eq!(last(&story.d.lab, "demo")["cause"], "all-evicted");
}

/// A compile that failed was not stored; what it was compared with is known all the same.
#[test]
fn a_miss_that_was_not_stored() {
    let story = Story::new();
    story.d.fake.script("demo", "exit 1\n");
    story.d.wipe();
    story.d.lab.write("ws/src/t.txt", "broken\n");
    assert!(!story.d.run("demo").status.success());
    assert_eq!(story.named().0, "file {ws}/src/t.txt");
}

#[test]
fn a_crate_that_nobody_compiled() {
    let story = Story::new();
    let output = story.d.lab.cli(&["why-miss", "dem"]);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && error.contains("hint: there is demo"), "{error}");
}

/// The real Cargo: a dependency's source changes, and the program's reason leads there.
#[test]
fn a_dependency_leads_to_the_first_thing_that_changed() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    p.edit("dep/src/lib.rs", "1", "2");
    p.wipe();
    p.cargo("build").ok();
    let miss = last(&lab, "app");
    let named: Vec<String> = differences(&miss).into_iter().map(|(field, ..)| field).collect();
    assert_eq!(named, ["extern dep"]);
    let dep = &miss["differences"][0]["because"];
    assert_eq!((&dep["crate"], &dep["cause"]), (&"dep".into(), &"changed".into()));
    let named: Vec<String> = differences(dep).into_iter().map(|(field, ..)| field).collect();
    assert_eq!(named, ["file {ws}/dep/src/lib.rs"]);
    assert_eq!(miss["summary"], "app was compiled because dep was: dep/src/lib.rs was changed");
    let text = String::from_utf8(lab.cli(&["why-miss", "app"]).stdout).expect("UTF-8");
    assert!(text.starts_with("app was compiled because dep was: dep/src/lib.rs was changed.\n"), "{text}");
    // A flag for all crates is the reason itself, not the dependency that it changes too.
    p.wipe();
    p.cargo("build").rustflags("-C debug-assertions=off").ok();
    let named: Vec<String> = differences(&last(&lab, "app")).into_iter().map(|(field, ..)| field).collect();
    assert_eq!(named, ["flag -C debug-assertions"]);
}

/// What clippy made of a crate is compared with what clippy made of it before, not with the build in between.
#[test]
fn like_is_compared_with_like() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").ok();
    p.cargo("clippy").ok();
    assert_eq!(last(&lab, "dep")["cause"], "first-seen", "a build is no earlier clippy");
    for (command, mode, from, to) in [("build", "build", "1", "2"), ("clippy", "clippy", "2", "3")] {
        p.edit("dep/src/lib.rs", from, to);
        p.wipe();
        p.cargo(command).ok();
        let miss = last(&lab, "dep");
        assert_eq!(miss["mode"], mode);
        let named: Vec<String> = differences(&miss).into_iter().map(|(field, ..)| field).collect();
        assert_eq!(named, ["file {ws}/dep/src/lib.rs"], "{miss:#}");
    }
}
