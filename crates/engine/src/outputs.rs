//! A unit's output files: which there may be, which a compile made, and what kind each is. Outputs are taken from
//! the compiler's announcements plus what it writes without announcing (`.dwo`, `.dwp`). Stores nothing.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::entry::{OutputKind, is_safe_name};
use kache_core::reason::NotStored;
use kache_core::unit::{CrateType, Mode, Unit};
use kache_store::fault::{self, Point};

/// One output file of a finished compile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub path: PathBuf,
    pub name: String,
    pub kind: OutputKind,
    pub executable: bool,
}

/// The outputs that were announced and those that come without announcement; every kind that was asked for must be
/// there.
pub fn collect(unit: &Unit, artifacts: &[(String, String)]) -> Result<Vec<Made>, NotStored> {
    let mut made: Vec<Made> = Vec::new();
    for (path, _) in artifacts.iter().filter(|(_, emit)| emit != "dep-info") {
        if !made.iter().any(|output| output.path == Path::new(path)) {
            made.push(describe(unit, Path::new(path))?);
        }
    }
    let announced = |kind: &str| artifacts.iter().any(|(_, emit)| emit == kind);
    if unit.emits_link && !announced("link") || made.is_empty() {
        return Err(NotStored::Outputs("not everything was announced".to_owned()));
    }
    for path in debug_files(unit) {
        made.push(describe(unit, &path)?);
    }
    Ok(made)
}

/// Whether a linker made one of them. rustc leaves out a crate type that the target doesn't have ("dropping unsupported
/// crate type", 1.95): with a static C library there are no `cdylib`s.
pub fn has_linked(unit: &Unit, made: &[Made]) -> bool {
    let is_archive = |output: &Made| {
        unit.crate_types.contains(&CrateType::Staticlib)
            && Path::new(&output.name).extension().is_some_and(|extension| extension == "a")
    };
    unit.runs_linker() && made.iter().any(|output| output.kind.is_linked() && !is_archive(output))
}

fn describe(unit: &Unit, path: &Path) -> Result<Made, NotStored> {
    let refuse = |why: &str| NotStored::Outputs(format!("{}: {why}", path.display()));
    let name = path.file_name().and_then(|name| name.to_str()).filter(|name| is_safe_name(name));
    let name = name.ok_or_else(|| refuse("not a plain name"))?.to_owned();
    if path.parent() != Some(Path::new(&unit.out_dir)) {
        return Err(refuse("outside the output directory"));
    }
    let meta = fs::symlink_metadata(path).map_err(|error| refuse(&error.to_string()))?;
    if !meta.is_file() {
        return Err(refuse("not a regular file"));
    }
    let executable = meta.mode() & 0o100 != 0;
    Ok(Made { path: path.to_owned(), kind: kind_of(unit, &name), name, executable })
}

fn kind_of(unit: &Unit, name: &str) -> OutputKind {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match extension {
        "dwo" | "dwp" => OutputKind::Debug,
        "rmeta" if unit.mode == Mode::Build => OutputKind::Metadata,
        "rmeta" => OutputKind::CheckMetadata,
        "rlib" => OutputKind::Rlib,
        _ if unit.is_build_script() => OutputKind::BuildScript,
        _ if unit.crate_types == [CrateType::ProcMacro] && !unit.is_test => OutputKind::ProcMacro,
        _ => OutputKind::Linked,
    }
}

/// `.dwo` and `.dwp` files of the unit. Only units that ask for split debug information have any, and only for them
/// the directory is listed.
fn debug_files(unit: &Unit) -> Vec<PathBuf> {
    if unit.split_debuginfo.is_none() {
        return Vec::new();
    }
    let stem = unit.stem();
    let is_ours = |name: &str| {
        let name = name.strip_prefix("lib").filter(|rest| rest.starts_with(&stem)).unwrap_or(name);
        name.strip_prefix(&stem).is_some_and(|rest| rest.starts_with('.'))
            && (name.ends_with(".dwo") || name.ends_with(".dwp"))
    };
    let entries = fs::read_dir(&unit.out_dir).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries
        .filter(|entry| entry.file_name().to_str().is_some_and(is_ours))
        .map(|entry| entry.path())
        .collect();
    files.sort();
    files
}

/// Makes the output directory ready for a compile: removes outputs that share an inode with the store or with
/// another target directory, so that nothing can be written through to them, and debug files of an earlier compile,
/// which would be taken for this one's.
pub fn clear(unit: &Unit) {
    let stem = unit.stem();
    let out_dir = Path::new(&unit.out_dir);
    for name in [format!("lib{stem}.rlib"), format!("lib{stem}.rmeta"), format!("lib{stem}.so"), stem] {
        // A file that can't be removed is replaced by rustc, which writes outputs under a new inode.
        let _ = kache_store::link::unlink_shared(&out_dir.join(name));
    }
    for path in debug_files(unit) {
        let _ = fs::remove_file(path);
    }
    fault::point(Point::OutputsCleared);
}
