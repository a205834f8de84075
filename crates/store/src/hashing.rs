//! Digests of files: read and hashed, or remembered from the last time where that can't be wrong. Does not know what
//! the files mean to a compile.
//!
//! Where a digest is remembered:
//!
//! | file | memo | trusted while |
//! | --- | --- | --- |
//! | shorter than [`MEMO_BYTES_MIN`] | none | – |
//! | put there by kache: a blob, its hard links, a remembered copy | on the inode, see `inode_memo` | size, mtime, inode and boot match |
//! | any other, and all where attributes are missing | `memo/digests/`, by device, inode, size, mtime, ctime | that names the file |
//!
//! A file whose mtime or ctime is less than [`SETTLED_S`] seconds old isn't remembered: it could change again without
//! its stamps changing.

use std::fs::{File, Metadata, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use kache_core::digest::Digest;
use rustix::io::Errno;

use crate::clock::FileTime;
use crate::error::{Doing, Error};
use crate::inode_memo::{self, Redating, Remembered};
use crate::layout::Store;

/// Shorter files are hashed every time, in bytes.
pub const MEMO_BYTES_MIN: u64 = 64 << 10;

/// A stamp younger than this is not believed to be final, in seconds.
pub const SETTLED_S: i64 = 2;

const SIDECAR: &str = "digests";

/// Bytes hashed at a time: enough for BLAKE3 to use all lanes, small enough for the second-level cache.
const CHUNK_BYTES: usize = 256 << 10;

/// A digest and the length of what was hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hashed {
    pub digest: Digest,
    /// Length, in bytes.
    pub size: u64,
}

/// Hashes a file, always reading it.
pub fn hash_file(path: &Path) -> Result<Hashed, Error> {
    let (file, meta) = open_regular(path)?;
    hash_open(&file, &meta).doing("read", path)
}

/// Opens a file without waiting for what is not one.
fn open_regular(path: &Path) -> Result<(File, Metadata), Error> {
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = OpenOptions::new().read(true).custom_flags(nonblock).open(path).doing("open", path)?;
    let meta = file.metadata().doing("look at", path)?;
    require_regular(path, &meta)?;
    Ok((file, meta))
}

fn require_regular(path: &Path, meta: &Metadata) -> Result<(), Error> {
    if meta.is_dir() {
        return Err(Error::new("hash", path, Errno::ISDIR));
    }
    if !meta.is_file() {
        return Err(Error::new("hash", path, Errno::INVAL));
    }
    Ok(())
}

fn hash_open(mut file: &File, meta: &Metadata) -> std::io::Result<Hashed> {
    let expected = usize::try_from(meta.len()).unwrap_or(usize::MAX);
    let mut chunk = vec![0; expected.saturating_add(1).min(CHUNK_BYTES)];
    let mut hasher = blake3::Hasher::new();
    let mut size = 0;
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&chunk[..n]);
                size += n as u64;
                // The buffer had room for more: this was the end.
                if size == meta.len() && n < chunk.len() {
                    break;
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Hashed { digest: Digest::from_bytes(*hasher.finalize().as_bytes()), size })
}

/// Hashes content that is read piece by piece.
#[derive(Debug, Default)]
pub struct Hasher(blake3::Hasher);

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new() -> Self {
        Self::default()
    }

    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        Digest::from_bytes(*self.0.finalize().as_bytes())
    }
}

/// Whether a digest was put down for later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blessing {
    Remembered,
    /// The file is too young, changed meanwhile, or its file system has no attributes.
    Refused,
}

/// Digests of files, remembered where possible. Memos that can't be read or written cost time and nothing else.
#[derive(Debug, Clone, Copy)]
pub struct DigestMemo<'a> {
    store: &'a Store,
}

impl<'a> DigestMemo<'a> {
    /// Remembers in (and on files of) this store.
    pub fn new(store: &'a Store) -> Self {
        Self { store }
    }

    /// Digest of a file's content; `None` where nothing has that name.
    pub fn digest(&self, path: &Path) -> Result<Option<Digest>, Error> {
        let (file, meta) = match open_regular(path) {
            Err(error) if error.is_missing() => return Ok(None),
            result => result?,
        };
        if meta.len() < MEMO_BYTES_MIN {
            return Ok(Some(hash_open(&file, &meta).doing("read", path)?.digest));
        }
        match inode_memo::recall(path, &meta) {
            Remembered::Trusted(digest) => Ok(Some(digest)),
            Remembered::EarlierBoot(digest) => self.confirm(path, (&file, &meta), &digest).map(Some),
            Remembered::Nothing => self.sidecar(path, (&file, &meta)).map(Some),
        }
    }

    /// How many bytes asking for the digest would read now; none where it is remembered, or there is no file.
    pub fn unread_bytes(&self, path: &Path) -> u64 {
        let Ok(meta) = std::fs::metadata(path) else { return 0 };
        let is_known = || match inode_memo::recall(path, &meta) {
            Remembered::Trusted(_) => true,
            Remembered::EarlierBoot(_) => false,
            Remembered::Nothing => self.store.memo_get(SIDECAR, &sidecar_key(&meta)).is_some(),
        };
        let is_free = !meta.is_file() || (meta.len() >= MEMO_BYTES_MIN && is_known());
        if is_free { 0 } else { meta.len() }
    }

    /// Puts down the digest of a file that kache made or took over, on its inode. Refused for a file so young that it
    /// could still change under the same mtime.
    pub fn remember(&self, path: &Path, digest: &Digest) -> Result<Blessing, Error> {
        let (file, meta) = open_regular(path)?;
        let settled = FileTime::modified(&meta).age_s(FileTime::now_coarse()) >= SETTLED_S;
        let remembered = settled && inode_memo::remember(&file, &meta, digest, Redating::Never);
        Ok(if remembered { Blessing::Remembered } else { Blessing::Refused })
    }

    /// Puts down the digest of an output whose compiler has ended, on its inode; `size` is the length of what was
    /// hashed. For metadata of `check` units, which Cargo dates back afterwards.
    pub fn note_redated(&self, path: &Path, digest: &Digest, size: u64) -> Result<Blessing, Error> {
        let (file, meta) = open_regular(path)?;
        let remembered = meta.len() == size && inode_memo::remember(&file, &meta, digest, Redating::Expected);
        Ok(if remembered { Blessing::Remembered } else { Blessing::Refused })
    }

    /// A memo of an earlier boot: after a power cut its file may be torn, so it is read once more.
    fn confirm(&self, path: &Path, open: (&File, &Metadata), remembered: &Digest) -> Result<Digest, Error> {
        let (file, before) = open;
        let hashed = hash_open(file, before).doing("read", path)?;
        if hashed.digest != *remembered {
            inode_memo::forget(path);
        } else if is_same(before, &file.metadata().doing("look at", path)?) {
            inode_memo::remember(file, before, remembered, Redating::Never);
        }
        Ok(hashed.digest)
    }

    fn sidecar(&self, path: &Path, open: (&File, &Metadata)) -> Result<Digest, Error> {
        let (file, before) = open;
        let key = sidecar_key(before);
        // The stamps must have been final when the memo was made, so they are whenever they still match.
        if let Some(value) = self.store.memo_get(SIDECAR, &key)
            && let Ok(bytes) = <[u8; 32]>::try_from(value.as_slice())
        {
            return Ok(Digest::from_bytes(bytes));
        }
        let now = FileTime::now_coarse();
        let hashed = hash_open(file, before).doing("read", path)?;
        let after = file.metadata().doing("look at", path)?;
        if is_settled(before, now) && is_same(before, &after) {
            // Nothing depends on the memo being there next time.
            let _ = self.store.memo_put(SIDECAR, &key, hashed.digest.as_bytes());
        }
        Ok(hashed.digest)
    }
}

/// Whether stamps seen before a read at `now` are old enough that a later change would show in them.
fn is_settled(meta: &Metadata, now: FileTime) -> bool {
    let newest = FileTime::modified(meta).max(FileTime::changed(meta));
    newest.age_s(now) >= SETTLED_S
}

fn is_same(before: &Metadata, after: &Metadata) -> bool {
    sidecar_key(before) == sidecar_key(after)
}

fn sidecar_key(meta: &Metadata) -> Digest {
    let mut bytes = Vec::with_capacity(64);
    for part in [meta.dev(), meta.ino(), meta.size()] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    for part in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
        bytes.extend_from_slice(&part.to_le_bytes());
    }
    Digest::of(&bytes)
}

#[cfg(test)]
#[path = "hashing_tests.rs"]
mod tests;
