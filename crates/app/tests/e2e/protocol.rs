//! What a wrapper owes Cargo: notifications in time and once, questions answered by the compiler itself, streams, exit
//! codes and signals as without it.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use kache_testkit::{Audit, FakeRustc, Sandbox, settle, toolchain, wait_for};

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

/// A world with the scriptable compiler: calls kache as Cargo would.
struct Direct {
    lab: crate::support::Lab,
    fake: FakeRustc,
}

impl Direct {
    fn new() -> Self {
        let lab = lab();
        let fake = FakeRustc::install(lab.root().join("fake"));
        lab.write("ws/Cargo.toml", "[package]\nname = \"demo\"\nversion = \"0.1.0\"\n");
        lab.write("ws/src/lib.rs", "pub fn f() {}\n");
        let direct = Self { lab, fake };
        // Cargo's lock is what makes it a target directory.
        direct.lab.write("ws/target/debug/.cargo-lock", "");
        direct.wipe();
        direct
    }

    fn deps(&self) -> std::path::PathBuf {
        self.lab.root().join("ws/target/debug/deps")
    }

    fn command(&self, name: &str) -> Command {
        let mut command = self.lab.command(self.lab.wrapper());
        command
            .args(self.fake.library(name, "src/lib.rs", &self.deps()))
            .current_dir(self.lab.root().join("ws"))
            .env("CARGO_MANIFEST_DIR", self.lab.root().join("ws"))
            .env("CARGO_PKG_NAME", name)
            .env("CARGO_PKG_VERSION", "0.1.0")
            .env("CARGO_CRATE_NAME", name)
            .env("CARGO", &toolchain().cargo)
            .stdin(Stdio::null());
        command
    }

    fn run(&self, name: &str) -> Output {
        self.command(name).output().expect("start kache")
    }

    fn wipe(&self) {
        kache_testkit::remove_tree(&self.deps());
        std::fs::create_dir_all(self.deps()).expect("make a target directory");
        settle();
    }
}

/// §3: a hit runs no compiler, not even for a question.
#[test]
fn a_hit_runs_no_compiler() {
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    d.wipe();
    let starts = d.fake.starts().len();
    let output = d.run("demo");
    assert!(output.status.success() && d.deps().join("libdemo-fedcba9876543210.rlib").exists(), "{output:?}");
    assert_eq!(d.fake.starts().len(), starts, "the compiler was started: {:?}", d.fake.starts());
}

/// Item 7: standard error comes through while the compiler runs: the metadata notification is seen before the compile
/// goes on.
#[test]
fn misses_stream_what_the_compiler_says() {
    let d = Direct::new();
    let go_on = d.lab.root().join("go-on");
    d.fake.script(
        "demo",
        &format!(
            "emit dep-info\nemit metadata\nannounce metadata\nwait {}\nemit link\nannounce link\n",
            go_on.display()
        ),
    );
    let mut child = d.command("demo").stderr(Stdio::piped()).spawn().expect("start kache");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    assert!(first.contains("\"emit\":\"metadata\""), "{first}");
    assert!(d.deps().join("libdemo-fedcba9876543210.rmeta").exists());
    assert!(child.try_wait().expect("look").is_none(), "the compile is not over yet");
    d.lab.write("go-on", "");
    let second = lines.next().expect("a line").expect("text");
    assert!(second.contains("\"emit\":\"link\""), "{second}");
    assert!(child.wait().expect("wait").success());
}

/// B19: the compiler's exit code and its death by a signal are the wrapper's, and nothing of it is stored.
#[test]
fn b19_exit_codes_and_signals() {
    let d = Direct::new();
    for (script, code, signal) in [
        ("diagnostic error broken\nexit 1\n", Some(1), None),
        ("exit 101\n", Some(101), None),
        ("emit dep-info\nemit metadata\nannounce metadata\nkill KILL\n", None, Some(9)),
        ("kill ABRT\n", None, Some(6)),
        ("kill TERM\n", None, Some(15)),
    ] {
        d.fake.script("demo", script);
        let calls = d.fake.calls().len();
        let output = d.run("demo");
        assert_eq!((output.status.code(), output.status.signal()), (code, signal), "{script}: {output:?}");
        assert_eq!(d.fake.calls().len(), calls + 1, "{script}: the compiler was started again");
        d.wipe();
    }
    d.fake.script("demo", "emit dep-info\nemit metadata\nannounce metadata\nemit link\nannounce link\n");
    assert!(d.run("demo").status.success());
}

/// B9, A27: a compiler that announces a file and doesn't write it, or writes no dep-info: the unit works as without
/// kache and is not stored.
#[test]
fn b9_incomplete_outputs_are_not_stored() {
    let d = Direct::new();
    for script in [
        "emit dep-info\nemit metadata\nannounce metadata\nannounce link\n",
        "emit metadata\nannounce metadata\nemit link\nannounce link\n",
        "emit dep-info\nemit metadata\nannounce metadata\n",
    ] {
        d.fake.script("demo", script);
        for _ in 0..2 {
            let calls = d.fake.calls().len();
            assert!(d.run("demo").status.success(), "{script}");
            assert_eq!(d.fake.calls().len(), calls + 1, "{script}: served although it was incomplete");
            d.wipe();
        }
    }
}

/// A47: a tool that rustc starts fails, and rustc only warns: such a result is not kept.
#[test]
fn a47_degraded_results_are_not_stored() {
    let d = Direct::new();
    d.fake.script(
        "demo",
        "emit dep-info\nemit metadata\nannounce metadata\nemit link\n\
         diagnostic warning stripping debug info with `rust-objcopy` failed: exit status: 127\nannounce link\n",
    );
    for _ in 0..2 {
        let calls = d.fake.calls().len();
        let output = d.run("demo");
        assert!(
            output.status.success()
                && String::from_utf8_lossy(&output.stderr).contains("stripping debug info")
        );
        assert_eq!(d.fake.calls().len(), calls + 1, "a degraded result was served");
        d.wipe();
    }
}

/// A17: the compiler is rebuilt in place; its version text says nothing about it.
#[test]
fn a17_driver_rebuilt_in_place() {
    let d = Direct::new();
    assert!(d.run("demo").status.success());
    d.wipe();
    settle();
    d.fake.set_driver("driver library 2");
    let calls = d.fake.calls().len();
    assert!(d.run("demo").status.success());
    assert_eq!(d.fake.calls().len(), calls + 1, "another compiler's result was served");
}

/// Item 7, B19: a signal to the whole group, as Ctrl-C sends it, ends wrapper and compiler; nothing goes on in the
/// background.
#[test]
fn b19_interrupt_leaves_no_orphans() {
    let d = Direct::new();
    let (reached, late) = (d.lab.root().join("reached"), d.lab.root().join("late"));
    d.fake.script(
        "demo",
        &format!("write {} x\nsleep 3000\nwrite {} x\nemit dep-info\n", reached.display(), late.display()),
    );
    let mut command = d.command("demo");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().expect("start kache");
    wait_for("the compiler", || reached.exists());
    let script = format!("kill -s INT -- -{}", child.id());
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().expect("start a shell").success());
    let status = child.wait().expect("wait");
    assert!(!status.success());
    assert!(!has_live_member(child.id()), "something of the group goes on");
    assert!(!late.exists(), "the compiler went on");
}

/// Whether a process of the group `pgid` is alive (and no zombie).
fn has_live_member(pgid: u32) -> bool {
    let list = std::fs::read_dir(Path::new("/proc")).expect("list /proc");
    list.flatten().any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split_whitespace().collect();
        fields.first().is_some_and(|state| *state != "Z") && fields.get(2) == Some(&pgid.to_string().as_str())
    })
}
