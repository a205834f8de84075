//! Native code: archives that are bundled into libraries and linked into programs, objects and scripts named in
//! link arguments, the linker itself. None of it shows in dep-info, and little of it in the arguments.

use kache_testkit::{Project, Sandbox};

use crate::fixtures::{c_build_script, user_world};
use crate::support::Build::{Fails, Works};
use crate::support::{Outcomes, lab, lean_lab};

const STATIC_FOO: &str = "println!(\"cargo:rustc-link-lib=static=foo\");";
const CALLS_FOO: &str = "unsafe extern \"C\" { safe fn foo() -> i32; }\npub fn value() -> i32 { foo() }\n";

/// `a` (its build script compiles `foo.c`), `b` (on `a`), `app` (on `b`).
fn nat<'s>(sandbox: &'s Sandbox, directives: &str, a: &str, app_extra: &str) -> Project<'s> {
    let package = |name: &str, dep: &str, extra: &str| {
        let dep = if dep.is_empty() { String::new() } else { format!("{dep} = {{ path = \"../{dep}\" }}\n") };
        format!(
            "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n{dep}{extra}"
        )
    };
    sandbox.project(
        "w",
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"a\", \"b\", \"app\"]\n"),
            ("a/Cargo.toml", &package("a", "", "")),
            ("a/build.rs", &c_build_script(directives)),
            ("a/foo.c", "int foo(void) { return 1; }\n"),
            ("a/src/lib.rs", a),
            ("b/Cargo.toml", &package("b", "a", "")),
            ("b/src/lib.rs", "pub fn value() -> i32 { a::value() }\n"),
            ("app/Cargo.toml", &package("app", "b", app_extra)),
            ("app/src/main.rs", "fn main() { println!(\"{}\", b::value()); }\n"),
        ],
    )
}

/// Runs, changes only the C code, runs in the same and in a clean target directory, changes it back.
fn c_code_changes(p: &Project<'_>, args: &str, observe: impl Fn(&Project<'_>)) {
    p.cargo(args).same();
    observe(p);
    p.edit("a/foo.c", "1", "2");
    p.cargo(args).same();
    observe(p);
    p.wipe();
    p.cargo(args).same();
    observe(p);
    p.edit("a/foo.c", "2", "1");
    p.wipe();
    p.cargo(args).same();
    observe(p);
    p.cargo("build").nothing_to_do();
}

/// A program's debug information names the directory in which a native archive was compiled, and that directory shares
/// parts of its name with those of the checkouts: neither is the program's own directory in it, nor is that a doubt.
#[test]
fn debug_information_with_another_directory() {
    let lab = lab();
    let one = nat(&lab, "println!(\"cargo:rustc-link-lib=static:-bundle=foo\");", CALLS_FOO, "");
    let map = "&format!(\"-fdebug-prefix-map={}=.\", std::env::current_dir().unwrap().display())";
    one.edit("a/build.rs", "\"-c\"", &format!("\"-g\", {map}, \"-c\""));
    let elsewhere = lab.root().join("elsewhere/with-the-same-long-end-of-a-name/w/foo.c");
    one.write("a/foo.c", format!("#line 1 \"{}\"\nint foo(void) {{ return 1; }}\n", elsewhere.display()));
    let left = one.checkout("left/with-the-same-long-end-of-a-name/w");
    left.cargo("run").same();
    let right = one.checkout("right/with-the-same-long-end-of-a-name/w");
    right.cargo("run").same().all_hit();
}

/// The debug information of C code names the directory of the first checkout, in the archive that its build script made and in
/// everything that is linked with it. The second checkout gets all of that; a program with that path in its data stays where it is.
#[test]
fn debug_information_of_c_code_binds_nothing_to_its_checkout() {
    for bundle in ["", ":-bundle"] {
        let lab = lab();
        let one =
            nat(&lab, &format!("println!(\"cargo:rustc-link-lib=static{bundle}=foo\");"), CALLS_FOO, "");
        one.edit("a/build.rs", "\"-c\"", "\"-g\", \"-c\"");
        one.cargo("run").same();
        let program = std::fs::read(one.target().join("debug/app")).expect("a program");
        let place = one.path("a").to_string_lossy().into_owned();
        assert!(program.windows(place.len()).any(|part| part == place.as_bytes()), "C names {place}");
        let two = one.checkout("another/place/two");
        two.cargo("run").same().all_hit().script("a", &["hit"]);
        two.nothing_to_do("build");
        one.write("a/foo.c", "const char *place = __FILE__;\nint foo(void) { return place[0] == '/'; }\n");
        one.cargo("run").same();
        let three = one.checkout("three");
        three.cargo("run").same().not_hit("app");
    }
}

/// A5, R2: an archive two crates down changes; metadata of the crate that bundles it does not.
#[test]
fn a5_archive_two_crates_down() {
    let lab = lean_lab();
    c_code_changes(&nat(&lab, STATIC_FOO, CALLS_FOO, ""), "run", |_| {});
}

/// A5: `-bundle` and `+whole-archive`.
#[test]
fn a5_archive_that_is_not_bundled() {
    let lab = lean_lab();
    let directives = "println!(\"cargo:rustc-link-lib=static:-bundle=foo\");";
    c_code_changes(&nat(&lab, directives, CALLS_FOO, ""), "run", |_| {});
}

/// A5: `+whole-archive`.
#[test]
fn a5_whole_archive() {
    let lab = lean_lab();
    let directives = "println!(\"cargo:rustc-link-lib=static:+whole-archive=foo\");";
    c_code_changes(&nat(&lab, directives, CALLS_FOO, ""), "run", |_| {});
}

/// A5: the final product is a library for other languages.
#[test]
fn a5_archive_reaches_cdylib_and_staticlib() {
    let lab = lean_lab();
    let p = nat(&lab, STATIC_FOO, CALLS_FOO, "[lib]\ncrate-type = [\"cdylib\", \"staticlib\"]\n");
    p.write(
        "app/src/lib.rs",
        "#[unsafe(no_mangle)]\npub extern \"C\" fn app_value() -> i32 { b::value() }\n",
    );
    lab.write(
        "main.c",
        "#include <stdio.h>\nint app_value(void);\nint main(void) { printf(\"%d\", app_value()); }\n",
    );
    let expected =
        |p: &Project<'_>| p.read("a/foo.c").chars().find(char::is_ascii_digit).expect("a digit").to_string();
    c_code_changes(&p, "build", |p| {
        for library in ["libapp.so", "libapp.a"] {
            let library = p.path("target/debug").join(library);
            let mut cc = lab.command("cc");
            let status =
                cc.args(["main.c", "-o", "main"]).arg(library).args(["-lpthread", "-ldl", "-lm"]).status();
            assert!(status.expect("start cc").success());
            let output = lab.command(lab.root().join("main")).output().expect("start main");
            assert_eq!(String::from_utf8_lossy(&output.stdout), expected(p));
        }
    });
}

/// A5: the search path comes from another package's build script.
#[test]
fn a5_archive_found_through_another_packages_search_path() {
    let lab = lean_lab();
    let p = nat(&lab, "", "", "");
    p.write("b/build.rs", "fn main() { println!(\"cargo:rustc-link-lib=static=foo\"); }\n");
    p.write("b/src/lib.rs", CALLS_FOO);
    c_code_changes(&p, "run", |_| {});
}

/// A6, R3: `#[link(kind = "static")]`; no flag names the archive.
#[test]
fn a6_archive_named_by_an_attribute() {
    let lab = lean_lab();
    let lib = CALLS_FOO.replace("unsafe extern", "#[link(name = \"foo\", kind = \"static\")]\nunsafe extern");
    c_code_changes(&nat(&lab, "", &lib, ""), "run", |_| {});
}

/// A24: an archive of the same name appears in a directory that is searched earlier.
#[test]
fn a24_archive_appears_in_an_earlier_directory() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", CALLS_FOO);
    let (early, late) = (lab.root().join("early"), lab.root().join("late"));
    let build_rs = "fn main() {\n    println!(\"cargo:rerun-if-changed=build.rs\");\n    \
                    println!(\"cargo:rustc-link-search=native=EARLY\");\n    \
                    println!(\"cargo:rustc-link-search=native=LATE\");\n    \
                    println!(\"cargo:rustc-link-lib=static=foo\");\n}\n";
    let build_rs = build_rs.replace("EARLY", early.to_str().expect("UTF-8"));
    p.write("user/build.rs", build_rs.replace("LATE", late.to_str().expect("UTF-8")));
    p.edit("user/Cargo.toml", "2021", "2024");
    archive(&lab, "late", "int foo(void) { return 1; }\n");
    std::fs::create_dir(&early).expect("make a directory");
    p.cargo("run").same();
    archive(&lab, "early", "int foo(void) { return 2; }\n");
    p.wipe();
    p.cargo("run").same();
    archive(&lab, "early", "int foo(void) { return 3; }\n");
    p.wipe();
    p.cargo("run").same();
    p.wipe();
    p.cargo("run").same().all_hit(); // C15: search directories outside every known root are no reason to miss
}

/// Compiles `source` to `DIR/libfoo.a`.
fn archive(sandbox: &Sandbox, dir: &str, source: &str) {
    sandbox.write(&format!("{dir}/foo.c"), source);
    let _ = std::fs::remove_file(sandbox.root().join(dir).join("libfoo.a"));
    sh(sandbox, &format!("cd {dir} && cc -c -fPIC foo.c && ar rcs libfoo.a foo.o"));
}

fn sh(sandbox: &Sandbox, script: &str) -> String {
    let output = sandbox.command("/bin/sh").args(["-ec", script]).output().expect("start a shell");
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A15: an object file that a link argument names.
#[test]
fn a15_object_named_in_a_link_argument() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", CALLS_FOO);
    p.edit("user/Cargo.toml", "2021", "2024");
    let object = lab.root().join("foo.o");
    p.write("app/build.rs", format!(
        "fn main() {{ println!(\"cargo:rustc-link-arg={}\"); println!(\"cargo:rerun-if-changed=build.rs\"); }}\n",
        object.display()
    ));
    for value in [1, 2, 1] {
        lab.write("foo.c", format!("int foo(void) {{ return {value}; }}\n"));
        sh(&lab, "cc -c -fPIC foo.c -o foo.o");
        p.wipe();
        p.cargo("run").same();
    }
}

/// A15: a version script decides what a library exports.
#[test]
fn a15_version_script() {
    let lab = lean_lab();
    let p = lab.project("w", &[
        (
            "Cargo.toml",
            "[package]\nname = \"lib\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[lib]\ncrate-type = [\"cdylib\"]\n",
        ),
        (
            "src/lib.rs",
            "#[unsafe(no_mangle)]\npub extern \"C\" fn one() {}\n#[unsafe(no_mangle)]\npub extern \"C\" fn two() {}\n",
        ),
        ("build.rs", "fn main() { println!(\"cargo:rustc-cdylib-link-arg=-Wl,--undefined-version,--version-script={}\", \
                      std::fs::canonicalize(\"v.map\").unwrap().display()); println!(\"cargo:rerun-if-changed=build.rs\"); }\n"),
    ]);
    for exported in ["one", "two", "one"] {
        p.write("v.map", format!("{{ global: {exported}; local: *; }};\n"));
        p.wipe();
        p.cargo("build").same();
        let cached = sh(&lab, "nm -D --defined-only w/target/debug/liblib.so | cut -d' ' -f3");
        p.wipe();
        p.cargo("build").plain().ok();
        assert_eq!(cached, sh(&lab, "nm -D --defined-only w/target/debug/liblib.so | cut -d' ' -f3"));
    }
}

/// A15: a shared library's soname goes into the program that is linked against it.
#[test]
fn a15_shared_librarys_soname() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", CALLS_FOO);
    p.edit("user/Cargo.toml", "2021", "2024");
    p.write("user/build.rs", format!(
        "fn main() {{ println!(\"cargo:rustc-link-search=native={}\"); println!(\"cargo:rustc-link-lib=dylib=foo\"); \
         println!(\"cargo:rerun-if-changed=build.rs\"); }}\n",
        lab.root().join("so").display()
    ));
    lab.write("so/foo.c", "int foo(void) { return 1; }\n");
    for version in [1, 2, 1] {
        sh(&lab, &format!("cd so && cc -shared -fPIC foo.c -Wl,-soname,libfoo.so.{version} -o libfoo.so"));
        p.wipe();
        p.cargo("build").same();
        let needed = sh(&lab, "readelf -d w/target/debug/app | grep NEEDED");
        assert!(needed.contains(&format!("libfoo.so.{version}")), "{needed}");
    }
}

/// A13: start-up objects and system libraries that the compiler driver finds by itself. A broken one breaks a clean
/// build, so it breaks a build with kache.
#[test]
fn a13_startup_objects_of_the_system() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    p.write("user/build.rs", "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }\n");
    sh(&lab, "mkdir crt && cp $(cc -print-file-name=Scrt1.o) crt/ && cp $(cc -print-file-name=crti.o) crt/");
    let flags = format!("-C link-arg=-B{}/", lab.root().join("crt").display());
    p.cargo("run").rustflags(&flags).same();
    lab.write("crt/crti.o", "not an object\n");
    p.wipe();
    p.cargo("run").rustflags(&flags).same_failure();
    sh(&lab, "cp $(cc -print-file-name=crti.o) crt/");
    p.wipe();
    p.cargo("run").rustflags(&flags).same();
}

/// A14: the linker that `-C linker=` names changes behind its path.
#[test]
fn a14_linker_changes_behind_its_path() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    p.write("app/build.rs", "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }\n");
    let linker = lab.root().join("mycc");
    let flags = format!("-C linker={}", linker.display());
    for (build, script) in [(Works, "exec cc \"$@\""), (Fails, "exit 1"), (Works, "exec cc \"$@\"")] {
        lab.write_program("mycc", format!("#!/bin/sh\n{script}\n"));
        p.wipe();
        build.check(&p.cargo("run").rustflags(&flags));
    }
}

/// A14: the linker behind the compiler driver changes: `ld` in a directory that the driver searches first.
#[test]
fn a14_linker_changes_behind_the_driver() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    let ld = sh(&lab, "cc -print-prog-name=ld");
    let flags = format!("-C linker-features=-lld -C link-arg=-B{}/", lab.root().join("bin").display());
    let good = format!("exec {} \"$@\"", ld.trim());
    for (build, script) in [(Works, good.as_str()), (Fails, "exit 1"), (Works, &good)] {
        lab.write_program("bin/ld", format!("#!/bin/sh\n{script}\n"));
        p.wipe();
        build.check(&p.cargo("run").rustflags(&flags));
    }
}

/// A14: another `cc` comes first on `PATH`.
#[test]
fn a14_linker_changes_on_path() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> u32 { 1 }\n");
    let cc = sh(&lab, "command -v cc");
    let path =
        |dir: &str| format!("{}:{}", lab.root().join(dir).display(), std::env::var("PATH").expect("PATH"));
    lab.write_program("good/cc", format!("#!/bin/sh\nexec {} \"$@\"\n", cc.trim()));
    lab.write_program("bad/cc", "#!/bin/sh\nexit 1\n");
    for (build, dir) in [(Works, "good"), (Fails, "bad"), (Works, "good")] {
        p.wipe();
        build.check(&p.cargo("run").env("PATH", path(dir)));
    }
}

/// A12: `target-cpu=native` is served again on this machine, and is not what any named processor is.
#[test]
fn a12_native_processor() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> bool { cfg!(target_feature = \"avx2\") }\n");
    for flags in
        ["-C target-cpu=native", "-C target-cpu=x86-64", "-C target-cpu=x86-64-v3 -C target-feature=-avx2"]
    {
        p.wipe();
        p.cargo("build").rustflags(flags).same();
        p.wipe();
        p.cargo("build").rustflags(flags).same().all_hit();
    }
}
