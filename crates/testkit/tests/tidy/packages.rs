//! Rules about what is pulled in: how many packages, from where, under which licences.

use std::process::Command;

use crate::none;
use crate::repository::{read, root};

/// Locked packages, this workspace's own included. Raising it is a decision for docs/design/0002-dependencies.md.
const PACKAGES_MAX: usize = 360;

/// Licences that an Apache-2.0 program can include without further duties than naming them: the list that `cargo deny`
/// goes by, so that there is one.
fn licences() -> Vec<String> {
    let text = read("deny.toml");
    let list = text.split("[licenses]").nth(1).and_then(|rest| rest.split('[').nth(1)?.split(']').next());
    let quoted = list.expect("deny.toml lists licences").split('"').skip(1).step_by(2);
    quoted.map(str::to_owned).collect()
}

#[test]
fn few_packages_are_locked() {
    let count = read("Cargo.lock").lines().filter(|line| *line == "[[package]]").count();
    assert!(count <= PACKAGES_MAX, "{count} packages are locked, at most {PACKAGES_MAX}");
}

#[test]
fn all_packages_come_from_one_registry() {
    let lock = read("Cargo.lock");
    let mut origins: Vec<&str> = lock.lines().filter_map(|line| line.strip_prefix("source = ")).collect();
    origins.sort_unstable();
    origins.dedup();
    assert!(origins.len() <= 1, "several sources: {origins:?}");
    assert!(origins.iter().all(|origin| origin.starts_with("\"registry+")), "not a registry: {origins:?}");
}

#[test]
fn licences_are_compatible() {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.current_dir(root()).args(["metadata", "--format-version=1", "--locked", "--offline"]);
    // Packages of other systems are locked but not fetched.
    let target = if cfg!(target_os = "macos") { "aarch64-apple-darwin" } else { "x86_64-unknown-linux-gnu" };
    let output = command.args(["--filter-platform", target]).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let packages = metadata["packages"].as_array().expect("packages");
    let allowed = licences();
    let violations = packages.iter().filter_map(|package| {
        let licence = package["license"].as_str().unwrap_or("none");
        (!is_compatible(licence, &allowed)).then(|| format!("{}: {licence}", package["name"]))
    });
    none("licences are compatible", violations.collect());
}

/// Whether an SPDX expression leaves a choice that is in the list.
fn is_compatible(expression: &str, allowed: &[String]) -> bool {
    let expression = expression.trim().replace('/', " OR ");
    let alternatives = split_top(&expression, " OR ");
    if alternatives.len() > 1 {
        return alternatives.iter().any(|part| is_compatible(part, allowed));
    }
    let parts = split_top(&expression, " AND ");
    if parts.len() > 1 {
        return parts.iter().all(|part| is_compatible(part, allowed));
    }
    match expression.trim().strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => is_compatible(inner, allowed),
        None => allowed.iter().any(|licence| licence == expression.trim()),
    }
}

/// Splits at a separator outside parentheses.
fn split_top<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let (mut depth, mut start, mut parts) = (0, 0, Vec::new());
    for (i, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ if depth == 0 && i >= start && text[i..].starts_with(separator) => {
                parts.push(&text[start..i]);
                start = i + separator.len();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

#[test]
fn expressions_are_understood() {
    let allowed = licences();
    assert!(allowed.len() > 5, "{allowed:?}");
    for good in [
        "MIT",
        "MIT OR GPL-3.0",
        "MIT/Apache-2.0",
        "(MIT OR Apache-2.0) AND Unicode-3.0",
        "Apache-2.0 WITH LLVM-exception",
    ] {
        assert!(is_compatible(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "none", "MIT AND GPL-3.0", "(GPL-2.0 OR GPL-3.0) AND MIT", ""] {
        assert!(!is_compatible(bad, &allowed), "{bad}");
    }
}
