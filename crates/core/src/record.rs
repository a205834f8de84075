//! Input records: the names of what a past compile of a unit read, and the JSON form of a unit's records. Values
//! are not part of a record; they are observed again at every look-up.
//!
//! ```text
//! {"version":2,"records":[{"inputs":[{"file":"{ws}/src/lib.rs"},{"env":"X"}],"baked":["target"],"rendered":true,
//!                          "observed":"files"}]}
//! ```
//! Newest record first. A file is at most [`RECORDS_BYTES_MAX`] bytes; a newer version is ignored, never rewritten.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::form::{self, FormError};
use crate::key::EntryKey;
use crate::paths::Root;
use crate::provenance::Provenance;

pub const VERSION: u32 = 2;
/// Longest record file that is read, in bytes.
pub const RECORDS_BYTES_MAX: u64 = 16 << 20;
/// Most records kept for one unit; the oldest go first.
pub const RECORDS_MAX: usize = 8;

/// Something that a compile read, by its portable name (see [`crate::paths`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// A file's content, or its absence: `foo/mod.rs` beside `foo.rs` must stay absent.
    File(String),
    /// The names in a directory (not their contents).
    Dir(String),
    Link(String),
    /// What is there, looked at without being opened: nothing, a directory, or a file. A file counts by its content; one
    /// that is too long to be read for this counts by its size and time.
    Probe(String),
    /// The program that `PATH` leads to for this name: its path and content, or its absence.
    Program(String),
    /// An environment variable reported by the compiler (`# env-dep:`).
    Env(String),
    /// All environment variables whose names occur in this proc-macro library: what it may read unreported.
    MacroEnv(String),
    /// The same with tokens in place of local roots, where it is proven that nothing else of them matters.
    PortableMacroEnv(String),
}

/// How the inputs of a compile came to light. A record is believed only by machines that would have seen no more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sight {
    /// The compiler and the linker reported them; also records of kache before 0.7, which observed less.
    #[default]
    Reported,
    /// Every file that a process of the compile used was observed, wherever it lies.
    Files,
    /// And every environment variable that a program asked its C library for.
    Variables,
}

/// What an input looks like now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// No such file, or the variable is unset.
    Absent,
    /// Digest of the content, of the sorted names, or of the (root-normalised) value.
    Content(Digest),
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Observed::Absent => f.write_str("absent"),
            Observed::Content(digest) => digest.fmt(f),
        }
    }
}

/// The inputs of one past compile of a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputRecord {
    /// Sorted, without repetition.
    pub inputs: Vec<Input>,
    /// Roots whose local path was found inside the outputs: the entry is valid only where they are the same.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub baked: Vec<Root>,
    /// The compile printed messages, so flags that only affect their rendering matter.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rendered: bool,
    /// How the inputs came to light.
    #[serde(default)]
    pub observed: Sight,
    /// The entry that was stored under this record last: what a miss is compared with. Not part of what a record is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<EntryKey>,
    /// Who made it. Not part of what a record is.
    #[serde(default, skip_serializing_if = "Provenance::is_unknown")]
    pub provenance: Provenance,
}

impl InputRecord {
    /// Whether both name the same inputs in the same way.
    pub fn is_same(&self, other: &InputRecord) -> bool {
        let parts = |record: &Self| (record.rendered, record.observed);
        (&self.inputs, &self.baked) == (&other.inputs, &other.baked) && parts(self) == parts(other)
    }

    /// The record without the local paths that proc macros may have seen.
    pub fn without_macro_paths(&self) -> Self {
        let free = |input: &Input| match input {
            Input::MacroEnv(name) => Input::PortableMacroEnv(name.clone()),
            other => other.clone(),
        };
        let mut inputs: Vec<Input> = self.inputs.iter().map(free).collect();
        inputs.sort_unstable();
        Self { inputs, ..self.clone() }
    }
}

/// All records of a unit, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSet {
    version: u32,
    pub records: Vec<InputRecord>,
}

impl RecordSet {
    /// Puts `record` in front, dropping an equal one and the oldest beyond [`RECORDS_MAX`]. Returns whether
    /// anything changed.
    pub fn add(&mut self, record: InputRecord) -> bool {
        if self.records.first() == Some(&record) {
            return false;
        }
        self.records.retain(|r| !r.is_same(&record));
        self.records.insert(0, record);
        self.records.truncate(RECORDS_MAX);
        true
    }

    pub fn encode(&self) -> Vec<u8> {
        let set = RecordSet { version: VERSION, records: self.records.clone() };
        serde_json::to_vec(&set).unwrap_or_default()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self, FormError> {
        let mut set: Self = form::decode(bytes, ("input record", VERSION), |set: &Self| set.version)?;
        set.records.truncate(RECORDS_MAX);
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> InputRecord {
        InputRecord { inputs: vec![Input::File(name.into())], ..InputRecord::default() }
    }

    #[test]
    fn newest_first_without_repetition_and_bounded() {
        let mut set = RecordSet::default();
        for i in 0..20 {
            assert!(set.add(record(&i.to_string())));
        }
        assert_eq!(set.records.len(), RECORDS_MAX);
        assert!(!set.add(record("19")));
        assert!(set.add(record("15")));
        assert_eq!(set.records[0], record("15"));
        assert_eq!(set.records.len(), RECORDS_MAX);
        let back = RecordSet::decode(&set.encode()).expect("own output");
        assert_eq!(back.records, set.records);
    }

    #[test]
    fn a_newer_version_is_ignored() {
        for newer in [r#"{"version":99,"records":[]}"#, r#"{"version":99,"records":[{"inputs":7}]}"#] {
            assert!(matches!(RecordSet::decode(newer.as_bytes()), Err(FormError::Newer(_, 99))));
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = RecordSet::decode(&bytes);
        }
    }
}
