//! What a compile read: from the dep-info, the linker's report, and the observation of its file accesses; and
//! whether any of it changed while the compiler ran. Names only; contents are observed elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kache_core::archive;
use kache_core::depinfo::DepInfo;
use kache_core::entry::OutputKind;
use kache_core::invocation::Invocation;
use kache_core::link_report;
use kache_core::paths::{Root, Roots, absolute};
use kache_core::reason::NotStored;
use kache_core::record::{Input, InputRecord};
use kache_core::scan;
use kache_core::unit::{CrateType, Lto};
use kache_store::Store;
use kache_store::clock::FileTime;
use kache_store::hashing::DigestMemo;
use kache_store::sys::{AccessKind, Observation, ObservedAccess};

use crate::accesses::{
    as_asked, changed_since, is_cargos_own, is_left_behind, is_temporary, observed_inputs,
};
use crate::compile::Compiled;
use crate::finished::Finished;
use crate::macro_env;
use crate::native;
use crate::outputs::{self, Made};
use crate::variables;

/// Absolute form of a path that the compiler named.
pub fn compiler_path(call: &Invocation, path: &str) -> String {
    absolute(&call.cwd, path)
}

/// Directories below which nothing is observed: what the kernel makes up, which differs from look to look, and the
/// standard library.
pub fn unobserved_dirs(sysroot: &Path) -> Vec<PathBuf> {
    vec![PathBuf::from("/proc"), PathBuf::from("/sys"), sysroot.join("lib/rustlib")]
}

/// The inputs of the compile, sorted.
pub fn inputs(
    store: &Store,
    done: &Finished<'_>,
    made: &[Made],
    info: &DepInfo,
    compiled: &Compiled,
) -> Result<Vec<Input>, NotStored> {
    let mut inputs = BTreeSet::new();
    let name = |path: &str| done.roots.name_of(path);
    for path in info.inputs() {
        let path = compiler_path(done.call, path);
        if let Some(shadow) = module_shadow(&path, &done.unit.source) {
            inputs.insert(Input::File(name(&shadow)));
        }
        inputs.insert(Input::File(name(&path)));
    }
    inputs.extend(info.env().map(|(name, _)| Input::Env(name.to_owned())));
    if outputs::has_linked(done.unit, made) {
        inputs.extend(linked_files(done, compiled)?.iter().map(|path| Input::File(name(path))));
    }
    let needs_observation = done.unit.emits_link
        && (done.unit.crate_types.contains(&CrateType::Staticlib)
            || (done.unit.lto == Lto::CrossCrate && done.unit.bundles_dependencies()));
    match &compiled.observation {
        Some(seen) if !seen.is_complete() => {
            return Err(NotStored::LinkInputs("not every file access could be observed".to_owned()));
        }
        Some(seen) => {
            check_effects(done, seen, compiled)?;
            for access in seen.accesses.iter().filter(|access| !compiled.brought(&access.path)) {
                inputs.extend(observed_inputs(done, access));
            }
            if compiled.preloaded.is_some() {
                inputs.extend(variables::reads(seen).filter_map(|read| variables::input(done.call, read)));
                // A macro that asked by name, the observation has shown.
                let ran_programs =
                    variables::ran_programs(seen, |path| path == Path::new(&done.call.compiler));
                if ran_programs {
                    inputs.extend(variables::inputs_of_scripts(done.toolchain, seen));
                }
                inputs.retain(|input| match input {
                    Input::MacroEnv(library) => {
                        ran_programs || macro_env::lists_all(store, done.roots, library)
                    }
                    _ => true,
                });
            }
        }
        None if needs_observation => {
            return Err(NotStored::LinkInputs(
                "the compiler itself reads the dependencies' objects".to_owned(),
            ));
        }
        None => inputs.extend(declared_macros(done)),
    }
    let has_unseen_reads = inputs.iter().any(|input| matches!(input, Input::MacroEnv(_)));
    if has_unseen_reads && compiled.preloaded.is_none() {
        for path in info.inputs().iter().filter(|path| path.ends_with(".rs")) {
            // What isn't UTF-8 is no Rust source.
            let source = fs::read_to_string(compiler_path(done.call, path)).unwrap_or_default();
            inputs.extend(macro_env::names_in(&source).map(|name| Input::Env(name.to_owned())));
        }
    }
    Ok(inputs.into_iter().collect())
}

/// Roots that the values of variables among the `inputs` name. What looks at such a value may keep something that no scan of
/// the outputs finds, such as its length. Not of a variable that the sources only use to locate files to include, which no
/// macro has asked for, and which no dependency may have put into the expanded source.
pub fn named_roots(done: &Finished<'_>, info: &DepInfo, inputs: &[Input], compiled: &Compiled) -> Vec<Root> {
    let sources = || {
        let paths = info.inputs().iter().filter(|path| path.ends_with(".rs"));
        paths.filter_map(|path| fs::read_to_string(compiler_path(done.call, path)).ok())
    };
    let is_asked_for = |name: &str| {
        let mut reads = compiled.observation.iter().flat_map(variables::reads);
        reads.any(|read| read.by_plugin && read.name == name)
    };
    let is_free = |name: &str| {
        let uses: Vec<bool> = sources().filter_map(|source| scan::only_locates(&source, name)).collect();
        uses.is_empty()
            || uses.contains(&false)
            || is_asked_for(name)
            || names_in_dependencies(done, compiled, name)
    };
    let mut roots = BTreeSet::new();
    for input in inputs {
        let Input::Env(name) = input else { continue };
        let value = done.call.env.text(name).and_then(|value| done.roots.tokenize(value)).unwrap_or_default();
        let named: Vec<Root> =
            Root::ALL.into_iter().filter(|root| value.contains(root.text_token())).collect();
        if !named.is_empty() && is_free(name) {
            roots.extend(named);
        }
    }
    roots.into_iter().collect()
}

/// Whether a macro of a dependency may use a variable in the unit's place for more than to locate a file: the name is in
/// the library, and its sources don't show that. Of dependencies those count that the compiler has opened, since one may
/// pass on the macros of another.
fn names_in_dependencies(done: &Finished<'_>, compiled: &Compiled, name: &str) -> bool {
    let target = Path::new(done.roots.get(Root::Target).unwrap_or("\0"));
    let stem = done.unit.stem();
    let is_library = |path: &Path| {
        let kind = path.extension().and_then(|kind| kind.to_str()).unwrap_or_default();
        let is_own = path.file_stem().is_some_and(|own| own.to_string_lossy().ends_with(&stem));
        ["rmeta", "rlib", "so", "dylib"].contains(&kind) && path.starts_with(target) && !is_own
    };
    let opened =
        compiled.observation.iter().flat_map(|seen| &seen.accesses).map(|access| access.path.clone());
    let given = done.unit.externs.iter().filter_map(|dependency| dependency.path.as_deref());
    let given = given.map(|path| PathBuf::from(compiler_path(done.call, path)));
    let libraries: BTreeSet<PathBuf> = opened.chain(given).filter(|path| is_library(path)).collect();
    libraries.iter().any(|library| {
        let bytes = fs::read(library).unwrap_or_default();
        memchr::memmem::find(&bytes, name.as_bytes()).is_some()
            && sources_only_locate(done.call, library, name).is_none_or(|only| !only)
    })
}

/// Whether the sources of a library do no more with a variable than locate files; `None` where they aren't there.
fn sources_only_locate(call: &Invocation, library: &Path, name: &str) -> Option<bool> {
    let file = library.with_extension("d");
    let plain = file.file_name()?.to_str()?.strip_prefix("lib").map(|plain| file.with_file_name(plain));
    let info = DepInfo::parse(&fs::read_to_string(plain.unwrap_or(file)).ok()?).ok()?;
    let mut sources = info.inputs().iter().filter(|path| path.ends_with(".rs"));
    sources.try_fold(true, |only, path| {
        let source = fs::read_to_string(compiler_path(call, path)).ok()?;
        Some(only && scan::only_locates(&source, name).unwrap_or(true))
    })
}

/// A hit could not have another effect than the outputs.
fn check_effects(done: &Finished<'_>, seen: &Observation, compiled: &Compiled) -> Result<(), NotStored> {
    if seen.accesses.iter().any(|access| access.kind == AccessKind::Network) {
        return Err(NotStored::Network);
    }
    match seen.accesses.iter().find(|access| is_left_behind(done, access, compiled)) {
        Some(left) => {
            let did = if left.kind == AccessKind::Remove { "removed" } else { "wrote" };
            Err(NotStored::Outputs(format!("it also {did} {}", left.path.display())))
        }
        None => Ok(()),
    }
}

/// `foo/mod.rs` for `foo.rs`, and the reverse: if both exist, rustc refuses to choose. The crate root has none.
fn module_shadow(path: &str, crate_root: &str) -> Option<String> {
    let stem = path.strip_suffix(".rs").filter(|_| !path.ends_with(crate_root))?;
    match stem.strip_suffix("/mod") {
        Some(dir) => Some(format!("{dir}.rs")),
        None => Some(format!("{stem}/mod.rs")),
    }
}

/// What the linker took in, less what is this compile's own or the toolchain's.
fn linked_files(done: &Finished<'_>, compiled: &Compiled) -> Result<Vec<String>, NotStored> {
    let refuse = |why: &str| NotStored::LinkInputs(why.to_owned());
    let report = compiled.link_report.as_ref().ok_or_else(|| refuse("no report was asked for"))?;
    let text = fs::read_to_string(report).map_err(|_| refuse("the linker wrote no report"))?;
    let files = link_report::parse(&text, &done.call.cwd).ok_or_else(|| refuse("the report is empty"))?;
    let own_objects = format!("{}/{}.", done.unit.out_dir, done.unit.stem());
    let own_temporary = format!("{}/rustc", done.unit.out_dir);
    let mut kept = Vec::new();
    for file in files {
        let asked = as_asked(done, &file);
        let path = Path::new(&file);
        if asked.starts_with(&own_objects) || done.toolchain.owns(path) || compiled.brought(path) {
            continue;
        }
        if path.exists() {
            kept.push(asked);
        } else if !asked.starts_with(&own_temporary) && !is_temporary(&file) {
            return Err(NotStored::LinkInputs(format!("{file} is gone")));
        }
    }
    if kept.is_empty() && done.unit.linker.is_none() {
        return Err(refuse("the report names no system files"));
    }
    Ok(kept)
}

/// Without observation: the proc macros that are named, for the variables that they may read.
fn declared_macros(done: &Finished<'_>) -> Vec<Input> {
    let paths = done.unit.externs.iter().filter_map(|dependency| dependency.path.as_deref());
    let libraries = paths.filter(|path| path.ends_with(".so") || path.ends_with(".dylib"));
    libraries.map(|path| Input::MacroEnv(done.roots.name_of(&compiler_path(done.call, path)))).collect()
}

/// A static library may go into an rlib unannounced. Every member that the compiler didn't make must come from an
/// archive that the key or the record names: those below the target directory are observed, and so are those in
/// directories of the user's; what lies in system directories has to be named by `-l static`.
pub fn check_bundled(done: &Finished<'_>, made: &[Made], compiled: &Compiled) -> Result<(), NotStored> {
    let target = done.roots.get(Root::Target).unwrap_or("\0");
    let unnamed = native::may_bundle_unnamed(done.unit, Path::new(&done.call.cwd), Path::new(target));
    let is_archive =
        |access: &ObservedAccess| access.path.extension().is_some_and(|extension| extension == "a");
    let is_explained = match &compiled.observation {
        Some(seen) => !unnamed || seen.accesses.iter().any(is_archive),
        None => !unnamed && !kache_store::sys::can_observe(),
    };
    if is_explained {
        return Ok(());
    }
    for output in made.iter().filter(|output| output.kind == OutputKind::Rlib) {
        match fs::File::open(&output.path).and_then(|file| archive::foreign_member(io::BufReader::new(file)))
        {
            Ok(None) => {}
            Ok(Some(member)) => return Err(NotStored::UnattributedNative(member)),
            Err(error) => return Err(NotStored::Outputs(format!("{}: {error}", output.path.display()))),
        }
    }
    Ok(())
}

/// None of the files that a record names may have changed since the start, by the clock and by the stamps of the target
/// directory's file system, but for those that `is_exempt`.
pub fn check_inputs(
    roots: &Roots,
    record: &InputRecord,
    (started, started_in_target): (FileTime, FileTime),
    is_exempt: impl Fn(&str) -> bool,
) -> Result<(), NotStored> {
    let target = roots.get(Root::Target).unwrap_or("\0");
    for input in &record.inputs {
        let (Input::File(name) | Input::Dir(name) | Input::Link(name) | Input::Probe(name)) = input else {
            continue;
        };
        let Some(path) = roots.path_of(name) else { continue };
        let since = if Path::new(&path).starts_with(target) { started_in_target } else { started };
        // A directory of which only the existence counts is written to all the time.
        let counts = matches!(input, Input::Dir(_)) || !Path::new(&path).is_dir();
        if !is_exempt(&path) && counts && changed_since(Path::new(&path), since) {
            return Err(NotStored::InputChanged(path));
        }
    }
    Ok(())
}

/// Nothing that went into the key may have changed while the compiler ran. Sources are judged by their times;
/// dependencies, whose times and link counts the cache itself changes, by their content.
pub fn check_unchanged(
    store: &Store,
    done: &Finished<'_>,
    record: &InputRecord,
    compiled: &Compiled,
) -> Result<(), NotStored> {
    let started = (compiled.started, compiled.started_in_target);
    check_inputs(done.roots, record, started, |path| is_cargos_own(done, path))?;
    let memo = DigestMemo::new(store);
    for (dependency, before) in done.unit.externs.iter().zip(done.externs) {
        let Some(path) = &dependency.path else { continue };
        let now = memo.digest(Path::new(&compiler_path(done.call, path))).ok().flatten();
        if now != *before {
            return Err(NotStored::InputChanged(path.clone()));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_shadows() {
        for (path, want) in [
            ("/w/src/foo.rs", Some("/w/src/foo/mod.rs")),
            ("/w/src/foo/mod.rs", Some("/w/src/foo.rs")),
            ("/w/src/lib.rs", None),
            ("/w/src/data.txt", None),
        ] {
            assert_eq!(module_shadow(path, "src/lib.rs").as_deref(), want);
        }
    }
}
