//! Runs the real compiler for a unit: passes its messages on as they come, so that Cargo starts dependents when the
//! metadata is announced, and keeps a copy. Does not know whether the result will be stored.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use kache_core::arg_file;
use kache_core::diagnostics::{self, Line};
use kache_core::invocation::Invocation;
use kache_core::paths::{Root, Roots};
use kache_core::record::Sight;
use kache_core::remap::{self, Adjustments};
use kache_store::clock::FileTime;
use kache_store::fault::{self, Point};
use kache_store::sys::{self, Observation, Probes, Scope, Writes};

use crate::sight;

/// Most bytes of messages that are kept for storing; longer ones are passed on all the same.
const MESSAGES_BYTES_MAX: usize = 64 << 20;

pub struct Compiled {
    pub status: ExitStatus,
    /// Standard error with real paths, as it was passed on; `None` when it was too long to keep.
    pub stderr: Option<Vec<u8>>,
    pub stdout: Option<Vec<u8>>,
    /// Outputs in the order of their announcement: path and emit kind.
    pub artifacts: Vec<(String, String)>,
    /// Whether anything but announcements was printed.
    pub printed: bool,
    /// Sign that the compiler went on with a lesser result.
    pub degraded: Option<&'static str>,
    /// The kernel's coarse clock just before the start.
    pub started: FileTime,
    /// The same by the stamps of the target directory's file system, which may be finer than that clock.
    pub started_in_target: FileTime,
    pub elapsed: Duration,
    /// Whether incremental state was written, too.
    pub incremental: bool,
    /// What the compiler and its children looked at, where that could be observed.
    pub observation: Option<Observation>,
    pub preloaded: Option<PathBuf>,
    /// The object that a build script was linked with.
    pub script_hook: Option<PathBuf>,
    /// The linker's report, where one was asked for.
    pub link_report: Option<tempfile::TempPath>,
    /// Messages that nobody has seen yet: the first that tells of a full disk, and all after it.
    held: Vec<u8>,
}

impl Compiled {
    /// Whether the compiler failed and told of a full disk.
    pub fn lacked_room(&self) -> bool {
        !self.status.success() && !self.held.is_empty()
    }

    /// Whether kache put a file into the compile.
    pub fn brought(&self, path: &Path) -> bool {
        [&self.preloaded, &self.script_hook].into_iter().flatten().any(|own| own == path)
    }

    /// How completely the inputs came to light.
    pub fn sight(&self) -> Sight {
        match (&self.observation, &self.preloaded) {
            (None, _) => Sight::Reported,
            (Some(_), None) => Sight::Files,
            (Some(_), Some(_)) => Sight::Variables,
        }
    }

    /// Passes on what was held back.
    pub fn release(&mut self) {
        tell(&std::mem::take(&mut self.held));
    }
}

pub struct Job<'a> {
    pub call: &'a Invocation,
    pub out_dir: &'a Path,
    pub roots: &'a Roots,
    /// Roots that the outputs must not name.
    pub remapped: Vec<Root>,
    /// Compile as asked, with `-C incremental`.
    pub keeps_incremental: bool,
    /// Ask the linker for a report.
    pub wants_link_report: bool,
    /// Observe file accesses, ignoring those below these directories.
    pub observed_scope: Option<Vec<PathBuf>>,
    /// The library that shows which variables are read.
    pub preloaded: Option<PathBuf>,
    /// The object that a build script is linked with.
    pub script_hook: Option<PathBuf>,
    /// Outputs that Cargo has heard of.
    pub announced: Vec<(String, String)>,
}

/// Runs the job. `on_artifact` is called when an output is complete and before Cargo hears of it.
pub fn run(job: &Job<'_>, on_artifact: impl FnMut(&Path, &str)) -> io::Result<Compiled> {
    let link_report = match job.wants_link_report {
        true => Some(tempfile::Builder::new().prefix("kache-link-").tempfile()?.into_temp_path()),
        false => None,
    };
    let adjustments = Adjustments {
        remapped: job.remapped.clone(),
        keeps_incremental: job.keeps_incremental,
        link_report: link_report.as_ref().map(|path| path.to_string_lossy().into_owned()),
        script_hook: job.script_hook.as_ref().map(|path| path.to_string_lossy().into_owned()),
    };
    let args = remap::adjust(&job.call.args, job.roots, &adjustments);
    let started = FileTime::now_coarse();
    let started_in_target = stamp_now(job.out_dir).unwrap_or(started);
    let clock = Instant::now();
    let Started { mut child, observer, response_file } = start(job, &args)?;
    fault::point(Point::CompilerStarted);
    // Proc macros may print; what they print is passed on and kept.
    let stdout = child.stdout.take().map(|from| tee(from, io::stdout()));
    let messages = pass_messages(&mut child, job, on_artifact);
    let status = child.wait()?;
    fault::point(Point::CompilerEnded);
    let stdout = stdout.and_then(|reader| reader.join().ok()).unwrap_or(Some(Vec::new()));
    let observation = observer.and_then(sys::Observer::finish);
    drop(response_file);
    let messages = messages?;
    Ok(Compiled {
        status,
        printed: messages.printed || stdout.as_ref().is_none_or(|bytes| !bytes.is_empty()),
        stderr: messages.kept,
        stdout,
        artifacts: messages.artifacts,
        degraded: messages.degraded,
        started,
        started_in_target,
        elapsed: clock.elapsed(),
        incremental: job.keeps_incremental,
        observation,
        preloaded: job.preloaded.clone(),
        script_hook: job.script_hook.clone(),
        link_report,
        held: messages.held,
    })
}

/// A stamp that is later than that of every file written so far in this file system, and not later than that of any
/// written from now on. Since Linux 6.13 a stamp that was looked at makes the next one finer than the clock's tick;
/// where that isn't so, the tick is waited for.
pub(crate) fn stamp_now(dir: &Path) -> io::Result<FileTime> {
    let mut file = tempfile::Builder::new().prefix(".kache-").tempfile_in(dir)?;
    let first = FileTime::modified(&file.as_file().metadata()?);
    for _ in 0..20 {
        file.write_all(b".")?;
        let next = FileTime::modified(&file.as_file().metadata()?);
        if next > first {
            return Ok(next);
        }
        thread::sleep(Duration::from_millis(1));
    }
    Ok(first)
}

/// The command, and the response file that has to live as long as it runs. `in_file` is for arguments that the kernel
/// has refused; those that only a file can carry go into one anyway.
fn command(
    job: &Job<'_>,
    args: &[String],
    in_file: bool,
) -> io::Result<(Command, Option<tempfile::TempPath>)> {
    let mut command = match &job.call.driver {
        Some(driver) => Command::new(driver),
        None => Command::new(&job.call.compiler),
    };
    if job.call.driver.is_some() {
        command.arg(&job.call.compiler);
    }
    let mut response_file = None;
    match arg_file::render(args).filter(|_| in_file || !arg_file::fits(args)) {
        None => {
            command.args(args);
        }
        Some(text) => {
            let mut file = tempfile::Builder::new().prefix("kache-args-").tempfile()?;
            file.write_all(text.as_bytes())?;
            let path = file.into_temp_path();
            command.arg(format!("@{}", path.display()));
            response_file = Some(path);
        }
    }
    if let Some(library) = &job.preloaded {
        sight::preload(&mut command, library, |name| job.call.env.get(name).map(ToOwned::to_owned));
    }
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    sys::bind_to_us(&mut command);
    Ok((command, response_file))
}

/// A compiler that was started, and what belongs to it.
struct Started {
    child: Child,
    observer: Option<sys::Observer>,
    response_file: Option<tempfile::TempPath>,
}

/// Starts the compiler; with its arguments in a file where the kernel finds them too long, as Cargo does
/// (`crates/cargo-util/src/process_builder.rs`, 1.95): how much room there is depends on the environment and on the
/// limit for the stack.
fn start(job: &Job<'_>, args: &[String]) -> io::Result<Started> {
    let attempt = |in_file: bool| -> io::Result<Started> {
        let (mut command, response_file) = command(job, args, in_file)?;
        let (child, observer) = match &job.observed_scope {
            Some(ignored) => sys::spawn_observed(
                command,
                Scope { ignored: ignored.clone(), probes: Probes::Existence, writes: Writes::Observe },
            )?,
            None => (command.spawn()?, None),
        };
        Ok(Started { child, observer, response_file })
    };
    match attempt(false) {
        Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong => attempt(true),
        outcome => outcome,
    }
}

/// Passes on what comes, and keeps it; `None` when it was too long to keep.
pub(crate) fn tee(
    mut from: impl Read + Send + 'static,
    mut to: impl Write + Send + 'static,
) -> thread::JoinHandle<Option<Vec<u8>>> {
    thread::spawn(move || {
        let mut kept = Some(Vec::new());
        let mut buffer = vec![0u8; 16 << 10];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            // When Cargo has gone there is nobody to tell.
            let _ = to.write_all(&buffer[..count]).and_then(|()| to.flush());
            keep(&mut kept, &buffer[..count]);
        }
        kept
    })
}

#[derive(Default)]
struct Messages {
    kept: Option<Vec<u8>>,
    artifacts: Vec<(String, String)>,
    printed: bool,
    degraded: Option<&'static str>,
    held: Vec<u8>,
}

fn pass_messages(
    child: &mut Child,
    job: &Job<'_>,
    mut on_artifact: impl FnMut(&Path, &str),
) -> io::Result<Messages> {
    let mut messages = Messages { kept: Some(Vec::new()), ..Messages::default() };
    let Some(from) = child.stderr.take() else { return Ok(messages) };
    let mut from = BufReader::with_capacity(64 << 10, from);
    let mut line = Vec::new();
    loop {
        line.clear();
        if from.read_until(b'\n', &mut line)? == 0 {
            return Ok(messages);
        }
        let is_news;
        match diagnostics::classify(line.strip_suffix(b"\n").unwrap_or(&line)) {
            Line::Artifact { path, emit } => {
                on_artifact(Path::new(&path), &emit);
                fault::point(Point::OutputReady);
                let artifact = (path, emit);
                is_news = !job.announced.contains(&artifact);
                messages.artifacts.push(artifact);
            }
            // Of a second attempt they would be one too many.
            Line::Timing => {
                if job.announced.is_empty() && messages.held.is_empty() {
                    tell(&line);
                }
                continue;
            }
            Line::Message => {
                is_news = messages.held.is_empty() && !diagnostics::tells_of_full_disk(&line);
                messages.printed = true;
                messages.degraded = messages.degraded.or_else(|| diagnostics::degraded(&line));
                if let Some(real) = diagnostics::unmap(&line, job.roots, &job.remapped) {
                    line = real;
                }
                if !is_news {
                    messages.held.extend_from_slice(&line);
                }
            }
        }
        if is_news {
            tell(&line);
        }
        keep(&mut messages.kept, &line);
    }
}

fn tell(line: &[u8]) {
    let mut out = io::stderr().lock();
    let _ = out.write_all(line).and_then(|()| out.flush());
}

fn keep(kept: &mut Option<Vec<u8>>, bytes: &[u8]) {
    if let Some(text) = kept {
        text.extend_from_slice(bytes);
        if text.len() > MESSAGES_BYTES_MAX {
            *kept = None;
        }
    }
}
