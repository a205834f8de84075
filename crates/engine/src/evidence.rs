//! What `kache why-miss` is told about a compile besides the fields of its keys: readable values where a key has only
//! digests. Decides nothing; what may be written down is decided in `core::why`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::entry::Evidence;
use kache_core::key::Field;
use kache_core::record::{Input, InputRecord};
use kache_core::{entry_key, why};
use kache_store::Store;
use kache_store::hashing::DigestMemo;

use crate::macro_env;
use crate::reads::Finished;

/// Most values that are kept: a build script's library may name hundreds.
const VALUES_MAX: usize = 200;

/// What made a key, with readable values.
pub fn collect(
    store: &Store,
    done: &Finished<'_>,
    record: &InputRecord,
    entry_fields: Vec<Field>,
) -> Evidence {
    let mut values = BTreeMap::from([("compiler".to_owned(), done.toolchain.version.clone())]);
    let mut seen_by_macros = BTreeSet::new();
    for (i, input) in record.inputs.iter().enumerate() {
        if let Input::MacroEnv(library) = input {
            let variables = macro_variables(store, done, library).unwrap_or_default();
            seen_by_macros.extend(variables.iter().map(|(name, _)| (*name).to_owned()));
            if i < VALUES_MAX {
                let words = variables.iter().map(|(name, digest)| format!("{name}={}", digest.short()));
                values.insert(entry_key::input_field(input), words.collect::<Vec<_>>().join(" "));
            }
        }
    }
    for input in record.inputs.iter().take(VALUES_MAX) {
        let value = match input {
            Input::Env(name) => {
                done.call.env.get(name).and_then(|value| why::readable(name, value.to_str()?))
            }
            Input::MacroEnv(_) | Input::File(_) | Input::Dir(_) | Input::Link(_) => None,
        };
        if let Some(value) = value {
            values.insert(entry_key::input_field(input), value);
        }
    }
    Evidence {
        crate_name: done.unit.crate_name.clone(),
        unit_fields: done.key.1.to_vec(),
        entry_fields,
        record: record.clone(),
        values,
        macro_variables: seen_by_macros.into_iter().collect(),
    }
}

/// The variables that a macro's library names, with digests of their values.
fn macro_variables<'d>(
    store: &Store,
    done: &'d Finished<'_>,
    library: &str,
) -> Option<Vec<(&'d str, Digest)>> {
    let path = done.roots.path_of(library)?;
    let digest = DigestMemo::new(store).digest(Path::new(&path)).ok()??;
    macro_env::variables(store, &done.call.env, Path::new(&path), &digest)
}
