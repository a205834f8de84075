//! The wrapper's entry: settings, then the engine. Knows nothing about what the engine does.

use std::ffi::OsString;
use std::process::ExitCode;

use kache_engine::run::{self, End};

use crate::settings;

/// Runs the compiler call `argv` (compiler first) through the cache and ends like the compiler.
pub fn run(argv: &[OsString]) -> ExitCode {
    let end = match settings::for_wrapper() {
        Some(settings) => run::run(argv, &settings),
        None => run::without_settings(argv),
    };
    match end {
        End::Code(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        End::Signal(signal) => {
            if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                // What the signal doesn't end, the conventional code does.
                let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            }
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
        }
    }
}
