//! Compiles the helper programs of the test support (a scriptable compiler, a protocol auditor). They use nothing
//! but the standard library, so that one `rustc` call makes each of them.

#![expect(clippy::disallowed_macros, reason = "a build script speaks to Cargo through standard output")]

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let rustc = env::var_os("RUSTC").expect("Cargo sets RUSTC");
    for name in ["fake_rustc", "auditor"] {
        let source = format!("programs/{name}.rs");
        println!("cargo:rerun-if-changed={source}");
        let program = out.join(name);
        let status = Command::new(&rustc)
            .args(["--edition=2024", "--crate-type=bin", "-Copt-level=1", "-Cstrip=debuginfo", "-Dwarnings"])
            .args(["--crate-name", name, "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .expect("start rustc");
        assert!(status.success(), "compiling {source}");
        println!("cargo:rustc-env=TESTKIT_{}={}", name.to_uppercase(), program.display());
    }
}
