//! A build directory from outside: its profile directories and units, whether there is anything in it. Knows nothing
//! about what a unit is made of.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{self, FINGERPRINTS, LEDGER, Layout, UNITS, UnitDir};

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
        if is_profile(&dir) {
            found.push(name);
            continue;
        }
        let below = folders(&dir).into_iter().filter(|inner| is_profile(&dir.join(inner)));
        found.extend(below.map(|inner| format!("{name}/{inner}")));
    }
    found.sort();
    found
}

fn is_profile(dir: &Path) -> bool {
    layout::is_profile_dir(names(dir).iter().map(String::as_str))
}

/// The units of a profile directory that Cargo has heard of, in one of its layouts.
pub fn units(profile_dir: &Path, layout: Layout) -> Vec<UnitDir> {
    let names: Vec<String> = match layout {
        Layout::Classic => folders(&profile_dir.join(FINGERPRINTS)),
        Layout::PerUnit => {
            let packages = folders(&profile_dir.join(UNITS));
            let below = |package: &String| {
                let hashes = folders(&profile_dir.join(UNITS).join(package));
                hashes.into_iter().map(|hash| format!("{package}/{hash}")).collect::<Vec<_>>()
            };
            packages.iter().flat_map(below).collect()
        }
    };
    names.iter().filter_map(|name| UnitDir::parse(name)).collect()
}

/// Names of what is in a folder.
pub fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
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
        |dir: &Path| [FINGERPRINTS, "deps", UNITS, LEDGER].iter().any(|name| has_any(dir.join(name)));
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
        fs::create_dir_all(build.join("debug")).expect("mkdir");
        fs::write(build.join("debug/.cargo-lock"), "").expect("a lock");
        assert!(!is_populated(&build), "a lock file is nothing");
        for profile in ["debug", "x86_64-unknown-none/release"] {
            fs::create_dir_all(build.join(profile).join(".fingerprint/p-1")).expect("mkdir");
        }
        assert_eq!(profiles(&build), ["debug", "x86_64-unknown-none/release"]);
        assert!(is_populated(&build));
    }

    #[test]
    fn units_of_both_layouts_are_told_apart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let hash = "0123456789abcdef";
        for name in
            [format!(".fingerprint/a-{hash}"), format!("build/a-{hash}/out"), format!("build/b/{hash}/out")]
        {
            fs::create_dir_all(dir.path().join(name)).expect("mkdir");
        }
        let names = |layout| units(dir.path(), layout).iter().map(UnitDir::name).collect::<Vec<_>>();
        assert_eq!(names(Layout::Classic), [format!("a-{hash}")]);
        assert_eq!(names(Layout::PerUnit), [format!("b/{hash}")]);
    }
}
