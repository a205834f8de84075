//! Packs: an entry, its evidence and its contents as one zstd-compressed tar stream, written and read piece by piece.
//! Blocking; whoever calls keeps it off the asynchronous threads. Does not know how packs travel.
//!
//! Writing needs a few tens of MiB at most, whatever is packed and at whatever level; reading refuses streams that
//! would need more. What a pack may contain is in `core::remote::member`, which figures are believed in
//! `core::remote::manifest`.

mod read;
mod write;

pub use read::{Note, Unpacked, entry_of, unpack};
pub use write::{Packed, pack};

use kache_core::key::EntryKey;
use kache_core::remote::origin::Mismatch;

/// Longest `evidence.json` that is written or read, in bytes.
const EVIDENCE_BYTES_MAX: u64 = 16 << 20;
/// Largest window of a zstd stream, as a power of two of bytes: what a reader has to keep in memory.
pub(crate) const WINDOW_LOG_MAX: u32 = 23;
const CHUNK_BYTES: usize = 128 << 10;

/// Why an entry could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The entry isn't in the store, or not with everything it needs.
    #[error("{0} is not complete in the store: {1}")]
    Incomplete(EntryKey, String),
    /// More than a pack may hold.
    #[error("{0} is too large to be shared")]
    TooLarge(EntryKey),
    /// The store can't be read or written.
    #[error(transparent)]
    Store(#[from] kache_store::Error),
    /// The stream can't be written, or not everything that belongs into it read.
    #[error("can't write a pack: {0}")]
    Write(#[from] std::io::Error),
}

/// Why a pack was not taken in.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is not what it should be.
    #[error("the pack {0}")]
    Refused(String),
    /// It is of another entry or tells a story that doesn't fit together.
    #[error(transparent)]
    Mismatch(#[from] Mismatch),
    /// The store can't be written.
    #[error(transparent)]
    Store(#[from] kache_store::Error),
}

#[cfg(test)]
#[path = "pack/hostile_tests.rs"]
mod hostile_tests;
#[cfg(test)]
#[path = "pack/tests.rs"]
mod tests;
