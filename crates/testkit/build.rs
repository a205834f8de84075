//! Compiles the helper programs of the test support (a scriptable compiler, a protocol auditor). They use nothing
//! but the standard library, so that one `rustc` call makes each of them.

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("Cargo sets OUT_DIR"));
    let rustc = env::var_os("RUSTC").expect("Cargo sets RUSTC");
    for name in ["fake_rustc", "auditor"] {
        let source = format!("programs/{name}.rs");
        tell(&format!("cargo:rerun-if-changed={source}"));
        let program = out.join(name);
        let status = Command::new(&rustc)
            .args(["--edition=2024", "--crate-type=bin", "-Copt-level=1", "-Cstrip=debuginfo", "-Dwarnings"])
            .args(["--crate-name", name, "-o"])
            .arg(&program)
            .arg(&source)
            .status()
            .expect("start rustc");
        assert!(status.success(), "compiling {source}");
        tell(&format!("cargo:rustc-env=TESTKIT_{}={}", name.to_uppercase(), program.display()));
    }
}

/// Cargo reads standard output.
fn tell(line: &str) {
    std::io::Write::write_all(&mut std::io::stdout(), format!("{line}\n").as_bytes())
        .expect("write to Cargo");
}
