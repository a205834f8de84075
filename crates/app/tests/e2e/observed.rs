//! What a compile reads, wherever it lies and by whatever program: files of the system, programs, variables; and what it
//! does besides its outputs. Every case changes one thing and compares with a clean build without kache.

use std::fs;
use std::path::Path;

use kache_testkit::{Project, Sandbox};

use crate::fixtures::macro_world;
use crate::macros::Step;
use crate::support::{Outcomes, lab, lean_lab};

/// Makes the macro of `p` one that expands to the string that `body` makes. `here` is the package of the caller.
fn expanding_to(p: &Project<'_>, body: &str) {
    let source = format!(
        "#![allow(unused_imports)]\nuse std::{{env, fs, path::PathBuf, process::Command}};\n\
         #[proc_macro]\npub fn value(_: proc_macro::TokenStream) -> proc_macro::TokenStream {{\n    \
         let here = PathBuf::from(env::var_os(\"CARGO_MANIFEST_DIR\").unwrap());\n    let _ = &here;\n    \
         let text: String = {{ {body} }};\n    format!(\"{{text:?}}\").parse().unwrap()\n}}\n"
    );
    p.write("mac/src/lib.rs", source);
}

fn world<'s>(sandbox: &'s Sandbox, name: &str, body: &str) -> Project<'s> {
    let p = macro_world(sandbox, name, "mac::value!()");
    expanding_to(&p, body);
    p
}

/// Builds, takes each step with a wiped target directory after it, then expects that the last state is known.
fn changes(p: &Project<'_>, steps: &[Step<'_>]) {
    p.cargo("run").same();
    for step in steps {
        step(p);
        p.wipe();
        p.cargo("run").same().not_hit("user");
    }
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// Builds with each of the environments in turn, then again, when all are known.
fn environments(p: &Project<'_>, sets: &[&[(&str, &str)]]) {
    for round in 0..2 {
        for set in sets {
            p.wipe();
            let run = p.cargo("run").envs(set).same();
            if round == 1 {
                run.all_hit();
            } else {
                run.not_hit("user");
            }
        }
    }
}

/// A script that can be run, in place of a former one.
fn script(p: &Project<'_>, name: &str, text: &str) {
    p.write(name, text);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(p.path(name), mode).expect("make it executable");
}

const READ_DATA: &str = r#"fs::read_to_string(here.join("data.txt")).unwrap_or_default()"#;

/// A project or its target directory where distributions keep their own files.
#[test]
fn places_of_the_system_are_ordinary() {
    for (place, target) in [("/usr/src", false), ("/etc", false), ("/dev/shm", true)] {
        let Ok(dir) = tempfile::Builder::new().prefix("kt-").tempdir_in(place) else {
            assert!(std::env::var_os("CI").is_none(), "{place} can't be written to");
            continue;
        };
        let lab = lean_lab();
        let p = world(&lab, "w", READ_DATA);
        p.write("user/data.txt", "one");
        let p = if target {
            let target = dir.path().join("t");
            lab.set_env("CARGO_TARGET_DIR", &target);
            p.with_target(target)
        } else {
            let at = dir.path().join("app");
            copy(p.dir(), &at);
            Project::new(&lab, at)
        };
        changes(&p, &[&|p| p.write("user/data.txt", "two"), &|p| p.remove("user/data.txt")]);
        p.nothing_to_do("build");
    }
}

fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp").arg("-r").arg(from).arg(to).status();
    assert!(status.is_ok_and(|status| status.success()), "copy {} to {}", from.display(), to.display());
}

/// Files that other tools write below the target directory, also where words are as in Cargo's directories.
#[test]
fn files_of_others_below_the_target_directory() {
    for name in ["web/build/x", "debug/web/out/x", "x"] {
        let lab = lean_lab();
        let body = format!("fs::read_to_string(here.join(\"../target/{name}\")).unwrap_or_default()");
        let p = world(&lab, "w", &body);
        let write = |text: &str| {
            let path = p.target().join(name);
            fs::create_dir_all(path.parent().expect("below the target directory")).expect("make directories");
            fs::write(path, text).expect("write");
        };
        for text in ["one", "two"] {
            p.wipe();
            write(text);
            let run = p.cargo("run").ok();
            run.not_hit("user");
            assert!(run.results().contains(text), "{run}");
        }
        p.wipe();
        write("two");
        p.cargo("run").ok().all_hit();
    }
}

/// Programs that a macro runs: by path, the interpreter that runs them, and by `PATH`.
#[test]
fn programs_that_a_macro_runs() {
    let run = r#"String::from_utf8(Command::new(here.join("tool")).output().unwrap().stdout).unwrap()"#;
    let lab = lean_lab();
    let p = world(&lab, "w", run);
    let interpreter = p.path("user/interpreter");
    script(&p, "user/interpreter", "#!/bin/sh\necho one\n");
    script(&p, "user/tool", &format!("#!{}\n", interpreter.display()));
    changes(
        &p,
        &[&|p| script(p, "user/interpreter", "#!/bin/sh\necho two\n"), &|p| {
            script(p, "user/tool", "#!/bin/sh\necho three\n")
        }],
    );
}

/// The same through `PATH`: another program under the name, one in a directory before it, another order of directories.
#[test]
fn programs_that_are_found_on_path() {
    let run = r#"String::from_utf8(Command::new("kt-tool").output().unwrap().stdout).unwrap()"#;
    let lab = lean_lab();
    let p = world(&lab, "w", run);
    for (dir, text) in [("one", "1"), ("two", "2")] {
        script(&p, &format!("{dir}/kt-tool"), &format!("#!/bin/sh\necho {text}\n"));
    }
    fs::create_dir(p.path("empty")).expect("make a directory");
    let system = std::env::var("PATH").unwrap_or_default();
    let path = |dirs: &[&str]| {
        let dirs: Vec<String> = dirs.iter().map(|dir| p.path(dir).display().to_string()).collect();
        format!("{}:{system}", dirs.join(":"))
    };
    let build = |dirs: &[&str]| {
        p.wipe();
        p.cargo("run").env("PATH", path(dirs)).same()
    };
    build(&["empty", "one"]).not_hit("user");
    build(&["empty", "one"]).all_hit();
    build(&["one"]).all_hit();
    build(&["two", "one"]).not_hit("user");
    script(&p, "empty/kt-tool", "#!/bin/sh\necho 3\n");
    build(&["empty", "one"]).not_hit("user");
    script(&p, "one/kt-tool", "#!/bin/sh\necho 4\n");
    build(&["one"]).not_hit("user");
}

/// Variables whose names are nowhere: put together, listed, in a file.
#[test]
fn variables_by_whatever_name() {
    let listed = r#"let mut all: Vec<_> = env::vars().filter(|(name, _)| name.starts_with("KT_")).collect();
        all.sort(); format!("{all:?}")"#;
    let composed = r#"env::var(format!("kt_{}", "VALUE".to_lowercase())).unwrap_or_default()"#;
    let in_file = r#"let file = fs::read_to_string(here.join(".env")).unwrap();
        let name = file.split(['{', '}']).nth(1).unwrap(); env::var(name).unwrap_or_default()"#;
    let lab = lean_lab();
    environments(
        &world(&lab, "listed", listed),
        &[&[], &[("KT_A", "1")], &[("KT_A", "2")], &[("KT_B", "2")]],
    );
    environments(&world(&lab, "composed", composed), &[&[], &[("kt_value", "1")], &[("kt_value", "2")]]);
    let p = world(&lab, "file", in_file);
    p.write("user/.env", "VALUE=${kt_in_file}\n");
    environments(&p, &[&[], &[("kt_in_file", "1")], &[("kt_in_file", "2")]]);
}

/// Variables that the compiler itself asks for, or that differ from session to session: they count where a macro asks.
#[test]
fn variables_of_the_session() {
    for name in ["CI", "USER", "TERM", "RUST_BACKTRACE", "LANG"] {
        let lab = lean_lab();
        let p = world(&lab, "w", &format!("env::var({name:?}).unwrap_or_default()"));
        environments(&p, &[&[(name, "one")], &[(name, "two")]]);
    }
    // Where none does, they are no reason to compile.
    let lab = lean_lab();
    let p = world(&lab, "w", "String::new()");
    p.cargo("run").same();
    p.wipe();
    let set = [("CI", "true"), ("USER", "x"), ("TERM", "dumb"), ("LANG", "C"), ("KT_UNREAD", "1")];
    p.cargo("run").envs(&set).same().all_hit();
}

/// Variables that a program reads which a macro runs: a C program's by its library, a shell's by its text.
#[test]
fn variables_of_programs_that_a_macro_runs() {
    let shell =
        r#"String::from_utf8(Command::new("sh").arg(here.join("s.sh")).output().unwrap().stdout).unwrap()"#;
    let lab = lean_lab();
    let p = world(&lab, "w", shell);
    p.write("user/s.sh", "echo \"$kt_flavour\"\n");
    environments(&p, &[&[("kt_flavour", "one")], &[("kt_flavour", "two")]]);
    let sorted =
        r#"String::from_utf8(Command::new("sort").arg(here.join("list")).output().unwrap().stdout).unwrap()"#;
    let p = world(&lab, "sorted", sorted);
    p.write("user/list", "b\nB\na\n");
    p.cargo("run").env("LC_ALL", "C").same();
    p.wipe();
    p.cargo("run").env("LC_ALL", "C.UTF-8").same().not_hit("user");
}

/// What a hit could not do again isn't stored.
#[test]
fn effects_besides_the_outputs() {
    let makes_dir = r#"let _ = fs::create_dir(here.join("made")); "made".to_owned()"#;
    let removes = r#"let _ = fs::remove_file(here.join("gone")); "gone".to_owned()"#;
    let renames = r#"let _ = fs::rename(here.join("from"), here.join("to")); "moved".to_owned()"#;
    let in_deps = r#"let _ = fs::write(here.join("../target/debug/deps/extra"), "x"); "deps".to_owned()"#;
    for (body, prepare, is_done) in [
        (
            makes_dir,
            "",
            Box::new(|p: &Project<'_>| p.path("user/made").is_dir()) as Box<dyn Fn(&Project<'_>) -> bool>,
        ),
        (removes, "user/gone", Box::new(|p| !p.path("user/gone").exists())),
        (renames, "user/from", Box::new(|p| p.path("user/to").exists())),
        (in_deps, "target/debug/deps/other", Box::new(|p| p.path("target/debug/deps/extra").exists())),
    ] {
        let lab = lean_lab();
        let p = world(&lab, "w", body);
        for _ in 0..2 {
            p.wipe();
            for made in ["user/made", "user/to"] {
                let _ = fs::remove_dir(p.path(made));
                let _ = fs::remove_file(p.path(made));
            }
            if !prepare.is_empty() {
                p.write(prepare, "x");
            }
            let run = p.cargo("run").ok();
            assert!(run.one("user").not_stored.starts_with("outputs"), "{body}\n{run}");
            assert!(is_done(&p), "{body}\n{run}");
        }
    }
}

/// What leaves nothing isn't an effect: a file that is opened for update and stays as it is, one that is made and
/// removed, a directory that is there already, counters of an instrumented program.
#[test]
fn what_leaves_nothing_is_no_effect() {
    let body = r#"fs::OpenOptions::new().read(true).write(true).open(here.join("base.db")).unwrap();
        fs::create_dir_all(here.join("src")).unwrap();
        let own = here.join("own"); fs::write(&own, "x").unwrap(); fs::rename(&own, here.join("moved")).unwrap();
        fs::remove_file(here.join("moved")).unwrap(); let _ = fs::remove_file(here.join("never-there"));
        fs::write(here.join("default_1.profraw"), "x").unwrap();
        fs::read_to_string(here.join("base.db")).unwrap()"#;
    let lab = lean_lab();
    let p = world(&lab, "w", body);
    p.write("user/base.db", "one");
    changes(&p, &[&|p| p.write("user/base.db", "two")]);
}

/// A look whether a huge file is there doesn't read it: one of 64 GiB, of which nothing is on the disk, in no time.
#[test]
fn a_look_at_a_huge_file_does_not_read_it() {
    let lab = lean_lab();
    let p = world(&lab, "w", r#"here.join("huge").exists().to_string()"#);
    let huge = fs::File::create(p.path("user/huge")).expect("make a file");
    huge.set_len(64 << 30).expect("make it long");
    p.cargo("run").ok();
    p.wipe();
    p.cargo("run").ok().all_hit();
    p.remove("user/huge");
    p.wipe();
    p.cargo("run").same().not_hit("user");
}

/// Variables that a driver reads besides the compiler.
#[test]
fn variables_of_a_driver() {
    let lab = lab();
    let p = macro_world(&lab, "w", "mac::mode!()");
    p.write("app/src/main.rs", "fn main() {\n    let v = vec![1];\n    if v.len() == 0 {}\n}\n");
    for set in [&[][..], &[("CLIPPY_DISABLE_DOCS_LINKS", "true")]] {
        p.wipe();
        p.cargo("clippy").envs(set).same().not_hit("app");
        p.wipe();
        p.cargo("clippy").envs(set).same().all_hit();
    }
}

/// A record that was made where less is observed isn't believed: its compile may have read more than it says.
#[test]
fn a_record_is_believed_only_where_no_more_is_seen() {
    let lab = lean_lab();
    let p = world(&lab, "w", READ_DATA);
    p.write("user/data.txt", "one");
    p.cargo("run").same();
    for file in kache_testkit::walk(&lab.cache_dir().join("v1/units")) {
        let text = fs::read_to_string(&file).expect("read a record");
        fs::write(&file, text.replace("\"observed\":\"variables\"", "\"observed\":\"reported\""))
            .expect("write");
    }
    p.wipe();
    p.cargo("run").same().not_hit("user");
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// Programs that a macro runs work as without kache: one with the address sanitizer, which wants to be the first library;
/// one that is linked statically; and what the user preloads is preloaded.
#[test]
fn programs_are_not_disturbed() {
    let body = r#"let run = |name: &str| format!("{:?}", Command::new(here.join(name)).output().unwrap());
        format!("{} {} {}", run("asan"), run("static"), run("plain"))"#;
    let lab = lean_lab();
    let p = world(&lab, "w", body);
    p.write("user/x.c", "#include <stdio.h>\n#include <stdlib.h>\n\
        int twice(int x) __attribute__((weak));\n\
        int main(void) { const char *v = getenv(\"KT_C\"); printf(\"%s %d\", v ? v : \"-\", twice ? twice(4) : 0); }\n");
    p.write("user/twice.c", "int twice(int x) { return 2 * x; }\n");
    for (name, flags) in [("asan", "-fsanitize=address"), ("static", "-static"), ("plain", "-rdynamic")] {
        compiled(&p, &["user/x.c", "-o", &format!("user/{name}"), flags]);
    }
    compiled(&p, &["user/twice.c", "-o", "user/libtwice.so", "-shared", "-fPIC"]);
    let preloaded = p.path("user/libtwice.so");
    for set in [&[("KT_C", "one")][..], &[("KT_C", "two")]] {
        p.wipe();
        p.cargo("run").envs(set).same().not_hit("user");
        p.wipe();
        p.cargo("run").envs(set).same().all_hit();
    }
    // The sanitizer itself puts up with no other library there.
    fs::copy(p.path("user/plain"), p.path("user/asan")).expect("copy");
    p.wipe();
    p.cargo("run").env("KT_C", "one").env("LD_PRELOAD", preloaded).same();
}

fn compiled(p: &Project<'_>, args: &[&str]) {
    let status = std::process::Command::new("cc").args(args).current_dir(p.dir()).status();
    assert!(status.is_ok_and(|status| status.success()), "cc {args:?}");
}

/// `kache inputs` shows what was read, and marks what was observed without being declared.
#[test]
fn what_a_compile_read_is_listed() {
    let body = r#"let v = env::var("KT_FLAVOUR").unwrap_or_default();
        let tool = String::from_utf8(Command::new("kt-tool").output().unwrap().stdout).unwrap();
        v + &tool + &fs::read_to_string(here.join("data.txt")).unwrap()"#;
    let lab = lean_lab();
    let p = world(&lab, "w", body);
    p.write("user/data.txt", "one");
    script(&p, "bin/kt-tool", "#!/bin/sh\necho one\n");
    let path = format!("{}:{}", p.path("bin").display(), std::env::var("PATH").unwrap_or_default());
    p.cargo("run").env("PATH", path).env("KT_FLAVOUR", "x").same();
    let shown = lab.cli(&["inputs", "user", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let inputs = shown["units"][0]["inputs"].as_array().expect("inputs");
    let is_there = |kind: &str, name: &str, declared: bool| {
        inputs
            .iter()
            .any(|input| input["kind"] == kind && input["name"] == name && input["declared"] == declared)
    };
    assert!(is_there("file", "{ws}/user/src/lib.rs", true), "{shown:#}");
    assert!(is_there("file", "{ws}/user/data.txt", false), "{shown:#}");
    assert!(is_there("program on PATH", "kt-tool", false), "{shown:#}");
    assert!(is_there("variable", "KT_FLAVOUR", false), "{shown:#}");
    let variable = inputs.iter().find(|input| input["name"] == "KT_FLAVOUR").expect("shown");
    assert_eq!(variable["read_by"], "macro", "{shown:#}");
    assert_eq!(shown["units"][0]["observed"], "variables", "{shown:#}");
    let text = String::from_utf8(lab.cli(&["inputs", "user"]).stdout).expect("UTF-8");
    assert!(text.contains("* {ws}/user/data.txt"), "{text}");
}
