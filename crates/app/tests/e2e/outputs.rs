//! The set of output files is complete: what rustc writes without announcing it is there after a build from the
//! cache, or the unit was not cached; what an entry lost is healed.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use kache_testkit::Project;

use crate::fixtures::{ALL_KINDS, PAIR, user_world};
use crate::support::{Outcomes, lab, lean_lab};

fn named(p: &Project<'_>, extension: &str) -> BTreeSet<String> {
    let found = p.outputs(|name| name.ends_with(extension));
    found.iter().map(|f| f.strip_prefix(p.target()).expect("below").display().to_string()).collect()
}

/// Builds with `profile` in Cargo.toml, wipes, builds: the same debug files exist as after a clean build, and the
/// program's debug information can be read.
fn debug_files(split: &str, extension: &str) {
    let lab = lab();
    let p = lab.project("w", PAIR);
    let manifest = p.read("Cargo.toml");
    p.write(
        "Cargo.toml",
        format!("{manifest}[profile.dev]\nsplit-debuginfo = \"{split}\"\nincremental = false\n"),
    );
    p.cargo("run").plain().ok();
    let expected = named(&p, extension);
    assert!(!expected.is_empty(), "a clean build leaves no {extension} files");
    for _ in 0..2 {
        p.wipe();
        p.cargo("run").same();
        assert_eq!(named(&p, extension), expected);
        let mut objdump = Command::new("objdump");
        let output =
            objdump.args(["--dwarf=info", "--dwarf=follow-links"]).arg(p.path("target/debug/app")).output();
        let text = String::from_utf8_lossy(&output.expect("start objdump").stdout).into_owned();
        assert!(text.contains("DW_TAG_compile_unit"), "no debug information");
        p.nothing_to_do("build");
    }
}

/// A26, R7: `.dwo` files beside the outputs.
#[test]
fn a26_unpacked_debug_information() {
    debug_files("unpacked", ".dwo");
}

/// A27, R7: a `.dwp` file beside the program.
#[test]
fn a27_packed_debug_information() {
    debug_files("packed", ".dwp");
}

/// A28: files that compiler or linker write on request.
#[test]
fn a28_side_outputs_exist_after_every_build() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    let side = lab.root().join("side");
    let table = [
        ("app --bin app", format!("-Clink-arg=-Wl,-Map={}", side.display())),
        ("user --crate-type staticlib", format!("--print=native-static-libs={}", side.display())),
        ("user", format!("--emit=asm={}", side.display())),
        ("user", format!("--emit=llvm-ir={}", side.display())),
        ("user", format!("--emit=metadata={}", side.display())),
    ];
    for (package, flag) in table {
        for _ in 0..2 {
            p.wipe();
            let _ = fs::remove_file(&side);
            p.cargo(&format!("rustc -p {package} --")).arg(&flag).ok();
            assert!(side.exists(), "{flag} left no file");
        }
    }
}

/// A28: output kinds that Cargo doesn't ask for are beside the library after every build.
#[test]
fn a28_additional_output_kinds() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    for (flag, extension) in [("--emit=asm", ".s"), ("--emit=llvm-ir", ".ll"), ("-Csave-temps", ".o")] {
        p.wipe();
        p.cargo("rustc -p user --").arg(flag).plain().ok();
        let expected = named(&p, extension);
        assert!(!expected.is_empty(), "a clean build with {flag} leaves no {extension} files");
        for _ in 0..2 {
            p.wipe();
            p.cargo("rustc -p user --").arg(flag).ok();
            assert_eq!(named(&p, extension), expected, "{flag}");
        }
    }
}

/// B10, C14, R11: empty `.rmeta` files are legitimate for checked programs and tests; they hit and nothing is cut.
#[test]
fn b10_empty_metadata() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("check --all-targets").same();
    let sizes = |p: &Project<'_>| -> Vec<(String, u64)> {
        let all = p.outputs(|name| name.ends_with(".rmeta"));
        all.iter().map(|f| (f.display().to_string(), f.metadata().expect("metadata").len())).collect()
    };
    let before = sizes(&p);
    assert!(
        before.iter().any(|(_, size)| *size == 0) && before.iter().any(|(_, size)| *size > 0),
        "{before:?}"
    );
    p.wipe();
    p.cargo("check --all-targets").same().all_hit();
    assert_eq!(sizes(&p), before);
    p.nothing_to_do("check --all-targets");
}

/// B9, D22: blobs vanish, are cut short, are emptied, one after the other: every build succeeds, and afterwards
/// everything is served again.
#[test]
fn b9_damaged_blobs_are_healed() {
    let lab = lean_lab().spoil();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build --tests").same();
    let damage: [&dyn Fn(&std::path::Path); 4] = [
        &|blob| fs::remove_file(blob).expect("remove a blob"),
        &|blob| fs::write(blob, "").expect("empty a blob"),
        &|blob| {
            let bytes = fs::read(blob).expect("read a blob");
            fs::write(blob, &bytes[..bytes.len() / 2]).expect("cut a blob");
        },
        &|blob| {
            let mut bytes = fs::read(blob).expect("read a blob");
            bytes.iter_mut().step_by(7).for_each(|b| *b ^= 0x55);
            fs::write(blob, bytes).expect("change a blob");
        },
    ];
    for act in damage {
        p.wipe();
        lab.blobs().iter().for_each(|blob| act(blob));
        p.cargo("run").same().not_hit("mid");
        p.cargo("build --tests").same();
        p.wipe();
        p.cargo("build --tests").same().all_hit();
        lab.assert_store_is_sound();
    }
}

/// B9: entries vanish, are emptied, are no entries at all.
#[test]
fn b9_damaged_entries_are_healed() {
    let lab = lean_lab().spoil();
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    for content in [None, Some(""), Some("{}"), Some("{\"version\":1}"), Some("\u{0}\u{1}\u{2}")] {
        for entry in lab.entries() {
            content
                .map_or_else(|| fs::remove_file(&entry), |text| fs::write(&entry, text))
                .expect("damage an entry");
        }
        p.wipe();
        p.cargo("run").same().not_hit("dep");
        p.wipe();
        p.cargo("run").same().all_hit();
        lab.assert_store_is_sound();
    }
}

/// A54: a failed compile is never served, nor is its success after the trouble is gone prevented.
#[test]
fn a54_failures_are_not_served() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { \"no number\" }\n");
    for _ in 0..2 {
        p.cargo("run").same_failure().outcome("user", "error");
        p.wipe();
    }
    p.write("user/src/lib.rs", "pub fn value() -> u32 { 1 }\n");
    p.cargo("run").same();
    // The same program, without a linker at first.
    p.wipe();
    p.cargo("run").env("PATH", "/nonexistent").same_failure();
    p.wipe();
    p.cargo("run").same();
}

/// B5: executables are executable, whatever they are called: test harnesses of one's own, programs, build scripts.
#[test]
fn b5_executables_are_executable() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    one.write(
        "app/Cargo.toml",
        format!("{}[[test]]\nname = \"own\"\nharness = false\n", one.read("app/Cargo.toml")),
    );
    one.write("app/tests/own.rs", "fn main() { println!(\"own harness\"); }\n");
    one.write("app/examples/ex.rs", "fn main() { println!(\"example\"); }\n");
    one.cargo("test -q").same();
    let two = one.checkout("two");
    two.cargo("test -q").same().all_hit();
    two.cargo("run").same();
    two.cargo("run --example ex").same();
}

/// B23: outputs of an earlier build lie beside what is restored; the newer ones win.
#[test]
fn b23_stale_siblings() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    p.edit("dep/src/lib.rs", "1", "2");
    p.cargo("check").same();
    p.cargo("run").same();
    p.edit("dep/src/lib.rs", "2", "1");
    p.cargo("check").same();
    p.cargo("run").same();
    p.cargo("test -q").same();
    p.nothing_to_do("build");
}
