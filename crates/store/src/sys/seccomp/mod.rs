//! Owns the course of an observation on Linux: spawn, supervise, finish.

mod filter;
mod handover;
mod install;
mod listener;
mod recorder;

use std::ffi::OsStr;
use std::io::{self, PipeReader, PipeWriter, Write};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::filter::RequestKind;
use self::install::{Installer, ParentDeath};
use self::listener::{Answer, Listener, ReadError, Wake};
use self::recorder::Recorder;
use super::observation::{AccessKind, Observation, Scope};
use crate::clock::FileTime;

/// How long a descendant may take to exit after the command has.
const GRACE: Duration = Duration::from_millis(20);
const STACK_SIZE_BYTES: usize = 256 << 10;
const PATH_SIZE_BYTES_MAX: usize = libc::PATH_MAX as usize;

/// Watches a command and its descendants until [`Observer::finish`].
///
/// It must live as long as the command runs. Dropping it passes the command on to a process that lets it go on
/// unobserved, but a process that exits without dropping it leaves the command unable to open anything.
#[derive(Debug)]
pub struct Observer {
    stop: PipeWriter,
    /// Held here too, so that writing to `stop` never raises `SIGPIPE`.
    _stopped: Arc<PipeReader>,
    supervisor: Option<JoinHandle<Supervised>>,
}

/// What the supervisor hands back: the record, and the listener if processes still depend on it.
type Supervised = (Recorder, Option<Listener>);

impl Observer {
    /// Ends the observation and returns what was seen; nothing if we weren't allowed to see anything, as where the
    /// kernel or a container keeps us from reading other processes. To be called after the command was waited for;
    /// never waits for descendants that are left over, which go on unobserved.
    #[must_use]
    pub fn finish(mut self) -> Option<Observation> {
        self.end()
    }

    fn end(&mut self) -> Option<Observation> {
        let supervisor = self.supervisor.take()?;
        // Can't fail while the supervisor reads, and it reads until it has ended.
        drop(self.stop.write_all(b"."));
        let (recorder, listener) = supervisor.join().ok()?;
        let outlived = listener.is_some();
        if let Some(listener) = listener {
            handover::hand_over(listener);
        }
        recorder.into_observation().map(|observation| Observation { outlived, ..observation })
    }
}

impl Drop for Observer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Whether this platform can observe at all; a kernel or container may still refuse.
#[must_use]
pub const fn can_observe() -> bool {
    true
}

/// Spawns `command`, observed where that is possible. The command behaves as if it were not, except that
/// set-user-ID programs have no effect in it, and that if it is spawned from the main thread it is killed when
/// this process dies.
pub fn spawn_observed(mut command: Command, scope: Scope) -> io::Result<(Child, Option<Observer>)> {
    let Some(preparation) = Preparation::new(&mut command, &scope) else {
        return Ok((command.spawn()?, None));
    };
    let Preparation { observer, is_wanted, is_listening } = preparation;
    match command.spawn() {
        Ok(child) => {
            // The last other end of the socket is the child's now: should it have died without a word, the supervisor
            // hears of that.
            drop(command);
            let is_observed = is_listening.recv() == Ok(Listening::Yes);
            Ok((child, is_observed.then_some(observer)))
        }
        // Perhaps because of the filter. Without it the command fails by itself, or not at all.
        Err(_) => {
            is_wanted.store(false, Ordering::Relaxed);
            let child = command.spawn();
            // Ends the supervisor's wait for a listener: the last other end of its socket is in the command.
            drop(command);
            Ok((child?, None))
        }
    }
}

/// Everything made ready before the fork.
struct Preparation {
    observer: Observer,
    is_wanted: Arc<AtomicBool>,
    is_listening: Receiver<Listening>,
}

/// Whether the child sent a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listening {
    Yes,
    No,
}

impl Preparation {
    /// Nothing where observation is known to be impossible.
    fn new(command: &mut Command, scope: &Scope) -> Option<Self> {
        if !Listener::is_supported() || !kernel_tells_when_unused() {
            return None;
        }
        let (ours, theirs) = UnixStream::pair().ok()?;
        let peer = ours.as_raw_fd();
        let (stopped, stop) = io::pipe().ok()?;
        let stopped = Arc::new(stopped);
        let seen_by_supervisor = Arc::clone(&stopped);
        let (listening, is_listening) = sync_channel(1);
        let recorder = Recorder::new(scope);
        // Before the fork, because the child's `execve` is the first call that waits for an answer.
        let supervisor = thread::Builder::new()
            .name("kache-observer".to_owned())
            .stack_size(STACK_SIZE_BYTES)
            .spawn(move || supervise(&ours, &listening, &seen_by_supervisor, recorder))
            .ok()?;
        let is_wanted = Arc::new(AtomicBool::new(true));
        let installer = Installer {
            program: filter::program(scope),
            socket: theirs,
            peer,
            is_wanted: Arc::clone(&is_wanted),
            parent: ParentDeath::of_this_thread(),
        };
        // SAFETY: `Installer::run` makes only async-signal-safe calls.
        unsafe { command.pre_exec(move || installer.run()) };
        let observer = Observer { stop, _stopped: stopped, supervisor: Some(supervisor) };
        Some(Self { observer, is_wanted, is_listening })
    }
}

/// Linux 5.9 and later report on the listener that no process uses the filter any more.
fn kernel_tells_when_unused() -> bool {
    version(rustix::system::uname().release().to_bytes()) >= (5, 9)
}

/// The first two numbers of a kernel release.
fn version(release: &[u8]) -> (u32, u32) {
    let mut numbers = release.split(|byte| !byte.is_ascii_digit()).map(|digits| {
        let append =
            |number: u32, digit: &u8| number.saturating_mul(10).saturating_add(u32::from(digit - b'0'));
        digits.iter().fold(0, append)
    });
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// The supervisor thread: answers and records until the filter is out of use or it is told to stop.
fn supervise(
    socket: &UnixStream,
    listening: &SyncSender<Listening>,
    stopped: &PipeReader,
    mut recorder: Recorder,
) -> Supervised {
    block_signals();
    let Some(listener) = Listener::receive(socket) else {
        let _ = listening.send(Listening::No);
        return (recorder, None);
    };
    let _ = listening.send(Listening::Yes);
    let mut stop = Some(stopped.as_raw_fd());
    let mut deadline: Option<Instant> = None;
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return (recorder, Some(listener));
        }
        match listener.wait(stop, left) {
            Wake::Call => answer(&listener, &mut recorder),
            Wake::Unused => return (recorder, None),
            Wake::Stop => {
                stop = None;
                deadline = Some(Instant::now() + GRACE);
            }
            Wake::Timeout => {}
        }
    }
}

/// Signals are for the threads that expect them.
fn block_signals() {
    // SAFETY: the set is a local, filled before it is used.
    unsafe {
        let mut all = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const all, std::ptr::null_mut());
    }
}

/// Looks at one stopped call and lets it go on. What follows the answer runs beside the process again.
fn answer(listener: &Listener, recorder: &mut Recorder) {
    let Some(call) = listener.take() else { return };
    let mut accesses = [const { None }; 2];
    if !recorder.is_closed() {
        for (slot, request) in accesses.iter_mut().zip(filter::decode(&call.data)) {
            *slot = Some(read_access(&call, &request, recorder.started()));
        }
    }
    if listener.pass(&call) == Answer::Gone {
        return;
    }
    recorder.count_call();
    for access in accesses.into_iter().flatten() {
        match access {
            Ok(Some((path, kind))) => recorder.add(&path, kind),
            Ok(None) | Err(ReadError::Void) => {}
            Err(ReadError::Forbidden) => recorder.add_unreadable(),
        }
    }
}

/// Reads the absolute path that a stopped call is about to use. Nothing if that doesn't count.
fn read_access(
    call: &libc::seccomp_notif,
    request: &filter::Request,
    started: FileTime,
) -> Result<Option<(Vec<u8>, AccessKind)>, ReadError> {
    let kind = match request.kind {
        RequestKind::Known(kind) => kind,
        RequestKind::ExecDescriptor => AccessKind::Exec,
        RequestKind::FlagsAt(address) => filter::open_kind(listener::read_word(call.pid, address)?),
        RequestKind::Socket(is_network) => {
            return Ok(is_network.then(|| (b"/".to_vec(), AccessKind::Network)));
        }
    };
    let mut buffer = [0; PATH_SIZE_BYTES_MAX];
    let path = listener::read_path(call.pid, request.path_address, &mut buffer)?;
    let path = match path.first() {
        Some(b'/') => path.to_vec(),
        None if request.kind != RequestKind::ExecDescriptor => return Ok(None),
        _ => {
            let mut base = listener::directory(call.pid, request.directory)?;
            base.push(b'/');
            base.extend_from_slice(path);
            base
        }
    };
    // The process is stopped: what isn't there now, it can't remove. What came to be meanwhile may go again.
    let is_older = || {
        let meta = std::fs::symlink_metadata(OsStr::from_bytes(&path)).ok();
        // A file system that doesn't note births has at least the time of the last change.
        meta.is_some_and(|meta| FileTime::born(&meta).unwrap_or(FileTime::changed(&meta)) < started)
    };
    Ok((kind != AccessKind::Remove || is_older()).then_some((path, kind)))
}

#[cfg(test)]
mod tests {
    use super::version;

    #[test]
    fn kernel_releases_are_compared_by_number() {
        for (release, expected) in [
            ("5.9.0", (5, 9)),
            ("5.15.0-91-generic", (5, 15)),
            ("6.18.44-fc-v669", (6, 18)),
            ("6", (6, 0)),
            ("4.19-rc1+", (4, 19)),
            ("99999999999.1", (u32::MAX, 1)),
            ("", (0, 0)),
        ] {
            assert_eq!(version(release.as_bytes()), expected, "{release}");
        }
    }
}
