//! The configuration of the calling Cargo, as far as it decides about units: its files, arguments and variables, and the
//! profiles of the workspace. Which of it counts is decided in `kache_core::cargo::configuration`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kache_core::cargo::configuration::{Configuration, is_variable, profiles};
use kache_core::cargo_call::CargoCall;

use super::parent::Parent;

/// Most files that are read, included ones among them.
const FILES_MAX: usize = 64;

/// All of it together: the same wherever the same files, arguments and variables count.
pub fn of(parent: &Parent) -> Configuration {
    let mut whole = Configuration::default();
    let mut files = Vec::new();
    for config in parent.call().map(|call| call.configs()).unwrap_or_default() {
        let value = config.strip_prefix("--config=").unwrap_or(&config);
        match parent.cwd.join(value) {
            file if file.is_file() => files.push(file),
            _ if value == "--config" => {}
            _ => drop(add(&mut whole, value)),
        }
    }
    let home = parent.cargo_home().map(PathBuf::from).unwrap_or_default();
    let above = parent.cwd.ancestors().map(|dir| dir.join(".cargo")).filter(|dir| *dir != home);
    // Where both are there, Cargo reads the one without an extension.
    let found = above.chain([home.clone()]).filter_map(|dir| {
        ["config", "config.toml"].map(|name| dir.join(name)).into_iter().find(|file| file.is_file())
    });
    files.extend(found);
    // The nearest first.
    files.reverse();
    let mut count = 0;
    while let Some(file) = files.pop().filter(|_| count < FILES_MAX) {
        count += 1;
        let text = fs::read_to_string(&file).unwrap_or_default();
        let dir = file.parent().unwrap_or(Path::new("/"));
        files.extend(add(&mut whole, &text).iter().map(|name| dir.join(name)));
    }
    let variables = parent.env.iter().filter(|(name, _)| is_variable(name));
    let mut variables: Vec<String> =
        variables.map(|(name, value)| format!("{name}={}\n", value.display())).collect();
    variables.sort();
    whole.decisive.extend(variables);
    let manifest = parent.probable_workspace().map(|dir| dir.join("Cargo.toml"));
    let manifest = manifest.and_then(|manifest| fs::read_to_string(manifest).ok()).unwrap_or_default();
    whole.decisive.push_str(&profiles(&manifest));
    whole
}

/// Adds a text, and returns what it includes.
fn add(whole: &mut Configuration, text: &str) -> Vec<String> {
    let one = Configuration::parse(text);
    whole.decisive.push_str(&one.decisive);
    whole.targets.extend(one.targets);
    one.includes
}

/// Folders of the targets that the call builds for: its arguments, else a variable, else the configuration says so.
/// Where several files name one, all of them may be meant.
pub fn targets(parent: &Parent, call: &CargoCall, host: &str) -> BTreeSet<String> {
    let mut named: BTreeSet<String> = call.targets.iter().cloned().collect();
    if named.is_empty() {
        named.extend(
            parent.env.text("CARGO_BUILD_TARGET").filter(|target| !target.is_empty()).map(str::to_owned),
        );
    }
    if named.is_empty() {
        named = of(parent).targets;
    }
    let folder = |target: String| match target.strip_suffix(".json") {
        Some(path) => Path::new(path).file_name().and_then(|name| name.to_str()).unwrap_or(path).to_owned(),
        None if target == "host-tuple" => host.to_owned(),
        None => target,
    };
    named.into_iter().map(folder).collect()
}
