//! Options of compilers and Cargos to come, which `RUSTC_BOOTSTRAP` opens in any of them: served where they are asked for
//! again, and apart from builds without them.

use kache_testkit::Cargo;

use crate::fixtures::ALL_KINDS;
use crate::support::{Outcomes, lean_lab};

const SHOWS: &[(&str, &str)] = &[
    ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
    (
        "src/main.rs",
        "fn main() {\n    println!(\"{} {:?}\", std::panic::Location::caller().line(), Some(1));\n}\n",
    ),
];

fn opened<'p>(cargo: Cargo<'p>) -> Cargo<'p> {
    cargo.env("RUSTC_BOOTSTRAP", "1")
}

/// Each of them makes another result, and the same one is served in the next checkout.
#[test]
fn flags_that_decide_about_the_result() {
    let lab = lean_lab();
    let one = lab.project("one", SHOWS);
    let two = one.checkout("two");
    let flags = ["", "-Zlocation-detail=none", "-Zfmt-debug=none", "-Zrandomize-layout", "-Zdwarf-version=5"];
    for flag in flags {
        opened(one.cargo("run")).rustflags(flag).same().not_hit("app");
        one.wipe();
    }
    for flag in flags {
        opened(two.cargo("run")).rustflags(flag).same().all_hit();
        two.wipe();
    }
}

/// What a compiler prints or writes about one run of itself isn't served for another one.
#[test]
fn flags_that_report_on_a_run() {
    let lab = lean_lab();
    let p = lab.project("one", SHOWS);
    for _ in 0..2 {
        let run = opened(p.cargo("build")).rustflags("-Ztime-passes").ok();
        run.bypassed("app", "uncacheable-flag");
        p.wipe();
    }
}

/// Cargo passes metadata and library of each dependency where libraries have no metadata of their own.
#[test]
fn libraries_without_metadata() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("another/place");
    opened(one.cargo("run -Zno-embed-metadata")).same();
    opened(two.cargo("run -Zno-embed-metadata")).same().all_hit();
    for p in [&one, &two] {
        opened(p.cargo("build -Zno-embed-metadata")).nothing_to_do();
    }
    two.edit("gen/number.txt", "7", "8");
    opened(two.cargo("run -Zno-embed-metadata")).same();
    two.wipe();
    opened(two.cargo("run")).same();
}

/// Cargo compares contents: dep-info has checksums, which a hit brings too.
#[test]
fn freshness_by_content() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("another/place");
    opened(one.cargo("run -Zchecksum-freshness")).same();
    opened(two.cargo("run -Zchecksum-freshness")).same().all_hit();
    for p in [&one, &two] {
        opened(p.cargo("build -Zchecksum-freshness")).nothing_to_do();
        p.touch("mid/src/lib.rs");
        opened(p.cargo("build -Zchecksum-freshness")).nothing_to_do();
    }
    let time = two.mtime("mid/src/lib.rs");
    let text = two.read("mid/src/lib.rs");
    two.write("mid/src/lib.rs", format!("{text}// another content\n"));
    two.set_mtime("mid/src/lib.rs", time);
    let run = opened(two.cargo("run -Zchecksum-freshness")).same();
    run.not_hit("mid");
}
