//! End-to-end tests: the real kache under the real Cargo in sealed sandboxes, compared with clean builds without it.
//! `HAZARDS.md` beside this file says which test answers which known hazard.
//!
//! What is in `stories` runs here in Cargo's classic directories and once more in `../e2e_per_unit` with a directory for
//! each unit. The modules below run here alone: command line, calls without Cargo, resources, deaths at random.

mod cli;
mod crash_anywhere;
mod credentials;
mod direct;
mod giving_up;
mod protocol;
mod read_only;
mod resources;

#[path = "stories.rs"]
mod stories;

use stories::*;
