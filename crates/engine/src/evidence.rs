//! What is told about a compile besides the fields of its keys: for `kache why-miss` readable values where a key has only
//! digests, for uploads the names of variables that may hold secrets. Decides nothing; what may be written down is
//! decided in `core::why`.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;

use kache_core::digest::Digest;
use kache_core::entry::Evidence;
use kache_core::key::{Field, field};
use kache_core::record::{Input, InputRecord};
use kache_core::{entry_key, why};
use kache_store::Store;
use kache_store::sys::Observation;

use crate::finished::Finished;
use crate::macro_env;
use crate::variables;

/// Most values that are kept: a build script's library may name hundreds.
const VALUES_MAX: usize = 200;

/// What made a key, with readable values.
pub fn collect(
    store: &Store,
    done: &Finished<'_>,
    seen: Option<&Observation>,
    record: &InputRecord,
    entry_fields: Vec<Field>,
) -> Evidence {
    let mut values = BTreeMap::from([(field::COMPILER.to_owned(), done.toolchain.version.clone())]);
    let mut macro_variables = BTreeSet::new();
    for input in &record.inputs {
        let value = match input {
            Input::Env(name) => {
                done.call.env.get(name).and_then(|value| why::readable(name, value.to_str()?))
            }
            Input::MacroEnv(library) | Input::PortableMacroEnv(library) => {
                macro_env::variables_of(store, &done.call.env, done.roots, library).map(|variables| {
                    macro_variables.extend(variables.iter().map(|(name, _)| (*name).to_owned()));
                    let digest = |value: &OsStr| Digest::of(value.as_encoded_bytes());
                    let words =
                        variables.iter().map(|(name, value)| format!("{name}={}", digest(value).short()));
                    words.collect::<Vec<_>>().join(" ")
                })
            }
            Input::File(_) | Input::Dir(_) | Input::Link(_) | Input::Probe(_) | Input::Program(_) => None,
        };
        if let Some(value) = value.filter(|_| values.len() < VALUES_MAX) {
            values.insert(entry_key::input_field(input), value);
        }
    }
    Evidence {
        crate_name: done.unit.crate_name.clone(),
        unit_fields: done.key.1.to_vec(),
        entry_fields,
        record: record.clone(),
        derived: None,
        values,
        macro_variables: macro_variables.into_iter().collect(),
        readers: seen.map(variables::readers).unwrap_or_default(),
    }
}
