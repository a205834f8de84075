//! Files in a build directory that neither Cargo nor the compiler puts there: a build script that copies a library
//! beside the programs leaves one. Who did can't be told from the file; when can, and so which runs may have been it.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{CLASSIC_OUTPUTS, FOLDERS, Layout, has_unit_hash};

use super::target_dir::{names, units};

/// Most files that are looked at.
const FILES_MAX: usize = 20_000;
/// What Cargo keeps beside the profile directories.
const BESIDE: &[&str] = &["doc", "package", "tmp", "CACHEDIR.TAG"];

/// A file and the times, in nanoseconds since 1970, at which it was written or changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Where it is.
    pub path: PathBuf,
    times_ns: [i64; 2],
}

impl Stray {
    /// Whether it was written or changed while something ran.
    pub fn was_written(&self, from_ns: i64, to_ns: i64) -> bool {
        self.times_ns.iter().any(|ns| (from_ns..=to_ns).contains(ns))
    }
}

/// The strays of a build directory with these profile directories.
pub fn find(build: &Path, profiles: &[String]) -> Vec<Stray> {
    let mut found = Vec::new();
    let first = |profile: &String| profile.split('/').next().unwrap_or_default().to_owned();
    let known: HashSet<String> = profiles.iter().map(first).collect();
    for name in names(build) {
        if !known.contains(&name) && !name.starts_with('.') && !BESIDE.contains(&name.as_str()) {
            add(&build.join(name), &mut found);
        }
    }
    for profile in profiles {
        let dir = build.join(profile);
        // A program in its place is a second name of an output.
        let mut linked = HashSet::new();
        for folder in CLASSIC_OUTPUTS {
            for name in names(&dir.join(folder)) {
                let path = dir.join(folder).join(&name);
                if is_of_a_unit(&name) {
                    linked.extend(inode(&path));
                } else if folder == "deps" {
                    add(&path, &mut found);
                }
            }
        }
        for unit in units(&dir, Layout::PerUnit) {
            let outputs = dir.join(unit.outputs(false));
            linked.extend(names(&outputs).iter().filter_map(|name| inode(&outputs.join(name))));
        }
        for name in names(&dir) {
            let path = dir.join(&name);
            let is_uplifted = || {
                fs::symlink_metadata(&path).is_ok_and(|meta| meta.is_file() && linked.contains(&meta.ino()))
            };
            let is_cargos =
                FOLDERS.contains(&name.as_str()) || name.starts_with(".cargo") || name.ends_with(".d");
            if !is_cargos && !is_uplifted() {
                add(&path, &mut found);
            }
        }
    }
    found
}

/// Whether a name in `deps` is one that the compiler was told to use: with a unit's hash.
fn is_of_a_unit(name: &str) -> bool {
    has_unit_hash(name.split('.').next().unwrap_or(name))
}

fn inode(path: &Path) -> Option<u64> {
    fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

/// A file, or everything in a folder.
fn add(path: &Path, found: &mut Vec<Stray>) {
    for entry in walkdir::WalkDir::new(path).into_iter().flatten() {
        if found.len() < FILES_MAX
            && let Ok(meta) = fs::symlink_metadata(entry.path())
        {
            let ns = |seconds: i64, ns: i64| seconds.saturating_mul(1_000_000_000).saturating_add(ns);
            let times_ns = [ns(meta.mtime(), meta.mtime_nsec()), ns(meta.ctime(), meta.ctime_nsec())];
            found.push(Stray { path: entry.into_path(), times_ns });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nobody_knows_is_a_stray() {
        let dir = tempfile::tempdir().expect("temp dir");
        let build = dir.path();
        let put = |name: &str| {
            let path = build.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
            fs::write(path, "x").expect("write");
        };
        for name in [
            "CACHEDIR.TAG",
            ".rustc_info.json",
            "doc/index.html",
            "debug/.cargo-lock",
            "debug/.fingerprint/a-1/lib-a",
            "debug/build/a-1/out/x",
            "debug/deps/app-0123456789abcdef",
            "debug/deps/liba-0123456789abcdef.rlib",
            "debug/deps/a-0123456789abcdef.0.rcgu.o",
            "debug/app.d",
            "debug/build/b/0123456789abcdef/out/b",
            "debug/build/b/0123456789abcdef/fingerprint/bin-b",
            "x86_64-unknown-none/release/deps/libb-0123456789abcdef.rmeta",
        ] {
            put(name);
        }
        fs::hard_link(build.join("debug/deps/app-0123456789abcdef"), build.join("debug/app")).expect("link");
        fs::hard_link(build.join("debug/build/b/0123456789abcdef/out/b"), build.join("debug/b"))
            .expect("link");
        let profiles = ["debug".to_owned(), "x86_64-unknown-none/release".to_owned()];
        assert_eq!(find(build, &profiles), []);
        let strays = ["debug/libfound.so", "debug/deps/libfound.so", "bridge/include/x.h", "debug/data/y"];
        strays.iter().for_each(|name| put(name));
        let found = find(build, &profiles);
        for name in strays {
            let stray = found.iter().find(|stray| stray.path == build.join(name));
            let stray = stray.unwrap_or_else(|| panic!("{name} in {found:?}"));
            let now = super::super::times::now_ns();
            assert!(stray.was_written(now - 60_000_000_000, now + 60_000_000_000));
            assert!(!stray.was_written(0, now - 60_000_000_000));
        }
    }
}
