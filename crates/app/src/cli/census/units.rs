//! The units in a build directory: when Cargo last looked at each, what belongs to it, how it is removed. Knows nothing
//! about who wants it removed.
//!
//! Cargo reads a unit's hash, a small file in its fingerprint directory, in every build that needs the unit, and nothing
//! else does: the time of the last access is the last use. Linux notes it to the day (`relatime`); a file system that is
//! mounted with `noatime` tells nothing.
//!
//! A unit is removed in this order: hash, outputs, the rest of the fingerprint. Without the hash Cargo builds the unit
//! again, whatever is left; and what is left is still known as the unit's.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{CLASSIC_OUTPUTS, Layout, UnitDir, unit_hash_in};
use kache_core::key::EntryKey;
use kache_engine::seed::fingerprints::{Edges, edges};
use kache_engine::seed::{run_mark, target_dir};
use kache_store::fault::{self, Point};
use kache_store::ledger;
use rustix::fs::StatVfsMountFlags;
use serde::Deserialize;

/// Largest fingerprint that is read, in bytes.
const FINGERPRINT_BYTES_MAX: u64 = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Compile,
    Script,
    /// The run of a build script.
    Run,
    /// Incremental state of a crate, which the compiler makes again.
    State,
}

/// When a unit was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// The file system doesn't tell.
    Unknown,
    /// Seconds since 1970.
    At(i64),
    /// It was compiled only in part, or its removal was interrupted: Cargo builds it again.
    Broken,
}

/// Who made a unit, as far as the directory tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Maker {
    /// Cargo's hash of the compiler's version text.
    Hash(u64),
    Version(String),
    /// It isn't told.
    Unknown,
}

#[derive(Debug, Clone)]
pub struct Unit {
    pub kind: Kind,
    /// Crate or package.
    pub name: String,
    pub used: Use,
    pub maker: Maker,
    /// The entry that it is the result of.
    pub entry: Option<EntryKey>,
    /// Where Cargo's hash and the rest of the fingerprint are.
    fingerprint: Option<PathBuf>,
    hashes: Vec<PathBuf>,
    stamps: Vec<Option<[i64; 3]>>,
    /// Everything else that belongs to it.
    outputs: Vec<PathBuf>,
}

/// The units of a build directory.
pub fn of(build: &Path) -> Vec<Unit> {
    let notes_use =
        rustix::fs::statvfs(build).is_ok_and(|stat| !stat.f_flag.contains(StatVfsMountFlags::NOATIME));
    let mut found = Vec::new();
    for profile in target_dir::profiles(build) {
        let profile = build.join(profile);
        let mut outputs = classic_outputs(&profile);
        for layout in [Layout::Classic, Layout::PerUnit] {
            for dir in target_dir::units(&profile, layout) {
                found.extend(unit(&profile, &dir, &mut outputs, notes_use));
            }
        }
        let states = profile.join("incremental");
        found.extend(target_dir::folders(&states).iter().map(|name| state(&states.join(name), name)));
    }
    found
}

/// What the compiler wrote in the classic layout, by the unit's hash.
fn classic_outputs(profile: &Path) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for folder in CLASSIC_OUTPUTS {
        let dir = profile.join(folder);
        for name in target_dir::names(&dir) {
            if let Some(hash) = unit_hash_in(&name) {
                found.entry(hash.to_owned()).or_default().push(dir.join(&name));
            }
        }
    }
    found
}

fn unit(
    profile: &Path,
    dir: &UnitDir,
    classic: &mut HashMap<String, Vec<PathBuf>>,
    notes_use: bool,
) -> Option<Unit> {
    let fingerprint = profile.join(dir.fingerprint());
    let names = target_dir::names(&fingerprint);
    let jsons: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".json")).collect();
    // Without any, it is no unit of Cargo's.
    let first = jsons.first()?;
    let kind = match first {
        name if name.starts_with("run-build-script-") => Kind::Run,
        name if name.starts_with("build-script-") => Kind::Script,
        _ => Kind::Compile,
    };
    let hashes: Vec<PathBuf> = jsons.iter().map(|name| fingerprint.join(name)).collect();
    let outputs = match dir.layout {
        Layout::Classic => {
            let mut outputs = classic.remove(&dir.hash).unwrap_or_default();
            let own = [profile.join(dir.own_folder()), profile.join("deps/artifact").join(dir.name())];
            outputs.extend(own.into_iter().filter(|path| path.is_dir()));
            outputs
        }
        Layout::PerUnit => {
            let own = profile.join(dir.own_folder());
            let parts = target_dir::names(&own).into_iter().filter(|name| name != "fingerprint");
            parts.map(|name| own.join(name)).collect()
        }
    };
    let ledger = ledger::peek(profile);
    let marks = if kind == Kind::Run { vec![run_mark(dir)] } else { marks(dir, &outputs) };
    let origin = marks.iter().find_map(|mark| ledger.origin_of(mark));
    Some(Unit {
        kind,
        name: dir.package.clone(),
        used: last_use(&hashes, notes_use),
        maker: maker(&fingerprint.join(format!("{first}.json"))),
        entry: origin.map(|origin| origin.entry),
        fingerprint: Some(fingerprint),
        stamps: hashes.iter().map(|hash| stamp(hash)).collect(),
        hashes,
        outputs,
    })
}

/// Names under which the ledger may know a unit: that of its dep-info in the classic layout.
fn marks(dir: &UnitDir, outputs: &[PathBuf]) -> Vec<String> {
    if dir.layout == Layout::PerUnit {
        return vec![dir.id()];
    }
    let in_folder =
        |folder: PathBuf| target_dir::names(&folder).into_iter().map(move |name| folder.join(name));
    let below = outputs.iter().filter(|path| path.is_dir()).cloned().flat_map(in_folder);
    let stem = |path: PathBuf| Some(path.file_name()?.to_str()?.strip_suffix(".d")?.to_owned());
    outputs.iter().cloned().chain(below).filter_map(stem).collect()
}

/// What changes when Cargo uses a unit or makes it again.
fn stamp(hash: &Path) -> Option<[i64; 3]> {
    let meta = fs::metadata(hash).ok()?;
    Some([meta.mtime(), meta.mtime_nsec(), if meta.is_dir() { 0 } else { meta.atime() }])
}

fn last_use(hashes: &[PathBuf], notes_use: bool) -> Use {
    let metas: Result<Vec<_>, _> = hashes.iter().map(fs::metadata).collect();
    match metas {
        // Cargo empties the file before a compile.
        Ok(metas) if metas.iter().all(|meta| meta.len() > 0) => {
            let times = metas.iter().map(|meta| meta.atime().max(meta.mtime()));
            times.max().filter(|_| notes_use).map_or(Use::Unknown, Use::At)
        }
        Ok(_) => Use::Broken,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Use::Broken,
        Err(_) => Use::Unknown,
    }
}

fn maker(json: &Path) -> Maker {
    #[derive(Deserialize)]
    struct Fingerprint {
        rustc: u64,
    }
    let is_short = fs::metadata(json).is_ok_and(|meta| meta.len() <= FINGERPRINT_BYTES_MAX);
    let read = is_short.then(|| fs::read(json).ok()).flatten();
    let found = read.and_then(|bytes| serde_json::from_slice::<Fingerprint>(&bytes).ok());
    found.map_or(Maker::Unknown, |fingerprint| Maker::Hash(fingerprint.rustc))
}

/// Incremental state. The compiler makes a folder in it in every compile.
fn state(dir: &Path, name: &str) -> Unit {
    let used = fs::metadata(dir).map_or(Use::Unknown, |meta| Use::At(meta.mtime()));
    let sessions = target_dir::folders(dir);
    let version = sessions.iter().find_map(|session| version_in(&dir.join(session).join("dep-graph.bin")));
    Unit {
        kind: Kind::State,
        name: name.rsplit_once('-').map_or(name, |(name, _)| name).to_owned(),
        used,
        maker: version.map_or(Maker::Unknown, Maker::Version),
        entry: None,
        fingerprint: None,
        hashes: vec![dir.to_owned()],
        stamps: vec![stamp(dir)],
        outputs: vec![dir.to_owned()],
    }
}

/// The compiler's version at the head of a file of incremental state: `RSIC`, two bytes of the form, the length in one
/// byte, the text (`rustc_incremental/src/persist/file_format.rs`, 1.95).
fn version_in(file: &Path) -> Option<String> {
    let mut head = [0; 7 + 255];
    let mut opened = fs::File::open(file).ok()?.take(head.len() as u64);
    let mut filled = 0;
    while let Ok(count @ 1..) = opened.read(&mut head[filled..]) {
        filled += count;
    }
    let length = usize::from(*head[..filled].strip_prefix(b"RSIC")?.get(2)?);
    std::str::from_utf8(head[..filled].get(7..7 + length)?).ok().map(str::to_owned)
}

impl Unit {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.outputs.iter().chain(&self.fingerprint).map(PathBuf::as_path)
    }

    /// Its hash and those of its dependencies; `None` where they can't be told. Of a broken unit there are none.
    pub fn edges(&self) -> Option<Vec<Edges>> {
        self.fingerprint.as_deref().map_or(Some(Vec::new()), edges)
    }

    /// Whether a build has used it, or made it again, since it was looked at.
    pub fn was_used_since(&self) -> bool {
        !self.hashes.iter().map(|hash| stamp(hash)).eq(self.stamps.iter().copied())
    }

    /// Removes it, with Cargo's locks held by the caller.
    ///
    /// # Errors
    /// When something can't be removed; Cargo builds the unit again then.
    pub fn remove(&self) -> Result<(), (PathBuf, io::Error)> {
        self.hashes.iter().try_for_each(|hash| gone(hash))?;
        fault::point(Point::UnitDisowned);
        self.outputs.iter().try_for_each(|path| gone(path))?;
        fault::point(Point::UnitEmptied);
        let Some(fingerprint) = &self.fingerprint else { return Ok(()) };
        gone(fingerprint)?;
        // What was the unit's alone; another one's isn't empty.
        for folder in fingerprint.ancestors().skip(1).take(2) {
            let _ = fs::remove_dir(folder);
        }
        Ok(())
    }
}

/// Removes a build directory, with Cargo's locks held by the caller.
///
/// # Errors
/// When something can't be removed; Cargo builds every unit again then.
pub fn remove_all(build: &Path) -> Result<(), (PathBuf, io::Error)> {
    let units = of(build).into_iter().filter(|unit| unit.kind != Kind::State);
    units.into_iter().try_for_each(|unit| unit.hashes.iter().try_for_each(|hash| gone(hash)))?;
    fault::point(Point::UnitDisowned);
    gone(build)
}

fn gone(path: &Path) -> Result<(), (PathBuf, io::Error)> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err((path.to_owned(), error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HASH: &str = "0123456789abcdef";
    const OTHER: &str = "fedcba9876543210";

    fn make(root: &Path, files: &[String]) {
        for name in files {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("parent")).expect("mkdir");
            fs::write(path, r#"{"rustc":7}"#).expect("write");
        }
    }

    fn below(root: &Path) -> Vec<String> {
        let mut found = Vec::new();
        let mut waiting = vec![root.to_owned()];
        while let Some(dir) = waiting.pop() {
            for path in fs::read_dir(dir).expect("list").map(|item| item.expect("item").path()) {
                if path.is_dir() {
                    waiting.push(path);
                } else {
                    found.push(path.strip_prefix(root).expect("below").display().to_string());
                }
            }
        }
        found.sort();
        found
    }

    #[test]
    fn a_unit_goes_with_all_that_is_its_own_and_nothing_else() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path();
        let of_unit = |hash: &str| {
            let names = [
                format!(".fingerprint/my-app-{hash}/lib-my_app"),
                format!(".fingerprint/my-app-{hash}/lib-my_app.json"),
                format!("deps/libmy_app-{hash}.rlib"),
                format!("deps/my_app-{hash}.my_app.1-cgu.0.rcgu.o"),
                format!("deps/my_app-{hash}.d"),
                format!("build/my-app-{hash}/build_script_build-{hash}"),
            ];
            names.map(|name| format!("debug/{name}")).to_vec()
        };
        let per_unit = |hash: &str| {
            ["fingerprint/lib-p", "fingerprint/lib-p.json", "out/libp.rlib", "run/x"]
                .map(|name| format!("debug/build/p/{hash}/{name}"))
                .to_vec()
        };
        let stay = ["debug/.cargo-lock", "debug/app", "debug/deps/own", "debug/deps/app-1.d"];
        make(root, &of_unit(HASH));
        make(root, &per_unit(HASH));
        let stay: Vec<String> = [of_unit(OTHER), per_unit(OTHER), stay.map(str::to_owned).to_vec()].concat();
        make(root, &stay);
        let units = of(root);
        assert_eq!(units.len(), 4, "{units:#?}");
        assert!(units.iter().all(|unit| unit.maker == Maker::Hash(7) && unit.kind == Kind::Compile));
        for unit in units.iter().filter(|unit| unit.hashes[0].to_string_lossy().contains(HASH)) {
            unit.remove().expect("removed");
            unit.remove().expect("gone already");
        }
        let mut stay = stay;
        stay.sort();
        assert_eq!(below(root), stay);
    }

    #[test]
    fn a_unit_without_a_whole_hash_is_broken_and_still_known() {
        let dir = tempfile::tempdir().expect("temp dir");
        let names = [format!("debug/.fingerprint/p-{HASH}/bin-p"), format!("debug/deps/p-{HASH}.d")];
        make(dir.path(), &[names[0].clone(), format!("{}.json", names[0]), names[1].clone()]);
        let used = |root: &Path| of(root)[0].used;
        assert!(matches!(used(dir.path()), Use::At(_) | Use::Unknown));
        fs::write(dir.path().join(&names[0]), "").expect("write");
        assert_eq!(used(dir.path()), Use::Broken);
        fs::remove_file(dir.path().join(&names[0])).expect("remove");
        assert_eq!(used(dir.path()), Use::Broken);
        assert_eq!(of(dir.path())[0].paths().count(), 2, "its outputs are known as its own");
    }

    #[test]
    fn incremental_state_says_which_compiler_made_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let session = dir.path().join("debug/incremental/my_app-1x/s-1");
        fs::create_dir_all(&session).expect("mkdir");
        fs::write(dir.path().join("debug/.cargo-lock"), "").expect("write");
        fs::create_dir_all(dir.path().join("debug/build")).expect("mkdir");
        for (head, maker) in [
            (&b"RSIC\0\0\x061.95.0rest"[..], Maker::Version("1.95.0".to_owned())),
            (b"RSIC\0\0\xff1.95.0", Maker::Unknown),
            (b"RSI", Maker::Unknown),
        ] {
            fs::write(session.join("dep-graph.bin"), head).expect("write");
            let units = of(dir.path());
            assert_eq!((units[0].maker.clone(), units[0].name.as_str()), (maker, "my_app"));
            assert_eq!(units[0].kind, Kind::State);
        }
    }
}
