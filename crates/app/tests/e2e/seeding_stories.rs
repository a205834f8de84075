//! Seeding in the situations of everyday: clippy, features, toolchains, libraries in C, file systems, disks that are full.

use std::fs;

use kache_testkit::toolchain;

use crate::file_systems::{Way, assert_way};
use crate::seeding::{
    LIB, SCRIPT, Upstream, assert_fresh, assert_idle, built, fetch, left_out, recorded, seeded,
};
use crate::support::{Lab, Outcomes, lean_lab};
use crate::toolchains::toolchain_copy;

/// The end of a script that compiles C of its package into a static library, with debug information that names the
/// directory, and tells where it is.
const C: &str = r#"    println!("cargo:rerun-if-changed=foo.c");
    let file = |name: &str| out.join(name).display().to_string();
    let run = |program: &str, args: &[&str]| {
        assert!(std::process::Command::new(program).args(args).status().unwrap().success());
    };
    std::fs::write(out.join("conf.h"), "int conf(void);\n").unwrap();
    run("cc", &["-g", "-fPIC", "-include", &file("conf.h"), "-c", "foo.c", "-o", &file("foo.o")]);
    let _ = std::fs::remove_file(out.join("libfoo.a"));
    run("ar", &["crs", &file("libfoo.a"), &file("foo.o")]);
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=static=foo");
    println!("cargo:root={}", out.display());
"#;
const C_LIB: &str = "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\nextern \"C\" { fn foo() -> i32; }\n\
    pub fn low() -> String { format!(\"{FLAVOUR} {}\", unsafe { foo() }) }\n";

/// A repository whose `low` brings its own C.
fn with_c(lab: &Lab) -> Upstream<'_> {
    let upstream = Upstream::new(lab, &format!("{SCRIPT}{C}"), C_LIB);
    upstream.project.write("low/foo.c", "int foo(void) { return 7; }\n");
    upstream.commit();
    upstream
}

/// Three worktrees on some pair of file systems: the first one builds, the others start with everything in place, and
/// whatever happens in one of them, nothing is left to do in the others, in any order.
pub fn worktrees_that_are_seeded(lab: &Lab, way: Way) {
    let upstream = with_c(lab);
    let one = upstream.user(lab);
    recorded(&one.cargo("run"));
    let (two, three) = (one.checkout("two"), one.checkout("a/third"));
    for p in [&two, &three] {
        let run = p.cargo("run").same();
        assert_eq!(seeded(&run), (4, 1), "{run}");
        assert_fresh(&run);
        assert!(run.stdout.contains("plain 7"), "{run}");
        if way != Way::Link {
            assert_way(&run, way);
        }
    }
    let all = [&one, &two, &three];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        order.iter().for_each(|index| assert_idle(&all[*index].cargo("run")));
    }
    // The script writes in place, the library is made again, the program is linked again and written to.
    assert!(two.cargo("run").env("FLAVOUR", "sour").same().stdout.contains("sour 7"));
    assert!(two.cargo("run").same().stdout.contains("plain 7"));
    two.cargo("test -q").same();
    two.cargo("check").same();
    for p in [&three, &two, &one] {
        assert_idle(&p.cargo("run"));
    }
    three.cargo("clean -p low").plain().ok();
    three.cargo("build -p low").ok();
    three.cargo("run").same();
    for p in [&two, &three, &one] {
        assert_idle(&p.cargo("run"));
    }
}

#[test]
fn a_library_with_c_of_its_own() {
    let lab = lean_lab();
    let upstream = with_c(&lab);
    let one = upstream.user(&lab);
    recorded(&one.cargo("run"));
    let two = one.checkout("elsewhere/second");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "debug information alone names the directory: {run}");
    assert_idle(&two.cargo("run"));
    // New C is a new commit.
    upstream.project.write("low/foo.c", "int foo(void) { return 8; }\n");
    upstream.commit();
    two.cargo("update").plain().env("CARGO_NET_OFFLINE", "false").ok();
    fetch(&two);
    assert!(two.cargo("run").same().stdout.contains("plain 8"));
    assert!(one.checkout("three").cargo("run").same().stdout.contains("plain 7"));
}

/// A script that looks for a library of the system and links it.
#[test]
fn a_library_that_asks_the_system() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    let found = std::process::Command::new(\"cc\").arg(\"-print-file-name=libm.so\").output().unwrap();\n    \
         let path = String::from_utf8(found.stdout).unwrap();\n    \
         println!(\"cargo:rustc-link-search=native={{}}\", std::path::Path::new(path.trim()).parent().unwrap().display());\n    \
         println!(\"cargo:rustc-link-lib=m\");\n    println!(\"cargo:rustc-cfg=has_m\");\n"
    );
    let lib = "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\nextern \"C\" { fn cbrt(x: f64) -> f64; }\n\
        pub fn low() -> String { format!(\"{FLAVOUR} {} {}\", cfg!(has_m), unsafe { cbrt(27.0) }) }\n";
    let (_, one) = built(&lab, &script, lib, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert!(run.stdout.contains("plain true 3"), "{run}");
    assert_idle(&two.cargo("run"));
}

/// Cargo looks at no times below its home: however young a package's files are, what comes after its script has the
/// store's times, and nothing but the script's own files is copied.
#[test]
fn what_comes_after_a_script_is_shared() {
    let lab = lean_lab();
    let script = format!("{SCRIPT}    println!(\"cargo:rerun-if-changed=.\");\n");
    let (_, one) = built(&lab, &script, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    let seeding = run.events.iter().find(|event| event.kind == "seeding").expect("seeded");
    assert!(seeding.number("moved/copied_bytes") < 1000, "{run}");
    assert!(seeding.number("moved/linked_bytes") > 0, "{run}");
    for p in [&two, &one, &two] {
        assert_idle(&p.cargo("run"));
    }
}

#[test]
fn clippy_and_check_share_what_they_need() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "clippy");
    for args in ["clippy", "check", "clippy --all-targets"] {
        let two = one.checkout("two");
        let run = two.cargo(args).same();
        assert_eq!(seeded(&run), (4, 1), "{args}: {run}");
        assert_fresh(&run);
        assert_idle(&two.cargo(args));
        lab.remove(&two);
    }
}

#[test]
fn features_on_and_off() {
    let lab = lean_lab();
    let lib = "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\n\
        pub fn low() -> String { format!(\"{FLAVOUR} {}\", cfg!(feature = \"loud\")) }\n";
    let (upstream, one) = built(&lab, SCRIPT, lib, "run");
    let loud = one.checkout("loud");
    let url = upstream.project.dir().display();
    let low = format!("[dependencies]\nlow = {{ git = \"file://{url}\", features = [\"loud\"] }}\n");
    loud.edit("Cargo.toml", "[dependencies]\n", &low);
    fetch(&loud);
    let run = recorded(&loud.cargo("run"));
    assert!(run.stdout.contains("plain true"), "{run}");
    recorded(&loud.cargo("build --release"));
    let quiet = one.checkout("quiet");
    let run = quiet.cargo("run").same();
    assert!(run.stdout.contains("plain false"), "{run}");
    assert_fresh(&run);
    let again = loud.checkout("again");
    let run = again.cargo("run --release").same();
    assert!(run.stdout.contains("plain true"), "{run}");
    assert_fresh(&run);
    for p in [&quiet, &loud] {
        assert_idle(&p.cargo("run"));
    }
    assert_idle(&again.cargo("run --release"));
}

/// Another build of the same compiler, which says the same about itself, at another place.
#[test]
fn a_switch_of_toolchains_and_back() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let other = toolchain_copy(&lab, "other", "another build").join("bin/rustc");
    let two = one.checkout("two");
    let run = recorded(&two.cargo("run").env("RUSTC", &other));
    assert_eq!(seeded(&run), (0, 0), "{run}");
    run.not_hit("top");
    recorded(&two.cargo("check").env("RUSTC", &other));
    let three = one.checkout("three");
    let run = three.cargo("check").env("RUSTC", &other).same();
    assert_eq!(seeded(&run).1, 1, "{run}");
    assert_fresh(&run);
    let run = one.checkout("four").cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_idle(&two.cargo("run").env("RUSTC", &other));
    assert_idle(&one.cargo("run"));
}

/// Runs a shell script in a mount name space of its own; `$0` is Cargo.
fn mounted(lab: &Lab, dir: &std::path::Path, script: &str) -> String {
    let mut command = lab.command("unshare");
    command.args(["-rm", "/bin/sh", "-c", script]).arg(&toolchain().cargo);
    command.env("RUSTC_WRAPPER", lab.wrapper()).current_dir(dir);
    let output = command.output().expect("start unshare");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The target directory is full while it is seeded; as soon as there is room, the build goes on.
#[test]
fn a_full_disk_under_the_target_directory() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    fs::create_dir(two.target()).expect("make a directory");
    for size in ["16k", "100k", "400k", "1m", "3m"] {
        let script = format!(
            "set -e; mount -t tmpfs -o size={size} none target; \"$0\" build -q 2>/dev/null || true; \
             mount -o remount,size=500m target; \"$0\" run -q; \"$0\" run -q; umount target"
        );
        assert_eq!(mounted(&lab, two.dir(), &script), "plain 42 1\nplain 42 1\n", "{size}");
    }
}

/// A store that can't be written still seeds.
#[test]
fn a_store_that_is_read_only() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    let cache = lab.cache_dir().display();
    let script = format!(
        "set -e; mount --bind {cache} {cache}; mount -o remount,ro,bind {cache}; \"$0\" run -q; \"$0\" run -q; umount {cache}"
    );
    assert_eq!(mounted(&lab, two.dir(), &script), "plain 42 1\nplain 42 1\n");
    assert!(lab.layout().fingerprints(&two.target().join("debug")).len() >= 5);
    assert_idle(&two.cargo("run"));
}

/// One package goes to another version, the others stay.
#[test]
fn one_of_two_repositories_is_updated() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let other = lab.project(
        "other",
        &[
            ("Cargo.toml", "[package]\nname = \"solo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"),
            ("src/lib.rs", "pub fn solo() -> u32 { 1 }\n"),
        ],
    );
    let git = |args: &[&str]| lab.git(other.dir(), args);
    git(&["init", "-q", "-b", "main"]);
    git(&["add", "-A"]);
    git(&["commit", "-q", "-m", "state"]);
    let solo = format!("[dependencies]\nsolo = {{ git = \"file://{}\" }}\n", other.dir().display());
    one.edit("Cargo.toml", "[dependencies]\n", &solo);
    one.edit("src/main.rs", "beside::one()", "beside::one() + solo::solo()");
    fetch(&one);
    recorded(&one.cargo("run"));
    other.edit("src/lib.rs", "1 }", "5 }");
    git(&["commit", "-qam", "next"]);
    let two = one.checkout("two");
    two.cargo("update -p solo").plain().env("CARGO_NET_OFFLINE", "false").ok();
    fetch(&two);
    let run = two.cargo("run").same();
    assert!(run.stdout.contains("42 6"), "{run}");
    // A package that the lockfile has no more is no part of what was asked for.
    assert_eq!((seeded(&run), left_out(&run, "not-in-lockfile")), ((4, 1), 0), "{run}");
    assert_fresh(&run);
    assert_idle(&two.cargo("run"));
}

/// Copies are made for the profile that is built.
#[test]
fn copies_are_made_for_the_profile_that_is_built() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    let noise: Vec<u8> = (0..17u32 << 18).flat_map(|i| i.wrapping_mul(2654435761).to_le_bytes()).collect();\n    \
         std::fs::write(out.join(\"noise.bin\"), noise).unwrap();\n"
    );
    let (_, one) = built(&lab, &script, LIB, "build");
    recorded(&one.cargo("build --release"));
    for (args, profile) in [("build", "debug"), ("build --release", "release")] {
        let two = one.checkout("two");
        let run = two.cargo(args).same();
        let found = two.outputs(|name| name == "noise.bin");
        assert!(found.len() == 1 && found[0].starts_with(two.target().join(profile)), "{found:?}");
        assert_eq!((seeded(&run), left_out(&run, "refused")), ((4, 1), 0), "{run}");
        assert_fresh(&run);
        lab.remove(&two);
    }
}
