//! End-to-end tests: the real kache under the real Cargo in sealed sandboxes, compared with clean builds without it.
//! `HAZARDS.md` beside this file says which test answers which known hazard.

mod build_scripts;
mod check_clippy;
mod cli;
mod concurrency;
#[cfg(debug_assertions)]
mod crash;
mod crash_anywhere;
mod daemon;
mod depinfo;
mod direct;
mod editing;
mod failing_open;
mod file_systems;
mod fixtures;
mod freshness;
mod hits;
mod keys;
mod layouts;
mod linked;
mod macros;
mod native;
mod outputs;
mod paths;
mod protocol;
mod remote;
mod resources;
mod scripted;
mod seeding;
mod seeding_daemon;
mod seeding_doubts;
mod seeding_hidden;
mod seeding_remote;
mod seeding_stories;
mod support;
mod tampered;
mod toolchains;
mod unstable;
mod verify;
mod why_miss;
