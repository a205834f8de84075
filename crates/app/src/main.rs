//! The `kache` binary: decides whether it was called as a compiler wrapper or as a command line, and nothing else.
//!
//! The decision comes before everything: as a wrapper the process lives for about a millisecond.

mod cargo_config;
mod cli;
mod error;
mod settings;
mod ui;
mod wrapper;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match args.first() {
        Some(first) if is_compiler(first) => wrapper::run(args),
        _ => cli::run(args),
    }
}

/// Whether the first argument is a compiler that Cargo wants run, rather than a subcommand: a known name, or any
/// path (no subcommand has a separator in it).
fn is_compiler(first: &OsStr) -> bool {
    let path = Path::new(first);
    let known = path.file_stem().is_some_and(|stem| stem == "rustc" || stem == "clippy-driver");
    known || first.as_encoded_bytes().iter().any(|byte| std::path::is_separator(char::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compilers_are_told_from_subcommands() {
        for compiler in [
            "rustc",
            "/usr/bin/rustc",
            "./x",
            "clippy-driver",
            "/t/bin/clippy-driver",
            "rustc.exe",
            "a/stage1",
        ] {
            assert!(is_compiler(OsStr::new(compiler)), "{compiler}");
        }
        for subcommand in ["stats", "init", "--version", "-h", "rustc-wrapper", "help", ""] {
            assert!(!is_compiler(OsStr::new(subcommand)), "{subcommand}");
        }
    }
}
