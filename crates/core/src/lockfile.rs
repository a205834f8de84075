//! `Cargo.lock`: which packages a workspace resolves to, dependencies before their dependents. Reads only what Cargo has
//! written in the same form for years, and passes over the rest.

use std::collections::HashMap;

use serde::Deserialize;

/// Longest file that is read, in bytes.
pub const LOCKFILE_BYTES_MAX: u64 = 32 << 20;
/// Most packages that are looked at.
const PACKAGES_MAX: usize = 50_000;

/// One resolved package.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

#[derive(Deserialize)]
struct File {
    #[serde(default)]
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    #[serde(default)]
    dependencies: Vec<String>,
}

/// The packages of a lockfile, every one after those that it depends on (a cycle, as development dependencies make
/// them, is cut somewhere). `None` when the text is no lockfile.
pub fn packages(text: &str) -> Option<Vec<Package>> {
    let file: File = toml::from_str(text).ok()?;
    let mut locked = file.package;
    locked.truncate(PACKAGES_MAX);
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (i, package) in locked.iter().enumerate() {
        by_name.entry(&package.name).or_default().push(i);
    }
    // A dependency is `name`, or `name version` where that would be ambiguous, with its source behind it.
    let resolve = |dependency: &str| -> Vec<usize> {
        let mut words = dependency.split(' ');
        let candidates = words.next().and_then(|name| by_name.get(name)).cloned().unwrap_or_default();
        let version = words.next();
        let is_meant = |i: &usize| version.is_none_or(|version| locked[*i].version == version);
        candidates.into_iter().filter(is_meant).collect()
    };
    let mut ordered = Vec::with_capacity(locked.len());
    let mut seen = vec![false; locked.len()];
    for start in 0..locked.len() {
        // Without recursion: a chain of dependencies may be long. An index comes up twice, before and after what it
        // depends on.
        let mut stack = vec![(start, Visit::Before)];
        while let Some((i, visit)) = stack.pop() {
            match visit {
                Visit::After => ordered.push(i),
                Visit::Before if seen[i] => {}
                Visit::Before => {
                    seen[i] = true;
                    stack.push((i, Visit::After));
                    let next = locked[i].dependencies.iter().flat_map(|name| resolve(name));
                    stack.extend(next.filter(|next| !seen[*next]).map(|next| (next, Visit::Before)));
                }
            }
        }
    }
    let package = |i: usize| Package { name: locked[i].name.clone(), version: locked[i].version.clone() };
    Some(ordered.into_iter().map(package).collect())
}

#[derive(Clone, Copy)]
enum Visit {
    Before,
    After,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        let packages = packages(text).expect("a lockfile");
        packages.into_iter().map(|package| format!("{} {}", package.name, package.version)).collect()
    }

    #[test]
    fn dependencies_come_first_and_versions_are_told_apart() {
        let text = r#"
version = 4
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["serde", "syn 2.0.0", "missing"]
[[package]]
name = "serde"
version = "1.0.0"
source = "registry+https://example.com/index"
checksum = "00"
dependencies = ["syn 1.0.0 (registry+https://example.com/index)"]
[[package]]
name = "syn"
version = "1.0.0"
[[package]]
name = "syn"
version = "2.0.0"
dependencies = ["app"]
"#;
        let names = names(text);
        let at = |name: &str| names.iter().position(|other| other == name).expect(name);
        assert_eq!(names.len(), 4);
        assert!(at("syn 1.0.0") < at("serde 1.0.0") && at("serde 1.0.0") < at("app 0.1.0"));
        assert!(at("syn 2.0.0") < at("app 0.1.0"), "the cycle is cut where it closes");
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let package = |i: usize| {
            format!("[[package]]\nname = \"p{i}\"\nversion = \"1\"\ndependencies = [\"p{}\"]\n", i + 1)
        };
        let text: String = (0..20_000).map(package).collect();
        assert_eq!(names(&text)[0], "p19999 1");
    }

    #[test]
    fn what_is_no_lockfile_is_none() {
        for text in ["[[package]]\nname = 3", "package = 'x'", "\u{1}"] {
            assert_eq!(packages(text), None, "{text}");
        }
        assert_eq!(packages(""), Some(Vec::new()));
    }
}
