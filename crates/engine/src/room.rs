//! Keeps the store within its limit, and has it give way to others on its disk: a build must not fail because of the
//! cache. Does not decide what goes.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use kache_core::config::{Settings, env};
use kache_core::reason::Bypass;
use kache_store::Store;
use kache_store::clock::since_1970;
use kache_store::evict::SweepOptions;
use kache_store::sweep::Sweeping;

/// Shortest time between two background sweeps.
const SWEEP_PAUSE_S: u64 = 60;
/// How often a compile that finds no room is run again.
pub const ATTEMPTS: u32 = 3;
/// As many times what is left to others anyway is freed: nobody knows how much the compile needs.
const RESERVES: u64 = 4;
/// No compile fails for lack of room where this much is free, in bytes.
const PLENTY_BYTES: u64 = 4 << 30;
/// How often another process's sweep is waited for, and how long each time.
const WAITS: u32 = 200;
const WAIT: Duration = Duration::from_millis(50);

/// Starts a sweep in the background when the store has outgrown its limit, or others need the room.
pub fn sweep_if_due(store: &Store, settings: &Settings) {
    let Ok(usage) = store.usage_estimate() else { return };
    let now_s = since_1970().as_secs();
    let limit_bytes = settings.local_size_bytes_max.value;
    if (usage.bytes > limit_bytes || store.is_room_low())
        && usage.counted_s + SWEEP_PAUSE_S < now_s
        && let Ok(program) = std::env::current_exe()
    {
        let mut command = Command::new(program);
        command.args(["gc", "--auto"]);
        // A project's settings file is not found from where it runs.
        command.env(env::KACHE_CACHE_DIR, store.root());
        command.env(env::KACHE_MAX_SIZE, format!("{limit_bytes}B"));
        if let Some(free) = &settings.free_bytes_min {
            command.env(env::KACHE_MIN_FREE_SPACE, format!("{}B", free.value));
        }
        if let Err(error) = kache_store::sys::detach_and_spawn(command) {
            tracing::warn!(%error, "no background sweep");
        }
    }
}

/// Evicts what was used least recently, however recent that is, where it takes room on the disk of `out_dir`. Whether
/// there may be more room now.
pub fn make(store: &Store, out_dir: &Path) -> bool {
    let disk_of = |path: &Path| fs::metadata(path).ok().map(|meta| meta.dev());
    let Some(room) = store.room().filter(|_| disk_of(store.root()) == disk_of(out_dir)) else { return false };
    if room.free_bytes >= PLENTY_BYTES {
        // Another disk is full, or none.
        return false;
    }
    // What is free now wasn't enough, or was given back when the compiler died.
    let wanted_bytes = room.headroom_bytes().saturating_mul(RESERVES).max(1);
    let options = SweepOptions { room_bytes: wanted_bytes, grace: Duration::ZERO, ..SweepOptions::default() };
    for turn in 0..WAITS {
        match store.sweep(&options) {
            // What others have freed or given back meanwhile is as good.
            Ok(Sweeping::Done(report)) => {
                let more = store.room().is_some_and(|now| now.free_bytes > room.free_bytes);
                return turn > 0 || report.freed_bytes > 0 || more;
            }
            Ok(Sweeping::Busy) => thread::sleep(WAIT),
            Err(error) => {
                tracing::warn!(%error, "no room is made");
                return false;
            }
        }
    }
    false
}

/// The store as the settings have it.
pub fn open_store(settings: &Settings) -> Result<Store, Bypass> {
    let dir = settings.cache_dir().map_err(|error| Bypass::Store(error.to_string()))?;
    let store = Store::open(dir).map_err(|error| Bypass::Store(error.to_string()))?;
    Ok(store.leaving_free(settings.free_bytes_min.as_ref().map(|free| free.value)))
}
