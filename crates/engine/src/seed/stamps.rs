//! Stamps of package sources, which Cargo takes to be immutable. A stamp says "not touched since", by size and time. Checkouts of repositories
//! are dated by when they were made, which differs from machine to machine: of those the contents count.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::digest::Digest;

/// Most of a checkout's files that is read, in bytes; of a larger one the times count.
const CONTENTS_BYTES_MAX: u64 = 64 << 20;
/// Deepest folder of a package that is looked at.
const DEPTH_MAX: usize = 64;

/// What a tree of files looked like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tree {
    /// Digest of names, sizes and times, or of names, sizes and contents.
    pub stamp: Digest,
    /// When something in it was last changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

#[derive(Default)]
struct Walk {
    bytes: Vec<u8>,
    changed_ns: i64,
    /// How much may still be read; `None` where times count.
    to_read_bytes: Option<u64>,
}

/// A package's files: by content in a checkout of a repository, by time where they come out of an archive that dates them.
pub fn package(dir: &Path, cargo_home: &str) -> Option<Tree> {
    let is_checkout = dir.starts_with(Path::new(cargo_home).join("git"));
    let by_content = || tree(dir, Some(CONTENTS_BYTES_MAX));
    is_checkout.then(by_content).flatten().or_else(|| tree(dir, None))
}

/// Everything below a directory but what Cargo itself keeps there; `None` when it can't be looked at, or is too large.
fn tree(dir: &Path, to_read_bytes: Option<u64>) -> Option<Tree> {
    let mut found = Walk { to_read_bytes, ..Walk::default() };
    walk(dir, "", 0, &mut found)?;
    Some(Tree { stamp: Digest::of(&found.bytes), changed_ns: found.changed_ns })
}

fn walk(dir: &Path, prefix: &str, depth: usize, found: &mut Walk) -> Option<()> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(dir).ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name().into_string().ok()?;
        // Cargo's mark that it has unpacked the package, and a checkout's administration.
        if depth > 0 || (name != ".cargo-ok" && name != ".git") {
            entries.push((name, entry));
        }
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, entry) in entries {
        let meta = entry.metadata().ok()?;
        let name = format!("{prefix}/{name}");
        found.bytes.extend_from_slice(&(name.len() as u64).to_le_bytes());
        found.bytes.extend_from_slice(name.as_bytes());
        if meta.is_dir() {
            if depth == DEPTH_MAX {
                return None;
            }
            walk(&entry.path(), &name, depth + 1, found)?;
        } else {
            found.bytes.extend_from_slice(&meta.len().to_le_bytes());
            match &mut found.to_read_bytes {
                None => {
                    for number in [meta.mtime(), meta.mtime_nsec()] {
                        found.bytes.extend_from_slice(&number.to_le_bytes());
                    }
                }
                Some(left) => {
                    *left = left.checked_sub(meta.len())?;
                    let content = content(&entry.path(), &meta)?;
                    found.bytes.extend_from_slice(Digest::of(&content).to_string().as_bytes());
                }
            }
            for (seconds, ns) in [(meta.mtime(), meta.mtime_nsec()), (meta.ctime(), meta.ctime_nsec())] {
                let time_ns = seconds.saturating_mul(1_000_000_000).saturating_add(ns);
                found.changed_ns = found.changed_ns.max(time_ns);
            }
        }
    }
    Some(())
}

/// What is in a file, or where a link leads.
fn content(path: &Path, meta: &fs::Metadata) -> Option<Vec<u8>> {
    if meta.is_symlink() {
        return Some(fs::read_link(path).ok()?.into_os_string().into_encoded_bytes());
    }
    if !meta.is_file() {
        return None;
    }
    fs::read(path).ok()
}

/// Stamps of several packages, taken on all processors.
pub fn packages(dirs: &[String], cargo_home: &str) -> BTreeMap<String, Tree> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let chunk = dirs.len().div_ceil(threads).max(1);
    let stamp = |dirs: &[String]| -> Vec<(String, Tree)> {
        dirs.iter().filter_map(|dir| Some((dir.clone(), package(Path::new(dir), cargo_home)?))).collect()
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = dirs.chunks(chunk).map(|part| scope.spawn(move || stamp(part))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_package_is_the_same_until_a_file_is_touched_added_or_removed() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("src")).expect("mkdir");
        fs::write(path("src/lib.rs"), "1").expect("write");
        let before = package(dir.path(), "/none").expect("stamp");
        fs::write(path(".cargo-ok"), "ok").expect("write");
        assert_eq!(package(dir.path(), "/none"), Some(before));
        fs::write(path("src/lib.rs"), "22").expect("write");
        let edited = package(dir.path(), "/none");
        assert_ne!(edited, Some(before));
        fs::write(path("src/new.rs"), "").expect("write");
        assert_ne!(package(dir.path(), "/none"), edited);
        fs::remove_file(path("src/new.rs")).expect("remove");
        assert_eq!(package(dir.path(), "/none"), edited);
        assert_eq!(package(&path("none"), "/none"), None);
        let list = [path("src").display().to_string(), path("none").display().to_string()];
        assert_eq!(packages(&list, "/none").len(), 1);
        // Changed now, although it looks as old as ever.
        let before = package(dir.path(), "/none").expect("there").changed_ns;
        std::thread::sleep(std::time::Duration::from_millis(20));
        fs::File::open(path("src/lib.rs")).expect("open").set_modified(std::time::UNIX_EPOCH).expect("date");
        assert!(package(dir.path(), "/none").expect("there").changed_ns > before);
    }

    #[test]
    fn of_a_checkout_contents_count_and_not_when_it_was_made() {
        let dir = tempfile::tempdir().expect("temp dir");
        let home = dir.path().to_str().expect("UTF-8");
        let checkout = dir.path().join("git/checkouts/p-1/abc");
        fs::create_dir_all(&checkout).expect("mkdir");
        let file = checkout.join("lib.rs");
        let stamp = || package(&checkout, home).expect("stamp").stamp;
        let date = || {
            fs::File::open(&file).expect("open").set_modified(std::time::UNIX_EPOCH).expect("date");
        };
        fs::write(&file, "one").expect("write");
        std::os::unix::fs::symlink("lib.rs", checkout.join("link")).expect("link");
        let before = stamp();
        date();
        assert_eq!(stamp(), before);
        // As long and as old as it was.
        fs::write(&file, "two").expect("write");
        date();
        assert_ne!(stamp(), before);
        fs::write(&file, "one").expect("write");
        assert_eq!(stamp(), before);
        fs::remove_file(checkout.join("link")).expect("remove");
        std::os::unix::fs::symlink("lib.r_", checkout.join("link")).expect("link");
        assert_ne!(stamp(), before);
        // Too much to be read.
        let large = fs::File::create(checkout.join("large")).expect("create");
        large.set_len(CONTENTS_BYTES_MAX).expect("a hole");
        let before = stamp();
        date();
        assert_ne!(stamp(), before);
    }
}
