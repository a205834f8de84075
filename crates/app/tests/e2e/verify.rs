//! Verification: hits are compiled all the same and compared; a result that deviates is reported and its entry goes.

use crate::fixtures::PAIR;
use crate::scripted::Direct;
use crate::support::lean_lab;

#[test]
fn a_hit_is_compiled_and_found_the_same() {
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    for (value, compiles) in [("1", 1), ("100%", 1), ("0%", 0), ("0", 0)] {
        d.wipe();
        let calls = d.fake.calls().len();
        let mark = d.lab.mark();
        let output = d.command("demo").env("KACHE_VERIFY", value).output().expect("start kache");
        assert!(output.status.success() && !String::from_utf8_lossy(&output.stderr).contains("kache:"));
        assert_eq!(d.fake.calls().len(), calls + compiles, "{value}");
        let event = d.lab.events_since(&mark).pop().expect("an event");
        if compiles == 1 {
            assert_eq!((event.outcome.as_str(), event.reason.as_str()), ("dup", "verify"));
            assert!(event.detail.ends_with("it is the same"), "{event}");
        } else {
            assert_eq!(event.outcome, "hit", "{value}");
        }
    }
}

#[test]
fn a_deviation_is_reported_and_the_entry_is_dropped() {
    let d = Direct::new();
    let emit = |text: &str| {
        format!("emit dep-info\nemit metadata\nannounce metadata\nemit link common {text}\nannounce link\n")
    };
    d.fake.script("demo", &emit("first"));
    assert!(d.run("demo").status.success());
    // What the compiler makes depends on something that nobody sees.
    d.fake.script("demo", &emit("other"));
    d.wipe();
    assert!(d.run("demo").status.success());
    assert_eq!(d.fake.calls().len(), 1, "without verification the entry is served");
    d.wipe();
    let output = d.command("demo").env("KACHE_VERIFY", "1").output().expect("start kache");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("kache: verification of demo: libdemo-fedcba9876543210.rlib: other content")
            && said.contains("from byte 7 on"),
        "{said}"
    );
    let event = d.lab.events_since(&Default::default()).pop().expect("an event");
    assert_eq!(event.reason, "verify-mismatch");
    assert!(d.lab.entries().is_empty(), "the entry is still there");
    assert!(d.lab.cache_dir().join("memo/mismatches").is_dir(), "the evidence is gone");
}

#[test]
fn a_compile_that_fails_where_the_entry_succeeds_deviates() {
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    d.fake.script("demo", "exit 1\n");
    d.wipe();
    let output = d.command("demo").env("KACHE_VERIFY", "1").output().expect("start kache");
    assert_eq!(output.status.code(), Some(1));
    assert!(d.lab.entries().is_empty(), "the entry is still there");
}

/// Two incremental compiles of one crate are never the same byte for byte: what came from one is served, and stays.
#[test]
fn what_was_compiled_incrementally_is_served() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").env("CARGO_INCREMENTAL", "1").ok();
    let entries = lab.entries();
    let mut command = lab.command(lab.wrapper());
    command.args(["verify", "--json"]).env("CARGO_INCREMENTAL", "1").current_dir(p.dir());
    let output = command.output().expect("start kache");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let list = |name: &str| value[name].as_array().map_or(9, Vec::len);
    assert_eq!((list("different"), list("undecided"), &value["served"]), (0, 0, &2.into()), "{value:#}");
    assert_eq!(lab.entries(), entries);
}

/// The real Cargo: everything that the store has is what the compiler makes, in another target directory too.
#[test]
fn a_project_is_verified_beside_its_target_directory() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let verify = |args: &[&str]| {
        let mut command = lab.command(lab.wrapper());
        let output = command.args(args).current_dir(p.dir()).output().expect("start kache");
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let (code, text) = verify(&["verify"]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("There was nothing to verify"), "{text}");
    p.cargo("build").ok();
    let (code, text) = verify(&["verify", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(
        (code, &value["same"], &value["different"]),
        (Some(0), &2.into(), &serde_json::json!([])),
        "{text}"
    );
    let (code, text) = verify(&["verify", "--sample", "0%", "--", "check"]);
    assert_eq!(code, Some(0), "{text}");
    let beside = std::fs::read_dir(p.dir()).expect("list").flatten();
    assert!(!beside.into_iter().any(|item| item.file_name().to_string_lossy().contains("kache-verify")));
    let nowhere = lab.command(lab.wrapper()).arg("verify").output().expect("start kache");
    assert_eq!(nowhere.status.code(), Some(2), "{nowhere:?}");
}
