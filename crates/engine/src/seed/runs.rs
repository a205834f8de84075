//! A build script's run in a snapshot: out of the entry that [`crate::script`] has stored or put back, and into another
//! target directory with the files that Cargo keeps about it. Decides nothing about freshness.

use std::fs;
use std::path::Path;

use kache_core::cargo::layout::ROOT_OUTPUT;
use kache_core::entry::{Entry, Text};
use kache_core::event::Moved;
use kache_core::key::EntryKey;
use kache_core::paths::{Root, Roots};
use kache_core::seed_unit::Made;
use kache_core::seeding::Unseeded;
use kache_store::Store;

use super::run_files::RunFiles;
use crate::out_dir::{self, Dated};
use crate::restore;
use crate::times::{mtime_ns, set_mtime_ns};

/// The crate name of runs' entries, beside `build_script_build`.
pub const CRATE_NAME: &str = "build_script_run";

/// The run whose result lies in `files`, which must be that of the entry.
pub fn made(
    store: &Store,
    files: &RunFiles,
    (key, entry): (&EntryKey, &Entry),
    roots: &Roots,
) -> Result<Made, Unseeded> {
    let missing = |name: &str| Unseeded::OutDir(name.to_owned());
    let before = files.stamp().ok_or_else(|| missing("output"))?;
    let out_dir = files.out_dir.as_os_str().as_encoded_bytes();
    if fs::read(&files.root_output).ok().as_deref() != Some(out_dir) {
        return Err(missing(ROOT_OUTPUT));
    }
    for (text, path) in [(&entry.stdout, &files.stdout), (&entry.stderr, &files.stderr)] {
        let local = local_text(store, text, roots)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if fs::read(path).ok().as_deref() != Some(local.as_bytes()) {
            return Err(Unseeded::Unknown(name.to_owned()));
        }
    }
    let tree = out_dir::found(store, roots, (&entry.tree, &files.out_dir))?;
    if files.stamp().as_ref() != Some(&before) {
        return Err(Unseeded::Stale("the build script ran again meanwhile".to_owned()));
    }
    let ended_ns = mtime_ns(&files.root_output).unwrap_or(before.1);
    Ok(Made::Run {
        entry: *key,
        output_ns: before.0,
        invoked_ns: before.1,
        ended_ns,
        asked: Vec::new(),
        tree,
    })
}

/// A text with this checkout's paths; a seeded one must not name the workspace, on which it may depend.
fn local_text(store: &Store, text: &Text, roots: &Roots) -> Result<String, Unseeded> {
    let local = restore::local_text(store, text, roots).map_err(|_| Unseeded::EntryGone)?;
    let tokens = roots.tokenize(&local).ok_or(Unseeded::EntryGone)?;
    if tokens.contains(Root::Workspace.text_token()) {
        return Err(Unseeded::NamesWorkspace("its output".to_owned()));
    }
    Ok(local)
}

fn refused(error: impl std::fmt::Display) -> Unseeded {
    Unseeded::Refused(error.to_string())
}

/// Where a run goes, and with which directories in its texts.
pub struct Site<'a> {
    pub store: &'a Store,
    pub roots: &'a Roots,
    pub files: RunFiles,
}

impl Site<'_> {
    /// Puts a run into place; its fingerprint is not this function's.
    pub fn place(&self, entry: &Entry, made: &Made, moved: &mut Moved) -> Result<(), Unseeded> {
        let Made::Run { output_ns, invoked_ns, ended_ns, tree, .. } = made else { return Ok(()) };
        let RunFiles { out_dir, stdout, stderr, invoked, root_output, .. } = &self.files;
        for dir in [Some(out_dir.as_path()), stdout.parent()].into_iter().flatten() {
            fs::create_dir_all(dir).map_err(refused)?;
        }
        out_dir::place(self.store, self.roots, (tree, out_dir), Dated::AsRecorded, moved)?;
        let small = |path: &Path, bytes: &[u8], time_ns: i64| -> Result<(), Unseeded> {
            fs::write(path, bytes).map_err(refused)?;
            set_mtime_ns(path, time_ns).map_err(refused)
        };
        let text = |text: &Text| local_text(self.store, text, self.roots);
        small(stderr, text(&entry.stderr)?.as_bytes(), *ended_ns)?;
        small(root_output, out_dir.as_os_str().as_encoded_bytes(), *ended_ns)?;
        // What Cargo writes into it (`crates/cargo-util/src/paths.rs`, `set_invocation_time`, 1.95).
        small(invoked, b"This file has an mtime of when this was started.", *invoked_ns)?;
        small(stdout, text(&entry.stdout)?.as_bytes(), *output_ns)
    }
}
