//! When a daemon ends: told to, by a signal, because nobody needs it, or because its program was replaced. Looks around
//! every few seconds, and has upkeep done while nobody asks. Does not know what the daemon does otherwise.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use kache_store::Store;
use kache_store::journal::Follower;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::Config;
use super::backend::DaemonBackend;
use super::prefetch::Prefetch;
use super::server::Socket;
use super::upkeep;

/// How long uploads may take when nobody says otherwise.
pub const DRAIN: Duration = Duration::from_secs(30);
/// Longest time for uploads that can be asked for.
pub const DRAIN_MAX: Duration = Duration::from_secs(600);
/// How often it is looked around, at most and at least.
const LOOK_MAX: Duration = Duration::from_secs(2);
const LOOK_MIN: Duration = Duration::from_millis(50);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Idle,
    Stopped,
    /// The socket is gone, or another daemon's: somebody removed the cache directory, and nobody can ask any more.
    Orphaned,
    /// Its credentials are refused, and a build has others: the next daemon gets those.
    Outdated,
    /// The program on disk is another one; whoever runs the daemon runs that now.
    Replaced,
}

/// A program's file, to notice when it is replaced.
#[derive(Debug, Clone)]
pub struct Program {
    path: PathBuf,
    stamp: Option<Stamp>,
}

type Stamp = (u64, u64, u64, i64, i64);

impl Program {
    /// The program at `path`, as it is now.
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), stamp: stamp(path) }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let meta = fs::metadata(path).ok().filter(|meta| meta.is_file() && meta.len() > 0)?;
    Some((meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec()))
}

pub struct Pulse<'a, D> {
    pub last_asked: Instant,
    pub is_busy: bool,
    pub prefetch: Option<&'a Prefetch<D>>,
}

pub struct Supervisor {
    store: Arc<Store>,
    socket: Socket,
    idle: Option<Duration>,
    limit_bytes: u64,
    program: Program,
    /// What the program's file was at the last look: a file that is still being written is no replacement yet.
    seen: Option<Stamp>,
    journal: Follower,
    last_upkeep: Option<Instant>,
    /// Set to have upkeep end early.
    stop_upkeep: Arc<AtomicBool>,
    upkeep: Option<std::thread::JoinHandle<()>>,
}

impl Supervisor {
    pub fn new(config: &Config, socket: &Socket) -> Self {
        Self {
            store: Arc::clone(&config.store),
            socket: socket.clone(),
            idle: config.idle,
            limit_bytes: config.limit_bytes,
            program: config.program.clone(),
            seen: config.program.stamp,
            journal: Follower::at_end(&config.store),
            last_upkeep: None,
            stop_upkeep: Arc::default(),
            upkeep: None,
        }
    }

    /// Looks around until there is a reason to end.
    pub async fn watch<'a, D: DaemonBackend>(&mut self, pulse: impl Fn() -> Pulse<'a, D>) -> End {
        let pause = self.idle.map_or(LOOK_MAX, |idle| (idle / 8).clamp(LOOK_MIN, LOOK_MAX));
        loop {
            tokio::time::sleep(pause).await;
            let pulse = pulse();
            if let Some(prefetch) = pulse.prefetch {
                prefetch.learn_from(&mut self.journal);
            }
            if !self.socket.is_in_place() {
                return End::Orphaned;
            }
            if self.is_replaced() {
                return End::Replaced;
            }
            let quiet = pulse.last_asked.elapsed();
            if !pulse.is_busy && self.idle.is_some_and(|idle| quiet >= idle) {
                return End::Idle;
            }
            if pulse.is_busy || quiet < upkeep::QUIET {
                self.stop_upkeep.store(true, Ordering::Relaxed);
            } else {
                self.keep_up();
            }
        }
    }

    fn is_replaced(&mut self) -> bool {
        let now = stamp(&self.program.path);
        let is_other = now.is_some() && now != self.program.stamp && self.program.stamp.is_some();
        let is_settled = now == self.seen;
        self.seen = now;
        is_other && is_settled
    }

    /// Begins a round of upkeep, if one is due.
    fn keep_up(&mut self) {
        let is_due = self.last_upkeep.is_none_or(|last| last.elapsed() >= upkeep::PAUSE);
        if !is_due || self.upkeep.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        self.last_upkeep = Some(Instant::now());
        self.stop_upkeep.store(false, Ordering::Relaxed);
        let (store, limit_bytes, stop) =
            (Arc::clone(&self.store), self.limit_bytes, Arc::clone(&self.stop_upkeep));
        let thread = std::thread::Builder::new().name("upkeep".to_owned()).spawn(move || {
            kache_store::sys::idle_priority();
            match upkeep::run(&store, limit_bytes, &stop) {
                Ok(done) => tracing::info!(?done, "upkeep"),
                Err(error) => tracing::warn!(%error, "upkeep"),
            }
        });
        self.upkeep = thread.ok();
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop_upkeep.store(true, Ordering::Relaxed);
    }
}

/// One of a number, for as long as it lives.
pub struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    pub fn one_more(number: &'a AtomicUsize) -> Self {
        number.fetch_add(1, Ordering::Relaxed);
        Self(number)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Waits for a signal that asks to end.
pub async fn signalled() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::Endpoint;
    use super::*;

    #[tokio::test]
    async fn a_replaced_program_is_noticed_once_it_is_settled() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("kache");
        fs::write(&path, "one").expect("write");
        let store = Arc::new(Store::open(&dir.path().join("cache")).expect("open"));
        let config = Config {
            store,
            remote: None,
            ambient: None,
            read_only: false,
            slots: 1,
            idle: None,
            limit_bytes: 0,
            program: Program::at(&path),
            version: String::new(),
        };
        let endpoint = Endpoint::bind(&config.store).expect("bound");
        let mut supervisor = Supervisor::new(&config, endpoint.socket());
        assert!(!supervisor.is_replaced());
        fs::remove_file(&path).expect("remove");
        assert!(!supervisor.is_replaced(), "a program that is gone has no successor yet");
        fs::write(&path, "").expect("write");
        assert!(!supervisor.is_replaced() && !supervisor.is_replaced(), "nor has an empty one");
        fs::write(&path, "tw").expect("write");
        assert!(!supervisor.is_replaced());
        fs::write(&path, "two").expect("write");
        assert!(!supervisor.is_replaced(), "still being written");
        assert!(supervisor.is_replaced());
    }
}
