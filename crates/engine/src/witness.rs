//! Whether the local paths that a proc macro could see in its environment matter to a unit. What a macro makes of a path
//! can't be seen, and no scan finds a path's length or a hash of it. But two compiles of the same content in places that
//! differ in everything a macro could use, with equal results, prove it: from then on the unit is served everywhere. The
//! first compile of a unit's content leaves a witness; one with another result refutes it for good.

use std::collections::BTreeMap;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry::{Entry, OutputKind, Text};
use kache_core::key::KeyWriter;
use kache_core::paths::Root;
use kache_core::record::{Input, InputRecord};
use kache_store::Store;
use serde::{Deserialize, Serialize};

use crate::finished::Finished;
use crate::inputs::Observer;

/// What came out of a compile, and where.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Witness {
    /// `None` once two compiles of the same content had different results.
    result: Option<Digest>,
    /// The local roots that macros could see, and the workspace.
    places: BTreeMap<Root, String>,
}

impl Witness {
    /// Whether no macro could have made the same of both places by accident: they differ in length, and the workspaces
    /// also in their directories' names.
    fn is_elsewhere(&self, other: &Self) -> bool {
        let name = |path: &str| Path::new(path).file_name().map(ToOwned::to_owned);
        self.places.keys().eq(other.places.keys())
            && self.places.iter().zip(other.places.values()).all(|((root, one), two)| {
                one.len() != two.len() && (*root != Root::Workspace || name(one) != name(two))
            })
    }
}

/// The record without the paths that macros could see, once it is proven that they don't matter. `settled` are roots that
/// the outputs mention or that a variable names which the compiler itself has read: nothing is to be proven about them.
/// `visible` are those that variables name of which only the sources have the names.
pub fn portable(
    store: &Store,
    done: &Finished<'_>,
    observer: &Observer<'_>,
    (record, settled, visible): (&InputRecord, &[Root], &[Root]),
    entry: &Entry,
) -> Option<InputRecord> {
    let mut named = visible_roots(done, observer, record)?;
    named.extend(visible);
    if named.is_empty() || settled.contains(&Root::Workspace) {
        return None;
    }
    named.push(Root::Workspace);
    let places = named.into_iter().filter_map(|root| Some((root, done.roots.get(root)?.to_owned())));
    let mut now = Witness { result: Some(result(entry)), places: places.collect() };
    let record = InputRecord { baked: settled.to_vec(), ..record.without_macro_paths() };
    let (key, _) = observer.entry_key(&done.key.0, &record, &done.unit.rendering).ok()?;
    let before =
        store.memo_get("places", &key.0).and_then(|bytes| serde_json::from_slice::<Witness>(&bytes).ok());
    if let Some(before) = before {
        before.result?;
        if before.result != now.result {
            now.result = None;
        } else if before.is_elsewhere(&now) {
            return Some(record);
        }
    }
    // Without it the proof only comes later.
    let _ = store.memo_put("places", &key.0, &serde_json::to_vec(&now).ok()?);
    None
}

/// Roots in the variables that the unit's macros name; `None` when a macro can't be looked at.
fn visible_roots(done: &Finished<'_>, observer: &Observer<'_>, record: &InputRecord) -> Option<Vec<Root>> {
    let mut roots = Vec::new();
    for input in &record.inputs {
        let Input::MacroEnv(library) = input else { continue };
        for (_, value) in observer.variables_of(library)? {
            let text = value.to_str().and_then(|text| done.roots.tokenize(text)).unwrap_or_default();
            roots.extend(Root::ALL.into_iter().filter(|root| text.contains(root.text_token())));
        }
    }
    Some(roots)
}

/// Digest of everything that a hit brings back. An rlib that was compiled incrementally has members with random names
/// (rustc 1.95): there the metadata speaks for it, which holds a hash of the whole expanded crate.
fn result(entry: &Entry) -> Digest {
    let mut key = KeyWriter::new("result");
    let has_metadata = entry.outputs.iter().any(|output| output.kind == OutputKind::Metadata);
    let is_random = |kind| entry.incremental && has_metadata && kind == OutputKind::Rlib;
    for output in entry.outputs.iter().filter(|output| !is_random(output.kind)) {
        key.digest(&output.name, output.digest);
    }
    for (name, text) in [("dep-info", &entry.dep_info), ("stderr", &entry.stderr), ("stdout", &entry.stdout)]
    {
        match text {
            Text::Inline(text) => key.text(name, text.clone()),
            Text::Blob(digest) => key.digest(name, *digest),
        }
    }
    key.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elsewhere_is_where_length_and_name_differ() {
        let at = |workspace: &str| Witness {
            result: None,
            places: BTreeMap::from([
                (Root::Workspace, workspace.to_owned()),
                (Root::Target, format!("{workspace}/target")),
            ]),
        };
        for (two, elsewhere) in [
            ("/w/feature", true),
            ("/w/one", false),
            ("/w/two", false),
            ("/other/one", false),
            ("/v/w/other", true),
        ] {
            assert_eq!(at("/w/one").is_elsewhere(&at(two)), elsewhere, "{two}");
        }
        let other_roots =
            Witness { result: None, places: BTreeMap::from([(Root::Workspace, "/x".to_owned())]) };
        assert!(!at("/w/one").is_elsewhere(&other_roots));
    }
}
