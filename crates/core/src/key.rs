//! The types of keys, and how their fields are framed. One traversal feeds two sinks, the digest and the human
//! explanation. What goes into a key is decided in `unit_key` and `entry_key`.
//!
//! Framing: every field is `tag length value-length value` with 64-bit little-endian lengths before the bytes, so
//! no value can be read as another field. Order is the order of the traversal and is significant.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// Changes whenever the meaning of a key changes; entries of other recipes are never found.
///
/// History: 1, first release.
pub const RECIPE: u32 = 1;

macro_rules! key_type {
    ($name:ident, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Digest);

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = crate::digest::NotADigest;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

key_type!(UnitKey, "Everything about a compile that is known before its sources are looked at.");
key_type!(
    EntryKey,
    "A unit key plus the content of every input that a compile of the unit reads: names one result."
);

/// One named part of a key, as people see it in `kache why-miss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Field {
    /// What the part is, for instance `flag -C opt-level` or `extern serde`.
    pub name: String,
    /// Its value; for file contents a digest.
    pub value: String,
}

impl Field {
    /// The value of the first field with this name.
    pub fn value_of<'f>(fields: &'f [Self], name: &str) -> Option<&'f str> {
        fields.iter().find(|field| field.name == name).map(|field| field.value.as_str())
    }
}

/// Names of fields, or what they begin with, that more than their writer knows. They stand in stored evidence.
pub mod field {
    pub const BAKED: &str = "baked path ";
    pub const COMPILER: &str = "compiler";
    pub const CPU: &str = "cpu";
    pub const CRATE_NAME: &str = "crate name";
    pub const CRATE_TYPE: &str = "crate type";
    pub const EMIT: &str = "emit";
    pub const ENV: &str = "env ";
    pub const EXTERN: &str = "extern ";
    pub const KEY_SALT: &str = "key salt";
    pub const LINKER: &str = "program linker";
    pub const MODE: &str = "mode";
    pub const PORTABLE_PATHS: &str = "portable paths";
    pub const PROGRAM: &str = "program";
    pub const RENDERING: &str = "rendering";
    pub const SOURCE: &str = "source";
    pub const TARGET: &str = "target";
    pub const TEST: &str = "test";
    pub const UNIT: &str = "unit";
    pub const WORKING_DIRECTORY: &str = "working directory";
}

/// Collects key fields: hashes them and, where wanted, keeps them for the explanation.
pub struct KeyWriter {
    hasher: blake3::Hasher,
    fields: Vec<Field>,
}

impl KeyWriter {
    /// Starts a key of the given kind; the kind separates unit keys from entry keys.
    pub fn new(kind: &str) -> Self {
        let mut writer = Self { hasher: blake3::Hasher::new(), fields: Vec::new() };
        writer.frame(kind.as_bytes());
        writer.frame(&RECIPE.to_le_bytes());
        writer
    }

    fn frame(&mut self, bytes: &[u8]) {
        self.hasher.update(&(bytes.len() as u64).to_le_bytes());
        self.hasher.update(bytes);
    }

    /// Adds a field with a printable value.
    pub fn text(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let field = Field { name: name.into(), value: value.into() };
        self.frame(field.name.as_bytes());
        self.frame(field.value.as_bytes());
        self.fields.push(field);
    }

    /// Adds a field whose value is the content of something.
    pub fn digest(&mut self, name: impl Into<String>, digest: Digest) {
        self.text(name, digest.to_string());
    }

    /// The digest and the fields that made it.
    pub fn finish(self) -> (Digest, Vec<Field>) {
        (Digest::from_bytes(*self.hasher.finalize().as_bytes()), self.fields)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest_of(fields: &[(&str, &str)]) -> Digest {
        let mut key = KeyWriter::new("test");
        for (name, value) in fields {
            key.text(*name, *value);
        }
        key.finish().0
    }

    #[test]
    fn framing_keeps_fields_apart() {
        let all = [
            digest_of(&[("a", "bc")]),
            digest_of(&[("ab", "c")]),
            digest_of(&[("a", "b"), ("c", "")]),
            digest_of(&[("c", ""), ("a", "b")]),
            digest_of(&[]),
        ];
        for (i, x) in all.iter().enumerate() {
            for (j, y) in all.iter().enumerate() {
                assert_eq!(i == j, x == y);
            }
        }
    }
}
