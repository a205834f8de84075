//! File helpers: trees, copies, times, what a target directory holds. Knows nothing about Cargo's meaning of them.

use std::collections::BTreeMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::layout::is_compiled;

/// How long [`wait_for`] waits before it declares a test broken.
const PATIENCE: Duration = Duration::from_secs(120);

/// Lets the kernel's coarse clock advance, so that a file written next is newer than everything so far.
pub fn settle() {
    sleep(Duration::from_millis(12));
}

/// Waits until `condition` holds; panics with `what` when that never happens.
pub fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        sleep(Duration::from_millis(5));
    }
}

/// All files (not directories, links not followed) below `dir`, sorted. A missing directory is empty.
pub fn walk(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_path_buf()];
    while let Some(dir) = open.pop() {
        let Ok(list) = fs::read_dir(&dir) else { continue };
        for entry in list.flatten() {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => open.push(entry.path()),
                Ok(_) => found.push(entry.path()),
                Err(_) => {}
            }
        }
    }
    found.sort();
    found
}

/// Content of every file below `dir`, by relative path, leaving out top-level names in `without`.
pub fn tree(dir: &Path, without: &[&str]) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = BTreeMap::new();
    for file in walk(dir) {
        let name = file.strip_prefix(dir).expect("below dir").to_path_buf();
        if !without.iter().any(|w| name.starts_with(w)) {
            all.insert(name, fs::read(&file).unwrap_or_default());
        }
    }
    all
}

/// Copies a tree, leaving out top-level names in `without`. Files get new modification times, as a checkout's do.
pub fn copy_tree(from: &Path, to: &Path, without: &[&str]) {
    fs::create_dir_all(to).unwrap_or_else(|e| panic!("create {}: {e}", to.display()));
    for entry in fs::read_dir(from).unwrap_or_else(|e| panic!("list {}: {e}", from.display())).flatten() {
        let name = entry.file_name();
        if without.iter().any(|w| name == *w) {
            continue;
        }
        let (source, target) = (entry.path(), to.join(&name));
        let kind = entry.file_type().expect("file type");
        if kind.is_dir() {
            copy_tree(&source, &target, &[]);
        } else if kind.is_symlink() {
            let link = fs::read_link(&source).expect("read link");
            std::os::unix::fs::symlink(link, &target).expect("copy link");
        } else {
            fs::copy(&source, &target).unwrap_or_else(|e| panic!("copy {}: {e}", source.display()));
        }
    }
}

/// Removes a file or a tree; what isn't there needs no removal.
pub fn remove_tree(path: &Path) {
    let result =
        if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match result {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => panic!("remove {}: {e}", path.display()),
        _ => {}
    }
}

/// What compilers left in a target directory: every output that is neither dep-info nor something that Cargo or a build
/// script wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifacts {
    by_name: BTreeMap<PathBuf, (u64, u64)>,
}

impl Artifacts {
    /// Looks through `target`.
    pub fn of(target: &Path) -> Self {
        let mut by_name = BTreeMap::new();
        for file in walk(target) {
            let name = file.strip_prefix(target).expect("below target").to_path_buf();
            if is_compiled(target, &name) && !name.to_string_lossy().ends_with(".d") {
                let bytes = fs::read(&file).unwrap_or_default();
                let mut hasher = DefaultHasher::new();
                bytes.hash(&mut hasher);
                by_name.insert(name, (bytes.len() as u64, hasher.finish()));
            }
        }
        Self { by_name }
    }

    /// Relative names.
    pub fn names(&self) -> impl Iterator<Item = &Path> {
        self.by_name.keys().map(PathBuf::as_path)
    }

    /// Panics unless `other` has the same files with the same bytes, apart from names that `except` accepts.
    pub fn assert_same(&self, other: &Self, except: impl Fn(&str) -> bool) {
        let keep = |all: &Self| -> BTreeMap<PathBuf, (u64, u64)> {
            all.by_name
                .iter()
                .filter(|(n, _)| !except(&n.to_string_lossy()))
                .map(|(n, v)| (n.clone(), *v))
                .collect()
        };
        let (left, right) = (keep(self), keep(other));
        let mut differing: Vec<String> = Vec::new();
        for (name, value) in &left {
            match right.get(name) {
                None => differing.push(format!("{}: missing", name.display())),
                Some(v) if v != value => {
                    differing.push(format!("{}: {} and {} bytes", name.display(), value.0, v.0))
                }
                Some(_) => {}
            }
        }
        differing.extend(
            right.keys().filter(|n| !left.contains_key(*n)).map(|n| format!("{}: extra", n.display())),
        );
        assert!(differing.is_empty(), "artifacts differ:\n{}", differing.join("\n"));
    }
}

/// Inode number and number of links.
pub(crate) fn inode(path: &Path) -> (u64, u64) {
    let data = fs::metadata(path).unwrap_or_else(|e| panic!("look at {}: {e}", path.display()));
    (data.ino(), data.nlink())
}
