//! Everything that can change an output or an outcome is in the key: builds in clean target directories before and
//! after one thing changed, each compared with a clean build without kache.

use kache_testkit::Project;

use crate::fixtures::{ALL_KINDS, PAIR, user_world};
use crate::support::Build::{self, Fails, Works};
use crate::support::{Outcomes, lean_lab};

/// A file's new content; [`GONE`] removes it.
type Edit<'a> = (&'a str, &'a str);

const GONE: &str = "\0gone";

fn apply(p: &Project<'_>, edits: &[Edit<'_>]) {
    for (name, content) in edits {
        if *content == GONE { p.remove(name) } else { p.write(name, content) }
    }
}

/// `cargo ARGS` in a clean target directory, before and after each step and once more at the end, where everything
/// is known.
fn after_each(lib: &str, args: &str, before: &[Edit<'_>], steps: &[(Build, &[Edit<'_>])]) {
    let lab = lean_lab();
    let p = user_world(&lab, "w", lib);
    apply(&p, before);
    p.cargo(args).same();
    for (build, edits) in steps {
        apply(&p, edits);
        p.wipe();
        build.check(&p.cargo(args));
    }
    let (build, _) = steps.last().expect("steps");
    p.wipe();
    build.check(&p.cargo(args));
}

/// The manifest of `user` with something added.
fn manifest(rest: &str) -> String {
    format!("[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{rest}")
}

/// A19: the outcome of lints. Allowed, denied, allowed again.
#[test]
fn a19_lint_levels() {
    let [allow, deny, warn] =
        ["allow", "deny", "warn"].map(|level| manifest(&format!("[lints.rust]\nunused = \"{level}\"\n")));
    after_each(
        "pub fn value() -> u32 {\n    let x = 1;\n    2\n}\n",
        "run",
        &[("user/Cargo.toml", &allow)],
        &[
            (Fails, &[("user/Cargo.toml", &deny)]),
            (Works, &[("user/Cargo.toml", &warn)]),
            (Works, &[("user/Cargo.toml", &allow)]),
        ],
    );
}

/// A19, A36: the order of lint flags matters.
#[test]
fn a19_order_of_lint_flags() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 {\n    let x = 1;\n    2\n}\n");
    for (build, flags) in [
        (Works, "-D unused -A unused"),
        (Fails, "-A unused -D unused"),
        (Works, "-D unused -A unused"),
        (Fails, "-F unused"),
        (Works, "--cap-lints warn -D unused"),
    ] {
        p.wipe();
        build.check(&p.cargo("build").rustflags(flags));
    }
}

/// A20: `--check-cfg`: a feature is declared after a warning about it.
#[test]
fn a20_declared_features() {
    let declared = manifest("[features]\nx = []\n");
    let denied = manifest("[lints.rust]\nunexpected_cfgs = \"deny\"\n");
    let known = "unexpected_cfgs = { level = \"deny\", check-cfg = ['cfg(feature, values(\"x\"))'] }";
    let known = manifest(&format!("[lints.rust]\n{known}\n"));
    after_each(
        "#[cfg(feature = \"x\")]\npub fn extra() {}\npub fn value() -> u32 { 1 }\n",
        "check",
        &[],
        &[
            (Works, &[("user/Cargo.toml", &declared)]),
            (Fails, &[("user/Cargo.toml", &denied)]),
            (Works, &[("user/Cargo.toml", &known)]),
        ],
    );
}

/// A21, R5: `RUSTC_BOOTSTRAP` decides whether a feature gate is an error.
#[test]
fn a21_rustc_bootstrap() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "#![feature(never_type)]\npub fn value() -> Option<!> { None }\n");
    let table = [
        (Works, "1"),
        (Fails, "-"),
        (Works, "user"),
        (Fails, "other"),
        (Works, "1"),
        (Fails, "-1"),
        (Fails, "-"),
    ];
    for (build, value) in table {
        p.wipe();
        let cargo = p.cargo("run");
        build.check(&if value == "-" { cargo } else { cargo.env("RUSTC_BOOTSTRAP", value) });
    }
}

/// A22: metadata of a check is no library; each command gets what it needs whatever was built before.
#[test]
fn a22_check_and_build_are_kept_apart() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    for args in ["check", "build", "check --tests", "run", "build --release", "run --release", "test"] {
        p.cargo(args).same();
        p.wipe();
        p.cargo(args).same();
    }
}

/// A24, R6: a file that would make the program ambiguous appears; nothing that was read has changed.
#[test]
fn a24_module_file_appears_beside_another() {
    after_each(
        "mod foo;\npub fn value() -> u32 { foo::N }\n",
        "run",
        &[("user/src/foo.rs", "pub const N: u32 = 1;\n")],
        &[
            (Fails, &[("user/src/foo/mod.rs", "pub const N: u32 = 2;\n")]),
            (Works, &[("user/src/foo.rs", GONE)]),
            (Fails, &[("user/src/foo.rs", "pub const N: u32 = 3;\n")]),
            (Works, &[("user/src/foo/mod.rs", GONE)]),
        ],
    );
}

/// A24: the same for a module inside an inline module and inside a file module.
#[test]
fn a24_nested_module_file_appears_beside_another() {
    after_each(
        "mod a { pub mod b; }\nmod c;\npub fn value() -> u32 { a::b::N + c::d::N }\n",
        "run",
        &[
            ("user/src/a/b.rs", "pub const N: u32 = 1;\n"),
            ("user/src/c.rs", "pub mod d;\n"),
            ("user/src/c/d.rs", "pub const N: u32 = 10;\n"),
        ],
        &[
            (Fails, &[("user/src/a/b/mod.rs", "")]),
            (Works, &[("user/src/a/b/mod.rs", GONE)]),
            (Fails, &[("user/src/c/d/mod.rs", "")]),
        ],
    );
}

/// A25: the set of inputs changes with the content of one of them: modules, includes, variables.
#[test]
fn a25_set_of_inputs_changes() {
    let include = "pub fn value() -> &'static str { include_str!(\"t.txt\") }\n";
    after_each(
        "pub fn value() -> u32 { 1 }\n",
        "run",
        &[("user/src/b.rs", "pub const N: u32 = 2;\n"), ("user/src/t.txt", "abc")],
        &[
            (Works, &[("user/src/lib.rs", "mod b;\npub fn value() -> u32 { b::N }\n")]),
            (Works, &[("user/src/b.rs", "pub const N: u32 = 3;\n")]),
            (Works, &[("user/src/lib.rs", include)]),
            (Works, &[("user/src/t.txt", "def")]),
            (Fails, &[("user/src/lib.rs", "include!(\"inner.in\");\n")]),
            (Works, &[("user/src/inner.in", "pub fn value() -> u32 { 4 }\n")]),
            (Works, &[("user/src/inner.in", include)]),
            (Works, &[("user/src/t.txt", "ghi")]),
        ],
    );
}

/// A25: a feature switches to a module that was never read before.
#[test]
fn a25_feature_switches_files() {
    let lab = lean_lab();
    let lib = "#[cfg_attr(feature = \"b\", path = \"b.rs\")]\n#[cfg_attr(not(feature = \"b\"), path = \"a.rs\")]\nmod m;\n\
               pub fn value() -> u32 { m::N }\n";
    let p = user_world(&lab, "w", lib);
    p.write(
        "user/Cargo.toml",
        "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\nb = []\n",
    );
    p.write_all(&[
        ("user/src/a.rs", "pub const N: u32 = 1;\n"),
        ("user/src/b.rs", "pub const N: u32 = 2;\n"),
    ]);
    for args in ["run", "run --features user/b", "run"] {
        p.wipe();
        p.cargo(args).same();
    }
    p.write("user/src/b.rs", "pub const N: u32 = 3;\n");
    p.wipe();
    p.cargo("run --features user/b").same();
}

/// A34: two modules swap their content; the multiset of contents stays the same.
#[test]
fn a34_modules_swap_their_content() {
    let (one, two) = ("pub const N: u32 = 1;\n", "pub const N: u32 = 2;\n");
    after_each(
        "mod a;\nmod b;\npub fn value() -> u32 { a::N * 10 + b::N }\n",
        "run",
        &[("user/src/a.rs", one), ("user/src/b.rs", two)],
        &[
            (Works, &[("user/src/a.rs", two), ("user/src/b.rs", one)]),
            (Works, &[("user/src/b.rs", two)]),
            (Works, &[("user/src/a.rs", one)]),
        ],
    );
}

/// A36: of two opposite flags the last one wins, so their order is part of the key.
#[test]
fn a36_order_of_codegen_flags() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> bool { cfg!(debug_assertions) }\n");
    let (on, off) = ("-C debug-assertions=on", "-C debug-assertions=off");
    for flags in
        [format!("{on} {off}"), format!("{off} {on}"), "-O -C opt-level=0".into(), "-C opt-level=0 -O".into()]
    {
        p.wipe();
        p.cargo("run").rustflags(&flags).same();
    }
}

/// A37, R20: unset, empty and set are three values; each is compiled once and found from then on.
#[test]
fn a37_unset_empty_and_set_variables() {
    let lab = lean_lab();
    let lib = "pub fn value() -> (Option<&'static str>, Option<&'static str>) { (option_env!(\"XA\"), option_env!(\"XB\")) }\n";
    let p = user_world(&lab, "w", lib);
    let table: &[&[(&str, &str)]] = &[
        &[],
        &[("XA", "")],
        &[("XA", "1")],
        &[("XB", "1")],
        &[("XA", "1"), ("XB", "2")],
        &[("XA", "1\n# env-dep:XB=2")],
        &[("XA", "1\\n# env-dep:XB=2")],
    ];
    for round in 0..2 {
        for env in table {
            p.wipe();
            let run = p.cargo("run").envs(env).same();
            if round == 0 {
                run.not_hit("user");
            } else {
                run.all_hit();
            }
        }
    }
}

/// A35, B15: variables that Cargo sets, with characters that need care.
#[test]
fn a35_package_variables() {
    let version = manifest("description = \"a\"\n").replace("0.1.0", "0.1.1");
    let odd = manifest("description = \"a\\nb = \\\"c\\\" \\\\ d\"\n");
    after_each(
        "pub fn value() -> (&'static str, &'static str) {\n    \
         (env!(\"CARGO_PKG_VERSION\"), env!(\"CARGO_PKG_DESCRIPTION\"))\n}\n",
        "run",
        &[("user/Cargo.toml", &manifest("description = \"a\"\n"))],
        &[(Works, &[("user/Cargo.toml", &version)]), (Works, &[("user/Cargo.toml", &odd)])],
    );
}

/// `KACHE_KEY_SALT` separates caches that share a store.
#[test]
fn key_salt_separates() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").same();
    for (salt, known) in [("a", false), ("b", false), ("a", true), ("", true)] {
        p.wipe();
        let run = p.cargo("build").env("KACHE_KEY_SALT", salt).same();
        if known {
            run.all_hit();
        } else {
            run.not_hit("dep");
        }
    }
}

/// The content of dependencies is in the key: a change two crates down reaches the program, its revert hits.
#[test]
fn change_in_a_dependency_reaches_everything_above() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.write("dep/src/lib.rs", "#[inline(always)]\npub fn value() -> i64 {\n    1\n}\n");
    p.cargo("run").same();
    p.edit("dep/src/lib.rs", "1", "2");
    p.wipe();
    p.cargo("run").same().not_hit("app");
    p.edit("dep/src/lib.rs", "2", "1");
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// The linker tells what a program was made of; what a library was compiled against, nobody does.
#[test]
fn change_in_a_dependency_reaches_the_library_in_between() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").same();
    p.write("gen/number.txt", "9\n");
    p.wipe();
    p.cargo("run").same().not_hit("mid").not_hit("app");
    p.write("gen/number.txt", "7\n");
    p.wipe();
    p.cargo("run").same().all_hit();
}
