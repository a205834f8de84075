//! The object that kache links into build scripts (`store::sys::script`): for which units, what it adds to their keys, and by
//! which call it asks for a run. Knows nothing of runs.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use kache_core::config::env;
use kache_core::digest::Digest;
use kache_core::key::Field;
use kache_core::unit::Unit;
use kache_store::Store;
use kache_store::sys::script;

use crate::toolchain::Toolchain;

/// The object that a build script is linked with; `None` for other units, and where the linker wouldn't take it.
pub fn path(store: &Store, unit: &Unit, toolchain: &Toolchain) -> Option<PathBuf> {
    takes_hook(unit, toolchain).then(|| store.memo_file("script", script::HOOK).ok())?
}

/// The field of the unit key for it.
pub fn field(unit: &Unit, toolchain: &Toolchain) -> Option<Field> {
    let field = || Field {
        name: "object in the build script".to_owned(),
        value: Digest::of(script::HOOK).to_string(),
    };
    takes_hook(unit, toolchain).then(field)
}

fn takes_hook(unit: &Unit, toolchain: &Toolchain) -> bool {
    unit.is_build_script()
        && unit.emits_link
        && script::is_for(unit.target.as_deref().unwrap_or(&toolchain.host))
}

/// The build script that asks to be run, where `argv` is such a call.
pub fn asked(argv: &[OsString]) -> Option<&OsStr> {
    let [program] = argv else { return None };
    let out_dir = std::env::var_os("OUT_DIR")?;
    (std::env::var_os(env::KACHE_IN_SCRIPT)? == out_dir).then_some(program)
}
