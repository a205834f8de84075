//! What one observed file access says about a compile: an input, an effect, or nothing that counts. Knows which places
//! Cargo and keys keep track of; doesn't know how accesses are observed.

use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{self, Place};
use kache_core::paths::Root;
use kache_core::record::Input;
use kache_store::sys::{AccessKind, ObservedAccess};

use crate::finished::Finished;

/// A path as Cargo would have named it: rustc resolves symbolic links, and the target directory may lie behind one.
pub(crate) fn as_asked(done: &Finished<'_>, path: &str) -> String {
    if let (Some(real), Some(target)) = (&done.real_target, done.roots.get(Root::Target))
        && let Some(rest) = path.strip_prefix(real.as_str())
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return format!("{target}{rest}");
    }
    path.to_owned()
}

/// Objects that the compiler driver makes and removes.
pub(crate) fn is_temporary(path: &str) -> bool {
    let dir = std::env::temp_dir();
    Path::new(path).starts_with(dir)
}

/// What one observed access says about the compile's inputs. The compiler's own reads of dependencies are covered by
/// the externs' digests, so below the target directory only build-script outputs, proc macros and what is bundled
/// count.
pub(crate) fn observed_inputs(done: &Finished<'_>, access: &ObservedAccess) -> Vec<Input> {
    let Some(path) = access.path.to_str().map(|path| as_asked(done, path)) else { return Vec::new() };
    let path = path.as_str();
    let name = done.roots.name_of(path);
    let extension = access.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_read = matches!(access.kind, AccessKind::Read | AccessKind::Update);
    let exists = access.path.exists();
    if is_cargos_own(done, path) {
        let is_file = is_read && exists;
        let bundled = done.unit.emits_link
            && done.unit.bundles_dependencies()
            && (matches!(extension, "rlib" | "a") || extension == "rmeta" && done.unit.has_split_libraries());
        if is_own_output(done, path) {
            return Vec::new();
        }
        return match extension {
            "so" | "dylib" if is_file => vec![Input::File(name.clone()), Input::MacroEnv(name)],
            "a" if is_file => vec![Input::File(name)],
            _ if is_file && bundled => vec![Input::File(name)],
            _ => Vec::new(),
        };
    }
    if !exists && is_temporary(path) && !path.starts_with(done.call.cwd.as_str()) {
        return Vec::new();
    }
    if is_loaders_search(done, access, exists) {
        return Vec::new();
    }
    match access.kind {
        AccessKind::Exec | AccessKind::Write => Vec::new(),
        // The driver of the linker looks whether its place for temporary files can be used, wherever that is here.
        AccessKind::Probe if access.path == std::env::temp_dir() => Vec::new(),
        AccessKind::Read | AccessKind::List if access.path.is_dir() => vec![Input::Dir(name)],
        AccessKind::Link => vec![Input::Link(name)],
        AccessKind::Read | AccessKind::Update | AccessKind::List | AccessKind::Probe => {
            vec![Input::File(name)]
        }
    }
}

/// Whether the dynamic loader looked here for a shared library of the compiler's or the linker's, and there was none:
/// Cargo puts directories of build scripts into `LD_LIBRARY_PATH` once these have run, which is a matter of time.
fn is_loaders_search(done: &Finished<'_>, access: &ObservedAccess, exists: bool) -> bool {
    let (path, is_probe) = (&access.path, access.kind == AccessKind::Probe);
    let Some(list) = done.call.env.get("LD_LIBRARY_PATH") else { return false };
    let is_library = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    std::env::split_paths(list).filter(|dir| dir.is_absolute()).any(|dir| {
        let rest = path.strip_prefix(&dir).ok();
        let is_variant = |rest: &Path| rest.starts_with("glibc-hwcaps") || rest.starts_with("tls");
        rest.is_some_and(|rest| {
            let is_in_place = rest.components().count() == 1 || is_variant(rest);
            rest.as_os_str().is_empty() && is_probe
                || !exists && is_in_place && (is_library || is_variant(rest))
        })
    })
}

/// Whether a compile leaves a file that the compiler did not announce: a macro that writes into the sources or elsewhere. A hit
/// could not make it again.
pub(crate) fn is_left_behind(done: &Finished<'_>, access: &ObservedAccess) -> bool {
    let Some(path) = access.path.to_str().map(|path| as_asked(done, path)) else { return true };
    let path = path.as_str();
    let is_elsewhere =
        !is_temporary(path) || done.roots.name_of(path).starts_with(Root::Workspace.name_prefix());
    matches!(access.kind, AccessKind::Write | AccessKind::Update)
        && is_elsewhere
        && place_of(done, path) == Place::Other
        && access.path.is_file()
}

/// What a path is in the profile directories that Cargo works in for this unit. The directories above them are Cargo's
/// bookkeeping too.
fn place_of(done: &Finished<'_>, path: &str) -> Place {
    let path = Path::new(path);
    let dirs = done.place.profile_dirs();
    let is_above = |dir: &PathBuf| dir.parent().is_some_and(|above| above == path);
    let below = dirs.iter().find_map(|dir| path.strip_prefix(dir).ok()?.to_str());
    match below {
        Some(rest) => layout::place(rest),
        // Of a workspace that is its own target directory the contents matter.
        None if Path::new(&done.call.cwd).starts_with(path) => Place::Other,
        None if path == done.place.target_dir || dirs.iter().any(is_above) => Place::Bookkeeping,
        None => Place::Other,
    }
}

/// Whether Cargo or a key keeps track of a path: everything that it and the compiler write, but for what a build script
/// left in its `OUT_DIR`, which is read like sources.
pub(crate) fn is_cargos_own(done: &Finished<'_>, path: &str) -> bool {
    match place_of(done, path) {
        Place::Bookkeeping | Place::Output => true,
        Place::ScriptOutput | Place::Other => false,
        Place::UnitOutput(unit) => {
            let is_run = |dir: &PathBuf| dir.join(unit.run()).is_dir();
            !done.place.profile_dirs().iter().any(is_run)
        }
    }
}

/// The linker looks at what it is about to write.
fn is_own_output(done: &Finished<'_>, path: &str) -> bool {
    let Some(name) = path.strip_prefix(done.unit.out_dir.as_str()).map(|name| name.trim_start_matches('/'))
    else {
        return false;
    };
    let stem = done.unit.stem();
    let rest =
        name.strip_prefix("lib").and_then(|name| name.strip_prefix(&stem)).or(name.strip_prefix(&stem));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}
