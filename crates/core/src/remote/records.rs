//! Input records in the bucket: the same JSON form as in the store, merged so that neither of two machines loses what
//! the other knows, and checked before they are used. Knows nothing about where either comes from.

use crate::form::FormError;
use crate::key::EntryKey;
use crate::record::{Input, InputRecord, RECORDS_MAX, RecordSet};

/// Longest object that is read or written, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 4 << 20;
/// Most inputs of one record that are accepted.
const INPUTS_MAX: usize = 50_000;
/// Longest name of an input that is accepted, in bytes.
const NAME_BYTES_MAX: usize = 4096;

/// Reads an object and drops the records in it that can't be looked at safely.
pub fn decode(bytes: &[u8]) -> Result<RecordSet, FormError> {
    let mut set = RecordSet::decode(bytes)?;
    set.records.retain(is_acceptable);
    Ok(set)
}

/// Whether looking at what a record names can do no harm: it is bounded and leads to places that compilers read from.
/// Which of the keys that follow are nobody else's business is decided where they are asked for.
pub fn is_acceptable(record: &InputRecord) -> bool {
    record.inputs.len() <= INPUTS_MAX && record.inputs.iter().all(is_harmless) && record.baked.len() <= 8
}

fn is_harmless(input: &Input) -> bool {
    let (name, is_path) = match input {
        Input::Env(name) => (name, false),
        Input::Program(name) if name.contains('/') => return false,
        Input::Program(name) => (name, false),
        Input::File(name)
        | Input::Dir(name)
        | Input::Link(name)
        | Input::Probe(name)
        | Input::MacroEnv(name)
        | Input::PortableMacroEnv(name) => (name, true),
    };
    if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(['\0', '\u{1}', '\u{2}']) {
        return false;
    }
    !is_path || (name.starts_with(['/', '{']) && !leads_to_devices(name))
}

/// Whether a name leads to devices or to what the kernel makes up: files there may have no end. Linkers name their
/// inputs with `..` in them, so names are followed; one that climbs out of its root may come to any directory.
fn leads_to_devices(name: &str) -> bool {
    let is_absolute = name.starts_with('/');
    let mut inside: Vec<&str> = Vec::new();
    let mut has_climbed = false;
    for part in name.split('/').skip(1).filter(|part| !matches!(*part, "" | ".")) {
        match part {
            ".." => has_climbed |= inside.pop().is_none(),
            part => inside.push(part),
        }
    }
    let top = inside.first().copied().unwrap_or_default();
    (is_absolute || has_climbed) && matches!(top, "dev" | "proc" | "sys")
}

/// What both know: `mine` in front, then what only `theirs` has. Returns whether `mine` grew.
pub fn merge(mine: &mut RecordSet, theirs: &RecordSet) -> Grown {
    let mut grown = Grown::No;
    for record in &theirs.records {
        if mine.records.len() < RECORDS_MAX && !mine.records.iter().any(|own| own.is_same(record)) {
            mine.records.push(record.clone());
            grown = Grown::Yes;
        }
    }
    grown
}

/// Whether a set has more records than before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grown {
    Yes,
    No,
}

/// The bucket's records with what only this machine knows in front. The record that led to `latest` names it.
pub fn join(theirs: RecordSet, mine: &RecordSet, latest: Option<EntryKey>) -> (RecordSet, Change) {
    let mut joined = theirs;
    let mut change = Change::None;
    for record in mine.records.iter().rev() {
        match joined.records.iter_mut().find(|known| known.is_same(record)) {
            None => {
                joined.add(record.clone());
                change = Change::Records;
            }
            Some(known) if latest.is_some() && record.last == latest && known.last != latest => {
                known.last = latest;
                if change == Change::None {
                    change = Change::Latest;
                }
            }
            Some(_) => {}
        }
    }
    (joined, change)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    None,
    /// Only which result is the latest.
    Latest,
    Records,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    fn record(input: Input) -> InputRecord {
        InputRecord { inputs: vec![input], ..InputRecord::default() }
    }

    fn set(names: &[&str]) -> RecordSet {
        let mut set = RecordSet::default();
        set.records = names.iter().map(|name| record(Input::Env((*name).to_owned()))).collect();
        set
    }

    #[test]
    fn merging_loses_nothing_and_prefers_what_is_here() {
        let mut mine = set(&["a", "b"]);
        assert_eq!(merge(&mut mine, &set(&["b", "c"])), Grown::Yes);
        assert_eq!(mine, set(&["a", "b", "c"]));
        assert_eq!(merge(&mut mine, &set(&["c", "a"])), Grown::No);
        let mut full = set(&["1", "2", "3", "4", "5", "6", "7", "8"]);
        assert_eq!(merge(&mut full, &set(&["9"])), Grown::No);
        assert_eq!(full.records.len(), RECORDS_MAX);
    }

    #[test]
    fn joining_adds_what_is_new_and_updates_the_latest_result_of_the_pushed_one() {
        let key = |name: &str| Some(EntryKey(Digest::of(name.as_bytes())));
        let last = |set: &RecordSet| set.records.iter().map(|record| record.last).collect::<Vec<_>>();
        let mut mine = set(&["a", "b"]);
        (mine.records[0].last, mine.records[1].last) = (key("1"), key("2"));
        let (joined, change) = join(set(&["c"]), &mine, key("1"));
        assert_eq!((last(&joined), change), (vec![key("1"), key("2"), None], Change::Records));
        let mut theirs = joined;
        assert_eq!(join(theirs.clone(), &mine, key("1")), (theirs.clone(), Change::None));
        theirs.records[0].last = key("old");
        theirs.records[1].last = key("newer, of another machine");
        let (joined, change) = join(theirs.clone(), &mine, key("1"));
        assert_eq!(change, Change::Latest);
        assert_eq!(last(&joined), [key("1"), key("newer, of another machine"), None]);
        assert_eq!(join(theirs.clone(), &mine, None), (theirs, Change::None));
    }

    #[test]
    fn records_that_lead_to_odd_places_are_dropped() {
        let good = [
            Input::File("{ws}/src/lib.rs".into()),
            Input::Dir("/usr/include".into()),
            Input::Env("X".into()),
            Input::Program("cc".into()),
            Input::Probe("{ws}/data".into()),
            Input::MacroEnv("{target}/debug/deps/libm-1.so".into()),
            Input::File("/usr/lib/gcc/x86_64-linux-gnu/12/../../../x86_64-linux-gnu/crt1.o".into()),
            Input::File("{ws}/a/../b/x.rs".into()),
            Input::File("{ws}/../sibling/x.rs".into()),
            Input::File("{ws}/proc/x.rs".into()),
        ];
        let bad = [
            Input::File("/dev/zero".into()),
            Input::File("/proc/self/environ".into()),
            Input::File("/usr/../dev/zero".into()),
            Input::File("{ws}/../../proc/self/environ".into()),
            Input::Dir("relative".into()),
            Input::Link(String::new()),
            Input::File(format!("/{}", "x".repeat(NAME_BYTES_MAX))),
            Input::File("/a\0b".into()),
            Input::Env(String::new()),
            Input::Program("../cc".into()),
        ];
        for (inputs, kept) in [(good.as_slice(), true), (bad.as_slice(), false)] {
            for input in inputs {
                let mut set = RecordSet::default();
                set.records.push(record(input.clone()));
                let decoded = decode(&set.encode()).expect("a set");
                assert_eq!(!decoded.records.is_empty(), kept, "{input:?}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
