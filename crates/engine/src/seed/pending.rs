//! Recorders that are still at work, for whoever is about to share what they will have recorded. Needs `/proc`; where
//! there is none, nothing is recorded.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use kache_core::config::env;
use kache_store::Store;

use super::parent;
use crate::world::Session;

/// How often it is looked.
const LOOK: Duration = Duration::from_millis(50);

/// Waits until no recorder is at work for this store whose Cargo has ended; `false` when it took longer than `patience`.
/// Recorders of Cargos that still build are not waited for.
pub fn wait_for_recorders(store: &Store, patience: Duration) -> bool {
    let started = Instant::now();
    while is_any_at_work(store) {
        if started.elapsed() > patience {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

fn is_any_at_work(store: &Store) -> bool {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes =
        entries.filter(|entry| entry.file_name().as_bytes().first().is_some_and(u8::is_ascii_digit));
    processes.any(|process| is_at_work(&process.path(), store).unwrap_or(false))
}

/// Whether a process is a recorder of this store without its Cargo.
fn is_at_work(process: &Path, store: &Store) -> Option<bool> {
    let words = fs::read(process.join("cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).skip(1);
    // As `watch` starts it.
    if words.next()? != b"snapshot" || words.next()? != b"--cargo" {
        return None;
    }
    let id = std::str::from_utf8(words.next()?).ok()?.to_owned();
    let variables = fs::read(process.join("environ")).ok()?;
    let own = [env::KACHE_CACHE_DIR.as_bytes(), b"=", store.root().as_os_str().as_bytes()].concat();
    let is_ours = variables.split(|byte| *byte == 0).any(|pair| pair == own);
    Some(is_ours && !parent::is_alive(&Session { id, project: None }))
}
