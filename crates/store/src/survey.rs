//! A look at everything in the store, as plain data for the sweep, listings and checks. Changes nothing and decides
//! nothing.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};

use crate::clock::FileTime;
use crate::entries::{EntryFile, EntryStat, read_entry};
use crate::error::Error;
use crate::layout::{Shelf, Store};
use crate::served::gone_compilers;

/// An entry, as the sweep sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedEntry {
    pub key: EntryKey,
    pub content: EntryContent,
    /// Last use, to the minute.
    pub used: FileTime,
    /// Size of the entry file, in bytes.
    pub file_bytes: u64,
    /// Every blob it needs, without repetition.
    pub blobs: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryContent {
    Entry {
        /// `--crate-name`.
        crate_name: String,
        package: String,
        /// The unit that it is a result of.
        unit: UnitKey,
        /// The compiler that made it; `None` where no compiler did, or the entry doesn't say.
        compiler: Option<Digest>,
    },
    /// An entry of a newer kache: every digest in it counts as a blob or unit that it needs.
    Newer,
    Malformed,
}

/// A blob, as the sweep sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SurveyedBlob {
    /// Length, in bytes.
    pub size: u64,
    /// When the inode last changed: when it was stored, found again by a compile, or linked.
    pub changed: FileTime,
    /// Whether a target directory holds the same inode, so that removing the blob frees nothing now.
    pub holding: Holding,
}

/// Who has a blob's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holding {
    StoreOnly,
    /// A hard link somewhere else too.
    Shared,
}

/// A file that isn't a blob or an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SurveyedFile {
    pub path: PathBuf,
    /// Length, in bytes.
    pub size: u64,
    pub changed: FileTime,
}

impl SurveyedFile {
    fn new(path: PathBuf, meta: &Metadata) -> Self {
        Self { path, size: meta.len(), changed: FileTime::changed(meta) }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sizes {
    pub entries: u64,
    pub blobs: u64,
    /// Bytes of all blobs, each counted once.
    pub blob_bytes: u64,
    /// Of these, bytes of blobs that a target directory holds too.
    pub held_bytes: u64,
    /// Bytes of entries, evidence, input records and snapshots.
    pub meta_bytes: u64,
}

impl Sizes {
    /// What counts against the limit, in bytes.
    pub fn counted_bytes(&self) -> u64 {
        self.blob_bytes - self.held_bytes + self.meta_bytes
    }
}

/// Everything in the store at about one time. Entries were listed before blobs, so a blob that an entry needs and
/// the survey lacks was really missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survey {
    pub now: FileTime,
    /// What this user may not look at: folders and entries of another user.
    pub denied: Vec<PathBuf>,
    pub entries: Vec<SurveyedEntry>,
    pub blobs: HashMap<Digest, SurveyedBlob>,
    pub units: Vec<(UnitKey, SurveyedFile)>,
    pub snapshots: Vec<SurveyedFile>,
    pub evidence: Vec<(EntryKey, SurveyedFile)>,
    pub tmp: Vec<SurveyedFile>,
    pub memos: Vec<SurveyedFile>,
    pub served: Vec<SurveyedFile>,
    /// Compilers that are no longer installed.
    pub gone_compilers: BTreeSet<Digest>,
}

impl Survey {
    pub fn sizes(&self) -> Sizes {
        let mut sizes = Sizes { entries: self.entries.len() as u64, ..Sizes::default() };
        for blob in self.blobs.values() {
            sizes.blobs += 1;
            sizes.blob_bytes += blob.size;
            if blob.holding == Holding::Shared {
                sizes.held_bytes += blob.size;
            }
        }
        let files = self.units.iter().map(|(_, file)| file).chain(self.evidence.iter().map(|(_, file)| file));
        let files = files.chain(&self.snapshots);
        let entries = self.entries.iter().map(|entry| entry.file_bytes);
        sizes.meta_bytes = files.map(|file| file.size).chain(entries).sum();
        sizes
    }

    /// Whether a blob is missing that the entry needs. It isn't known where this user sees only a part of the store.
    pub(crate) fn has_hole(&self, entry: &SurveyedEntry) -> bool {
        self.denied.is_empty() && !entry.blobs.iter().all(|blob| self.blobs.contains_key(blob))
    }
}

impl Store {
    /// Looks at everything that this user may. Reads every entry, and nothing else but metadata.
    ///
    /// # Errors
    /// When a folder can't be listed or an entry can't be read for another reason than permissions: blobs would look
    /// unneeded that are not.
    pub fn survey(&self) -> Result<Survey, Error> {
        let now = FileTime::now();
        let mut entries = Vec::new();
        let mut denied = self.denied();
        for stat in self.entries()? {
            let path = self.entry_path(&stat.key);
            match survey_entry(&stat, &path) {
                Err(error) if error.is_denied() => denied.push(path),
                entry => entries.extend(entry?),
            }
        }
        let blobs = self.shelf_files(Shelf::Blobs, |digest, meta| {
            let holding = if meta.nlink() > 1 { Holding::Shared } else { Holding::StoreOnly };
            (digest, SurveyedBlob { size: meta.len(), changed: FileTime::changed(meta), holding })
        })?;
        let units = self.shelf_files(Shelf::Units, |digest, meta| {
            let unit = UnitKey(digest);
            (unit, SurveyedFile::new(self.records_path(&unit), meta))
        })?;
        let evidence = self.shelf_files(Shelf::Evidence, |digest, meta| {
            let key = EntryKey(digest);
            (key, SurveyedFile::new(self.evidence_path(&key), meta))
        })?;
        Ok(Survey {
            now,
            denied,
            entries,
            blobs: blobs.into_iter().collect(),
            units,
            snapshots: files_below(&self.snapshots_dir(), 2),
            evidence,
            tmp: files_below(&self.tmp_dir(), 1),
            memos: memos(&self.memo_dir(), 3),
            served: memos(&self.served_dir(), 1),
            gone_compilers: gone_compilers(&self.served()),
        })
    }
}

fn survey_entry(stat: &EntryStat, path: &Path) -> Result<Option<SurveyedEntry>, Error> {
    let (content, blobs) = match read_entry(path)? {
        EntryFile::Absent => return Ok(None),
        EntryFile::Usable(entry, _) => {
            let blobs = entry.blobs().collect();
            let (crate_name, package) = (entry.crate_name, entry.package);
            (EntryContent::Entry { crate_name, package, unit: entry.unit, compiler: entry.compiler }, blobs)
        }
        EntryFile::Newer(bytes) => (EntryContent::Newer, digests_in(&bytes)),
        EntryFile::Malformed => (EntryContent::Malformed, BTreeSet::new()),
    };
    let EntryStat { key, file_bytes, used } = *stat;
    Ok(Some(SurveyedEntry { key, content, used, file_bytes, blobs }))
}

/// Everything in an unknown form that reads like a digest.
pub(crate) fn digests_in(bytes: &[u8]) -> BTreeSet<Digest> {
    let words = bytes.split(|byte| !byte.is_ascii_alphanumeric());
    words.filter_map(|word| std::str::from_utf8(word).ok()?.parse().ok()).collect()
}

/// Files of the memo, or notes, by their names: where somebody keeps other things in a folder of that name, they stay.
fn memos(dir: &Path, depth: usize) -> Vec<SurveyedFile> {
    let is_memo = |file: &SurveyedFile| {
        file.path
            .file_name()
            .and_then(|name| name.to_str())
            .is_some_and(|name| name.parse::<Digest>().is_ok())
    };
    let mut found = files_below(dir, depth);
    found.retain(is_memo);
    found
}

/// Files in a folder and at most `depth - 1` folders further down.
fn files_below(dir: &Path, depth: usize) -> Vec<SurveyedFile> {
    let mut found = Vec::new();
    for item in fs::read_dir(dir).into_iter().flatten().flatten() {
        match item.metadata() {
            Ok(meta) if meta.is_dir() && depth > 1 => found.extend(files_below(&item.path(), depth - 1)),
            Ok(meta) if !meta.is_dir() => found.push(SurveyedFile::new(item.path(), &meta)),
            Ok(_) | Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_in_a_folder_of_memos_are_no_memos() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        store.memo_put("kind", &Digest::of(b"k"), b"v").expect("put");
        fs::write(store.memo_dir().join("shopping.txt"), "milk").expect("write");
        let memos = store.survey().expect("survey").memos;
        assert_eq!(memos.len(), 1, "{memos:?}");
        assert!(memos[0].path.ends_with(Digest::of(b"k").to_string()));
    }

    #[test]
    fn digests_are_found_in_whatever_form() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let text = format!("{{\"version\":9,\"x\":[\"{a}\",{{\"y\":\"blake3:{b}\"}}],\"z\":\"{a}0\"}}");
        assert_eq!(digests_in(text.as_bytes()), BTreeSet::from([a, b]));
        assert_eq!(digests_in(b"\xff\x00"), BTreeSet::new());
    }
}
