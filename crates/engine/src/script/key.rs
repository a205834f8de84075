//! The unit key of a build script's run: what is known before it runs. Knows nothing of what it reads.

use std::path::Path;

use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::key::{Field, KeyWriter, UnitKey, field};
use kache_core::paths::Roots;

use crate::seed;
use crate::toolchain::Toolchain;

/// What Cargo tells a script (`src/cargo/core/compiler/custom_build.rs`, 1.95), read or not: programs that the script
/// starts may ask in ways that can't be seen. A name that ends with `_` stands for all that begin with it. Of the
/// others (`CARGO`, `RUSTC`, …) only those count that are asked for.
const FROM_CARGO: &[&str] = &[
    "CARGO_CFG_",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_FEATURE_",
    "CARGO_MANIFEST_",
    "CARGO_PKG_",
    "DEBUG",
    "DEP_",
    "HOST",
    "OPT_LEVEL",
    "OUT_DIR",
    "PROFILE",
    "RUSTC_LINKER",
    "TARGET",
];

/// Whether the key has the variable.
pub fn has(variable: &str) -> bool {
    let is = |known: &&str| variable == *known || known.ends_with('_') && variable.starts_with(*known);
    FROM_CARGO.iter().any(is)
}

/// The workspace of a member: the nearest directory above the package with a lockfile, which Cargo writes before any script
/// runs.
pub fn workspace(package_dir: &str) -> &str {
    let above = Path::new(package_dir).ancestors().find(|dir| dir.join("Cargo.lock").is_file());
    above.and_then(Path::to_str).unwrap_or(package_dir)
}

/// The key and the fields that made it; `None` where a variable of Cargo's isn't text.
pub fn derive(
    call: &Invocation,
    program: Digest,
    (roots, toolchain, salt): (&Roots, &Toolchain, Option<&str>),
) -> Option<(UnitKey, Vec<Field>)> {
    let mut key = KeyWriter::new("unit");
    key.text(field::CRATE_NAME, seed::RUN_CRATE_NAME);
    key.digest(field::PROGRAM, program);
    key.text(field::WORKING_DIRECTORY, roots.name_of(&call.cwd));
    key.text(field::COMPILER, toolchain.id.to_string());
    if let Some(salt) = salt {
        key.text(field::KEY_SALT, salt);
    }
    for (name, value) in call.env.iter().filter(|(name, _)| has(name)) {
        let value = value.to_str().and_then(|value| roots.tokenize(value))?;
        key.text(format!("{}{name}", field::ENV), value);
    }
    let (digest, fields) = key.finish();
    Some((UnitKey(digest), fields))
}
