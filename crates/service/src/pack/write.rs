//! Writes a pack into a temporary file of the store.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::key::EntryKey;
use kache_core::provenance::Provenance;
use kache_core::remote::manifest::{Manifest, PACK_BYTES_MAX, Pack, PackedBlob, UNPACKED_BYTES_MAX};
use kache_core::remote::member::Member;
use kache_store::Store;
use kache_store::hashing::Hasher;
use kache_store::incoming::Scratch;

use super::{CHUNK_BYTES, EVIDENCE_BYTES_MAX, PackError};

/// From this level on the window is fixed, because the level's own would need hundreds of MiB.
const HIGH_LEVEL: i32 = 10;
/// That window, as a power of two of bytes.
const HIGH_LEVEL_WINDOW_LOG: u32 = 21;

/// A pack in a temporary file, and the manifest that belongs to it.
#[derive(Debug)]
pub struct Packed {
    pub scratch: Scratch,
    /// What it holds, not signed.
    pub manifest: Manifest,
}

/// Packs an entry with zstd at `level`.
pub fn pack(
    store: &Store,
    key: &EntryKey,
    entry: &Entry,
    evidence: &Evidence,
    level: i32,
) -> Result<Packed, PackError> {
    let mut sent = entry.clone();
    sent.boot.clear();
    sent.provenance = Provenance::Unknown;
    let shown = evidence.clone().for_others();
    let texts = (sent.encode(), serde_json::to_vec(&shown).unwrap_or_default());
    if texts.1.len() as u64 > EVIDENCE_BYTES_MAX {
        return Err(PackError::TooLarge(*key));
    }
    let blobs = blobs(store, key, entry)?;
    let total_bytes: u64 = blobs.iter().map(|blob| blob.size).sum();
    if total_bytes > UNPACKED_BYTES_MAX / 2 {
        return Err(PackError::TooLarge(*key));
    }
    let scratch = store.scratch()?;
    let mut tar = tar::Builder::new(Counted::new(encoder(scratch.file(), level)?));
    append(&mut tar, Member::Entry, texts.0.len() as u64, texts.0.as_slice())?;
    append(&mut tar, Member::Evidence, texts.1.len() as u64, texts.1.as_slice())?;
    for blob in &blobs {
        let path = store.blob_path(&blob.digest);
        let file = File::open(&path).map_err(|error| unreadable(key, &path, error))?;
        let mut reader = Hashed { inner: file.take(blob.size), hasher: Hasher::new() };
        append(&mut tar, Member::Blob(blob.digest), blob.size, &mut reader)?;
        if reader.hasher.finish() != blob.digest {
            return Err(incomplete(key, &format!("blob {} was altered", blob.digest.short())));
        }
    }
    let Counted { inner, bytes: unpacked_size } = tar.into_inner()?;
    let Hashing { mut inner, hasher, bytes: size } = inner.finish()?;
    inner.flush()?;
    drop(inner);
    let pack = Pack { digest: hasher.finish(), size, unpacked_size };
    if size > PACK_BYTES_MAX {
        return Err(PackError::TooLarge(*key));
    }
    let manifest = Manifest::new(*key, entry, evidence, pack, blobs);
    Ok(Packed { scratch, manifest })
}

fn incomplete(key: &EntryKey, why: &dyn std::fmt::Display) -> PackError {
    PackError::Incomplete(*key, why.to_string())
}

/// A blob that isn't there says something about the entry; any other failure to read one says nothing, and may pass.
fn unreadable(key: &EntryKey, path: &Path, error: io::Error) -> PackError {
    let why = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => incomplete(key, &why),
        kind => PackError::Write(io::Error::new(kind, why)),
    }
}

/// The entry's contents, each once, with the lengths that they have in the store.
fn blobs(store: &Store, key: &EntryKey, entry: &Entry) -> Result<Vec<PackedBlob>, PackError> {
    let mut seen = BTreeSet::new();
    let mut blobs = Vec::new();
    for digest in entry.blobs().filter(|digest| seen.insert(*digest)) {
        let path = store.blob_path(&digest);
        let meta = std::fs::metadata(&path).map_err(|error| unreadable(key, &path, error))?;
        blobs.push(PackedBlob { digest, size: meta.len() });
    }
    Ok(blobs)
}

type Sink<'f> = Hashing<BufWriter<&'f File>>;

fn encoder(file: &File, level: i32) -> io::Result<zstd::Encoder<'static, Sink<'_>>> {
    let sink =
        Hashing { inner: BufWriter::with_capacity(CHUNK_BYTES, file), hasher: Hasher::new(), bytes: 0 };
    let mut encoder = zstd::Encoder::new(sink, level)?;
    if level >= HIGH_LEVEL {
        encoder.window_log(HIGH_LEVEL_WINDOW_LOG)?;
    }
    encoder.include_checksum(true)?;
    Ok(encoder)
}

fn append(
    tar: &mut tar::Builder<impl Write>,
    member: Member,
    size: u64,
    content: impl Read,
) -> io::Result<()> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    tar.append_data(&mut header, member.to_string(), content)
}

/// Counts what is written through it.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W> Counted<W> {
    fn new(inner: W) -> Self {
        Self { inner, bytes: 0 }
    }
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes and counts what is written through it.
struct Hashing<W> {
    inner: W,
    hasher: Hasher,
    bytes: u64,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Hashes what is read through it.
struct Hashed<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }
}

/// The digest of a whole file and its length.
pub(super) fn digest_of(mut file: File) -> io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new();
    let (mut bytes, mut size) = (vec![0; CHUNK_BYTES], 0);
    loop {
        let count = file.read(&mut bytes)?;
        if count == 0 {
            return Ok((hasher.finish(), size));
        }
        hasher.update(&bytes[..count]);
        size += count as u64;
    }
}
