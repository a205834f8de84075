//! Notes which build directory was served, for whom and with which compiler: `kache disk` and `kache clean` begin there.

use std::path::Path;

use kache_core::paths::{Root, Roots};
use kache_store::Store;
use kache_store::served::Compiler;

use crate::toolchain::{self, Toolchain};
use crate::world::TargetLayout;

/// Notes the build directory of a unit of a workspace. Dependencies alone don't tell whose they are.
pub fn note(store: &Store, place: &TargetLayout, roots: &Roots, toolchain: &Toolchain) {
    let Some(project) = roots.get(Root::Workspace) else { return };
    let compiler = || {
        let files = vec![toolchain.sysroot.join("bin/rustc"), toolchain::driver_library(&toolchain.sysroot)?];
        Some(Compiler { id: toolchain.id, version: toolchain.version.clone(), files })
    };
    let dirs = (place.target_dir.as_path(), Path::new(project));
    if let Err(error) = store.note_served(dirs, &toolchain.id, compiler) {
        tracing::warn!(%error, "the build directory is not noted");
    }
}
