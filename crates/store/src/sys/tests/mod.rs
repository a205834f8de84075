//! Tests with real processes: shells, and this test binary again as a helper (`helper`).

mod detached;
mod faults;
mod helper;
mod lifetime;
mod sights;

use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use super::{AccessKind, Observation, Observer, Probes, Scope, Writes, spawn_observed};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

fn shell(script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]);
    command
}

fn everything() -> Scope {
    Scope { ignored: Vec::new(), probes: Probes::ExistenceAndRealpath, writes: Writes::Observe }
}

/// Spawns under observation, or says why the test has nothing to look at.
fn spawn(command: Command, scope: Scope) -> Option<(Child, Observer)> {
    let (mut child, observer) = spawn_observed(command, scope).expect("spawned");
    if observer.is_none() {
        eprintln!("skipped: no observation here");
        child.wait().expect("waited");
    }
    observer.map(|observer| (child, observer))
}

fn observe(command: Command, scope: Scope) -> Option<(ExitStatus, Observation)> {
    let (mut child, observer) = spawn(command, scope)?;
    let status = child.wait().expect("waited");
    let observation = observer.finish();
    if observation.is_none() {
        eprintln!("skipped: nothing can be read here");
    }
    Some((status, observation?))
}

/// How `path` was used.
fn uses(observation: &Observation, path: &Path) -> Vec<AccessKind> {
    observation.accesses.iter().filter(|access| access.path == path).map(|access| access.kind).collect()
}

/// Waits for `condition` to hold.
fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// An empty directory by its real name.
fn sandbox() -> (tempfile::TempDir, std::path::PathBuf) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().canonicalize().expect("its real name");
    (directory, path)
}
