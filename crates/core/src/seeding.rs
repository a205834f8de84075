//! Which units of a snapshot may be placed, in which order, and why the others may not. Pure: what the world looks
//! like comes in as an answer for each unit.
//!
//! Cargo judges every unit that is placed. The reasons here are about what Cargo does not look at: contents behind
//! an unchanged version, paths inside outputs, programs that a build script ran.

use std::collections::{BTreeMap, HashMap};

use crate::digest::Digest;
use crate::reason::reasons;
use crate::seed_unit::SeedUnit;
use crate::snapshot::Unfit;

reasons! {
    /// Why a unit is not seeded.
    pub enum Unseeded {
        Package = "not-in-lockfile", ("Cargo.lock doesn't name its package");
        Sources(String) = "sources-changed", ("the files in {0} are not what they were");
        /// A file outside its package that went in.
        Input(String) = "input-changed", ("{0} is not what it was");
        Environment = "macro-environment",
            ("a proc macro or its build script could see other environment variables");
        Variable(String) = "variable-changed", ("its build script watches {0}, which is another now");
        Cpu = "cpu", ("it was compiled for another CPU");
        /// The target directory that it was made in.
        PathInOutput(String) = "path-in-output", ("an output names {0}");
        /// So it may depend on it.
        NamesWorkspace(String) = "names-workspace", ("its build script's {0} names the workspace");
        OutDir(String) = "out-dir", ("{0} in its OUT_DIR can't be kept");
        EntryGone = "entry-gone", ("its entry is not in the store");
        Dependency(String) = "dependency", ("its dependency {0} is not seeded");
        Rebuilt(String) = "dependency-rebuilt", ("its dependency {0} was built again since");
        /// Cargo would not have taken it for fresh there.
        Stale(String) = "stale", ("it was not fresh where it was recorded: {0}");
        Unknown(String) = "unknown-outputs", ("{0} is not a result that kache stored");
        Unobserved = "unobserved",
            ("what it read is not known, or its build script does more than fill OUT_DIR");
        /// The target directory or the store did.
        Refused(String) = "refused", ("{0}");
    }
}

impl Unseeded {
    /// The form that is kept for `why-miss`.
    pub fn about(&self, unit: &str, package: &str) -> Unfit {
        Unfit {
            unit: unit.to_owned(),
            package: package.to_owned(),
            code: self.code().to_owned(),
            detail: self.to_string(),
        }
    }
}

/// What a code means, for counters; units that no snapshot can hold have codes of their own.
pub fn meaning(code: &str) -> &'static str {
    match code {
        "not-in-lockfile" => "Cargo.lock doesn't name the package",
        "sources-changed" => "the package's files are not what they were",
        "input-changed" => "a file outside the package is not what it was",
        "macro-environment" => "a proc macro or build script could see other variables",
        "variable-changed" => "a variable that the build script watches is another",
        "cpu" => "compiled for another CPU",
        "path-in-output" => "an output names the directory that it was made in",
        "names-workspace" => "the build script's output names the workspace",
        "out-dir" => "a file in OUT_DIR can't be kept",
        "entry-gone" => "the entry is not in the store any more",
        "unobserved" => "what it read is not known, or its build script does more than fill OUT_DIR",
        "dependency" => "a dependency is left to Cargo",
        "dependency-rebuilt" => "a dependency was built again since",
        "stale" => "it was not fresh where it was recorded",
        "unknown-outputs" => "its outputs are not from a compile through kache",
        "refused" => "the target directory or the store refused",
        _ => "`kache why-miss CRATE` says more",
    }
}

#[derive(Debug, Default)]
pub struct Choice {
    /// Positions of the units that are placed; dependencies come before their dependents.
    pub placed: Vec<usize>,
    pub left_out: BTreeMap<usize, Unseeded>,
}

/// Chooses units: each must be fit by itself, and so must be all its dependencies, which must be what it was built on.
pub fn choose(units: &[SeedUnit], mut judge: impl FnMut(&SeedUnit) -> Option<Unseeded>) -> Choice {
    let mut choice = Choice::default();
    for (i, unit) in units.iter().enumerate() {
        if let Some(why) = judge(unit) {
            choice.left_out.insert(i, why);
        }
    }
    let places: HashMap<String, usize> =
        units.iter().enumerate().map(|(i, unit)| (unit.place(), i)).collect();
    let mut state = vec![Visit::New; units.len()];
    for start in 0..units.len() {
        // Depth first with a stack of its own: a hostile snapshot may be deep, and may have cycles.
        let mut stack = vec![(start, false)];
        while let Some((i, is_done)) = stack.pop() {
            if is_done {
                settle(units, &places, i, &mut state, &mut choice);
            } else if state[i] == Visit::New {
                state[i] = Visit::Open;
                stack.push((i, true));
                let pins = units[i].deps.iter().flat_map(|dep| &dep.pins);
                let deps = pins.filter_map(|(place, _)| places.get(place));
                stack.extend(deps.filter(|dep| state[**dep] == Visit::New).map(|dep| (*dep, false)));
            }
        }
    }
    choice
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Open,
    Placed,
    LeftOut,
}

/// Decides about a unit whose dependencies are decided.
fn settle(
    units: &[SeedUnit],
    places: &HashMap<String, usize>,
    i: usize,
    state: &mut [Visit],
    choice: &mut Choice,
) {
    if state[i] != Visit::Open {
        return;
    }
    let lacking = || {
        units[i].deps.iter().find_map(|dep| {
            // Runs of one script for two kinds of target may share a hash: all of them have to be there.
            let missing = dep.pins.iter().find_map(|(place, entry)| {
                let Some(found) = places.get(place) else { return Some(Unseeded::Dependency(place.clone())) };
                if units[*found].hash != dep.hash || units[*found].entry() != *entry {
                    Some(Unseeded::Rebuilt(place.clone()))
                } else {
                    (state[*found] != Visit::Placed).then(|| Unseeded::Dependency(place.clone()))
                }
            });
            let unknown = || Unseeded::Dependency(format!("with fingerprint {}", dep.hash));
            missing.or_else(|| dep.pins.is_empty().then(unknown))
        })
    };
    match (choice.left_out.contains_key(&i), lacking()) {
        (false, None) => {
            state[i] = Visit::Placed;
            choice.placed.push(i);
        }
        (false, Some(why)) => {
            state[i] = Visit::LeftOut;
            choice.left_out.insert(i, why);
        }
        (true, _) => state[i] = Visit::LeftOut,
    }
}

/// Packages that a lockfile names, by `name version`, and what tells the content of each: sources and checksums, one for
/// each line of the value. A package that doesn't come from a registry or a repository has an empty one. Only what its
/// own generator writes is understood; anything else gives fewer packages, and so fewer units.
pub fn locked_packages(lockfile: &str) -> BTreeMap<String, String> {
    let value = |text: &str, key: &str| {
        let line =
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = \"")?.strip_suffix('"'));
        line.map(str::to_owned)
    };
    let mut packages: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for text in lockfile.split("[[package]]\n").skip(1) {
        let text = text.split("\n[").next().unwrap_or(text);
        let (Some(name), Some(version)) = (value(text, "name"), value(text, "version")) else { continue };
        let content = match (value(text, "source"), value(text, "checksum")) {
            (None, _) => String::new(),
            (Some(source), Some(checksum)) => format!("{source} {checksum}"),
            (Some(source), None) if source.starts_with("git+") => source,
            // Lockfiles of old keep checksums elsewhere: then the whole file tells the content.
            (Some(source), None) => format!("{source} {}", Digest::of(lockfile.as_bytes())),
        };
        packages.entry(format!("{name} {version}")).or_default().push(content);
    }
    let join = |(name, mut contents): (String, Vec<String>)| {
        contents.sort();
        let is_local = contents.iter().any(String::is_empty);
        (name, if is_local { String::new() } else { contents.join("\n") })
    };
    packages.into_iter().map(join).collect()
}

#[cfg(test)]
#[path = "seeding_tests.rs"]
mod tests;
