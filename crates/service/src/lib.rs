//! The remote side: the only crate that is asynchronous and the only one with a network.

#![forbid(unsafe_code)]

pub mod daemon;
