//! Looks for an entry: reads the unit's records, observes what they name, and opens the entry under the key that
//! follows. Starts no process and asks nobody.

use kache_core::entry::Entry;
use kache_core::entry_key::{self, Rendering};
use kache_core::key::{EntryKey, Field, UnitKey, field};
use kache_core::reason::Miss;
use kache_core::record::{Input, InputRecord, Observed, Sight};
use kache_core::remote::secrets;
use kache_store::Store;
use kache_store::entries::Settled;

use crate::inputs::Observer;
use crate::sight;

pub enum Found {
    Hit(EntryKey, Box<Entry>),
    Miss(Missed),
}

/// What a look-up without result found out.
pub struct Missed {
    pub why: Miss,
    /// The newest record of the unit and the key fields that follow from it here, for whoever explains the miss.
    pub seen: Option<(InputRecord, Vec<Field>)>,
    /// The keys that the unit's records lead to and that may be asked for elsewhere, newest first.
    pub wanted: Vec<EntryKey>,
}

impl From<Miss> for Missed {
    fn from(why: Miss) -> Self {
        Self { why, seen: None, wanted: Vec::new() }
    }
}

/// Looks for an entry of the unit, which `compiler` would compile, or of a run that observed as compiles of it are. `secret_env` are the variables that the user lists as
/// credentials.
pub fn lookup(
    store: &Store,
    rendering: &Rendering,
    key: &UnitKey,
    observer: &Observer<'_>,
    (secret_env, compiler): (&[String], &str),
) -> Result<Found, kache_store::Error> {
    let mut records = store.records(key)?.records;
    // What was seen less completely than here may lack an input. Usually nothing was, and there is no need to know.
    if records.iter().any(|record| record.observed < Sight::Variables) {
        let sight = sight::here(store, compiler);
        records.retain(|record| record.observed >= sight);
    }
    let mut absent = Vec::new();
    for record in &records {
        let Ok((entry_key, fields)) = observer.entry_key(key, record, rendering) else { continue };
        let Some(entry) = store.entry(&entry_key)? else {
            if !shows_secret(record, &fields, observer, secret_env) {
                absent.push(entry_key);
            }
            continue;
        };
        return Ok(match store.settle(&entry_key, &entry)? {
            Settled::Trusted => Found::Hit(entry_key, Box::new(entry)),
            Settled::Broken(_) => {
                // Others may have suffered too; what stays is taken for good by the next compile.
                for digest in entry.blobs() {
                    if !store.verify_blob(&digest)? {
                        store.drop_damaged(&digest)?;
                    }
                }
                store.drop_entry(&entry_key)?;
                let why = Miss::Broken("lost in a power cut".to_owned());
                let is_private = shows_secret(record, &fields, observer, secret_env);
                let wanted = Some(entry_key).filter(|_| !is_private).into_iter().collect();
                Found::Miss(Missed { wanted, ..why.into() })
            }
        });
    }
    let missed = match records.first() {
        None => Miss::UnitUnknown.into(),
        Some(record) => explain(store, rendering, key, record, observer),
    };
    Ok(Found::Miss(Missed { wanted: absent, ..missed }))
}

/// Whether the key that a record leads to here says something about a credential: one that is set, and that the record
/// names itself or by way of a macro's library. No other machine is asked about such a key: none has its result.
fn shows_secret(
    record: &InputRecord,
    fields: &[Field],
    observer: &Observer<'_>,
    secret_env: &[String],
) -> bool {
    let libraries = record.inputs.iter().filter_map(|input| match input {
        Input::MacroEnv(library) | Input::PortableMacroEnv(library) => observer.variables_of(library),
        _ => None,
    });
    let by_macros = libraries.flatten().map(|(name, _)| name);
    entry_key::set_variables(fields).chain(by_macros).any(|name| secrets::is_secret(name, secret_env))
}

/// Names what differs from the entry that was stored under the newest record.
fn explain(
    store: &Store,
    rendering: &Rendering,
    key: &UnitKey,
    record: &InputRecord,
    observer: &Observer<'_>,
) -> Missed {
    let now = match observer.entry_key(key, record, rendering) {
        Ok((_, fields)) => fields,
        Err(input) => return Miss::InputsChanged(format!("{input:?} can't be looked at here")).into(),
    };
    let before = record.last.and_then(|last| store.evidence(&last).ok().flatten()).map(|e| e.entry_fields);
    let why = match first_difference(&before.unwrap_or_default(), &now) {
        Some(Field { name, value }) if name.starts_with(field::BAKED) => {
            let root = record.baked.iter().find(|root| name.ends_with(root.name_prefix()));
            root.map_or(Miss::InputsChanged(value.clone()), |root| Miss::PathBaked(root.name_prefix()))
        }
        Some(field) if field.value == Observed::Absent.to_string() => {
            Miss::InputsChanged(format!("{} is gone", field.name))
        }
        Some(field) => Miss::InputsChanged(field.name.clone()),
        None => Miss::InputsChanged("the entry was evicted".to_owned()),
    };
    Missed { why, seen: Some((record.clone(), now)), wanted: Vec::new() }
}

fn first_difference<'a>(before: &[Field], now: &'a [Field]) -> Option<&'a Field> {
    now.iter().find(|field| !before.contains(field)).filter(|_| !before.is_empty())
}
