//! Cargo's configuration, as far as it decides about the units of a build: flags, linkers, profiles, sources, targets.
//! Pure; which files there are is somebody else's business.

use std::collections::BTreeSet;

use toml::{Table, Value};

/// Tables that decide about units, and keys of them that don't: where things lie, or what is looked at in another way.
const TABLES: &[(&str, &[&str])] = &[
    (
        "build",
        &[
            "build-dir",
            "jobs",
            "rustc-wrapper",
            "rustc-workspace-wrapper",
            "target",
            "target-dir",
            "warnings",
        ],
    ),
    ("host", &[]),
    ("patch", &[]),
    ("paths", &[]),
    ("profile", &[]),
    ("source", &[]),
    ("target", &[]),
    ("unstable", &[]),
];
/// Beginnings of variables that stand for such keys, and variables among them that don't count.
const PREFIXES: &[&str] =
    &["CARGO_BUILD_", "CARGO_HOST_", "CARGO_PROFILE_", "CARGO_SOURCE_", "CARGO_TARGET_"];
const OTHERS: &[&str] = &[
    "CARGO_BUILD_BUILD_DIR",
    "CARGO_BUILD_JOBS",
    "CARGO_BUILD_RUSTC",
    "CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER",
    "CARGO_BUILD_RUSTC_WRAPPER",
    "CARGO_BUILD_TARGET",
    "CARGO_BUILD_TARGET_DIR",
    "CARGO_BUILD_WARNINGS",
    "CARGO_TARGET_DIR",
    "CARGO_TARGET_TMPDIR",
];

/// Whether a variable decides about units by way of Cargo's configuration.
pub fn is_variable(name: &str) -> bool {
    let is_key = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) && !OTHERS.contains(&name);
    is_key || matches!(name, "RUSTFLAGS" | "CARGO_ENCODED_RUSTFLAGS")
}

/// What one file or argument says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// What decides about units, always written in the same way; empty where nothing does.
    pub decisive: String,
    /// `build.target`.
    pub targets: BTreeSet<String>,
    /// Other files that belong to it.
    pub includes: Vec<String>,
}

impl Configuration {
    /// Reads a text. One that isn't understood decides as a whole.
    pub fn parse(text: &str) -> Self {
        let Ok(mut table) = text.parse::<Table>() else {
            return Self { decisive: text.to_owned(), ..Self::default() };
        };
        let targets = table.get("build").and_then(|build| build.get("target")).map(texts);
        let includes = table.get("include").map(texts);
        let mut kept = Table::new();
        for (name, others) in TABLES {
            let Some(mut value) = table.remove(*name) else { continue };
            if let Value::Table(keys) = &mut value {
                keys.retain(|key, _| !others.contains(&key));
                if keys.is_empty() {
                    continue;
                }
            }
            kept.insert((*name).to_owned(), value);
        }
        let decisive = kept.to_string();
        Self {
            decisive,
            targets: targets.unwrap_or_default().into_iter().collect(),
            includes: includes.unwrap_or_default(),
        }
    }
}

/// A text, or a list of texts or of tables with a path.
fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Table(table) => table.get("path").map(texts).unwrap_or_default(),
        _ => Vec::new(),
    }
}

/// The profiles of a workspace's manifest.
pub fn profiles(manifest: &str) -> String {
    let table = manifest.parse::<Table>().ok();
    table.and_then(|mut table| table.remove("profile")).map(|profile| profile.to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_decides_about_units_is_kept() {
        for (text, decides) in [
            ("", false),
            ("[net]\noffline = true\n[registry]\ntoken = \"x\"\n[alias]\nb = \"build\"", false),
            ("[build]\njobs = 4\ntarget-dir = \"x\"\nrustc-wrapper = \"kache\"\ntarget = \"a\"", false),
            ("[env]\nA = \"1\"", false),
            ("[build]\nrustflags = [\"-Cx\"]", true),
            ("[target.x86_64-unknown-linux-gnu]\nlinker = \"clang\"", true),
            ("target.'cfg(unix)'.rustflags = \"-Cx\"", true),
            ("[profile.dev]\ndebug = 0", true),
            ("[source.crates-io]\nreplace-with = \"vendored\"", true),
            ("paths = [\"/x\"]", true),
            ("not toml", true),
        ] {
            assert_eq!(!Configuration::parse(text).decisive.is_empty(), decides, "{text}");
        }
        let same = ["[build]\nrustflags=\"a\"\njobs=1\n[profile]", "# x\n[build]\nrustflags = 'a'"];
        let [a, b] = same.map(|text| Configuration::parse(text).decisive);
        assert_eq!(a, b);
    }

    #[test]
    fn targets_and_includes_are_one_or_more() {
        let read = |text| {
            let found = Configuration::parse(text);
            (found.targets.into_iter().collect::<Vec<_>>().join(" "), found.includes.join(" "))
        };
        assert_eq!(read("build.target = \"a\""), ("a".to_owned(), String::new()));
        let text = "include = [\"x.toml\", { path = \"y.toml\", optional = true }]\n[build]\ntarget = [\"a\", \"b\"]";
        assert_eq!(read(text), ("a b".to_owned(), "x.toml y.toml".to_owned()));
        assert_eq!(read("build.target = 1\ninclude = \"z.toml\""), (String::new(), "z.toml".to_owned()));
    }

    #[test]
    fn variables_that_stand_for_keys() {
        for (name, decides) in [
            ("RUSTFLAGS", true),
            ("CARGO_PROFILE_DEV_DEBUG", true),
            ("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", true),
            ("CARGO_TARGET_DIR", false),
            ("CARGO_BUILD_TARGET", false),
            ("CARGO_BUILD_RUSTFLAGS", true),
            ("CARGO_TERM_COLOR", false),
            ("CARGO_HOME", false),
        ] {
            assert_eq!(is_variable(name), decides, "{name}");
        }
        assert_eq!(profiles("[package]\nname = \"a\""), "");
        assert_ne!(profiles("[profile.dev]\nopt-level = 1"), profiles("[profile.dev]\nopt-level = 2"));
    }
}
