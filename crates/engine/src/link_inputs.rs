//! What a linker reads: who it is, whether it can report its inputs, and the report. Linkers that are driven like a
//! C compiler and understand `--dependency-file` (GNU ld 2.35, lld, gold, mold) are known; for others linked
//! outputs are not cached. Linux and other ELF systems only: Apple's linker has no such report.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use kache_core::invocation::Invocation;
use kache_core::key::{Field, KeyWriter};
use kache_core::paths::absolute;
use kache_core::reason::Bypass;
use kache_core::unit::Unit;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;

use crate::toolchain::find_program;

/// Variables that change where a C compiler driver and its linker look.
pub(crate) const LINKER_ENV: &[&str] =
    &["COMPILER_PATH", "GCC_EXEC_PREFIX", "LD_RUN_PATH", "LIBRARY_PATH", "LD_PRELOAD"];

/// Key fields that identify the linker of a unit, or why its inputs can't be known.
pub fn identify(call: &Invocation, unit: &Unit, host: &str, store: &Store) -> Result<Vec<Field>, Bypass> {
    if let Some(flavor) = &unit.linker_flavor
        && !matches!(flavor.as_str(), "gcc" | "gnu-cc" | "gnu-lld-cc")
    {
        return Err(Bypass::Linker(format!("linker flavour {flavor}")));
    }
    let target = unit.target.as_deref().unwrap_or(host);
    if !target.contains("-linux-") && unit.linker.is_none() {
        return Err(Bypass::Linker(format!("the default linker of {target}")));
    }
    let name = unit.linker.as_deref().unwrap_or("cc");
    let stem = Path::new(name).file_name().and_then(|file| file.to_str()).unwrap_or(name);
    if !is_compiler_driver(stem) {
        return Err(Bypass::Linker(format!("unknown linker {name}")));
    }
    let driver = find_program(&call.env, &call.cwd, name);
    let driver = driver.ok_or_else(|| Bypass::Linker(format!("{name} is not on PATH")))?;
    let mut fields = vec![program_field("linker", &driver, store)?];
    for linker in chosen_linkers(unit) {
        if let Some(path) = find_program(&call.env, &call.cwd, &linker) {
            fields.push(program_field(&linker, &path, store)?);
        }
    }
    for name in LINKER_ENV {
        if let Some(value) = call.env.get(name) {
            let value = String::from_utf8_lossy(value.as_encoded_bytes()).into_owned();
            fields.push(Field { name: format!("env {name}"), value });
        }
    }
    fields.extend(argument_files(call, unit, store));
    require_report(&driver, unit, &fields, store)?;
    Ok(fields)
}

/// `cc`, `gcc-12`, `clang`, `x86_64-linux-gnu-gcc`, `c++`, …
pub(crate) fn is_compiler_driver(name: &str) -> bool {
    let base = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.' || c == '-');
    ["cc", "gcc", "clang", "c++", "g++", "clang++"]
        .iter()
        .any(|known| base == *known || base.strip_suffix(known).is_some_and(|prefix| prefix.ends_with('-')))
}

/// The linkers that the driver may start: the one asked for, and the default one.
fn chosen_linkers(unit: &Unit) -> Vec<String> {
    let mut linkers = vec!["ld".to_owned()];
    for arg in &unit.link_args {
        if let Some(name) = arg.strip_prefix("-fuse-ld=") {
            linkers.push(if name.contains('/') { name.to_owned() } else { format!("ld.{name}") });
        } else if let Some(path) = arg.strip_prefix("--ld-path=") {
            linkers.push(path.to_owned());
        }
    }
    linkers
}

fn program_field(what: &str, path: &Path, store: &Store) -> Result<Field, Bypass> {
    match DigestMemo::new(store).digest(path) {
        Ok(Some(digest)) => Ok(Field { name: format!("program {what}"), value: digest.to_string() }),
        _ => Err(Bypass::Linker(format!("can't read {}", path.display()))),
    }
}

/// Contents of files that link arguments name: version scripts, linker scripts, objects. The linker's report doesn't
/// list all of them.
fn argument_files(call: &Invocation, unit: &Unit, store: &Store) -> Vec<Field> {
    let memo = DigestMemo::new(store);
    let mut fields = Vec::new();
    for piece in unit.link_args.iter().flat_map(|arg| arg.split([',', '='])) {
        let path = absolute(&call.cwd, piece.trim_start_matches("-T").trim_start_matches('@'));
        if !piece.is_empty()
            && let Ok(Some(digest)) = memo.digest(Path::new(&path))
        {
            fields.push(Field {
                name: format!("link argument file {}", fields.len()),
                value: digest.to_string(),
            });
        }
    }
    fields
}

/// Tries once, for each linker, whether it writes the report; the answer is remembered.
fn require_report(driver: &Path, unit: &Unit, fields: &[Field], store: &Store) -> Result<(), Bypass> {
    let mut key = KeyWriter::new("link report");
    for field in fields.iter().filter(|field| field.name.starts_with("program ")) {
        key.text(field.name.clone(), field.value.clone());
    }
    let chosen: Vec<&String> = unit
        .link_args
        .iter()
        .filter(|arg| arg.starts_with("-fuse-ld=") || arg.starts_with("--ld-path=") || arg.starts_with("-B"))
        .collect();
    for arg in &chosen {
        key.text("argument", (*arg).clone());
    }
    let key = key.finish().0;
    let answer = match store.memo_get("link-report", &key) {
        Some(answer) => answer,
        None => {
            let answer: &[u8] = if reports(driver, &chosen) { b"yes" } else { b"no" };
            let _ = store.memo_put("link-report", &key, answer);
            answer.to_vec()
        }
    };
    if answer == b"yes" {
        Ok(())
    } else {
        Err(Bypass::Linker(format!("{} doesn't report its inputs", driver.display())))
    }
}

/// Links nothing (an empty linker script) into a shared library and looks for the report.
fn reports(driver: &Path, chosen: &[&String]) -> bool {
    let Ok(dir) = tempfile::tempdir() else { return false };
    let report = dir.path().join("report.d");
    let script = dir.path().join("empty.ld");
    if fs::write(&script, "").is_err() {
        return false;
    }
    let status = Command::new(driver)
        .args(chosen)
        .args(["-shared", "-nostdlib", "-o"])
        .arg(dir.path().join("out.so"))
        .arg(format!("-Wl,--dependency-file={}", report.display()))
        .arg(&script)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success()) && report.exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_recognised() {
        for known in
            ["cc", "gcc", "gcc-12", "clang-16", "x86_64-linux-gnu-gcc", "aarch64-linux-gnu-g++", "c++"]
        {
            assert!(is_compiler_driver(known), "{known}");
        }
        for unknown in ["ld", "rust-lld", "link.exe", "emcc", "my-wrapper", "wasm-ld", "mold"] {
            assert!(!is_compiler_driver(unknown), "{unknown}");
        }
    }
}
