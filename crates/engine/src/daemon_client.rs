//! Asks the daemon whether the remote has a unit, or what fills a fresh target directory, and starts a daemon where there
//! is none. Only called on a miss or for such a directory, and only where a remote is configured. Knows nothing about
//! remotes.
//!
//! Nothing that can be wrong with a daemon fails a build or costs it more than `PATIENCE` once:
//!
//! | The daemon | What happens |
//! |---|---|
//! | is absent | one of the wrappers starts it, all wait for its socket; when it doesn't come up, a note is left |
//! | is stopped or hung | no word within `PATIENCE`: a note is left |
//! | takes no more connections | as above |
//! | is of another version, or no daemon at all | its first word tells: a note is left |
//! | serves another remote | it says so: a note is left for those who mean this remote |
//! | makes way, since its credentials are refused and the build's are others | the next one is started and asked |
//! | dies in the middle | the connection ends: a note is left |
//! | is busy for long | it says every now and then that it is alive, and gives up by itself |
//! | refuses the question, or is too old to know it | there is nothing for this unit; others ask on |
//!
//! While a note is fresh (see `store::rendezvous`) nobody asks. A daemon that starts removes the notes.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use kache_core::config::{Remote, Settings, env};
use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};
use kache_core::protocol::{self, Build, Find, FrameError, HEADER_BYTES, Reply, Request, Seed, Unavailable};
use kache_store::Store;
use kache_store::lock::Locking;
use kache_store::rendezvous::Concerns;
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

/// Longest time until the daemon's first word, its start included.
const PATIENCE: Duration = Duration::from_millis(2500);
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// Longest time for an answer, whatever the daemon says meanwhile.
const ANSWER_MAX: Duration = Duration::from_secs(120);
/// Shortest and longest pause between two attempts to connect.
const PAUSE_MIN: Duration = Duration::from_millis(2);
const PAUSE_MAX: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Something of use has come into the store: look again.
    Arrived,
    /// There is nothing to be had.
    Nothing,
}

#[derive(Debug, Clone, Copy)]
pub struct Names<'a> {
    /// `--crate-name`.
    pub crate_name: &'a str,
    /// Its Cargo package; empty outside of packages.
    pub package: &'a str,
}

/// The daemon of a store, for a build that uses a remote.
pub struct Daemon<'a> {
    store: &'a Store,
    settings: &'a Settings,
    remote: Digest,
    program: io::Result<PathBuf>,
}

#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    #[error("there is none, and none could be started: {0}")]
    Absent(String),
    /// The system's queue of connections is full.
    #[error("it takes no more connections")]
    Full,
    #[error("it gave no sign of life")]
    Silent,
    #[error("the connection failed: {0}")]
    Broken(#[from] io::Error),
    /// Another version, or something else altogether.
    #[error("it {0}")]
    Stranger(#[from] FrameError),
    /// It didn't understand.
    #[error("it refused the question: {0}")]
    Refused(String),
}

/// Asks the daemon of a store something; starts none. `patience` is the longest time until its first word.
pub fn ask(store: &Store, request: &Request, patience: Duration) -> Result<Reply, Trouble> {
    let deadline = Instant::now() + patience;
    converse(connect_until(store, deadline)?, request, deadline)
}

/// Starts a daemon for a store that shares nothing with this process: see `sys::detach_and_spawn`. Of the environment
/// it gets what its settings and the session need. Doesn't wait until it serves.
pub fn start(program: &Path, store: &Store, settings: &Settings) -> io::Result<()> {
    let ambient = settings.remote().map(Remote::ambient).unwrap_or_default();
    let mut command = Command::new(program);
    command.args(["daemon", "run"]).env_clear();
    let is_wanted = |name: &str| env::is_for_daemon(name, &ambient);
    command.envs(std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(is_wanted)));
    command.env(env::KACHE_CACHE_DIR, store.root());
    if let Some(file) = &settings.file {
        command.env(env::KACHE_CONFIG, file);
    }
    // By which variable a job is one for a pull request, it isn't told.
    if settings.remote().is_some_and(Remote::is_read_only) {
        command.env(env::KACHE_READ_ONLY, "1");
    }
    kache_store::sys::detach_and_spawn(command)
}

impl<'a> Daemon<'a> {
    /// Whether there is one to ask: not where no remote is in use, or builds are to leave it to commands.
    pub fn is_used(settings: &Settings) -> bool {
        settings.remote().is_some() && settings.daemon.value
    }

    /// The daemon to ask; see [`Daemon::is_used`].
    pub fn of(store: &'a Store, settings: &'a Settings) -> Option<Self> {
        let remote = settings.remote().filter(|_| Self::is_used(settings))?.identity();
        Some(Self { store, settings, remote, program: std::env::current_exe() })
    }

    pub fn remote(&self) -> &Digest {
        &self.remote
    }

    /// Whether what the build makes is to be uploaded.
    pub fn uploads(&self) -> bool {
        !self.settings.remote().is_some_and(Remote::is_read_only)
    }

    /// Which credentials the build uses, see `config::Remote::credentials_id`.
    pub fn ambient(&self) -> Option<Digest> {
        self.settings.remote().map(|remote| remote.credentials_id())
    }

    pub fn find(&self, key: UnitKey, names: Names<'_>, wanted: &[EntryKey], build: &Build) -> Answer {
        self.put(&Request::Find(Box::new(Find {
            remote: self.remote,
            unit: key,
            crate_name: names.crate_name.to_owned(),
            package: names.package.to_owned(),
            wanted: wanted.to_vec(),
            build: build.clone(),
            ambient: self.ambient(),
        })))
    }

    /// Asks for a snapshot, which the daemon brings for whoever needs it next.
    pub fn seed(&self, wanted: Seed) -> Answer {
        self.put(&Request::Seed(Box::new(wanted)))
    }

    fn put(&self, request: &Request) -> Answer {
        if let Some(why) = self.store.avoided_daemon(&self.remote) {
            tracing::debug!(why, "the daemon is not asked");
            return Answer::Nothing;
        }
        if let Err(why) = request.check() {
            // About this one alone; others are asked for as ever.
            tracing::debug!(why, "the daemon is not asked");
            return Answer::Nothing;
        }
        match self.ask(request) {
            Ok(Reply::Arrived) => Answer::Arrived,
            Ok(Reply::Unavailable(Unavailable::OtherRemote)) => {
                self.note(Concerns::Remote(&self.remote), "it serves another remote");
                Answer::Nothing
            }
            Ok(reply) => {
                tracing::debug!(?reply, "the daemon has nothing");
                Answer::Nothing
            }
            Err(Trouble::Refused(why)) => {
                tracing::debug!(why, "the daemon refuses the question");
                Answer::Nothing
            }
            Err(trouble) => {
                self.note(Concerns::All, &trouble.to_string());
                Answer::Nothing
            }
        }
    }

    fn note(&self, concerns: Concerns<'_>, why: &str) {
        tracing::warn!(why, "doing without the daemon for a while");
        if let Err(error) = self.store.avoid_daemon(concerns, why) {
            tracing::warn!(%error, "others will ask it, too");
        }
    }

    fn ask(&self, request: &Request) -> Result<Reply, Trouble> {
        let deadline = Instant::now() + PATIENCE;
        let mut makes_way = false;
        loop {
            let answer = self.connect_or_start(deadline).and_then(|it| converse(it, request, deadline));
            makes_way = match &answer {
                Ok(reply) => *reply == Reply::Unavailable(Unavailable::Outdated),
                // It has taken the connection, and ended before the question.
                Err(Trouble::Broken(_)) => makes_way,
                Err(_) => false,
            };
            if !makes_way || Instant::now() + PAUSE_MAX >= deadline {
                return answer;
            }
            thread::sleep(PAUSE_MAX);
        }
    }

    /// A connection to the daemon; when there is none, to one that is started now.
    fn connect_or_start(&self, deadline: Instant) -> Result<UnixStream, Trouble> {
        match connect_until(self.store, deadline) {
            Err(Trouble::Absent(_)) => {}
            result => return result,
        }
        let starter = self.store.lock_daemon_start();
        if let Ok(Locking::Locked(_)) = &starter {
            // Another wrapper may have started one just before.
            match connect_until(self.store, deadline) {
                Err(Trouble::Absent(_)) => {
                    self.start().map_err(|error| Trouble::Absent(error.to_string()))?
                }
                result => return result,
            }
        }
        let mut pause = PAUSE_MIN;
        loop {
            match connect_until(self.store, deadline) {
                Err(Trouble::Absent(_)) if Instant::now() + pause < deadline => thread::sleep(pause),
                result => return result,
            }
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    fn start(&self) -> io::Result<()> {
        let program =
            self.program.as_ref().map_err(|error| io::Error::new(error.kind(), error.to_string()))?;
        start(program, self.store, self.settings)
    }
}

/// Sends a request and waits for the reply, as long as there are signs of life.
fn converse(mut stream: UnixStream, request: &Request, mut deadline: Instant) -> Result<Reply, Trouble> {
    let start = Instant::now();
    stream.set_write_timeout(Some(left(deadline)?))?;
    stream.write_all(&protocol::encode(request)?)?;
    loop {
        match read_reply(&mut stream, deadline)? {
            Reply::Working if start.elapsed() < ANSWER_MAX => deadline = Instant::now() + SILENCE_MAX,
            Reply::Working => return Ok(Reply::Unavailable(Unavailable::Late)),
            Reply::Refused { why } => return Err(Trouble::Refused(why)),
            reply => return Ok(reply),
        }
    }
}

/// Connects; while the daemon takes no more connections, tries again.
fn connect_until(store: &Store, deadline: Instant) -> Result<UnixStream, Trouble> {
    let absent = |error: &dyn std::error::Error| Trouble::Absent(error.to_string());
    let place = store.socket_address().map_err(|error| absent(&error))?;
    let address = SocketAddrUnix::new(place.path()).map_err(|error| absent(&error))?;
    loop {
        match connect(&address) {
            Ok(stream) => return Ok(stream),
            Err(errno @ (Errno::NOENT | Errno::CONNREFUSED)) => return Err(absent(&errno)),
            Err(Errno::AGAIN | Errno::INTR) if Instant::now() + PAUSE_MAX < deadline => {
                thread::sleep(PAUSE_MAX);
            }
            Err(Errno::AGAIN) => return Err(Trouble::Full),
            Err(errno) => return Err(Trouble::Broken(errno.into())),
        }
    }
}

/// Connects without ever waiting: with a blocking socket, a daemon that is stopped keeps callers waiting for as long as
/// its queue of connections is full.
fn connect(address: &SocketAddrUnix) -> Result<UnixStream, Errno> {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&socket, true)?;
    rustix::net::connect(&socket, address)?;
    rustix::io::ioctl_fionbio(&socket, false)?;
    Ok(UnixStream::from(socket))
}

fn read_reply(stream: &mut UnixStream, deadline: Instant) -> Result<Reply, Trouble> {
    let mut header = [0; HEADER_BYTES];
    read_whole(stream, &mut header, deadline)?;
    let mut body = vec![0; protocol::body_length(&header)?];
    read_whole(stream, &mut body, deadline)?;
    Ok(protocol::decode(&body)?)
}

fn read_whole(stream: &mut UnixStream, mut bytes: &mut [u8], deadline: Instant) -> Result<(), Trouble> {
    while !bytes.is_empty() {
        stream.set_read_timeout(Some(left(deadline)?))?;
        match stream.read(bytes) {
            Ok(0) => return Err(Trouble::Broken(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => bytes = &mut bytes[count..],
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Err(Trouble::Silent);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Trouble::Broken(error)),
        }
    }
    Ok(())
}

/// The time that is left; a socket takes none as no limit.
fn left(deadline: Instant) -> Result<Duration, Trouble> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(Trouble::Silent) } else { Ok(left) }
}

/// How often the daemon is asked for one unit: records come first, then the entry; once more for records that others
/// have published meanwhile.
pub const REMOTE_ROUNDS_MAX: usize = 3;

/// Notes that the remote should get a new entry, where one is in use. The daemon finds the note.
pub fn queue_upload(store: &Store, settings: &Settings, key: &EntryKey) {
    if let Some(daemon) = Daemon::of(store, settings)
        && daemon.uploads()
        && let Err(error) = store.owe_upload(key, daemon.remote())
    {
        tracing::warn!(%error, "the entry will not be uploaded");
    }
}

#[cfg(test)]
#[path = "daemon_client_tests.rs"]
mod tests;
