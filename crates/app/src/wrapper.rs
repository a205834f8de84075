//! The wrapper entry: hands one compiler call to the engine. (Until the engine is there: to the compiler.)

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Runs the compiler that `args` name. Returns only when it can't be started.
pub fn run(args: Vec<OsString>) -> ExitCode {
    let error = Command::new(&args[0]).args(&args[1..]).exec();
    eprintln!("kache: can't run {}: {error}", args[0].display());
    ExitCode::FAILURE
}
