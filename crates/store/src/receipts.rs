//! Receipts of what was removed from target directories: for `kache disk --log`. Two lines for each removal, one before
//! anything is gone and one after, so that an interrupted one is known too. Decides nothing.
//!
//! ```text
//! journal/removals.log   one JSON object a line; put aside as removals.old when it is full
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::clock::FileTime;
use crate::error::{Doing, Error};
use crate::layout::{Store, make_dir};

const VERSION: u32 = 1;
/// Size at which the file is put aside, in bytes.
const ROTATE_BYTES: u64 = 1 << 20;

/// How a removal ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// It has begun. Where nothing else follows it was interrupted.
    Begun,
    /// All of it is gone.
    Gone,
    /// Nothing was removed, or not all, for this reason.
    Stays(String),
}

/// What was to be removed from one target directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Version of the form.
    pub version: u32,
    /// When it began, in milliseconds since 1970.
    pub at_ms: u64,
    /// The target directory.
    pub path: PathBuf,
    /// Why, in words.
    pub why: String,
    /// Whether kache did it by itself.
    pub auto: bool,
    /// How many units; `None` for the whole directory.
    pub units: Option<u64>,
    /// What was free afterwards, in bytes.
    pub freed_bytes: u64,
    /// Units that the same rule names and that stay, because a compile would have to bring something back.
    pub stay: u64,
    /// How it ended.
    pub end: End,
}

impl Receipt {
    /// A removal that begins now.
    pub fn begin(path: PathBuf, why: String) -> Self {
        let at_ms = u64::try_from(FileTime::now().seconds()).unwrap_or_default().saturating_mul(1000);
        let (auto, units, freed_bytes, stay) = (false, None, 0, 0);
        Self { version: VERSION, at_ms, path, why, auto, units, freed_bytes, stay, end: End::Begun }
    }
}

impl Store {
    fn receipts_path(&self, name: &str) -> PathBuf {
        self.journal_dir().join(name)
    }

    /// Puts a receipt into the journal.
    ///
    /// # Errors
    /// When it can't be written.
    pub fn note_removal(&self, receipt: &Receipt) -> Result<(), Error> {
        let path = self.receipts_path("removals.log");
        make_dir(&self.journal_dir()).doing("create directory", &self.journal_dir())?;
        if fs::metadata(&path).is_ok_and(|meta| meta.len() >= ROTATE_BYTES) {
            fs::rename(&path, self.receipts_path("removals.old")).doing("rename", &path)?;
        }
        let mut line = serde_json::to_vec(receipt).unwrap_or_default();
        line.push(b'\n');
        let mut file = OpenOptions::new().append(true).create(true).open(&path).doing("open", &path)?;
        file.write_all(&line).doing("write", &path)
    }

    /// All removals, the latest last. What can't be read is left out.
    pub fn removals(&self) -> Vec<Receipt> {
        let files = ["removals.old", "removals.log"].map(|name| File::open(self.receipts_path(name)));
        let lines = files.into_iter().flatten().flat_map(|file| BufReader::new(file).split(b'\n')).flatten();
        let mut all: Vec<Receipt> = Vec::new();
        for receipt in lines.filter_map(|line| serde_json::from_slice::<Receipt>(&line).ok()) {
            let begun = all.iter_mut().rev().take(64).find(|known| {
                known.end == End::Begun && (&known.path, known.at_ms) == (&receipt.path, receipt.at_ms)
            });
            match begun {
                Some(begun) if receipt.version == VERSION => *begun = receipt,
                None if receipt.version == VERSION => all.push(receipt),
                _ => {}
            }
        }
        all
    }

    /// Whether target directories were last cleaned longer ago than this, in seconds. They count as cleaned then.
    pub fn claim_cleaning(&self, pause_s: i64) -> bool {
        let path = self.receipts_path("cleaned");
        let age_s = fs::metadata(&path).map(|meta| FileTime::modified(&meta).age_s(FileTime::now()));
        !age_s.is_ok_and(|age_s| (0..pause_s).contains(&age_s)) && fs::write(&path, "").is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removal_that_has_no_end_was_interrupted() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("open");
        assert!(store.removals().is_empty());
        let one = Receipt::begin("/a/target".into(), "unused".to_owned());
        let two =
            Receipt { units: Some(3), auto: true, ..Receipt::begin("/b/target".into(), "old".to_owned()) };
        let ended = Receipt { end: End::Gone, freed_bytes: 7, ..one.clone() };
        let torn = Receipt { version: 2, ..two.clone() };
        for receipt in [&one, &two, &ended, &torn] {
            store.note_removal(receipt).expect("noted");
        }
        assert_eq!(store.removals(), [ended, two]);
    }

    #[test]
    fn cleaning_is_due_once_in_a_while() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("open");
        fs::create_dir_all(store.journal_dir()).expect("mkdir");
        assert!(store.claim_cleaning(60) && !store.claim_cleaning(60) && store.claim_cleaning(0));
    }
}
