//! The remote side: the only crate that is asynchronous and the only one with a network. Moves entries, input records
//! and build manifests between the local store and a bucket; knows nothing about compilers or the command line.

#![forbid(unsafe_code)]

pub mod daemon;
pub mod health;
pub mod pack;
pub mod remote;
pub mod serve;
pub mod setup;
pub mod sync;
#[cfg(test)]
mod testing;
pub mod transfer;
pub mod trust;
