//! What linkers make: programs, tests, benchmarks, examples, libraries for other languages, proc macros, build scripts.
//! Each kind is served, runs at once, and belongs to its worktree alone; scripts that a linker follows are its inputs.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kache_testkit::{Project, Sandbox};

use crate::fixtures::{ALL_KINDS, user_world};
use crate::support::{Outcomes, lean_lab};

/// A package with every kind of linked output, and one with a dynamic library of Rust's own.
pub fn every_kind<'s>(sandbox: &'s Sandbox, name: &str) -> Project<'s> {
    let print = "fn main() {\n    println!(\"NAME {}\", kinds::value());\n}\n";
    let program = |name: &str| print.replace("NAME", name);
    sandbox.project(
        name,
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"kinds\", \"dyn\"]\n"),
            (
                "kinds/Cargo.toml",
                "[package]\nname = \"kinds\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [lib]\ncrate-type = [\"rlib\", \"cdylib\", \"staticlib\"]\n\
                 [[bench]]\nname = \"speed\"\nharness = false\n",
            ),
            ("kinds/build.rs", "fn main() {\n    println!(\"cargo:rerun-if-changed=build.rs\");\n}\n"),
            (
                "kinds/src/lib.rs",
                "#[unsafe(no_mangle)]\npub extern \"C\" fn value() -> i32 {\n    7\n}\n\
                 #[test]\nfn seven() {\n    assert_eq!(value(), 7);\n}\n",
            ),
            ("kinds/src/main.rs", &program("program")),
            ("kinds/benches/speed.rs", &program("benchmark")),
            ("kinds/examples/sample.rs", &program("example")),
            ("kinds/tests/it.rs", "#[test]\nfn it() {\n    assert_eq!(kinds::value(), 7);\n}\n"),
            (
                "dyn/Cargo.toml",
                "[package]\nname = \"dyn\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [lib]\nname = \"dynlib\"\ncrate-type = [\"dylib\"]\n",
            ),
            ("dyn/src/lib.rs", "pub fn value() -> i32 {\n    8\n}\n"),
        ],
    )
}

/// A crate type that the target doesn't have is left out by the compiler, so that no linker runs.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn a_library_whose_linked_form_is_left_out() {
    let lab = lean_lab();
    let p = every_kind(&lab, "one");
    let build = |p: &Project<'_>| {
        p.cargo("build -p kinds --lib --target x86_64-unknown-linux-gnu")
            .env("RUSTFLAGS", "-Ctarget-feature=+crt-static")
            .same()
    };
    let first = build(&p);
    first.outcome("kinds", "miss");
    assert!(first.of("kinds").iter().all(|event| event.not_stored.is_empty()), "{first}");
    let libraries = p.compiled(|_| true);
    let with = |end: &str| libraries.iter().filter(|path| path.to_string_lossy().ends_with(end)).count();
    assert_eq!((with(".a"), with(".rlib"), with(".so")), (1, 1, 0), "{libraries:?}");
    build(&p.checkout("two")).outcome("kinds", "hit");
}

/// Linked outputs that may be changed in place: everything executable and every library for other languages, but not
/// what only Cargo and the compiler use.
fn users_own(p: &Project<'_>) -> Vec<PathBuf> {
    let is_one = |name: &str| {
        let is_program = !name.contains('.') && !name.starts_with("build");
        is_program || name.ends_with(".a") || name.ends_with(".so")
    };
    let is_uplifted = |path: &PathBuf| {
        let dir = path.parent().and_then(Path::file_name).unwrap_or_default();
        dir == "examples" || dir == "debug"
    };
    let mut found: Vec<PathBuf> = p.outputs(is_one).into_iter().filter(is_uplifted).collect();
    found.extend(p.compiled(is_one));
    found.retain(|path| is_linked(path));
    found
}

/// An ELF file or an archive: no lock or mark of Cargo's.
fn is_linked(path: &Path) -> bool {
    let bytes = fs::read(path).unwrap_or_default();
    bytes.starts_with(b"\x7fELF") || bytes.starts_with(b"!<arch>")
}

fn names(files: &[PathBuf]) -> BTreeSet<String> {
    let stem = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    files.iter().map(|path| stem(path).split('-').next().unwrap_or_default().to_owned()).collect()
}

/// Every kind is served in a second worktree with the bytes of the first one's compile, runs there at once, and shares
/// its inode with nothing but its other name.
#[test]
fn every_kind_is_served_and_private() {
    let lab = lean_lab();
    let one = every_kind(&lab, "one");
    one.cargo("build --workspace --all-targets").same();
    let two = one.checkout("two");
    two.cargo("build --workspace --all-targets").same().all_hit();
    two.nothing_to_do("build --workspace --all-targets");
    let found = users_own(&two);
    let expected = ["dynlib", "it", "kinds", "libdynlib.so", "libkinds.a", "libkinds.so", "sample", "speed"];
    assert_eq!(names(&found).iter().map(String::as_str).collect::<Vec<_>>(), expected);
    let blobs: Vec<u64> = lab.blobs().iter().map(|blob| inode(blob)).collect();
    for file in &found {
        assert!(!blobs.contains(&inode(file)), "{} is the store's own file", file.display());
        let first = one.target().join(file.strip_prefix(two.target()).expect("below target"));
        assert!(fs::read(file).expect("read") == fs::read(&first).expect("read"), "{}", file.display());
    }
    for args in [
        "run -q -p kinds",
        "run -q -p kinds --example sample",
        "bench -q -p kinds --bench speed",
        "test -q --workspace",
    ] {
        two.cargo(args).same();
    }
}

/// A dynamic library of Rust's own, and a program that needs it to run.
#[test]
fn dynamic_library_and_its_program() {
    let lab = lean_lab();
    let one = user_world(&lab, "one", "pub fn value() -> u32 { 1 }\n");
    one.write("user/Cargo.toml", format!("{}[lib]\ncrate-type = [\"dylib\"]\n", one.read("user/Cargo.toml")));
    let run = |p: &Project<'_>| p.cargo("run").rustflags("-C prefer-dynamic").same();
    run(&one);
    let two = one.checkout("two");
    run(&two).all_hit();
    for (old, new) in [("{ 1", "{ 2"), ("{ 2", "{ 1")] {
        two.edit("user/src/lib.rs", old, new);
        two.cargo("build -p user").rustflags("-C prefer-dynamic").ok();
        run(&two);
        two.cargo("build").rustflags("-C prefer-dynamic").nothing_to_do();
    }
    one.cargo("build").rustflags("-C prefer-dynamic").nothing_to_do();
}

/// Tools that change linked outputs in place reach neither the store nor another worktree.
#[test]
fn changes_in_place_stay_in_their_worktree() {
    let lab = lean_lab();
    let one = every_kind(&lab, "one");
    one.cargo("build --workspace --all-targets").same();
    let two = one.checkout("two");
    two.cargo("build --workspace --all-targets").same();
    let before = one.artifacts();
    for file in users_own(&two) {
        let is_program = Command::new("strip").arg(&file).status().is_ok_and(|status| status.success());
        assert!(is_program, "strip {}", file.display());
        // As patchelf does: the same inode gets other bytes.
        let mut open = fs::File::options().write(true).open(&file).expect("open an output");
        open.seek(std::io::SeekFrom::End(-1)).expect("seek in an output");
        open.write_all(b"!").expect("write to an output");
    }
    one.artifacts().assert_same(&before, |_| false);
    lab.assert_doctor_is_content();
    let three = one.checkout("three");
    three.cargo("build --workspace --all-targets").same().all_hit();
    three.artifacts().assert_same(&before, |name| name.ends_with(".d"));
    one.nothing_to_do("build --workspace --all-targets");
}

/// Every file under a `build` or `deps` directory that can be run or linked gets other permissions in two worktrees: what
/// comes later gets the permissions that a compiler gives, and with that the neighbours' scripts run again.
#[test]
fn permissions_are_put_back() {
    use std::os::unix::fs::PermissionsExt;
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("build").same();
    let (two, three, four) = (one.checkout("two"), one.checkout("three"), one.checkout("four"));
    for p in [&two, &three] {
        p.cargo("build").ok().all_hit().shared();
    }
    let modes = |p: &Project<'_>| -> Vec<(String, u32)> {
        let files = p.compiled(|name| !name.ends_with(".d"));
        let mode = |path: &PathBuf| fs::metadata(path).expect("there").permissions().mode() & 0o777;
        files.iter().map(|f| (f.file_name().expect("a name").display().to_string(), mode(f))).collect()
    };
    let expected = modes(&one);
    for (p, mode) in [(&one, 0o600), (&two, 0o444)] {
        for file in p.compiled(|_| true) {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }
    four.cargo("run").same().all_hit();
    assert_eq!(modes(&four), expected);
    four.nothing_to_do("build");
    three.edit("gen/number.txt", "7", "9");
    three.cargo("run").same();
    three.edit("gen/number.txt", "9", "7");
    for p in [&one, &two] {
        p.wipe();
        p.cargo("run").same().all_hit();
        p.nothing_to_do("build");
    }
}

fn inode(path: &Path) -> u64 {
    fs::metadata(path).unwrap_or_else(|e| panic!("look at {}: {e}", path.display())).ino()
}

/// Runs, changes a file that only the linker reads, runs from nothing, and back.
fn linkers_file_changes(p: &Project<'_>, flags: &str, change: impl Fn(&str)) {
    for content in ["1", "2", "1"] {
        change(content);
        p.wipe();
        p.cargo("run").rustflags(flags).same();
    }
    p.wipe();
    p.cargo("run").rustflags(flags).same().all_hit();
}

/// A linker script that a link argument names.
#[test]
fn linker_script_named_in_an_argument() {
    let lab = lean_lab();
    let lib = "unsafe extern \"C\" {\n    static answer: u8;\n}\npub fn value() -> usize {\n    (&raw const answer).addr()\n}\n";
    let p = user_world(&lab, "w", lib);
    p.edit("user/Cargo.toml", "2021", "2024");
    let script = lab.root().join("answer.ld");
    // The script is an argument of the program's link alone: a build script or macro has no use for it.
    let flags = format!("-C relocation-model=static -C link-arg={}", script.display());
    linkers_file_changes(&p, &flags, |number| {
        fs::write(&script, format!("answer = 0x100{number};\n")).expect("write a linker script");
    });
}

/// A linker script in a library's place: it leads to an archive that no argument names.
#[test]
fn linker_script_in_a_librarys_place() {
    let lab = lean_lab();
    let lib = "unsafe extern \"C\" {\n    safe fn foo() -> i32;\n}\npub fn value() -> i32 {\n    foo()\n}\n";
    let p = user_world(&lab, "w", lib);
    p.edit("user/Cargo.toml", "2021", "2024");
    let dir = lab.root().join("native");
    fs::create_dir(&dir).expect("make a directory");
    fs::write(dir.join("libfoo.so"), "INPUT ( libreal.a )\n").expect("write a linker script");
    let flags = format!("-L native={} -l dylib=foo", dir.display());
    linkers_file_changes(&p, &flags, |number| {
        fs::write(dir.join("foo.c"), format!("int foo(void) {{ return {number}; }}\n")).expect("write C");
        let script = "rm -f libreal.a && cc -c -fPIC foo.c && ar rcs libreal.a foo.o";
        let status = lab.command("/bin/sh").args(["-ec", script]).current_dir(&dir).status();
        assert!(status.expect("start a shell").success());
    });
}
