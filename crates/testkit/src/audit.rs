//! The protocol auditor seen from a test: puts it between Cargo and the wrapper, reads back what it saw. The checks
//! themselves are in `programs/auditor.rs`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cargo::{Cargo, Run};
use crate::sandbox::Sandbox;

/// A directory in which the auditor writes down what it sees.
pub struct Audit {
    dir: PathBuf,
}

impl Audit {
    /// A new, empty record below the sandbox's root.
    pub fn new(sandbox: &Sandbox, name: &str) -> Self {
        let dir = sandbox.root().join(name);
        fs::create_dir_all(&dir).expect("make the audit's directory");
        Self { dir }
    }

    /// Runs `cargo` through the auditor and expects that no rule of the protocol was broken.
    pub fn run(&self, cargo: &Cargo<'_>) -> Run {
        let next = cargo.project().sandbox().wrapper().to_owned();
        let run = self.through(cargo, next.as_os_str()).run();
        let violations = fs::read_to_string(self.dir.join("violations")).unwrap_or_default();
        assert!(violations.is_empty(), "{run}\nthe protocol was broken:\n{violations}");
        run
    }

    /// Writes down what Cargo asks of the compiler in a run without the wrapper under test.
    pub fn record(&self, cargo: &Cargo<'_>) -> Vec<Call> {
        let run = self.through(cargo, OsStr::new("")).run();
        assert!(run.status.success(), "{run}\nexpected success");
        self.calls()
    }

    fn through<'p>(&self, cargo: &Cargo<'p>, next: &OsStr) -> Cargo<'p> {
        let auditor = env!("TESTKIT_AUDITOR");
        cargo.clone().wrapper(auditor).env("AUDIT_NEXT", next).env("AUDIT_DIR", &self.dir)
    }

    /// The compile calls so far, in order of their start.
    pub fn calls(&self) -> Vec<Call> {
        let mut files: Vec<PathBuf> =
            fs::read_dir(&self.dir).expect("list").flatten().map(|e| e.path()).collect();
        files.retain(|file| file.extension().is_some_and(|e| e == "call"));
        files.sort();
        files.iter().map(|file| Call::read(file)).collect()
    }
}

/// One call of the compiler as Cargo made it.
#[derive(Debug, Clone, Default)]
pub struct Call {
    /// Working directory.
    pub cwd: PathBuf,
    /// The compiler (and driver), then its arguments.
    pub args: Vec<OsString>,
    /// The whole environment.
    pub env: Vec<(OsString, OsString)>,
}

impl Call {
    fn read(file: &Path) -> Self {
        let bytes = fs::read(file).expect("read a call");
        let mut call = Self::default();
        for field in bytes.split(|b| *b == 0).filter(|field| field.len() > 4) {
            let (tag, value) = field.split_at(4);
            match tag {
                b"cwd:" => call.cwd = PathBuf::from(OsStr::from_bytes(value)),
                b"arg:" => call.args.push(OsStr::from_bytes(value).to_owned()),
                _ => {
                    let at = value.iter().position(|b| *b == b'=').expect("NAME=value");
                    let (name, value) = (&value[..at], &value[at + 1..]);
                    call.env.push((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()));
                }
            }
        }
        call
    }

    /// The value after `flag`.
    pub fn value_of(&self, flag: &str) -> Option<&OsStr> {
        let at = self.args.iter().position(|arg| arg == flag)?;
        self.args.get(at + 1).map(OsString::as_os_str)
    }

    /// `--crate-name`.
    pub fn crate_name(&self) -> String {
        self.value_of("--crate-name").unwrap_or_default().to_string_lossy().into_owned()
    }

    /// The same call, through `wrapper`, outside of Cargo: without its jobserver, whose descriptors are closed by now.
    pub fn through(&self, wrapper: &Path) -> Command {
        let mut command = Command::new(wrapper);
        command.args(&self.args).current_dir(&self.cwd).env_clear();
        command.envs(self.env.iter().filter(|(name, _)| is_passed_on(name)).cloned());
        command
    }

    /// The same call without a wrapper.
    pub fn direct(&self) -> Command {
        let mut command = self.through(Path::new(&self.args[0]));
        let args: Vec<OsString> = self.args[1..].to_vec();
        let mut direct = Command::new(&self.args[0]);
        direct.args(args).current_dir(&self.cwd).env_clear();
        direct.envs(command.get_envs().filter_map(|(n, v)| v.map(|v| (n.to_owned(), v.to_owned()))));
        command.stdin(std::process::Stdio::null());
        direct
    }
}

fn is_passed_on(name: &OsStr) -> bool {
    let name = name.as_bytes();
    !name.starts_with(b"AUDIT_") && name != b"CARGO_MAKEFLAGS" && name != b"MAKEFLAGS" && name != b"MFLAGS"
}
