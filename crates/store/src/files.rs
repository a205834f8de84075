//! Small files: read whole up to a cap, written whole by way of a temporary name. Does not know what they contain.

use std::fs::{self, DirEntry, File, Metadata, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use rustix::fs::{Access, access};
use rustix::io::Errno;

use crate::error::{Doing, Error, is_absent, unless_absent};
use crate::fault::{self, Point};
use crate::layout::{Shelf, Store, inherit_owner, with_folder};

/// What a capped read found.
#[derive(Debug)]
pub(crate) enum Content {
    Absent,
    /// Longer than the cap; not read.
    TooLong,
    /// All of it, and the open file for what has to be done to it.
    Whole(Vec<u8>, File),
}

/// Fails where a file was written to or replaced since it was first looked at.
pub(crate) fn require_unchanged(file: &Path, before: &Metadata, now: &Metadata) -> Result<(), Error> {
    let stamp = |meta: &Metadata| (meta.dev(), meta.ino(), meta.len(), meta.mtime(), meta.mtime_nsec());
    if stamp(before) == stamp(now) {
        return Ok(());
    }
    Err(Error::new("store", file, std::io::Error::other("the file changed meanwhile")))
}

/// Reads a file of at most `bytes_max` bytes.
pub(crate) fn read_capped(path: &Path, bytes_max: u64) -> Result<Content, Error> {
    let Some(file) = unless_absent(File::open(path)).doing("open", path)? else {
        return Ok(Content::Absent);
    };
    let size = file.metadata().doing("look at", path)?.len();
    if size > bytes_max {
        return Ok(Content::TooLong);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    (&file).take(bytes_max + 1).read_to_end(&mut bytes).doing("read", path)?;
    if bytes.len() as u64 > bytes_max {
        return Ok(Content::TooLong);
    }
    Ok(Content::Whole(bytes, file))
}

/// Removes a file; one that is gone already is fine. Returns whether there was one.
pub(crate) fn remove(path: &Path) -> Result<bool, Error> {
    let removed = unless_absent(fs::remove_file(path)).doing("remove", path)?;
    Ok(removed.is_some())
}

/// A file in the making under a temporary name, removed unless it was renamed.
#[derive(Debug)]
pub(crate) struct TmpFile {
    path: PathBuf,
}

impl TmpFile {
    /// Takes over the name, whether or not a file has it yet.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the file its final name, replacing what has it.
    pub(crate) fn rename_to(self, dest: &Path) -> Result<(), Error> {
        with_folder(dest, || fs::rename(&self.path, dest)).doing("rename into place", dest)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for TmpFile {
    fn drop(&mut self) {
        // Also after success: a file that was linked into place keeps its temporary name until here. Where removal
        // fails, the sweep finds the file.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a file that must not exist, with `mode` subject to the umask, for reading and writing.
pub(crate) fn create_new(path: &Path, mode: u32) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(mode).open(path)
}

/// Opens a file of the store for appending, creating it where it is missing.
pub(crate) fn open_append(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true);
    match options.open(path) {
        Err(error) if is_absent(&error) => {
            let file = with_folder(path, || options.create(true).mode(0o600).open(path))?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            inherit_owner(&file, path)?;
            Ok(file)
        }
        result => result,
    }
}

impl Store {
    /// A new empty file under a temporary name, exclusively ours.
    pub(crate) fn new_tmp(&self) -> Result<(TmpFile, File), Error> {
        let path = self.tmp_path();
        let file = with_folder(&path, || create_new(&path, 0o600)).doing("create", &path)?;
        let tmp = TmpFile::at(path);
        inherit_owner(&file, tmp.path()).doing("set the owner of", tmp.path())?;
        Ok((tmp, file))
    }

    /// Makes `bytes` the content of `dest` at one stroke: readers see the former file or all of the new one.
    pub(crate) fn publish_bytes(&self, dest: &Path, bytes: &[u8]) -> Result<(), Error> {
        let (tmp, mut file) = self.new_tmp()?;
        file.write_all(bytes).doing("write", tmp.path())?;
        file.set_permissions(Permissions::from_mode(0o600)).doing("set permissions of", tmp.path())?;
        fault::point(Point::TmpWritten);
        tmp.rename_to(dest)?;
        fault::point(Point::TmpRenamed);
        Ok(())
    }
}

impl Store {
    /// What `keep` makes of each file of one shelf whose name is a digest. Others are not the store's.
    pub(crate) fn shelf_files<T>(
        &self,
        shelf: Shelf,
        mut keep: impl FnMut(Digest, &Metadata) -> T,
    ) -> Result<Vec<T>, Error> {
        let mut files = Vec::new();
        self.each_in_shelf(shelf, |digest, item| {
            match unless_absent(item.metadata()).doing("look at", &item.path())? {
                Some(meta) if meta.is_file() => files.push(keep(digest, &meta)),
                Some(_) | None => {}
            }
            Ok(())
        })?;
        Ok(files)
    }

    /// Folders of the store that this user may not look into, because another user has made them.
    pub fn denied(&self) -> Vec<PathBuf> {
        let shelves = Shelf::ALL.map(|shelf| self.shelf_dir(shelf));
        let below = shelves.iter().flat_map(|shelf| list(shelf).unwrap_or_default());
        let below: Vec<PathBuf> = below.map(|folder| folder.path()).collect();
        let own = [self.memo_dir(), self.journal_dir(), self.queue_dir(), self.locks_dir(), self.tmp_dir()];
        let wanted = Access::READ_OK | Access::EXEC_OK;
        let is_denied = |dir: &PathBuf| access(dir, wanted) == Err(Errno::ACCESS);
        own.into_iter().chain(shelves).chain(below).filter(is_denied).collect()
    }

    /// How many names of one shelf are digests.
    pub(crate) fn shelf_count(&self, shelf: Shelf) -> Result<u64, Error> {
        let mut count = 0;
        self.each_in_shelf(shelf, |_, _| {
            count += 1;
            Ok(())
        })?;
        Ok(count)
    }

    /// Goes through one shelf. What a listing gives keeps its folder open, so nothing of one folder lives on when the next
    /// one is looked at: there are 256, and fewer descriptors than that are common.
    fn each_in_shelf(
        &self,
        shelf: Shelf,
        mut look: impl FnMut(Digest, &DirEntry) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let folders: Vec<PathBuf> =
            list(&self.shelf_dir(shelf))?.into_iter().map(|folder| folder.path()).collect();
        for folder in folders {
            let items = match list(&folder) {
                // Another user's: see `denied`.
                Err(error) if error.is_denied() => continue,
                items => items?,
            };
            for item in items {
                if let Some(digest) = item.file_name().to_str().and_then(|name| name.parse().ok()) {
                    look(digest, &item)?;
                }
            }
        }
        Ok(())
    }
}

/// What is in a folder; nothing where there is none.
fn list(dir: &Path) -> Result<Vec<DirEntry>, Error> {
    match unless_absent(fs::read_dir(dir)).doing("list", dir)? {
        Some(items) => items.collect::<io::Result<_>>().doing("list", dir),
        None => Ok(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capped_read_tells_absent_too_long_and_whole_apart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        assert!(matches!(read_capped(&path, 9), Ok(Content::Absent)));
        assert!(matches!(read_capped(&path.join("below"), 9), Ok(Content::Absent)));
        for (len, cap, whole) in [(0, 0, true), (9, 9, true), (9, 8, false), (1, 0, false)] {
            fs::write(&path, vec![b'x'; len]).expect("write");
            match read_capped(&path, cap).expect("readable") {
                Content::Whole(bytes, _) => assert!(whole && bytes.len() == len, "{len} {cap}"),
                Content::TooLong => assert!(!whole, "{len} {cap}"),
                Content::Absent => panic!("it is there"),
            }
        }
    }

    #[test]
    fn publishing_replaces_at_one_stroke_and_leaves_nothing_behind() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let dest = dir.path().join("v1/entries/ab/x");
        store.publish_bytes(&dest, b"one").expect("folder is made");
        let before = File::open(&dest).expect("open");
        store.publish_bytes(&dest, b"two").expect("replaced");
        assert_eq!(io::read_to_string(before).expect("read"), "one");
        assert_eq!(fs::read(&dest).expect("read"), b"two");
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("list").count(), 0);
        fs::create_dir(dir.path().join("v1/entries/ab/d")).expect("mkdir");
        store
            .publish_bytes(&dir.path().join("v1/entries/ab/d"), b"x")
            .expect_err("a directory is in the way");
        assert_eq!(fs::read_dir(store.tmp_dir()).expect("list").count(), 0);
    }
}
