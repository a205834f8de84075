//! Which compiler it was: updates behind an unchanged path, rebuilt compilers with the same version text, other
//! sysroots, drivers in the middle, wrappers around wrappers.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kache_testkit::{Project, toolchain, walk};

use crate::fixtures::{PAIR, user_world};
use crate::support::{Lab, Outcomes, lean_lab};

/// A copy of the toolchain at `name`: small files copied, libraries linked symbolically, but the driver library,
/// which is copied and gets `tail` appended, as another build of the same version would differ.
pub fn toolchain_copy(lab: &Lab, name: &str, tail: &str) -> PathBuf {
    let (from, to) = (&toolchain().sysroot, lab.root().join(name));
    fs::create_dir_all(to.join("bin")).expect("make a toolchain");
    fs::create_dir_all(to.join("lib")).expect("make a toolchain");
    for program in ["rustc", "rustdoc"] {
        fs::copy(from.join("bin").join(program), to.join("bin").join(program)).expect("copy a program");
    }
    for entry in fs::read_dir(from.join("lib")).expect("list the sysroot").flatten() {
        let target = to.join("lib").join(entry.file_name());
        if entry.file_name().to_string_lossy().starts_with("librustc_driver") {
            fs::copy(entry.path(), &target).expect("copy the driver");
            append(&target, tail);
        } else {
            symlink(entry.path(), &target).expect("link a library");
        }
    }
    to
}

fn append(file: &Path, tail: &str) {
    use std::io::Write;
    let mut file = fs::File::options().append(true).open(file).expect("open the driver");
    file.write_all(tail.as_bytes()).expect("change the driver");
}

/// A16, A17, R19: the compiler is replaced behind its path (a link, as rustup's or a version manager's) by another
/// build with the very same version text; then it is rebuilt in place.
#[test]
fn a17_compiler_rebuilt_with_the_same_version() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let (first, second) =
        (toolchain_copy(&lab, "first", ""), toolchain_copy(&lab, "second", "another build"));
    let current = lab.root().join("current");
    let build = |p: &Project<'_>| {
        p.wipe();
        p.cargo("build").env("RUSTC", current.join("bin/rustc")).ok()
    };
    symlink(&first, &current).expect("make a link");
    build(&p).not_hit("dep");
    build(&p).all_hit();
    fs::remove_file(&current).expect("remove the link");
    symlink(&second, &current).expect("make a link");
    build(&p).not_hit("dep");
    build(&p).all_hit();
    let driver =
        walk(&second.join("lib")).into_iter().find(|f| f.display().to_string().contains("librustc_driver"));
    append(&driver.expect("a driver"), "rebuilt in place");
    build(&p).not_hit("dep");
    fs::remove_file(&current).expect("remove the link");
    symlink(&first, &current).expect("make a link");
    build(&p).all_hit();
}

/// C13: the same toolchain at another path, by its bare name on `PATH`, by `RUSTC`: one compiler.
#[test]
fn c13_same_compiler_by_other_names() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("build").same();
    p.wipe();
    p.cargo("build").env("RUSTC", "rustc").same().all_hit();
    p.wipe();
    p.cargo("build").env("RUSTC", &toolchain().rustc).same().all_hit();
    p.wipe();
    let linked = lab.root().join("linked");
    symlink(&toolchain().sysroot, &linked).expect("make a link");
    p.cargo("build").env("RUSTC", linked.join("bin/rustc")).same();
}

/// A18: `--sysroot` decides which standard library is used; one without any is an error, not a hit.
#[test]
fn a18_sysroot_without_a_standard_library() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let target = format!("lib/rustlib/{}", toolchain().host);
    let sysroot = lab.root().join("sysroot");
    let flags = format!("--sysroot={}", sysroot.display());
    fs::create_dir_all(sysroot.join(&target)).expect("make a sysroot");
    let std = sysroot.join(&target).join("lib");
    symlink(toolchain().sysroot.join(&target).join("lib"), &std).expect("link the standard library");
    p.cargo("check").rustflags(&flags).same();
    fs::remove_file(&std).expect("remove the standard library");
    fs::create_dir(&std).expect("make an empty directory");
    p.wipe();
    p.cargo("check").rustflags(&flags).same_failure();
}

/// A40: a flag that nobody has thought of makes the unit pass through, and nothing else happens.
#[test]
fn a40_unknown_flags_pass_through() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let p = lab.project("w", PAIR);
    for _ in 0..2 {
        p.wipe();
        let run = p.cargo("rustc -p dep -- -Z no-such-flag-in-any-table=1").same_failure();
        assert_eq!(run.tally().hits, 0, "{run}");
        let run = p.cargo("rustc -p dep -- -Z human-readable-cgu-names=yes").same();
        run.outcome("dep", "passthrough");
    }
}

/// A42: a target described by a file; its content counts, not its path.
#[test]
fn a42_target_description() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let p = lab.project(
        "w",
        &[
            ("Cargo.toml", "[package]\nname = \"bare\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            (
                "src/lib.rs",
                "#![feature(no_core, lang_items)]\n#![no_core]\n#![allow(internal_features)]\n\
             #[lang = \"pointee_sized\"]\npub trait PointeeSized {}\n\
             #[lang = \"meta_sized\"]\npub trait MetaSized: PointeeSized {}\n\
             #[lang = \"sized\"]\npub trait Sized: MetaSized {}\n\
             #[cfg(target_vendor = \"other\")]\ncompile_error!(\"other vendor\");\n",
            ),
        ],
    );
    let spec = |vendor: &str| {
        format!(
            "{{\"llvm-target\": \"x86_64-unknown-none-elf\", \"arch\": \"x86_64\", \"os\": \"none\", \
             \"target-pointer-width\": 64, \"vendor\": \"{vendor}\", \"linker-flavor\": \"gnu-lld\", \"linker\": \"rust-lld\", \
             \"data-layout\": \"e-m:e-p270:32:32-p271:32:32-p272:64:64-i64:64-i128:128-f80:128-n8:16:32:64-S128\", \
             \"panic-strategy\": \"abort\"}}\n"
        )
    };
    p.write("t.json", spec("one"));
    p.cargo("build -Zjson-target-spec --target t.json").same();
    p.wipe();
    p.cargo("build -Zjson-target-spec --target t.json").same();
    p.write("t.json", spec("other"));
    p.wipe();
    p.cargo("build -Zjson-target-spec --target t.json").same_failure();
}

/// A43: the content of a profile counts, not its path.
#[test]
fn a43_profile_data() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let flag = format!("-Cprofile-use={}", lab.root().join("p.profdata").display());
    let cargo = p.cargo("rustc -p dep --").arg(&flag);
    cargo.same_failure();
    for content in ["no profile", "no profile either"] {
        lab.write("p.profdata", content);
        for _ in 0..2 {
            p.wipe();
            cargo.same_outcome();
        }
    }
    fs::remove_file(lab.root().join("p.profdata")).expect("remove the profile");
    p.wipe();
    cargo.same_failure();
}

/// B16: a workspace wrapper that nobody knows: its work is passed through, what it changes is kept apart.
#[test]
fn b16_unknown_workspace_wrapper() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> bool { cfg!(driven) }\n");
    let driver =
        lab.write_program("mydriver", "#!/bin/sh\nrustc=$1; shift\nexec \"$rustc\" \"$@\" --cfg driven\n");
    p.cargo("run").same();
    for _ in 0..2 {
        p.wipe();
        let run = p.cargo("run").env("RUSTC_WORKSPACE_WRAPPER", &driver).same();
        assert_eq!(run.stdout, "true\n");
        assert_eq!(run.tally().hits, 0, "{run}");
        p.wipe();
        p.cargo("run").same().all_hit();
    }
}

/// B30: kache named twice, by the environment and by the config, and around itself.
#[test]
fn b30_kache_around_kache() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.write(".cargo/config.toml", "[build]\nrustc-wrapper = \"/nonexistent/wrapper\"\n");
    p.cargo("run").ok();
    p.remove(".cargo/config.toml");
    p.wipe();
    let run = p.cargo("run").env("RUSTC_WORKSPACE_WRAPPER", lab.wrapper()).ok();
    assert_eq!(run.stdout, "1\n");
    p.wipe();
    p.cargo("run").env("RUSTC_WRAPPER", "").ok();
    p.cargo("run").same();
}

/// A53: what a compiler in debug mode says is not shown to the next build.
#[test]
fn a53_compiler_log_is_not_replayed() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("check").env("RUSTC_LOG", "info").ok();
    p.wipe();
    p.cargo("check").same();
}
