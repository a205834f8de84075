use std::ffi::OsString;

use super::*;
use crate::digest::Digest;
use crate::entry::{Output, Text};
use crate::invocation::Env;

fn roots(workspace: &str, target: &str) -> Roots {
    Roots::new([
        (Root::Workspace, workspace.to_owned()),
        (Root::Target, target.to_owned()),
        (Root::CargoHome, "/home/u/.cargo".to_owned()),
    ])
}

fn job() -> Job {
    let roots = roots("/w/project", "/w/project/target");
    Job {
        version: VERSION,
        crate_name: "demo".to_owned(),
        unit: UnitKey(Digest::of(b"unit")),
        entry: EntryKey(Digest::of(b"entry")),
        record: InputRecord {
            inputs: vec![Input::Env("X".to_owned()), Input::MacroEnv("{target}/libm.so".to_owned())],
            baked: vec![Root::Target, Root::Workspace],
            ..InputRecord::default()
        },
        kept: Vec::new(),
        argv: ["/t/rustc", "src/lib.rs", "--out-dir", "/w/project/target/debug/deps", "-L/w/project-x"]
            .map(str::to_owned)
            .into(),
        cwd: "/w/project".to_owned(),
        env: BTreeMap::from([("OUT_DIR".to_owned(), "/w/project/target/o".to_owned())]),
        roots: roots.iter().map(|(root, path)| (root, path.to_owned())).collect(),
        profile_dir: "/w/project/target/debug".to_owned(),
        portable_paths: true,
        key_salt: None,
        compile_ms: 1,
        attempts: 0,
        scratch: None,
    }
}

fn entry(outputs: &[(&str, OutputKind, &[u8])], incremental: bool) -> Entry {
    let mut entry = Entry::new(UnitKey(Digest::of(b"unit")), "demo");
    entry.incremental = incremental;
    entry.outputs = outputs
        .iter()
        .map(|(name, kind, content)| Output {
            name: (*name).to_owned(),
            kind: *kind,
            digest: Digest::of(content),
            size: 1,
            mtime_s: 1,
            executable: false,
        })
        .collect();
    entry
}

#[test]
fn results_are_compared_by_what_a_build_can_notice() {
    use OutputKind::{Metadata, Rlib};
    let library: &[(&str, OutputKind, &[u8])] = &[("a.rmeta", Metadata, b"1"), ("a.rlib", Rlib, b"1")];
    let members: &[(&str, OutputKind, &[u8])] = &[("a.rmeta", Metadata, b"1"), ("a.rlib", Rlib, b"2")];
    let expanded: &[(&str, OutputKind, &[u8])] = &[("a.rmeta", Metadata, b"2"), ("a.rlib", Rlib, b"2")];
    let alone: &[(&str, OutputKind, &[u8])] = &[("a.rlib", Rlib, b"1")];
    let alone_other: &[(&str, OutputKind, &[u8])] = &[("a.rlib", Rlib, b"2")];
    for (stored, made, incremental, count) in [
        (library, library, false, 0),
        (library, members, false, 1),
        (library, members, true, 0),
        (library, expanded, true, 1),
        (alone, alone_other, true, 1),
        (library, alone, false, 1),
    ] {
        let found = differences(&entry(stored, incremental), &entry(made, incremental));
        assert_eq!(found.len(), count, "{found:?}");
    }
    let (stored, mut made) = (entry(library, false), entry(library, false));
    made.stderr = Text::Inline("warning".to_owned());
    (made.compile_ms, made.created_s) = (7, 7);
    assert_eq!(differences(&stored, &made), ["what the compiler said differs"]);
}

#[test]
fn what_becomes_of_a_job() {
    let mut pending = job();
    for attempt in 1..=ATTEMPTS_MAX {
        assert_eq!(pending.begin("/s"), None);
        assert_eq!((pending.attempts, pending.scratch.as_deref()), (attempt, Some("/s")));
        // Interrupted: it is read again as it was written.
        let json = serde_json::to_vec(&pending).expect("JSON");
        assert_eq!(serde_json::from_slice::<Job>(&json).expect("the same"), pending);
    }
    assert!(matches!(pending.begin("/s"), Some(Proof::Unshown(_))));
    for (attempt, proof) in [
        (Attempt::Compared(Vec::new()), Some(Proof::Independent)),
        (Attempt::Compared(vec!["a".into(), "b".into()]), Some(Proof::Depends("a; b".into()))),
        (Attempt::Outdated, None),
        (Attempt::Failed("why".into()), Some(Proof::Unshown("why".into()))),
    ] {
        assert_eq!(settle(attempt), proof);
    }
}

#[test]
fn a_moved_job_names_the_other_place_only() {
    let to = roots("/elsewhere/q", "/elsewhere/q/t");
    let moved = job().moved_to(&to);
    assert_eq!(moved.argv[1..], ["src/lib.rs", "--out-dir", "/elsewhere/q/t/debug/deps", "-L/w/project-x"]);
    assert_eq!((moved.cwd.as_str(), moved.profile_dir.as_str()), ("/elsewhere/q", "/elsewhere/q/t/debug"));
    assert_eq!(moved.env["OUT_DIR"], "/elsewhere/q/t/o");
    assert_eq!(moved.own_roots(), to);
    let portable = Job { kept: vec![Root::CargoHome], ..job() }.portable_record();
    assert_eq!(portable.baked, [Root::CargoHome]);
    assert!(portable.inputs.contains(&Input::PortableMacroEnv("{target}/libm.so".to_owned())));
}

#[test]
fn only_variables_that_count_are_written_down() {
    let pairs = |names: &[&str]| {
        let env = names.iter().map(|name| (OsString::from(name), OsString::from("v")));
        Invocation { env: Env::new(env), ..Invocation::default() }
    };
    let record = InputRecord {
        inputs: vec![Input::Env("ASKED".into()), Input::Env("API_TOKEN".into())],
        ..InputRecord::default()
    };
    let names = |names: &[&str], named: &[&str]| {
        let env = environment(&pairs(names), &record, &named.iter().copied().collect(), &["MINE".to_owned()]);
        env.map(|env| env.into_keys().collect::<Vec<_>>())
    };
    let seen = names(
        &["ASKED", "PATH", "CARGO_PKG_NAME", "CARGO_MAKEFLAGS", "CARGO_REGISTRY_TOKEN", "OTHER", "MINE"],
        &[],
    );
    assert_eq!(seen.expect("nothing secret counts"), ["ASKED", "CARGO_PKG_NAME", "PATH"]);
    assert_eq!(names(&["API_TOKEN"], &[]), None, "a macro asked for it");
    assert_eq!(names(&["MINE"], &["MINE"]), None, "a macro names it");
    assert_eq!(names(&["OTHER"], &["OTHER"]).expect("named"), ["OTHER"]);
}

/// What a macro may make of a path, as the module's table has it.
fn assert_unlike(own: &str, new: &str) {
    let names = |path: &str| -> BTreeSet<String> {
        path.split('/').filter(|name| !name.is_empty()).map(str::to_owned).collect()
    };
    let below_base = new.splitn(4, '/').last().expect("a path");
    assert!(names(own).is_disjoint(&names(below_base)), "{own} {new}");
    assert_ne!(own.split('/').nth(1), new.split('/').nth(1));
    for number in [2, 3, 5, 7] {
        assert_ne!(own.len() % number, new.len() % number, "{own} {new}: length");
    }
    for number in [2, 3, 5] {
        assert_ne!(count(own) % number, count(new) % number, "{own} {new}: depth");
    }
    let ends = |path: &str| -> (BTreeSet<char>, BTreeSet<char>) {
        let lower = path.to_ascii_lowercase();
        let names = || lower.split('/').filter(|name| !name.is_empty());
        (
            names().filter_map(|name| name.chars().next()).collect(),
            names().filter_map(|name| name.chars().last()).collect(),
        )
    };
    let (own, new) = (ends(own), ends(below_base));
    assert!(own.0.len() > 20 || own.0.is_disjoint(&new.0), "{own:?} {new:?}: first letters");
    assert!(own.1.len() > 20 || own.1.is_disjoint(&new.1), "{own:?} {new:?}: last letters");
}

#[test]
fn elsewhere_is_unlike_in_everything() {
    let base = "/var/tmp/kache-AbCdEf";
    for (workspace, target) in [
        ("/w", "/w/target"),
        ("/home/u/src/project", "/home/u/src/project/target"),
        ("/home/u/src/project", "/mnt/build/t"),
        ("/home/u/src/project", "/home/u/src/project/a/b/c"),
        ("/w/q0a/q0b", "/w/q0a/q0b/q1a"),
        ("/mnt/t/nested", "/mnt/t"),
        ("/tmp/p", "/tmp/p/target"),
    ] {
        let own = roots(workspace, target);
        let new = elsewhere(base, &own).expect("there is such a place");
        for root in MOVED {
            let (own, new) = (own.get(root).expect("own"), new.get(root).expect("new"));
            assert!(new.starts_with(base));
            assert_unlike(own, new);
        }
        assert_eq!(new.get(Root::CargoHome), own.get(Root::CargoHome));
        let is_below = |roots: &Roots| {
            roots.get(Root::Target).expect("t").starts_with(roots.get(Root::Workspace).expect("w"))
        };
        assert_eq!(is_below(&own), is_below(&new), "{workspace} {target}");
    }
    assert_eq!(
        elsewhere("/home/u/x", &roots("/home/u/p", "/home/u/p/target")),
        None,
        "the same first directory"
    );
    let long = format!("/{}", "a".repeat(2000));
    assert_eq!(elsewhere(base, &roots(&long, &format!("{long}/target"))), None, "too long");
}

proptest::proptest! {
    #[test]
    fn any_place_has_one_unlike_it(
        workspace in "(/[a-z0-9]{1,12}){1,9}",
        target in "(/[a-z0-9]{1,8}){1,3}",
        is_below in proptest::prelude::any::<bool>(),
    ) {
        let target = if is_below { format!("{workspace}{target}") } else { format!("/T{target}") };
        let own = roots(&workspace, &target);
        if let Some(new) = elsewhere("/KACHE/PROOF", &own) {
            for root in MOVED {
                assert_unlike(own.get(root).expect("own"), new.get(root).expect("new"));
            }
            proptest::prop_assert_eq!(new.name_of(new.get(Root::Target).expect("t")), "{target}");
        }
    }
}
