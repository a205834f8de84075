//! The finished units of a target directory as Cargo compares them: outputs, times, dependencies. Changes nothing.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{CLASSIC_OUTPUTS, Layout, UnitDir, stem_of_artifact, unit_hash_in};
use kache_core::depinfo::{DEP_INFO_BYTES_MAX, DepInfo};
use kache_core::sharing::{Node, Wish};

use super::{Inode, Stock, Twin};
use crate::seed::fingerprints::{self, Edges};
use crate::seed::target_dir;
use crate::times::{mtime_ns, newest_ns, output_times};

const SECOND_NS: i64 = 1_000_000_000;

/// A finished unit.
pub(super) struct Unit {
    /// As Cargo compares it.
    pub(super) node: Node,
    /// What Cargo compares: outputs of a compile, or the `output` of a run.
    pub(super) outputs: Vec<PathBuf>,
    /// For a run: the earliest time that its `output` may have, in nanoseconds since 1970.
    back_ns: Option<i64>,
}

impl Unit {
    pub(super) fn inodes(&self) -> impl Iterator<Item = Inode> {
        let metas = self.outputs.iter().filter_map(|path| fs::symlink_metadata(path).ok());
        metas.map(|meta| (meta.dev(), meta.ino()))
    }

    /// What may happen to it: a link where every output is the store's, all with the same time, and one isn't linked yet.
    pub(super) fn wish(&self, stock: &Stock, twins: &HashMap<Inode, Twin>) -> Wish {
        if let Some(back_ns) = self.back_ns {
            return Wish::Back(back_ns);
        }
        let (mut to_ns, mut is_new) = (None, false);
        for (path, id) in self.outputs.iter().zip(self.inodes()) {
            let time_ns = match twins.get(&id) {
                Some(twin) => {
                    is_new = true;
                    twin.output.mtime_s * SECOND_NS
                }
                None if stock.inodes.contains(&id) => mtime_ns(path).unwrap_or_default(),
                None => return Wish::Stay,
            };
            if *to_ns.get_or_insert(time_ns) != time_ns {
                return Wish::Stay;
            }
        }
        to_ns.filter(|_| is_new).map_or(Wish::Stay, Wish::Link)
    }
}

/// The finished units of a target directory; `None` where one isn't understood: what depends on what can't be told then.
pub(super) fn of(build: &Path) -> Option<Vec<Unit>> {
    let (mut all, mut edges): (Vec<Unit>, Vec<Edges>) = Default::default();
    for profile in target_dir::profiles(build) {
        let profile = build.join(profile);
        let classic = classic_outputs(&profile);
        for layout in [Layout::Classic, Layout::PerUnit] {
            for dir in target_dir::units(&profile, layout) {
                for edge in fingerprints::edges(&profile.join(dir.fingerprint()))? {
                    all.push(unit(&profile, &dir, &edge, &classic));
                    edges.push(edge);
                }
            }
        }
    }
    let mut of_hash: HashMap<&str, Vec<usize>> = HashMap::new();
    edges.iter().enumerate().for_each(|(i, edge)| of_hash.entry(&edge.hash).or_default().push(i));
    for (unit, edge) in all.iter_mut().zip(&edges) {
        let deps: Option<Vec<&Vec<usize>>> =
            edge.deps.iter().map(|hash| of_hash.get(hash.as_str())).collect();
        unit.node.deps = deps.map(|deps| deps.into_iter().flatten().copied().collect());
    }
    Some(all)
}

/// Outputs in the classic layout, by the unit's hash or, for shared libraries of the workspace, by their name.
fn classic_outputs(profile: &Path) -> HashMap<String, Vec<PathBuf>> {
    let mut found: HashMap<String, Vec<PathBuf>> = HashMap::new();
    for folder in CLASSIC_OUTPUTS {
        let dir = profile.join(folder);
        for name in target_dir::names(&dir).into_iter().filter(|name| is_output(&dir.join(name))) {
            let crate_name = || stem_of_artifact(&name).filter(|_| folder == "deps");
            if let Some(unit) = unit_hash_in(&name).or_else(crate_name) {
                found.entry(unit.to_owned()).or_default().push(dir.join(&name));
            }
        }
    }
    found
}

/// Whether Cargo compares the file's time: a library, metadata or a program.
fn is_output(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_program =
        || fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.mode() & 0o100 != 0);
    stem_of_artifact(name).is_some() || (!name.contains('.') && is_program())
}

fn unit(profile: &Path, dir: &UnitDir, edge: &Edges, classic: &HashMap<String, Vec<PathBuf>>) -> Unit {
    let is_run = edge.name.starts_with("run-build-script-");
    let is_script = edge.name.starts_with("build-script-");
    let within = |folder: PathBuf| {
        let paths = target_dir::names(&folder).into_iter().map(move |name| folder.join(name));
        paths.filter(|path| is_output(path)).collect::<Vec<_>>()
    };
    let outputs = match dir.layout {
        _ if is_run => vec![profile.join(dir.stdout())],
        Layout::Classic if !is_script => {
            let crate_name = edge.name.strip_prefix("lib-").unwrap_or_default().replace('-', "_");
            classic.get(&dir.hash).or_else(|| classic.get(&crate_name)).cloned().unwrap_or_default()
        }
        _ => within(profile.join(dir.outputs(is_script))),
    };
    // Of a unit without outputs nothing is known: what it depends on stays as it is.
    let (newest_ns, metadata_ns) = output_times(&outputs).unwrap_or((i64::MIN, i64::MIN));
    let has_metadata = outputs.iter().any(|path| path.extension().is_some_and(|end| end == "rmeta"));
    let back_ns = is_run.then(|| watched_ns(profile, dir, edge));
    let metadata_ns = has_metadata.then_some(metadata_ns);
    Unit { node: Node { newest_ns, metadata_ns, deps: None, wish: Wish::Stay }, outputs, back_ns }
}

/// The newest of what a build script watches, as far as Cargo compares its time: not below Cargo's home (since 1.71; an
/// earlier Cargo would run the script once more). The far future where that can't be told.
fn watched_ns(profile: &Path, run: &UnitDir, edge: &Edges) -> i64 {
    let relative_ns = || if is_immutable(profile, run).unwrap_or(false) { 0 } else { i64::MAX };
    let times = edge.watched.iter().map(|path| match path.is_absolute() {
        true => newest_ns(path).unwrap_or(i64::MAX),
        false => relative_ns(),
    });
    times.max().unwrap_or(0)
}

/// Whether the package of a build script comes from a registry or a git checkout, by the script's own sources.
fn is_immutable(profile: &Path, run: &UnitDir) -> Option<bool> {
    let home = PathBuf::from(crate::seed::cargo_home()?);
    let scripts = target_dir::units(profile, run.layout).into_iter().filter(|dir| dir.package == run.package);
    let folders = scripts.map(|dir| profile.join(dir.outputs(true)));
    let files = folders.flat_map(|folder| {
        target_dir::names(&folder).into_iter().map(move |name| folder.join(name)).collect::<Vec<_>>()
    });
    let is_dep_info = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        name.starts_with("build_script_") && name.ends_with(".d")
    };
    let mut inputs = Vec::new();
    for path in files.filter(is_dep_info) {
        let text = read_short(&path).ok()?;
        inputs.extend(DepInfo::parse(&text).ok()?.inputs().iter().map(PathBuf::from));
    }
    let below =
        |input: &PathBuf| ["registry", "git"].iter().any(|folder| input.starts_with(home.join(folder)));
    Some(!inputs.is_empty() && inputs.iter().all(below))
}

fn read_short(path: &Path) -> io::Result<String> {
    match fs::metadata(path)?.len() {
        ..=DEP_INFO_BYTES_MAX => fs::read_to_string(path),
        _ => Err(io::ErrorKind::FileTooLarge.into()),
    }
}
