//! A build script's `OUT_DIR`: out of one target directory into the store, and from there into another. Local directories
//! in texts become tokens and come back as the other directory's; binary files must not name them where it matters.
//! Decides nothing about when either is right.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry::{Output, OutputKind};
use kache_core::event::Moved;
use kache_core::moment::Moment;
use kache_core::paths::{Root, Roots};
use kache_core::plan::EPOCH_S;
use kache_core::scan::Scanner;
use kache_core::seeding::Unseeded;
use kache_core::tree::{Node, NodeKind};
use kache_store::Store;
use kache_store::blobs::IngestHow;
use kache_store::hashing::DigestMemo;
use kache_store::link::{self, Note, Permission, Sharing, Stamp};

use crate::mentions;
use crate::restore;
use crate::times::{mtime_ns, set_mtime_ns};

/// Most things in an `OUT_DIR` that is kept.
const NODES_MAX: usize = 20_000;
/// Largest `OUT_DIR` that is kept, in bytes.
const TREE_BYTES_MAX: u64 = 2 << 30;
/// Largest file in it, in bytes: each is read as a whole.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Longest text that is put back with local directories in it, in bytes.
const TEXT_BYTES_MAX: u64 = 256 << 20;

/// Why an `OUT_DIR` can't be kept or put back.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    #[error("{0} can't be put elsewhere")]
    Name(String),
    #[error("{0} names the workspace")]
    Workspace(String),
    /// A content is gone from the store.
    #[error("a stored file is gone or damaged")]
    Gone,
    /// The directory or the store refused.
    #[error("{0}")]
    Refused(String),
}

impl From<Unkept> for Unseeded {
    fn from(why: Unkept) -> Self {
        match why {
            Unkept::Name(name) => Unseeded::OutDir(name),
            Unkept::Workspace(name) => Unseeded::NamesWorkspace(name),
            Unkept::Gone => Unseeded::EntryGone,
            Unkept::Refused(why) => Unseeded::Refused(why),
        }
    }
}

fn refused(error: impl std::fmt::Display) -> Unkept {
    Unkept::Refused(error.to_string())
}

/// What may be in the texts of an `OUT_DIR`.
pub struct Texts<'a> {
    pub roots: &'a Roots,
    pub cargo_home: &'a str,
    pub moment: &'a Moment,
    pub dated: RefCell<Option<String>>,
}

impl Texts<'_> {
    /// A text with tokens. `name` is what it is called in errors.
    pub fn portable(&self, text: &str, name: &str) -> Result<String, Unkept> {
        let tokens = self.roots.tokenize(text).ok_or_else(|| Unkept::Name(name.to_owned()))?;
        self.look_for_moment(text.as_bytes(), name);
        Ok(tokens)
    }

    fn look_for_moment(&self, bytes: &[u8], name: &str) {
        let mut dated = self.dated.borrow_mut();
        if dated.is_none() && self.moment.is_in(bytes) {
            *dated = Some(name.to_owned());
        }
    }
}

/// Takes an `OUT_DIR` over into the store, without what `leaves_out` says: contents, each once, and what lies where.
pub fn keep(
    store: &Store,
    dir: &Path,
    texts: &Texts<'_>,
    leaves_out: &dyn Fn(&Path) -> bool,
) -> Result<(Vec<Output>, Vec<Node>), Unkept> {
    let mut keeper =
        Keeper { store, texts, leaves_out, outputs: BTreeMap::new(), tree: Vec::new(), bytes: 0 };
    keeper.keep(dir, "")?;
    Ok((keeper.outputs.into_values().collect(), keeper.tree))
}

struct Keeper<'a> {
    store: &'a Store,
    texts: &'a Texts<'a>,
    leaves_out: &'a dyn Fn(&Path) -> bool,
    outputs: BTreeMap<Digest, Output>,
    tree: Vec<Node>,
    bytes: u64,
}

impl Keeper<'_> {
    fn keep(&mut self, dir: &Path, prefix: &str) -> Result<(), Unkept> {
        let mut entries: Vec<_> =
            fs::read_dir(dir).map_err(refused)?.collect::<Result<_, _>>().map_err(refused)?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            if (self.leaves_out)(&entry.path()) {
                continue;
            }
            let name = entry.file_name().into_string().map_err(|_| Unkept::Name("a name".to_owned()))?;
            let path = if prefix.is_empty() { name } else { format!("{prefix}/{name}") };
            let meta = entry.metadata().map_err(refused)?;
            let mode = meta.permissions().mode() & 0o777;
            let kind = if meta.is_dir() {
                NodeKind::Dir { mode }
            } else if meta.is_symlink() {
                let to = fs::read_link(entry.path()).map_err(refused)?;
                let to = to.to_str().ok_or_else(|| Unkept::Name(path.clone()))?;
                NodeKind::Link { to: self.texts.portable(to, &path)? }
            } else if meta.is_file() {
                self.file(&entry.path(), &path, mode)?
            } else {
                return Err(Unkept::Name(path));
            };
            self.tree.push(Node { path: path.clone(), kind });
            if self.tree.len() > NODES_MAX {
                return Err(Unkept::Name(format!("an OUT_DIR of more than {NODES_MAX} files")));
            }
            if meta.is_dir() {
                self.keep(&entry.path(), &path)?;
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &Path, name: &str, mode: u32) -> Result<NodeKind, Unkept> {
        let unkept = || Unkept::Name(name.to_owned());
        let time_ns = mtime_ns(path).ok_or_else(unkept)?;
        let size = fs::metadata(path).map_err(refused)?.len();
        self.bytes += size;
        if self.bytes > TREE_BYTES_MAX || size > FILE_BYTES_MAX {
            return Err(Unkept::Name(format!("{name} with {size} bytes")));
        }
        let bytes = fs::read(path).map_err(refused)?;
        let text = std::str::from_utf8(&bytes).ok().filter(|text| !text.contains('\0'));
        let tokens = match text {
            Some(text) => Some(self.texts.portable(text, name)?).filter(|tokens| tokens != text),
            None => {
                self.texts.look_for_moment(&bytes, name);
                let roots = self.texts.roots;
                let local = [Root::Target, Root::Workspace];
                let local = local.map(|root| (root, roots.get(root).unwrap_or_default().to_owned()));
                let local = local.into_iter().filter(|(_, path)| !path.is_empty());
                let scanner = Scanner::new(&Roots::new(local), &[self.texts.cargo_home]);
                if !mentions::only_in_debug_sections(&bytes, &scanner) {
                    return Err(unkept());
                }
                None
            }
        };
        let blob = match &tokens {
            Some(text) => self.store.ingest_bytes(text.as_bytes()).map_err(refused)?,
            None => {
                let digest = Digest::of(&bytes);
                let stored = self.store.ingest(&digest, path, IngestHow::Clone, EPOCH_S, Permission::Plain);
                stored.map_err(refused)?;
                digest
            }
        };
        let meta = fs::metadata(self.store.blob_path(&blob)).map_err(refused)?;
        let number = self.outputs.len();
        self.outputs.entry(blob).or_insert_with(|| Output {
            name: format!("{number}"),
            kind: OutputKind::Generated,
            digest: blob,
            size: meta.len(),
            mtime_s: meta.mtime(),
            executable: false,
        });
        Ok(NodeKind::File { blob, mode, mtime_ns: time_ns, tokens: tokens.is_some() })
    }
}

/// The same tree with the times that its files have in `dir`; an error where one of them isn't there as recorded, or names
/// the workspace.
pub fn found(store: &Store, roots: &Roots, (tree, dir): (&[Node], &Path)) -> Result<Vec<Node>, Unkept> {
    let memo = DigestMemo::new(store);
    let mut dated = tree.to_vec();
    for node in &mut dated {
        let path = dir.join(&node.path);
        let unknown = || Unkept::Name(node.path.clone());
        let is_there = match &mut node.kind {
            NodeKind::Dir { .. } => path.is_dir(),
            NodeKind::Link { to } => {
                let local = roots.detokenize(to).ok_or(Unkept::Gone)?;
                fs::read_link(&path).is_ok_and(|there| there == Path::new(&local))
            }
            NodeKind::File { blob, mtime_ns: time_ns, tokens, .. } => {
                *time_ns = mtime_ns(&path).ok_or_else(unknown)?;
                if *tokens {
                    let text = stored_text(store, blob)?;
                    if text.contains(Root::Workspace.text_token()) {
                        return Err(Unkept::Workspace(node.path.clone()));
                    }
                    let local = roots.detokenize(&text).ok_or(Unkept::Gone)?;
                    fs::read(&path).is_ok_and(|there| there == local.as_bytes())
                } else {
                    memo.digest(&path).is_ok_and(|there| there == Some(*blob))
                }
            }
        };
        if !is_there {
            return Err(unknown());
        }
    }
    Ok(dated)
}

fn stored_text(store: &Store, blob: &Digest) -> Result<String, Unkept> {
    let bytes = store.read_blob(blob, TEXT_BYTES_MAX).map_err(refused)?;
    bytes.and_then(|bytes| String::from_utf8(bytes).ok()).ok_or(Unkept::Gone)
}

/// When files that are put back were last changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dated {
    AsRecorded,
    /// Now; a file that is there with its content stays as it is.
    Now,
}

/// Puts back what lay in an `OUT_DIR`, which exists.
pub fn place(
    store: &Store,
    roots: &Roots,
    (tree, dir): (&[Node], &Path),
    dated: Dated,
    moved: &mut Moved,
) -> Result<(), Unkept> {
    let placer = Placer { store, roots, dated };
    let mut dirs = Vec::new();
    for node in tree {
        let path = dir.join(&node.path);
        match &node.kind {
            NodeKind::Dir { mode } => {
                fs::create_dir_all(&path).map_err(refused)?;
                dirs.push((path, *mode & 0o777));
            }
            NodeKind::Link { to } => {
                let to = roots.detokenize(to).ok_or(Unkept::Gone)?;
                if fs::read_link(&path).ok().as_deref() != Some(Path::new(&to)) {
                    gone(fs::remove_file(&path))?;
                    symlink(to, &path).map_err(refused)?;
                }
            }
            NodeKind::File { blob, mode, mtime_ns, tokens } => {
                placer.file(blob, &path, *tokens, moved)?;
                set_mode(&path, *mode & 0o777)?;
                if dated == Dated::AsRecorded {
                    set_mtime_ns(&path, *mtime_ns).map_err(refused)?;
                }
            }
        }
    }
    // Deepest first, so that a folder that isn't writable comes after what is in it.
    for (path, mode) in dirs.iter().rev() {
        set_mode(path, *mode)?;
    }
    Ok(())
}

/// Removes what lies in a directory and isn't in the tree, or is something else there.
pub fn prune(dir: &Path, tree: &[Node]) -> io::Result<()> {
    let wanted: BTreeSet<(&Path, bool, bool)> = tree
        .iter()
        .map(|node| {
            let is_link = matches!(node.kind, NodeKind::Link { .. });
            (Path::new(&node.path), matches!(node.kind, NodeKind::Dir { .. }), is_link)
        })
        .collect();
    for entry in walkdir::WalkDir::new(dir).min_depth(1).contents_first(true) {
        let entry = entry.map_err(io::Error::from)?;
        let kind = entry.file_type();
        let below = entry.path().strip_prefix(dir).unwrap_or(entry.path());
        match (wanted.contains(&(below, kind.is_dir(), kind.is_symlink())), kind.is_dir()) {
            (true, _) => {}
            (false, true) => fs::remove_dir(entry.path())?,
            (false, false) => fs::remove_file(entry.path())?,
        }
    }
    Ok(())
}

struct Placer<'a> {
    store: &'a Store,
    roots: &'a Roots,
    dated: Dated,
}

impl Placer<'_> {
    fn file(&self, blob: &Digest, path: &Path, tokens: bool, moved: &mut Moved) -> Result<(), Unkept> {
        let stays = self.dated == Dated::Now;
        if tokens {
            let text = self.roots.detokenize(&stored_text(self.store, blob)?).ok_or(Unkept::Gone)?;
            if stays && fs::read(path).is_ok_and(|there| there == text.as_bytes()) {
                moved.kept_bytes += text.len() as u64;
                return Ok(());
            }
            moved.copied_bytes += text.len() as u64;
            gone(fs::remove_file(path))?;
            return fs::write(path, text).map_err(refused);
        }
        let size = fs::metadata(self.store.blob_path(blob)).map_err(|_| Unkept::Gone)?.len();
        if stays && DigestMemo::new(self.store).digest(path).is_ok_and(|there| there == Some(*blob)) {
            moved.kept_bytes += size;
            return Ok(());
        }
        // Never the blob's own inode: a script that runs again writes in place.
        let sharing = Sharing::Private(if stays { Stamp::Now } else { Stamp::Blob });
        let mode = link::place(&self.store.blob_path(blob), path, sharing, Permission::Plain, Note::None)
            .map_err(refused)?;
        restore::count(moved, mode, size);
        Ok(())
    }
}

/// That something isn't there any more is as good as its removal.
fn gone(outcome: io::Result<()>) -> Result<(), Unkept> {
    match outcome {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(refused(error)),
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> Result<(), Unkept> {
    let now = fs::symlink_metadata(path).map_err(refused)?.permissions().mode() & 0o7777;
    if now == mode {
        Ok(())
    } else {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(refused)
    }
}
