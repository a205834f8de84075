//! Names of objects in the bucket, and the way back from a listed name. Knows nothing about their content.
//!
//! ```text
//! {prefix}/v3/packs/{crate}/{entry_key}.tar.zst      outputs of one compile, packed
//! {prefix}/v3/manifests/{crate}/{entry_key}.json     what the pack is; written after it
//! {prefix}/v3/signatures/{crate}/{entry_key}/{key}.json   what a witness signed of a manifest
//! {prefix}/v3/inputs/{crate}/{unit_key}.json         names of what a unit's compiles read
//! {prefix}/_manifests/{manifest_key}.json            what builds needed, by lockfile
//! {prefix}/_manifests/v3/{namespace}/shards/{hash}.json
//! {prefix}/_manifests/snapshots/{hash}               what dependencies left in target directories, see `shared`
//! ```
//! `{crate}` is the package's name written as a crate name (`-` becomes `_`), so that its library, build script and
//! binaries lie together and one listing per package of a lockfile finds them all. A compile outside of any package
//! is filed under its own crate name.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::{EntryKey, UnitKey};

/// Longest name of a crate, a manifest key or a namespace, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

/// A crate's name that is safe inside an object's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CrateDir(String);

impl CrateDir {
    /// The folder for a unit of `package` (may be empty) that is called `crate_name`. `None` for names that no object
    /// can have; such entries stay local.
    pub fn of(package: &str, crate_name: &str) -> Option<Self> {
        let name = if package.is_empty() { crate_name } else { package };
        let name = name.replace('-', "_");
        let fits = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        (fits && !name.is_empty() && name.len() <= NAME_BYTES_MAX).then_some(Self(name))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CrateDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A manifest key or a namespace: one part of an object's name, chosen by a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// A text that can't be a part of an object's name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a name (letters, digits, `.`, `-`, `_`, at most {NAME_BYTES_MAX})")]
pub struct NotALabel(String);

impl std::str::FromStr for Label {
    type Err = NotALabel;

    fn from_str(text: &str) -> Result<Self, NotALabel> {
        let fits = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'));
        // `v3` beside `{manifest_key}.json` is no clash, but a name of dots alone leads elsewhere.
        if !fits || text.is_empty() || text.len() > NAME_BYTES_MAX || text.bytes().all(|b| b == b'.') {
            return Err(NotALabel(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for Label {
    type Error = NotALabel;

    fn try_from(text: String) -> Result<Self, NotALabel> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names below one prefix, relative to the bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    prefix: String,
}

impl Keys {
    /// Names below `prefix`, which has no slashes at its ends.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.trim_matches('/').to_owned() }
    }

    pub fn pack(&self, dir: &CrateDir, key: &EntryKey) -> String {
        format!("{}/v3/packs/{dir}/{key}.tar.zst", self.prefix)
    }

    pub fn manifest(&self, dir: &CrateDir, key: &EntryKey) -> String {
        format!("{}/v3/manifests/{dir}/{key}.json", self.prefix)
    }

    /// The signature of `signer`, a public key in hexadecimal, beside the manifest of an entry. The key's beginning tells
    /// witnesses apart: names have limits, and the object says the whole.
    pub fn signature(&self, dir: &CrateDir, key: &EntryKey, signer: &str) -> String {
        let begin = signer.get(..16).unwrap_or(signer);
        format!("{}/v3/signatures/{dir}/{key}/{begin}.json", self.prefix)
    }

    /// What the names of all manifests of a crate start with.
    pub fn manifests_of(&self, dir: &CrateDir) -> String {
        format!("{}/v3/manifests/{dir}/", self.prefix)
    }

    /// What the names of all manifests start with.
    pub fn manifests(&self) -> String {
        format!("{}/v3/manifests/", self.prefix)
    }

    /// What the names of all packs, manifests and input records start with.
    pub fn all(&self) -> String {
        format!("{}/v3/", self.prefix)
    }

    /// The input records of a unit.
    pub fn inputs(&self, dir: &CrateDir, unit: &UnitKey) -> String {
        format!("{}/v3/inputs/{dir}/{unit}.json", self.prefix)
    }

    pub fn build(&self, manifest_key: &Label) -> String {
        format!("{}/_manifests/{manifest_key}.json", self.prefix)
    }

    /// What the names of the shards of all namespaces start with.
    pub fn shards(&self) -> String {
        format!("{}/_manifests/v3/", self.prefix)
    }

    pub fn shard(&self, namespace: &Label, hash: &Digest) -> String {
        format!("{}/_manifests/v3/{namespace}/shards/{hash}.json", self.prefix)
    }

    /// The snapshots about something, see [`super::shared::About::hash`].
    pub fn snapshots(&self, hash: &Digest) -> String {
        format!("{}/_manifests/snapshots/{hash}", self.prefix)
    }

    /// An object that shows whether writing works: written by whoever asks, read back, and left there.
    pub fn scratch(&self) -> String {
        format!("{}/v3/doctor.txt", self.prefix)
    }

    /// The way back from the name of a manifest; `None` for other names, which listings may hold.
    pub fn parse_manifest(&self, name: &str) -> Option<(CrateDir, EntryKey)> {
        match Named::parse(name.strip_prefix(self.prefix.as_str())?)? {
            Named::Manifest(dir, key) if name == self.manifest(&dir, &key) => Some((dir, key)),
            _ => None,
        }
    }
}

/// What an object is, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Named {
    Pack(CrateDir, EntryKey),
    Manifest(CrateDir, EntryKey),
    /// The input records of a unit.
    Inputs(UnitKey),
    /// The build manifest of a key.
    Build(Label),
    /// Snapshots, by the hash of what they are about.
    Snapshots(Digest),
}

impl Named {
    /// Reads a name, whatever its prefix; `None` for names that no object of the layout has.
    pub fn parse(name: &str) -> Option<Self> {
        let parts: Vec<&str> = name.split('/').collect();
        if parts.iter().any(|part| matches!(*part, "." | "..")) {
            return None;
        }
        let crate_dir = |dir: &str| CrateDir::of("", dir).filter(|made| made.as_str() == dir);
        let entry = |dir: &str, file: &str, end: &str| -> Option<(CrateDir, EntryKey)> {
            Some((crate_dir(dir)?, file.strip_suffix(end)?.parse().ok()?))
        };
        let of_entry = match parts[..] {
            [.., "v3", "packs", dir, file] => entry(dir, file, ".tar.zst").map(|(d, k)| Self::Pack(d, k)),
            [.., "v3", "manifests", dir, file] => {
                entry(dir, file, ".json").map(|(d, k)| Self::Manifest(d, k))
            }
            [.., "v3", "inputs", dir, file] => {
                let unit = file.strip_suffix(".json").and_then(|unit| unit.parse().ok());
                unit.filter(|_| crate_dir(dir).is_some()).map(Self::Inputs)
            }
            _ => None,
        };
        // A prefix may look like the beginning of the other names.
        of_entry.or_else(|| match parts[..] {
            [.., "_manifests", "snapshots", hash] => hash.parse().ok().map(Self::Snapshots),
            [.., "_manifests", file] => file.strip_suffix(".json")?.parse().ok().map(Self::Build),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_documented_ones() {
        let keys = Keys::new("artifacts");
        let dir = CrateDir::of("serde-json", "build_script_build").expect("a name");
        let (entry, unit) = (EntryKey(Digest::of(b"e")), UnitKey(Digest::of(b"u")));
        let label = |text: &str| text.parse::<Label>().expect("a label");
        for (name, expected) in [
            (keys.pack(&dir, &entry), format!("artifacts/v3/packs/serde_json/{entry}.tar.zst")),
            (keys.manifest(&dir, &entry), format!("artifacts/v3/manifests/serde_json/{entry}.json")),
            (keys.manifests_of(&dir), "artifacts/v3/manifests/serde_json/".to_owned()),
            (keys.inputs(&dir, &unit), format!("artifacts/v3/inputs/serde_json/{unit}.json")),
            (
                keys.build(&label("x86_64-unknown-linux-gnu")),
                "artifacts/_manifests/x86_64-unknown-linux-gnu.json".to_owned(),
            ),
            (
                keys.shard(&label("main"), &entry.0),
                format!("artifacts/_manifests/v3/main/shards/{entry}.json"),
            ),
            (
                keys.signature(&dir, &entry, "ab"),
                format!("artifacts/v3/signatures/serde_json/{entry}/ab.json"),
            ),
            (keys.snapshots(&entry.0), format!("artifacts/_manifests/snapshots/{entry}")),
        ] {
            assert_eq!(name, expected);
        }
        assert_eq!(keys.parse_manifest(&keys.manifest(&dir, &entry)), Some((dir, entry)));
    }

    #[test]
    fn a_listing_may_hold_anything() {
        let keys = Keys::new("a/b");
        let key = EntryKey(Digest::of(b"e"));
        for name in [
            String::new(),
            "a/b/v3/manifests/".to_owned(),
            format!("a/b/v3/manifests/{key}.json"),
            format!("a/b/v3/manifests/../{key}.json"),
            format!("a/b/v3/manifests/x/y/{key}.json"),
            format!("a/b/v3/manifests/x-y/{key}.json"),
            format!("a/v3/manifests/x/{key}.json"),
            format!("a/b/v3/manifests/x/{key}.JSON"),
            "a/b/v3/manifests/x/short.json".to_owned(),
        ] {
            assert_eq!(keys.parse_manifest(&name), None, "{name}");
        }
    }

    #[test]
    fn a_name_says_what_it_is_whatever_its_prefix() {
        let dir = CrateDir::of("serde-json", "").expect("a name");
        let (entry, unit) = (EntryKey(Digest::of(b"e")), UnitKey(Digest::of(b"u")));
        let label: Label = "host".parse().expect("a label");
        for prefix in ["", "artifacts", "a/b", "v3/packs"] {
            let keys = Keys::new(prefix);
            for (name, named) in [
                (keys.pack(&dir, &entry), Some(Named::Pack(dir.clone(), entry))),
                (keys.manifest(&dir, &entry), Some(Named::Manifest(dir.clone(), entry))),
                (keys.inputs(&dir, &unit), Some(Named::Inputs(unit))),
                (keys.build(&label), Some(Named::Build(label.clone()))),
                (keys.snapshots(&entry.0), Some(Named::Snapshots(entry.0))),
                (keys.shard(&label, &entry.0), None),
                (keys.scratch(), None),
                (keys.manifests(), None),
                (format!("../{}", keys.pack(&dir, &entry)), None),
                (format!("{}/", keys.pack(&dir, &entry)), None),
                (keys.pack(&dir, &entry).replace("_json", "-json"), None),
                (keys.inputs(&dir, &unit).replace("/inputs/", "/inputs/x/"), None),
            ] {
                assert_eq!(Named::parse(&name), named, "{name}");
            }
        }
    }

    #[test]
    fn names_that_could_leave_their_folder_are_none() {
        for bad in ["", "..", "a/b", "a b", "ä", "a.b", &"x".repeat(129)] {
            assert_eq!(CrateDir::of(bad, ""), None, "{bad}");
        }
        for bad in ["", ".", "..", "a/b", "a b", "ä", &"x".repeat(129)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
        assert_eq!(CrateDir::of("", "app").as_ref().map(CrateDir::as_str), Some("app"));
    }
}
