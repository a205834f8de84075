//! The stories that are told in each of Cargo's directory layouts: what is built, where its files lie, and what Cargo
//! takes for fresh. `main.rs` beside this file has the others, which don't depend on that.

pub mod build_runs;
pub mod build_scripts;
pub mod check_clippy;
pub mod concurrency;
#[cfg(debug_assertions)]
pub mod crash;
pub mod daemon;
pub mod depinfo;
pub mod disk;
pub mod editing;
pub mod failing_open;
pub mod file_systems;
pub mod fixtures;
pub mod freshness;
pub mod guide;
pub mod hits;
pub mod keys;
pub mod layouts;
pub mod levels;
pub mod linked;
pub mod macros;
pub mod native;
pub mod observed;
pub mod outputs;
pub mod paths;
pub mod proofs;
pub mod remote;
pub mod remote_kinds;
pub mod scripted;
pub mod seeding;
pub mod seeding_daemon;
pub mod seeding_doubts;
pub mod seeding_hidden;
pub mod seeding_recording;
pub mod seeding_remote;
pub mod seeding_stories;
pub mod serve;
pub mod support;
pub mod tampered;
pub mod toolchains;
pub mod travel;
pub mod trust;
pub mod unstable;
pub mod verify;
pub mod why_miss;
