//! Compiles the library that is preloaded into compilers: see `src/sys/preload/names.rs`. Where that isn't possible it is empty,
//! and kache finds out names of variables from texts.

#![expect(clippy::disallowed_macros, reason = "Cargo takes what a build script prints")]

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

const SOURCE: &str = "src/sys/preload/names.rs";

fn main() {
    println!("cargo::rerun-if-changed={SOURCE}");
    let Some(out_dir) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let library = out_dir.join("names.so");
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let target = variable("TARGET");
    let is_known = variable("CARGO_CFG_TARGET_OS") == "linux"
        && matches!(variable("CARGO_CFG_TARGET_ARCH").as_str(), "x86_64" | "aarch64")
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64";
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args([
        "--edition=2024",
        "--crate-name=names",
        "--crate-type=cdylib",
        SOURCE,
        "--target",
        &target,
    ]);
    compiler.args(["-Copt-level=2", "-Cpanic=abort", "-Cdebuginfo=0", "-Cstrip=symbols"]);
    compiler.args(["-Ctarget-feature=-crt-static", "-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles"]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        compiler.arg("-C").arg(format!("linker={}", linker.display()));
    }
    compiler.arg("-o").arg(&library);
    if is_known && !compiler.status().is_ok_and(|status| status.success()) {
        println!(
            "cargo::warning=variables that compilers read are not observed: {SOURCE} can't be compiled for {target}"
        );
    }
    if !library.is_file() || !is_known {
        fs::write(&library, "").unwrap_or_else(|error| panic!("write {}: {error}", library.display()));
    }
}
