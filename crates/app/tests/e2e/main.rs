//! End-to-end tests: the real kache under the real Cargo in sealed sandboxes, compared with clean builds without it.
//! `HAZARDS.md` beside this file says which test answers which known hazard.
//!
//! What is in `stories` runs here in Cargo's classic directories and once more in `../e2e_per_unit` with a directory for
//! each unit. The modules below run here alone: command line, calls without Cargo, resources, deaths at random.

mod cli;
mod crash_anywhere;
mod direct;
mod protocol;
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
