//! Build manifests: which entries builds of a lockfile needed, so that another machine can fetch exactly those without
//! listing anything. Knows neither how builds are observed nor how objects are fetched.
//!
//! ```text
//! {"version":1,"builds":[{"lockfile":…,"toolchain":…,"saved_s":…,
//!   "units":[{"crate_name":"serde","package":"serde","package_version":"1.0.0","unit_key":…,"entry_key":…}]}]}
//! ```
//! Newest build first, one for each lockfile and toolchain. A shard has the same form and one build; its hash is
//! that of the two, see [`shard_hash`]. At most [`OBJECT_BYTES_MAX`] bytes; a newer version is ignored.

use serde::{Deserialize, Serialize};

use super::keys::Label;
use crate::digest::Digest;
use crate::key::{EntryKey, KeyWriter, UnitKey};

/// Version of the JSON form.
pub const VERSION: u32 = 1;
/// Longest object that is read or written, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 16 << 20;
/// Most builds in one object; the oldest go first.
pub const BUILDS_MAX: usize = 16;
/// Most units of one build.
pub const UNITS_MAX: usize = 20_000;

/// A unit that a build needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuildUnit {
    /// `--crate-name`.
    pub crate_name: String,
    /// Cargo package and version; empty outside of packages.
    #[serde(default)]
    pub package: String,
    /// See `package`.
    #[serde(default)]
    pub package_version: String,
    /// Its key.
    pub unit_key: UnitKey,
    /// The result that the build used.
    pub entry_key: EntryKey,
}

/// What the builds of one lockfile with one toolchain needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Digest of `Cargo.lock`.
    pub lockfile: Digest,
    /// Identity of the compiler for the host.
    pub toolchain: Digest,
    /// When this was written, in seconds since 1970.
    pub saved_s: u64,
    /// Sorted, without repetition.
    pub units: Vec<BuildUnit>,
}

/// The object.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildManifest {
    version: u32,
    /// Newest first.
    pub builds: Vec<Build>,
}

/// Why bytes are not a build manifest that can be used.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// Not the JSON form at all.
    #[error("not a build manifest: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Written by a newer kache; left alone.
    #[error("build manifest of version {0}, newer than this kache")]
    Newer(u32),
    /// More than any build has.
    #[error("the build manifest names too many {0}")]
    TooMany(&'static str),
}

impl BuildManifest {
    /// Puts a build in front, in place of one with the same lockfile and toolchain.
    pub fn add(&mut self, mut build: Build) {
        build.units.sort();
        build.units.dedup();
        self.builds.retain(|other| !other.is_of(&build.lockfile, &build.toolchain));
        self.builds.insert(0, build);
        self.builds.truncate(BUILDS_MAX);
    }

    /// The build of a lockfile with a toolchain.
    pub fn find(&self, lockfile: &Digest, toolchain: &Digest) -> Option<&Build> {
        self.builds.iter().find(|build| build.is_of(lockfile, toolchain))
    }

    /// The JSON form. The oldest builds are left out where it would be too long.
    pub fn encode(&self) -> Vec<u8> {
        let mut manifest = BuildManifest { version: VERSION, builds: self.builds.clone() };
        loop {
            let bytes = serde_json::to_vec(&manifest).unwrap_or_default();
            if bytes.len() as u64 <= OBJECT_BYTES_MAX || manifest.builds.len() < 2 {
                return bytes;
            }
            manifest.builds.pop();
        }
    }

    /// Reads the JSON form.
    pub fn decode(bytes: &[u8]) -> Result<Self, BuildError> {
        let manifest: BuildManifest = serde_json::from_slice(bytes)?;
        if manifest.version > VERSION {
            return Err(BuildError::Newer(manifest.version));
        }
        if manifest.builds.len() > BUILDS_MAX {
            return Err(BuildError::TooMany("builds"));
        }
        if manifest.builds.iter().any(|build| build.units.len() > UNITS_MAX) {
            return Err(BuildError::TooMany("units"));
        }
        Ok(manifest)
    }
}

impl Build {
    fn is_of(&self, lockfile: &Digest, toolchain: &Digest) -> bool {
        self.lockfile == *lockfile && self.toolchain == *toolchain
    }
}

/// The hash in a shard's name: what the build depends on from the start, so that it can be named without looking.
pub fn shard_hash(manifest_key: &Label, lockfile: &Digest, toolchain: &Digest) -> Digest {
    let mut key = KeyWriter::new("build shard");
    key.text("manifest key", manifest_key.to_string());
    key.digest("lockfile", *lockfile);
    key.digest("toolchain", *toolchain);
    key.finish().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn build(lockfile: &str, units: usize) -> Build {
        let unit = |i: usize| BuildUnit {
            crate_name: format!("c{i}"),
            package: String::new(),
            package_version: String::new(),
            unit_key: UnitKey(Digest::of(b"u")),
            entry_key: EntryKey(Digest::of(b"e")),
        };
        Build {
            lockfile: Digest::of(lockfile.as_bytes()),
            toolchain: Digest::of(b"t"),
            saved_s: 1,
            units: (0..units).rev().map(unit).collect(),
        }
    }

    #[test]
    fn a_later_build_of_the_same_lockfile_replaces_the_earlier_and_others_stay() {
        let mut manifest = BuildManifest::default();
        for (lockfile, units) in [("a", 1), ("b", 2), ("a", 3)] {
            manifest.add(build(lockfile, units));
        }
        let back = BuildManifest::decode(&manifest.encode()).expect("own output");
        assert_eq!(back.builds.iter().map(|build| build.units.len()).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(back.builds[0].units[0].crate_name, "c0");
        let found = back.find(&Digest::of(b"b"), &Digest::of(b"t")).map(|build| build.units.len());
        assert_eq!(found, Some(2));
        assert_eq!(back.find(&Digest::of(b"b"), &Digest::of(b"other")), None);
        for i in 0..20 {
            manifest.add(build(&i.to_string(), 1));
        }
        assert_eq!(manifest.builds.len(), BUILDS_MAX);
    }

    #[test]
    fn too_much_and_too_new_are_refused() {
        let mut manifest = BuildManifest::default();
        manifest.add(build("a", UNITS_MAX + 1));
        manifest.builds[0].units = vec![manifest.builds[0].units[0].clone(); UNITS_MAX + 1];
        assert!(matches!(BuildManifest::decode(&manifest.encode()), Err(BuildError::TooMany(_))));
        let newer = br#"{"version":2,"builds":[]}"#;
        assert!(matches!(BuildManifest::decode(newer), Err(BuildError::Newer(2))));
    }

    #[test]
    fn every_part_changes_the_hash() {
        let label = |text: &str| text.parse::<Label>().expect("a label");
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let all = [
            shard_hash(&label("x"), &a, &b),
            shard_hash(&label("y"), &a, &b),
            shard_hash(&label("x"), &b, &b),
            shard_hash(&label("x"), &a, &a),
        ];
        for (i, hash) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == hash), Some(i));
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = BuildManifest::decode(&bytes);
        }
    }
}
