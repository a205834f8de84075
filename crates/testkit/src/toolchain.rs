//! Finds the real compiler and Cargo behind rustup's proxies. Knows nothing about sandboxes.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The toolchain that tests drive.
#[derive(Debug)]
pub struct Toolchain {
    /// `rustc --print sysroot`.
    pub sysroot: PathBuf,
    /// The real `cargo`, not a proxy; the one that `KACHE_TEST_CARGO` names, where it is set.
    pub cargo: PathBuf,
    /// Its minor version: 95 of 1.95.0.
    pub cargo_minor: u32,
    /// The real `rustc`, not a proxy.
    pub rustc: PathBuf,
    /// Host triple.
    pub host: String,
    /// The whole `rustc -vV` text.
    pub version: String,
}

/// The toolchain of this process, looked up once.
pub fn toolchain() -> &'static Toolchain {
    static FOUND: OnceLock<Toolchain> = OnceLock::new();
    FOUND.get_or_init(find)
}

fn find() -> Toolchain {
    let rustc = env::var_os("RUSTC").map_or_else(|| PathBuf::from("rustc"), PathBuf::from);
    let sysroot = PathBuf::from(ask(&rustc, &["--print", "sysroot"]).trim());
    let real = sysroot.join("bin/rustc");
    let rustc = if real.is_file() { real } else { rustc };
    let version = ask(&rustc, &["-vV"]);
    let host = version
        .lines()
        .find_map(|line| line.strip_prefix("host: "))
        .unwrap_or_else(|| panic!("no host in the output of {} -vV", rustc.display()))
        .to_owned();
    let cargo = sysroot.join("bin/cargo");
    let cargo = match (env::var_os("KACHE_TEST_CARGO"), env::var_os("CARGO")) {
        (Some(cargo), _) => PathBuf::from(cargo),
        _ if cargo.is_file() => cargo,
        (None, Some(cargo)) => PathBuf::from(cargo),
        (None, None) => PathBuf::from("cargo"),
    };
    let answer = ask(&cargo, &["-V"]);
    let minor = answer.strip_prefix("cargo 1.").and_then(|rest| rest.split('.').next()?.parse().ok());
    let cargo_minor = minor.unwrap_or_else(|| panic!("{} -V says {answer}", cargo.display()));
    Toolchain { sysroot, cargo, cargo_minor, rustc, host, version }
}

fn ask(program: &Path, args: &[&str]) -> String {
    let output = Command::new(program)
        .args(args)
        .env_remove("RUSTC_WRAPPER")
        .output()
        .unwrap_or_else(|e| panic!("start {}: {e}", program.display()));
    assert!(output.status.success(), "{} {args:?}: {}", program.display(), output.status);
    String::from_utf8(output.stdout).expect("an answer in UTF-8")
}
