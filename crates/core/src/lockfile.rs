//! `Cargo.lock`: which packages a workspace uses, and which of them come first. Knows nothing about where the file is.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::digest::Digest;

/// Longest file that is read, in bytes.
pub const LOCKFILE_BYTES_MAX: u64 = 32 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lockfile {
    pub digest: Digest,
    packages: BTreeSet<(String, String)>,
    order: Vec<(String, String)>,
    /// For each package of `order`, the positions of those that it depends on.
    uses: Vec<Vec<usize>>,
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
    #[serde(default)]
    dependencies: Vec<String>,
}

impl Lockfile {
    /// Where the lockfile that counts in `dir` is: the nearest one, upwards. `is_file` looks whether there is one.
    pub fn nearest(dir: &Path, is_file: impl Fn(&Path) -> bool) -> Option<PathBuf> {
        dir.ancestors().map(|dir| dir.join("Cargo.lock")).find(|path| is_file(path))
    }

    pub fn parse(text: &str) -> Result<Self, NotALockfile> {
        let form: Form =
            toml::from_str(text).map_err(|error| NotALockfile(error.to_string().trim_end().to_owned()))?;
        let names = |package: &Package| (package.name.clone(), package.version.clone());
        let uses = resolved(&form.package);
        let order = dependencies_first(&uses);
        let mut positions = vec![0; order.len()];
        order.iter().enumerate().for_each(|(at, i)| positions[*i] = at);
        let uses = order.iter().map(|i| uses[*i].iter().map(|dep| positions[*dep]).collect()).collect();
        let order = order.iter().map(|i| names(&form.package[*i])).collect();
        let packages = form.package.iter().map(names).collect();
        Ok(Self { digest: Digest::of(text.as_bytes()), packages, order, uses })
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

    /// Names and versions of its packages, each after those that it depends on. A cycle, as development dependencies
    /// make them, is cut somewhere.
    pub fn dependencies_first(&self) -> impl Iterator<Item = (&str, &str)> {
        self.order.iter().map(|(name, version)| (name.as_str(), version.as_str()))
    }
}

impl Lockfile {
    /// Packages that `is_root` holds for, and all that they depend on as far as `uses` says so of a package and the name
    /// of what it depends on. Each as `name version`.
    pub fn reached(
        &self,
        is_root: impl Fn(&str, &str) -> bool,
        uses: impl Fn((&str, &str), &str) -> bool,
    ) -> BTreeSet<String> {
        let mut reached: Vec<bool> = self.dependencies_first().map(|(n, v)| is_root(n, v)).collect();
        let mut next: Vec<usize> = (0..reached.len()).filter(|i| reached[*i]).collect();
        while let Some(i) = next.pop() {
            for dep in &self.uses[i] {
                let (name, version) = &self.order[i];
                if !reached[*dep] && uses((name, version), &self.order[*dep].0) {
                    reached[*dep] = true;
                    next.push(*dep);
                }
            }
        }
        let packages = self.dependencies_first().zip(reached).filter(|(_, is_reached)| *is_reached);
        packages.map(|((name, version), _)| format!("{name} {version}")).collect()
    }
}

#[derive(Clone, Copy)]
enum Visit {
    Before,
    After,
}

/// For each package those that it depends on.
fn resolved(packages: &[Package]) -> Vec<Vec<usize>> {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, package) in packages.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(i);
    }
    // A dependency is `name`, or `name version` where that would be ambiguous, with its source behind it.
    let resolve = |dependency: &str| -> Vec<usize> {
        let mut words = dependency.split(' ');
        let candidates = words.next().and_then(|name| by_name.get(name)).cloned().unwrap_or_default();
        let version = words.next();
        let is_meant = |i: &usize| version.is_none_or(|version| packages[*i].version == version);
        candidates.into_iter().filter(is_meant).collect()
    };
    packages
        .iter()
        .map(|package| package.dependencies.iter().flat_map(|name| resolve(name)).collect())
        .collect()
}

/// An order in which dependencies come first.
fn dependencies_first(uses: &[Vec<usize>]) -> Vec<usize> {
    let mut ordered = Vec::with_capacity(uses.len());
    let mut seen = vec![false; uses.len()];
    for start in 0..uses.len() {
        // Without recursion: a chain of dependencies may be long. An index comes up before and after what it needs.
        let mut stack = vec![(start, Visit::Before)];
        while let Some((i, visit)) = stack.pop() {
            match visit {
                Visit::After => ordered.push(i),
                Visit::Before if seen[i] => {}
                Visit::Before => {
                    seen[i] = true;
                    stack.push((i, Visit::After));
                    let next = uses[i].iter().filter(|next| !seen[**next]);
                    stack.extend(next.map(|next| (*next, Visit::Before)));
                }
            }
        }
    }
    ordered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_one_counts() {
        let nearest = |dir: &str, there: &[&str]| {
            let found =
                Lockfile::nearest(Path::new(dir), |path| there.iter().any(|one| path == Path::new(one)));
            found.map(|path| path.display().to_string()).unwrap_or_default()
        };
        assert_eq!(nearest("/w/a/b", &["/w/Cargo.lock", "/w/a/Cargo.lock"]), "/w/a/Cargo.lock");
        assert_eq!(nearest("/w/a", &["/w/a/b/Cargo.lock"]), "");
    }

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

    fn order(text: &str) -> Vec<String> {
        let lockfile = Lockfile::parse(text).expect("a lockfile");
        lockfile.dependencies_first().map(|(name, version)| format!("{name} {version}")).collect()
    }

    #[test]
    fn dependencies_come_first_and_versions_are_told_apart() {
        let text = r#"
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["serde", "syn 2.0.0", "missing"]
[[package]]
name = "serde"
version = "1.0.0"
dependencies = ["syn 1.0.0 (registry+https://example.com/index)"]
[[package]]
name = "syn"
version = "1.0.0"
[[package]]
name = "syn"
version = "2.0.0"
dependencies = ["app"]
"#;
        let order = order(text);
        let at = |name: &str| order.iter().position(|other| other == name).expect(name);
        assert_eq!(order.len(), 4);
        assert!(at("syn 1.0.0") < at("serde 1.0.0") && at("serde 1.0.0") < at("app 0.1.0"));
        assert!(at("syn 2.0.0") < at("app 0.1.0"), "the cycle is cut where it closes");
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let package = |i: usize| {
            format!("[[package]]\nname = \"p{i}\"\nversion = \"1\"\ndependencies = [\"p{}\"]\n", i + 1)
        };
        let text: String = (0..20_000).map(package).collect();
        assert_eq!(order(&text)[0], "p19999 1");
    }
}
