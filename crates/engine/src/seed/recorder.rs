//! The recorder: a detached process that waits for a Cargo to end and then records what it has built. Owns when it is
//! started, its note in the profile directory, and the memo for `kache doctor`; what is recorded is decided in `record`.

use std::fs::{self, File};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kache_core::cargo::layout::{LEDGER, Layout};
use kache_core::config::{Settings, env};
use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::seed_unit::SeedUnit;
use kache_store::Store;
use serde::{Deserialize, Serialize};

use super::parent::{self, Parent};
use super::pending::{self, Doing};
use super::record::{self, Recorded, When};
use super::surroundings::{self, Surroundings};
use crate::times;
use crate::toolchain;
use crate::world::{Session, TargetLayout};

/// Kind of the memo that says what the last recording came to; its key is the digest of the Cargo's version.
const RECORDING_MEMO: &str = "recording";
/// Longest time that a recorder waits for its Cargo.
const WAIT_MAX: Duration = Duration::from_secs(24 * 3600);
/// Longest time that it waits for other Cargos in the same directory.
const BUSY_MAX: Duration = Duration::from_secs(600);
/// How long the last wrapper of a build waits for what it records.
const LAST_WAIT_MAX: Duration = Duration::from_secs(10);

/// Starts a recorder for the calling Cargo, once, when the first registry or git unit has been served or stored. Later
/// ones only leave word in the note that there is more to record.
pub fn watch(store: &Store, settings: &Settings, session: &Session, call: &Invocation, place: &TargetLayout) {
    if !settings.seed.value || session.project.is_none() {
        return;
    }
    let note = note_of(&place.profile_dir);
    if !claim(&note, &session.id).unwrap_or(false) {
        return;
    }
    if let Some(command) = command(store, settings, session, (call, place), &note)
        && let Err(error) = kache_store::sys::detach_and_spawn(command)
    {
        tracing::warn!(%error, "no snapshot will be recorded");
    }
}

/// Records what registry and git packages have left so far, and waits for it: at the end of a member's unit, where
/// nothing else is at work and the recorder may not live to see the end of the build.
pub fn record_before_end(
    store: &Store,
    settings: &Settings,
    session: &Session,
    call: &Invocation,
    place: &TargetLayout,
) {
    let notes = || place.profile_dirs().into_iter().map(|dir| note_of(&dir));
    let mut news = notes().filter(|note| {
        let known = fs::read_to_string(note).unwrap_or_default();
        owner(&known) == session.id && !known.ends_with('\n')
    });
    // In the order of what they cost.
    if !settings.seed.value || !pending::may_not_outlive_builds() {
        return;
    }
    let Some(note) = news.next().filter(|_| pending::is_last(session)) else { return };
    let Some(mut command) = command(store, settings, session, (call, place), &note) else { return };
    command.arg("--now").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let Ok(mut recorder) = command.spawn() else { return };
    let started = Instant::now();
    while matches!(recorder.try_wait(), Ok(None)) && started.elapsed() < LAST_WAIT_MAX {
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn note_of(profile_dir: &Path) -> PathBuf {
    profile_dir.join(LEDGER).join("recorder")
}

/// `kache snapshot` for a Cargo.
fn command(
    store: &Store,
    settings: &Settings,
    session: &Session,
    (call, place): (&Invocation, &TargetLayout),
    note: &Path,
) -> Option<Command> {
    let mut command = Command::new(std::env::current_exe().ok()?);
    command.args(["snapshot", "--cargo", &session.id]);
    command.args(["--compiler", &toolchain::compiler_proper(call, store)?]);
    command.args(["--layout", place.layout.word(), "--note"]).arg(note);
    // A project's settings file is not found from where it runs.
    command.env(env::KACHE_CACHE_DIR, store.root());
    let portable = if settings.portable_paths.value { "1" } else { "0" };
    command.env(env::KACHE_PORTABLE_PATHS, portable);
    match &settings.key_salt {
        Some(salt) => command.env(env::KACHE_KEY_SALT, &salt.value),
        None => command.env_remove(env::KACHE_KEY_SALT),
    };
    Some(command)
}

/// The session that a note is about. It stands in the first line; a dot follows for each unit that was done since the
/// recorder was started or has recorded, and after the line what came of recording. A note that doesn't end with its
/// line has news.
fn owner(note: &str) -> &str {
    note.lines().next().unwrap_or_default().trim_end_matches('.')
}

/// Writes down in `note` that `session` has a recorder; `false` if it had one. Of several that ask at once, one is told
/// `true`: a second recorder would do the work of the first one again.
pub(crate) fn claim(note: &Path, session: &str) -> io::Result<bool> {
    let mut note = File::options().read(true).append(true).create(true).open(note)?;
    let mut known = String::new();
    note.read_to_string(&mut known)?;
    if owner(&known) == session {
        note.write_all(b".")?;
        return Ok(false);
    }
    if note.try_lock().is_err() {
        return Ok(false);
    }
    known.clear();
    note.rewind()?;
    note.read_to_string(&mut known)?;
    if owner(&known) == session {
        return Ok(false);
    }
    note.set_len(0)?;
    note.write_all(session.as_bytes())?;
    Ok(true)
}

/// Records what the Cargo of `session` has built: as far as it has come, or once it has ended.
///
/// # Errors
/// In words, when what it built can't be told or the store refuses.
pub fn record(
    settings: &Settings,
    session: &str,
    (compiler, layout, when): (&str, Layout, When),
    note: &Path,
) -> Result<Recorded, String> {
    let session = Session { id: session.to_owned(), ..Session::default() };
    let before = fs::read_to_string(note).unwrap_or_default();
    let recorded = record_of(settings, &session, (compiler, layout, when));
    let came_of_it = recorded.as_ref().map_or_else(String::clone, ToString::to_string);
    // Another Cargo's recorder may have taken over, and a unit may have been done that isn't recorded.
    let known = fs::read_to_string(note).unwrap_or_default();
    if owner(&known) == session.id && (when == When::AfterBuild || known == before) {
        let _ = fs::write(note, format!("{}\n{came_of_it}\n", session.id));
    }
    recorded
}

fn record_of(
    settings: &Settings,
    session: &Session,
    (compiler, layout, when): (&str, Layout, When),
) -> Result<Recorded, String> {
    Doing::Recording.tell();
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let store = settings.cache_dir().map_err(|error| words(&error))?;
    let store = Store::open_existing(store).map_err(|error| words(&error))?;
    // Everything about the process has to be known before it is gone.
    let parent = Parent::of(session).ok_or("the Cargo is gone, or can't be looked at")?;
    let recorded = record_for(&store, settings, session, &parent, (compiler, layout, when));
    note_recording(&store, &parent, &recorded);
    recorded
}

/// What recording came to, for `kache doctor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    pub what: String,
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
    (compiler, layout, when): (&str, Layout, When),
) -> Result<Recorded, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let dirs = parent.directories(&parent.call()?)?;
    let (context, toolchain) =
        surroundings::context(store, settings, parent, compiler).ok_or("the compiler can't be identified")?;
    if when == When::AfterBuild {
        wait(session);
    }
    let around = Surroundings::new(settings, parent, compiler, (context, &toolchain), dirs)?;
    // Each recorder knows the environment of its own Cargo only, so one waits for the next Cargo and the next recorder.
    let patience = Instant::now();
    let recorded = loop {
        let one_at_a_time = store.lock_snapshots(BUSY_MAX);
        let recorded =
            record::record(store, parent, &around, (layout, when)).map_err(|error| words(&error))?;
        drop(one_at_a_time);
        if recorded != Recorded::Busy || patience.elapsed() > BUSY_MAX {
            break recorded;
        }
        Doing::Waiting.tell();
        std::thread::sleep(Duration::from_millis(200));
        Doing::Recording.tell();
    };
    // Nothing waits for this: after a power cut, entries that aren't durable are read back before they are placed.
    Doing::Waiting.tell();
    if when == When::AfterBuild
        && let Ok(Some(snapshot)) = store.snapshot(&around.context, &around.lock())
        && let Err(error) =
            store.make_durable(&snapshot.units.iter().map(SeedUnit::entry).collect::<Vec<_>>())
    {
        tracing::warn!(%error, "entries of the snapshot aren't durable yet");
    }
    Ok(recorded)
}

/// Waits for the end of a process that isn't our child.
pub(crate) fn wait(session: &Session) {
    use rustix::event::{PollFd, PollFlags, poll};
    use rustix::process::{Pid, PidfdFlags, pidfd_open};
    let started = Instant::now();
    // Where `/proc` shows an outer namespace, its numbers are others.
    let own = fs::read_link("/proc/self").ok().and_then(|own| own.to_str()?.parse().ok());
    let pid = session.id.split_once('-').and_then(|(pid, _)| pid.parse().ok()).and_then(Pid::from_raw);
    let pid = pid.filter(|_| own == Some(std::process::id()));
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
    fn each_cargo_gets_one_recorder_and_its_note_tells_of_news() {
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
            let known = fs::read_to_string(&note).expect("read");
            assert_eq!(owner(&known), session);
            assert!(known.len() > session.len() && !known.ends_with('\n'), "{known:?}");
            fs::write(&note, format!("{session}\nrecorded\n")).expect("write");
            assert!(!claim());
            let known = fs::read_to_string(&note).expect("read");
            assert!(owner(&known) == session && !known.ends_with('\n'), "{known:?}");
        }
    }
}
