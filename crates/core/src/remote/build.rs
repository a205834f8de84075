//! Build manifests: which entries builds of a lockfile needed, so that another machine can fetch exactly those without
//! listing anything. Knows neither how builds are observed nor how objects are fetched.
//!
//! ```text
//! {"version":1,"builds":[{"lockfile":…,"toolchain":…,"saved_s":…,
//!   "kinds":[{"target":"…","toolchain":…,"mode":"build","profile":"opt-level=3"}],
//!   "units":[{"crate_name":"serde","package":"serde","package_version":"1.0.0","unit_key":…,"entry_key":…,
//!             "kind":0,"slot":"0123…"}]}]}
//! ```
//! Newest build first, one for each lockfile and toolchain; it joins what several jobs have saved, each for its own
//! profiles and commands. `kind` counts into `kinds`; a unit without one may be of any, and a unit without a `slot` was
//! saved in a form that can't be joined. A shard has the same form and one build; its hash is that of what the build is
//! about, see [`shard_hash`]. At most [`OBJECT_BYTES_MAX`] bytes; a newer version is ignored.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::fit::{Kind, Offer, Shape};
use super::keys::Label;
use crate::digest::Digest;
use crate::form::{self, FormError};
use crate::key::{EntryKey, KeyWriter, UnitKey};

pub const VERSION: u32 = 1;
const FORM: &str = "build manifest";
/// Longest object that is read or written, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 16 << 20;
/// Most builds in one object; the oldest go first.
pub const BUILDS_MAX: usize = 16;
/// Most units of one build; those that were saved the longest ago go first.
pub const UNITS_MAX: usize = 20_000;

/// A unit that a build needed. In the JSON form the kind is a position among the build's kinds.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct BuildUnit<K = Kind> {
    /// `--crate-name`.
    pub crate_name: String,
    /// Cargo package and version; empty outside of packages.
    #[serde(default)]
    pub package: String,
    /// See `package`.
    #[serde(default)]
    pub package_version: String,
    pub unit_key: UnitKey,
    /// The result that the build used.
    pub entry_key: EntryKey,
    /// Compiler, target, mode and profile, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<K>,
    /// Names what stays the same while sources and dependencies change: of two units in one slot, the later one counts.
    /// Empty where that isn't known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub slot: String,
}

impl<K> BuildUnit<K> {
    fn with_kind<L>(self, kind: impl FnOnce(K) -> Option<L>) -> BuildUnit<L> {
        let Self { crate_name, package, package_version, unit_key, entry_key, slot, .. } = self;
        let kind = self.kind.and_then(kind);
        BuildUnit { crate_name, package, package_version, unit_key, entry_key, kind, slot }
    }
}

impl<'a> From<&'a BuildUnit> for Offer<'a> {
    fn from(unit: &'a BuildUnit) -> Self {
        Self { package: &unit.package, package_version: &unit.package_version, kind: unit.kind.clone() }
    }
}

/// What the builds of one lockfile with one toolchain needed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "BuildForm", into = "BuildForm")]
pub struct Build {
    /// Digest of `Cargo.lock`.
    pub lockfile: Digest,
    /// Identity of the compiler for the host.
    pub toolchain: Digest,
    /// When this was written, in seconds since 1970.
    pub saved_s: u64,
    /// Without repetition, what was saved last in front.
    pub units: Vec<BuildUnit>,
}

/// The JSON form of a build.
#[derive(Serialize, Deserialize)]
struct BuildForm {
    lockfile: Digest,
    toolchain: Digest,
    saved_s: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    kinds: Vec<Kind>,
    units: Vec<BuildUnit<usize>>,
}

impl From<Build> for BuildForm {
    fn from(build: Build) -> Self {
        let kinds: BTreeSet<Kind> = build.units.iter().filter_map(|unit| unit.kind.clone()).collect();
        let kinds: Vec<Kind> = kinds.into_iter().collect();
        let unit = |unit: BuildUnit| unit.with_kind(|kind| kinds.binary_search(&kind).ok());
        let units = build.units.into_iter().map(unit).collect();
        let Build { lockfile, toolchain, saved_s, .. } = build;
        Self { lockfile, toolchain, saved_s, units, kinds }
    }
}

impl From<BuildForm> for Build {
    fn from(form: BuildForm) -> Self {
        let BuildForm { lockfile, toolchain, saved_s, kinds, units } = form;
        let unit = |unit: BuildUnit<usize>| unit.with_kind(|kind| kinds.get(kind).cloned());
        Self { lockfile, toolchain, saved_s, units: units.into_iter().map(unit).collect() }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BuildManifest {
    version: u32,
    /// Newest first.
    pub builds: Vec<Build>,
}

impl BuildManifest {
    /// Puts a build in front, joined with what is known of the same lockfile and toolchain.
    pub fn add(&mut self, mut build: Build) {
        build.units.sort();
        build.units.dedup();
        let (known, others) =
            self.builds.drain(..).partition(|other| other.is_of(&build.lockfile, &build.toolchain));
        for earlier in Vec::<Build>::into_iter(known) {
            build.join(earlier);
        }
        build.units.truncate(UNITS_MAX);
        self.builds = others;
        self.builds.insert(0, build);
        self.builds.truncate(BUILDS_MAX);
    }

    /// Whether a build with the same lockfile and toolchain has each unit of this one, perhaps with other results.
    pub fn covers(&self, build: &Build) -> bool {
        self.find(&build.lockfile, &build.toolchain).is_some_and(|found| {
            let known: BTreeSet<_> = found.units.iter().map(BuildUnit::place).collect();
            build.units.iter().all(|unit| known.contains(&unit.place()))
        })
    }

    /// Whether adding a build would change nothing but its date.
    pub fn is_newest(&self, build: &Build) -> bool {
        self.builds.first().is_some_and(|first| {
            let known: BTreeSet<_> = first.units.iter().collect();
            first.is_of(&build.lockfile, &build.toolchain)
                && build.units.iter().all(|unit| known.contains(unit))
        })
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

    pub fn decode(bytes: &[u8]) -> Result<Self, FormError> {
        let manifest: Self = form::decode(bytes, (FORM, VERSION), |manifest: &Self| manifest.version)?;
        let too_many = manifest.builds.iter().any(|build| build.units.len() > UNITS_MAX);
        let absurd = [(manifest.builds.len() > BUILDS_MAX, "too many builds"), (too_many, "too many units")];
        form::refuse(FORM, &absurd)?;
        Ok(manifest)
    }
}

impl Build {
    fn is_of(&self, lockfile: &Digest, toolchain: &Digest) -> bool {
        self.lockfile == *lockfile && self.toolchain == *toolchain
    }

    /// Puts what only `earlier` has behind the rest. What it has in a form that can't be joined is left out: whoever
    /// saved that saves it again.
    fn join(&mut self, earlier: Build) {
        let known: BTreeSet<String> = self.units.iter().map(|unit| unit.slot.clone()).collect();
        let only_there =
            earlier.units.into_iter().filter(|unit| !unit.slot.is_empty() && !known.contains(&unit.slot));
        self.units.extend(only_there);
    }

    /// Whether some job has saved units of this shape, or units that may be of any.
    pub fn has_shape(&self, shape: &Shape) -> bool {
        self.units.iter().any(|unit| unit.kind.as_ref().is_none_or(|kind| kind.shape == *shape))
    }
}

impl BuildUnit {
    /// The slot, or what comes closest to one.
    fn place(&self) -> (&str, Option<&EntryKey>) {
        (&self.slot, Some(&self.entry_key).filter(|_| self.slot.is_empty()))
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
pub(crate) mod tests {
    use super::*;

    pub(crate) fn unit(slot: &str, entry: &str) -> BuildUnit {
        BuildUnit {
            crate_name: slot.to_owned(),
            package: String::new(),
            package_version: String::new(),
            unit_key: UnitKey(Digest::of(b"u")),
            entry_key: EntryKey(Digest::of(entry.as_bytes())),
            kind: None,
            slot: slot.to_owned(),
        }
    }

    fn build(lockfile: &str, units: &[(&str, &str)]) -> Build {
        Build {
            lockfile: Digest::of(lockfile.as_bytes()),
            toolchain: Digest::of(b"t"),
            saved_s: 1,
            units: units.iter().map(|(slot, entry)| unit(slot, entry)).collect(),
        }
    }

    fn shaped(mode: &str) -> Build {
        let mut build = build("a", &[(mode, mode), ("both", "1")]);
        let shape = Shape { mode: mode.to_owned(), profile: "opt-level=3".to_owned() };
        let kind = Kind { target: String::new(), toolchain: "t".to_owned(), shape };
        build.units[0].kind = Some(kind);
        build
    }

    /// Slots of the build of a lockfile, with what each is known by.
    fn slots(manifest: &BuildManifest, lockfile: &str) -> Vec<String> {
        let found = manifest.find(&Digest::of(lockfile.as_bytes()), &Digest::of(b"t")).expect("a build");
        found.units.iter().map(|unit| unit.slot.clone()).collect()
    }

    #[test]
    fn jobs_with_one_lockfile_join_and_a_later_result_replaces_an_earlier_one() {
        let mut manifest = BuildManifest::default();
        manifest.add(build("a", &[("x", "1"), ("y", "1")]));
        manifest.add(build("b", &[("x", "1")]));
        manifest.add(build("a", &[("z", "1"), ("y", "2")]));
        let back = BuildManifest::decode(&manifest.encode()).expect("own output");
        assert_eq!(back, BuildManifest { version: VERSION, ..manifest.clone() });
        assert_eq!(slots(&back, "a"), ["y", "z", "x"]);
        assert_eq!(back.builds[0].units[0].entry_key, EntryKey(Digest::of(b"2")));
        assert_eq!(slots(&back, "b"), ["x"]);
        assert_eq!(back.find(&Digest::of(b"b"), &Digest::of(b"other")), None);
        for (units, newest, covered) in [
            (&[("x", "1"), ("z", "1")][..], true, true),
            (&[("y", "1")], false, true),
            (&[("y", "2"), ("w", "1")], false, false),
        ] {
            assert_eq!(back.is_newest(&build("a", units)), newest, "{units:?}");
            assert_eq!(back.covers(&build("a", units)), covered, "{units:?}");
        }
        assert!(!back.is_newest(&build("b", &[("x", "1")])) && back.covers(&build("b", &[("x", "1")])));
        for i in 0..20 {
            manifest.add(build(&i.to_string(), &[("x", "1")]));
        }
        assert_eq!(manifest.builds.len(), BUILDS_MAX);
    }

    #[test]
    fn each_unit_says_what_it_is_for() {
        let mut manifest = BuildManifest::default();
        let modes = ["build", "check", "clippy"];
        modes.iter().for_each(|mode| manifest.add(shaped(mode)));
        let text = String::from_utf8(manifest.encode()).expect("JSON");
        assert_eq!(text.matches("opt-level=3").count(), 3, "each kind is written once: {text}");
        let mut back = BuildManifest::decode(text.as_bytes()).expect("own output");
        let kinds = back.builds[0].units.iter().filter_map(|unit| unit.kind.as_ref());
        assert_eq!(
            kinds.map(|kind| kind.shape.mode.as_str()).collect::<Vec<_>>(),
            ["clippy", "check", "build"]
        );
        let other = Shape { mode: "check".to_owned(), profile: String::new() };
        assert!(back.builds[0].has_shape(&other), "the unit without a kind may be of any");
        back.builds[0].units.retain(|unit| unit.kind.is_some());
        assert!(!back.builds[0].has_shape(&other));
        assert!(back.builds[0].has_shape(&Shape { profile: "opt-level=3".to_owned(), ..other }));
    }

    #[test]
    fn what_has_no_slots_is_read_and_replaced_by_what_has() {
        let digest = Digest::of(b"t");
        let lockfile = Digest::of(b"a");
        let plain = format!(
            r#"{{"version":1,"builds":[{{"lockfile":"{lockfile}","toolchain":"{digest}","saved_s":1,"units":[
               {{"crate_name":"old","unit_key":"{digest}","entry_key":"{digest}","kind":7}}]}}]}}"#
        );
        let mut manifest = BuildManifest::decode(plain.as_bytes()).expect("readable");
        assert_eq!(manifest.builds[0].units[0].kind, None);
        assert!(manifest.covers(&manifest.builds[0]));
        manifest.add(build("a", &[("x", "1")]));
        assert_eq!(slots(&manifest, "a"), ["x"]);
    }

    #[test]
    fn too_much_and_too_new_are_refused() {
        let mut manifest = BuildManifest::default();
        let names: Vec<String> = (0..=UNITS_MAX).map(|i| i.to_string()).collect();
        manifest.add(build("a", &names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>()));
        assert_eq!(manifest.builds[0].units.len(), UNITS_MAX);
        manifest.builds[0].units = vec![manifest.builds[0].units[0].clone(); UNITS_MAX + 1];
        assert!(matches!(BuildManifest::decode(&manifest.encode()), Err(FormError::Absurd(..))));
        for newer in [r#"{"version":2,"builds":[]}"#, r#"{"version":2,"builds":{}}"#] {
            assert!(matches!(BuildManifest::decode(newer.as_bytes()), Err(FormError::Newer(_, 2))));
        }
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
