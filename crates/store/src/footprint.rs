//! What directories really occupy: each inode once whatever its links, clones apart from bytes of one's own, and how
//! much of it the store has too. Looks at metadata only; follows no symbolic link and changes nothing.

use std::collections::{HashMap, HashSet};
use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::digest::Digest;

use crate::error::{Doing, Error};
use crate::inode_memo::{self, Remembered};
use crate::layout::{Shelf, Store};
use crate::sys::{Shared, extents};

/// Files that small are stored inside their inode or share blocks anyway: they aren't asked for clones, in bytes.
const CLONE_BYTES_MIN: u64 = 4096;

/// The store's blobs, for recognising them elsewhere.
#[derive(Debug, Default)]
pub struct BlobIndex {
    inodes: HashSet<(u64, u64)>,
    digests: HashSet<Digest>,
}

impl Store {
    /// All blobs.
    pub fn blob_index(&self) -> Result<BlobIndex, Error> {
        let mut index = BlobIndex::default();
        self.shelf_files(Shelf::Blobs, |digest, meta| {
            index.inodes.insert((meta.dev(), meta.ino()));
            index.digests.insert(digest);
        })?;
        Ok(index)
    }
}

impl BlobIndex {
    /// Whether the store has the content of a file: the very inode, or one that is remembered to have the same.
    fn has(&self, path: &Path, meta: &Metadata) -> bool {
        self.inodes.contains(&(meta.dev(), meta.ino()))
            || match inode_memo::recall(path, meta) {
                Remembered::Trusted(digest) | Remembered::EarlierBoot(digest) => {
                    self.digests.contains(&digest)
                }
                Remembered::Nothing => false,
            }
    }
}

#[derive(Debug, Clone, Copy)]
struct Inode {
    found: u64,
    links: u64,
    /// Bytes on the disk that this file has for itself.
    own_bytes: u64,
    /// Bytes on the disk that clones have too.
    cloned_bytes: u64,
    /// Of its content, what the store has too.
    held_bytes: u64,
}

/// What directories occupy. Those of several can be brought together.
#[derive(Debug, Clone, Default)]
pub struct Footprint {
    inodes: HashMap<(u64, u64), Inode>,
    pub files: u64,
    /// Lengths of all files, as `du --apparent-size` with every link counted would say.
    pub apparent_bytes: u64,
}

impl Footprint {
    /// Looks at everything below a directory.
    pub fn of(dir: &Path, blobs: &BlobIndex) -> Result<Self, Error> {
        Self::of_all([dir], blobs)
    }

    /// Looks at some files, and at everything below some directories.
    ///
    /// # Errors
    /// As [`Footprint::of`].
    pub fn of_all<'p>(paths: impl IntoIterator<Item = &'p Path>, blobs: &BlobIndex) -> Result<Self, Error> {
        let mut footprint = Self::default();
        let mut waiting: Vec<_> = paths.into_iter().map(Path::to_owned).collect();
        while let Some(path) = waiting.pop() {
            let meta = match fs::symlink_metadata(&path).doing("look at", &path) {
                Err(error) if error.is_missing() => continue,
                result => result?,
            };
            footprint.add(&path, &meta, blobs);
            if meta.is_dir() {
                for item in fs::read_dir(&path).doing("list", &path)? {
                    waiting.push(item.doing("list", &path)?.path());
                }
            }
        }
        Ok(footprint)
    }

    fn add(&mut self, path: &Path, meta: &Metadata, blobs: &BlobIndex) {
        if !meta.is_dir() {
            self.files += 1;
            self.apparent_bytes += meta.len();
        }
        let inode = self.inodes.entry((meta.dev(), meta.ino())).or_insert_with(|| {
            let allocated = meta.blocks() * 512;
            let cloned_bytes = if meta.is_file() { cloned(path, meta).min(allocated) } else { 0 };
            let held_bytes = if meta.is_file() && blobs.has(path, meta) { meta.len() } else { 0 };
            let own_bytes = allocated - cloned_bytes;
            // The names in a directory are links to it.
            let links = if meta.is_dir() { 1 } else { meta.nlink() };
            Inode { found: 0, links, own_bytes, cloned_bytes, held_bytes }
        });
        inode.found += 1;
    }

    /// Adds what another directory occupies. An inode that both have is still one.
    pub fn merge(&mut self, other: &Self) {
        self.files += other.files;
        self.apparent_bytes += other.apparent_bytes;
        for (id, inode) in &other.inodes {
            self.inodes.entry(*id).and_modify(|mine| mine.found += inode.found).or_insert(*inode);
        }
    }

    /// Bytes on the disk, each inode once: what `du` says.
    pub fn disk_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.own_bytes + inode.cloned_bytes).sum()
    }

    /// Bytes that are free once all of this is removed: not those of inodes with links elsewhere, nor of clones.
    pub fn reclaimable_bytes(&self) -> u64 {
        let last = self.inodes.values().filter(|inode| inode.found >= inode.links);
        last.map(|inode| inode.own_bytes).sum()
    }

    /// Bytes on the disk that others have too, by hard link or clone: the store, or another directory.
    pub fn shared_bytes(&self) -> u64 {
        self.disk_bytes() - self.reclaimable_bytes()
    }

    /// Bytes of content that the store has too: they come back without a compile.
    pub fn held_bytes(&self) -> u64 {
        self.inodes.values().map(|inode| inode.held_bytes).sum()
    }

    /// Length of all content, each inode once.
    pub fn content_bytes(&self) -> u64 {
        self.disk_bytes().max(self.held_bytes())
    }
}

/// Bytes of a file that clones have too, as far as anybody tells.
pub fn cloned(path: &Path, meta: &Metadata) -> u64 {
    if meta.len() < CLONE_BYTES_MIN {
        return 0;
    }
    let extents = File::open(path).ok().and_then(|file| extents(&file)).unwrap_or_default();
    extents.iter().filter(|extent| extent.sharing == Shared::Yes).map(|extent| extent.bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Bench;

    fn of(dir: &Path, blobs: &BlobIndex) -> Footprint {
        Footprint::of(dir, blobs).expect("readable")
    }

    #[test]
    fn links_count_once_and_free_nothing_while_there_are_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        fs::create_dir_all(a.join("deep")).expect("mkdir");
        fs::create_dir(&b).expect("mkdir");
        fs::write(a.join("x"), vec![1u8; 100_000]).expect("write");
        fs::hard_link(a.join("x"), a.join("deep/y")).expect("link");
        let none = BlobIndex::default();
        let alone = of(&a, &none);
        assert_eq!((alone.files, alone.apparent_bytes), (2, 200_000));
        assert!((100_000..200_000).contains(&alone.disk_bytes()), "{}", alone.disk_bytes());
        assert_eq!(alone.reclaimable_bytes(), alone.disk_bytes());
        fs::hard_link(a.join("x"), b.join("z")).expect("link");
        let (mut both, other) = (of(&a, &none), of(&b, &none));
        let directories = 2 * fs::symlink_metadata(&a).expect("a directory").blocks() * 512;
        assert_eq!((both.reclaimable_bytes(), other.reclaimable_bytes()), (directories, directories / 2));
        assert_eq!(both.shared_bytes(), both.disk_bytes() - directories);
        both.merge(&other);
        assert_eq!(both.reclaimable_bytes(), alone.disk_bytes() + directories / 2);
    }

    #[test]
    fn symbolic_links_lead_nowhere() {
        let dir = tempfile::tempdir().expect("temp dir");
        let (inside, outside) = (dir.path().join("in"), dir.path().join("out"));
        fs::create_dir(&inside).expect("mkdir");
        fs::create_dir(&outside).expect("mkdir");
        fs::write(outside.join("x"), vec![1u8; 50_000]).expect("write");
        std::os::unix::fs::symlink(&outside, inside.join("dir")).expect("symlink");
        std::os::unix::fs::symlink(outside.join("x"), inside.join("file")).expect("symlink");
        assert!(of(&inside, &BlobIndex::default()).disk_bytes() < 50_000);
    }

    #[test]
    fn what_the_store_has_is_known_by_its_inode() {
        let bench = Bench::new();
        let (_, entry) = bench.publish("demo", &vec![7u8; 100_000]);
        let target = bench.store.root().with_extension("target");
        fs::create_dir(&target).expect("mkdir");
        fs::hard_link(bench.store.blob_path(&entry.outputs[0].digest), target.join("l.rlib")).expect("link");
        fs::write(target.join("own"), vec![8u8; 100_000]).expect("write");
        let footprint = of(&target, &bench.store.blob_index().expect("listed"));
        assert_eq!(footprint.held_bytes(), 100_000);
        assert!((100_000..200_000).contains(&footprint.reclaimable_bytes()));
        fs::remove_dir_all(&target).expect("remove");
    }

    /// Where the file system has clones and tells about them, cloned bytes aren't reclaimable.
    #[test]
    fn clones_are_told_from_bytes_of_ones_own() {
        for bench in Bench::everywhere() {
            let dir = bench.store.root().with_extension("clones");
            fs::create_dir(&dir).expect("mkdir");
            let file = dir.join("x");
            fs::write(&file, vec![3u8; 1 << 20]).expect("write");
            let opened = File::options().write(true).open(&file).expect("open");
            opened.sync_all().expect("sync");
            let before = of(&dir, &BlobIndex::default());
            assert_eq!(before.reclaimable_bytes(), before.disk_bytes());
            let clone = bench.store.root().with_extension("clone");
            let mode = crate::link::place(
                &file,
                &clone,
                crate::link::Sharing::Private(crate::link::Stamp::Now),
                crate::link::Permission::Plain,
                crate::link::Note::None,
            );
            if mode.expect("placed") == crate::link::Mode::Reflink && extents(&opened).is_some() {
                assert!(of(&dir, &BlobIndex::default()).reclaimable_bytes() < 1 << 20);
            }
        }
    }
}
