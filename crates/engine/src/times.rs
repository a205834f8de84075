//! Modification times to the nanosecond, as Cargo compares them. Nothing else.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use kache_store::clock::since_1970;

/// A file's modification time, in nanoseconds since 1970; `None` where there is no file.
pub fn mtime_ns(path: &Path) -> Option<i64> {
    let meta = fs::metadata(path).ok()?;
    meta.mtime().checked_mul(1_000_000_000)?.checked_add(meta.mtime_nsec())
}

/// Now, in whole seconds since 1970.
pub fn now_s() -> i64 {
    now_ns().div_euclid(1_000_000_000)
}

/// Now, by the clock that files are dated with.
pub fn now_ns() -> i64 {
    i64::try_from(since_1970().as_nanos()).unwrap_or(i64::MAX)
}

pub fn set_mtime_ns(path: &Path, time_ns: i64) -> io::Result<()> {
    let since = Duration::from_nanos(u64::try_from(time_ns).unwrap_or(0));
    File::open(path)?.set_modified(UNIX_EPOCH + since)
}

/// The newest time at or below a path, as Cargo looks at it (`mtime_recursive`); `None` where something is missing.
pub fn newest_ns(path: &Path) -> Option<i64> {
    let own = mtime_ns(path)?;
    let walk = walkdir::WalkDir::new(path).follow_links(true).min_depth(1);
    walk.into_iter().filter_map(Result::ok).try_fold(own, |newest, entry| {
        // What vanishes, or a link to nothing, Cargo leaves out.
        Some(newest.max(mtime_ns(entry.path()).unwrap_or(0)))
    })
}

/// Files of a compile that Cargo looks at, with their times: the newest, and that of the metadata.
pub fn output_times(paths: &[PathBuf]) -> Option<(i64, i64)> {
    let mut newest = i64::MIN;
    let mut metadata = None;
    for path in paths {
        let ns = mtime_ns(path)?;
        newest = newest.max(ns);
        if path.extension().is_some_and(|extension| extension == "rmeta") {
            metadata = Some(ns);
        }
    }
    (newest != i64::MIN).then(|| (newest, metadata.unwrap_or(newest)))
}
