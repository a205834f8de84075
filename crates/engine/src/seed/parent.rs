//! The Cargo process that called: what it was asked, and which directories it builds in. The answer about directories
//! is Cargo's own, from a Cargo of the same program, arguments and environment; nothing is derived from configuration
//! here. Knows nothing about snapshots. Needs `/proc`.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use kache_core::cargo_call::{self, CargoCall};
use kache_core::config::env;
use kache_core::invocation::Env;
use kache_core::process_stat::ProcessStat;
use kache_core::seed_selection::Metadata;

use crate::world::Session;

/// Longest answer of Cargo's that is read, in bytes.
const ANSWER_BYTES_MAX: usize = 64 << 20;

#[derive(Debug, Clone)]
pub struct Parent {
    pub exe: PathBuf,
    args: Vec<String>,
    /// The directory it was started in.
    pub cwd: PathBuf,
    pairs: Vec<(OsString, OsString)>,
    pub env: Env,
    /// When it was started, in nanoseconds since 1970, to some hundredths of a second.
    pub started_ns: i64,
    /// The environment of the compilers and scripts that it starts, but for what it sets for each of them: its own, with
    /// what the `[env]` tables of its configuration add. This process is one of those that it has started, or the
    /// child of one.
    pub seen: Env,
}

/// What the kernel counts a process's start in, towards programs.
const TICKS_PER_SECOND: f64 = 100.0;

/// How far apart two clocks may be read, in nanoseconds, and how often that is tried.
const CLOCK_APART_NS: i64 = 10_000_000;
const CLOCK_TRIES: u32 = 20;

/// Variables that Cargo sets for each compiler as it needs.
const OF_EACH: &[&str] = &[
    "CARGO",
    "CARGO_BIN_NAME",
    "CARGO_CRATE_NAME",
    "CARGO_MAKEFLAGS",
    "CARGO_PRIMARY_PACKAGE",
    "CARGO_RUSTC_CURRENT_DIR",
    "CARGO_SBOM_PATH",
    "CARGO_TARGET_TMPDIR",
    "LD_LIBRARY_PATH",
    "OUT_DIR",
];
/// Prefixes of such variables, and of those that a recorder is started with.
const OF_EACH_PREFIXES: &[&str] = &["CARGO_MANIFEST_", "CARGO_PKG_", "KACHE_", "__CARGO_"];

fn is_of_each(name: &OsStr) -> bool {
    let name = name.to_str().unwrap_or_default();
    OF_EACH.contains(&name) || OF_EACH_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directories {
    /// The workspace's root: where `Cargo.lock` is.
    pub workspace: PathBuf,
    /// The build directory: profile directories lie in it.
    pub build: PathBuf,
    /// All that Cargo says about the workspace.
    pub metadata: Metadata,
}

/// Questions to Cargo that are under way.
pub struct Asked {
    list: Option<io::Result<Child>>,
    metadata: io::Result<Child>,
}

impl Parent {
    /// The Cargo of this session; `None` when it is something else, or can't be looked at.
    pub fn of(session: &Session) -> Option<Self> {
        let (pid, _) = session.id.split_once('-')?;
        let proc = Path::new("/proc").join(pid);
        let exe = fs::read_link(proc.join("exe")).ok()?;
        if exe.file_stem() != Some(OsStr::new("cargo")) {
            return None;
        }
        let words = |file: &str| -> Option<Vec<OsString>> {
            let bytes = fs::read(proc.join(file)).ok()?;
            let words = bytes.split(|byte| *byte == 0).map(|word| OsString::from_vec(word.to_vec()));
            let mut words: Vec<OsString> = words.collect();
            // Each word ends with a zero byte, so the last one is no word.
            words.pop();
            Some(words)
        };
        let args = words("cmdline")?.into_iter().skip(1).map(OsString::into_string);
        let args = args.collect::<Result<Vec<_>, _>>().ok()?;
        let pairs: Vec<(OsString, OsString)> =
            words("environ")?.iter().filter_map(|pair| split(pair)).collect();
        let parent = Self {
            exe,
            args,
            cwd: fs::read_link(proc.join("cwd")).ok()?,
            started_ns: started_ns(session)?,
            env: Env::new(pairs.clone()),
            seen: Env::new(
                pairs.iter().cloned().chain(std::env::vars_os()).filter(|(name, _)| !is_of_each(name)),
            ),
            pairs,
        };
        is_alive(session).then_some(parent)
    }

    /// What it was asked to do.
    ///
    /// # Errors
    /// The doubt about its directories, in words.
    pub fn call(&self) -> Result<CargoCall, String> {
        cargo_call::parse(&self.args).map_err(|doubt| doubt.to_string())
    }

    /// Unstable features that its arguments and variables ask for, and choices that it offers for one release only. They
    /// decide about the layout of its build directory, among others.
    pub fn features(&self) -> Vec<String> {
        let call = self.call();
        let args = call.iter().flat_map(|call| call.unstable().map(str::to_owned));
        let is_choice = |name: &str| name.starts_with("CARGO_UNSTABLE_") || name.starts_with("__CARGO_");
        let variables = self.env.iter().filter(|(name, _)| is_choice(name));
        let mut features: Vec<String> =
            args.chain(variables.map(|(name, value)| format!("{name}={}", value.display()))).collect();
        features.sort();
        features
    }

    /// How much longer it will be younger than `age`.
    pub fn younger_than(&self, age: Duration) -> Duration {
        let lived =
            Duration::from_nanos(u64::try_from(crate::times::now_ns() - self.started_ns).unwrap_or(0));
        age.saturating_sub(lived)
    }

    pub fn cargo_home(&self) -> Option<String> {
        crate::world::cargo_home(&self.env).filter(|home| home.starts_with('/'))
    }

    /// Asks Cargo where `call` builds.
    ///
    /// # Errors
    /// In words, when it doesn't say.
    pub fn directories(&self, call: &CargoCall) -> Result<Directories, String> {
        self.directories_of(call, self.ask_directories(call))
    }

    /// Puts the questions about directories; [`Parent::directories_of`] waits for the answers.
    pub fn ask_directories(&self, call: &CargoCall) -> Asked {
        // Both are asked at once: the second one only about abbreviations, which a configuration may define again.
        let list = call.abbreviation.as_ref().map(|_| self.ask(&["--list"], call));
        let metadata = self.ask(&["metadata", "--no-deps", "--offline", "--format-version", "1"], call);
        Asked { list, metadata }
    }

    /// What Cargo answers.
    ///
    /// # Errors
    /// In words, when it doesn't say where it builds.
    pub fn directories_of(&self, call: &CargoCall, asked: Asked) -> Result<Directories, String> {
        let Asked { list, metadata } = asked;
        if let (Some(short), Some(list)) = (&call.abbreviation, list) {
            let list = answer(list)?;
            let is_usual =
                String::from_utf8_lossy(&list).lines().any(|line| cargo_call::is_usual(short, line));
            if !is_usual {
                return Err(format!("`cargo {short}` is an alias of its own here"));
            }
        }
        let output = answer(metadata)?;
        let found: Metadata = serde_json::from_slice(&output)
            .map_err(|error| format!("Cargo's answer is not understood: {error}"))?;
        let own_build_dir =
            found.build_directory.as_ref().filter(|dir| **dir != found.target_directory).cloned();
        let target = match &call.target_dir {
            // Relative to where it was started (`src/cargo/util/context/mod.rs`, 1.95).
            Some(dir) => self.cwd.join(dir),
            None => found.target_directory.clone(),
        };
        let build = own_build_dir.unwrap_or(target);
        if !build.is_absolute() || build.components().any(|part| part.as_os_str() == "..") {
            return Err(format!("{} is no plain path", build.display()));
        }
        Ok(Directories { workspace: found.workspace_root.clone(), build, metadata: found })
    }

    /// Starts a Cargo of the same program, directory and environment.
    fn ask(&self, args: &[&str], call: &CargoCall) -> io::Result<Child> {
        let mut command = Command::new(&self.exe);
        // `--list` knows the configuration's options only in front of it.
        let (before, after) =
            if args == ["--list"] { (&*call.configs(), &[][..]) } else { (&[][..], &*call.passed_on) };
        command.args(before).args(args).args(after);
        command.current_dir(&self.cwd).env_clear().envs(self.pairs.iter().map(|(name, value)| (name, value)));
        // Should that Cargo ask for a compiler after all, it gets a plain one.
        command
            .env(env::KACHE_DISABLED, "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        command.spawn()
    }

    /// The first line of what the program answers to `-V`.
    pub fn version(&self) -> Option<String> {
        let output = Command::new(&self.exe).arg("-V").current_dir("/").stdin(Stdio::null()).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        text.lines().next().map(str::to_owned)
    }

    /// Where the lockfile most probably is.
    pub fn probable_workspace(&self) -> Option<&Path> {
        self.cwd.ancestors().find(|dir| dir.join("Cargo.lock").is_file())
    }

    /// Where Cargo most probably builds: good enough to see that there is nothing to do, for nothing else.
    pub fn probable_build_dir(&self, call: &CargoCall) -> Option<PathBuf> {
        let set = |name: &str| self.env.text(name).map(|dir| self.cwd.join(dir));
        let explicit = call.target_dir.as_ref().map(|dir| self.cwd.join(dir));
        let beside = || Some(self.probable_workspace()?.join("target"));
        // A template has to be filled in by Cargo.
        let apart = set("CARGO_BUILD_BUILD_DIR").filter(|dir| !dir.to_string_lossy().contains('{'));
        if apart.is_some() {
            return apart;
        }
        explicit.or_else(|| set("CARGO_TARGET_DIR")).or_else(|| set("CARGO_BUILD_TARGET_DIR")).or_else(beside)
    }
}

/// What a Cargo has to say.
fn answer(asked: io::Result<Child>) -> Result<Vec<u8>, String> {
    let output = asked.and_then(Child::wait_with_output);
    let output = output.map_err(|error| format!("Cargo can't be asked: {error}"))?;
    if output.status.success() && output.stdout.len() <= ANSWER_BYTES_MAX {
        Ok(output.stdout)
    } else {
        Err(format!("Cargo doesn't say where it builds ({})", output.status))
    }
}

/// Whether the very process is still there.
pub fn is_alive(session: &Session) -> bool {
    let Some((pid, start)) = session.id.split_once('-') else { return false };
    let line = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    ProcessStat::parse(&line).is_some_and(|stat| !stat.is_over() && stat.start == start)
}

/// When a process was started, from its age: its start is counted in ticks since the system's.
fn started_ns(session: &Session) -> Option<i64> {
    let (_, start) = session.id.split_once('-')?;
    let ticks: f64 = start.parse().ok()?;
    let mut tries = 0..CLOCK_TRIES;
    let (uptime, now_ns) = loop {
        let before_ns = crate::times::now_ns();
        let uptime = fs::read_to_string("/proc/uptime").ok()?;
        let now_ns = crate::times::now_ns();
        // On a busy machine others may have had the processor in between. After the last try the process looks younger
        // than it is, and what it has made in that time like an earlier one's.
        if now_ns - before_ns < CLOCK_APART_NS || tries.next().is_none() {
            break (uptime, now_ns);
        }
    };
    let uptime_s: f64 = uptime.split(' ').next()?.parse().ok()?;
    let age = Duration::try_from_secs_f64((uptime_s - ticks / TICKS_PER_SECOND).max(0.0)).ok()?;
    Some(now_ns - i64::try_from(age.as_nanos()).ok()?)
}

fn split(pair: &OsStr) -> Option<(OsString, OsString)> {
    let bytes = pair.as_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    let part = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    Some((part(&bytes[..at]), part(&bytes[at + 1..])))
}
