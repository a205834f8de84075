//! Blobs: contents named by their digest. They become visible complete, keep one mtime for life and are never written
//! to again. Does not know which entries need them.

use std::fs::{self, File, Metadata, Permissions};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::Ordering;

use kache_core::digest::Digest;
use rustix::io::Errno;

use crate::clock::{FileTime, set_mtime};
use crate::error::{Doing, Error, unless_absent};
use crate::fault::{self, Point};
use crate::files::{Content, TmpFile, read_capped, remove, require_unchanged};
use crate::inode_memo::{self, Redating, Remembered};
use crate::layout::{Store, foreign_owner, inherit_owner, make_dir_and_above, with_folder};
use crate::link::{Permission, copy, is_link_refused, reflink, set_mtime_of};
use crate::replace::share_bytes;

/// The mtime of blobs that hold texts, which are never linked anywhere; in seconds since 1970.
pub const TEXT_MTIME_S: i64 = 1;

/// Attempts to become or find the blob of a digest while others add and remove it.
const ATTEMPTS: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobStat {
    /// Length, in bytes.
    pub size: u64,
    /// Modification time, in seconds since 1970; the nanoseconds are zero.
    pub mtime_s: i64,
}

/// What taking over a file came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// The store didn't have the content.
    New(BlobStat),
    /// It did; this is the blob's stat, which is not what was asked for.
    Known(BlobStat),
}

impl Stored {
    /// Size and time of the blob.
    pub fn stat(&self) -> BlobStat {
        match self {
            Stored::New(stat) | Stored::Known(stat) => *stat,
        }
    }
}

/// How a finished file is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestHow {
    /// Blob and file share what they can, and the file gets the blob's mtime: a reflink, else one inode with the
    /// blob's permissions, else a copy. For files that nobody writes to again and nobody else holds. A file whose
    /// content is known already keeps its time, unless another process stored that content at the same moment: then
    /// it may have got the time that was asked for.
    Link,
    /// The file keeps its time; the blob is a reflink or copy.
    Clone,
}

/// Whether a blob is what an entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BlobState {
    Present,
    Missing,
    /// The size matches, the mtime doesn't: the store was copied, or a program touched or wrote to the file. The
    /// content decides, see [`Store::acquit`].
    Redated,
    /// Size and mtime match, the permissions are not a blob's: others can't use it as it is.
    OtherMode,
    /// Another size, or no regular file.
    Altered,
}

impl Store {
    /// Makes a finished file's content a blob with mtime `mtime_s`, unless there is one. `digest` is the content's.
    ///
    /// A blob that is there already is used as it is, never re-dated; one that was altered is replaced. Where the file
    /// systems clone, the file then becomes a clone of it, with its own time and permissions.
    ///
    /// # Errors
    /// When the file can't be read or the blob can't be made. No blob is then visible that wasn't before.
    pub fn ingest(
        &self,
        digest: &Digest,
        file: &Path,
        how: IngestHow,
        mtime_s: i64,
        permission: Permission,
    ) -> Result<Stored, Error> {
        let meta = fs::symlink_metadata(file).doing("look at", file)?;
        if !meta.is_file() {
            return Err(Error::new("store", file, Errno::INVAL));
        }
        if let Some(stat) = self.known_blob(digest, meta.len())? {
            // Saves bytes or nothing.
            let _ = share_bytes(&self.blob_path(digest), file);
            return Ok(Stored::Known(stat));
        }
        let (tmp, open) = match how {
            IngestHow::Link => self.link_tmp(file, &meta)?,
            IngestHow::Clone => self.clone_tmp(file, &meta)?,
        };
        fault::point(Point::BlobMade);
        finish(&open, tmp.path(), digest, mtime_s, permission)?;
        fault::point(Point::BlobFinished);
        let stored = self.admit(&tmp, digest, BlobStat { size: meta.len(), mtime_s })?;
        if how == IngestHow::Link && matches!(stored, Stored::New(_)) {
            // For a file that became the blob's inode this says nothing new; for one that didn't, a failure leaves it
            // with the time of its compile, which is always correct.
            let _ = set_mtime_of(file, mtime_s);
        }
        Ok(stored)
    }

    /// Makes bytes a blob: texts too long for an entry.
    pub fn ingest_bytes(&self, bytes: &[u8]) -> Result<Digest, Error> {
        let digest = Digest::of(bytes);
        let size = bytes.len() as u64;
        if self.known_blob(&digest, size)?.is_none() {
            self.require_room(size, &self.blob_path(&digest))?;
            let (tmp, mut file) = self.new_tmp()?;
            file.write_all(bytes).doing("write", tmp.path())?;
            finish(&file, tmp.path(), &digest, TEXT_MTIME_S, Permission::Plain)?;
            self.admit(&tmp, &digest, BlobStat { size, mtime_s: TEXT_MTIME_S })?;
        }
        Ok(digest)
    }

    /// As [`Store::verify_blob`], and remembers that it is right, so that the next one need not read it.
    fn verify_anew(&self, digest: &Digest, meta: &Metadata) -> Result<bool, Error> {
        let right = self.verify_blob(digest)?;
        if right && let Ok(file) = File::open(self.blob_path(digest)) {
            inode_memo::remember(&file, meta, digest, Redating::Never);
        }
        Ok(right)
    }

    /// The content of a blob that holds a text of at most `bytes_max` bytes, checked against its digest; `None` when
    /// it is missing or not what it should be.
    pub fn read_blob(&self, digest: &Digest, bytes_max: u64) -> Result<Option<Vec<u8>>, Error> {
        match read_capped(&self.blob_path(digest), bytes_max)? {
            Content::Whole(bytes, _) if Digest::of(&bytes) == *digest => Ok(Some(bytes)),
            Content::Whole(..) | Content::Absent | Content::TooLong => Ok(None),
        }
    }

    /// Removes a broken blob, so that the next compile brings a good one. Files linked to it stay as they are.
    pub fn drop_damaged(&self, digest: &Digest) -> Result<(), Error> {
        remove(&self.blob_path(digest))?;
        fault::point(Point::BlobRemoved);
        Ok(())
    }

    /// The stat of a blob that is there and certainly right: by its memo, or else read once more. A wrong one is
    /// removed. What is found counts as new for the sweep's period of grace, since an entry is about to need it.
    pub(crate) fn known_blob(&self, digest: &Digest, size: u64) -> Result<Option<BlobStat>, Error> {
        let path = self.blob_path(digest);
        let Some(meta) = unless_absent(fs::symlink_metadata(&path)).doing("look at blob", &path)? else {
            return Ok(None);
        };
        let time = FileTime::modified(&meta);
        let right = meta.is_file() && meta.len() == size && time.nanos() == 0 && {
            inode_memo::recall(&path, &meta) == Remembered::Trusted(*digest)
                || self.verify_anew(digest, &meta)?
        };
        if !right {
            self.drop_damaged(digest)?;
            return Ok(None);
        }
        // Setting the permissions that it has moves its ctime, the clock of the period of grace.
        match unless_absent(fs::set_permissions(&path, meta.permissions())) {
            Ok(Some(())) => Ok(Some(BlobStat { size, mtime_s: time.seconds() })),
            Ok(None) => Ok(None),
            Err(error) => Err(Error::new("renew blob", path, error)),
        }
    }

    /// A file in the making that shares what it can with `file`.
    fn link_tmp(&self, file: &Path, meta: &Metadata) -> Result<(TmpFile, File), Error> {
        let source = File::open(file).doing("open", file)?;
        let path = self.tmp_path();
        if let Some(cloned) = self.with_tmp_dir(|| reflink(&source, meta, &path, 0o600))? {
            require_unchanged(file, meta, &source.metadata().doing("look at", file)?)?;
            return Ok(cloned);
        }
        if foreign_owner(&path).doing("look at", &path)?.is_some() {
            // The file stays root's, the blob becomes its owner's.
            return self.clone_tmp(file, meta);
        }
        match fs::hard_link(file, &path) {
            Ok(()) => {}
            Err(error) if is_link_refused(&error) => return self.clone_tmp(file, meta),
            Err(error) => return Err(Error::new("link into the store", file, error)),
        }
        let tmp = TmpFile::at(path);
        let open = File::open(tmp.path()).doing("open", tmp.path())?;
        require_unchanged(file, meta, &open.metadata().doing("look at", tmp.path())?)?;
        Ok((tmp, open))
    }

    fn clone_tmp(&self, file: &Path, meta: &Metadata) -> Result<(TmpFile, File), Error> {
        let source = File::open(file).doing("open", file)?;
        let path = self.tmp_path();
        let cloned = self.with_tmp_dir(|| match reflink(&source, meta, &path, 0o600)? {
            Some(cloned) => Ok(cloned),
            None => {
                self.require_room(meta.len(), file)?;
                copy(&source, meta, &path, 0o600)
            }
        })?;
        require_unchanged(file, meta, &source.metadata().doing("look at", file)?)?;
        Ok(cloned)
    }

    /// Runs `act`, which makes a temporary file; where somebody removed their folder, makes it and runs `act` again.
    fn with_tmp_dir<T>(&self, mut act: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
        match act() {
            Err(error) if error.is_missing() => {
                let dir = self.tmp_dir();
                make_dir_and_above(&dir).doing("create directory", &dir)?;
                act()
            }
            result => result,
        }
    }

    /// Makes a file under a temporary name, whose content has the digest, a blob.
    pub(crate) fn adopt(
        &self,
        tmp: &TmpFile,
        file: &File,
        digest: &Digest,
        stat: BlobStat,
        permission: Permission,
    ) -> Result<Stored, Error> {
        finish(file, tmp.path(), digest, stat.mtime_s, permission)?;
        self.admit(tmp, digest, stat)
    }

    /// Gives a finished file its place among the blobs, unless another process was faster with the same content.
    fn admit(&self, tmp: &TmpFile, digest: &Digest, stat: BlobStat) -> Result<Stored, Error> {
        let path = self.blob_path(digest);
        for _ in 0..ATTEMPTS {
            match with_folder(&path, || link_or_rename(tmp.path(), &path)) {
                Ok(()) => {
                    fault::point(Point::BlobAdmitted);
                    self.new_bytes.fetch_add(stat.size, Ordering::Relaxed);
                    return Ok(Stored::New(stat));
                }
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                    if let Some(known) = self.known_blob(digest, stat.size)? {
                        return Ok(Stored::Known(known));
                    }
                }
                Err(error) => return Err(Error::new("store blob", path, error)),
            }
        }
        Err(Error::new("store blob", path, Errno::AGAIN))
    }
}

/// Permissions, mtime and memo of a blob, before it is visible.
fn finish(
    file: &File,
    path: &Path,
    digest: &Digest,
    mtime_s: i64,
    permission: Permission,
) -> Result<(), Error> {
    inherit_owner(file, path).doing("set the owner of", path)?;
    let mode = Permissions::from_mode(permission.blob_mode());
    file.set_permissions(mode).doing("set permissions of", path)?;
    set_mtime(file, mtime_s).doing("set the time of", path)?;
    let meta = file.metadata().doing("look at", path)?;
    // Where attributes are missing, digests of blobs are merely found more slowly.
    inode_memo::remember(file, &meta, digest, Redating::Never);
    Ok(())
}

/// Gives a file a name that must be free. The file may keep its temporary name.
fn link_or_rename(tmp: &Path, dest: &Path) -> std::io::Result<()> {
    match fs::hard_link(tmp, dest) {
        // No hard links here, or no more of them for this inode.
        Err(error) if is_link_refused(&error) => rename_new(tmp, dest),
        result => result,
    }
}

#[cfg(any(target_os = "linux", target_vendor = "apple"))]
fn rename_new(tmp: &Path, dest: &Path) -> std::io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, tmp, CWD, dest, RenameFlags::NOREPLACE)?)
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn rename_new(tmp: &Path, dest: &Path) -> std::io::Result<()> {
    fs::rename(tmp, dest)
}

#[cfg(test)]
#[path = "blobs_tests.rs"]
mod tests;
