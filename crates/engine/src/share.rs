//! Has the files of a target directory that is there already share bytes with the store: for `kache disk --share`. Finds
//! files by their content, decides with `kache_core::sharing` which units may take over the store's times, and replaces
//! files. The caller holds Cargo's locks; a running program keeps the file that it was started from.
//!
//! Where the file systems clone, each file becomes a clone with its own time and permissions: Cargo sees no difference,
//! and who writes to it changes nobody else's. Elsewhere the outputs that the store would link into a fresh directory,
//! see `kache_core::plan::may_share`, become links of the blobs, all of a unit's or none.

mod units;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use kache_core::entry::{Output, OutputKind};
use kache_core::plan::may_share;
use kache_core::sharing::{Node, Wish, redated};
use kache_store::blobs::BlobState;
use kache_store::footprint::cloned;
use kache_store::hashing::DigestMemo;
use kache_store::link::Note;
use kache_store::replace;
use kache_store::{Error, Store};
use walkdir::WalkDir;

use crate::times::set_mtime_ns;

/// Smaller files share blocks or lie in their inode, and are not cloned, in bytes.
const FILE_BYTES_MIN: u64 = 4096;

type Inode = (u64, u64);

/// What the store has, for finding it in target directories.
pub struct Stock {
    outputs: HashMap<Digest, Output>,
    sizes: HashSet<u64>,
    inodes: HashSet<Inode>,
}

impl Stock {
    /// Reads all entries.
    ///
    /// # Errors
    /// When the store can't be read.
    pub fn of(store: &Store) -> Result<Self, Error> {
        let mut outputs: HashMap<Digest, Output> = HashMap::new();
        for stat in store.entries()? {
            for output in store.peek_entry(&stat.key)?.into_iter().flat_map(|entry| entry.outputs) {
                let known = outputs.entry(output.digest).or_insert_with(|| output.clone());
                // What one unit may not share, none may.
                if !may_share(output.kind) {
                    known.kind = output.kind;
                }
            }
        }
        let sizes = outputs.values().map(|output| output.size).collect();
        let metas = outputs.keys().filter_map(|digest| fs::metadata(store.blob_path(digest)).ok());
        let inodes = metas.map(|meta| (meta.dev(), meta.ino())).collect();
        Ok(Self { outputs, sizes, inodes })
    }
}

/// Why a file whose content the store has stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Left {
    /// People or Cargo change such files in place, and the file systems don't clone.
    Private,
    /// With the store's time Cargo would take something for fresh or dirty that isn't, or that can't be told.
    Times,
    /// It has names outside of the target directory.
    Names,
}

impl Left {
    /// The word for scripts.
    pub const fn word(self) -> &'static str {
        match self {
            Left::Private => "private",
            Left::Times => "times",
            Left::Names => "names",
        }
    }
}

/// Files and the bytes that they occupy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sum {
    /// Files, each once whatever its names.
    pub files: u64,
    /// Bytes on the disk.
    pub bytes: u64,
}

impl Sum {
    fn add(&mut self, meta: &Metadata) {
        self.files += 1;
        self.bytes += meta.blocks() * 512;
    }
}

/// A file whose content the store has, under all of its names.
struct Twin {
    names: Vec<PathBuf>,
    meta: Metadata,
    output: Output,
}

enum Step {
    Clone(Twin),
    Link(Twin),
    /// The `output` of a script's run gets this time, in nanoseconds since 1970.
    Date(PathBuf, i64),
}

/// What is to be done in one target directory, dependencies before dependents: an interruption leaves everything fresh that
/// was fresh.
#[derive(Default)]
pub struct Plan {
    steps: Vec<Step>,
    /// Whether the directory is on another file system than the store: it shares nothing with it.
    pub is_apart: bool,
    /// What stays as it is.
    pub left: BTreeMap<Left, Sum>,
}

impl Plan {
    /// Looks at a target directory.
    ///
    /// # Errors
    /// When a file or the store can't be read.
    pub fn of(store: &Store, stock: &Stock, build: &Path) -> Result<Self, Error> {
        let mut plan = Self::default();
        let blobs = stock.outputs.values().filter(|output| output.size > 0);
        let Some(blob) = blobs.map(|output| store.blob_path(&output.digest)).find(|blob| blob.exists())
        else {
            return Ok(plan);
        };
        let clones = replace::can_clone(&blob, build)?;
        let device = |path: &Path| fs::metadata(path).map(|meta| meta.dev()).unwrap_or_default();
        if !clones && device(&blob) != device(build) {
            plan.is_apart = true;
            return Ok(plan);
        }
        let mut twins = HashMap::new();
        for (id, (names, meta)) in files(build) {
            if let Some(twin) = twin(store, stock, names, meta, clones)? {
                twins.insert(id, twin);
            }
        }
        twins.retain(|_, twin| {
            let left = match clones {
                _ if (twin.names.len() as u64) < twin.meta.nlink() => Left::Names,
                false if !may_share(twin.output.kind) => Left::Private,
                _ => return true,
            };
            plan.leave(left, &twin.meta);
            false
        });
        if clones {
            plan.steps.extend(twins.into_values().map(Step::Clone));
            return Ok(plan);
        }
        plan.link(stock, build, &mut twins);
        twins.values().for_each(|twin| plan.leave(Left::Times, &twin.meta));
        Ok(plan)
    }

    fn leave(&mut self, left: Left, meta: &Metadata) {
        self.left.entry(left).or_default().add(meta);
    }

    /// Plans to link the outputs of each unit that may be dated back.
    fn link(&mut self, stock: &Stock, build: &Path, twins: &mut HashMap<Inode, Twin>) {
        let Some(mut units) = units::of(build) else { return };
        for unit in &mut units {
            unit.node.wish = unit.wish(stock, twins);
        }
        let nodes: Vec<Node> = units.iter().map(|unit| unit.node.clone()).collect();
        for (at, to_ns) in redated(&nodes) {
            let unit = &units[at];
            match unit.node.wish {
                Wish::Back(_) => {
                    self.steps.extend(unit.outputs.first().map(|path| Step::Date(path.clone(), to_ns)));
                }
                _ => self.steps.extend(unit.inodes().filter_map(|id| twins.remove(&id)).map(Step::Link)),
            }
        }
    }

    /// What is to be cloned, and what is to be linked.
    pub fn sums(&self) -> [Sum; 2] {
        let mut sums = [Sum::default(); 2];
        self.steps.iter().for_each(|step| step.count(&mut sums));
        sums
    }

    /// Carries it out, with Cargo's locks held by the caller. What was cloned, and what was linked.
    ///
    /// # Errors
    /// When a file has changed meanwhile or can't be replaced; what was replaced before stays.
    pub fn apply(&self, store: &Store) -> Result<[Sum; 2], Error> {
        let mut sums = [Sum::default(); 2];
        for step in &self.steps {
            let blob = |twin: &Twin| store.blob_path(&twin.output.digest);
            let is_done = match step {
                Step::Clone(twin) => {
                    let note = match twin.output.kind {
                        OutputKind::CheckMetadata => Note::Redated(&twin.output.digest),
                        _ => Note::Digest(&twin.output.digest),
                    };
                    replace::clone_over(&blob(twin), &twin.names, &twin.meta, note)?
                }
                Step::Link(twin) => replace::link_over(&blob(twin), &twin.names, &twin.meta)?,
                Step::Date(path, to_ns) => {
                    let dated = set_mtime_ns(path, *to_ns);
                    dated.map_err(|error| Error::new("set the time of", path, error))?;
                    true
                }
            };
            if !is_done {
                // No more links of this blob: what depends on it would be older than it.
                break;
            }
            step.count(&mut sums);
        }
        Ok(sums)
    }
}

impl Step {
    fn count(&self, [cloned, linked]: &mut [Sum; 2]) {
        match self {
            Step::Clone(twin) => cloned.add(&twin.meta),
            Step::Link(twin) => linked.add(&twin.meta),
            Step::Date(..) => {}
        }
    }
}

/// All files below a directory, with their names.
fn files(build: &Path) -> HashMap<Inode, (Vec<PathBuf>, Metadata)> {
    let mut files: HashMap<Inode, (Vec<PathBuf>, Metadata)> = HashMap::new();
    for item in WalkDir::new(build).into_iter().flatten() {
        let Ok(meta) = fs::symlink_metadata(item.path()) else { continue };
        if meta.is_file() && meta.len() > 0 {
            let file = files.entry((meta.dev(), meta.ino())).or_insert_with(|| (Vec::new(), meta));
            file.0.push(item.into_path());
        }
    }
    files
}

/// The file as the store has it; `None` where it doesn't, or the file shares its bytes already.
fn twin(
    store: &Store,
    stock: &Stock,
    mut names: Vec<PathBuf>,
    meta: Metadata,
    clones: bool,
) -> Result<Option<Twin>, Error> {
    let path = &names[0];
    let is_shared = stock.inodes.contains(&(meta.dev(), meta.ino()))
        || (clones && (meta.len() < FILE_BYTES_MIN || cloned(path, &meta) >= meta.blocks() * 512));
    if is_shared || !stock.sizes.contains(&meta.len()) {
        return Ok(None);
    }
    let digest = DigestMemo::new(store).digest(path)?;
    let Some(output) = digest.and_then(|digest| stock.outputs.get(&digest)) else { return Ok(None) };
    let is_good = (meta.mode() & 0o100 != 0) == output.executable || output.kind == OutputKind::Generated;
    if !is_good || store.check_blob(output)? != BlobState::Present {
        return Ok(None);
    }
    names.sort();
    Ok(Some(Twin { names, meta, output: output.clone() }))
}
