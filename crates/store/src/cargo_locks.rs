//! Cargo's locks on a profile directory, of every version: takes them as that Cargo would, and tells whether one is held.
//! Which files they are is decided in `kache_core::cargo::layout`.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::cargo::layout::{BUILD_LOCKS, LOCKS};

/// Takes the build locks of a profile directory, which is made where it is missing; `None` when a Cargo holds one of them.
/// They are held until the files are dropped.
pub fn take(profile_dir: &Path) -> io::Result<Option<Vec<File>>> {
    fs::create_dir_all(profile_dir)?;
    let mut taken = Vec::new();
    for name in BUILD_LOCKS {
        let path = profile_dir.join(name);
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        match file.try_lock() {
            Ok(()) => taken.push(file),
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(Some(taken))
}

/// Whether a process holds one of Cargo's locks on a profile directory, shared or exclusively. On Linux this looks without
/// taking anything, so that no Cargo ever waits for the look.
pub fn is_held(profile_dir: &Path) -> bool {
    LOCKS.iter().any(|name| is_file_locked(&profile_dir.join(name)))
}

#[cfg(target_os = "linux")]
fn is_file_locked(path: &Path) -> bool {
    let Ok(meta) = fs::metadata(path) else { return false };
    let Ok(table) = fs::read_to_string("/proc/locks") else { return is_refused(path) };
    let Some(device) = path.parent().and_then(device_of_mount) else { return is_refused(path) };
    // `5: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF`
    let file = format!("{device}:{}", meta.ino());
    table.lines().any(|line| line.split_whitespace().any(|word| word == file))
}

#[cfg(not(target_os = "linux"))]
fn is_file_locked(path: &Path) -> bool {
    is_refused(path)
}

/// Whether an exclusive lock can't be had: for a moment this keeps a Cargo that starts just now waiting.
fn is_refused(path: &Path) -> bool {
    let lock = File::open(path);
    lock.is_ok_and(|file| matches!(file.try_lock(), Err(TryLockError::WouldBlock)))
}

/// The device of the file system that a directory is on, as `/proc/locks` writes it: `fe:00`. What `stat` says is another
/// one where a file system has subvolumes, each of which counts its files from the start.
#[cfg(target_os = "linux")]
fn device_of_mount(dir: &Path) -> Option<String> {
    let dir = fs::canonicalize(dir).ok()?;
    let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
    // `36 35 98:0 /root /mount/point …`, later mounts over earlier ones.
    let mounts = table.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(2);
        let (device, point) = (fields.next()?, fields.nth(1)?);
        let (major, minor) = device.split_once(':')?;
        let device = format!("{:02x}:{:02x}", major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?);
        dir.starts_with(point).then_some((point.len(), device))
    });
    mounts.max_by_key(|(length, _)| *length).map(|(_, device)| device)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_of_any_lock_in_any_way_is_a_cargo_at_work() {
        let dir = tempfile::tempdir().expect("temp dir");
        let profile = dir.path().join("debug");
        assert!(!is_held(&profile));
        for name in LOCKS {
            for exclusive in [true, false] {
                fs::create_dir_all(&profile).expect("mkdir");
                let file = File::create(profile.join(name)).expect("create");
                assert!(!is_held(&profile), "{name} is there and free");
                if exclusive { file.lock() } else { file.lock_shared() }.expect("lock");
                assert!(is_held(&profile) && is_refused(&profile.join(name)), "{name} {exclusive}");
                let is_taken = take(&profile).expect("no error").is_some();
                assert_eq!(is_taken, !BUILD_LOCKS.contains(&name), "{name} {exclusive}");
                drop(file);
                assert!(!is_held(&profile) && take(&profile).expect("no error").is_some(), "{name}");
            }
        }
    }
}
