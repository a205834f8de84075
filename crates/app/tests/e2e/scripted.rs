//! One call at a time, with a compiler that does what a script says: when the compiler is started and when it isn't,
//! what comes through of its streams, exit codes and signals, what is stored of odd results.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use kache_testkit::{FakeRustc, settle, toolchain, wait_for};

use crate::support::{Lab, lab};

/// The hash that every unit of the scriptable compiler has.
const HASH: &str = "fedcba9876543210";

/// A world with the scriptable compiler: calls kache as Cargo would.
pub struct Direct {
    /// The sandbox.
    pub lab: Lab,
    /// The compiler.
    pub fake: FakeRustc,
}

impl Direct {
    pub fn new() -> Self {
        let lab = lab();
        let fake = FakeRustc::install(lab.root().join("fake"));
        let direct = Self { lab, fake };
        direct.add_checkout("ws");
        direct
    }

    pub fn add_checkout(&self, ws: &str) {
        self.lab.write(&format!("{ws}/Cargo.toml"), "[package]\nname = \"demo\"\nversion = \"0.1.0\"\n");
        self.lab.write(&format!("{ws}/src/lib.rs"), "pub fn f() {}\n");
        // Cargo's lock is what makes it a target directory.
        self.lab.write(&format!("{ws}/target/debug/.cargo-lock"), "");
        settle();
    }

    fn profile(&self, ws: &str) -> PathBuf {
        self.lab.root().join(ws).join("target/debug")
    }

    /// Where the outputs of the crate `name` go, as Cargo arranges them.
    pub fn out_dir(&self, ws: &str, name: &str) -> PathBuf {
        self.lab.layout().out_dir(&self.profile(ws), name, HASH)
    }

    /// The library that a compile of `demo` makes.
    pub fn library(&self, ws: &str) -> PathBuf {
        self.out_dir(ws, "demo").join(format!("libdemo-{HASH}.rlib"))
    }

    /// A call for the crate `name`. Files in the fake toolchain are nobody's inputs, so scripts wait for those.
    pub fn command(&self, name: &str) -> Command {
        self.command_in("ws", name)
    }

    pub fn command_in(&self, ws: &str, name: &str) -> Command {
        let out_dir = self.out_dir(ws, name);
        std::fs::create_dir_all(&out_dir).expect("make a directory");
        self.command_of(ws, name, self.fake.library(name, "src/lib.rs", &out_dir))
    }

    fn command_of(&self, ws: &str, name: &str, args: Vec<OsString>) -> Command {
        let ws = self.lab.root().join(ws);
        let mut command = self.lab.command(self.lab.wrapper());
        command
            .args(args)
            .current_dir(&ws)
            .env("CARGO_MANIFEST_DIR", &ws)
            .env("CARGO_PKG_NAME", name)
            .env("CARGO_PKG_VERSION", "0.1.0")
            .env("CARGO_CRATE_NAME", name)
            .env("CARGO", &toolchain().cargo)
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, name: &str) -> Output {
        self.command(name).output().expect("start kache")
    }

    pub fn wipe(&self) {
        kache_testkit::remove_tree(&self.lab.layout().outputs(&self.profile("ws")));
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
    assert!(output.status.success() && d.library("ws").exists(), "{output:?}");
    assert_eq!(d.fake.starts().len(), starts, "the compiler was started: {:?}", d.fake.starts());
}

/// §3: the same for a compiler without a directory, as a Cargo that isn't rustup's calls it, and for one that moves to
/// the front of the search path.
#[test]
fn a_hit_for_a_bare_name_runs_no_compiler() {
    let d = Direct::new();
    let bare = |front: &str| {
        let out_dir = d.out_dir("ws", "demo");
        std::fs::create_dir_all(&out_dir).expect("make a directory");
        let mut args = d.fake.library("demo", "src/lib.rs", &out_dir);
        args[0] = "rustc".into();
        let path = format!("{front}{}:/usr/bin:/bin", d.fake.home().join("bin").display());
        d.command_of("ws", "demo", args).env("PATH", path).output().expect("start kache")
    };
    assert!(bare("").status.success());
    d.wipe();
    let starts = d.fake.starts().len();
    assert!(bare("").status.success() && d.library("ws").exists());
    assert_eq!(d.fake.starts().len(), starts, "the compiler was started: {:?}", d.fake.starts());
    let other = kache_testkit::FakeRustc::install(d.fake.home().with_file_name("other"));
    other.set_driver("another compiler");
    other.script("demo", "exit 3");
    let front = format!("{}:", other.home().join("bin").display());
    assert_eq!(bare(&front).status.code(), Some(3), "the first one on the path is asked");
}

/// Item 7: standard error comes through while the compiler runs: the metadata notification is seen before the compile
/// goes on.
#[test]
fn misses_stream_what_the_compiler_says() {
    let d = Direct::new();
    let go_on = d.fake.home().join("go-on");
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
    assert!(d.library("ws").with_extension("rmeta").exists());
    assert!(child.try_wait().expect("look").is_none(), "the compile is not over yet");
    std::fs::write(&go_on, "").expect("let the compiler go on");
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
    // Whoever runs the tests in the background has them ignore the signal, and that is inherited.
    let call = d.command("demo");
    let mut command = d.lab.command("env");
    command.arg("--default-signal=INT").arg(call.get_program()).args(call.get_args());
    command.envs(call.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(call.get_current_dir().expect("a directory")).stdin(Stdio::null());
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let mut child = command.spawn().expect("start kache");
    wait_for("the compiler", || reached.exists());
    let script = format!("kill -s INT -- -{}", child.id());
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().expect("start a shell").success());
    let status = child.wait().expect("wait");
    assert!(!status.success());
    // The signal reaches all of them at once, but they needn't die in order.
    wait_for("the end of the whole group", || !has_live_member(child.id()));
    assert!(!late.exists(), "the compiler went on");
}

/// B31, C18, item 5: while one process compiles a unit, others that want it wait and are served; one compile in all.
#[test]
fn b31_one_compile_for_each_unit() {
    let d = Direct::new();
    let go_on = d.fake.home().join("go-on");
    let script = format!(
        "emit dep-info\nwait {}\nemit metadata\nannounce metadata\nemit link\nannounce link\n",
        go_on.display()
    );
    d.fake.script("demo", &script);
    let mut running = vec![d.command("demo").spawn().expect("start kache")];
    wait_for("the compiler", || d.fake.calls().len() == 1);
    for ws in ["two", "three"] {
        d.add_checkout(ws);
        running.push(d.command_in(ws, "demo").spawn().expect("start kache"));
    }
    // Long enough for them to get to where they wait; if they don't, they are served all the same.
    std::thread::sleep(Duration::from_millis(300));
    std::fs::write(&go_on, "").expect("let the compiler go on");
    for mut process in running {
        assert!(process.wait().expect("wait").success());
    }
    let events = d.lab.events_since(&Default::default());
    assert_eq!(d.fake.calls().len(), 1, "the unit was compiled more than once: {events:#?}");
    for ws in ["ws", "two", "three"] {
        let library = d.library(ws);
        assert!(library.exists(), "{} is missing", library.display());
    }
    let mut outcomes: Vec<_> =
        d.lab.events_since(&Default::default()).into_iter().map(|e| e.outcome).collect();
    outcomes.sort();
    assert_eq!(outcomes, ["hit", "hit", "miss"]);
}

/// A waiter whose leader is killed compiles by itself.
#[test]
fn b31_waiter_outlives_its_leader() {
    let d = Direct::new();
    let go_on = d.fake.home().join("go-on");
    d.fake.script(
        "demo",
        &format!(
            "emit dep-info\nwait {}\nemit metadata\nannounce metadata\nemit link\nannounce link\n",
            go_on.display()
        ),
    );
    let mut leader = d.command("demo");
    std::os::unix::process::CommandExt::process_group(&mut leader, 0);
    let mut leader = leader.spawn().expect("start kache");
    wait_for("the compiler", || d.fake.calls().len() == 1);
    d.add_checkout("two");
    let mut waiter = d.command_in("two", "demo").spawn().expect("start kache");
    std::thread::sleep(Duration::from_millis(200));
    let script = format!("kill -s KILL -- -{}", leader.id());
    assert!(Command::new("/bin/sh").args(["-c", &script]).status().expect("start a shell").success());
    leader.wait().expect("wait");
    std::fs::write(&go_on, "").expect("let the compiler go on");
    assert!(waiter.wait().expect("wait").success());
    assert_eq!(d.fake.calls().len(), 2);
}

/// Whoever kills only the wrapper ends its compiler, too: it would go on writing while the next build is at work. First as
/// compiles are observed, then as they are where someone edits.
#[test]
fn a_compiler_ends_with_its_wrapper() {
    let d = Direct::new();
    let reached = d.lab.root().join("reached");
    let incremental = format!("incremental={}", d.lab.root().join("state").display());
    let call = || {
        let mut command = d.command("demo");
        command.args(["-C", &incremental]);
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command
    };
    for turn in ["first build", "edit"] {
        d.fake.script("demo", &format!("write {} x\nsleep 60000\n", reached.display()));
        d.lab.write("ws/src/lib.rs", format!("// {turn}\n"));
        let mut child = call().spawn().expect("start kache");
        wait_for("the compiler", || reached.exists());
        std::fs::remove_file(&reached).expect("the compiler's sign");
        child.kill().expect("kill kache");
        child.wait().expect("wait");
        wait_for("the compiler's end", || !has_live_member(child.id()));
        d.fake.script("demo", "emit dep-info\nemit metadata\nannounce metadata\nemit link\nannounce link\n");
        assert!(call().status().expect("start kache").success());
    }
    let events = d.lab.events_since(&Default::default());
    assert!(events.last().is_some_and(|event| event.not_stored.starts_with("incremental")), "{events:#?}");
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
