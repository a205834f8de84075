//! A build script's run as an entry: its output and everything in `OUT_DIR`, out of one target directory and into
//! another. Local directories in texts become tokens and come back as the other directory's; binary files must not
//! name them where it matters. Decides nothing about freshness.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use kache_core::cargo::layout::ROOT_OUTPUT;
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, INLINE_BYTES_MAX, Output, Text};
use kache_core::entry_key::{self, Rendering};
use kache_core::event::Moved;
use kache_core::invocation::Env;
use kache_core::key::{EntryKey, KeyWriter, UnitKey};
use kache_core::paths::{Root, Roots};
use kache_core::record::InputRecord;
use kache_core::seed_unit::Made;
use kache_core::seeding::Unseeded;
use kache_core::tree::{Node, NodeKind};

use kache_store::Store;
use kache_store::clock::boot_id;

use super::run_files::RunFiles;
use super::stamps;
use super::times::{mtime_ns, set_mtime_ns};
use crate::out_dir::{self, Dated, Texts};
use crate::{macro_env, restore};

/// The name under which runs are listed, beside `build_script_build`.
pub const CRATE_NAME: &str = "build_script_run";
/// Whose run it is.
pub struct Package<'a> {
    /// Name.
    pub name: &'a str,
    /// Version.
    pub version: &'a str,
    /// Directory of its sources.
    pub dir: &'a str,
    /// Names of variables that were set and that the script may have read: an entry whose script may have seen a
    /// credential isn't shared.
    pub variables: &'a [String],
}

/// Stores a run; what it took in milliseconds comes with it.
pub fn store_run(
    store: &Store,
    files: &RunFiles,
    package: &Package<'_>,
    (roots, cargo_home): (&Roots, &str),
) -> Result<(Made, u64), Unseeded> {
    let missing = |name: &str| Unseeded::OutDir(name.to_owned());
    let before = files.stamp().ok_or_else(|| missing("output"))?;
    let texts = Texts { roots, cargo_home, may_name_workspace: false, moment: None };
    let text = |path: &Path| -> Result<String, Unseeded> {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let bytes = fs::read(path).map_err(|_| missing(name))?;
        let text = String::from_utf8(bytes).map_err(|_| missing(name))?;
        Ok(texts.portable(&text, name)?)
    };
    let out_dir = files.out_dir.as_os_str().as_encoded_bytes();
    if fs::read(&files.root_output).ok().as_deref() != Some(out_dir) {
        return Err(missing(ROOT_OUTPUT));
    }
    let (output, stderr) = (text(&files.stdout)?, text(&files.stderr)?);
    let (outputs, tree) = out_dir::keep(store, &files.out_dir, &texts, &|_| false)?;
    if files.stamp().as_ref() != Some(&before) {
        return Err(Unseeded::Stale("the build script ran again meanwhile".to_owned()));
    }
    let ended_ns = mtime_ns(&files.root_output).unwrap_or(before.1);
    let took_ms = u64::try_from(ended_ns.saturating_sub(before.1) / 1_000_000).unwrap_or(0);
    let raw_output = roots.detokenize(&output).unwrap_or_default();
    let unit_dir = files.own.to_str().unwrap_or("/");
    let own = [cargo_home, package.dir, unit_dir, roots.get(Root::Target).unwrap_or("/")];
    let witnesses = stamps::witnesses(&raw_output, &own);
    let texts = (output, stderr);
    let entry = publish(store, package, texts, outputs, &tree, took_ms)?;
    let (output_ns, invoked_ns, asked, named) = (before.0, before.1, Vec::new(), BTreeMap::new());
    let made = Made::Run { entry, output_ns, invoked_ns, ended_ns, asked, tree, witnesses, named };
    Ok((made, took_ms))
}

/// Names of the variables that were set and that a run may have read: its program names them, or it asked Cargo to watch
/// them.
pub fn variables(
    store: &Store,
    env: &Env,
    program: &Digest,
    asked: &[(String, Option<String>)],
) -> Result<Vec<String>, Unseeded> {
    let named = macro_env::variables(store, env, &store.blob_path(program), program);
    let named = named.ok_or(Unseeded::EntryGone)?;
    let asked = asked.iter().filter(|(_, value)| value.is_some()).map(|(name, _)| name.as_str());
    let names: BTreeSet<&str> = named.iter().map(|(name, _)| *name).chain(asked).collect();
    Ok(names.into_iter().map(str::to_owned).collect())
}

fn refused(error: impl std::fmt::Display) -> Unseeded {
    Unseeded::Refused(error.to_string())
}

/// Makes the run an entry, under a key of what is in it.
fn publish(
    store: &Store,
    package: &Package<'_>,
    (stdout, stderr): (String, String),
    outputs: Vec<Output>,
    tree: &[Node],
    took_ms: u64,
) -> Result<EntryKey, Unseeded> {
    let mut content = KeyWriter::new("tree");
    for node in tree {
        let what = match &node.kind {
            NodeKind::Dir { .. } => "directory".to_owned(),
            NodeKind::Link { to } => to.clone(),
            NodeKind::File { blob, .. } => blob.to_string(),
        };
        content.text(node.path.clone(), what);
    }
    let mut key = KeyWriter::new("unit");
    key.text("crate name", CRATE_NAME);
    key.text("build script run", package.name);
    key.text("version", package.version);
    key.digest("stdout", Digest::of(stdout.as_bytes()));
    key.digest("stderr", Digest::of(stderr.as_bytes()));
    key.digest("tree", content.finish().0);
    let (unit, unit_fields) = key.finish();
    // Nothing is looked up under it: what was read is not known, only what came of it.
    let record = InputRecord::default();
    let (unit, none) = (UnitKey(unit), Roots::default());
    let (key, entry_fields) = entry_key::derive(&unit, &record, &[], &none, &Rendering::default());
    let known = store.evidence(&key).map_err(refused)?.unwrap_or_default().macro_variables;
    let is_told = package.variables.iter().all(|name| known.contains(name));
    // The script ran here, and the key covers all that came of it: whoever else had the same result doesn't matter.
    let known = store.peek_entry(&key).map_err(refused)?;
    if is_told && known.is_some_and(|known| known.provenance.is_here()) {
        return Ok(key);
    }
    let text_of = |text: String| -> Result<Text, Unseeded> {
        if text.len() <= INLINE_BYTES_MAX {
            return Ok(Text::Inline(text));
        }
        store.ingest_bytes(text.as_bytes()).map(Text::Blob).map_err(refused)
    };
    let mut entry = Entry::new(unit, CRATE_NAME);
    package.name.clone_into(&mut entry.package);
    package.version.clone_into(&mut entry.package_version);
    entry.outputs = outputs;
    entry.dep_info_name = "output".to_owned();
    entry.stdout = text_of(stdout)?;
    entry.stderr = text_of(stderr)?;
    entry.compile_ms = took_ms;
    entry.created_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    entry.boot = boot_id();
    let crate_name = entry.crate_name.clone();
    let macro_variables = package.variables.to_vec();
    let evidence =
        Evidence { crate_name, unit_fields, entry_fields, record, macro_variables, ..Evidence::default() };
    store.publish(&key, &entry, &evidence).map_err(refused)?;
    Ok(key)
}

/// Where a run goes, and with which directories in its texts.
pub struct Site<'a> {
    /// The store.
    pub store: &'a Store,
    /// The directories here.
    pub roots: &'a Roots,
    /// The files to be made.
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
        small(stderr, self.text(&entry.stderr)?.as_bytes(), *ended_ns)?;
        small(root_output, out_dir.as_os_str().as_encoded_bytes(), *ended_ns)?;
        // What Cargo writes into it (`crates/cargo-util/src/paths.rs`, `set_invocation_time`, 1.95).
        small(invoked, b"This file has an mtime of when this was started.", *invoked_ns)?;
        small(stdout, self.text(&entry.stdout)?.as_bytes(), *output_ns)
    }

    fn text(&self, text: &Text) -> Result<String, Unseeded> {
        restore::local_text(self.store, text, self.roots).map_err(|_| Unseeded::EntryGone)
    }
}
