//! Stores the result of a compile: works out what the compile read, makes sure that none of it changed meanwhile,
//! proves which local paths are in the outputs, takes the files over. Every doubt is a reason not to store.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::depinfo::DepInfo;
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, INLINE_BYTES_MAX, Output, OutputKind, Text};
use kache_core::key::EntryKey;
use kache_core::paths::{Root, Roots};
use kache_core::plan::{Occupant, Placement};
use kache_core::provenance::Provenance;
use kache_core::reason::NotStored;
use kache_core::record::InputRecord;
use kache_core::remap;
use kache_core::scan::Scanner;
use kache_store::Store;
use kache_store::blobs::{IngestHow, Stored};
use kache_store::clock::{boot_id, since_1970};
use kache_store::fault::{self, Point};
use kache_store::hashing::DigestMemo;
use kache_store::link::{self, Permission};
use object::read::ReadCache;

use crate::accesses;
use crate::compile::Compiled;
use crate::elf;
use crate::evidence;
use crate::facts;
use crate::finished::Finished;
use crate::inputs::Observer;
use crate::mentions::only_in_debug_sections;
use crate::outputs::{self, Made};
use crate::proof::Question;
use crate::reads;

pub struct Ingested {
    pub key: EntryKey,
    /// Bytes that the store didn't have.
    pub new_bytes: u64,
    pub entry: Entry,
    /// Whether it is the same everywhere.
    pub question: Option<Question>,
}

/// Rewrites the `.d` file with declared extra inputs, so that Cargo watches them, and returns it as it is then. An input
/// that has changed meanwhile gets no checksum: to Cargo it has changed, then.
fn dep_info(done: &Finished<'_>, compiled: &Compiled) -> Result<DepInfo, NotStored> {
    let path = Path::new(&done.unit.out_dir).join(done.unit.dep_info_name());
    let text = fs::read_to_string(&path).map_err(|error| NotStored::DepInfo(error.to_string()))?;
    let mut info = DepInfo::parse(&text).map_err(NotStored::DepInfo)?;
    let is_foreign = crate::world::is_foreign(done.call);
    let extra = if is_foreign { Vec::new() } else { facts::extra_input_files(done.call).unwrap_or_default() };
    if !extra.is_empty() {
        info.add_inputs(&extra);
        // Cargo asks for no other algorithm (`src/cargo/core/compiler/mod.rs`, 1.95).
        for file in extra.iter().filter(|_| info.has_checksums("blake3")).cloned().collect::<Vec<_>>() {
            let Ok(content) = fs::read(&file) else { continue };
            if !accesses::changed_since(Path::new(&file), compiled.started) {
                let hex = Digest::of(&content).to_string();
                info.add_checksum("blake3", &hex, content.len() as u64, &file);
            }
        }
        link::place_bytes(info.render().as_bytes(), &path).map_err(refused)?;
    }
    Ok(info)
}

pub fn ingest(store: &Store, done: &Finished<'_>, compiled: &Compiled) -> Result<Ingested, NotStored> {
    let info = dep_info(done, compiled)?;
    if let Some(sign) = compiled.degraded {
        return Err(NotStored::Degraded(sign.to_owned()));
    }
    let made = outputs::collect(done.unit, &compiled.artifacts)?;
    reads::check_bundled(done, &made, compiled)?;
    let inputs = reads::inputs(store, done, &made, &info, compiled)?;
    let (digests, settled) = examine(done, &made)?;
    // What may have been made of a root's path without a mention of it: by the compiler, and by macros.
    let mut visible = reads::named_roots(done, &info, &inputs, compiled);
    let baked = distinct(settled.iter().chain(&visible));
    let (rendered, observed, provenance) = (compiled.printed, compiled.sight(), Provenance::Here);
    let record = InputRecord { inputs, baked, rendered, observed, last: None, provenance };
    // Looked at first, so that what changes from now on is of no matter.
    let observer = Observer::new(store, &done.call.env, done.roots);
    let key_of = |record: &InputRecord| {
        let key = observer.entry_key(&done.key.0, record, &done.unit.rendering);
        key.map_err(|input| NotStored::InputChanged(format!("{input:?}")))
    };
    key_of(&record)?;
    reads::check_unchanged(store, done, &record, compiled)?;
    let mut entry = describe(store, done, compiled, &info)?;
    let mut new_bytes = 0;
    let placement = done.standing.decide(
        &made.iter().map(|output| output.kind).collect::<Vec<_>>(),
        Occupant::Nothing,
        done.standing.canonical_s,
        None,
    );
    for (output, digest) in made.iter().zip(&digests) {
        let stored = take_over(store, output, digest, placement, done.standing.canonical_s)?;
        if let Stored::New(stat) = stored {
            new_bytes += stat.size;
        }
        entry.outputs.push(Output {
            name: output.name.clone(),
            kind: output.kind,
            digest: *digest,
            size: stored.stat().size,
            mtime_s: stored.stat().mtime_s,
            executable: output.executable,
        });
    }
    fault::point(Point::OutputsTaken);
    let question = Question::of(done, &observer, (&record, &settled, &visible), compiled);
    let record = match &question {
        Some(question) if question.is_independent(store) => {
            visible.retain(|root| question.portable.baked.contains(root));
            question.portable.clone()
        }
        _ => record,
    };
    let (entry_key, entry_fields) = key_of(&record)?;
    let evidence = Evidence {
        derived: Some(visible),
        ..evidence::collect(store, done, compiled.observation.as_ref(), &record, entry_fields)
    };
    publish(store, done, &entry_key, &entry, evidence)?;
    fault::point(Point::EntryStored);
    Ok(Ingested { key: entry_key, new_bytes, entry, question })
}

/// Each root once, in key order.
fn distinct<'r>(roots: impl IntoIterator<Item = &'r Root>) -> Vec<Root> {
    roots.into_iter().copied().collect::<BTreeSet<_>>().into_iter().collect()
}

fn publish(
    store: &Store,
    done: &Finished<'_>,
    key: &EntryKey,
    entry: &Entry,
    evidence: Evidence,
) -> Result<(), NotStored> {
    let record = InputRecord { last: Some(*key), ..evidence.record.clone() };
    store.publish(key, entry, &evidence).map_err(refused)?;
    store.add_record(&done.key.0, record).map_err(refused)
}

/// The store's refusal as a reason.
pub fn refused(error: kache_store::Error) -> NotStored {
    let why = error.to_string();
    if error.is_full() { NotStored::Full(why) } else { NotStored::Store(why) }
}

/// The blob becomes the target's own inode where outputs are shared; elsewhere, and where the compiler keeps the file
/// in its incremental state under another name, it gets its own.
fn take_over(
    store: &Store,
    output: &Made,
    digest: &Digest,
    placement: Placement,
    canonical_s: i64,
) -> Result<Stored, NotStored> {
    let is_sole = fs::symlink_metadata(&output.path).is_ok_and(|meta| meta.nlink() == 1);
    let how = if placement == Placement::Shared && is_sole { IngestHow::Link } else { IngestHow::Clone };
    let permission = Permission::executable(output.executable);
    let stored = store.ingest(digest, &output.path, how, canonical_s, permission).map_err(refused)?;
    if placement == Placement::Shared {
        // Also where the store had the content already, or could only clone: the unit's time here is canonical.
        link::set_mtime_of(&output.path, stored.stat().mtime_s).map_err(refused)?;
    }
    let memo = DigestMemo::new(store);
    // Only a memo: dependents that look at the file don't have to read it.
    let _ = match output.kind {
        OutputKind::CheckMetadata => memo.note_redated(&output.path, digest, stored.stat().size),
        _ => memo.remember(&output.path, digest),
    };
    Ok(stored)
}

fn describe(
    store: &Store,
    done: &Finished<'_>,
    compiled: &Compiled,
    info: &DepInfo,
) -> Result<Entry, NotStored> {
    let portable = |text: &str| done.roots.tokenize(text).ok_or(NotStored::Text);
    let stream = |bytes: &Option<Vec<u8>>| -> Result<Text, NotStored> {
        let text =
            bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok()).ok_or(NotStored::Text)?;
        text_of(store, portable(text)?)
    };
    let info = info.map(|text| done.roots.tokenize(text)).ok_or(NotStored::Text)?;
    let env = |name: &str| done.call.env.text(name).unwrap_or_default().to_owned();
    let now = since_1970();
    let mut entry = Entry::new(done.key.0, &done.unit.crate_name);
    entry.package = env("CARGO_PKG_NAME");
    entry.package_version = env("CARGO_PKG_VERSION");
    entry.target = done.unit.target.clone().unwrap_or_default();
    entry.compiler = Some(done.toolchain.id);
    entry.dep_info = text_of(store, info.render())?;
    entry.dep_info_name = done.unit.dep_info_name();
    entry.stderr = stream(&compiled.stderr)?;
    entry.stdout = stream(&compiled.stdout)?;
    entry.compile_ms = u64::try_from(compiled.elapsed.as_millis()).unwrap_or(u64::MAX);
    entry.incremental = compiled.incremental;
    entry.created_s = now.as_secs();
    entry.boot = boot_id();
    Ok(entry)
}

/// A text of an entry: in it where it is short, else a blob.
pub fn text_of(store: &Store, text: String) -> Result<Text, NotStored> {
    if text.len() <= INLINE_BYTES_MAX {
        return Ok(Text::Inline(text));
    }
    store.ingest_bytes(text.as_bytes()).map(Text::Blob).map_err(refused)
}

/// Digests of the outputs, and the roots that they mention: one pass over the bytes, and a second one over those that mention
/// any. rustc has been told to name no remapped root in debug information, so what names one there comes from an object
/// of another compiler, in a library that a build script has made. Such a library serves other checkouts as it is, and
/// linking it there makes the same bytes.
fn examine(done: &Finished<'_>, made: &[Made]) -> Result<(Vec<Digest>, Vec<Root>), NotStored> {
    let home = crate::world::cargo_home(&done.call.env).unwrap_or_default();
    let sysroot = done.toolchain.sysroot.to_string_lossy();
    let scanner = Scanner::new(done.roots, &[&home, &sysroot]);
    let of_remapped = remap::remapped_roots(done.unit, done.roots, &done.call.cwd).into_iter();
    let remapped = Roots::new(of_remapped.filter_map(|root| Some((root, done.roots.get(root)?.to_owned()))));
    let mut digests = Vec::new();
    let mut baked: Vec<Root> = Vec::new();
    for output in made {
        let mut mentioned: Vec<Root> = Vec::new();
        let failed =
            |error: std::io::Error| NotStored::Outputs(format!("{}: {error}", output.path.display()));
        let mut file = fs::File::open(&output.path).map_err(failed)?;
        let debug = elf::debug_ranges(&ReadCache::new(&file)).unwrap_or_default();
        file.rewind().map_err(failed)?;
        let mut read: u64 = 0;
        let mut bytes = vec![0u8; 1 << 20];
        let mut hasher = kache_store::hashing::Hasher::new();
        let mut kept = 0;
        loop {
            // The end of the previous piece stays in front, so that nothing hides across the border.
            let count = file.read(&mut bytes[kept..]).map_err(failed)?;
            if count == 0 {
                break;
            }
            hasher.update(&bytes[kept..kept + count]);
            let filled = kept + count;
            read += count as u64;
            let is_debug = |at: usize| {
                let at = read - (filled - at) as u64;
                debug.iter().any(|range| range.contains(&at))
            };
            for root in scanner.mentions_where(&bytes[..filled], |at| !is_debug(at)) {
                if !mentioned.contains(&root) {
                    mentioned.push(root);
                }
            }
            kept = filled.min(scanner.overlap_bytes());
            bytes.copy_within(filled - kept..filled, 0);
        }
        if mentioned.iter().any(|root| remapped.get(*root).is_some())
            && only_in_debug_sections(
                &fs::read(&output.path).map_err(failed)?,
                &Scanner::new(&remapped, &[&home, &sysroot]),
            )
        {
            mentioned.retain(|root| remapped.get(*root).is_none());
        }
        baked.extend(mentioned);
        digests.push(hasher.finish());
    }
    Ok((digests, distinct(&baked)))
}
