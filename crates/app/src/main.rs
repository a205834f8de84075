//! The `kache` binary: decides whether it was called as a compiler wrapper or as a command line, and nothing else.
//!
//! The decision comes before everything: as a wrapper the process lives for about a millisecond.

mod cargo_config;
mod cli;
mod clock;
mod error;
mod health;
mod log;
mod monitor;
mod replace;
#[cfg(test)]
mod schema;
mod settings;
#[cfg(test)]
mod snapshot;
mod terminal;
mod ui;
mod wrapper;

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().skip(1).collect();
    args.drain(..doubled(&args));
    match args.first().map(|first| Call::of(first)) {
        Some(Call::Compiler) => wrapper::run(args),
        Some(Call::OtherCompiler) => wrapper::run_other(args),
        Some(Call::Command) | None => cli::run(args),
    }
}

/// How often kache is called to call kache: it is RUSTC_WRAPPER and RUSTC_WORKSPACE_WRAPPER at once. Once is enough.
fn doubled(args: &[OsString]) -> usize {
    let is_kache = |arg: &OsString| {
        let stem = Path::new(arg).file_stem();
        stem.is_some_and(|stem| stem == "kache")
            || !stem.is_some_and(is_rust_compiler)
                && Call::of(arg) == Call::Compiler
                && cargo_config::is_me(arg)
    };
    let times = args.iter().take_while(|arg| is_kache(arg)).count();
    if args.get(times).is_some_and(|next| Call::of(next) != Call::Command) { times } else { 0 }
}

fn is_rust_compiler(stem: &OsStr) -> bool {
    stem == "rustc" || stem == "clippy-driver"
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Call {
    /// By Cargo, around rustc or clippy-driver.
    Compiler,
    /// By a build script, around a compiler for C and the like: the `cc` crate takes the wrapper of rustc for its own
    /// compilers when it knows the wrapper's name, and it knows `kache`.
    OtherCompiler,
    Command,
}

impl Call {
    /// Judges by the first argument. No subcommand has a separator in it or the name of a compiler.
    fn of(first: &OsStr) -> Self {
        let path = Path::new(first);
        if path.file_stem().is_some_and(is_rust_compiler) {
            return Self::Compiler;
        }
        if path.file_name().and_then(OsStr::to_str).is_some_and(is_other_compiler) {
            return Self::OtherCompiler;
        }
        let is_path = first.as_encoded_bytes().iter().any(|byte| std::path::is_separator(char::from(*byte)));
        if is_path { Self::Compiler } else { Self::Command }
    }
}

/// Whether a file name is that of a compiler or assembler for another language, with or without a target in front
/// and a version behind: `cc`, `x86_64-linux-gnu-g++-12`, `clang-18`.
fn is_other_compiler(name: &str) -> bool {
    const NAMES: &[&str] = &[
        "armasm", "armasm64", "as", "c++", "cc", "cl", "clang", "clang++", "em++", "emcc", "flang", "g++",
        "gcc", "gfortran", "hipcc", "icc", "icpc", "icpx", "icx", "ifx", "ml", "ml64", "nasm", "nvcc", "tcc",
        "yasm", "zig",
    ];
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let unversioned = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.').trim_end_matches('-');
    let last = |name: &str| NAMES.contains(&name.rsplit('-').next().unwrap_or(name));
    last(name) || last(unversioned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_apart() {
        let cases = [
            (
                Call::Compiler,
                "rustc /usr/bin/rustc ./x clippy-driver /t/bin/clippy-driver rustc.exe a/stage1",
            ),
            (
                Call::OtherCompiler,
                "cc /usr/bin/cc gcc-12 x86_64-linux-gnu-g++ clang-18.1 clang++ clang-cl ml64.exe cl.exe",
            ),
            (Call::Command, "stats init --version -h rustc-wrapper help gc list cached classic"),
        ];
        for (call, words) in cases {
            for word in words.split(' ') {
                assert_eq!(Call::of(OsStr::new(word)), call, "{word}");
            }
        }
        assert_eq!(Call::of(OsStr::new("")), Call::Command);
    }

    #[test]
    fn kache_around_kache_is_kache_once() {
        let me = std::env::current_exe().expect("a path").display().to_string();
        for (call, times) in [
            ("kache /t/rustc -vV", 1),
            ("/usr/bin/kache kache rustc", 2),
            ("/usr/bin/kache /t/clippy-driver /t/rustc", 1),
            (&format!("{me} rustc"), 1),
            ("kache cc -c x.c", 1),
            ("kache stats", 0),
            ("kache", 0),
            ("rustc kache", 0),
            ("/t/rustc /t/rustc", 0),
            ("/x/dylint-driver rustc", 0),
        ] {
            let args: Vec<OsString> = call.split(' ').map(OsString::from).collect();
            assert_eq!(doubled(&args), times, "{call}");
        }
    }
}
