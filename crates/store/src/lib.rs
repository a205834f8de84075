//! The local disk: a content-addressed store in which the file system is the database. Everything becomes visible by
//! link or rename, nothing is written in place, and no failure leaves more than a file under a temporary name.
//!
//! This crate knows where things are and how they stay whole. It does not know why a compile is cacheable, and prints
//! nothing. It needs Unix; what only Linux has (syncing one file system, reflinks by `ioctl`) has its substitute
//! beside it.

pub mod blobs;
pub mod cargo_locks;
pub mod clock;
pub mod entries;
pub mod error;
pub mod evict;
pub mod fault;
mod files;
pub mod footprint;
pub mod foreign;
pub mod hashing;
pub mod incoming;
mod inode_memo;
mod intact;
pub mod journal;
pub mod journal_index;
pub mod layout;
pub mod ledger;
pub mod link;
pub mod lock;
pub mod memo;
pub mod progress;
pub mod queue;
pub mod receipts;
pub mod records;
pub mod rendezvous;
pub mod replace;
pub mod room;
pub mod served;
pub mod snapshots;
#[cfg(test)]
mod stress_tests;
pub mod survey;
pub mod sweep;
pub mod sys;
#[cfg(test)]
mod testing;
pub mod usage;
pub mod verify;

pub use error::Error;
pub use layout::Store;
