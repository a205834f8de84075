//! What a wrapper owes Cargo: notifications in time and once, questions answered by the compiler itself, streams, exit
//! codes and signals as without it.

use std::io::{Read, Write};
use std::process::{Output, Stdio};

use kache_testkit::{Audit, Sandbox, toolchain};

use crate::fixtures::{ALL_KINDS, user_world};
use crate::support::{Outcomes, lab, lean_lab};

/// B7, B8, B11, R17: in cold and warm builds, checks, clippy and tests, every file is announced once, after it is complete,
/// and nothing else is said.
#[test]
fn b7_notifications_are_in_time_and_once() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let audit = Audit::new(&lab, "audit");
    let commands = ["build", "check --all-targets", "clippy", "test --no-run"];
    for args in commands {
        audit.run(&one.cargo(args));
    }
    let two = one.checkout("two");
    for args in commands {
        audit.run(&two.cargo(args)).all_hit();
    }
    two.edit("gen/number.txt", "7", "8");
    audit.run(&two.cargo("build"));
    assert!(audit.calls().len() > 20);
}

/// B11: kache says nothing of its own, whatever happens, unless asked; when asked it says it on standard error.
#[test]
fn b11_silent_unless_asked() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    for _ in 0..2 {
        let run = p.cargo("build -q").same();
        assert_eq!((run.stdout.as_str(), run.stderr.as_str()), ("", ""));
        p.wipe();
    }
    let run = p.cargo("build -q").env("KACHE_PROGRESS", "1").ok();
    assert!(run.stdout.is_empty() && run.stderr.contains("mid"), "{run}");
}

/// B12: nothing that kache starts keeps Cargo's pipes open: the output ends with Cargo.
#[test]
fn b12_nobody_holds_the_pipes() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    for _ in 0..2 {
        p.wipe();
        let mut child =
            p.cargo("build").command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("start");
        let status = child.wait().expect("wait");
        // Reads to the end of both pipes, which comes only when the last writer is gone.
        let mut rest = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut rest).expect("read");
        child.stderr.take().expect("piped").read_to_string(&mut rest).expect("read");
        assert!(status.success(), "{rest}");
    }
}

/// B13, B14, R12: under `make -j2`: the jobserver's descriptors reach the compiler, and make returns.
#[test]
fn b13_under_make() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.write("Makefile", "all:\n\t+\"$(CARGO_PROGRAM)\" build\n\t+\"$(CARGO_PROGRAM)\" check\n");
    for _ in 0..2 {
        p.wipe();
        let mut make = lab.command("make");
        make.arg("-j2").env("RUSTC_WRAPPER", lab.wrapper()).env("CARGO_PROGRAM", &toolchain().cargo);
        let output = make.current_dir(p.dir()).output().expect("start make");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains("jobserver"), "{stderr}");
    }
}

fn rustc(lab: &Sandbox, through_kache: bool, args: &[&str], input: Option<&str>) -> Output {
    let rustc = &toolchain().rustc;
    let mut command = lab.command(if through_kache { lab.wrapper() } else { rustc });
    if through_kache {
        command.arg(rustc);
    }
    let mut child = command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("start a compiler");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    drop(stdin);
    child.wait_with_output().expect("wait for the compiler")
}

/// B17: questions get the compiler's own answer, exit code and all; the journal doesn't count them.
#[test]
fn b17_questions_are_answered_by_the_compiler() {
    let lab = lab();
    let probe = "- --crate-name ___ --print=file-names --crate-type bin --crate-type rlib --crate-type dylib \
                 --crate-type cdylib --crate-type staticlib --crate-type proc-macro --print=sysroot \
                 --print=split-debuginfo --print=crate-name --print=cfg -Wwarnings";
    let cargos = ["-vV", "--version", "-V", probe, "--print=cfg", "--print target-list"];
    let others = ["--explain E0001", "--help", "", "-Z help", "no-such-file.rs"];
    for (questions, are_counted) in [(&cargos[..], false), (&others[..], true)] {
        for question in questions {
            let args: Vec<&str> = question.split_whitespace().collect();
            let (direct, wrapped) = (rustc(&lab, false, &args, None), rustc(&lab, true, &args, None));
            assert_eq!(direct, wrapped, "{args:?}");
        }
        let counted = lab.events_since(&Default::default());
        assert!(are_counted || counted.is_empty(), "{counted:#?}");
    }
    let mut missing = lab.command(lab.wrapper());
    let output = missing.args(["/nonexistent/rustc", "-vV"]).output().expect("start kache");
    assert!(!output.status.success());
}

/// B15: two builds with different variables at the same time; each compiler sees its own.
#[test]
fn b15_concurrent_builds_keep_their_environment() {
    let lab = lean_lab();
    let one = user_world(&lab, "one", "pub fn value() -> &'static str { env!(\"WHO\") }\n");
    let two = one.checkout("two");
    for _ in 0..3 {
        let runs = [("first", &one), ("second", &two)].map(|(who, p)| {
            p.wipe();
            (who, p, p.cargo("run -q").env("WHO", who).spawn())
        });
        for (who, p, running) in runs {
            let run = running.wait(p);
            assert_eq!(run.stdout, format!("{who:?}\n"), "{run}");
        }
    }
}
