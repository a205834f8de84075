//! `cargo check`, `cargo clippy`, `cargo fix`, `cargo doc`: messages are replayed as they were, configuration counts.

use kache_testkit::{Audit, Project};

use crate::fixtures::{ALL_KINDS, PAIR, user_world};
use crate::support::Build::{Fails, Works};
use crate::support::{Lab, Outcomes, lab, lean_lab};

const WARNS: &str = "pub fn value() -> u32 {\n    let unused = 1;\n    let t\u{e4}st = 2;\n    2\n}\n";

fn clippy_world<'s>(lab: &'s Lab, name: &str) -> Project<'s> {
    let arguments = (0..5).map(|i| format!("a{i}: u32")).collect::<Vec<_>>().join(", ");
    user_world(
        lab,
        name,
        &format!(
            "pub fn value() -> u32 {{\n    let x = 5;\n    return x;\n}}\npub fn many({arguments}) -> u32 {{\n    \
         a0 + a1 + a2 + a3 + a4\n}}\n"
        ),
    )
}

/// G6, B34: warnings of restored units are shown as a compile shows them, with this checkout's paths, in every format
/// that Cargo knows.
#[test]
fn warnings_are_replayed_in_every_format() {
    let lab = lab();
    let one = user_world(&lab, "one", WARNS);
    let two = one.checkout("another/and/longer/place");
    for args in ["check", "build", "check --message-format short", "check --color always", "test --no-run"] {
        one.cargo(args).same();
        let run = two.cargo(args).same();
        assert!(run.stderr.contains("unused"), "{run}");
        run.all_hit();
        // And once more when Cargo replays them by itself.
        two.cargo(args).same();
        one.wipe();
        two.wipe();
    }
}

/// B34: the JSON that tools read, line by line.
#[test]
fn json_messages_are_the_same() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", WARNS);
    let lines = |p: &Project<'_>, plain: bool| {
        p.wipe();
        let cargo = p.cargo("check --message-format json");
        let run = if plain { cargo.plain().ok() } else { cargo.ok() };
        let mut lines: Vec<String> = run.stdout.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let expected = lines(&p, true);
    assert!(expected.iter().any(|line| line.contains("compiler-message")), "{expected:?}");
    assert_eq!(lines(&p, false), expected);
    assert_eq!(lines(&p, false), expected);
}

/// A52: messages rendered for one width and style are not shown for another one.
#[test]
fn a52_messages_are_rendered_for_this_terminal() {
    let lab = lean_lab();
    let long = format!("Vec<{}u8{}>", "Vec<".repeat(30), ">".repeat(30));
    let p = user_world(
        &lab,
        "w",
        &format!("pub fn value() -> u32 {{\n    let unused: {long} = Vec::new();\n    2\n}}\n"),
    );
    let call = Audit::new(&lab, "audit").record(&p.cargo("build -p user")).remove(0);
    for width in ["40", "60", "200", "40", "200"] {
        let mut call = call.clone();
        call.args.push(format!("--diagnostic-width={width}").into());
        let direct = call.direct().output().expect("start rustc");
        let cached = call.through(lab.wrapper()).output().expect("start kache");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(text(&direct.stderr).contains("unused"));
        assert_eq!(text(&cached.stderr), text(&direct.stderr), "width {width}");
    }
    for format in ["short", "human", "json-diagnostic-short", "short"] {
        p.wipe();
        p.cargo(&format!("check --message-format {format}")).ok();
        p.wipe();
        p.cargo("check").same();
    }
}

/// B34: future incompatibility reports are there after a build from the cache.
#[test]
fn b34_future_incompatibility_reports() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.write("dep/src/lib.rs", "#![warn(ill_formed_attribute_input)]\n#[inline = \"always\"]\npub fn other() {}\npub fn value() -> i64 { 1 }\n");
    let report = |p: &Project<'_>| {
        p.cargo("build").same();
        let run = p.cargo("report future-incompatibilities --id 1").plain().run();
        (run.status.code(), run.stdout)
    };
    let first = report(&p);
    assert!(first.0 == Some(0) && first.1.contains("inline"), "no report in the first place: {first:?}");
    p.wipe();
    assert_eq!(report(&p), first);
}

/// A22, B16: clippy's result is not rustc's and the other way round; both are served again.
#[test]
fn a22_clippy_and_check_are_kept_apart() {
    let lab = lean_lab();
    let one = clippy_world(&lab, "one");
    for args in ["check", "clippy", "check --all-targets", "clippy --all-targets"] {
        one.cargo(args).same();
    }
    let two = one.checkout("two");
    for args in ["clippy --all-targets", "check --all-targets", "clippy", "check"] {
        two.cargo(args).same();
        two.nothing_to_do(args);
    }
    one.wipe();
    let run = one.cargo("clippy").same();
    run.all_hit();
    assert_eq!(run.one("user").mode, "clippy", "{run}");
}

/// A23: clippy's configuration: thresholds, a second file that takes precedence, the directory variable, lint flags.
#[test]
fn a23_clippy_configuration() {
    let lab = lean_lab();
    let p = clippy_world(&lab, "w");
    p.cargo("clippy").same();
    let steps: &[&dyn Fn(&Project<'_>)] = &[
        &|p| p.write("clippy.toml", "too-many-arguments-threshold = 3\n"),
        &|p| p.write("clippy.toml", "too-many-arguments-threshold = 9\n"),
        &|p| p.write("user/clippy.toml", "too-many-arguments-threshold = 2\n"),
        &|p| p.write("user/.clippy.toml", "too-many-arguments-threshold = 8\n"),
        &|p| p.remove("user/clippy.toml"),
        &|p| p.remove("user/.clippy.toml"),
    ];
    for step in steps {
        step(&p);
        p.wipe();
        p.cargo("clippy").same();
    }
    p.write("conf/clippy.toml", "too-many-arguments-threshold = 1\n");
    p.wipe();
    p.cargo("clippy").env("CLIPPY_CONF_DIR", p.path("conf")).same();
    for (build, flags) in
        [(Works, "-A clippy::all"), (Fails, "-D clippy::needless_return"), (Works, "-W clippy::all")]
    {
        p.wipe();
        build.check(&p.cargo(&format!("clippy -- {flags}")));
    }
}

/// B4, B30: `cargo fix` and `clippy --fix` rewrite sources; outputs restored before can be replaced.
#[test]
fn b4_fixing_after_a_restore() {
    let lab = lean_lab();
    let one = clippy_world(&lab, "one");
    one.cargo("check").same();
    one.cargo("clippy").same();
    let two = one.checkout("two");
    two.cargo("check").same();
    two.cargo("clippy").same();
    two.cargo("clippy --fix --allow-no-vcs").ok();
    assert!(!two.read("user/src/lib.rs").contains("return x"), "clippy fixed nothing");
    two.write("user/src/lib.rs", "pub fn value() -> u32 {\n    let mut x = 1;\n    x\n}\n");
    two.cargo("fix --allow-no-vcs").ok();
    assert!(!two.read("user/src/lib.rs").contains("mut"), "cargo fixed nothing");
    two.cargo("check").same();
    two.cargo("run").same();
}

/// B35: rustdoc and doctests use what was restored.
#[test]
fn b35_doctests() {
    let lab = lean_lab();
    let one = user_world(
        &lab,
        "one",
        "/// ```\n/// assert_eq!(user::value(), 1);\n/// ```\npub fn value() -> u32 { 1 }\n",
    );
    one.cargo("test -q").same();
    let two = one.checkout("two");
    two.cargo("test -q").same().all_hit();
    two.cargo("test -q --doc").same();
    two.cargo("doc").same();
    two.nothing_to_do("test --no-run");
}

/// Build and check in one target directory, in turns and with an edit in between.
#[test]
fn check_interleaved_with_build() {
    let lab = lab();
    let p = lab.project("w", ALL_KINDS);
    for edit in [None, Some(("2 *", "3 *")), Some(("3 *", "2 *"))] {
        if let Some((old, new)) = edit {
            p.edit("mac/src/lib.rs", old, new);
        }
        for args in ["check", "build", "clippy", "check --tests"] {
            p.cargo(args).same();
        }
        for args in ["build", "check", "clippy", "check --tests"] {
            p.nothing_to_do(args);
        }
        p.cargo("run").same();
    }
}
