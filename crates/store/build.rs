//! Compiles what kache puts into other programs: the library that is preloaded into compilers (`src/sys/preload/names.rs`)
//! and the object that is linked into build scripts (`src/sys/script/hook.rs`). Where that isn't possible they are empty:
//! kache then finds out names of variables from texts, and build scripts run by themselves.

#![expect(clippy::disallowed_macros, reason = "Cargo takes what a build script prints")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    let Some(out_dir) = env::var_os("OUT_DIR").map(PathBuf::from) else { return };
    let mut library = compiler("src/sys/preload/names.rs");
    library.args(["--crate-type=cdylib", "-Cstrip=symbols", "-Ctarget-feature=-crt-static"]);
    library.args(["-Clink-arg=-nostdlib", "-Clink-arg=-nostartfiles"]);
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        library.arg("-C").arg(format!("linker={}", linker.display()));
    }
    make(library, &out_dir.join("names.so"), "variables that compilers read are not observed");
    let mut object = compiler("src/sys/script/hook.rs");
    object.args(["--crate-type=lib", "--emit=obj", "-Ccodegen-units=1", "-Crelocation-model=pic"]);
    make(object, &out_dir.join("hook.o"), "runs of build scripts are not cached");
}

fn compiler(source: &str) -> Command {
    println!("cargo::rerun-if-changed={source}");
    let target = env::var("TARGET").unwrap_or_default();
    let mut compiler = Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    compiler.args(["--edition=2024", source, "--target", &target]);
    compiler.args(["-Copt-level=2", "-Cpanic=abort", "-Cdebuginfo=0"]);
    compiler
}

/// Makes `output`; an empty file on other platforms, and with a warning where the compiler fails.
fn make(mut compiler: Command, output: &Path, consequence: &str) {
    let variable = |name: &str| env::var(name).unwrap_or_default();
    let is_known = variable("CARGO_CFG_TARGET_OS") == "linux"
        && matches!(variable("CARGO_CFG_TARGET_ARCH").as_str(), "x86_64" | "aarch64")
        && variable("CARGO_CFG_TARGET_POINTER_WIDTH") == "64";
    let is_made = is_known && compiler.arg("-o").arg(output).status().is_ok_and(|status| status.success());
    if is_known && !is_made {
        println!("cargo::warning={consequence}: {compiler:?} fails");
    }
    if !is_made {
        fs::write(output, "").unwrap_or_else(|error| panic!("write {}: {error}", output.display()));
    }
}
