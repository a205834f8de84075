//! The approximate size of the store, kept without looking at it: what the last sweep counted plus what came in
//! since. Does not know the limit.
//!
//! ```text
//! usage = { bytes:u64 at_s:u64 }      little-endian, 16 bytes each, appended
//! ```
//! The first record is the last sweep's count and when that was; every other is bytes that came in. A torn tail is
//! ignored. Two processes may lose each other's few bytes when the file is folded; the next sweep counts again.

use std::io::Write;

use crate::clock::since_1970;
use crate::error::Error;
use crate::files::{Content, open_append, read_capped};
use crate::layout::Store;

const RECORD_BYTES: usize = 16;

/// Longest file that is read, in bytes; beyond it the estimate says that a sweep is due.
const USAGE_BYTES_MAX: u64 = 16 << 20;

/// Longer files are folded into one record, in bytes.
const FOLD_BYTES: usize = 64 << 10;

/// An estimate of the store's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Estimated size of what counts against the limit, in bytes.
    pub bytes: u64,
    /// When it was last counted, in seconds since 1970; zero for never.
    pub counted_s: u64,
}

/// A store is counted again when this old, since removed target directories make what they held count; in seconds.
const COUNT_EVERY_S: u64 = 86_400;

impl Usage {
    /// Whether a sweep is worth its time: over the limit, or not counted for a day. `now_s` is in seconds since 1970.
    pub fn is_sweep_due(&self, limit_bytes: u64, now_s: u64) -> bool {
        self.bytes > limit_bytes || now_s.saturating_sub(self.counted_s) > COUNT_EVERY_S
    }
}

impl Store {
    /// The estimated size. Reads one small file.
    pub fn usage_estimate(&self) -> Result<Usage, Error> {
        let path = self.usage_path();
        let bytes = match read_capped(&path, USAGE_BYTES_MAX)? {
            Content::Absent => return Ok(Usage::default()),
            Content::TooLong => return Ok(Usage { bytes: u64::MAX, counted_s: 0 }),
            Content::Whole(bytes, _) => bytes,
        };
        let usage = decode(&bytes);
        if bytes.len() > FOLD_BYTES {
            self.reset_usage(usage)?;
        }
        Ok(usage)
    }

    /// Adds what came in. Failing to is nothing: the next sweep counts.
    pub(crate) fn note_usage(&self, bytes: u64) {
        if bytes > 0
            && let Ok(mut file) = open_append(&self.usage_path())
        {
            // A file that begins with an addition has never been counted: the first record is always a count.
            let empty = file.metadata().is_ok_and(|meta| meta.len() == 0);
            let first = if empty { encode(Usage::default()).to_vec() } else { Vec::new() };
            let addition = encode(Usage { bytes, counted_s: since_1970().as_secs() });
            let _ = file.write_all(&[&first[..], &addition].concat());
        }
    }

    /// Starts again from a known size.
    pub(crate) fn reset_usage(&self, usage: Usage) -> Result<(), Error> {
        self.publish_bytes(&self.usage_path(), &encode(usage))
    }
}

fn encode(usage: Usage) -> [u8; RECORD_BYTES] {
    let mut record = [0; RECORD_BYTES];
    record[..8].copy_from_slice(&usage.bytes.to_le_bytes());
    record[8..].copy_from_slice(&usage.counted_s.to_le_bytes());
    record
}

fn decode(bytes: &[u8]) -> Usage {
    let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or(0);
    let mut usage = Usage::default();
    for (i, record) in bytes.chunks_exact(RECORD_BYTES).enumerate() {
        usage.bytes = usage.bytes.saturating_add(number(&record[..8]));
        if i == 0 {
            usage.counted_s = number(&record[8..]);
        }
    }
    usage
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn additions_add_up_and_a_count_starts_again() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let estimate = || store.usage_estimate().expect("readable");
        assert_eq!(estimate(), Usage::default());
        store.note_usage(0);
        assert!(!store.usage_path().exists());
        store.note_usage(5);
        store.note_usage(7);
        assert_eq!(estimate(), Usage { bytes: 12, counted_s: 0 });
        store.reset_usage(Usage { bytes: 100, counted_s: 9 }).expect("written");
        store.note_usage(1);
        assert_eq!(estimate(), Usage { bytes: 101, counted_s: 9 });
    }

    #[test]
    fn a_long_file_is_folded_and_a_torn_tail_is_ignored() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let many = FOLD_BYTES / RECORD_BYTES + 10;
        let mut bytes = encode(Usage { bytes: 1000, counted_s: 9 }).to_vec();
        for _ in 1..many {
            bytes.extend(encode(Usage { bytes: 1, counted_s: 10 }));
        }
        bytes.extend([1, 2, 3]);
        std::fs::write(store.usage_path(), &bytes).expect("write");
        let expected = Usage { bytes: 1000 + many as u64 - 1, counted_s: 9 };
        for _ in 0..2 {
            assert_eq!(store.usage_estimate().expect("readable"), expected);
        }
        assert_eq!(std::fs::metadata(store.usage_path()).expect("stat").len(), RECORD_BYTES as u64);
    }
}
