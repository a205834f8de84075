//! Where Cargo keeps things in a build directory. Owns both of Cargo's trees, as functions over paths. Doesn't look at
//! the disk, and doesn't know what the cache does with a place.
//!
//! Cargo has two layouts (`src/cargo/core/compiler/layout.rs`; `src/compiler/layout.rs` since 1.100).
//!
//! **Classic**, the default up to 1.99. One directory for all outputs of a profile; names carry the unit's hash:
//!
//! ```text
//! <build-dir>/.rustc_info.json  CACHEDIR.TAG
//! <build-dir>/[<triple>/]<profile>/
//!     .cargo-lock                       ≤ 1.95: the build lock · ≥ 1.96: .cargo-build-lock
//!     .fingerprint/PKG-HASH/            dep-KIND-NAME  KIND-NAME  KIND-NAME.json  invoked.timestamp
//!     deps/                             what rustc writes: libNAME-HASH.rlib  NAME-HASH  NAME-HASH.d
//!     deps/artifact/PKG-HASH/KIND/      what rustc writes for an artifact dependency
//!     examples/
//!     build/PKG-HASH/                   a build script: build_script_NAME-HASH  build-script-NAME
//!     build/PKG-HASH/                   its run, under another hash: invoked.timestamp  output  stderr  root-output
//!     build/PKG-HASH/out/               OUT_DIR
//!     incremental/
//! ```
//!
//! **Per unit**, the default since 1.100 (`-Zbuild-dir-new-layout` before). One directory for each unit; programs,
//! dynamic libraries and build scripts carry no hash in their names:
//!
//! ```text
//! <build-dir>/[<triple>/]<profile>/
//!     .cargo-build-lock                 (1.95 with the option: .cargo-lock)
//!     build/PKG/HASH/out/               what rustc writes, or OUT_DIR where the unit is the run of a build script
//!     build/PKG/HASH/artifact/KIND/     what rustc writes for an artifact dependency
//!     build/PKG/HASH/fingerprint/       as in .fingerprint/PKG-HASH
//!     build/PKG/HASH/run/               runs only: invoked.timestamp  stdout  stderr  root-output
//!     build/PKG/HASH/.lock              with -Zfine-grain-locking
//!     incremental/
//! ```
//!
//! HASH is 16 hexadecimal digits. The final outputs lie in `<target-dir>/[<triple>/]<profile>/`, which is the same
//! directory unless `build.build-dir` is set. kache's own folder in a profile directory is [`LEDGER`].

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::entry::is_safe_name;

/// kache's folder in a profile directory.
pub const LEDGER: &str = ".kache";
/// Where Cargo 1.95 and earlier keep fingerprints, below a profile directory.
pub const FINGERPRINTS: &str = ".fingerprint";
/// The folder of build scripts, or of all units, below a profile directory.
pub const UNITS: &str = "build";
/// Folders of outputs in the classic layout, below a profile directory.
pub const CLASSIC_OUTPUTS: [&str; 2] = ["deps", "examples"];
/// Folders below a profile directory that only Cargo and the compiler write.
pub const FOLDERS: [&str; 6] = [FINGERPRINTS, LEDGER, UNITS, "deps", "examples", "incremental"];
/// Cargo's lock files in a profile directory, in the order in which Cargo takes them. Up to 1.95 the last one is held
/// exclusively. Since 1.96 the first one is (shared with `-Zfine-grain-locking`), the last one is held shared, and the
/// second one, which lies beside the final outputs, exclusively. Holding any of them, however, is working there.
pub const LOCKS: [&str; 3] = [".cargo-build-lock", ".cargo-artifact-lock", ".cargo-lock"];
/// The locks that a writer into a profile of a build directory takes, in this order.
pub const BUILD_LOCKS: [&str; 2] = [".cargo-build-lock", ".cargo-lock"];
/// The file, of a run's, whose time tells when it started.
pub const INVOKED: &str = "invoked.timestamp";
/// The file, of a run's, with the place of its `OUT_DIR`.
pub const ROOT_OUTPUT: &str = "root-output";

crate::words! {
    /// How a build directory is arranged.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Layout {
        /// One directory for all outputs of a profile.
        Classic = "classic",
        /// One directory for each unit.
        PerUnit = "per-unit",
    }
}

impl std::str::FromStr for Layout {
    type Err = ();

    fn from_str(word: &str) -> Result<Self, ()> {
        [Layout::Classic, Layout::PerUnit].into_iter().find(|layout| layout.word() == word).ok_or(())
    }
}

/// The directory of a unit: what Cargo calls it, and where its parts lie below a profile directory. Stored as
/// [`UnitDir::name`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UnitDir {
    /// The layout that it belongs to.
    pub layout: Layout,
    pub package: String,
    /// The unit's hash: 16 hexadecimal digits.
    pub hash: String,
}

impl UnitDir {
    /// Reads `PKG-HASH` or `PKG/HASH`; `None` for anything else.
    pub fn parse(name: &str) -> Option<Self> {
        let (layout, (package, hash)) = match name.rsplit_once('/') {
            Some(parts) => (Layout::PerUnit, parts),
            None => (Layout::Classic, name.rsplit_once('-')?),
        };
        let is_name = is_safe_name(package) && is_unit_hash(hash);
        is_name.then(|| Self { layout, package: package.to_owned(), hash: hash.to_owned() })
    }

    /// `PKG-HASH` or `PKG/HASH`: the inverse of [`UnitDir::parse`].
    pub fn name(&self) -> String {
        let separator = if self.layout == Layout::Classic { '-' } else { '/' };
        format!("{}{separator}{}", self.package, self.hash)
    }

    /// One path component that stands for the unit: `PKG-HASH` or `PKG.HASH`, so that units of both layouts in one
    /// directory are told apart.
    pub fn id(&self) -> String {
        self.name().replace('/', ".")
    }

    pub fn fingerprint(&self) -> String {
        match self.layout {
            Layout::Classic => format!("{FINGERPRINTS}/{}", self.name()),
            Layout::PerUnit => format!("{UNITS}/{}/fingerprint", self.name()),
        }
    }

    /// Where the compiler writes the unit's outputs. Cargo puts a build script elsewhere than a library.
    pub fn outputs(&self, is_script: bool) -> String {
        match self.layout {
            Layout::Classic if is_script => format!("{UNITS}/{}", self.name()),
            Layout::Classic => "deps".to_owned(),
            Layout::PerUnit => format!("{UNITS}/{}/out", self.name()),
        }
    }

    /// The directory with what a build script's run printed and when it started.
    pub fn run(&self) -> String {
        match self.layout {
            Layout::Classic => format!("{UNITS}/{}", self.name()),
            Layout::PerUnit => format!("{UNITS}/{}/run", self.name()),
        }
    }

    /// The file with the standard output of a build script's run.
    pub fn stdout(&self) -> String {
        let name = if self.layout == Layout::Classic { "output" } else { "stdout" };
        format!("{}/{name}", self.run())
    }

    /// `OUT_DIR` of a build script's run.
    pub fn out_dir(&self) -> String {
        format!("{UNITS}/{}/out", self.name())
    }

    /// The folder in which everything of the unit lies, or in the classic layout of it as a build script or a run.
    pub fn own_folder(&self) -> String {
        format!("{UNITS}/{}", self.name())
    }

    /// The unit's mark in the ledger. `stem` is what its outputs are named after: the classic layout tells units apart by
    /// nothing else.
    pub fn mark(&self, stem: &str) -> String {
        if self.layout == Layout::Classic { stem.to_owned() } else { self.id() }
    }

    /// The unit whose run has this `OUT_DIR`, and the profile directory.
    pub fn of_out_dir(out_dir: &Path) -> Option<(Self, &Path)> {
        let parts = Parts::of(out_dir);
        match (parts.name(0)?, parts.name(2)?, parts.name(3)) {
            ("out", UNITS, _) => Some((Self::parse(parts.name(1)?)?, parts.above(3)?)),
            ("out", _, Some(UNITS)) => Some((parts.per_unit(1)?, parts.above(4)?)),
            _ => None,
        }
    }
}

/// A directory that Cargo has the compiler write outputs into (`--out-dir`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputDir {
    pub layout: Layout,
    /// The profile directory that it lies in: `<build-dir>/[<triple>/]<profile>`.
    pub profile_dir: PathBuf,
    /// The unit, where the directory is one unit's.
    pub unit: Option<UnitDir>,
    /// The kind of an artifact dependency: `bin`, `cdylib`, `staticlib`.
    pub artifact: Option<String>,
}

impl OutputDir {
    /// Reads an absolute directory from its end; `None` when Cargo has no such directories.
    pub fn of(dir: &Path) -> Option<Self> {
        let parts = Parts::of(dir);
        let at = |layout, above: usize, unit, artifact: Option<&str>| {
            let profile_dir = parts.above(above)?.to_owned();
            Some(Self { layout, profile_dir, unit, artifact: artifact.map(str::to_owned) })
        };
        let last = parts.name(0)?;
        if CLASSIC_OUTPUTS.contains(&last) {
            return at(Layout::Classic, 1, None, None);
        }
        match (parts.name(1)?, parts.name(2), parts.name(3)) {
            (UNITS, ..) => at(Layout::Classic, 2, Some(UnitDir::parse(last)?), None),
            (name, Some("artifact"), Some("deps")) => {
                at(Layout::Classic, 4, Some(UnitDir::parse(name)?), Some(last))
            }
            (_, _, Some(UNITS)) if last == "out" => at(Layout::PerUnit, 4, Some(parts.per_unit(1)?), None),
            ("artifact", ..) if parts.name(4) == Some(UNITS) => {
                at(Layout::PerUnit, 5, Some(parts.per_unit(2)?), Some(last))
            }
            _ => None,
        }
    }

    /// One path component that stands for a unit with outputs here. `stem` is what the outputs are named after, without
    /// `lib`: the classic layout tells units apart by nothing else.
    pub fn unit_id(&self, stem: &str) -> String {
        match (&self.unit, &self.artifact) {
            (Some(unit), Some(kind)) => format!("{}.{kind}", unit.id()),
            (Some(unit), None) => unit.mark(stem),
            (None, _) => stem.to_owned(),
        }
    }

    /// The build directory; `target` is the one that the compiler was told, which names a directory of its own
    /// (`--target`, a triple or the path of a specification).
    pub fn build_dir(&self, target: Option<&str>) -> Option<&Path> {
        let above = self.profile_dir.parent()?;
        let triple = target.and_then(|target| Path::new(target).file_stem());
        if triple.is_some() && above.file_name() == triple { above.parent() } else { Some(above) }
    }
}

impl TryFrom<String> for UnitDir {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::parse(&name).ok_or_else(|| format!("{name:?} is no directory of a unit"))
    }
}

impl From<UnitDir> for String {
    fn from(unit: UnitDir) -> String {
        unit.name()
    }
}

/// The names of a path, from its end.
struct Parts<'p> {
    path: &'p Path,
    names: Vec<&'p str>,
}

impl<'p> Parts<'p> {
    /// As many as the deepest directory of either layout has.
    fn of(path: &'p Path) -> Self {
        let names = path.components().rev().take(6).map(|part| part.as_os_str().to_str().unwrap_or_default());
        Self { path, names: names.collect() }
    }

    fn name(&self, i: usize) -> Option<&'p str> {
        self.names.get(i).copied()
    }

    /// `PKG/HASH`, of which HASH is the name at `i`.
    fn per_unit(&self, i: usize) -> Option<UnitDir> {
        UnitDir::parse(&format!("{}/{}", self.name(i + 1)?, self.name(i)?))
    }

    fn above(&self, levels: usize) -> Option<&'p Path> {
        self.path.ancestors().nth(levels)
    }
}

/// What a path below a profile directory is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Cargo's bookkeeping, the compiler's incremental state, kache's ledger.
    Bookkeeping,
    /// A directory of the compiler's outputs, or something in it.
    Output,
    /// `OUT_DIR` of a build script's run in the classic layout, or something in it.
    ScriptOutput,
    /// `build/PKG/HASH/out` or something in it: `OUT_DIR` where this unit has a `run` directory, else outputs.
    UnitOutput(UnitDir),
    /// None of these: final outputs, and what others put there.
    Other,
}

/// What `rest` is, a path below a profile directory, without leading slash.
pub fn place(rest: &str) -> Place {
    let names: Vec<&str> = rest.split('/').collect();
    match names.as_slice() {
        [".cargo-lock" | ".cargo-build-lock" | ".cargo-artifact-lock"] => Place::Bookkeeping,
        [FINGERPRINTS | LEDGER | "incremental", ..] | [UNITS] => Place::Bookkeeping,
        ["deps" | "examples", ..] => Place::Output,
        [UNITS, package, hash] if is_unit_hash(hash) && !package.is_empty() => Place::Bookkeeping,
        [UNITS, package, hash, part, ..] if is_unit_hash(hash) => match *part {
            "out" => UnitDir::parse(&format!("{package}/{hash}")).map_or(Place::Other, Place::UnitOutput),
            "artifact" => Place::Output,
            "fingerprint" | "run" | ".lock" => Place::Bookkeeping,
            _ => Place::Other,
        },
        [UNITS, unit, rest @ ..] => match rest {
            ["out", ..] if UnitDir::parse(unit).is_some() => Place::ScriptOutput,
            [] | [_] => Place::Output,
            _ => Place::Other,
        },
        _ => Place::Other,
    }
}

/// Whether a folder is a profile directory of a build directory, by the names in it. On network file systems Cargo takes
/// no locks; there its folders tell.
pub fn is_profile_dir<'n>(names: impl IntoIterator<Item = &'n str>) -> bool {
    let (mut has_units, mut has_sign) = (false, false);
    for name in names {
        has_units |= name == UNITS;
        has_sign |= name == "incremental" || name == ".cargo-lock";
        if name == FINGERPRINTS || name == ".cargo-build-lock" {
            return true;
        }
    }
    has_units && has_sign
}

/// Whether a name is a unit's hash.
pub fn is_unit_hash(name: &str) -> bool {
    name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Whether a name ends in a unit's hash, as what the compiler is told to write in the classic layout does:
/// `app-1a2b3c4d5e6f7a8b`. The second name of a program, under which users find it, has none.
pub fn has_unit_hash(name: &str) -> bool {
    name.rsplit_once('-').is_some_and(|(_, hash)| is_unit_hash(hash))
}

/// The unit's hash in the name of what the compiler writes in the classic layout: `libserde-1a2b3c4d5e6f7a8b.rlib`,
/// `app-1a2b3c4d5e6f7a8b`, `app-1a2b3c4d5e6f7a8b.app.0.rcgu.o`. A crate's name has no dot.
pub fn unit_hash_in(name: &str) -> Option<&str> {
    let stem = name.split('.').next()?;
    stem.rsplit_once('-').map(|(_, hash)| hash).filter(|hash| is_unit_hash(hash))
}

/// What outputs of a compile are named after, by the name of one of them: `libserde-1a2b.rlib` is of `serde-1a2b`. `None`
/// for a file that no dependent is built against.
pub fn stem_of_artifact(name: &str) -> Option<&str> {
    let (stem, extension) = name.rsplit_once('.')?;
    let is_artifact = matches!(extension, "rlib" | "rmeta" | "so" | "dylib" | "a" | "wasm" | "exe");
    is_artifact.then(|| stem.strip_prefix("lib").unwrap_or(stem))
}

#[cfg(test)]
#[path = "layout_tests.rs"]
mod tests;
