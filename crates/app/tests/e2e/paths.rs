//! Paths that programs keep: what a second checkout gets from the cache names that checkout, never the first one.

use std::fs;
use std::path::Path;
use std::process::Command;

use kache_testkit::{Project, walk};

use crate::fixtures::{ALL_KINDS, macro_world, user_world};
use crate::support::{Outcomes, lab};

/// Runs `args` in a checkout, in a second one with a longer path, in the first again; each must do what a clean
/// build there does, and the second must not mention the first.
fn in_two_checkouts(one: &Project<'_>, args: &str) {
    one.cargo(args).same();
    let two = one.checkout("another/and/longer/place");
    two.cargo(args).same();
    assert_no_mention(&two, one.dir());
    one.wipe();
    one.cargo(args).same();
    assert_no_mention(one, two.dir());
}

/// Nothing in the target directory contains the path `foreign`.
pub fn assert_no_mention(p: &Project<'_>, foreign: &Path) {
    let needle = foreign.to_str().expect("UTF-8");
    for file in walk(p.target()) {
        let bytes = fs::read(&file).unwrap_or_default();
        let found = bytes.windows(needle.len()).any(|window| window == needle.as_bytes());
        assert!(!found, "{} mentions {needle}", file.display());
    }
}

/// A8: `env!("CARGO_MANIFEST_DIR")` and relatives, kept until run time.
#[test]
fn a8_manifest_dir_kept_at_run_time() {
    let lab = lab();
    let lib = r#"pub fn value() -> (&'static str, &'static str, Option<&'static str>) {
    (env!("CARGO_MANIFEST_DIR"), concat!(env!("CARGO_MANIFEST_DIR"), "/data"), option_env!("CARGO_MANIFEST_PATH"))
}
"#;
    in_two_checkouts(&user_world(&lab, "one", lib), "run");
}

/// A8: a test that opens files beside the manifest reads its own checkout's.
#[test]
fn a8_tests_read_their_own_checkout() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> &'static str { env!(\"CARGO_MANIFEST_DIR\") }\n");
    one.write(
        "app/tests/it.rs",
        "#[test]\nfn it() {\n    let dir = std::path::Path::new(user::value());\n    \
         assert_eq!(dir, std::env::current_dir().unwrap().parent().unwrap().join(\"user\"));\n}\n",
    );
    in_two_checkouts(&one, "test");
}

/// A8: not the path but a value computed from it ends up in a library; no scan for the path finds it.
#[test]
fn a8_value_derived_from_the_path_in_a_library() {
    let lab = lab();
    let lib = "const N: usize = env!(\"CARGO_MANIFEST_DIR\").len();\npub fn value() -> usize { N }\n";
    in_two_checkouts(&user_world(&lab, "one", lib), "run");
}

/// A8: the same in a program, which has no metadata that could keep the path.
#[test]
fn a8_value_derived_from_the_path_in_a_program() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> usize { 1 }\n");
    one.write(
        "app/src/main.rs",
        "fn main() {\n    const N: usize = env!(\"CARGO_MANIFEST_DIR\").len();\n    println!(\"{N}\");\n}\n",
    );
    in_two_checkouts(&one, "run");
}

/// A8, A3: a proc macro computes a value from the path.
#[test]
fn a8_value_derived_from_the_path_by_a_macro() {
    let lab = lab();
    let one = macro_world(&lab, "one", "mac::dir_len!()");
    one.write(
        "mac/src/lib.rs",
        "#[proc_macro]\npub fn dir_len(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
         format!(\"\\\"{}\\\"\", std::env::var(\"CARGO_MANIFEST_DIR\").unwrap().len()).parse().unwrap()\n}\n",
    );
    in_two_checkouts(&one, "run");
}

const GENERATING: &str = r#"fn main() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("g.rs"), "pub fn here() -> &'static str { file!() }\n").unwrap();
    println!("cargo:rerun-if-changed=build.rs");
}
"#;

/// A9: `OUT_DIR` locates an `include!` and is kept as a value, in one crate.
#[test]
fn a9_out_dir_used_both_ways() {
    let lab = lab();
    let lib = "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\nconst D: &str = env!(\"OUT_DIR\");\n\
               pub fn value() -> &'static str { let _ = here(); D }\n";
    let one = user_world(&lab, "one", lib);
    one.write("user/build.rs", GENERATING);
    in_two_checkouts(&one, "run");
}

/// A9, A11: generated code asks where it is; whatever it is told, the file is there.
#[test]
fn a9_generated_code_that_asks_where_it_is() {
    let lab = lab();
    let lib = "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\n\
               pub fn value() -> bool { std::path::Path::new(here()).exists() }\n";
    let one = user_world(&lab, "one", lib);
    one.write("user/build.rs", GENERATING);
    in_two_checkouts(&one, "run");
}

/// A9: a program that keeps `OUT_DIR` as numbers of eight bytes each, as optimised code keeps short texts.
#[test]
fn a9_out_dir_in_pieces() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> u32 { 1 }\n");
    one.write("app/build.rs", "fn main() {}\n");
    one.write(
        "app/src/main.rs",
        r#"const fn part(number: usize) -> u64 {
    let (text, mut part, mut i) = (env!("OUT_DIR").as_bytes(), [0; 8], 0);
    while i < 8 {
        part[i] = text[number * 8 + i];
        i += 1;
    }
    u64::from_ne_bytes(part)
}

fn show(part: u64) {
    print!("{}", String::from_utf8_lossy(&part.to_ne_bytes()));
}

fn main() {
    show(const { part(0) });
    show(const { part(1) });
    show(const { part(2) });
    println!("…");
}
"#,
    );
    in_two_checkouts(&one, "run");
}

/// A9: not `OUT_DIR` but its length ends up in a program.
#[test]
fn a9_value_derived_from_out_dir_in_a_program() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> u32 { 1 }\n");
    one.write("app/build.rs", "fn main() {}\n");
    one.write(
        "app/src/main.rs",
        "const N: usize = env!(\"OUT_DIR\").len();\nfn main() {\n    println!(\"{N}\");\n}\n",
    );
    in_two_checkouts(&one, "run");
}

/// A10: `CARGO_BIN_EXE_*` and `CARGO_TARGET_TMPDIR` in an integration test.
#[test]
fn a10_integration_test_runs_its_own_checkouts_program() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> u32 { 1 }\n");
    one.write(
        "app/tests/it.rs",
        "#[test]\nfn it() {\n    println!(\"{} {}\", env!(\"CARGO_BIN_EXE_app\"), env!(\"CARGO_TARGET_TMPDIR\"));\n}\n",
    );
    in_two_checkouts(&one, "test -q --test it -- --nocapture");
}

/// A11: `file!()`, `#[track_caller]` and panic locations are what an unwrapped build gives.
#[test]
fn a11_locations_in_the_program() {
    let lab = lab();
    let lib = r#"#[track_caller]
pub fn caller() -> String { std::panic::Location::caller().to_string() }
pub fn value() -> Vec<String> {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::panic::set_hook(Box::new(move |info| sender.send(info.location().unwrap().to_string()).unwrap()));
    let _ = std::panic::catch_unwind(|| panic!("on purpose"));
    vec![file!().to_owned(), caller(), receiver.recv().unwrap(), module_path!().to_owned()]
}
"#;
    in_two_checkouts(&user_world(&lab, "one", lib), "run");
}

/// A11: a package outside the workspace, which the compiler is given by its absolute path.
#[test]
fn a11_locations_in_a_package_outside_the_workspace() {
    let lab = lab();
    for place in ["one", "the-second"] {
        lab.project(
            &format!("{place}/outside"),
            &[
                ("Cargo.toml", "[package]\nname = \"outside\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
                ("src/lib.rs", "pub fn here() -> &'static str { file!() }\n"),
            ],
        );
        let p = lab.project(
            &format!("{place}/app"),
            &[
                (
                    "Cargo.toml",
                    "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
                 [dependencies]\noutside = { path = \"../outside\" }\n",
                ),
                ("src/main.rs", "fn main() { println!(\"{}\", outside::here()); }\n"),
            ],
        );
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// A11: a backtrace from the second checkout names source files that are there.
#[test]
fn a11_debug_information_leads_to_the_sources() {
    let lab = lab();
    let lib = r#"#[inline(never)]
pub fn value() -> bool {
    let trace = std::backtrace::Backtrace::force_capture().to_string();
    let at = trace.lines().find_map(|line| line.trim().strip_prefix("at ").filter(|l| l.contains("user/src/lib.rs")));
    let file = at.expect("a frame in user").rsplitn(3, ':').last().unwrap().to_owned();
    std::path::Path::new(&file).exists()
}
"#;
    in_two_checkouts(&user_world(&lab, "one", lib), "run");
}

/// A58, D1: nothing in a target directory filled from the cache mentions the checkout it came from, for units of every
/// kind.
#[test]
fn nothing_restored_mentions_the_first_checkout() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("build --tests").same();
    one.cargo("check").same();
    let two = one.checkout("another/and/longer/place");
    two.cargo("build --tests").same().all_hit();
    two.cargo("check").same().all_hit();
    assert_no_mention(&two, one.dir());
}

/// A script tells the crate where a generated file is, by a variable of its own, and that is all that the crate does with
/// the path.
#[test]
fn a_variable_that_says_where_to_include_from() {
    let lab = lab();
    let lib = "pub fn value() -> &'static str { include_str!(env!(\"GENERATED\")) }\n";
    let one = user_world(&lab, "one", lib);
    let prints = "println!(\"cargo:rustc-env=GENERATED={}\", out.join(\"g.rs\").display());\n}\n";
    let script = GENERATING.trim_end().trim_end_matches('}');
    one.write("user/build.rs", format!("{script}    {prints}"));
    one.cargo("run").same();
    let two = one.checkout("another/and/longer/place");
    two.cargo("run").same().all_hit();
    assert_no_mention(&two, one.dir());
}

/// C5: the user's own remapping of the checkout directory is obeyed and doesn't make the second checkout miss.
#[test]
fn c5_users_own_remapping() {
    let lab = lab();
    let lib = "pub fn value() -> (&'static str, bool) { (file!(), include_str!(concat!(env!(\"CARGO_MANIFEST_DIR\"), \
               \"/x.txt\")).is_empty()) }\n";
    let one = user_world(&lab, "one", lib);
    one.write("user/x.txt", "");
    let flags = |p: &Project<'_>| format!("--remap-path-prefix={}=/src", p.dir().display());
    one.cargo("run").rustflags(&flags(&one)).same();
    let two = one.checkout("another/and/longer/place");
    two.cargo("run").rustflags(&flags(&two)).same().all_hit();
    assert_no_mention(&two, one.dir());
    two.cargo("build").rustflags(&flags(&two)).nothing_to_do();
}

/// A44: coverage builds are not remapped: the coverage map names the same files as without kache.
#[test]
fn a44_coverage_map_names_real_files() {
    let lab = lab();
    let one = user_world(&lab, "one", "pub fn value() -> u32 { 1 }\n");
    for p in [&one, &one.checkout("another/and/longer/place")] {
        let cargo = p.cargo("run").rustflags("-C instrument-coverage").env("LLVM_PROFILE_FILE", "/dev/null");
        cargo.same();
        let cached = coverage_map(p);
        p.wipe();
        cargo.clone().plain().ok();
        assert_eq!(cached, coverage_map(p), "coverage maps differ in {}", p.dir().display());
        p.wipe();
    }
}

fn coverage_map(p: &Project<'_>) -> Vec<u8> {
    let out = p.sandbox().root().join("covmap");
    let status = Command::new("objcopy")
        .args(["-O", "binary", "--only-section=__llvm_covmap", "--set-section-flags=__llvm_covmap=alloc"])
        .args([p.path("target/debug/app"), out.clone()])
        .status()
        .expect("start objcopy");
    assert!(status.success(), "objcopy: {status}");
    let map = fs::read(out).expect("coverage map");
    assert!(!map.is_empty(), "no coverage map in the program");
    map
}
