//! Whether an output's blob is what its entry recorded, and what puts an intact one right: its content decides, times and
//! permissions may have changed on the way of a store from one place to another. Drops nothing.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use kache_core::digest::Digest;
use kache_core::entry::Output;

use crate::blobs::BlobState;
use crate::clock::{FileTime, set_mtime};
use crate::error::{Doing, Error, unless_absent};
use crate::files::require_unchanged;
use crate::hashing::hash_file;
use crate::inode_memo::{self, Redating};
use crate::layout::Store;
use crate::link::Permission;

impl Store {
    /// Whether the blob of an output is there as the entry recorded it. Looks at size and mtime, not at the content.
    pub fn check_blob(&self, output: &Output) -> Result<BlobState, Error> {
        let path = self.blob_path(&output.digest);
        let Some(meta) = unless_absent(fs::symlink_metadata(&path)).doing("look at blob", &path)? else {
            return Ok(BlobState::Missing);
        };
        if !meta.is_file() || meta.len() != output.size {
            return Ok(BlobState::Altered);
        }
        let mode = meta.mode() & 0o7777;
        // A mode that somebody gave to a linked library stays there: such a blob is copied, see `place`. Cargo runs a build
        // script, in every target directory that has the link.
        let is_mode_ours = meta.nlink() == 1 || mode & 0o400 == 0 || output.executable;
        Ok(match FileTime::modified(&meta) == FileTime::from_parts(output.mtime_s, 0) {
            false => BlobState::Redated,
            true if is_mode_ours && mode != Permission::executable(output.executable).blob_mode() => {
                BlobState::OtherMode
            }
            true => BlobState::Present,
        })
    }

    /// Gives an output's blob the permissions of a blob.
    pub fn put_mode_back(&self, output: &Output) -> Result<(), Error> {
        let path = self.blob_path(&output.digest);
        let mode = Permission::executable(output.executable).blob_mode();
        fs::set_permissions(&path, Permissions::from_mode(mode)).doing("set permissions of", &path)
    }

    /// Whether an output's blob has the right content; reads all of it. One that has gets the mtime that the entry
    /// recorded, so that the next check need not read it.
    pub fn acquit(&self, output: &Output) -> Result<bool, Error> {
        let path = self.blob_path(&output.digest);
        let Some(before) = unless_absent(fs::symlink_metadata(&path)).doing("look at blob", &path)? else {
            return Ok(false);
        };
        if before.nlink() == 1 {
            self.put_mode_back(output)?;
        }
        if !self.verify_blob(&output.digest)? {
            return Ok(false);
        }
        let file = File::open(&path).doing("open", &path)?;
        let meta = file.metadata().doing("look at blob", &path)?;
        require_unchanged(&path, &before, &meta)?;
        if FileTime::modified(&meta) != FileTime::from_parts(output.mtime_s, 0) {
            set_mtime(&file, output.mtime_s).doing("set the time of", &path)?;
            let dated = file.metadata().doing("look at blob", &path)?;
            inode_memo::remember(&file, &dated, &output.digest, Redating::Never);
        }
        Ok(true)
    }

    /// Whether the blob is there and its content has the digest; reads all of it.
    pub fn verify_blob(&self, digest: &Digest) -> Result<bool, Error> {
        match hash_file(&self.blob_path(digest)) {
            Ok(hashed) => Ok(hashed.digest == *digest),
            Err(error) if error.is_missing() => Ok(false),
            Err(error) => Err(error),
        }
    }
}
