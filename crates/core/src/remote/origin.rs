//! Whether an entry that came from elsewhere belongs under its key: the key is derived again from the evidence that
//! came with it. Knows nothing about signatures; someone who may write to the bucket can make evidence up, too.

use super::secrets;
use crate::digest::Digest;
use crate::entry::{Entry, Evidence};
use crate::entry_key;
use crate::key::{EntryKey, Field, KeyWriter, field};
use crate::paths::Root;

/// Most fields of evidence that are looked at.
pub const FIELDS_MAX: usize = 200_000;

/// Why an entry and its key don't belong together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The evidence makes another unit key.
    #[error("the evidence is of another unit")]
    Unit,
    /// The evidence makes another entry key.
    #[error("the evidence is of another entry")]
    Entry,
    /// Evidence, record and entry don't tell the same story.
    #[error("entry and evidence disagree about {0}")]
    Story(&'static str),
}

/// Checks that `evidence` makes exactly `key`, for the unit that the entry names.
pub fn check(key: &EntryKey, entry: &Entry, evidence: &Evidence) -> Result<(), Mismatch> {
    if evidence.unit_fields.len() + evidence.entry_fields.len() > FIELDS_MAX {
        return Err(Mismatch::Story("the number of fields"));
    }
    if rederive("unit", &evidence.unit_fields) != entry.unit.0 {
        return Err(Mismatch::Unit);
    }
    if rederive("entry", &evidence.entry_fields) != key.0 {
        return Err(Mismatch::Entry);
    }
    let unit = evidence.entry_fields.first();
    if unit.is_none_or(|field| field.name != field::UNIT || field.value != entry.unit.to_string()) {
        return Err(Mismatch::Story("the unit"));
    }
    if evidence.crate_name != entry.crate_name
        || !has(&evidence.unit_fields, field::CRATE_NAME, &entry.crate_name)
    {
        return Err(Mismatch::Story("the crate's name"));
    }
    if !names_inputs(evidence) {
        return Err(Mismatch::Story("the inputs"));
    }
    Ok(())
}

/// Whether the record names exactly what made the key, in the order in which `entry_key` adds it: a shorter record
/// would lead to this entry where other inputs changed.
fn names_inputs(evidence: &Evidence) -> bool {
    let Evidence { record, entry_fields, .. } = evidence;
    let baked = Root::ALL.into_iter().filter(|root| record.baked.contains(root));
    let baked = baked.map(|root| format!("{}{}", field::BAKED, root.name_prefix()));
    let inputs = record.inputs.iter().map(entry_key::input_field);
    let made = entry_fields.iter().skip(1).filter(|field| !record.rendered || field.name != field::RENDERING);
    baked.chain(inputs).eq(made.map(|field| field.name.clone()))
}

fn has(fields: &[Field], name: &str, value: &str) -> bool {
    fields.iter().any(|field| field.name == name && field.value == value)
}

fn rederive(kind: &str, fields: &[Field]) -> Digest {
    let mut key = KeyWriter::new(kind);
    for field in fields {
        key.text(field.name.clone(), field.value.clone());
    }
    key.finish().0
}

/// Names of the variables whose values the entry may depend on: those that were set.
fn variables(evidence: &Evidence) -> impl Iterator<Item = &str> {
    entry_key::set_variables(&evidence.entry_fields)
        .chain(evidence.macro_variables.iter().map(String::as_str))
}

/// A variable that looks like a credential and that the entry depends on: it and its key are nobody else's business.
/// `listed` are those that the user names.
pub fn secret<'e>(evidence: &'e Evidence, listed: &[String]) -> Option<&'e str> {
    variables(evidence).find(|name| secrets::is_secret(name, listed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use crate::entry_key::{Rendering, derive};
    use crate::key::UnitKey;
    use crate::paths::Roots;
    use crate::record::{Input, InputRecord, Observed};

    fn sample() -> (EntryKey, Entry, Evidence) {
        let mut unit = KeyWriter::new("unit");
        unit.text("crate name", "demo");
        let (digest, unit_fields) = unit.finish();
        let entry = Entry::new(UnitKey(digest), "demo");
        let inputs = vec![Input::File("{ws}/src/lib.rs".into()), Input::Env("X".into())];
        let record = InputRecord { inputs, ..InputRecord::default() };
        let observed = [Observed::Content(Digest::of(b"fn")), Observed::Absent];
        let (key, entry_fields) =
            derive(&entry.unit, &record, &observed, &Roots::default(), &Rendering::default());
        let macro_variables = vec!["Y".to_owned()];
        let crate_name = "demo".to_owned();
        let values = BTreeMap::new();
        let derived = None;
        let evidence = Evidence {
            crate_name,
            unit_fields,
            entry_fields,
            record,
            derived,
            macro_variables,
            values,
            readers: std::collections::BTreeMap::new(),
        };
        (key, entry, evidence)
    }

    #[test]
    fn evidence_must_make_the_very_key() {
        let (key, entry, evidence) = sample();
        assert_eq!(check(&key, &entry, &evidence), Ok(()));
        assert_eq!(variables(&evidence).collect::<Vec<_>>(), ["Y"], "X is unset");
        let other = EntryKey(Digest::of(b"other"));
        assert_eq!(check(&other, &entry, &evidence), Err(Mismatch::Entry));
        type Change = fn(&mut Entry, &mut Evidence);
        let cases: [(Change, Mismatch); 5] = [
            (|_, evidence| evidence.unit_fields.clear(), Mismatch::Unit),
            (|entry, _| entry.unit = UnitKey(Digest::of(b"x")), Mismatch::Unit),
            (|_, evidence| evidence.entry_fields[2].value = "absent ".into(), Mismatch::Entry),
            (|entry, _| entry.crate_name = "x".into(), Mismatch::Story("the crate's name")),
            (|_, evidence| drop(evidence.record.inputs.remove(0)), Mismatch::Story("the inputs")),
        ];
        for (i, (change, expected)) in cases.into_iter().enumerate() {
            let (key, mut entry, mut evidence) = sample();
            change(&mut entry, &mut evidence);
            let got = check(&key, &entry, &evidence);
            assert_eq!(got, Err(expected), "{i}");
        }
    }
}
