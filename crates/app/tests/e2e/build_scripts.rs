//! Build scripts: their programs come from the cache, their runs never do; compile probes that they make.

use kache_testkit::Project;

use crate::fixtures::{c_build_script, user_world};
use crate::support::{Outcomes, lab, lean_lab};

/// `user` with a build script that writes `g.rs` made of `expression`; `value()` returns it.
fn generated<'s>(lab: &'s crate::support::Lab, prints: &str, expression: &str) -> Project<'s> {
    let p = user_world(
        lab,
        "one",
        "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\npub fn value() -> &'static str { G }\n",
    );
    p.write(
        "user/build.rs",
        format!(
            r#"fn main() {{
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    let text: String = {expression};
    std::fs::write(out.join("g.rs"), format!("pub const G: &str = {{text:?}};\n")).unwrap();
    {prints}
}}
"#
        ),
    );
    p
}

/// A29: a tool that the script runs without declaring it changes; a clean build notices.
#[test]
fn a29_undeclared_tool_changes() {
    let lab = lean_lab();
    let tool = lab.write_program("tool", "#!/bin/sh\necho one\n");
    let expression = format!(
        "String::from_utf8(std::process::Command::new({:?}).output().unwrap().stdout).unwrap()",
        tool.to_str().expect("UTF-8")
    );
    let p = generated(&lab, "println!(\"cargo:rerun-if-changed=build.rs\");", &expression);
    p.cargo("run").same();
    lab.write_program("tool", "#!/bin/sh\necho two\n");
    p.wipe();
    p.cargo("run").same();
}

/// A30, C16: the script's result depends on a file's modification time.
#[test]
fn a30_script_looks_at_modification_times() {
    let lab = lean_lab();
    let expression = "format!(\"{:?}\", std::fs::metadata(\"x\").unwrap().modified().unwrap())";
    let p = generated(&lab, "println!(\"cargo:rerun-if-changed=x\");", expression);
    p.write("user/x", "");
    p.cargo("run").same();
    p.touch("user/x");
    p.wipe();
    p.cargo("run").same();
}

/// A31: a script that asks to be run every time is run every time, and what depends on it follows.
#[test]
fn a31_script_that_always_runs() {
    let lab = lean_lab();
    let expression = "std::fs::read_to_string(std::env::var(\"COUNTED\").unwrap()).unwrap()";
    let p = generated(&lab, "println!(\"cargo:rerun-if-changed=never-there\");", expression);
    lab.set_env("COUNTED", lab.write("counted", "1"));
    p.cargo("run").same();
    for count in ["2", "3", "2"] {
        lab.write("counted", count);
        p.cargo("run").same();
    }
}

/// A32: the script writes its own `OUT_DIR` and search paths into what the compiler reads; two checkouts.
#[test]
fn a32_script_writes_down_local_paths() {
    let lab = lab();
    let one = generated(
        &lab,
        "println!(\"cargo:rustc-env=PLACE={}\", out.display());",
        "out.display().to_string()",
    );
    one.edit("user/src/lib.rs", "{ G }", "{ assert_eq!(G, env!(\"PLACE\")); G }");
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same();
    one.wipe();
    one.cargo("run").same();
    two.nothing_to_do("build");
}

/// A33: metadata of a `links` package names a directory; what lies in it changes while the text stays.
#[test]
fn a33_links_metadata() {
    let lab = lean_lab();
    let root = lab.write("shared/value.txt", "1").parent().expect("a parent").to_path_buf();
    let p = generated(
        &lab,
        "println!(\"cargo:rerun-if-changed=build.rs\");",
        "std::fs::read_to_string(format!(\"{}/value.txt\", std::env::var(\"DEP_THING_ROOT\").unwrap())).unwrap()",
    );
    p.write(
        "sys/Cargo.toml",
        "[package]\nname = \"sys\"\nversion = \"0.1.0\"\nedition = \"2021\"\nlinks = \"thing\"\n",
    );
    p.write("sys/src/lib.rs", "");
    p.write(
        "sys/build.rs",
        format!(
            "fn main() {{ println!(\"cargo:root={}\"); println!(\"cargo:rerun-if-changed=build.rs\"); }}\n",
            root.display()
        ),
    );
    p.edit("Cargo.toml", "\"user\"", "\"sys\", \"user\"");
    p.edit(
        "user/Cargo.toml",
        "edition = \"2021\"\n",
        "edition = \"2021\"\n[dependencies]\nsys = { path = \"../sys\" }\n",
    );
    for value in ["1", "2", "1"] {
        lab.write("shared/value.txt", value);
        p.wipe();
        p.cargo("run").same();
    }
}

/// B18, R13: a build script compiles probes from standard input through the wrapper: success, then failure, cold and
/// warm, with nothing reused in between.
#[test]
fn b18_compile_probes() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> &'static str { env!(\"PROBED\") }\n");
    p.write("user/build.rs", r##"use std::io::Write;
use std::process::{Command, Stdio};
fn probe(source: &str) -> bool {
    let (out, rustc) = (std::env::var("OUT_DIR").unwrap(), std::env::var("RUSTC").unwrap());
    let mut command = match std::env::var("RUSTC_WRAPPER") {
        Ok(wrapper) if !wrapper.is_empty() => { let mut c = Command::new(wrapper); c.arg(rustc); c }
        _ => Command::new(rustc),
    };
    let mut child = command
        .args(["--crate-name", "probe0", "--crate-type", "lib", "--emit", "metadata", "--out-dir", &out, "-"])
        .stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let ok = child.wait().unwrap().success();
    ok && std::fs::remove_file(format!("{out}/libprobe0.rmeta")).is_ok()
}
fn main() {
    let all: Vec<bool> = ["pub fn ok() {}", "pub fn bad( {", "pub fn ok() {}", "#![feature(no_such_feature)]"].map(probe).into();
    println!("cargo:rustc-env=PROBED={all:?}");
}
"##);
    for _ in 0..3 {
        let run = p.cargo("run").same();
        assert_eq!(run.stdout, "\"[true, false, true, false]\"\n");
        assert!(run.of("probe0").iter().all(|e| e.outcome == "passthrough"), "{run}");
        p.wipe();
    }
}

/// A build script that reads its environment: every variable that Cargo sets arrives, and its program comes from the
/// cache.
#[test]
fn script_programs_are_served_and_run() {
    let lab = lab();
    let one = generated(
        &lab,
        "println!(\"cargo:rerun-if-env-changed=KNOB\");",
        "format!(\"{} {:?}\", std::env::var(\"CARGO_PKG_NAME\").unwrap(), std::env::var(\"KNOB\").ok())",
    );
    one.cargo("run").same();
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    run.all_hit();
    run.outcome("build_script_build", "hit");
    lab.set_env("KNOB", "1");
    two.cargo("run").same().not_hit("user");
    two.nothing_to_do("build");
}

/// B26: every `-sys` crate lengthens the library search path that Cargo passes; nothing is lost on the way.
#[test]
fn library_search_path_reaches_macros_and_programs() {
    let lab = lean_lab();
    let p = user_world(
        &lab,
        "w",
        "unsafe extern \"C\" { safe fn foo() -> i32; }\npub fn value() -> i32 { foo() }\n",
    );
    p.edit("user/Cargo.toml", "2021", "2024");
    p.write("user/foo.c", "int foo(void) { return 1; }\n");
    p.write("user/build.rs", c_build_script(
        "assert!(Command::new(\"cc\").args([\"-shared\", &format!(\"{out}/foo.o\"), \"-o\", &format!(\"{out}/libbar.so\")])\
         .status().unwrap().success()); println!(\"cargo:rustc-link-lib=dylib=bar\");"
    ));
    for _ in 0..2 {
        p.cargo("run").same();
        p.wipe();
    }
}
