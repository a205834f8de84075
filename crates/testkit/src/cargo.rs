//! One run of the real Cargo in a project, with or without the wrapper, and what came of it. The comparison of the
//! two is in [`crate::oracle`].

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;

use crate::journal::{Event, Mark, Tally};
use crate::layout::Layout;
use crate::project::Project;
use crate::toolchain::toolchain;

/// A Cargo command to be run.
#[derive(Clone)]
pub struct Cargo<'p> {
    project: &'p Project<'p>,
    args: Vec<OsString>,
    env: Vec<(OsString, Option<OsString>)>,
    wrapper: Option<PathBuf>,
    subdir: PathBuf,
    shell: Option<String>,
}

impl<'p> Cargo<'p> {
    pub(crate) fn new(project: &'p Project<'p>, args: &str) -> Self {
        let args = args.split_whitespace().map(OsString::from).collect();
        let wrapper = Some(project.sandbox().wrapper().to_owned());
        Self { project, args, env: Vec::new(), wrapper, subdir: PathBuf::new(), shell: None }
    }

    /// Adds one argument, which may contain spaces.
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Sets a variable.
    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), Some(value.as_ref().to_owned())));
        self
    }

    /// Sets several variables.
    pub fn envs(self, env: &[(&str, &str)]) -> Self {
        env.iter().fold(self, |cargo, (name, value)| cargo.env(name, value))
    }

    /// Removes a variable that the sandbox sets.
    pub fn unset(mut self, name: impl AsRef<OsStr>) -> Self {
        self.env.push((name.as_ref().to_owned(), None));
        self
    }

    /// Sets `RUSTFLAGS`.
    pub fn rustflags(self, flags: &str) -> Self {
        self.env("RUSTFLAGS", flags)
    }

    /// Builds in another layout than the sandbox does, with a `CARGO_HOME` of its own.
    pub fn layout(self, layout: Layout) -> Self {
        let home = self.project.sandbox().cargo_home_for(layout);
        layout.variables().into_iter().fold(
            self.env("CARGO_HOME", home),
            |cargo, (name, value)| match value {
                Some(value) => cargo.env(name, value),
                None => cargo.unset(name),
            },
        )
    }

    /// Runs without the wrapper.
    pub fn plain(mut self) -> Self {
        self.wrapper = None;
        self
    }

    /// Runs with another wrapper.
    pub fn wrapper(mut self, program: impl AsRef<Path>) -> Self {
        self.wrapper = Some(program.as_ref().to_owned());
        self
    }

    /// Starts Cargo in a directory of the project.
    pub fn subdir(mut self, name: &str) -> Self {
        self.subdir = PathBuf::from(name);
        self
    }

    /// Runs `prefix` in a shell first, in the process that becomes Cargo: `ulimit -n 64`, `umask 077`, ….
    pub fn shell(mut self, prefix: &str) -> Self {
        self.shell = Some(prefix.to_owned());
        self
    }

    pub(crate) fn project(&self) -> &'p Project<'p> {
        self.project
    }

    /// The command, ready to be started.
    pub fn command(&self) -> Command {
        let sandbox = self.project.sandbox();
        let mut command = match &self.shell {
            None => sandbox.command(&toolchain().cargo),
            Some(prefix) => {
                let mut shell = sandbox.command("/bin/sh");
                shell.arg("-c").arg(format!("{prefix}; exec \"$0\" \"$@\"")).arg(&toolchain().cargo);
                shell
            }
        };
        command.args(&self.args).current_dir(self.project.dir().join(&self.subdir));
        if let Some(wrapper) = &self.wrapper {
            command.env("RUSTC_WRAPPER", wrapper);
        }
        for (name, value) in &self.env {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
    }

    /// Runs it to its end, whatever that is.
    pub fn run(&self) -> Run {
        let sandbox = self.project.sandbox();
        let mark = sandbox.mark();
        let mut command = self.command();
        let output =
            command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        Run {
            what: self.to_string(),
            status: output.status,
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            events: sandbox.events_since(&mark),
        }
    }

    /// Runs it and expects success.
    pub fn ok(&self) -> Run {
        let run = self.run();
        assert!(run.status.success(), "{run}\nexpected success");
        run
    }

    /// Runs it and expects failure.
    pub fn fails(&self) -> Run {
        let run = self.run();
        assert!(!run.status.success(), "{run}\nexpected failure");
        run
    }

    /// Starts it in a process group of its own.
    pub fn spawn(&self) -> Running {
        let mark = self.project.sandbox().mark();
        let mut command = self.command();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let mut child = command.spawn().unwrap_or_else(|e| panic!("start {command:?}: {e}"));
        let stdout = drain(child.stdout.take().expect("piped"));
        let stderr = drain(child.stderr.take().expect("piped"));
        Running { what: self.to_string(), child, mark, stdout, stderr }
    }
}

impl std::fmt::Display for Cargo<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (name, value) in &self.env {
            let value = value.as_ref().map(|v| v.to_string_lossy().into_owned()).unwrap_or_default();
            write!(f, "{}={value} ", name.to_string_lossy())?;
        }
        write!(f, "cargo")?;
        for arg in &self.args {
            write!(f, " {}", arg.to_string_lossy())?;
        }
        write!(f, " ({}", self.project.dir().join(&self.subdir).display())?;
        write!(f, "{})", if self.wrapper.is_none() { ", no wrapper" } else { "" })
    }
}

fn drain(mut pipe: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// A Cargo that is running.
pub struct Running {
    what: String,
    child: Child,
    mark: Mark,
    stdout: JoinHandle<Vec<u8>>,
    stderr: JoinHandle<Vec<u8>>,
}

/// The processes of one Cargo run.
#[derive(Debug, Clone, Copy)]
pub struct Group(u32);

impl Group {
    /// Whether all of them have ended.
    pub fn is_gone(&self) -> bool {
        !kill("0", &format!("-{}", self.0))
    }
}

/// Whether there was somebody to take the signal.
fn kill(signal: &str, whom: &str) -> bool {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("kill -s {signal} -- {whom} 2>/dev/null")]);
    shell.status().expect("start a shell").success()
}

impl Running {
    /// Sends a signal (`INT`, `KILL`, …) to Cargo and everything it started.
    pub fn signal(&self, name: &str) {
        assert!(kill(name, &format!("-{}", self.child.id())), "{}: there is nobody to kill", self.what);
    }

    /// Sends a signal to Cargo alone.
    pub fn signal_cargo(&self, name: &str) {
        assert!(kill(name, &self.child.id().to_string()), "{}: there is nobody to kill", self.what);
    }

    /// Cargo and everything it started, to be asked after [`Running::wait`].
    pub fn group(&self) -> Group {
        Group(self.child.id())
    }

    /// Whether Cargo has ended. It can still be sent signals until [`Running::wait`].
    pub fn has_ended(&self) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap_or_default();
        stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
    }

    /// Waits for its end.
    pub fn wait(mut self, project: &Project<'_>) -> Run {
        let status = self.child.wait().expect("wait for Cargo");
        let text = |bytes: JoinHandle<Vec<u8>>| {
            String::from_utf8_lossy(&bytes.join().expect("read Cargo's output")).into_owned()
        };
        let events = project.sandbox().events_since(&self.mark);
        Run { what: self.what, status, stdout: text(self.stdout), stderr: text(self.stderr), events }
    }
}

/// What came of a Cargo run.
#[derive(Debug, Clone)]
pub struct Run {
    pub(crate) what: String,
    /// Cargo's exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Journal lines written meanwhile.
    pub events: Vec<Event>,
}

impl Run {
    /// Counts of outcomes.
    pub fn tally(&self) -> Tally {
        Tally::of(&self.events)
    }

    /// Warnings and errors in a fixed order, without what tells progress.
    pub fn messages(&self) -> String {
        crate::oracle::messages(&self.stderr)
    }

    /// Standard output without what differs between two runs of the same tests.
    pub fn results(&self) -> String {
        crate::oracle::results(&self.stdout)
    }

    /// Events about one crate.
    pub fn of(&self, crate_name: &str) -> Vec<&Event> {
        self.events.iter().filter(|e| e.crate_name == crate_name).collect()
    }

    /// The only event about a crate (and kind, where `lib:name` or the like is asked for).
    pub fn one(&self, crate_name: &str) -> &Event {
        let (kind, name) = crate_name.split_once(':').unwrap_or(("", crate_name));
        let mut found = self.of(name);
        found.retain(|e| kind.is_empty() || e.kind == kind);
        assert_eq!(found.len(), 1, "{self}\nexpected exactly one event about {crate_name}");
        found[0]
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}: {}", self.what, self.status)?;
        for (label, text) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !text.trim().is_empty() {
                writeln!(f, "--- {label}\n{}", text.trim_end())?;
            }
        }
        if !self.events.is_empty() {
            writeln!(f, "--- journal")?;
            for event in &self.events {
                writeln!(f, "{event}")?;
            }
        }
        Ok(())
    }
}
