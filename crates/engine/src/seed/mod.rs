//! Seeding: dependencies are in place before Cargo looks. Owns when a snapshot is placed and when one is recorded;
//! how, is in the modules below. The argument is in `docs/design/` under "Seeding".
//!
//! In a fresh build directory Cargo asks the wrapper for `rustc -vV` before it judges any unit. That question is
//! when a snapshot is placed. Once registry or git units have been served or compiled, a detached process waits for
//! that Cargo to end and records what the directory holds.
//!
//! Everything that isn't certain is a reason not to seed; the build then goes on as it would have.

mod abroad;
mod configuration;
pub mod fingerprints;
mod judge;
mod local;
mod parent;
mod pending;
mod place;
mod record;
mod recorder;
mod run_files;
mod runs;
mod since;
mod stamps;
mod surroundings;
pub mod target_dir;
mod unit;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

use kache_core::cargo_call::CargoCall;
use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::event::{Event, Outcome, Seeding};
use kache_core::invocation::{Env, Invocation, is_rustc};
use kache_core::seed_selection::Selection;
use kache_core::seeding::locked_packages;
use kache_core::snapshot::{Snapshot, Unfit};
use kache_store::Store;
use kache_store::sys;

use crate::daemon_client::Daemon;
use crate::report;
use crate::toolchain::{self, Toolchain};
use crate::world::Session;
use judge::Judge;
use parent::Parent;
use place::Declined;
use stamps::Tree;
use surroundings::Surroundings;

pub use pending::wait_for_recorders;
pub use record::{Recorded, When};
pub use recorder::{Recording, last_recording, record, record_before_end, watch};
pub(crate) use recorder::{claim, wait as wait_for};
pub(crate) use runs::CRATE_NAME as RUN_CRATE_NAME;
pub use unit::run_mark;

/// A shorter wait for a snapshot that doesn't come makes no event.
const WORTH_TELLING: Duration = Duration::from_millis(50);
/// Kind of the memo that says which units were not seeded; its key is the digest of the workspace's path.
const LEFT_OUT_MEMO: &str = "seeding";
/// How long after its start a Cargo is kept waiting for recorders of builds that have just ended.
const RECORDERS_WAIT: Duration = Duration::from_secs(4);
/// Snapshots with another lockfile that are looked at, newest first.
const NEAREST_MAX: usize = 16;

/// Cargo's home, as a Cargo that is started in this process's environment has it.
pub fn cargo_home() -> Option<String> {
    let env = Env::new(std::env::vars_os());
    crate::world::cargo_home(&env).filter(|home| home.starts_with('/'))
}

/// The question for the version of a compiler: `rustc -vV`, with clippy-driver in front or not. Compiler, directory and
/// environment are those of the call.
fn asked_compiler(argv: &[OsString]) -> Option<Invocation> {
    let (last, compilers) = argv.split_last()?;
    let compiler = compilers.last()?.to_str()?;
    if last != "-vV" || compilers.len() > 2 || !is_rustc(compiler) {
        return None;
    }
    let cwd = std::env::current_dir().ok()?.to_str()?.to_owned();
    let env = Env::new(std::env::vars_os());
    Some(Invocation { compiler: compiler.to_owned(), cwd, env, ..Invocation::default() })
}

/// Seeds the build directory of the calling Cargo if that is what the moment is for.
pub fn before_cargo(argv: &[OsString], settings: &Settings, session: &Session) {
    if !settings.seed.value || settings.disabled.value {
        return;
    }
    let Some(question) = asked_compiler(argv) else { return };
    let started = Instant::now();
    let Some(parent) = Parent::of(session) else { return };
    // What comes from elsewhere needs a store to come to.
    let open = if Daemon::is_used(settings) { Store::open } else { Store::open_existing };
    let Ok(store) = settings.cache_dir().map_err(drop).and_then(|dir| open(dir).map_err(drop)) else {
        return;
    };
    // Apart, so that Cargo gets its answer whatever happens there: it remembers a wrapper that died when asked for its
    // version, and refuses every build in that directory from then on.
    sys::apart(|| {
        let call = parent.call();
        if !looks_fresh(&parent, &call) {
            return;
        }
        let Some(compiler) = toolchain::compiler_proper(&question, &store) else { return };
        let Some(identity) = surroundings::context(&store, settings, &parent, &compiler) else { return };
        let mut waited = Waited::default();
        if call.is_ok() {
            let clock = Instant::now();
            pending::wait_for_recorders(&store, parent.younger_than(RECORDERS_WAIT));
            waited.for_recorders = clock.elapsed();
            abroad::send_for(&store, settings, session, &parent, &identity);
            waited.for_remote = clock.elapsed().saturating_sub(waited.for_recorders);
        }
        let times = (started, waited);
        match seed(&store, settings, session, (&parent, call), (&compiler, identity)) {
            // The build has waited all the same.
            Outcomes::NothingToDo if waited.total() >= WORTH_TELLING => {
                emit(&store, settings, session, times, place::Placed::default());
            }
            Outcomes::NothingToDo => {}
            Outcomes::Declined(why) => emit(&store, settings, session, times, declined(why)),
            Outcomes::Placed(placed) => emit(&store, settings, session, times, *placed),
        }
    });
}

/// How long Cargo's question was held up.
#[derive(Clone, Copy, Default)]
struct Waited {
    for_recorders: Duration,
    for_remote: Duration,
}

impl Waited {
    fn total(self) -> Duration {
        self.for_recorders + self.for_remote
    }
}

/// What a question of Cargo's led to.
enum Outcomes {
    /// The directory is in use already, or no snapshot is for it: not worth a word.
    NothingToDo,
    Declined(String),
    Placed(Box<place::Placed>),
}

fn declined(why: String) -> place::Placed {
    place::Placed {
        seeding: Seeding { declined: Some(why), ..Seeding::default() },
        ..place::Placed::default()
    }
}

/// Whether the directory may well be fresh: cheap, and good enough to see that there is nothing to do, which is nearly
/// always.
fn looks_fresh(parent: &Parent, call: &Result<CargoCall, String>) -> bool {
    let probable = call.as_ref().ok().and_then(|call| parent.probable_build_dir(call));
    call.is_err() || probable.is_some_and(|dir| !target_dir::is_populated(&dir))
}

fn seed(
    store: &Store,
    settings: &Settings,
    session: &Session,
    (parent, call): (&Parent, Result<CargoCall, String>),
    (compiler, (context, toolchain)): (&str, (Digest, Toolchain)),
) -> Outcomes {
    if store.snapshot_locks(&context).is_empty() {
        return Outcomes::NothingToDo;
    }
    let call = match call {
        Ok(call) => call,
        // Commands that don't build are no news; a builder whose directory isn't known is.
        Err(why) if why.contains("known to build") => return Outcomes::NothingToDo,
        Err(why) => return Outcomes::Declined(why),
    };
    let asked = parent.ask_directories(&call);
    let ahead = Ahead::of(store, &context, parent);
    let dirs = match parent.directories_of(&call, asked) {
        Ok(dirs) => dirs,
        Err(why) => return Outcomes::Declined(why),
    };
    if target_dir::is_populated(&dirs.build) {
        return Outcomes::NothingToDo;
    }
    let around = match Surroundings::new(settings, parent, compiler, (context, &toolchain), dirs) {
        Ok(around) => around,
        Err(why) => return Outcomes::Declined(why),
    };
    let ahead = ahead.filter(|ahead| ahead.lockfile == around.lockfile);
    let Some(mut ahead) = ahead.or_else(|| Ahead::new(store, &context, parent, around.lockfile.clone()))
    else {
        return Outcomes::NothingToDo;
    };
    let targets = configuration::targets(parent, &call, &toolchain.host);
    let selection = Selection::new(&call, &parent.cwd, targets, &around.dirs.metadata, &around.lockfile);
    ahead.snapshot.units.retain(|unit| selection.has(unit));
    let mut judge = Judge::new(store, &around, (settings, &parent.seen), &session.id, &ahead.snapshot);
    judge.sources = ahead.sources;
    let placed = place::place(store, &around, judge, (&session.id, &selection), &ahead.snapshot);
    let workspace = around.dirs.workspace.as_os_str().as_encoded_bytes();
    match placed {
        Ok(placed) => {
            if let Ok(json) = serde_json::to_vec(&placed.left_out) {
                // Only `why-miss` asks for it.
                let _ = store.memo_put(LEFT_OUT_MEMO, &Digest::of(workspace), &json);
            }
            Outcomes::Placed(Box::new(placed))
        }
        Err(Declined::Populated) => Outcomes::NothingToDo,
        Err(Declined::Busy) => Outcomes::Declined("another Cargo works in the build directory".to_owned()),
        Err(Declined::Refused(why)) => Outcomes::Declined(why),
    }
}

/// What takes time and depends on nothing but the lockfile, so that it can be had while Cargo thinks about where it
/// builds: Cargo needs longer for that than everything else takes.
struct Ahead {
    lockfile: String,
    snapshot: Snapshot,
    sources: BTreeMap<String, Tree>,
}

impl Ahead {
    /// By the lockfile where it most probably is.
    fn of(store: &Store, context: &Digest, parent: &Parent) -> Option<Self> {
        Self::new(store, context, parent, surroundings::lockfile(parent.probable_workspace()?)?)
    }

    fn new(store: &Store, context: &Digest, parent: &Parent, lockfile: String) -> Option<Self> {
        let snapshot = nearest(store, context, &lockfile)?;
        let locked = locked_packages(&lockfile);
        let wanted = snapshot.units.iter().filter(|unit| locked.get(&unit.package) == Some(&unit.locked));
        let dirs: BTreeSet<String> = wanted.map(|unit| unit.package_dir.clone()).collect();
        let dirs: Vec<String> = dirs.into_iter().collect();
        let sources = stamps::packages(&dirs, &parent.cargo_home()?);
        Some(Self { lockfile, snapshot, sources })
    }
}

/// Units that were not put into place when a target directory of the workspace that `dir` lies in was fresh the last
/// time, and why.
pub fn left_out(store: &Store, dir: &Path) -> Vec<Unfit> {
    let workspaces = dir.ancestors().filter(|dir| dir.join("Cargo.lock").is_file());
    let keys = workspaces.map(|dir| Digest::of(dir.as_os_str().as_encoded_bytes()));
    let mut memos = keys.filter_map(|key| store.memo_get(LEFT_OUT_MEMO, &key));
    memos.find_map(|json| serde_json::from_slice(&json).ok()).unwrap_or_default()
}

/// The snapshot of this lockfile, else the one of the lockfile that has most packages in common with it.
fn nearest(store: &Store, context: &Digest, lockfile: &str) -> Option<Snapshot> {
    if let Ok(Some(snapshot)) = store.snapshot(context, &Digest::of(lockfile.as_bytes())) {
        return Some(snapshot);
    }
    let packages: BTreeSet<String> = locked_packages(lockfile).into_keys().collect();
    let locks = store.snapshot_locks(context).into_iter().take(NEAREST_MAX);
    let headers = locks.filter_map(|lock| store.snapshot_header(context, &lock));
    let shared = headers.map(|header| (header.shared_packages(&packages), header.lock));
    let (count, lock) = shared.max_by_key(|(count, _)| *count)?;
    if count == 0 {
        return None;
    }
    store.snapshot(context, &lock).ok().flatten()
}

fn emit(
    store: &Store,
    settings: &Settings,
    session: &Session,
    (started, waited): (Instant, Waited),
    placed: place::Placed,
) {
    let mut event = Event::new("-", Outcome::Passthrough);
    "seeding".clone_into(&mut event.kind);
    report::sign(&mut event, session);
    event.moved = placed.moved;
    event.saved_ms = placed.saved_ms;
    event.times.wait_us = report::micros(waited.for_recorders);
    event.times.remote_us = report::micros(waited.for_remote);
    event.times.restore_us = report::micros(started.elapsed().saturating_sub(waited.total()));
    event.seeding = Some(placed.seeding);
    report::emit(event, started, Some(store), settings);
}
