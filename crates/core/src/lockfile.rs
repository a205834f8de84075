//! `Cargo.lock`: which packages a workspace uses. Knows nothing about where the file is.

use std::collections::BTreeSet;

use serde::Deserialize;

use crate::digest::Digest;

/// Longest file that is read, in bytes.
pub const LOCKFILE_BYTES_MAX: u64 = 32 << 20;

/// The packages of a lockfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    /// Digest of the file.
    pub digest: Digest,
    packages: BTreeSet<(String, String)>,
}

/// A text that is not a lockfile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a Cargo.lock: {0}")]
pub struct NotALockfile(String);

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    package: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
}

impl Lockfile {
    /// Reads the file's text.
    pub fn parse(text: &str) -> Result<Self, NotALockfile> {
        let form: Form =
            toml::from_str(text).map_err(|error| NotALockfile(error.to_string().trim_end().to_owned()))?;
        let packages = form.package.into_iter().map(|package| (package.name, package.version)).collect();
        Ok(Self { digest: Digest::of(text.as_bytes()), packages })
    }

    /// Whether the package is in it in this version.
    pub fn has(&self, package: &str, version: &str) -> bool {
        self.packages.contains(&(package.to_owned(), version.to_owned()))
    }

    /// Names of its packages, each once, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let names: BTreeSet<&str> = self.packages.iter().map(|(name, _)| name.as_str()).collect();
        names.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_are_known_by_name_and_version() {
        let text = "version = 4\n[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\ndependencies = [\"c\"]\n\
                    [[package]]\nname = \"c\"\nversion = \"0.1.0\"\nsource = \"registry+x\"\nchecksum = \"y\"\n\
                    [[package]]\nname = \"c\"\nversion = \"0.2.0\"\n";
        let lockfile = Lockfile::parse(text).expect("a lockfile");
        assert!(lockfile.has("c", "0.2.0") && lockfile.has("a-b", "1.0.0"));
        assert!(!lockfile.has("c", "0.3.0") && !lockfile.has("a_b", "1.0.0"));
        assert_eq!(lockfile.names().collect::<Vec<_>>(), ["a-b", "c"]);
        assert_eq!(lockfile.digest, Digest::of(text.as_bytes()));
        assert_eq!(Lockfile::parse("").map(|lockfile| lockfile.names().count()), Ok(0));
        assert!(Lockfile::parse("[[package]]\nname = 1").is_err());
    }
}
