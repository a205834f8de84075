//! Whether a unit's outputs may share inodes with the store in this target directory: gathers the facts that
//! `kache_core::plan` decides from. Does not move files, except that it sets back the time of a build script's
//! `output` where that is provably harmless.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::cargo::layout::{self, LEDGER, Layout, OutputDir, UNITS, UnitDir};
use kache_core::entry::OutputKind;
use kache_core::invocation::Invocation;
use kache_core::key::EntryKey;
use kache_core::plan::{self, EPOCH_S, Occupant, Place, Placement};
use kache_core::provenance::Provenance;
use kache_core::unit::Unit;
use kache_store::Store;
use kache_store::hashing::DigestMemo;
use kache_store::ledger::{Ledger, Origin, mark_in};

use crate::world::TargetLayout;

const SECOND_NS: i128 = 1_000_000_000;
/// A second run of a build script starts later after the first than this: a Cargo lies between them. A file's own
/// birth and the end of its first write are closer together.
const RERUN_MIN: Duration = Duration::from_millis(20);

/// A unit's standing in its profile directory.
pub struct Standing {
    ledger: Ledger,
    unit_id: String,
    /// The canonical time that the unit's outputs get when they are stored, in seconds since 1970.
    pub canonical_s: i64,
    known_from_birth: bool,
    marked: bool,
    /// The package's directory, unless it belongs to the workspace.
    package_dir: Option<String>,
    newest_extern_ns: i128,
    run: Option<ScriptRun>,
}

/// The run of the package's build script.
struct ScriptRun {
    output: PathBuf,
    package_dir: PathBuf,
    /// Directories that Cargo takes for immutable.
    immutable: Vec<PathBuf>,
    newest_script_ns: i128,
    /// No unit in this profile directory has seen an earlier run.
    is_first: bool,
}

impl Standing {
    /// Looks at the ledger and at the times of everything that Cargo will compare the unit's outputs with.
    pub fn observe(call: &Invocation, unit: &Unit, layout: &TargetLayout, session: &str) -> Self {
        if let [own, host] = &layout.profile_dirs()[..]
            && !own.join(LEDGER).exists()
        {
            // Born together: the host's directory is foreign where it is younger, see `kache_core::plan`.
            Ledger::open(host, session);
        }
        let ledger = Ledger::open(&layout.profile_dir, session);
        let unit_id = layout.unit_id.clone();
        let mut newest_extern_ns = 0;
        let mut depths = Vec::new();
        for path in unit.externs.iter().filter_map(|dependency| dependency.path.as_deref().map(Path::new)) {
            let mtime = mtime_ns(path).unwrap_or(i128::MAX);
            newest_extern_ns = newest_extern_ns.max(mtime);
            let mark = artifact_mark(&ledger, layout, path).filter(|s| plan::is_canonical(*s));
            depths.push(mark.map_or(mtime, |s| i128::from(s) * SECOND_NS));
        }
        let run = script_run(call, layout, &ledger);
        if let Some(run) = &run {
            depths.push(run.newest_script_ns);
        }
        let marked = ledger.mark_of(&unit_id);
        Self {
            known_from_birth: ledger.known_from_birth(),
            marked: marked.is_some(),
            package_dir: crate::world::foreign_package(call).map(str::to_owned),
            canonical_s: plan::canonical_time(depths),
            ledger,
            unit_id,
            newest_extern_ns,
            run,
        }
    }

    /// Whether the unit was placed or compiled in this directory before.
    pub fn is_known_here(&self) -> bool {
        self.marked
    }

    /// Whether the unit was certainly never made in this directory, by whomever.
    pub fn is_certainly_first(&self) -> bool {
        self.known_from_birth && !self.marked
    }

    /// Decides how outputs of these kinds, whose blobs carry `blob_s`, go into the directory, and puts the unit on
    /// record, with the entry that the outputs come from if they do. A build script's `output` is set back when that is
    /// what it takes and nothing can have seen it yet.
    pub fn decide(
        &self,
        kinds: &[OutputKind],
        occupant: Occupant,
        blob_s: i64,
        origin: Option<&EntryKey>,
    ) -> Placement {
        let place = Place { known_from_birth: self.known_from_birth, marked: self.marked, occupant };
        let newest = |run_ns: i128| self.newest_extern_ns.max(run_ns);
        let run_ns =
            self.run.as_ref().map_or(0, |run| mtime_ns(&run.output).unwrap_or(0).max(run.newest_script_ns));
        let mut placement = plan::place_unit(kinds, place, blob_s, newest(run_ns));
        if placement == Placement::Private
            && let Some(run) = &self.run
        {
            let when_set_back = plan::place_unit(kinds, place, blob_s, newest(run.newest_script_ns));
            if when_set_back != Placement::Private && run.set_back(blob_s) {
                placement = when_set_back;
            }
        }
        let recorded = match origin {
            Some(key) => self.note_origin(key, blob_s).is_ok() || self.marked,
            None => self.marked || self.ledger.mark(&self.unit_id, blob_s).is_ok(),
        };
        if recorded { placement } else { Placement::Private }
    }

    /// The metadata is complete and Cargo is about to hear of it: dependents start at once and look at its time and
    /// content, so both are settled now. Failing to costs sharing, nothing else. Not for metadata beside a linked library
    /// (`-Z embed-metadata=no`), which isn't shared: no dependent starts before all of it is complete.
    pub fn announce(&self, store: &Store, unit: &Unit, metadata: &Path) {
        if unit.is_executable() {
            return;
        }
        let kind = if unit.emits_link { OutputKind::Metadata } else { OutputKind::CheckMetadata };
        if self.decide(&[kind], Occupant::Nothing, self.canonical_s, None) == Placement::Shared
            && kache_store::link::set_mtime_of(metadata, self.canonical_s).is_ok()
            && let Ok(hashed) = kache_store::hashing::hash_file(metadata)
        {
            let _ = DigestMemo::new(store).remember(metadata, &hashed.digest);
        }
    }

    /// Puts the unit on record without placing anything: it is about to be compiled here, and its outputs are no
    /// entry's from now on.
    pub fn mark(&self) {
        // An unmarked unit in a known directory would be taken for its first build: see `decide`, which then
        // finds the file. The next session finds it as foreign.
        let _ = self.ledger.mark(&self.unit_id, self.canonical_s);
    }

    /// Puts on record which entry the unit's outputs are. Without it they can't be part of a snapshot; where they turn out
    /// not to be that entry's, the recorder sees it.
    pub fn note_origin(&self, key: &EntryKey, blob_s: i64) -> io::Result<()> {
        let package_dir = self.package_dir.clone();
        let origin = Origin { entry: *key, package_dir, provenance: Provenance::Here };
        self.ledger.mark_with(&self.unit_id, blob_s, &origin)
    }
}

/// Puts a unit on record that the compiler makes without the cache, so that the directory stays known. Does nothing
/// for calls that don't compile into a profile directory of Cargo's.
pub fn mark_bypassed(call: &Invocation, session: &str) {
    let option = |name: &str| {
        let at = call.args.iter().position(|arg| arg == name)?;
        call.args.get(at + 1).cloned()
    };
    let extra = call.args.iter().find_map(|arg| arg.trim_start_matches("-C").strip_prefix("extra-filename="));
    let (Some(name), Some(out_dir)) = (option("--crate-name"), option("--out-dir")) else { return };
    if let Some(outputs) = crate::world::outputs_of(call, &Path::new(&call.cwd).join(out_dir)) {
        let ledger = Ledger::open(&outputs.profile_dir, session);
        if let Some((run, profile_dir)) = run_of(call) {
            is_first_run(&run, profile_dir, &ledger);
        }
        // Without the mark the directory counts as foreign from the next session on: more bytes, nothing else.
        let _ = ledger.mark(&outputs.unit_id(&format!("{name}{}", extra.unwrap_or_default())), 0);
    }
}

/// The run of a build script whose results the unit sees, and the profile directory: Cargo says so by setting `OUT_DIR`.
fn run_of(call: &Invocation) -> Option<(UnitDir, &Path)> {
    UnitDir::of_out_dir(Path::new(call.env.text("OUT_DIR")?))
}

/// The mark of the unit that made a dependency's file, in the ledger of the profile directory that it lies in.
fn artifact_mark(ledger: &Ledger, layout: &TargetLayout, path: &Path) -> Option<i64> {
    let stem = path.file_stem()?.to_str()?;
    let outputs = OutputDir::of(path.parent()?)?;
    let id = outputs.unit_id(stem.strip_prefix("lib").unwrap_or(stem));
    let is_here = outputs.profile_dir == layout.profile_dir;
    if is_here { ledger.mark_of(&id) } else { mark_in(&outputs.profile_dir, &id) }
}

/// Times of the build-script executables of a package in a profile directory.
fn script_times(profile_dir: &Path, run: &UnitDir) -> Vec<i128> {
    let units = profile_dir.join(UNITS);
    let names = |dir: &Path| -> Vec<String> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    };
    let dirs = match run.layout {
        Layout::Classic => names(&units),
        Layout::PerUnit => {
            names(&units.join(&run.package)).iter().map(|hash| format!("{}/{hash}", run.package)).collect()
        }
    };
    let dirs = dirs.iter().filter_map(|name| UnitDir::parse(name)).filter(|unit| unit.package == run.package);
    let is_script = |name: &String| name.starts_with("build_script_") && !name.contains('.');
    let files = dirs.flat_map(|unit| {
        let dir = profile_dir.join(unit.outputs(true));
        names(&dir).into_iter().filter(is_script).map(move |name| dir.join(name)).collect::<Vec<_>>()
    });
    files.map(|file| mtime_ns(&file).unwrap_or(i128::MAX)).collect()
}

/// The build script's run that the unit depends on, if any.
fn script_run(call: &Invocation, layout: &TargetLayout, ledger: &Ledger) -> Option<ScriptRun> {
    let (run, profile_dir) = run_of(call)?;
    // The executable lies in another directory of the same package, and which one Cargo doesn't say: all count.
    let mut newest_script_ns = i128::from(EPOCH_S) * SECOND_NS;
    let mut scripts = script_times(profile_dir, &run);
    if scripts.is_empty() {
        // Cross build: scripts are built for the host, in the last of the profile directories.
        scripts = script_times(layout.profile_dirs().last()?, &run);
    }
    newest_script_ns = newest_script_ns.max(scripts.into_iter().max().unwrap_or(i128::MAX));
    let package_dir = PathBuf::from(call.env.text("CARGO_MANIFEST_DIR")?);
    let is_first = is_first_run(&run, profile_dir, ledger);
    let home = crate::world::cargo_home(&call.env).map(PathBuf::from);
    let immutable = home.iter().flat_map(|home| ["git", "registry"].map(|name| home.join(name))).collect();
    let output = profile_dir.join(run.stdout());
    Some(ScriptRun { output, package_dir, immutable, newest_script_ns, is_first })
}

/// Whether a build script's run is the first that anything here saw. The file whose time tells when it started is
/// written again by each run (`src/cargo/core/compiler/custom_build.rs`, 1.95), and born with the first: that covers runs
/// which other packages' scripts saw and no compiler call did.
fn is_first_run(run: &UnitDir, profile_dir: &Path, ledger: &Ledger) -> bool {
    let invoked = profile_dir.join(run.run()).join(layout::INVOKED);
    let Ok(meta) = fs::metadata(invoked) else { return false };
    let (Ok(started), Ok(born)) = (meta.modified(), meta.created()) else { return false };
    // Both are asked, because the ledger has to hear of every run.
    let is_on_record = ledger.is_first_run(&run.id(), mtime_ns_in(&meta));
    is_on_record && started.duration_since(born).is_ok_and(|later| later < RERUN_MIN)
}

impl ScriptRun {
    /// Sets the time of `output` back to `to_s`, unless Cargo would then see a `rerun-if-changed` path as newer
    /// (`src/cargo/core/compiler/fingerprint/mod.rs`, `find_stale_file`, 1.95), or something here may have seen an
    /// earlier run: the rising time is all that tells Cargo to make that again. Below Cargo's home it looks at no times
    /// (since 1.71; an older one would run the script once more).
    fn set_back(&self, to_s: i64) -> bool {
        if !self.is_first {
            return false;
        }
        let Ok(text) = fs::read_to_string(&self.output) else { return false };
        let to_ns = i128::from(to_s) * SECOND_NS;
        for line in text.lines() {
            let path = line
                .strip_prefix("cargo:rerun-if-changed=")
                .or(line.strip_prefix("cargo::rerun-if-changed="));
            let Some(path) = path.map(|path| self.package_dir.join(path.trim())) else { continue };
            let is_immutable = self.immutable.iter().any(|dir| path.starts_with(dir));
            if !is_immutable && newest_below(&path, 0) > to_ns {
                return false;
            }
        }
        kache_store::link::set_mtime_of(&self.output, to_s).is_ok()
    }
}

/// The newest time of a path and, for a directory, of everything below it; the far future for what can't be looked
/// at, is missing, or is too deep.
fn newest_below(path: &Path, depth: usize) -> i128 {
    let Some(own) = mtime_ns(path).filter(|_| depth < 32) else { return i128::MAX };
    if !path.is_dir() {
        return own;
    }
    let Ok(entries) = fs::read_dir(path) else { return i128::MAX };
    entries.fold(own, |newest, entry| {
        newest.max(entry.map_or(i128::MAX, |entry| newest_below(&entry.path(), depth + 1)))
    })
}

fn mtime_ns(path: &Path) -> Option<i128> {
    fs::metadata(path).ok().as_ref().map(mtime_ns_in)
}

fn mtime_ns_in(meta: &fs::Metadata) -> i128 {
    i128::from(meta.mtime()) * SECOND_NS + i128::from(meta.mtime_nsec())
}
