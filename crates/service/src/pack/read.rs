//! Reads a pack into the store: contents become blobs one by one as their digests prove right, the entry becomes
//! visible last. Whatever is odd about a pack ends the reading; blobs that came before are swept like any others that
//! nothing needs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufReader, Read};

use kache_core::digest::Digest;
use kache_core::entry::{ENTRY_BYTES_MAX, Entry, Evidence};
use kache_core::key::EntryKey;
use kache_core::plan;
use kache_core::provenance::Provenance;
use kache_core::remote::manifest::Manifest;
use kache_core::remote::member::Member;
use kache_core::remote::origin;
use kache_core::remote::records;
use kache_store::Store;
use kache_store::blobs::{Stored, TEXT_MTIME_S};
use kache_store::clock::boot_id;
use kache_store::fault::{self, Point};
use kache_store::link::Permission;

use super::write::digest_of;
use super::{CHUNK_BYTES, EVIDENCE_BYTES_MAX, UnpackError, WINDOW_LOG_MAX};

/// What taking in a pack brought.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Bytes that the store didn't have.
    pub new_bytes: u64,
}

#[derive(Debug, Clone)]
pub struct Note<'a> {
    /// The build that it is fetched for before that asks for it, else empty.
    pub session: &'a str,
    pub provenance: Provenance,
}

type Tar<'a> = tar::Archive<Capped<zstd::Decoder<'a, BufReader<File>>>>;

/// Takes in the entry that `manifest` describes from the pack in `file`, and publishes it with its input record.
/// `note` is what the entry says of how it came here.
///
/// # Errors
/// When the pack is not what the manifest says, or anything else than an honest pack. Nothing is then visible that
/// wasn't before.
pub fn unpack(
    store: &Store,
    manifest: &Manifest,
    file: File,
    note: &Note<'_>,
) -> Result<Unpacked, UnpackError> {
    let mut archive = opened(manifest, file)?;
    let mut members = archive.entries().map_err(refused("is no tar stream"))?.raw(true);
    let (mut entry, mut evidence) = story(&mut members, manifest)?;
    note.session.clone_into(&mut entry.prefetched_for);
    entry.provenance = note.provenance.clone();
    evidence.record.provenance = note.provenance.clone();
    let wanted = Wanted::of(&entry);
    let mut taken = Taken::default();
    for blob in &manifest.blobs {
        let content = next(&mut members, Member::Blob(blob.digest), blob.size)?;
        taken.take(store, content, blob.digest, blob.size, &wanted)?;
    }
    if members.next().is_some() {
        return Err(UnpackError::Refused("holds more than its manifest says".to_owned()));
    }
    // The stream's own checksum is at its end, behind the last member.
    std::io::copy(&mut archive.into_inner(), &mut std::io::sink()).map_err(refused("is damaged"))?;
    publish(store, &manifest.key, entry, evidence, &taken)?;
    Ok(Unpacked { new_bytes: taken.new_bytes })
}

/// The entry in the pack that `manifest` describes, checked as when it is taken in, but for its contents: these have the
/// digests that the entry names, or are refused when they are taken in.
pub fn entry_of(manifest: &Manifest, file: File) -> Result<Entry, UnpackError> {
    let mut archive = opened(manifest, file)?;
    let mut members = archive.entries().map_err(refused("is no tar stream"))?.raw(true);
    Ok(story(&mut members, manifest)?.0)
}

/// The tar stream in a file that is the pack of `manifest`.
fn opened(manifest: &Manifest, file: File) -> Result<Tar<'static>, UnpackError> {
    let again = file.try_clone().map_err(refused("can't be read"))?;
    let (digest, size) = digest_of(again).map_err(refused("can't be read"))?;
    if size != manifest.pack.size || digest != manifest.pack.digest {
        let why = if size == manifest.pack.size {
            "was damaged or changed after it was written: its digest is not the manifest's".to_owned()
        } else {
            format!(
                "is not the one that its manifest describes ({size} bytes, {} expected)",
                manifest.pack.size
            )
        };
        return Err(UnpackError::Refused(why));
    }
    rewind(&file)?;
    open(file, manifest.pack.unpacked_size)
}

type Members<'a> = tar::Entries<'a, Capped<zstd::Decoder<'static, BufReader<File>>>>;

fn next<'a>(members: &mut Members<'a>, expected: Member, bytes_max: u64) -> Result<Content<'a>, UnpackError> {
    let found = members.next().ok_or_else(|| UnpackError::Refused(format!("ends before {expected}")))?;
    check_member(found.map_err(refused("is damaged"))?, expected, bytes_max)
}

/// The first two members: the entry and what made its key.
fn story(members: &mut Members<'_>, manifest: &Manifest) -> Result<(Entry, Evidence), UnpackError> {
    let bytes = read_all(next(members, Member::Entry, ENTRY_BYTES_MAX)?)?;
    let entry = Entry::decode(&bytes).map_err(refused("has no usable entry"))?;
    let bytes = read_all(next(members, Member::Evidence, EVIDENCE_BYTES_MAX)?)?;
    let evidence: Evidence = serde_json::from_slice(&bytes).map_err(refused("has no usable evidence"))?;
    check_story(manifest, &entry, &evidence)?;
    if !records::is_acceptable(&evidence.record) {
        return Err(UnpackError::Refused("names inputs that no compile reads".to_owned()));
    }
    Ok((entry, evidence))
}

fn refused<E: std::fmt::Display>(what: &'static str) -> impl Fn(E) -> UnpackError {
    move |error| UnpackError::Refused(format!("{what}: {error}"))
}

fn rewind(mut file: &File) -> Result<(), UnpackError> {
    std::io::Seek::rewind(&mut file).map_err(refused("can't be read"))
}

fn open(file: File, unpacked_size: u64) -> Result<Tar<'static>, UnpackError> {
    let reader = BufReader::with_capacity(CHUNK_BYTES, file);
    let mut decoder = zstd::Decoder::with_buffer(reader).map_err(refused("can't be decompressed"))?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(refused("can't be decompressed"))?;
    Ok(tar::Archive::new(Capped { inner: decoder, left: unpacked_size }))
}

/// Lets as much through as was announced; more is an error, not an end.
struct Capped<R> {
    inner: R,
    left: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, bytes: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(bytes)?;
        self.left = self
            .left
            .checked_sub(count as u64)
            .ok_or_else(|| std::io::Error::other("it unpacks to more than its manifest says"))?;
        Ok(count)
    }
}

type Content<'a> = tar::Entry<'a, Capped<zstd::Decoder<'static, BufReader<File>>>>;

/// A regular file with the expected name and no more than `bytes_max` bytes.
fn check_member(found: Content<'_>, expected: Member, bytes_max: u64) -> Result<Content<'_>, UnpackError> {
    if found.header().entry_type() != tar::EntryType::Regular {
        return Err(UnpackError::Refused("holds something that is not a regular file".to_owned()));
    }
    if Member::parse(&found.path_bytes()) != Some(expected) {
        return Err(UnpackError::Refused(format!("holds another file where {expected} belongs")));
    }
    if found.size() > bytes_max {
        return Err(UnpackError::Refused(format!("holds {} bytes as {expected}", found.size())));
    }
    Ok(found)
}

fn read_all(mut content: Content<'_>) -> Result<Vec<u8>, UnpackError> {
    let size = content.size();
    let mut bytes = Vec::new();
    content.read_to_end(&mut bytes).map_err(refused("is damaged"))?;
    if bytes.len() as u64 == size { Ok(bytes) } else { Err(refused("is damaged")("a member is cut off")) }
}

/// Checks that manifest, entry and evidence are about the same thing.
fn check_story(manifest: &Manifest, entry: &Entry, evidence: &Evidence) -> Result<(), UnpackError> {
    origin::check(&manifest.key, entry, evidence)?;
    let differs = |what: &str| Err(UnpackError::Refused(format!("and its manifest disagree about {what}")));
    if entry.unit != manifest.unit_key
        || entry.crate_name != manifest.crate_name
        || entry.package != manifest.package
        || entry.package_version != manifest.package_version
    {
        return differs("what was compiled");
    }
    let mut seen = BTreeSet::new();
    let needed = entry.blobs().filter(|digest| seen.insert(*digest));
    if !needed.eq(manifest.blobs.iter().map(|blob| blob.digest)) {
        return differs("its contents");
    }
    let sizes: BTreeMap<_, _> = manifest.blobs.iter().map(|blob| (blob.digest, blob.size)).collect();
    if entry.outputs.iter().any(|output| sizes.get(&output.digest) != Some(&output.size)) {
        return differs("sizes");
    }
    let times = entry.outputs.iter().map(|output| output.mtime_s);
    if times.into_iter().any(|mtime_s| mtime_s != TEXT_MTIME_S && !plan::is_canonical(mtime_s)) {
        return Err(UnpackError::Refused("dates a file as no store does".to_owned()));
    }
    Ok(())
}

/// How each content is to be kept: outputs with their time and permission, texts plainly.
struct Wanted(BTreeMap<Digest, (i64, Permission)>);

impl Wanted {
    fn of(entry: &Entry) -> Self {
        let outputs = entry.outputs.iter().rev();
        let kept = |output: &kache_core::entry::Output| {
            (output.digest, (output.mtime_s, Permission::executable(output.executable)))
        };
        Self(outputs.map(kept).collect())
    }

    fn get(&self, digest: &Digest) -> (i64, Permission) {
        self.0.get(digest).copied().unwrap_or((TEXT_MTIME_S, Permission::Plain))
    }
}

/// What the store has by now.
#[derive(Default)]
struct Taken {
    mtimes: BTreeMap<Digest, i64>,
    new_bytes: u64,
}

impl Taken {
    fn take(
        &mut self,
        store: &Store,
        mut content: Content<'_>,
        digest: Digest,
        size: u64,
        wanted: &Wanted,
    ) -> Result<(), UnpackError> {
        // A blob that is here already is used as it is: others have its time in their entries.
        if let Some(stat) = store.renew_blob(&digest, size)? {
            self.mtimes.insert(digest, stat.mtime_s);
            return Ok(());
        }
        let (mtime_s, permission) = wanted.get(&digest);
        let mut incoming = store.receive()?;
        let mut bytes = vec![0; CHUNK_BYTES];
        loop {
            let count = content.read(&mut bytes).map_err(refused("is damaged"))?;
            if count == 0 {
                break;
            }
            incoming.write(&bytes[..count])?;
        }
        let stored = incoming.admit(&digest, mtime_s, permission)?;
        let stored =
            stored.ok_or_else(|| UnpackError::Refused(format!("holds other bytes as {}", digest.short())))?;
        if let Stored::New(stat) = stored {
            self.new_bytes += stat.size;
        }
        self.mtimes.insert(digest, stored.stat().mtime_s);
        Ok(())
    }
}

fn publish(
    store: &Store,
    key: &EntryKey,
    mut entry: Entry,
    mut evidence: Evidence,
    taken: &Taken,
) -> Result<(), UnpackError> {
    for output in &mut entry.outputs {
        output.mtime_s = taken.mtimes.get(&output.digest).copied().unwrap_or(output.mtime_s);
    }
    entry.boot = boot_id();
    evidence.record.last = None;
    fault::point(Point::PackUnpacked);
    store.publish(key, &entry, &evidence)?;
    fault::point(Point::PackPublished);
    let mut set = kache_core::record::RecordSet::default();
    let last = Some(*key);
    set.add(kache_core::record::InputRecord { last, ..evidence.record });
    store.merge_records(&entry.unit, &set)?;
    Ok(())
}
