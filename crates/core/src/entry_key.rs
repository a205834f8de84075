//! Derives the entry key: the unit key, and each input that a record names with what it looks like now. Contents
//! arrive as digests.

use crate::key::{EntryKey, Field, KeyWriter, UnitKey, field};
use crate::paths::{Root, Roots};
use crate::record::{Input, InputRecord, Observed};

/// What rendering the messages of a compile depends on, besides its inputs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendering {
    /// `--diagnostic-width`, `--color` and the like, as given.
    pub flags: Vec<String>,
}

/// The key of the result that `record` leads to, given what its inputs look like now. `observed` must have one
/// value for each of `record.inputs`, in order.
pub fn derive(
    unit: &UnitKey,
    record: &InputRecord,
    observed: &[Observed],
    roots: &Roots,
    rendering: &Rendering,
) -> (EntryKey, Vec<Field>) {
    let mut key = KeyWriter::new("entry");
    key.text(field::UNIT, unit.to_string());
    for root in Root::ALL {
        if record.baked.contains(&root) {
            key.text(format!("{}{}", field::BAKED, root.name_prefix()), roots.get(root).unwrap_or("-"));
        }
    }
    if record.rendered {
        for flag in &rendering.flags {
            key.text(field::RENDERING, flag.clone());
        }
    }
    debug_assert_eq!(record.inputs.len(), observed.len());
    for (input, value) in record.inputs.iter().zip(observed) {
        key.text(input_field(input), value.to_string());
    }
    let (digest, fields) = key.finish();
    (EntryKey(digest), fields)
}

/// Name of the field that an input has in the key.
pub fn input_field(input: &Input) -> String {
    match input {
        Input::File(name) => format!("file {name}"),
        Input::Dir(name) => format!("directory {name}"),
        Input::Link(name) => format!("link {name}"),
        Input::Probe(name) => format!("presence of {name}"),
        Input::Program(name) => format!("program {name} on PATH"),
        Input::Env(name) => format!("{}{name}", field::ENV),
        Input::MacroEnv(name) => format!("environment named in {name}"),
        Input::PortableMacroEnv(name) => format!("environment named in {name}, less local paths"),
    }
}

/// The variables that were set where a key was made of these fields: the key says something about their values.
pub fn set_variables(fields: &[Field]) -> impl Iterator<Item = &str> {
    let unset = Observed::Absent.to_string();
    fields
        .iter()
        .filter(move |field| field.value != unset)
        .filter_map(|field| field.name.strip_prefix(field::ENV))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    #[test]
    fn entry_key_tells_absent_unset_and_empty_apart_and_follows_baked_roots() {
        let unit = UnitKey(Digest::of(b"u"));
        let roots = |ws: &str| Roots::new([(Root::Workspace, ws.to_owned())]);
        let mut record = InputRecord { inputs: vec![Input::Env("X".into())], ..InputRecord::default() };
        let plain = Rendering::default();
        let wide = Rendering { flags: vec!["--diagnostic-width=99".into()] };
        let key = |r: &InputRecord, v: Observed, ws: &str, rendering: &Rendering| {
            derive(&unit, r, &[v], &roots(ws), rendering).0
        };
        let unset = key(&record, Observed::Absent, "/a", &plain);
        let empty = key(&record, Observed::Content(Digest::of(b"")), "/a", &plain);
        assert_ne!(unset, empty);
        let fields = |v| derive(&unit, &record, &[v], &roots("/a"), &plain).1;
        assert_eq!(set_variables(&fields(Observed::Absent)).count(), 0);
        let set = fields(Observed::Content(Digest::of(b"")));
        assert_eq!(set_variables(&set).collect::<Vec<_>>(), ["X"]);
        assert_eq!(unset, key(&record, Observed::Absent, "/b", &wide));
        record.baked = vec![Root::Workspace];
        assert_ne!(
            key(&record, Observed::Absent, "/a", &plain),
            key(&record, Observed::Absent, "/b", &plain)
        );
        record.rendered = true;
        assert_ne!(key(&record, Observed::Absent, "/a", &plain), key(&record, Observed::Absent, "/a", &wide));
    }
}
