//! Which units of a snapshot may be placed, in which order, and why the others may not. Pure: what the world looks
//! like comes in as an answer for each unit.
//!
//! Cargo judges every unit that is placed. The reasons here are about what Cargo does not look at: contents behind
//! an unchanged version, paths inside outputs, programs that a build script ran.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use crate::digest::Digest;
use crate::seed_unit::SeedUnit;
use crate::snapshot::Unfit;

/// Why a unit is not seeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unseeded {
    /// The lockfile doesn't name its package.
    Package,
    /// Its package's files are not what they were.
    Sources(String),
    /// A file outside its package that went in is not what it was.
    Input(String),
    /// A proc macro or the build script could see other environment variables.
    Environment,
    /// A variable that the build script asked Cargo to watch has another value.
    Variable(String),
    Cpu,
    /// An output names the target directory that it was made in.
    PathInOutput(String),
    /// The build script's output names the workspace, so that it may depend on it.
    NamesWorkspace(String),
    /// A file in its `OUT_DIR` can't be kept.
    OutDir(String),
    /// Its entry is gone from the store.
    EntryGone,
    /// A dependency is not seeded.
    Dependency(String),
    /// A dependency was built again since.
    Rebuilt(String),
    /// Cargo would not have taken it for fresh where it was recorded.
    Stale(String),
    /// Its outputs are not those of a result that kache stored.
    Unknown(String),
    /// What it read was not observed, or it had other effects than its result.
    Unobserved,
    /// The target directory or the store refused.
    Refused(String),
}

impl Unseeded {
    pub const fn code(&self) -> &'static str {
        match self {
            Unseeded::Package => "not-in-lockfile",
            Unseeded::Sources(_) => "sources-changed",
            Unseeded::Input(_) => "input-changed",
            Unseeded::Environment => "macro-environment",
            Unseeded::Variable(_) => "variable-changed",
            Unseeded::Cpu => "cpu",
            Unseeded::PathInOutput(_) => "path-in-output",
            Unseeded::NamesWorkspace(_) => "names-workspace",
            Unseeded::OutDir(_) => "out-dir",
            Unseeded::EntryGone => "entry-gone",
            Unseeded::Unobserved => "unobserved",
            Unseeded::Dependency(_) => "dependency",
            Unseeded::Rebuilt(_) => "dependency-rebuilt",
            Unseeded::Stale(_) => "stale",
            Unseeded::Unknown(_) => "unknown-outputs",
            Unseeded::Refused(_) => "refused",
        }
    }

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

impl fmt::Display for Unseeded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unseeded::Package => f.write_str("Cargo.lock doesn't name its package"),
            Unseeded::Sources(dir) => write!(f, "the files in {dir} are not what they were"),
            Unseeded::Input(name) => write!(f, "{name} is not what it was"),
            Unseeded::Environment => {
                f.write_str("a proc macro or its build script could see other environment variables")
            }
            Unseeded::Variable(name) => write!(f, "its build script watches {name}, which is another now"),
            Unseeded::Cpu => f.write_str("it was compiled for another CPU"),
            Unseeded::PathInOutput(dir) => write!(f, "an output names {dir}"),
            Unseeded::NamesWorkspace(what) => write!(f, "its build script's {what} names the workspace"),
            Unseeded::OutDir(what) => write!(f, "{what} in its OUT_DIR can't be kept"),
            Unseeded::EntryGone => f.write_str("its entry is not in the store"),
            Unseeded::Unobserved => {
                f.write_str("what it read is not known, or its build script does more than fill OUT_DIR")
            }
            Unseeded::Dependency(what) => write!(f, "its dependency {what} is not seeded"),
            Unseeded::Rebuilt(what) => write!(f, "its dependency {what} was built again since"),
            Unseeded::Stale(what) => write!(f, "it was not fresh where it was recorded: {what}"),
            Unseeded::Unknown(what) => write!(f, "{what} is not a result that kache stored"),
            Unseeded::Refused(why) => f.write_str(why),
        }
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
