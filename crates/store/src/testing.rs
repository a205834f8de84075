//! Stores and entries for the tests of this crate.

use std::fs;
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, Output, OutputKind};
use kache_core::key::{EntryKey, UnitKey};
use kache_testkit::{FileSystem, Volume};
use tempfile::TempDir;

use crate::blobs::{IngestHow, Stored};
use crate::layout::Store;
use crate::link::Permission;

/// Time of blobs in tests, in seconds since 1970.
pub(crate) const BLOB_S: i64 = 1_704_067_201;

/// A store in a directory of its own, and room for files beside it.
pub(crate) struct Bench {
    pub dir: TempDir,
    pub store: Store,
    /// Where it lies, if that was mounted for it; whatever is on it goes first.
    pub volume: Option<Volume>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::below(&std::env::temp_dir())
    }

    pub(crate) fn below(dir: &Path) -> Self {
        Self::on(dir, None)
    }

    fn on(dir: &Path, volume: Option<Volume>) -> Self {
        let dir = tempfile::tempdir_in(dir).expect("temp dir");
        let store = Store::open(&dir.path().join("cache")).expect("open");
        Self { dir, store, volume }
    }

    /// One bench where temporary files are, and one on each file system that clones, where one can be mounted: in CI it
    /// can.
    pub(crate) fn everywhere() -> Vec<Self> {
        let volumes = [FileSystem::Xfs, FileSystem::Btrfs].into_iter().filter_map(Volume::mount);
        let mounted = volumes.map(|volume| Self::on(&volume.root(), Some(volume)));
        [Self::new()].into_iter().chain(mounted).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file beside the store.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).expect("write");
        path
    }

    pub(crate) fn ingest(&self, path: &Path, how: IngestHow) -> Stored {
        let digest = Digest::of(&fs::read(path).expect("read"));
        self.store.ingest(&digest, path, how, BLOB_S, Permission::Plain).expect("ingest")
    }

    /// Stores `content` as the only output of an entry.
    pub(crate) fn publish(&self, name: &str, content: &[u8]) -> (EntryKey, Entry) {
        publish(&self.store, &self.write(&format!("{name}.o"), content), name, content)
    }

    /// Files under temporary names in the store.
    pub(crate) fn leftovers(&self) -> usize {
        fs::read_dir(self.store.tmp_dir()).expect("list").count()
    }
}

/// Stores `content`, which is at `path`, as the only output of an entry named after `name`.
pub(crate) fn publish(store: &Store, path: &Path, name: &str, content: &[u8]) -> (EntryKey, Entry) {
    let digest = Digest::of(content);
    let stored =
        store.ingest(&digest, path, IngestHow::Clone, BLOB_S, Permission::Plain).expect("ingest").stat();
    let mut entry = Entry::new(UnitKey(Digest::of(name.as_bytes())), name);
    entry.dep_info_name = format!("{name}.d");
    entry.outputs.push(Output {
        name: format!("lib{name}.rlib"),
        kind: OutputKind::Rlib,
        digest,
        size: stored.size,
        mtime_s: stored.mtime_s,
        executable: false,
    });
    let key = EntryKey(Digest::of(format!("entry {name}").as_bytes()));
    store.publish(&key, &entry, &Evidence::default()).expect("publish");
    (key, entry)
}
