//! What one observed file access says about a compile: an input, an effect, or nothing that counts. Knows which places
//! Cargo and keys keep track of; doesn't know how accesses are observed.

use std::fs;
use std::io::Read as _;
use std::iter;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{self, Place};
use kache_core::invocation::{Env, Invocation};
use kache_core::paths::{Root, Roots};
use kache_core::record::Input;
use kache_store::clock::FileTime;
use kache_store::sys::{self, AccessKind, ObservedAccess};

use crate::compile::Compiled;
use crate::finished::Finished;

/// Whether a file may have changed since `started`: nobody can set a ctime.
pub fn changed_since(path: &Path, started: FileTime) -> bool {
    match fs::metadata(path) {
        Ok(meta) => FileTime::changed(&meta) >= started || FileTime::modified(&meta) >= started,
        Err(_) => false,
    }
}

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
pub(crate) fn is_temporary(path: impl AsRef<Path>) -> bool {
    path.as_ref().starts_with(std::env::temp_dir())
}

/// What one observed access says about the compile's inputs. The compiler's own reads of dependencies are covered by
/// the externs' digests, so below the target directory only build-script outputs, proc macros, programs and what is
/// bundled count.
pub(crate) fn observed_inputs(done: &Finished<'_>, access: &ObservedAccess) -> Vec<Input> {
    let Some(path) = access.path.to_str().map(|path| as_asked(done, path)) else { return Vec::new() };
    let name = done.roots.name_of(&path);
    if is_cargos_own(done, &path) {
        let is_file = access.path.is_file();
        return if is_file && !is_own_output(done, &path) {
            input_of_output(done, access, name)
        } else {
            Vec::new()
        };
    }
    if done.toolchain.owns(&access.path) || is_searched_for_crates(done, &path) {
        return Vec::new();
    }
    inputs_of_use(done.call, done.roots, access, name)
}

/// Where Cargo has rustc look for crates: their digests are in the key. With a directory for each unit, Cargo 1.95 also names
/// those of scripts' runs, which rustc lists like the others.
fn is_searched_for_crates(done: &Finished<'_>, path: &str) -> bool {
    if !matches!(place_of(done, path), Place::UnitOutput(_)) {
        return false;
    }
    let mut dirs = done.unit.search_paths.iter().filter(|search| search.kind == "dependency");
    dirs.any(|search| Path::new(&done.call.cwd).join(&search.path) == Path::new(path))
}

/// What the use of a path says that nobody keeps track of, under its portable name.
pub(crate) fn inputs_of_use(
    call: &Invocation,
    roots: &Roots,
    access: &ObservedAccess,
    name: String,
) -> Vec<Input> {
    let there = fs::metadata(&access.path).ok();
    let is_missing_temporary =
        there.is_none() && is_temporary(&access.path) && !access.path.starts_with(&call.cwd);
    // A device or a socket has no content.
    let is_special = there.as_ref().is_some_and(|there| !there.is_file() && !there.is_dir());
    if sys::is_report(&access.path)
        || is_missing_temporary
        || is_special
        || is_profile(&access.path)
        || is_loaders_search(&call.env, access, there.is_some())
    {
        return Vec::new();
    }
    let exists = there.is_some();
    let is_dir = there.is_some_and(|there| there.is_dir());
    let mut inputs = match access.kind {
        AccessKind::Write | AccessKind::Remove | AccessKind::Network => return Vec::new(),
        // The driver of the linker looks whether its place for temporary files can be used, wherever that is here.
        AccessKind::Probe if access.path == std::env::temp_dir() => return Vec::new(),
        AccessKind::Read | AccessKind::List if is_dir => vec![Input::Dir(name)],
        AccessKind::Link => vec![Input::Link(name)],
        AccessKind::Probe => vec![Input::Probe(name)],
        AccessKind::Exec => {
            interpreters(&access.path).map(|path| Input::File(roots.name_of(&path))).collect()
        }
        AccessKind::Read | AccessKind::Update | AccessKind::List => vec![Input::File(name)],
    };
    if let Some(program) = found_on_path(&call.env, &access.path) {
        // That the places before it had no such program, the same search says.
        inputs.retain(|_| exists);
        inputs.push(Input::Program(program));
    }
    inputs
}

/// What the use of an output of Cargo's says.
fn input_of_output(done: &Finished<'_>, access: &ObservedAccess, name: String) -> Vec<Input> {
    let extension = access.path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    let is_read = matches!(access.kind, AccessKind::Read | AccessKind::Update);
    let bundled = done.unit.emits_link
        && done.unit.bundles_dependencies()
        && (matches!(extension, "rlib" | "a") || extension == "rmeta" && done.unit.has_split_libraries());
    match extension {
        "so" | "dylib" if is_read => vec![Input::File(name.clone()), Input::MacroEnv(name)],
        "a" if is_read => vec![Input::File(name)],
        // A program of the project that a macro runs, or looks into.
        _ if access.kind == AccessKind::Exec || is_read && extension.is_empty() => vec![Input::File(name)],
        _ if is_read && bundled => vec![Input::File(name)],
        _ => Vec::new(),
    }
}

/// An executed file, and what the kernel opens to run it: the interpreter that a script's first line names.
fn interpreters(program: &Path) -> impl Iterator<Item = String> {
    /// The kernel follows no more (`fs/exec.c`, Linux 6.12).
    const DEPTH_MAX: usize = 5;
    iter::successors(program.to_str().map(str::to_owned), |script| {
        let mut head = Vec::new();
        fs::File::open(script).ok()?.take(256).read_to_end(&mut head).ok()?;
        let line = head.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let interpreter = std::str::from_utf8(line).ok()?.split_whitespace().next()?;
        interpreter.starts_with('/').then(|| interpreter.to_owned())
    })
    .take(DEPTH_MAX)
}

/// The name of a program that was looked for in a directory of `PATH`.
fn found_on_path(env: &Env, path: &Path) -> Option<String> {
    let dir = path.parent()?;
    let list = env.get("PATH")?;
    let is_on_path = std::env::split_paths(list).any(|listed| listed == dir);
    // Of a directory that was looked at, nothing was looked for in `PATH`.
    (is_on_path && !path.is_dir()).then(|| path.file_name()?.to_str().map(str::to_owned))?
}

/// Whether an instrumented program leaves its counters in a file.
pub(crate) fn is_profile(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "profraw" || extension == "gcda")
}

/// Whether the dynamic loader looked here for a shared library of the compiler's or the linker's, and there was none:
/// Cargo puts directories of build scripts into `LD_LIBRARY_PATH` once these have run, which is a matter of time.
fn is_loaders_search(env: &Env, access: &ObservedAccess, exists: bool) -> bool {
    let (path, is_probe) = (&access.path, access.kind == AccessKind::Probe);
    /// Folders for processors (glibc 2.36, `sysdeps/*/dl-hwcaps*`, `elf/dl-load.c`).
    const VARIANTS: &[&str] =
        &["glibc-hwcaps", "tls", "x86_64", "haswell", "xeon_phi", "avx512_1", "aarch64", "atomics"];
    let Some(list) = env.get("LD_LIBRARY_PATH") else { return false };
    let is_library = path.file_name().is_some_and(|name| name.to_string_lossy().contains(".so"));
    std::env::split_paths(list).filter(|dir| dir.is_absolute()).any(|dir| {
        let rest = path.strip_prefix(&dir).ok();
        let is_variant = |rest: &Path| VARIANTS.iter().any(|variant| rest.starts_with(variant));
        rest.is_some_and(|rest| {
            let is_in_place = rest.components().count() == 1 || is_variant(rest);
            rest.as_os_str().is_empty() && is_probe
                || !exists && is_in_place && (is_library || is_variant(rest))
        })
    })
}

/// Whether a compile has another effect than its outputs, which a hit could not have: something that it made or changed
/// and that is still there, or something that it removed.
pub(crate) fn is_left_behind(done: &Finished<'_>, access: &ObservedAccess, compiled: &Compiled) -> bool {
    // What can't be named can't be an input either.
    let Some(path) = access.path.to_str() else { return true };
    if !matches!(access.kind, AccessKind::Write | AccessKind::Update | AccessKind::Remove) {
        return false;
    }
    let path = as_asked(done, path);
    let is_report = compiled.link_report.as_deref() == Some(&access.path);
    if is_report
        || is_profile(&access.path)
        || is_own_output(done, &path)
        || place_of(done, &path) == Place::Bookkeeping
    {
        return false;
    }
    stays(access, compiled.started)
}

/// Whether a change can still be seen when the process that made it, not before `started`, has ended.
pub(crate) fn stays(access: &ObservedAccess, started: FileTime) -> bool {
    let there = fs::symlink_metadata(&access.path).ok();
    if access.kind == AccessKind::Remove {
        return there.is_none() && !is_temporary(&access.path);
    }
    there.is_some_and(|there| {
        let is_new = FileTime::born(&there).is_some_and(|born| born >= started);
        let kind = there.file_type();
        // Others change what is in a directory. What a link leads to is what was written to.
        let has_content = kind.is_file() || kind.is_symlink();
        has_content && changed_since(&access.path, started) || is_new && (has_content || kind.is_dir())
    })
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
