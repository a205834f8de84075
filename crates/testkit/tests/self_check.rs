//! The test support checked against itself: the oracle sees what differs, the auditor sees a broken protocol, the
//! scriptable compiler does what its script says, the sandbox is sealed.

use std::path::Path;
use std::process::{Command, Stdio};

use kache_testkit::{Audit, FakeRustc, Sandbox, toolchain};

const PAIR: &[(&str, &str)] = &[
    ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"dep\", \"app\"]\n"),
    ("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
    ("dep/src/lib.rs", "pub fn value() -> u32 { let unused = 1; 2 }\n"),
    (
        "app/Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\ndep = { path = \"../dep\" }\n",
    ),
    ("app/src/main.rs", "fn main() { println!(\"{} {:?}\", dep::value(), option_env!(\"SEALED\")); }\n"),
];

/// A wrapper made of a shell script; `$rustc` is the compiler, `$@` its arguments.
fn sandbox(script: &str) -> Sandbox {
    let dir = tempfile::tempdir().expect("make a temporary directory").keep();
    let program = dir.join("wrapper");
    std::fs::write(&program, format!("#!/bin/sh\nrustc=$1; shift\n{script}\n")).expect("write the wrapper");
    let mut chmod = Command::new("chmod");
    assert!(chmod.arg("+x").arg(&program).status().expect("start chmod").success());
    Sandbox::new(program)
}

/// A wrapper that does nothing agrees with the clean build; one that changes the result doesn't.
#[test]
fn the_oracle_sees_what_differs() {
    let faithful = sandbox("exec \"$rustc\" \"$@\"");
    let p = faithful.project("w", PAIR);
    assert_eq!(p.cargo("run").same().stdout, "2 None\n");
    p.nothing_to_do("build");
    p.write("dep/src/lib.rs", "pub fn value() -> u32 { true }\n");
    p.cargo("run").same_failure();
    for script in [
        "SEALED=no exec \"$rustc\" \"$@\"",
        "exec \"$rustc\" \"$@\" --cap-lints allow",
        "echo said by the wrapper >&2; exec \"$rustc\" \"$@\"",
    ] {
        let unfaithful = sandbox(script);
        let p = unfaithful.project("w", PAIR);
        let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| p.cargo("run").same()));
        assert!(verdict.is_err(), "{script}: the oracle saw nothing");
    }
}

/// Each way to break the protocol of notifications is seen.
#[test]
fn the_auditor_sees_a_broken_protocol() {
    let table = [
        ("exec \"$rustc\" \"$@\"", ""),
        ("echo note >&2; exec \"$rustc\" \"$@\"", "not a JSON line"),
        (
            "echo '{\"$message_type\":\"artifact\",\"artifact\":\"/no/such.rmeta\",\"emit\":\"link\"}' >&2; exec \"$rustc\" \"$@\"",
            "before it exists",
        ),
        (
            "\"$rustc\" \"$@\" 2>/tmp/kt-$$ || exit 1; cat /tmp/kt-$$ >&2; grep rmeta /tmp/kt-$$ >&2; rm /tmp/kt-$$",
            "announced twice",
        ),
    ];
    for (script, violation) in table {
        let sandbox =
            sandbox(&format!("case \"$*\" in *dep/src*) ;; *) exec \"$rustc\" \"$@\";; esac\n{script}"));
        let p = sandbox.project("w", PAIR);
        let audit = Audit::new(&sandbox, "audit");
        let cargo = p.cargo("build -p dep");
        let verdict = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| audit.run(&cargo)));
        let seen = std::fs::read_to_string(sandbox.root().join("audit/violations")).unwrap_or_default();
        assert_eq!(verdict.is_ok(), violation.is_empty(), "{script}: {seen}");
        assert!(seen.contains(violation), "{script}: {seen}");
        assert_eq!(audit.calls().len(), 1);
        assert_eq!(audit.calls()[0].crate_name(), "dep");
    }
}

/// Nothing of the caller's environment gets in.
#[test]
fn the_sandbox_is_sealed() {
    let sandbox = sandbox("exec \"$rustc\" \"$@\"");
    let output = sandbox.command("env").output().expect("start env");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut names: Vec<&str> =
        text.lines().filter_map(|line| line.split_once('=')).map(|(name, _)| name).collect();
    names.sort_unstable();
    assert_eq!(names, ["CARGO_HOME", "HOME", "KACHE_CACHE_DIR", "KACHE_PROVE", "LANG", "PATH", "TMPDIR"]);
}

/// Every step of a script, and what the compiler answers to questions.
#[test]
fn the_scriptable_compiler_follows_its_script() {
    let dir = tempfile::tempdir().expect("make a temporary directory");
    let fake = FakeRustc::install(dir.path().join("fake"));
    std::fs::write(dir.path().join("a.rs"), "pub fn a() {}\n").expect("write a source");
    let run = |name: &str, out_dir: &Path| {
        std::fs::create_dir_all(out_dir).expect("make a directory");
        let args = fake.library(name, "a.rs", out_dir);
        let mut command = Command::new(&args[0]);
        command.args(&args[1..]).current_dir(dir.path()).env("SET", "1").stdin(Stdio::null());
        command.output().expect("start the fake compiler")
    };
    let version = Command::new(fake.rustc()).arg("-vV").output().expect("start the fake compiler");
    assert_eq!(String::from_utf8_lossy(&version.stdout), toolchain().version);
    assert!(fake.calls().is_empty() && fake.starts().len() == 1);

    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    assert!(run("demo", &one).status.success() && run("demo", &two).status.success());
    let names: Vec<_> = kache_testkit::tree(&one, &[]).into_keys().collect();
    let stem = "demo-fedcba9876543210";
    let expected = [format!("{stem}.d"), format!("lib{stem}.rlib"), format!("lib{stem}.rmeta")];
    assert_eq!(names, expected.map(std::path::PathBuf::from));
    let rlib = format!("lib{stem}.rlib");
    assert_eq!(std::fs::read(one.join(&rlib)).expect("read"), std::fs::read(two.join(&rlib)).expect("read"));

    fake.script(
        "demo",
        "# all in one\ndep b.rs\nenv-dep SET\nenv-dep UNSET\nemit dep-info\nprint out\nsay err\n\
         diagnostic warning careful\nwrite side.txt text\nexit 7\n",
    );
    let output = run("demo", &one);
    assert_eq!(output.status.code(), Some(7));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "out\n");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(stderr.starts_with("err\n") && stderr.contains("\"rendered\":\"warning: careful"), "{stderr}");
    let dep_info = std::fs::read_to_string(one.join(format!("{stem}.d"))).expect("read");
    assert!(
        dep_info.contains(": a.rs b.rs\n") && dep_info.ends_with("# env-dep:SET=1\n# env-dep:UNSET\n"),
        "{dep_info}"
    );
    assert_eq!(std::fs::read_to_string(dir.path().join("side.txt")).expect("read"), "text");
    assert_eq!(fake.calls().len(), 3);
}
