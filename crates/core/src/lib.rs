//! Every rule of the cache: what is parsed, keyed, cached, placed and evicted, as pure functions over plain data.
//!
//! This crate does no I/O and reads neither clock nor environment: what the world looks like comes in as values
//! (its `clippy.toml` enforces that), and what should happen goes out as plans that other crates apply.

#![forbid(unsafe_code)]

pub mod archive;
pub mod arg_file;
pub mod args;
pub mod cargo;
pub mod cargo_call;
pub mod config;
pub mod depinfo;
pub mod diagnostics;
pub mod digest;
pub mod entry;
pub mod entry_key;
pub mod event;
pub mod flags;
pub mod form;
pub mod invocation;
pub mod key;
pub mod link_report;
pub mod lockfile;
pub mod moment;
pub mod paths;
pub mod plan;
pub mod printable;
pub mod process_stat;
pub mod proof;
pub mod protocol;
pub mod provenance;
pub mod quantity;
pub mod reason;
pub mod record;
pub mod remap;
pub mod remote;
pub mod scan;
pub mod seed_selection;
pub mod seed_sums;
pub mod seed_unit;
pub mod seeding;
pub mod served;
pub mod sharing;
pub mod snapshot;
pub mod tally;
pub mod timeline;
pub mod tree;
pub mod unit;
pub mod unit_key;
pub mod unit_parts;
pub mod unstable_flags;
pub mod verify;
pub mod why;
pub mod why_words;
pub mod words;
