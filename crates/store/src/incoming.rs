//! Contents that come from elsewhere: written under a temporary name, hashed on the way, and made blobs only when they
//! are what they should be. Does not know where they come from.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

use kache_core::digest::Digest;

use crate::blobs::{BlobStat, Stored};
use crate::error::{Doing, Error};
use crate::fault::{self, Point};
use crate::files::TmpFile;
use crate::hashing::Hasher;
use crate::layout::Store;
use crate::link::Permission;

/// A file under a temporary name on the store's file system; removed when dropped.
#[derive(Debug)]
pub struct Scratch {
    tmp: TmpFile,
    file: File,
}

impl Scratch {
    pub fn path(&self) -> &Path {
        self.tmp.path()
    }

    /// The open file, for reading and writing.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// A second, independent position in the file, at its start.
    pub fn reopen(&self) -> Result<File, Error> {
        OpenOptions::new().read(true).open(self.path()).doing("open", self.path())
    }
}

/// A content on its way into the store.
#[derive(Debug)]
pub struct Incoming<'s> {
    store: &'s Store,
    scratch: Scratch,
    hasher: Hasher,
    size: u64,
}

impl Store {
    /// A new empty file for whatever is in the making.
    pub fn scratch(&self) -> Result<Scratch, Error> {
        self.require_room(0, &self.tmp_dir())?;
        let (tmp, file) = self.new_tmp()?;
        Ok(Scratch { tmp, file })
    }

    /// Begins to take in a content.
    pub fn receive(&self) -> Result<Incoming<'_>, Error> {
        Ok(Incoming { store: self, scratch: self.scratch()?, hasher: Hasher::new(), size: 0 })
    }

    /// The blob of a digest, if it is there and certainly right; it counts as new for the sweep's period of grace.
    pub fn renew_blob(&self, digest: &Digest, size: u64) -> Result<Option<BlobStat>, Error> {
        self.known_blob(digest, size)
    }
}

impl Incoming<'_> {
    /// Adds a piece.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.hasher.update(bytes);
        self.size += bytes.len() as u64;
        self.scratch.file.write_all(bytes).doing("write", self.scratch.path())
    }

    /// Makes the content a blob with mtime `mtime_s`, if its digest is the expected one; else `None`, and nothing of
    /// it stays.
    pub fn admit(
        self,
        expected: &Digest,
        mtime_s: i64,
        permission: Permission,
    ) -> Result<Option<Stored>, Error> {
        if self.hasher.finish() != *expected {
            return Ok(None);
        }
        fault::point(Point::BlobReceived);
        let Scratch { tmp, file } = self.scratch;
        let stat = BlobStat { size: self.size, mtime_s };
        self.store.adopt(&tmp, &file, expected, stat, permission).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_expected_content_becomes_a_blob_and_nothing_stays_of_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let digest = Digest::of(b"hello");
        let receive = |pieces: &[&[u8]]| {
            let mut incoming = store.receive().expect("begun");
            for piece in pieces {
                incoming.write(piece).expect("written");
            }
            incoming.admit(&digest, 7, Permission::Plain).expect("no error")
        };
        assert_eq!(receive(&[b"help"]), None);
        assert!(!store.blob_path(&digest).exists());
        let stat = BlobStat { size: 5, mtime_s: 7 };
        assert_eq!(receive(&[b"he", b"llo"]), Some(Stored::New(stat)));
        assert_eq!(receive(&[b"hello"]), Some(Stored::Known(stat)));
        assert_eq!(store.renew_blob(&digest, 5).expect("looked"), Some(stat));
        let left = std::fs::read_dir(store.tmp_dir()).expect("tmp").count();
        assert_eq!(left, 0);
    }
}
