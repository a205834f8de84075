//! What `kache why-miss` is told about a compile besides the fields of its keys: readable values where a key has only
//! digests. Decides nothing; what may be written down is decided in `core::why`.

use std::collections::BTreeMap;
use std::path::Path;

use kache_core::entry::Evidence;
use kache_core::key::Field;
use kache_core::record::{Input, InputRecord};
use kache_core::{entry_key, why};
use kache_store::Store;
use kache_store::hashing::DigestMemo;

use crate::inputs::Observer;
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
    for input in record.inputs.iter().take(VALUES_MAX) {
        let value = match input {
            Input::Env(name) => {
                done.call.env.get(name).and_then(|value| why::readable(name, value.to_str()?))
            }
            Input::MacroEnv(library) => macro_variables(store, done, library),
            Input::File(_) | Input::Dir(_) | Input::Link(_) => None,
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
        macro_variables: Observer::new(store, &done.call.env, done.roots).macro_variables(&record.inputs),
        values,
    }
}

/// The variables that a macro's library names, each with the beginning of its value's digest.
fn macro_variables(store: &Store, done: &Finished<'_>, library: &str) -> Option<String> {
    let path = done.roots.path_of(library)?;
    let digest = DigestMemo::new(store).digest(Path::new(&path)).ok()??;
    let variables = macro_env::variables(store, &done.call.env, Path::new(&path), &digest)?;
    let words = variables.iter().map(|(name, digest)| format!("{name}={}", digest.short()));
    Some(words.collect::<Vec<_>>().join(" "))
}
