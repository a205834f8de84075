//! The `.d` files that Cargo decides freshness by: restored for this checkout, with every odd character intact.

use std::fs;

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::paths::assert_no_mention;
use crate::support::{Outcomes, lab};

/// A38, R8: spaces and `$` and `#` in the checkout's path, a space in a generated file's name, a newline and a
/// backslash in a variable that the build script sets.
#[test]
fn a38_odd_characters_survive_the_round_trip() {
    let lab = lab();
    let one = lab.project("a dir$x", &[
        ("Cargo.toml", "[package]\nname = \"odd\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
        (
            "build.rs",
            r#"fn main() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("g h.rs"), "pub const G: u32 = 3;\n").unwrap();
    println!("cargo:rustc-env=MULTI=a\\nb");
    println!("cargo:rerun-if-changed=build.rs");
}
"#,
        ),
        (
            "src/lib.rs",
            "include!(concat!(env!(\"OUT_DIR\"), \"/g h.rs\"));\npub const M: &str = env!(\"MULTI\");\n\
             pub const S: &str = include_str!(\"a #b.txt\");\npub const O: Option<&str> = option_env!(\"ODD\");\n",
        ),
        ("src/a #b.txt", "text"),
        ("src/main.rs", "fn main() { println!(\"{} {:?} {} {:?}\", odd::G, odd::M, odd::S, odd::O); }\n"),
    ]);
    lab.set_env("ODD", "back\\slash and\nnewline");
    one.cargo("run").same();
    one.nothing_to_do("build");
    let two = one.checkout("b #dir 'y");
    two.cargo("run").same().all_hit();
    two.nothing_to_do("build");
    assert_no_mention(&two, one.dir());
    two.edit("src/a #b.txt", "text", "other");
    two.cargo("run").same().not_hit("odd");
    two.nothing_to_do("build");
}

/// A58, R10: the donor checkout is deleted; the other one stays fresh, and an edit in it is noticed.
#[test]
fn a58_donor_checkout_is_deleted() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    fs::remove_dir_all(one.dir()).expect("delete the donor");
    two.nothing_to_do("build");
    assert_no_mention(&two, one.dir());
    two.edit("dep/src/lib.rs", "1", "2");
    let run = two.cargo("run").same();
    run.not_hit("dep");
    assert_eq!(run.stdout, "2\n");
}

/// A58: an edit in the donor means nothing to the other checkout.
#[test]
fn a58_donor_checkout_is_edited() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same();
    one.edit("dep/src/lib.rs", "1", "2");
    two.nothing_to_do("build");
    one.cargo("run").same();
    two.nothing_to_do("build");
    two.cargo("run").same();
}

/// B22: a build from the cache leaves the very files that a compile leaves, `.d` files included.
#[test]
fn b22_restored_target_directory_has_the_same_files() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    for args in ["build", "test --no-run", "check --tests"] {
        one.cargo(args).env("CARGO_INCREMENTAL", "0").same();
    }
    let two = one.checkout("two");
    for args in ["build", "test --no-run", "check --tests"] {
        two.cargo(args).env("CARGO_INCREMENTAL", "0").same().all_hit();
    }
    let names = |target: &std::path::Path| -> Vec<_> {
        let all = kache_testkit::walk(target).into_iter();
        all.map(|file| file.strip_prefix(target).expect("below").to_path_buf()).collect()
    };
    assert_eq!(names(one.target()), names(two.target()));
    two.artifacts().assert_same(&one.artifacts(), |_| false);
    assert!(two.outputs(|name| name.ends_with(".d")).len() > 5);
}

/// A25, A58: `.d` files of a restored unit list generated and included files at their place in this checkout, so
/// that Cargo notices when one of them changes.
#[test]
fn edits_of_every_reported_input_are_noticed_after_a_restore() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.write(
        "mid/src/lib.rs",
        "mod part;\npub fn value() -> u32 {\n    mac::twice!(gen::NUMBER) + part::PART\n}\n",
    );
    one.write("mid/src/part.rs", "pub const PART: u32 = include_bytes!(\"data.bin\").len() as u32;\n");
    one.write("mid/src/data.bin", "ab");
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    for (file, old, new) in [
        ("mid/src/data.bin", "ab", "abcd"),
        ("mid/src/part.rs", "as u32", "as u32 * 2"),
        ("gen/number.txt", "7", "9"),
        ("mac/src/lib.rs", "2 *", "4 *"),
    ] {
        two.edit(file, old, new);
        two.cargo("run").same().not_hit("mid");
        two.nothing_to_do("build");
    }
}
