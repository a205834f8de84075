//! A build directory from outside: its profile directories, whether there is anything in it, who holds its locks.
//! Knows Cargo's classic layout and nothing about units.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

/// What Cargo writes into a build directory that it makes (`crates/cargo-util/src/paths.rs`, 1.95).
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55
# This file is a cache directory tag created by cargo.
# For information about cache directory tags see https://bford.info/cachedir/
";

/// Names, below the build directory, of its profile directories: `debug`, `<triple>/release`.
pub fn profiles(build: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in folders(build) {
        let dir = build.join(&name);
        if dir.join(".fingerprint").is_dir() {
            found.push(name);
            continue;
        }
        let below = folders(&dir).into_iter().filter(|inner| dir.join(inner).join(".fingerprint").is_dir());
        found.extend(below.map(|inner| format!("{name}/{inner}")));
    }
    found.sort();
    found
}

/// Names of the folders in a folder.
pub fn folders(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Whether anything was ever built there.
pub fn is_populated(build: &Path) -> bool {
    let has_any = |dir: PathBuf| fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some());
    let is_used =
        |dir: &Path| [".fingerprint", "deps", "build", ".kache"].iter().any(|name| has_any(dir.join(name)));
    folders(build).iter().any(|name| {
        let dir = build.join(name);
        is_used(&dir) || folders(&dir).iter().any(|inner| is_used(&dir.join(inner)))
    })
}

/// Makes the build directory as Cargo would have made it.
pub fn create(build: &Path) -> io::Result<()> {
    if build.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(build)?;
    fs::write(build.join("CACHEDIR.TAG"), CACHEDIR_TAG)
}

/// Cargo's lock on a profile directory, which is made where it is missing; `None` when someone else has it.
pub fn lock(profile_dir: &Path) -> io::Result<Option<File>> {
    fs::create_dir_all(profile_dir)?;
    let path = profile_dir.join(".cargo-lock");
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// Whether a process holds Cargo's lock on a profile directory. Looks without taking it, so that no Cargo ever has to
/// wait for the look.
pub fn is_locked(profile_dir: &Path) -> bool {
    let Ok(meta) = fs::metadata(profile_dir.join(".cargo-lock")) else { return false };
    let Ok(table) = fs::read_to_string("/proc/locks") else { return true };
    let device = device_of_mount(profile_dir).unwrap_or_default();
    // `5: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF`
    let file = format!("{device}:{}", meta.ino());
    table.lines().any(|line| line.split_whitespace().any(|word| word.ends_with(&file)))
}

/// The device of the file system that a directory is on, as `/proc/locks` writes it: `fe:00`. What `stat` says is another
/// one where a file system has subvolumes, each of which counts its files from the start.
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
    fn profiles_are_found_at_both_depths_and_make_it_populated() {
        let dir = tempfile::tempdir().expect("temp dir");
        let build = dir.path().join("a/target");
        create(&build).expect("made");
        create(&build).expect("there");
        assert!(build.join("CACHEDIR.TAG").is_file());
        assert!(!is_populated(&build) && profiles(&build).is_empty());
        let held = lock(&build.join("debug")).expect("lock").expect("free");
        assert!(is_locked(&build.join("debug")));
        assert!(lock(&build.join("debug")).expect("no error").is_none());
        drop(held);
        assert!(!is_locked(&build.join("debug")));
        assert!(!is_populated(&build), "a lock file is nothing");
        for profile in ["debug", "x86_64-unknown-none/release"] {
            fs::create_dir_all(build.join(profile).join(".fingerprint/p-1")).expect("mkdir");
        }
        assert_eq!(profiles(&build), ["debug", "x86_64-unknown-none/release"]);
        assert!(is_populated(&build));
    }
}
