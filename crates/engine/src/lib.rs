//! One compiler invocation, start to finish: look, decide, restore or compile, store, report. Synchronous; knows no
//! network and no daemon beyond the bytes of a socket, and takes its settings as a value.
//!
//! [`run`](run::run) is the whole story on one screen; the other modules are its steps.

#![forbid(unsafe_code)]

pub mod cleaning;
pub mod daemon_client;
pub mod fallback;
pub mod proof;
pub mod run;
pub mod seed;
pub mod share;
pub mod sight;
pub mod toolchain;

mod accesses;
mod census;
mod compile;
mod elf;
mod evidence;
mod facts;
mod finished;
mod incremental;
mod ingest;
mod inputs;
mod inquiry;
mod link_inputs;
mod lookup;
mod macro_env;
mod mentions;
mod native;
mod out_dir;
mod outputs;
mod outside;
mod pass;
mod placement;
mod reads;
mod report;
mod restore;
mod room;
mod rustup;
mod script;
mod script_hook;
mod times;
mod variables;
mod verify;
mod world;
