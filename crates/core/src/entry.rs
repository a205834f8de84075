//! Entries: the result of one compile, or of one run of a build script, as a list of blobs and texts, and its JSON form.
//! Does not know where blobs are kept or how they are put into place.
//!
//! ```text
//! {"version":1,"crate_name":…,"outputs":[{"name":"libx-1.rlib","kind":"link","digest":…,"size":…,"mtime_s":…}],
//!  "dep_info":{"inline":…}|{"blob":…},"stderr":…,"stdout":…,"compile_ms":…,"boot":…} newline CRC-32 newline
//! ```
//! One line and its CRC-32 (of zlib) in eight hexadecimal digits: texts and names lie here and nowhere else, and a bit
//! that a disk has turned may leave good JSON.
//! At most [`ENTRY_BYTES_MAX`] bytes; a newer version is ignored, never rewritten.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::form::{self, FormError};
use crate::key::{Field, UnitKey, field};
use crate::paths::Root;
use crate::provenance::Provenance;
use crate::record::InputRecord;
pub use crate::tree::is_safe_name;
use crate::tree::{self, Node};

pub const VERSION: u32 = 1;
const FORM: &str = "entry";
/// Longest entry file that is read, in bytes.
pub const ENTRY_BYTES_MAX: u64 = 8 << 20;
/// Texts longer than this become blobs of their own, in bytes.
pub const INLINE_BYTES_MAX: usize = 64 << 10;

/// What an output file is; decides how it may be put into a target directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OutputKind {
    /// `.rmeta` of a library that is also linked.
    Metadata,
    /// `.rmeta` of a `check` or clippy unit; Cargo sets its mtime after every run, so it never shares an inode.
    CheckMetadata,
    /// `.rlib`.
    Rlib,
    ProcMacro,
    BuildScript,
    /// A file that a build script wrote: scripts write to such files in place when they run again.
    Generated,
    /// Executables, test harnesses, cdylibs, dylibs and static libraries: people edit them in place (`strip`).
    Linked,
    /// `.dwo`, `.dwp`: debug information beside the output.
    Debug,
}

impl OutputKind {
    /// Whether a linker made it, or rustc itself a static library: object code of dependencies is in it.
    pub fn is_linked(self) -> bool {
        matches!(self, OutputKind::ProcMacro | OutputKind::BuildScript | OutputKind::Linked)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// File name inside the unit's output directory: one safe component, see [`is_safe_name`].
    pub name: String,
    pub kind: OutputKind,
    pub digest: Digest,
    /// Length in bytes.
    pub size: u64,
    /// The blob's modification time, in seconds since 1970; the nanoseconds are zero.
    pub mtime_s: i64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
}

/// A text that belongs to an entry, with root tokens in place of local paths.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// Short texts travel inside the entry.
    Inline(String),
    Blob(Digest),
}

impl Default for Text {
    fn default() -> Self {
        Text::Inline(String::new())
    }
}

impl Text {
    /// Whether there is nothing to show.
    pub fn is_empty(&self) -> bool {
        matches!(self, Text::Inline(text) if text.is_empty())
    }
}

/// The stored result of one compile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    version: u32,
    /// The unit that this is a result of.
    pub unit: UnitKey,
    /// `--crate-name`.
    pub crate_name: String,
    /// `CARGO_PKG_NAME` and `CARGO_PKG_VERSION`, for listings.
    #[serde(default)]
    pub package: String,
    /// See `package`.
    #[serde(default)]
    pub package_version: String,
    /// Target triple, empty for the host.
    #[serde(default)]
    pub target: String,
    /// The compiler that made it; `None` for the run of a build script, and in entries of an earlier kache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<Digest>,
    /// Output files, in the order in which the compiler announced them.
    pub outputs: Vec<Output>,
    /// For the run of a build script: what it left in `OUT_DIR`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tree: Vec<Node>,
    /// The `.d` file; empty for the run of a build script.
    pub dep_info: Text,
    /// Name of the `.d` file in the output directory.
    pub dep_info_name: String,
    /// What the compiler wrote to standard error, with artifact notifications.
    #[serde(default)]
    pub stderr: Text,
    /// What the compiler (in fact: proc macros) wrote to standard output.
    #[serde(default)]
    pub stdout: Text,
    /// Wall time of the compile, in milliseconds.
    pub compile_ms: u64,
    /// Whether the compile also wrote incremental state: other object files, the same behaviour.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incremental: bool,
    /// When the compile ended, in seconds since 1970.
    pub created_s: u64,
    /// Boot id under which the entry was written; empty once its blobs are known to be on stable storage.
    #[serde(default)]
    pub boot: String,
    /// The build for which the entry was fetched before it was asked for, see `event::Event::session`; empty for all
    /// other entries. Says nothing about the content.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefetched_for: String,
    /// Who made it. Only what was made here, or came with the signature of a trusted key, is ever signed.
    #[serde(default, skip_serializing_if = "Provenance::is_unknown")]
    pub provenance: Provenance,
}

impl Entry {
    /// The oldest recorded time among the blobs of the outputs, in seconds since 1970; `None` without outputs.
    pub fn oldest_mtime_s(&self) -> Option<i64> {
        self.outputs.iter().map(|output| output.mtime_s).min()
    }

    /// A new entry without outputs and texts, made here.
    pub fn new(unit: UnitKey, crate_name: &str) -> Self {
        Self {
            version: VERSION,
            unit,
            crate_name: crate_name.to_owned(),
            package: String::new(),
            package_version: String::new(),
            target: String::new(),
            compiler: None,
            outputs: Vec::new(),
            tree: Vec::new(),
            dep_info: Text::default(),
            dep_info_name: String::new(),
            stderr: Text::default(),
            stdout: Text::default(),
            compile_ms: 0,
            incremental: false,
            created_s: 0,
            boot: String::new(),
            prefetched_for: String::new(),
            provenance: Provenance::Here,
        }
    }

    /// Every blob that the entry needs.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let texts = [&self.dep_info, &self.stderr, &self.stdout];
        let text_blobs = texts.into_iter().filter_map(|text| match text {
            Text::Blob(digest) => Some(*digest),
            Text::Inline(_) => None,
        });
        self.outputs.iter().map(|output| output.digest).chain(text_blobs.collect::<Vec<_>>())
    }

    pub fn size_bytes(&self) -> u64 {
        self.outputs.iter().map(|output| output.size).sum()
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(self).unwrap_or_default();
        let sum = checksum(&bytes);
        bytes.extend(sum.into_bytes());
        bytes
    }

    /// Reads the stored form and checks its names.
    pub fn decode(bytes: &[u8]) -> Result<Self, FormError> {
        let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (json, sum) = bytes.split_at(end);
        let entry: Entry = form::decode(json, (FORM, VERSION), |entry: &Self| entry.version)?;
        if sum != checksum(json).as_bytes() {
            return Err(FormError::Damaged(FORM, "the checksum doesn't fit".to_owned()));
        }
        let names = entry.outputs.iter().map(|output| &output.name).chain([&entry.dep_info_name]);
        let unsafe_name = names.map(String::as_str).find(|name| !is_safe_name(name));
        match unsafe_name.or(tree::astray(&entry.tree)).map(str::to_owned) {
            Some(name) => Err(FormError::UnsafeName(FORM, name)),
            None => Ok(entry),
        }
    }
}

/// What follows the JSON form of an entry.
fn checksum(json: &[u8]) -> String {
    format!("\n{:08x}\n", crc32fast::hash(json))
}

/// What made an entry's key, kept beside the entry for `why-miss`; never read on a hit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// `--crate-name`.
    pub crate_name: String,
    pub unit_fields: Vec<Field>,
    pub entry_fields: Vec<Field>,
    /// The record that the entry was stored under.
    pub record: InputRecord,
    /// Roots that count as kept in the outputs although no scan need find them there: something may have been
    /// derived from their path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub derived: Option<Vec<Root>>,
    /// Readable values of fields whose value is a digest, by the field's name, where they may be kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, String>,
    /// Names of the variables that were set and that proc macros may have read: an entry whose macros may have seen a
    /// credential isn't shared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macro_variables: Vec<String>,
    /// The program that asked for a variable, by the variable's name, where that was observed; `macro` for a proc macro.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub readers: BTreeMap<String, String>,
}

impl Evidence {
    /// The same without values of this machine's environment and notes of its store: for what leaves the machine.
    pub fn for_others(mut self) -> Self {
        self.record.provenance = Provenance::Unknown;
        self.values.retain(|name, _| name == field::COMPILER);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Entry {
        let mut entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        entry.dep_info_name = "demo-1.d".into();
        entry.stderr = Text::Blob(Digest::of(b"warning"));
        entry.outputs.push(Output {
            name: "libdemo-1.rlib".into(),
            kind: OutputKind::Rlib,
            digest: Digest::of(b"rlib"),
            size: 4,
            mtime_s: 1,
            executable: false,
        });
        entry
    }

    #[test]
    fn json_form_round_trips() {
        let entry = sample();
        assert_eq!(Entry::decode(&entry.encode()).expect("own output"), entry);
        assert_eq!(entry.blobs().collect::<Vec<_>>(), [Digest::of(b"rlib"), Digest::of(b"warning")]);
    }

    #[test]
    fn no_turned_bit_goes_unnoticed() {
        let good = sample().encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            match Entry::decode(&bytes) {
                // An entry of a newer kache is left alone, whatever is in it.
                Err(FormError::Newer(..)) => {}
                other => assert!(other.is_err(), "bit {bit}"),
            }
        }
    }

    #[test]
    fn values_of_variables_stay_on_the_machine() {
        let values =
            [("compiler", "rustc 1.95"), ("env BUILD_ID", "\"7\""), ("environment named in m", "X=1")];
        let values = values.map(|(field, value)| (field.to_owned(), value.to_owned())).into();
        let evidence = Evidence { values, ..Evidence::default() };
        assert_eq!(evidence.for_others().values.into_keys().collect::<Vec<_>>(), ["compiler"]);
    }

    #[test]
    fn names_that_leave_the_directory_are_refused() {
        for bad in ["", ".", "..", "a/b", "../x", "a\\b", "x\0", &"x".repeat(256)] {
            let mut entry = sample();
            entry.outputs[0].name = bad.to_owned();
            assert!(matches!(Entry::decode(&entry.encode()), Err(FormError::UnsafeName(..))), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = Entry::decode(&bytes);
        }
    }
}
