//! What of a unit names this place: outputs that keep a local directory, and the small files of a fingerprint directory,
//! whose texts get the directories of the place where they are put. Decides nothing about freshness.

use std::fs;
use std::path::Path;

use kache_core::entry::{Entry, Evidence};
use kache_core::paths::{Root, Roots};
use kache_core::scan::Scanner;
use kache_core::seed_unit::{Content, SeedUnit, SmallFile};
use kache_core::seeding::Unseeded;

use super::surroundings::Surroundings;
use crate::mentions;
use crate::times::mtime_ns;

/// Largest file of a fingerprint directory that is kept, in bytes.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// The directory that the outputs can't leave: one that they name, unless only debug information does.
pub fn binding(
    around: &Surroundings,
    evidence: &Evidence,
    entry: &Entry,
    dir: &Path,
) -> Result<Option<String>, Unseeded> {
    let local = [Root::Target, Root::Workspace];
    let baked = |roots: &[Root]| roots.iter().any(|root| local.contains(root));
    if !baked(&evidence.record.baked) {
        return Ok(None);
    }
    let bound = || around.roots.get(Root::Target).map(str::to_owned);
    // Something may have been made of the path that no search finds.
    if evidence.derived.as_deref().is_none_or(baked) {
        return Ok(bound());
    }
    let roots = local.map(|root| (root, around.roots.get(root).unwrap_or_default().to_owned()));
    let scanner = Scanner::new(&Roots::new(roots), &[&around.cargo_home]);
    for output in &entry.outputs {
        let bytes = fs::read(dir.join(&output.name)).map_err(|_| Unseeded::Unknown(output.name.clone()))?;
        if !mentions::only_in_debug_sections(&bytes, &scanner) {
            return Ok(bound());
        }
    }
    Ok(None)
}

/// The fingerprint directory's files, but for the hash, which comes last when the unit is placed.
pub fn small_files(around: &Surroundings, dir: &Path, unit: &mut SeedUnit) -> Result<(), Unseeded> {
    let unreadable =
        |name: &str| Unseeded::Stale(format!("{name} in its fingerprint directory can't be kept"));
    let entries = fs::read_dir(dir).map_err(|_| unreadable("nothing"))?.flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.retain(|name| *name != unit.name);
    names.sort();
    for name in names {
        let path = dir.join(&name);
        let meta = fs::metadata(&path).map_err(|_| unreadable(&name))?;
        let mtime_ns = mtime_ns(&path).ok_or_else(|| unreadable(&name))?;
        if !meta.is_file() || meta.len() > SMALL_BYTES_MAX {
            return Err(unreadable(&name));
        }
        let bytes = fs::read(&path).map_err(|_| unreadable(&name))?;
        let text = String::from_utf8(bytes.clone()).ok().filter(|_| !name.starts_with("dep-"));
        let content = match text.and_then(|text| around.roots.tokenize(&text)) {
            Some(tokens) if tokens.contains(Root::Workspace.text_token()) => {
                return Err(unreadable(&name));
            }
            Some(tokens) => Content::Text(tokens),
            None if names_local(around, &bytes) => {
                unit.bound_to = around.roots.get(Root::Target).map(str::to_owned);
                Content::hex(&bytes)
            }
            None => Content::hex(&bytes),
        };
        unit.files.push(SmallFile { name, content, mtime_ns });
    }
    Ok(())
}

fn names_local(around: &Surroundings, bytes: &[u8]) -> bool {
    let dirs = [Root::Target, Root::Workspace].map(|root| around.roots.get(root));
    dirs.into_iter().flatten().any(|dir| memchr::memmem::find(bytes, dir.as_bytes()).is_some())
}
