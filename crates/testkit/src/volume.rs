//! File systems of one's own for tests: an image in the temporary directory, mounted through a loop device, or a file
//! system in memory. Needs root and the tools that make file systems. Doesn't know what is done there.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Beginning of the names of all directories of this module; the process's id and something random follow.
const PREFIX: &str = "kt-volume-";
/// Size of an image, of which only what is used takes room.
const IMAGE_BYTES: u64 = 4 << 30;

/// A kind of file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileSystem {
    /// Hard links, no reflinks.
    Ext4,
    /// Hard links and reflinks.
    Xfs,
    /// Hard links and reflinks.
    Btrfs,
    /// Hard links, no reflinks; in memory.
    Tmpfs,
    /// Hard links, no reflinks, no extended attributes; in memory, and takes as much of it as it is given.
    Ramfs,
}

impl FileSystem {
    /// Its name as `mount` knows it.
    pub fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
            FileSystem::Btrfs => "btrfs",
            FileSystem::Tmpfs => "tmpfs",
            FileSystem::Ramfs => "ramfs",
        }
    }

    /// Whether files can share extents.
    pub fn reflinks(self) -> bool {
        matches!(self, FileSystem::Xfs | FileSystem::Btrfs)
    }
}

/// A mounted file system, empty at first; gone when dropped.
pub struct Volume {
    dir: PathBuf,
}

impl Volume {
    /// Makes and mounts one. Where that isn't possible there is no volume, except in CI, where it is a failure.
    ///
    /// # Panics
    /// When it can't be mounted and `CI` is `true`.
    pub fn mount(file_system: FileSystem) -> Option<Self> {
        match Self::try_mount(file_system) {
            Ok(volume) => Some(volume),
            Err(why) if env::var("CI").is_ok_and(|value| value == "true") => {
                panic!("no {} for this test: {why}", file_system.name())
            }
            Err(why) => {
                eprintln!("SKIPPED: no {} for this test: {why}", file_system.name());
                None
            }
        }
    }

    fn try_mount(file_system: FileSystem) -> Result<Self, String> {
        remove_leftovers();
        let prefix = format!("{PREFIX}{}-", std::process::id());
        let dir =
            tempfile::Builder::new().prefix(&prefix).tempdir().map_err(|error| error.to_string())?.keep();
        // From here on it is removed, mounted or not.
        let volume = Self { dir };
        let (image, point) = (volume.dir.join("image"), volume.root());
        fs::create_dir(&point).map_err(|error| error.to_string())?;
        if let FileSystem::Tmpfs | FileSystem::Ramfs = file_system {
            let name = file_system.name();
            run(Command::new("mount").args(["-t", name, "-o", "size=2g", name]).arg(&point))?;
            return Ok(volume);
        }
        let file = fs::File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(IMAGE_BYTES).map_err(|error| error.to_string())?;
        run(Command::new(format!("mkfs.{}", file_system.name())).arg("-q").arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&point))?;
        Ok(volume)
    }

    /// Its root directory.
    pub fn root(&self) -> PathBuf {
        self.dir.join("root")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        discard(&self.dir);
    }
}

/// Unmounts and removes what processes left behind that were killed.
fn remove_leftovers() {
    let names = fs::read_dir(env::temp_dir()).into_iter().flatten().flatten();
    for dir in names.map(|entry| entry.path()) {
        let name = dir.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').next());
        let is_alive = |id: &str| Path::new("/proc").join(id).exists();
        if process.is_some_and(|id| !id.is_empty() && !is_alive(id)) {
            discard(&dir);
        }
    }
}

/// Unmounts and removes a volume's directory; does nothing about one that is still in use.
fn discard(dir: &Path) {
    let point = dir.join("root");
    let is_mounted = || {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        mounts.lines().any(|line| line.split(' ').nth(1) == point.to_str())
    };
    if is_mounted() && run(Command::new("umount").arg(&point)).is_err() {
        // A process that a test left behind may hold it: it goes with that one.
        let _ = run(Command::new("umount").arg("--lazy").arg(&point));
    }
    if !is_mounted() {
        let _ = fs::remove_dir_all(dir);
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{command:?}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leftovers_of_the_dead_are_removed() {
        let mut child = Command::new("true").spawn().expect("start true");
        let dead = child.id();
        child.wait().expect("true ends");
        let left = env::temp_dir().join(format!("{PREFIX}{dead}-x"));
        let alive = env::temp_dir().join(format!("{PREFIX}{}-x", std::process::id()));
        for dir in [&left, &alive] {
            fs::create_dir_all(dir.join("root")).expect("make a directory");
        }
        remove_leftovers();
        assert!(!left.exists() && alive.exists());
        discard(&alive);
        assert!(!alive.exists());
    }

    #[test]
    fn volumes_come_and_go() {
        for kind in
            [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Btrfs, FileSystem::Tmpfs, FileSystem::Ramfs]
        {
            let Some(volume) = Volume::mount(kind) else { continue };
            let root = volume.root();
            fs::write(root.join("file"), "content").expect("write to the volume");
            let mounts = fs::read_to_string("/proc/self/mounts").expect("read mounts");
            let line = mounts.lines().find(|line| line.contains(root.to_str().expect("UTF-8")));
            assert_eq!(line.and_then(|line| line.split(' ').nth(2)), Some(kind.name()));
            drop(volume);
            assert!(!root.exists());
        }
    }
}
