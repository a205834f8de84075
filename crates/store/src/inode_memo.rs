//! A digest remembered on the inode it belongs to, in an extended attribute. Does not decide which inodes deserve
//! one: only those that kache itself put there.
//!
//! ```text
//! user.kache.digest = version:u8(1) digest:32 stamp:12 boot:8
//!                   | version:u8(2) digest:32 mtime_ns:i64 stamp:4 boot:8
//! stamp = BLAKE3("size,mtime_s,mtime_ns,inode,birth_ns" as little-endian u64, i64, u32, u64, u128)[..12]
//!         in version 2 without the mtime, [..4]
//! boot  = BLAKE3(boot id)[..8]
//! ```
//! Version 2 is for files that Cargo dates back after they were put into place: an mtime before the recorded one is as
//! good, because whoever writes to a file raises its mtime.
//!
//! 53 bytes, because ext4 keeps about 60 inside the inode and takes a whole block for more. It is trusted only while
//! size and mtime match exactly, on the same inode (a copy made with attributes is another one, also where it gets the
//! number of one that is gone: its time of birth differs, which nobody can set), and under the boot that wrote it: after a power cut, size and mtime may have survived where the content did not.

use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::digest::Digest;

use crate::clock::boot_id;

const VERSION: u8 = 1;
const VERSION_REDATED: u8 = 2;
const STAMP_BYTES: usize = 12;
const BOOT_BYTES: usize = 8;
const VALUE_BYTES: usize = 1 + 32 + STAMP_BYTES + BOOT_BYTES;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remembered {
    Nothing,
    Trusted(Digest),
    /// This was the content before the machine was started again, and nothing speaks against it.
    EarlierBoot(Digest),
}

/// Whether a file's mtime is going to be set back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redating {
    Never,
    /// Cargo may set it to the start of its run.
    Expected,
}

/// Reads the memo of the file at `path`, whose metadata is `meta`.
pub(crate) fn recall(path: &Path, meta: &Metadata) -> Remembered {
    recall_under(&boot_id(), path, meta)
}

fn recall_under(boot: &str, path: &Path, meta: &Metadata) -> Remembered {
    // Unsupported, absent, or longer than ours and so of another version: all mean that there is no memo.
    attribute::get(path).map_or(Remembered::Nothing, |value| judge(&value, meta, &boot_mark(boot)))
}

fn judge(value: &[u8], meta: &Metadata, boot: &[u8; BOOT_BYTES]) -> Remembered {
    let Ok(value) = <&[u8; VALUE_BYTES]>::try_from(value) else { return Remembered::Nothing };
    let (head, written_under) = value.split_at(VALUE_BYTES - BOOT_BYTES);
    let Ok(digest) = <[u8; 32]>::try_from(&head[1..33]) else { return Remembered::Nothing };
    let holds = match head[0] {
        VERSION => head[33..] == stamp(meta),
        VERSION_REDATED => <[u8; 8]>::try_from(&head[33..41]).is_ok_and(|ns| {
            mtime_ns(meta) <= i64::from_le_bytes(ns) && head[41..] == stamp_without_time(meta)
        }),
        _ => false,
    };
    if !holds || birth_ns(meta).is_none() {
        return Remembered::Nothing;
    }
    let digest = Digest::from_bytes(digest);
    if written_under == boot { Remembered::Trusted(digest) } else { Remembered::EarlierBoot(digest) }
}

/// Writes the memo. The file's size and mtime must be final. Returns whether the file system took it.
pub(crate) fn remember(file: &File, meta: &Metadata, digest: &Digest, redating: Redating) -> bool {
    remember_under(&boot_id(), file, meta, digest, redating)
}

pub(crate) fn remember_under(
    boot: &str,
    file: &File,
    meta: &Metadata,
    digest: &Digest,
    redating: Redating,
) -> bool {
    if birth_ns(meta).is_none() {
        return false;
    }
    let mut value = encode(meta, digest, &boot_mark(boot));
    if redating == Redating::Expected {
        value[0] = VERSION_REDATED;
        value[33..41].copy_from_slice(&mtime_ns(meta).to_le_bytes());
        value[41..VALUE_BYTES - BOOT_BYTES].copy_from_slice(&stamp_without_time(meta));
    }
    attribute::set(file, &value)
}

fn encode(meta: &Metadata, digest: &Digest, boot: &[u8; BOOT_BYTES]) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[0] = VERSION;
    value[1..33].copy_from_slice(digest.as_bytes());
    value[33..33 + STAMP_BYTES].copy_from_slice(&stamp(meta));
    value[33 + STAMP_BYTES..].copy_from_slice(boot);
    value
}

/// Removes a memo that turned out wrong. Where that fails, the boot in it still keeps it from being trusted.
pub(crate) fn forget(path: &Path) {
    attribute::remove(path);
}

fn stamp(meta: &Metadata) -> [u8; STAMP_BYTES] {
    let mut bytes = Vec::with_capacity(44);
    bytes.extend_from_slice(&meta.size().to_le_bytes());
    bytes.extend_from_slice(&meta.mtime().to_le_bytes());
    bytes.extend_from_slice(&u32::try_from(meta.mtime_nsec()).unwrap_or(u32::MAX).to_le_bytes());
    bytes.extend_from_slice(&meta.ino().to_le_bytes());
    bytes.extend_from_slice(&birth_ns(meta).unwrap_or(0).to_le_bytes());
    first_bytes(&bytes)
}

/// When the inode came to be; `None` where the file system doesn't say, and then nothing is remembered.
fn birth_ns(meta: &Metadata) -> Option<u128> {
    Some(meta.created().ok()?.duration_since(std::time::UNIX_EPOCH).ok()?.as_nanos())
}

fn mtime_ns(meta: &Metadata) -> i64 {
    meta.mtime().saturating_mul(1_000_000_000).saturating_add(meta.mtime_nsec())
}

fn stamp_without_time(meta: &Metadata) -> [u8; 4] {
    let birth = birth_ns(meta).unwrap_or(0).to_le_bytes();
    first_bytes(&[&meta.size().to_le_bytes()[..], &meta.ino().to_le_bytes(), &birth].concat())
}

fn boot_mark(boot: &str) -> [u8; BOOT_BYTES] {
    first_bytes(boot.as_bytes())
}

fn first_bytes<const N: usize>(bytes: &[u8]) -> [u8; N] {
    let mut first = [0; N];
    first.copy_from_slice(&Digest::of(bytes).as_bytes()[..N]);
    first
}

/// The attribute itself, on systems that have the calls.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
mod attribute {
    use std::fs::File;
    use std::path::Path;

    use rustix::fs::{XattrFlags, fsetxattr, getxattr, removexattr};

    const NAME: &str = "user.kache.digest";

    pub(super) fn get(path: &Path) -> Option<Vec<u8>> {
        let mut value = Vec::with_capacity(super::VALUE_BYTES);
        getxattr(path, NAME, rustix::buffer::spare_capacity(&mut value)).ok()?;
        Some(value)
    }

    pub(super) fn set(file: &File, value: &[u8]) -> bool {
        fsetxattr(file, NAME, value, XattrFlags::empty()).is_ok()
    }

    pub(super) fn remove(path: &Path) {
        let _ = removexattr(path, NAME);
    }
}

/// Elsewhere nothing is remembered on inodes.
#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
mod attribute {
    use std::fs::File;
    use std::path::Path;

    pub(super) fn get(_: &Path) -> Option<Vec<u8>> {
        None
    }

    pub(super) fn set(_: &File, _: &[u8]) -> bool {
        false
    }

    pub(super) fn remove(_: &Path) {}
}

/// Copies the memo as it is, as `cp --preserve=xattr` does.
#[cfg(test)]
pub(crate) fn copy_raw(from: &Path, to: &Path) {
    if let Some(value) = attribute::get(from) {
        assert!(attribute::set(&File::open(to).expect("open"), &value), "same file system");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memo_is_trusted_only_as_it_was_written() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        std::fs::write(&path, "content").expect("write");
        let meta = std::fs::metadata(&path).expect("stat");
        let digest = Digest::of(b"content");
        let boot = boot_mark("this boot");
        let good = encode(&meta, &digest, &boot);
        assert_eq!(judge(&good, &meta, &boot), Remembered::Trusted(digest));
        assert_eq!(judge(&good, &meta, &boot_mark("another")), Remembered::EarlierBoot(digest));
        assert_eq!(judge(&good[1..], &meta, &boot), Remembered::Nothing);
        assert_eq!(judge(b"", &meta, &boot), Remembered::Nothing);
        for at in [0, 33, VALUE_BYTES - BOOT_BYTES - 1] {
            let mut bad = good;
            bad[at] ^= 1;
            assert_eq!(judge(&bad, &meta, &boot), Remembered::Nothing, "byte {at}");
        }
        let set_mtime = |seconds: u64| {
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            let file = File::options().write(true).open(&path).expect("open");
            file.set_modified(time).expect("utimes");
            (std::fs::metadata(&path).expect("stat"), file)
        };
        let (dated, file) = set_mtime(1_000_000);
        assert!(remember_under("this boot", &file, &dated, &digest, Redating::Expected));
        for (seconds, trusted) in [(1_000_000, true), (999_999, true), (1_000_001, false)] {
            let (now, _) = set_mtime(seconds);
            assert_eq!(
                recall_under("this boot", &path, &now) == Remembered::Trusted(digest),
                trusted,
                "{seconds}"
            );
        }
        let copy = dir.path().join("copy");
        std::fs::copy(&path, &copy).expect("copy");
        let file = File::options().write(true).open(&copy).expect("open");
        file.set_modified(meta.modified().expect("mtime")).expect("utimes");
        let copied = std::fs::metadata(&copy).expect("stat");
        assert_eq!((copied.size(), copied.mtime_nsec()), (meta.size(), meta.mtime_nsec()));
        assert_eq!(judge(&good, &copied, &boot), Remembered::Nothing, "another inode");
    }

    #[test]
    fn an_inode_number_that_is_used_again_is_another_inode() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("f");
        let put = |content: &str| {
            // Removed first, so that the file system may give the number to the next file.
            drop(std::fs::remove_file(&path));
            std::fs::write(&path, content).expect("write");
            let file = File::options().write(true).open(&path).expect("open");
            file.set_modified(std::time::UNIX_EPOCH).expect("utimes");
            std::fs::metadata(&path).expect("stat")
        };
        for _ in 0..20 {
            let before = put("one");
            let memo = encode(&before, &Digest::of(b"one"), &boot_mark("b"));
            let after = put("two");
            assert_eq!(judge(&memo, &after, &boot_mark("b")), Remembered::Nothing);
        }
    }
}
