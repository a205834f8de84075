//! Cargo's fingerprint directories, read as Cargo writes them (`src/cargo/core/compiler/fingerprint/mod.rs` in 1.95,
//! `src/compiler/fingerprint/mod.rs` in 1.100): a unit's hash, the hashes of its dependencies, what it watches. Fields
//! that aren't needed may be missing or new; what isn't in that form otherwise is no unit.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::UnitDir;
use serde::Deserialize;

/// Largest file of a fingerprint directory that is read, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A unit that a fingerprint directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    pub name: String,
    pub kind: Kind,
    pub hash: String,
    pub deps: Vec<String>,
    /// Paths that a build script asked to be watched, relative to the package.
    pub watched: Vec<PathBuf>,
    /// Variables that it asked to be watched, with their values.
    pub asked: Vec<(String, Option<String>)>,
    /// The state of the file with the hash: Cargo empties it before it makes the unit again, and fills it afterwards.
    pub stamp: Stamp,
}

/// Inode, size, modification and change of a file.
pub type Stamp = [i128; 4];

/// The stamp of a unit's hash file; `None` when it can't be looked at.
pub fn stamp(dir: &Path, name: &str) -> Option<Stamp> {
    let meta = fs::metadata(dir.join(name)).ok()?;
    let ns = |seconds: i64, ns: i64| i128::from(seconds) * 1_000_000_000 + i128::from(ns);
    let (modified, changed) = (ns(meta.mtime(), meta.mtime_nsec()), ns(meta.ctime(), meta.ctime_nsec()));
    Some([i128::from(meta.ino()), i128::from(meta.len()), modified, changed])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Compiles a library or proc macro.
    Library,
    Script,
    Run,
}

#[derive(Deserialize)]
struct Json {
    /// Arrays of what identifies a dependency; its hash comes last.
    deps: Vec<Vec<serde_json::Value>>,
    local: Vec<Local>,
}

/// One of Cargo's `LocalFingerprint`s: an object with the variant's name as its only key.
#[derive(Debug, Default, Deserialize)]
struct Local {
    #[serde(rename = "CheckDepInfo")]
    dep_info: Option<CheckDepInfo>,
    #[serde(rename = "RerunIfChanged")]
    paths: Option<RerunIfChanged>,
    #[serde(rename = "RerunIfEnvChanged")]
    variable: Option<RerunIfEnvChanged>,
}

#[derive(Debug, Deserialize)]
struct CheckDepInfo {
    /// Up to 1.99: whether contents decide instead of times.
    #[serde(default)]
    checksum: bool,
    /// Since 1.100: `mtime` or `content`.
    #[serde(default)]
    fingerprint: Option<String>,
}

impl CheckDepInfo {
    fn is_by_time(&self) -> bool {
        !self.checksum && self.fingerprint.as_deref().is_none_or(|method| method == "mtime")
    }
}

#[derive(Debug, Deserialize)]
struct RerunIfChanged {
    paths: Vec<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct RerunIfEnvChanged {
    var: String,
    val: Option<String>,
}

/// A hash as Cargo writes it: the bytes of the number, lowest first, in hexadecimal.
fn hex(hash: u64) -> String {
    hash.to_le_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A finished unit of any kind, and what Cargo compares it with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edges {
    /// The file with the hash.
    pub name: String,
    pub hash: String,
    /// Hashes of the dependencies.
    pub deps: Vec<String>,
    /// Paths that a build script asked to be watched, relative to the package.
    pub watched: Vec<PathBuf>,
}

/// Reads the finished units of a fingerprint directory; `None` where one of them isn't understood. A unit whose hash is
/// missing or empty isn't finished: Cargo builds it whatever it finds.
pub fn edges(dir: &Path) -> Option<Vec<Edges>> {
    let names = super::target_dir::names(dir);
    let mut found = Vec::new();
    for name in names.iter().filter_map(|name| name.strip_suffix(".json")) {
        let hash = read_unnoticed(&dir.join(name)).unwrap_or_default();
        if hash.is_empty() {
            continue;
        }
        let json = json_in(dir, name)?;
        let watched =
            json.local.into_iter().filter_map(|local| local.paths).flat_map(|changed| changed.paths);
        found.push(Edges {
            name: name.to_owned(),
            hash,
            deps: hashes(&json.deps)?,
            watched: watched.collect(),
        });
    }
    Some(found)
}

/// Reads a file whose last access says when Cargo used the unit: this look is no use.
fn read_unnoticed(path: &Path) -> io::Result<String> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{Mode, OFlags, open};
        if let Ok(file) = open(path, OFlags::RDONLY | OFlags::NOATIME | OFlags::CLOEXEC, Mode::empty()) {
            return io::read_to_string(fs::File::from(file));
        }
    }
    let file = fs::File::open(path)?;
    let meta = file.metadata()?;
    let text = io::read_to_string(&file)?;
    let times = fs::FileTimes::new().set_accessed(meta.accessed()?).set_modified(meta.modified()?);
    file.set_times(times).map(|()| text)
}

fn json_in(dir: &Path, name: &str) -> Option<Json> {
    let json = dir.join(format!("{name}.json"));
    if fs::metadata(&json).ok()?.len() > FILE_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(&fs::read(json).ok()?).ok()
}

fn hashes(deps: &[Vec<serde_json::Value>]) -> Option<Vec<String>> {
    deps.iter().map(|dep| dep.last()?.as_u64().map(hex)).collect()
}

/// Reads one fingerprint directory; `None` for what isn't a finished unit of a kind that is seeded.
pub fn read(dir: &Path) -> Option<Fingerprint> {
    let entries = fs::read_dir(dir).ok()?.flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    let mut jsons = names.iter().filter_map(|name| name.strip_suffix(".json"));
    let (name, None) = (jsons.next()?, jsons.next()) else { return None };
    let kind = kind_of(name)?;
    // Before anything is read, so that whatever is read later belongs to it as long as it is the same then.
    let stamp = stamp(dir, name)?;
    let hash = fs::read_to_string(dir.join(name)).ok()?;
    let is_hash = hash.len() == 16 && hash.bytes().all(|digit| digit.is_ascii_hexdigit());
    if !is_hash {
        return None;
    }
    let json = json_in(dir, name)?;
    let deps = hashes(&json.deps)?;
    let (mut watched, mut asked) = (Vec::new(), Vec::new());
    for local in json.local {
        // Where contents decide, the dep-info holds checksums, and seeding by time would be a guess.
        if local.dep_info.is_some_and(|dep_info| !dep_info.is_by_time()) {
            return None;
        }
        watched.extend(local.paths.into_iter().flat_map(|changed| changed.paths));
        asked.extend(local.variable.map(|changed| (changed.var, changed.val)));
    }
    Some(Fingerprint { name: name.to_owned(), kind, hash, deps, watched, asked, stamp })
}

/// Whether a fingerprint directory belongs to a finished library, build script or run, understood or not.
pub fn is_of_a_kind_that_is_seeded(dir: &Path) -> bool {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    let is_seeded = |name: &String| name.strip_suffix(".json").is_some_and(|name| kind_of(name).is_some());
    names.into_iter().any(|name| is_seeded(&name))
}

fn kind_of(name: &str) -> Option<Kind> {
    if name.starts_with("run-build-script-") {
        Some(Kind::Run)
    } else if name.starts_with("build-script-") {
        Some(Kind::Script)
    } else if name.starts_with("lib-") {
        Some(Kind::Library)
    } else {
        None
    }
}

impl Fingerprint {
    /// What the outputs are named after in the classic layout, and mostly in the other one: crate name and the unit's
    /// hash. `None` for a run.
    pub fn stem(&self, dir: &UnitDir) -> Option<String> {
        let prefix = match self.kind {
            Kind::Library => "lib-",
            Kind::Script => "build-script-",
            Kind::Run => return None,
        };
        Some(format!("{}-{}", self.name.strip_prefix(prefix)?.replace('-', "_"), dir.hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finished_unit_is_read_and_others_are_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
        assert_eq!(read(dir.path()), None);
        write("run-build-script-build-script-build", "");
        write(
            "run-build-script-build-script-build.json",
            r#"{"rustc":1,"deps":[[7,"build_script_build",false,258]],"local":[{"RerunIfChanged":{"output":"debug/build/p-1/output",
               "paths":["build.rs"]}},{"RerunIfEnvChanged":{"var":"X","val":null}}]}"#,
        );
        assert_eq!(read(dir.path()), None, "an empty hash is a compile that didn't end");
        write("run-build-script-build-script-build", "00112233aabbccdd");
        let found = read(dir.path()).expect("a run");
        assert_eq!((found.kind, found.deps), (Kind::Run, vec!["0201000000000000".to_owned()]));
        assert_eq!(found.watched, [PathBuf::from("build.rs")]);
        assert_eq!(found.asked, [("X".to_owned(), None)]);
        let name = &found.name;
        assert_eq!(stamp(dir.path(), name), Some(found.stamp));
        fs::remove_file(dir.path().join(name)).expect("remove");
        assert_eq!(stamp(dir.path(), name), None);
        write(name, "00112233aabbccdd");
        assert_ne!(stamp(dir.path(), name), Some(found.stamp), "made again");
        write("lib-p.json", "{}");
        assert_eq!(read(dir.path()), None, "two units in one directory");
    }

    /// Both forms in which Cargo says how dep-info is compared, and what may come.
    #[test]
    fn what_is_not_needed_may_be_there_or_not() {
        let dir = tempfile::tempdir().expect("temp dir");
        let write = |name: &str, text: &str| fs::write(dir.path().join(name), text).expect("write");
        write("lib-p", "00112233aabbccdd");
        for (local, is_unit) in [
            (r#"{"CheckDepInfo":{"dep_info":"x","checksum":false}}"#, true),
            (r#"{"CheckDepInfo":{"dep_info":"x","checksum":true}}"#, false),
            (r#"{"CheckDepInfo":{"dep_info":"x","fingerprint":"mtime"}}"#, true),
            (r#"{"CheckDepInfo":{"dep_info":"x","fingerprint":"content"}}"#, false),
            (r#"{"CheckDepInfo":{"dep_info":"x","fingerprint":"unheard-of"}}"#, false),
            (r#"{"Precalculated":"1.0"}"#, true),
            (r#"{"Unheard":{"of":[1]}}"#, true),
            ("7", false),
        ] {
            write("lib-p.json", &format!(r#"{{"new":{{}},"deps":[],"local":[{local}],"profile":1}}"#));
            assert_eq!(read(dir.path()).is_some(), is_unit, "{local}");
        }
    }

    #[test]
    fn stems() {
        let unit = |name: &str| Fingerprint {
            name: name.to_owned(),
            kind: kind_of(name).expect("known"),
            hash: String::new(),
            deps: Vec::new(),
            watched: Vec::new(),
            asked: Vec::new(),
            stamp: [0; 4],
        };
        let dir = UnitDir::parse("my-crate-0123456789abcdef").expect("a unit");
        assert_eq!(unit("lib-my-crate").stem(&dir).as_deref(), Some("my_crate-0123456789abcdef"));
        assert_eq!(
            unit("build-script-build-script-build").stem(&dir).as_deref(),
            Some("build_script_build-0123456789abcdef")
        );
        assert_eq!(unit("run-build-script-build-script-build").stem(&dir), None);
        for other in ["bin-x", "test-lib-x", "doc-lib-x", "example-x"] {
            assert_eq!(kind_of(other), None, "{other}");
        }
    }
}
