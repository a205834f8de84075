//! The ledger of a profile directory: whether it was empty when kache first saw it, and which units were placed or
//! compiled there since. It lies inside the directory, so that it vanishes with it. Knows nothing about why that
//! matters; the argument is in `kache_core::plan`.
//!
//! ```text
//! <profile dir>/.kache/birth      the directory held no artifacts at first sight; content: format version
//! <profile dir>/.kache/foreign    it did, or someone has built there without kache since, or what a cross build made
//!                                  against it is older than the directory
//! <profile dir>/.kache/session    the Cargo invocations that last checked for foreign artifacts, newest first
//! <profile dir>/.kache/units/ID   one mark for each unit, by `OutputDir::unit_id`; content: its canonical time in
//!                                  seconds, and where the unit is the result of an entry: the entry's key, and for what
//!                                  comes from a registry or a git checkout the package's directory; one on each line
//! <profile dir>/.kache/runs/ID    when the run of a build script (`UnitDir::id`) started that units here saw first, in
//!                                  nanoseconds since 1970
//! ```
//! A ledger that can't be read or written makes the directory count as foreign: more bytes, never a wrong build.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{self, CLASSIC_OUTPUTS, LEDGER, OutputDir, UNITS, UnitDir};
use kache_core::key::EntryKey;
use kache_core::provenance::Provenance;
use rustix::fs::{FlockOperation, flock};

use crate::clock::FileTime;
use crate::fault::{self, Point};
use crate::link::TMP_PREFIX;

/// Version of the format; another one makes the directory foreign.
const VERSION: &str = "1\n";
/// A file under a temporary name that is this old belongs to a process that died, in seconds.
const LEFTOVER_AGE_S: i64 = 3600;

/// How many Cargos' checks are remembered. With fine-grained locking several build in one directory at a time.
const SESSIONS_MAX: usize = 8;

/// Longest mark that is read, in bytes.
const MARK_BYTES_MAX: usize = 8 << 10;

/// Where a unit's outputs come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The entry that was stored from them or restored to them.
    pub entry: EntryKey,
    /// The package's directory, unless it belongs to the workspace.
    pub package_dir: Option<String>,
    /// Who recorded the unit, where it was placed with its fingerprint out of a snapshot; Cargo on this machine otherwise.
    pub provenance: Provenance,
}

/// What is on record about one profile directory.
#[derive(Debug, Clone)]
pub struct Ledger {
    dir: PathBuf,
    known_from_birth: bool,
}

impl Ledger {
    /// Opens the ledger of `profile_dir` for a unit of the Cargo invocation `session`, and settles once in each
    /// session whether anyone has built there without kache.
    pub fn open(profile_dir: &Path, session: &str) -> Self {
        let dir = profile_dir.join(LEDGER);
        let known_from_birth = settle(profile_dir, &dir, session).unwrap_or(false);
        Self { dir, known_from_birth }
    }

    /// Whether every artifact in the directory since its first one is on record.
    pub fn known_from_birth(&self) -> bool {
        self.known_from_birth
    }

    /// The canonical time under which a unit was placed or compiled here, in seconds since 1970; `None` without mark.
    pub fn mark_of(&self, unit: &str) -> Option<i64> {
        let text = self.read(unit)?;
        Some(text.lines().next().unwrap_or_default().trim().parse().unwrap_or(0))
    }

    /// The entry that a unit here is the result of; `None` where the last that happened to it was something else.
    pub fn origin_of(&self, unit: &str) -> Option<Origin> {
        let text = self.read(unit)?;
        let mut lines = text.lines().skip(1);
        let entry = lines.next()?.parse().ok()?;
        let package_dir = lines.next().map(str::to_owned);
        let provenance = lines.next().map_or(Provenance::Here, |word| word.parse().unwrap_or_default());
        Some(Origin { entry, package_dir, provenance })
    }

    fn read(&self, unit: &str) -> Option<String> {
        let bytes = fs::read(self.dir.join("units").join(unit)).ok().filter(|b| b.len() <= MARK_BYTES_MAX)?;
        String::from_utf8(bytes).ok()
    }

    /// Puts a unit on record. Must succeed before anything of the unit is shared.
    pub fn mark(&self, unit: &str, canonical_s: i64) -> io::Result<()> {
        self.write(unit, &format!("{canonical_s}\n"))
    }

    /// As [`Ledger::mark`], with the entry that the unit is the result of.
    pub fn mark_with(&self, unit: &str, canonical_s: i64, origin: &Origin) -> io::Result<()> {
        let mut text = format!("{canonical_s}\n{}\n", origin.entry);
        if let Some(dir) = &origin.package_dir {
            text.push_str(dir);
            text.push('\n');
            if !origin.provenance.is_here() {
                text.push_str(&origin.provenance.to_string());
                text.push('\n');
            }
        }
        self.write(unit, &text)
    }

    fn write(&self, unit: &str, text: &str) -> io::Result<()> {
        let mut mark = File::create(self.dir.join("units").join(unit))?;
        fault::point(Point::MarkOpened);
        mark.write_all(text.as_bytes())?;
        fault::point(Point::MarkWritten);
        Ok(())
    }

    /// Whether the run `run` of a build script that started at `started_ns` is the first one that a unit
    /// here saw; `false` also when that can't be put on record.
    pub fn is_first_run(&self, run: &str, started_ns: i128) -> bool {
        let path = self.dir.join("runs").join(run);
        let started = started_ns.to_string();
        if let Ok(first) = fs::read_to_string(&path) {
            return first == started;
        }
        let _ = fs::create_dir(self.dir.join("runs"));
        // Units of the package that start at once write the same.
        fs::write(&path, started).is_ok()
    }
}

/// The record of a profile directory as it is, for looking at: checks and settles nothing.
pub fn peek(profile_dir: &Path) -> Ledger {
    Ledger { dir: profile_dir.join(LEDGER), known_from_birth: false }
}

/// The canonical time on record for a unit in another profile directory (proc macros of a cross build).
pub fn mark_in(profile_dir: &Path, unit: &str) -> Option<i64> {
    peek(profile_dir).mark_of(unit)
}

fn settle(profile_dir: &Path, dir: &Path, session: &str) -> io::Result<bool> {
    if dir.join("foreign").exists() {
        return Ok(false);
    }
    if is_settled(dir, session) {
        return Ok(true);
    }
    fs::create_dir_all(dir.join("units"))?;
    fault::point(Point::LedgerMade);
    let lock = File::create(dir.join("lock"))?;
    flock(&lock, FlockOperation::LockExclusive)?;
    if dir.join("foreign").exists() {
        return Ok(false);
    }
    if is_settled(dir, session) {
        return Ok(true);
    }
    let is_new = !dir.join("birth").exists();
    let is_foreign = has_unmarked_artifacts(profile_dir, &dir.join("units"))?
        || (is_new && has_older_dependents(profile_dir, session)?)
        || (!is_new && fs::read_to_string(dir.join("birth"))? != VERSION);
    if is_foreign {
        fs::write(dir.join("foreign"), VERSION)?;
        return Ok(false);
    }
    if is_new {
        fs::write(dir.join("birth"), VERSION)?;
        fault::point(Point::LedgerBorn);
    }
    let known = fs::read_to_string(dir.join("session")).unwrap_or_default();
    let sessions: Vec<&str> = std::iter::once(session).chain(known.lines()).take(SESSIONS_MAX).collect();
    fs::write(dir.join("session"), sessions.join("\n"))?;
    Ok(true)
}

/// Whether a directory for cross builds, `TRIPLE/PROFILE` beside `PROFILE`, holds what may have been built against earlier
/// macros and scripts of a directory that was removed: anything that isn't of this very session.
fn has_older_dependents(profile_dir: &Path, session: &str) -> io::Result<bool> {
    let (Some(build_dir), Some(profile)) = (profile_dir.parent(), profile_dir.file_name()) else {
        return Ok(false);
    };
    for name in names(build_dir)? {
        let cross = build_dir.join(name).join(profile);
        let sessions = fs::read_to_string(cross.join(LEDGER).join("session")).unwrap_or_default();
        if sessions.lines().any(|known| known != session)
            || has_unmarked_artifacts(&cross, &cross.join(LEDGER).join("units"))?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_settled(dir: &Path, session: &str) -> bool {
    let known = fs::read_to_string(dir.join("session")).unwrap_or_default();
    known.lines().any(|line| line == session) && dir.join("birth").exists()
}

/// Whether a directory of outputs holds an artifact of a unit without mark. A program counts like a library: it was
/// linked with libraries that may be gone.
fn has_unmarked_artifacts(profile_dir: &Path, marks: &Path) -> io::Result<bool> {
    let unmarked = |id: &str| !marks.join(id).exists();
    for folder in CLASSIC_OUTPUTS {
        let dir = profile_dir.join(folder);
        for name in names(&dir)? {
            if name.starts_with(TMP_PREFIX) {
                discard_leftover(&dir.join(&name), LEFTOVER_AGE_S);
            }
            let is_second_name = folder == "examples" && is_second_name(&name);
            if layout::stem_of_artifact(&name).filter(|_| !is_second_name).is_some_and(unmarked)
                || (layout::has_unit_hash(&name) && unmarked(&name) && dir.join(&name).is_file())
            {
                return Ok(true);
            }
        }
    }
    let units = profile_dir.join(UNITS);
    for package in names(&units)? {
        for name in names(&units.join(&package))? {
            // `build-script-build` is Cargo's second name for the executable.
            let is_script = name.starts_with("build_script_") && !name.contains('.');
            if is_script && unmarked(&name) {
                return Ok(true);
            }
            if let Some(unit) = UnitDir::parse(&format!("{package}/{name}"))
                && has_unmarked_outputs(&profile_dir.join(unit.own_folder()), unmarked)?
            {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether the directory of one unit (`build/PKG/HASH`) holds an artifact, and the unit has no mark. What a build
/// script's run leaves there is no artifact.
fn has_unmarked_outputs(unit_dir: &Path, unmarked: impl Fn(&str) -> bool) -> io::Result<bool> {
    let parts = names(unit_dir)?;
    if parts.iter().any(|part| part == "run") {
        return Ok(false);
    }
    let mut dirs = vec![unit_dir.join("out")];
    if parts.iter().any(|part| part == "artifact") {
        let artifacts = unit_dir.join("artifact");
        dirs.extend(names(&artifacts)?.iter().map(|kind| artifacts.join(kind)));
    }
    for dir in dirs {
        let Some(outputs) = OutputDir::of(&dir) else { continue };
        if !unmarked(&outputs.unit_id("")) {
            continue;
        }
        for name in names(&dir)? {
            if name.starts_with(TMP_PREFIX) {
                discard_leftover(&dir.join(&name), LEFTOVER_AGE_S);
            } else if layout::stem_of_artifact(&name).is_some() || is_program(&dir.join(&name)) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Whether this is a program's file: no extension, and executable.
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    let meta = fs::symlink_metadata(path);
    path.extension().is_none()
        && meta.is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o100 != 0)
}

/// Removes what was in the making when its process died, unless somebody may still be at it. Nobody else would.
fn discard_leftover(path: &Path, age_min_s: i64) {
    let changed = fs::symlink_metadata(path).map(|meta| FileTime::changed(&meta));
    if changed.is_ok_and(|changed| changed.age_s(FileTime::now()) >= age_min_s) {
        let _ = fs::remove_file(path);
    }
}

/// Whether this is how Cargo calls a library among the examples once more, for users: without hash. Shared libraries
/// have no other name.
fn is_second_name(name: &str) -> bool {
    name.rsplit_once('.')
        .is_some_and(|(stem, extension)| !layout::has_unit_hash(stem) && !matches!(extension, "so" | "dylib"))
}

fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        other => other?,
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn profile() -> tempfile::TempDir {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::create_dir_all(dir.path().join("deps")).expect("deps");
        fs::create_dir_all(dir.path().join("build/p-1")).expect("build");
        dir
    }

    fn put(dir: &tempfile::TempDir, name: &str) {
        fs::write(dir.path().join(name), "x").expect("file");
    }

    #[test]
    fn a_directory_stays_known_while_every_artifact_is_marked() {
        let dir = profile();
        put(&dir, "deps/a-1.d");
        let ledger = Ledger::open(dir.path(), "1-1");
        assert!(ledger.known_from_birth());
        assert_eq!(ledger.mark_of("a-1"), None);
        ledger.mark("a-1", 42).expect("mark");
        put(&dir, "deps/liba-1.rlib");
        fs::create_dir(dir.path().join("examples")).expect("examples");
        put(&dir, "examples/libx.rlib");
        let next = Ledger::open(dir.path(), "2-2");
        assert!(next.known_from_birth());
        assert_eq!(next.mark_of("a-1"), Some(42));
        assert_eq!(mark_in(dir.path(), "a-1"), Some(42));
    }

    #[test]
    fn a_mark_remembers_where_outputs_come_from_until_the_next_mark() {
        let dir = profile();
        let ledger = Ledger::open(dir.path(), "1-1");
        let entry = EntryKey(kache_core::digest::Digest::of(b"e"));
        let (own, unsigned) = (Some("/r/src/a b-1".to_owned()), Provenance::Unsigned);
        for (package_dir, provenance) in
            [(None, Provenance::Here), (own.clone(), Provenance::Here), (own, unsigned)]
        {
            let origin = Origin { entry, package_dir, provenance };
            ledger.mark_with("a-1", 7, &origin).expect("mark");
            assert_eq!((ledger.mark_of("a-1"), ledger.origin_of("a-1")), (Some(7), Some(origin)));
        }
        ledger.mark("a-1", 8).expect("mark");
        assert_eq!((ledger.mark_of("a-1"), ledger.origin_of("a-1")), (Some(8), None));
        assert_eq!(peek(dir.path()).origin_of("b-1"), None);
    }

    #[test]
    fn the_first_run_of_a_script_stays_the_first() {
        let dir = profile();
        let ledger = Ledger::open(dir.path(), "1-1");
        assert!(
            ledger.is_first_run("p-1", 5) && ledger.is_first_run("p-1", 5) && ledger.is_first_run("p-2", 6)
        );
        assert!(!ledger.is_first_run("p-1", 7), "another run");
        assert!(!Ledger::open(dir.path(), "2-2").is_first_run("p-1", 7), "remembered");
        fs::remove_dir_all(dir.path().join(LEDGER)).expect("remove");
        assert!(!ledger.is_first_run("p-1", 5), "no place to write");
    }

    #[test]
    fn foreign_artifacts_are_noticed_in_the_next_session_and_for_good() {
        for name in [
            "deps/libb-2.rmeta",
            "deps/libm-3.so",
            "deps/app-0123456789abcdef",
            "examples/ex-0123456789abcdef",
            "examples/libex-0123456789abcdef.rlib",
            "examples/libex.so",
            "build/p-1/build_script_build-9",
            "build/p/0123456789abcdef/out/libp.rlib",
            "build/p/0123456789abcdef/out/libp.so",
            "build/p/0123456789abcdef/artifact/cdylib/libp.so",
        ] {
            let dir = profile();
            fs::create_dir(dir.path().join("examples")).expect("examples");
            for folder in ["out", "fingerprint", "artifact/cdylib"] {
                fs::create_dir_all(dir.path().join("build/p/0123456789abcdef").join(folder)).expect("unit");
            }
            assert!(Ledger::open(dir.path(), "1-1").known_from_birth());
            put(&dir, name);
            assert!(Ledger::open(dir.path(), "1-1").known_from_birth(), "checked once in a session");
            assert!(!Ledger::open(dir.path(), "2-2").known_from_birth(), "{name}");
            fs::remove_file(dir.path().join(name)).expect("remove");
            assert!(!Ledger::open(dir.path(), "3-3").known_from_birth(), "{name}");
        }
    }

    #[test]
    fn units_with_directories_of_their_own_are_told_by_package_and_hash() {
        let dir = tempfile::tempdir().expect("temp dir");
        let put = |name: &str, mode: u32| {
            use std::os::unix::fs::PermissionsExt;
            let path = dir.path().join("build").join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
            fs::write(&path, "x").expect("file");
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("mode");
        };
        put("p/0123456789abcdef/run/stdout", 0o644);
        put("p/0123456789abcdef/out/libc.a", 0o644);
        put("q/0000000000000001/fingerprint/lib-q", 0o644);
        put("q/0000000000000001/out/q.d", 0o644);
        let ledger = Ledger::open(dir.path(), "1-1");
        assert!(ledger.known_from_birth(), "what a script's run made is no artifact");
        ledger.mark("q.0000000000000001", 1).expect("mark");
        put("q/0000000000000001/out/build_script_build", 0o755);
        assert!(Ledger::open(dir.path(), "2-2").known_from_birth());
        put("q/0000000000000002/out/build_script_build", 0o755);
        assert!(!Ledger::open(dir.path(), "3-3").known_from_birth(), "the same name in another unit");
    }

    #[test]
    fn several_cargos_at_once_check_once_each() {
        let dir = profile();
        for session in ["1-1", "2-2"] {
            assert!(Ledger::open(dir.path(), session).known_from_birth());
        }
        put(&dir, "deps/libb-2.rmeta");
        assert!(Ledger::open(dir.path(), "1-1").known_from_birth());
        assert!(Ledger::open(dir.path(), "2-2").known_from_birth());
        assert!(!Ledger::open(dir.path(), "3-3").known_from_birth());
    }

    #[test]
    fn what_a_dead_process_had_in_the_making_goes_and_is_no_artifact() {
        let dir = profile();
        put(&dir, "deps/.kache-0123456789abcdef-0");
        assert!(Ledger::open(dir.path(), "1-1").known_from_birth());
        let left = dir.path().join("deps/.kache-0123456789abcdef-0");
        assert!(left.exists(), "somebody may be at it");
        discard_leftover(&left, 0);
        assert!(!left.exists());
    }

    #[test]
    fn a_directory_with_artifacts_at_first_sight_is_foreign() {
        let dir = profile();
        put(&dir, "deps/libb-2.rlib");
        assert!(!Ledger::open(dir.path(), "1-1").known_from_birth());
    }

    #[test]
    fn without_a_place_to_write_the_directory_counts_as_foreign() {
        let dir = tempfile::tempdir().expect("temp dir");
        put(&dir, "file");
        let ledger = Ledger::open(&dir.path().join("file"), "1-1");
        assert!(!ledger.known_from_birth());
        assert!(ledger.mark("a", 1).is_err());
    }

    /// Of a cross build's two directories the host's is known from birth while nothing in the other one is older.
    #[test]
    fn a_directory_younger_than_what_was_built_against_it_is_foreign() {
        let write = |path: PathBuf, text: &str| {
            fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
            fs::write(path, text).expect("write");
        };
        for (what, files, known) in [
            ("nothing beside it", &[][..], true),
            ("of this session", &[("triple/debug/.kache/session", "now")], true),
            ("of an earlier one", &[("triple/debug/.kache/session", "now\nearlier")], false),
            ("made without kache", &[("triple/debug/deps/liba-0123456789abcdef.rlib", "")], false),
            ("of another profile", &[("triple/release/.kache/session", "earlier")], true),
            ("an empty one", &[("triple/debug/.cargo-lock", "")], true),
        ] {
            let dir = tempfile::tempdir().expect("temp dir");
            fs::create_dir_all(dir.path().join("debug/deps")).expect("mkdir");
            files.iter().for_each(|(name, text)| write(dir.path().join(name), text));
            let ledger = Ledger::open(&dir.path().join("debug"), "now");
            assert_eq!(ledger.known_from_birth(), known, "{what}");
            assert_eq!(
                Ledger::open(&dir.path().join("debug"), "later").known_from_birth(),
                known,
                "{what}, later"
            );
        }
    }
}
