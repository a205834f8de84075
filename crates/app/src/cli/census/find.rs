//! Finds Cargo's target directories: by their tag and Cargo's own files in them, never by their name. Tells which are in
//! use, and takes Cargo's locks. Follows no symbolic link.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{LOCKS, is_profile_dir};
use kache_store::cargo_locks;

/// What a cache directory's tag begins with.
const SIGNATURE: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";
/// How deep below a target directory Cargo's locks are: in `<triple>/<profile>`.
const LOCK_DEPTH: usize = 2;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub path: PathBuf,
    /// Why it can't be removed right now.
    pub busy: Option<String>,
}

/// All target directories at or below some directories; `looking` hears of each directory.
pub fn below(dirs: &[PathBuf], programs: &Programs, mut looking: impl FnMut(&Path)) -> Vec<Found> {
    let mut found: Vec<Found> = Vec::new();
    let mut waiting = dirs.to_vec();
    while let Some(dir) = waiting.pop() {
        looking(&dir);
        if let Some(target) = check(&dir, programs) {
            if !found.iter().any(|known| known.path == target.path) {
                found.push(target);
            }
            continue;
        }
        // A directory that can't be listed has nothing that could be removed.
        for item in fs::read_dir(&dir).into_iter().flatten().flatten() {
            // The type of the link itself, not of what it leads to.
            if item.file_type().is_ok_and(|kind| kind.is_dir()) && item.file_name() != ".git" {
                waiting.push(item.path());
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// Whether a directory is a target directory, and whether somebody uses it.
pub fn check(dir: &Path, programs: &Programs) -> Option<Found> {
    let is_dir = fs::symlink_metadata(dir).is_ok_and(|meta| meta.is_dir());
    let is_target = is_dir && has_tag(dir) && has_markers(dir);
    is_target.then(|| Found { path: dir.to_owned(), busy: busy(dir, programs) })
}

fn has_tag(dir: &Path) -> bool {
    let mut start = [0; SIGNATURE.len()];
    let read = File::open(dir.join("CACHEDIR.TAG")).and_then(|mut file| file.read_exact(&mut start));
    read.is_ok() && start == SIGNATURE
}

/// What Cargo leaves in its target directories: what it knows of the compiler, or a profile.
fn has_markers(dir: &Path) -> bool {
    let is_profile = |dir: PathBuf| {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        is_profile_dir(names.iter().map(String::as_str))
    };
    dir.join(".rustc_info.json").is_file() || children(dir).any(is_profile)
}

/// Directories in a directory, without links.
fn children(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let items = fs::read_dir(dir).into_iter().flatten().flatten();
    items.filter(|item| item.file_type().is_ok_and(|kind| kind.is_dir())).map(|item| item.path())
}

/// Why a target directory can't be removed right now: a build runs in it, or a program of it runs.
fn busy(dir: &Path, programs: &Programs) -> Option<String> {
    if is_locked(dir, LOCK_DEPTH) {
        return Some("a build is running in it".to_owned());
    }
    let dir = dir.canonicalize().ok()?;
    let program = programs.0.iter().find_map(|program| program.strip_prefix(&dir).ok())?;
    Some(format!("{} is running", program.display()))
}

fn is_locked(dir: &Path, depth: usize) -> bool {
    cargo_locks::is_held(dir) || (depth > 0 && children(dir).any(|child| is_locked(&child, depth - 1)))
}

/// Takes the locks of a target directory's profiles; `None` when a Cargo holds one of them.
///
/// # Errors
/// When a lock can't be taken for another reason.
pub fn lock(dir: &Path) -> io::Result<Option<Vec<File>>> {
    let mut locks = Vec::new();
    for profile in profiles(dir, LOCK_DEPTH) {
        match cargo_locks::take(&profile)? {
            Some(taken) => locks.extend(taken),
            None => return Ok(None),
        }
    }
    Ok(Some(locks))
}

/// Directories with one of Cargo's locks.
fn profiles(dir: &Path, depth: usize) -> Vec<PathBuf> {
    if LOCKS.iter().any(|name| dir.join(name).is_file()) {
        return vec![dir.to_owned()];
    }
    let below = children(dir).filter(|_| depth > 0);
    below.flat_map(|child| profiles(&child, depth - 1)).collect()
}

/// Files of running programs, where the system tells.
pub struct Programs(Vec<PathBuf>);

impl Programs {
    pub fn running() -> Self {
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let mut programs: Vec<PathBuf> =
            processes.filter_map(|process| fs::read_link(process.path().join("exe")).ok()).collect();
        programs.sort();
        programs.dedup();
        Self(programs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(root: &Path, name: &str, files: &[(&str, &str)]) -> PathBuf {
        let dir = root.join(name);
        for (file, text) in files {
            let path = dir.join(file);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, text).expect("write");
        }
        dir
    }

    const TAG: (&str, &str) =
        ("CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n# created by cargo\n");

    #[test]
    fn the_tag_and_the_markers_decide_not_the_name() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let root = dir.path().canonicalize().expect("path");
        let info = (".rustc_info.json", "{}");
        make(&root, "a/target", &[TAG, info]);
        make(&root, "b/build output", &[TAG, ("debug/.fingerprint/x", "")]);
        make(&root, ".hidden/worktree/target", &[TAG, info]);
        make(&root, "c/target", &[info]);
        make(&root, "d/target", &[("CACHEDIR.TAG", "Signature: other"), info]);
        make(&root, "e/cache", &[TAG, ("v1/blobs/x", "")]);
        make(&root, "f/.git/target", &[TAG, info]);
        make(&root, "a/target/nested/target", &[TAG, info]);
        let outside = tempfile::tempdir().expect("temporary directory");
        make(outside.path(), "target", &[TAG, info]);
        std::os::unix::fs::symlink(outside.path(), root.join("g")).expect("symlink");
        std::os::unix::fs::symlink(outside.path().join("target"), root.join("a/linked")).expect("symlink");
        let found: Vec<String> = below(&[root.clone(), root.join("a")], &Programs::running(), |_| {})
            .into_iter()
            .map(|found| found.path.strip_prefix(&root).expect("below").display().to_string())
            .collect();
        assert_eq!(found, [".hidden/worktree/target", "a/target", "b/build output"]);
    }

    #[test]
    fn a_directory_in_use_says_by_what() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let target =
            make(dir.path(), "target", &[TAG, (".rustc_info.json", "{}"), ("debug/.cargo-lock", "")]);
        assert_eq!(check(&target, &Programs::running()).and_then(|found| found.busy), None);
        for (name, exclusive) in [(".cargo-lock", true), (".cargo-lock", false), (".cargo-build-lock", false)]
        {
            let lock = File::create(target.join("debug").join(name)).expect("create");
            if exclusive { lock.lock() } else { lock.lock_shared() }.expect("lock");
            let busy = check(&target, &Programs::running()).and_then(|found| found.busy);
            assert_eq!(busy.as_deref(), Some("a build is running in it"), "{name}");
            let is_taken = super::lock(&target).expect("no error").is_some();
            assert_eq!(is_taken, !kache_core::cargo::layout::BUILD_LOCKS.contains(&name), "{name}");
        }
        if cfg!(target_os = "linux") {
            let program = target.join("debug/app");
            fs::copy("/bin/sleep", &program).expect("copy");
            let mut child = std::process::Command::new(&program).arg("60").spawn().expect("run");
            let busy = check(&target, &Programs::running()).and_then(|found| found.busy);
            child.kill().expect("end it");
            child.wait().expect("wait");
            assert_eq!(busy.as_deref(), Some("debug/app is running"));
        }
        assert!(super::lock(&target).expect("no error").is_some_and(|locks| locks.len() == 2));
    }
}
