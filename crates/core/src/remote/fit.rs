//! Whether something in a bucket is of use for what is being built: one question, asked by pulls and prefetches of
//! manifests and of the units of build manifests alike. Knows nothing about where either comes from.

use serde::{Deserialize, Serialize};

use super::manifest::Manifest;

/// How a unit was compiled: what all units of one kind of build have in common.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Shape {
    /// `build`, `check` or `clippy`.
    pub mode: String,
    /// What a Cargo profile decides, see [`super::manifest::profile_of`].
    pub profile: String,
}

/// Who compiled a unit, for whom, and how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Kind {
    /// Target triple, empty for the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Identity of the compiler for that target.
    pub toolchain: String,
    #[serde(flatten)]
    pub shape: Shape,
}

/// What the bucket says about one unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer<'a> {
    /// Cargo package; empty outside of packages.
    pub package: &'a str,
    pub package_version: &'a str,
    /// Its kind; `None` where whoever wrote it down didn't know, which fits everything.
    pub kind: Option<Kind>,
}

impl<'a> From<&'a Manifest> for Offer<'a> {
    fn from(manifest: &'a Manifest) -> Self {
        let shape = Shape { mode: manifest.mode.clone(), profile: manifest.profile.clone() };
        let kind = Kind { target: manifest.target.clone(), toolchain: manifest.toolchain.clone(), shape };
        Self { package: &manifest.package, package_version: &manifest.package_version, kind: Some(kind) }
    }
}

/// What is being built, as far as whoever asks knows it. Of which shape it is, nobody knows beforehand.
pub struct Wanted<'a> {
    /// Whether a package of this name and version is a part of it.
    pub has_package: &'a dyn Fn(&str, &str) -> bool,
    /// Whether, for this target (empty for the host), the compiler of this identity is used.
    pub uses_compiler: &'a dyn Fn(&str, &str) -> bool,
}

impl Wanted<'_> {
    /// Whether the unit may be a part of it.
    pub fn takes<'o>(&self, offer: impl Into<Offer<'o>>) -> bool {
        let offer = offer.into();
        let fits = |kind: &Kind| (self.uses_compiler)(&kind.target, &kind.toolchain);
        (self.has_package)(offer.package, offer.package_version) && offer.kind.as_ref().is_none_or(fits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::build::tests::unit;
    use crate::remote::manifest::tests::sample;

    fn kind(target: &str, toolchain: &str, mode: &str, profile: &str) -> Kind {
        let shape = Shape { mode: mode.to_owned(), profile: profile.to_owned() };
        Kind { target: target.to_owned(), toolchain: toolchain.to_owned(), shape }
    }

    #[test]
    fn manifests_and_units_are_judged_alike() {
        let wanted = Wanted {
            has_package: &|name, version| (name, version) == ("serde", "1.0.0"),
            uses_compiler: &|target, id| matches!((target, id), ("", "host") | ("wasm", "cross")),
        };
        for (version, kind, expected) in [
            ("1.0.0", kind("", "host", "build", "debug"), true),
            ("1.0.0", kind("wasm", "cross", "check", "debug"), true),
            ("1.0.1", kind("", "host", "build", "debug"), false),
            ("1.0.0", kind("", "cross", "build", "debug"), false),
            ("1.0.0", kind("wasm", "host", "build", "debug"), false),
            ("1.0.0", kind("", "host", "build", "release"), true),
        ] {
            let mut manifest = sample();
            manifest.package = "serde".to_owned();
            manifest.package_version = version.to_owned();
            manifest.target.clone_from(&kind.target);
            manifest.toolchain.clone_from(&kind.toolchain);
            manifest.mode.clone_from(&kind.shape.mode);
            manifest.profile.clone_from(&kind.shape.profile);
            let mut named = unit("serde", "e");
            named.package = "serde".to_owned();
            named.package_version = version.to_owned();
            named.kind = Some(kind.clone());
            assert_eq!(wanted.takes(&manifest), expected, "{version} {kind:?}");
            assert_eq!(wanted.takes(&named), expected, "{version} {kind:?}");
            // What isn't written down may be anything, of a package that is part of it.
            named.kind = None;
            assert_eq!(wanted.takes(&named), version == "1.0.0");
        }
    }
}
