//! Proc macros and their hidden inputs: files, directories and variables that rustc never reports. Every case
//! changes one of them, builds in a clean target directory and compares with a clean build without kache.

use kache_testkit::Project;

use crate::fixtures::{macro_world, user_world};
use crate::support::{Outcomes, lean_lab};

pub type Step<'a> = &'a dyn Fn(&Project<'_>);

/// Builds `expression`, takes each step in turn with a wiped target directory after it, then expects that the last
/// state is known.
fn hidden_input(expression: &str, prepare: Step<'_>, steps: &[Step<'_>]) {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", expression);
    prepare(&p);
    p.cargo("run").same();
    for step in steps {
        step(&p);
        p.wipe();
        p.cargo("run").same();
    }
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// A1: a macro lists a directory; files come, go, are renamed, appear further down.
#[test]
fn a1_macro_lists_a_directory() {
    hidden_input(
        "mac::names!()",
        &|p| p.write("user/assets/a.txt", ""),
        &[
            &|p| p.write("user/assets/b.txt", ""),
            &|p| p.rename("user/assets/a.txt", "user/assets/c.txt"),
            &|p| p.write("user/assets/sub/d.txt", ""),
            &|p| p.write("user/assets/sub/e.txt", ""),
            &|p| p.remove("user/assets/sub/d.txt"),
            &|p| p.remove("user/assets"),
        ],
    );
}

/// A2: a macro reads a file that is missing at first, then written, edited, removed.
#[test]
fn a2_macro_reads_a_file() {
    hidden_input(
        "mac::text!()",
        &|_| {},
        &[&|p| p.write("user/t.txt", "one"), &|p| p.write("user/t.txt", "two"), &|p| p.remove("user/t.txt")],
    );
}

/// A2: the same by a path relative to the compiler's working directory.
#[test]
fn a2_macro_reads_a_file_relative_to_the_working_directory() {
    hidden_input("mac::relative!()", &|p| p.write("t.txt", "one"), &[&|p| p.write("t.txt", "two")]);
}

/// A2: the file is read by a process that the macro starts.
#[test]
fn a2_macro_reads_a_file_in_a_child_process() {
    hidden_input("mac::child!()", &|p| p.write("user/t.txt", "one"), &[&|p| p.write("user/t.txt", "two")]);
}

/// A2: the macro never opens the file but asks for its size.
#[test]
fn a2_macro_asks_for_a_files_size() {
    hidden_input(
        "mac::size!()",
        &|p| p.write("user/t.txt", "one"),
        &[&|p| p.write("user/t.txt", "three"), &|p| p.remove("user/t.txt")],
    );
}

/// A2: the macro only asks whether a file exists.
#[test]
fn a2_macro_asks_whether_a_file_exists() {
    hidden_input("mac::exists!()", &|_| {}, &[&|p| p.write("user/flag", ""), &|p| p.remove("user/flag")]);
}

/// A2: the macro reads a symbolic link.
#[test]
fn a2_macro_reads_a_symbolic_link() {
    let link = |p: &Project<'_>, to: &str| {
        p.remove("user/link");
        std::os::unix::fs::symlink(to, p.path("user/link")).expect("make a link");
    };
    hidden_input("mac::link!()", &|p| link(p, "one"), &[&|p| link(p, "two")]);
}

/// A3: a macro reads a variable that its own code names; unset, empty and set are three things.
#[test]
fn a3_macro_reads_a_variable() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::mode!()");
    let values = [None, Some(""), Some("x"), Some("y")];
    for round in 0..2 {
        for value in values {
            p.wipe();
            let run = value.map_or(p.cargo("run"), |v| p.cargo("run").env("MODE", v)).same();
            if round == 1 {
                run.all_hit();
            } else {
                run.not_hit("user");
            }
        }
    }
}

/// A3: the variable's name is in the user's source and not in the macro's library.
#[test]
fn a3_macro_reads_a_variable_that_its_caller_names() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::var!(BUILD_FLAVOUR)");
    for value in ["one", "two", "one"] {
        p.wipe();
        p.cargo("run").env("BUILD_FLAVOUR", value).same();
    }
}

/// A3, C1: macros see the path of the checkout. As long as nothing is proven, each checkout is compiled, however often
/// others have had the same result: `proofs` has the rest.
#[test]
fn a3_macro_that_sees_the_path_of_the_checkout() {
    for expression in ["mac::text!()", "mac::path_length!()", "mac::path_name!()"] {
        let lab = lean_lab();
        let one = macro_world(&lab, "wt/one", expression);
        one.write("user/t.txt", "text");
        one.cargo("run").same();
        let others = ["wt/second", "wt/two", "elsewhere/in/third"].map(|name| one.checkout(name));
        for p in &others {
            p.cargo("run").same().not_hit("user");
        }
        for p in others.iter().chain([&one]) {
            p.nothing_to_do("build");
            p.wipe();
            p.cargo("run").same().all_hit();
        }
    }
}

/// The name of a variable that leads to the checkout, in a source beside a macro that could take it from there: shared
/// where the macro doesn't ask for it, and never where something is made of it, or where the compiler reads it.
#[test]
fn a3_a_source_that_names_a_variable_with_the_path_of_the_checkout() {
    let named = "concat!(mac::mode!(), stringify!(CARGO_MANIFEST_DIR))";
    let made_of = "concat!(mac::mode!(), mac::length_of!(CARGO_MANIFEST_DIR))";
    let read = "{ const LENGTH: usize = env!(\"CARGO_MANIFEST_DIR\").len() / 1000; [mac::mode!()][LENGTH] }";
    for (expression, is_free) in [(named, true), (made_of, false), (read, false)] {
        let lab = lean_lab();
        let one = macro_world(&lab, "wt/one", expression);
        one.cargo("run").same();
        for name in ["wt/second", "elsewhere/in/third"] {
            let run = one.checkout(name).cargo("run").same();
            if is_free {
                run.all_hit()
            } else {
                run.not_hit("user")
            };
        }
    }
}

/// A4: a macro evaluates the tokens `env!("X")` itself, so that rustc never sees them.
#[test]
fn a4_macro_evaluates_env_itself() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::evaluate!(env!(\"BUILD_ID\"))");
    for value in ["abc", "def", "abc"] {
        p.wipe();
        p.cargo("run").env("BUILD_ID", value).same();
    }
}

/// A25: the list of inputs of the last compile is not the list of this one: a macro now includes another file, and
/// only later that file changes.
#[test]
fn a25_macro_includes_another_file() {
    let prepare = |p: &Project<'_>| {
        p.write_all(&[("user/one.txt", "1"), ("user/two.txt", "2"), ("user/which.txt", "one.txt")]);
    };
    hidden_input(
        "mac::indirect!()",
        &prepare,
        &[
            &|p| p.write("user/which.txt", "two.txt"),
            &|p| p.write("user/two.txt", "22"),
            &|p| p.write("user/one.txt", "11"),
            &|p| p.write("user/which.txt", "one.txt"),
        ],
    );
}

/// A39: values that are not UTF-8 and differ only in bytes that a lossy conversion would merge.
#[test]
fn a39_values_that_are_not_utf8() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::mode!()");
    for value in [b"\xff", b"\xfe", b"\xff"] {
        p.wipe();
        p.cargo("run").env("MODE", OsStr::from_bytes(value)).same();
    }
}

/// A48: a macro writes a file that is no output of the compiler; it is there after every build.
#[test]
fn a48_macro_leaves_a_file_behind() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::leave!()");
    for _ in 0..2 {
        p.wipe();
        p.cargo("run").same();
        p.remove("user/left.txt");
        p.wipe();
        p.cargo("run").ok();
        assert!(p.path("user/left.txt").exists(), "the macro's file is missing");
    }
}

/// A macro whose only compile here isn't stored is on record all the same: when its library has been cleaned away, what
/// comes from the cache is news to those that were built with it.
#[test]
fn what_was_not_stored_is_on_record_too() {
    let lab = lean_lab();
    let one = macro_world(&lab, "one", "mac2::value!()");
    let manifest = one.read("mac/Cargo.toml").replace("mac", "mac2").replace("proc-mac2ro", "proc-macro");
    one.write("mac2/Cargo.toml", manifest + "[dependencies]\nmac = { path = \"../mac\" }\n");
    let value = "#[proc_macro]\npub fn value(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
                 format!(\"{:?}\", \"2\").parse().unwrap()\n}\n";
    one.write("mac2/src/lib.rs", value);
    one.edit("Cargo.toml", "\"mac\"", "\"mac\", \"mac2\"");
    one.edit("user/Cargo.toml", "mac = { path = \"../mac\" }", "mac2 = { path = \"../mac2\" }");
    one.cargo("run").same();
    let two = one.checkout("two");
    two.write("mac2/src/lib.rs", value.replace("\"2\"", "mac::leave!()"));
    let run = two.cargo("run").same();
    assert!(run.one("mac2").not_stored.starts_with("outputs"), "{run}");
    two.write("mac2/src/lib.rs", value);
    two.cargo("clean -p mac2").plain().ok();
    two.cargo("build -p mac -p mac2").ok().outcome("mac2", "hit");
    two.cargo("run").same();
    two.nothing_to_do("build");
}

/// What a macro prints while it expands is printed again from the cache, as a clean build prints it.
#[test]
fn macro_that_prints_to_standard_output() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::chatter!()");
    p.cargo("build").same();
    p.wipe();
    p.cargo("build").same();
}

/// A55, C4: a macro that expands differently every time. What was compiled against one expansion is never combined
/// with another one: every build links, and program and library agree on the value.
#[test]
fn a55_macro_that_is_not_deterministic() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::random!()");
    p.write("app/src/main.rs", "fn main() {\n    assert_eq!(user::value(), user::again());\n}\n");
    p.write(
        "user/src/lib.rs",
        "const V: &str = mac::random!();\n#[inline]\npub fn value() -> &'static str { V }\n\
         #[inline(never)]\npub fn again() -> &'static str { V }\n",
    );
    p.cargo("run").ok();
    let two = p.checkout("two");
    two.cargo("run").ok();
    lab.cli(&["purge", "-y", "--crate-name", "user"]);
    let three = p.checkout("three");
    three.cargo("run").ok();
    for project in [&p, &two, &three] {
        project.cargo("run").ok();
        project.nothing_to_do("build");
    }
}

/// `extra_inputs` of `kache.toml`: an input that nothing at all can observe is keyed because it is declared.
#[test]
fn declared_extra_inputs_are_keyed() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    p.write("user/kache.toml", "extra_inputs = [\"data/**/*.sql\"]\n");
    p.write("user/data/a.sql", "one");
    p.cargo("build").same();
    let changes: &[Step<'_>] =
        &[&|p| p.write("user/data/a.sql", "two"), &|p| p.write("user/data/deep/b.sql", ""), &|p| {
            p.remove("user/data/a.sql")
        }];
    for change in changes {
        change(&p);
        p.wipe();
        p.cargo("build").same().not_hit("user");
    }
    p.write("user/data/readme.md", "no match");
    p.wipe();
    p.cargo("build").same().all_hit();
}

/// A46: Cargo has to notice a changed extra input in a warm target directory, too.
#[test]
fn a46_declared_extra_inputs_are_watched_by_cargo() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::text!()");
    p.write("user/kache.toml", "extra_inputs = [\"t.txt\"]\n");
    p.write("user/t.txt", "one");
    p.cargo("run").same();
    p.wipe();
    p.cargo("run").same();
    p.nothing_to_do("build");
    p.write("user/t.txt", "two");
    p.cargo("run").same();
    p.nothing_to_do("build");
}

/// Any other key in `kache.toml` is an error that is named, and never breaks a build.
#[test]
fn unknown_key_in_kache_toml_is_counted_and_the_build_goes_on() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    p.write("user/kache.toml", "extra_input = [\"x\"]\n");
    p.cargo("run").same().bypassed("user", "config");
}
