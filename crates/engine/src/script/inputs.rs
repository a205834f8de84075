//! What a build script's run read, by what was observed, and whether it had other effects than its output and `OUT_DIR`.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use kache_core::config::env;
use kache_core::reason::NotStored;
use kache_core::record::Input;
use kache_store::clock::FileTime;
use kache_store::sys::{AccessKind, Observation, VariableRead};

use super::{Run, key};
use crate::accesses::{inputs_of_use, is_profile, stays};
use crate::{elf, macro_env, variables};

/// What a script asks for without consequence for its result, and why.
const HARMLESS: &[(&str, &str)] = &[
    ("CARGO_MAKEFLAGS", "how many processes may work"),
    ("MAKEFLAGS", "the same"),
    ("MFLAGS", "the same"),
    ("NUM_JOBS", "the same"),
    (env::KACHE_IN_SCRIPT, "kache sets it"),
    ("RUSTC_WRAPPER", "kache, which changes no result"),
    ("RUSTC_WORKSPACE_WRAPPER", "the same"),
    ("RUST_BACKTRACE", "what a crash prints"),
    ("RUST_LIB_BACKTRACE", "the same"),
    ("RUST_MIN_STACK", "when a crash comes"),
];

/// The inputs of a run, sorted; the reason where it had another effect, or something may have gone unseen.
pub fn of(
    run: &Run<'_>,
    seen: &Observation,
    (library, real_out_dir): (&Path, &Path),
    started: (FileTime, FileTime),
) -> Result<Vec<Input>, NotStored> {
    if !seen.is_complete() {
        return Err(NotStored::Run("not every access to a file could be observed".to_owned()));
    }
    if seen.accesses.iter().any(|access| access.kind == AccessKind::Network) {
        return Err(NotStored::Network);
    }
    let kache = Kache::new(run);
    let own = [library, run.program, run.out_dir.as_path(), real_out_dir];
    let is_own = |path: &Path| own.iter().any(|own| path.starts_with(own)) || kache.owns(path);
    let mut inputs = BTreeSet::new();
    for access in seen.accesses.iter().filter(|access| !is_own(&access.path)) {
        let Some(path) = access.path.to_str() else {
            return Err(NotStored::Run(format!("it used {}", access.path.display())));
        };
        if matches!(access.kind, AccessKind::Write | AccessKind::Update | AccessKind::Remove)
            && !is_profile(&access.path)
            && stays(access, started.0)
        {
            let did = if access.kind == AccessKind::Remove { "removed" } else { "wrote" };
            return Err(NotStored::Run(format!("it also {did} {path}")));
        }
        if !run.inquiry.toolchain.owns(&access.path) {
            inputs.extend(inputs_of_use(
                &run.call,
                &run.inquiry.roots,
                access,
                run.inquiry.roots.name_of(path),
            ));
        }
    }
    let reads = variables::reads(seen).filter(|read| !kache.is_named(read.program));
    inputs.extend(reads.filter_map(|read| variable(run, read)));
    let program = run.program.to_str().map(|path| run.inquiry.roots.name_of(path)).unwrap_or_default();
    let ran_programs = variables::ran_programs(seen, is_own);
    if ran_programs {
        inputs.extend(variables::inputs_of_scripts(&run.inquiry.toolchain, seen));
    }
    if ran_programs || macro_env::lists_all(&run.inquiry.store, &run.inquiry.roots, &program) {
        inputs.insert(Input::PortableMacroEnv(program));
    }
    // What has no loader doesn't load what is preloaded.
    let executed = seen.accesses.iter().filter(|access| access.kind == AccessKind::Exec);
    let executed = executed.map(|access| access.path.as_path()).filter(|path| !kache.owns(path));
    for path in executed.filter(|path| elf::is_static(path)) {
        if path == run.program {
            return Err(NotStored::Run(
                "which variables it reads can't be observed: it is linked statically".to_owned(),
            ));
        }
        inputs.extend(path.to_str().map(|path| Input::PortableMacroEnv(run.inquiry.roots.name_of(path))));
    }
    Ok(inputs.into_iter().collect())
}

/// kache itself, which the `cc` crate and nested Cargos call as they call every wrapper of rustc: it changes no result.
struct Kache {
    names: Vec<OsString>,
}

impl Kache {
    fn new(run: &Run<'_>) -> Self {
        let wrapper = ["RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER"].map(|name| run.call.env.get(name));
        let wrapper = wrapper.into_iter().flatten().map(PathBuf::from);
        let programs = wrapper.chain(std::env::current_exe().ok());
        Self { names: programs.filter_map(|path| path.file_name().map(ToOwned::to_owned)).collect() }
    }

    fn is_named(&self, program: &str) -> bool {
        self.names.iter().any(|name| name == program)
    }

    /// Its program, wherever that was looked for, and its settings.
    fn owns(&self, path: &Path) -> bool {
        let name = path.file_name().unwrap_or_default();
        name == ".kache.toml"
            || path.ends_with("kache/config.toml")
            || self.names.iter().any(|own| own == name)
    }
}

/// What a run left alone of what lay in `OUT_DIR` before it; the reason where it used any of that. A file that was
/// written before it was read, or looked for and then written, would have become the same in an empty directory.
pub fn leftovers<'b>(
    run: &Run<'_>,
    seen: &Observation,
    real_out_dir: &Path,
    before: &'b BTreeSet<PathBuf>,
) -> Result<BTreeSet<&'b Path>, NotStored> {
    let mut leftovers: BTreeSet<&Path> = before.iter().map(PathBuf::as_path).collect();
    let mut probed = BTreeSet::new();
    for access in &seen.accesses {
        let below =
            access.path.strip_prefix(&run.out_dir).or_else(|_| access.path.strip_prefix(real_out_dir));
        let Some(path) = below.ok().and_then(|below| before.get(&run.out_dir.join(below))) else { continue };
        match access.kind {
            AccessKind::Write => {
                // With the folders that it lies in.
                leftovers.retain(|left| !path.starts_with(left));
            }
            AccessKind::Probe => {
                probed.insert(path.as_path());
            }
            AccessKind::Remove | AccessKind::Network => {}
            AccessKind::Read
            | AccessKind::Update
            | AccessKind::List
            | AccessKind::Exec
            | AccessKind::Link
                if seen.rewritten.contains(&access.path) => {}
            _ => return Err(used(path)),
        }
    }
    match probed.intersection(&leftovers).find(|path| path.exists()) {
        Some(path) => Err(used(path)),
        None => Ok(leftovers),
    }
}

fn used(path: &Path) -> NotStored {
    NotStored::Run(format!("it used what an earlier run had left in OUT_DIR: {}", path.display()))
}

fn variable(run: &Run<'_>, read: VariableRead<'_>) -> Option<Input> {
    let is_harmless = key::has(read.name) || HARMLESS.iter().any(|(name, _)| *name == read.name);
    (!is_harmless).then(|| variables::input(&run.call, read))?
}
