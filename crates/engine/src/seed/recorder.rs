//! The recorder: a detached process that waits for a Cargo to end and then records what it has built. Owns when it is
//! started, its note in the profile directory, and the memo for `kache doctor`; what is recorded is decided in `record`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use kache_core::cargo::layout::{LEDGER, Layout};
use kache_core::config::{Settings, env};
use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_store::Store;
use serde::{Deserialize, Serialize};

use super::parent::{self, Parent};
use super::record::{self, Recorded};
use super::surroundings::{self, Surroundings};
use super::times;
use crate::toolchain;
use crate::world::{Session, TargetLayout};

/// Kind of the memo that says what the last recording came to; its key is the digest of the Cargo's version.
const RECORDING_MEMO: &str = "recording";
/// Longest time that a recorder waits for its Cargo.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest time that it waits for other Cargos in the same directory.
const BUSY_MAX: Duration = Duration::from_secs(600);
/// Makes sure that somebody waits for the calling Cargo to end and then records what it has built: started once for
/// each Cargo, when the first registry or git unit has been served or stored.
pub fn watch(store: &Store, settings: &Settings, session: &Session, call: &Invocation, place: &TargetLayout) {
    if !settings.seed.value || session.project.is_none() {
        return;
    }
    let note = place.profile_dir.join(LEDGER).join("recorder");
    if !claim(&note, &session.id).unwrap_or(false) {
        return;
    }
    let Ok(program) = std::env::current_exe() else { return };
    let Some(compiler) = toolchain::compiler_proper(call, store) else { return };
    let mut command = Command::new(program);
    command.args(["snapshot", "--cargo", &session.id, "--compiler", &compiler]);
    command.args(["--layout", place.layout.word(), "--note"]).arg(&note);
    // A project's settings file is not found from where it runs.
    command.env(env::KACHE_CACHE_DIR, store.root());
    let portable = if settings.portable_paths.value { "1" } else { "0" };
    command.env(env::KACHE_PORTABLE_PATHS, portable);
    match &settings.key_salt {
        Some(salt) => command.env(env::KACHE_KEY_SALT, &salt.value),
        None => command.env_remove(env::KACHE_KEY_SALT),
    };
    if let Err(error) = kache_store::sys::detach_and_spawn(command) {
        tracing::warn!(%error, "no snapshot will be recorded");
    }
}

/// Writes down in `note` that `session` has a recorder; `false` if it had one. Of several that ask at once, one is told
/// `true`: a second recorder would do the work of the first one again.
fn claim(note: &Path, session: &str) -> io::Result<bool> {
    let mut note = File::options().read(true).write(true).create(true).truncate(false).open(note)?;
    if note.try_lock().is_err() {
        return Ok(false);
    }
    let mut known = Vec::new();
    note.read_to_end(&mut known)?;
    if known.split(|byte| *byte == b'\n').next() == Some(session.as_bytes()) {
        return Ok(false);
    }
    note.set_len(0)?;
    note.rewind()?;
    note.write_all(session.as_bytes())?;
    Ok(true)
}

/// Waits for the Cargo of `session` to end, then records what it has built.
///
/// # Errors
/// In words, when what it built can't be told or the store refuses.
pub fn record_after(
    settings: &Settings,
    session: &str,
    (compiler, layout): (&str, Layout),
    note: &Path,
) -> Result<Recorded, String> {
    let session = Session { id: session.to_owned(), project: None };
    let recorded = record_of(settings, &session, compiler, layout);
    let came_of_it = recorded.as_ref().map_or_else(String::clone, ToString::to_string);
    // For whoever wonders. Another Cargo's recorder may have taken over.
    if fs::read_to_string(note).is_ok_and(|known| known == session.id) {
        let _ = fs::write(note, format!("{}\n{came_of_it}\n", session.id));
    }
    recorded
}

fn record_of(
    settings: &Settings,
    session: &Session,
    compiler: &str,
    layout: Layout,
) -> Result<Recorded, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let store = settings.cache_dir().map_err(|error| words(&error))?;
    let store = Store::open_existing(store).map_err(|error| words(&error))?;
    // Everything about the process has to be known before it is gone.
    let parent = Parent::of(session).ok_or("the Cargo is gone, or can't be looked at")?;
    let recorded = record_for(&store, settings, session, &parent, compiler, layout);
    note_recording(&store, &parent, &recorded);
    recorded
}

/// What recording came to, for `kache doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// In words.
    pub what: String,
    /// Whether a snapshot is there.
    pub works: bool,
    /// When, in seconds since 1970.
    pub at_s: u64,
}

fn note_recording(store: &Store, parent: &Parent, recorded: &Result<Recorded, String>) {
    let Some(version) = parent.version() else { return };
    let recording = Recording {
        what: recorded.as_ref().map_or_else(String::clone, ToString::to_string),
        works: matches!(recorded, Ok(Recorded::Written { .. } | Recorded::Unchanged)),
        at_s: u64::try_from(times::now_ns() / 1_000_000_000).unwrap_or_default(),
    };
    if let Ok(json) = serde_json::to_vec(&recording) {
        // Only `kache doctor` asks for it.
        let _ = store.memo_put(RECORDING_MEMO, &Digest::of(version.as_bytes()), &json);
    }
}

/// What the last recording came to with a Cargo that answers `-V` with this line; `None` where none was tried.
pub fn last_recording(store: &Store, cargo_version: &str) -> Option<Recording> {
    let json = store.memo_get(RECORDING_MEMO, &Digest::of(cargo_version.as_bytes()))?;
    serde_json::from_slice(&json).ok()
}

fn record_for(
    store: &Store,
    settings: &Settings,
    session: &Session,
    parent: &Parent,
    compiler: &str,
    layout: Layout,
) -> Result<Recorded, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let dirs = parent.directories(&parent.call()?)?;
    let (context, toolchain) =
        surroundings::context(store, settings, parent, compiler).ok_or("the compiler can't be identified")?;
    wait(session);
    let around = Surroundings::new(settings, parent, compiler, (context, &toolchain), dirs)?;
    // Each recorder knows the environment of its own Cargo only, so one waits for the next Cargo and the next recorder.
    let patience = Instant::now();
    loop {
        let one_at_a_time = store.lock_snapshots(BUSY_MAX);
        let recorded = record::record(store, parent, &around, layout).map_err(|error| words(&error))?;
        drop(one_at_a_time);
        if recorded != Recorded::Busy || patience.elapsed() > BUSY_MAX {
            return Ok(recorded);
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Waits for the end of a process that isn't our child.
fn wait(session: &Session) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let started = Instant::now();
    let pid = session.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).and_then(Pid::from_raw);
    let handle = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    while parent::is_alive(session) && started.elapsed() < WAIT_MAX {
        let waited = handle.as_ref().is_some_and(|handle| {
            let timeout = rustix::event::Timespec { tv_sec: 600, tv_nsec: 0 };
            poll(&mut [PollFd::new(handle, PollFlags::IN)], Some(&timeout)).is_ok()
        });
        if !waited {
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cargo_gets_one_recorder() {
        let dir = tempfile::tempdir().expect("temp dir");
        let note = dir.path().join("recorder");
        fs::write(&note, "a longer session\nrecorded nothing\n").expect("write");
        for session in ["1-1", "2-2"] {
            let claim = || claim(&note, session).expect("claim");
            let claimed = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..16).map(|_| scope.spawn(claim)).collect();
                asking.into_iter().map(|thread| thread.join().expect("thread")).filter(|won| *won).count()
            });
            assert_eq!((claimed, claim()), (1, false));
            assert_eq!(fs::read_to_string(&note).expect("read"), session);
        }
    }
}
