//! Which entries a workspace's builds use now: the journal's events, thinned to the latest result of each unit. Knows
//! nothing about where events and evidence are kept.

use std::collections::BTreeMap;

use super::build::BuildUnit;
use super::fit::{Kind, Shape};
use super::manifest::profile_of;
use crate::entry::Entry;
use crate::event::Event;
use crate::key::{EntryKey, Field, KeyWriter, UnitKey, field};
use crate::lockfile::Lockfile;

/// What identifies a unit of a workspace while its sources and dependencies change: Cargo's own hash of package,
/// features, profile and target, and what kind of compile it is.
const IDENTITY: &[&str] = &[
    field::CRATE_NAME,
    field::MODE,
    field::TEST,
    field::EMIT,
    field::TARGET,
    "flag -C metadata",
    "flag -C extra-filename",
    "flag -C opt-level",
];

/// The field of a run of a build script that carries Cargo's hash.
const OUT_DIR: &str = "env OUT_DIR";

/// Collects the entries that builds below one directory used.
pub struct Used<'a> {
    root: &'a str,
    lockfile: Option<&'a Lockfile>,
    seen: BTreeMap<EntryKey, (u64, BuildUnit)>,
}

impl<'a> Used<'a> {
    /// For builds that were started in the directory `root` or below it, of packages that are in `lockfile`.
    pub fn new(root: &'a str, lockfile: Option<&'a Lockfile>) -> Self {
        Self { root: root.trim_end_matches('/'), lockfile, seen: BTreeMap::new() }
    }

    /// Takes an entry into account that was in place before a build asked for anything.
    pub fn add_seeded(&mut self, key: EntryKey, entry: &Entry, at_ms: u64) {
        let unit = BuildUnit {
            crate_name: entry.crate_name.clone(),
            package: entry.package.clone(),
            package_version: entry.package_version.clone(),
            unit_key: entry.unit,
            entry_key: key,
            kind: None,
            slot: String::new(),
        };
        let latest = self.seen.entry(key).or_insert((0, unit));
        latest.0 = latest.0.max(at_ms);
    }

    pub fn add(&mut self, event: &Event) {
        let (Some(unit_key), Some(entry_key)) = (event.unit_key, event.entry_key) else { return };
        if !is_below(&event.project, self.root) {
            return;
        }
        if self.lockfile.is_some_and(|lockfile| !lockfile.has(&event.package, &event.package_version)) {
            return;
        }
        let unit = BuildUnit {
            crate_name: event.crate_name.clone(),
            package: event.package.clone(),
            package_version: event.package_version.clone(),
            unit_key,
            entry_key,
            kind: None,
            slot: String::new(),
        };
        let latest = self.seen.entry(entry_key).or_insert((0, unit));
        latest.0 = latest.0.max(event.at_ms);
    }

    /// The latest entry of each unit. `made_from` says what an entry's unit key was made of; `None` leaves it out: it is
    /// gone, or of no interest.
    pub fn latest(self, made_from: impl Fn(&EntryKey, &UnitKey) -> Option<MadeFrom>) -> Vec<BuildUnit> {
        let mut latest: BTreeMap<String, (u64, BuildUnit)> = BTreeMap::new();
        for (at_ms, mut unit) in self.seen.into_values() {
            let Some(MadeFrom { target, fields }) = made_from(&unit.entry_key, &unit.unit_key) else {
                continue;
            };
            let shape = Shape { mode: value(&fields, field::MODE), profile: profile_of(&fields) };
            unit.slot = slot(&unit, &fields);
            unit.kind = Some(Kind { target, toolchain: value(&fields, field::COMPILER), shape });
            let known = latest.entry(unit.slot.clone()).or_insert((at_ms, unit.clone()));
            if at_ms >= known.0 {
                *known = (at_ms, unit);
            }
        }
        let mut units: Vec<BuildUnit> = latest.into_values().map(|(_, unit)| unit).collect();
        units.sort();
        units
    }
}

/// What an entry's unit key was made of.
pub struct MadeFrom {
    /// Target triple, empty for the host.
    pub target: String,
    pub fields: Vec<Field>,
}

fn is_below(dir: &str, root: &str) -> bool {
    dir.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn value(fields: &[Field], name: &str) -> String {
    Field::value_of(fields, name).unwrap_or_default().to_owned()
}

/// The name of what stays the same, see [`IDENTITY`]: half a digest is plenty to tell units of one lockfile apart.
fn slot(unit: &BuildUnit, fields: &[Field]) -> String {
    let mut key = KeyWriter::new("slot");
    key.text("package", unit.package.as_str());
    key.text("package version", unit.package_version.as_str());
    for name in IDENTITY {
        key.text(*name, value(fields, name));
    }
    // The run of a build script has none of these: its directory carries Cargo's hash.
    if let Some(dir) = Field::value_of(fields, OUT_DIR) {
        key.text(OUT_DIR, dir);
    }
    key.finish().0.to_string()[..32].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;
    use crate::event::Outcome;

    fn event(project: &str, package: &str, entry: &str, at_ms: u64) -> Event {
        let mut event = Event::new(package, Outcome::Hit);
        event.project = project.to_owned();
        event.package = package.to_owned();
        event.package_version = "1.0.0".to_owned();
        event.unit_key = Some(UnitKey(Digest::of(package.as_bytes())));
        event.entry_key = Some(EntryKey(Digest::of(entry.as_bytes())));
        event.at_ms = at_ms;
        event
    }

    #[test]
    fn the_latest_result_of_each_unit_in_the_workspace_counts() {
        let lock = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n";
        let lockfile = Lockfile::parse(lock).expect("a lockfile");
        let mut used = Used::new("/w/p/", Some(&lockfile));
        for (project, package, entry, at_ms) in [
            ("/w/p", "a", "a-new", 5),
            ("/w/p/crates/x", "a", "a-old", 3),
            ("/w/p", "b", "b-debug", 1),
            ("/w/p", "b", "b-release", 1),
            ("/w/p", "b", "b-gone", 1),
            ("/w/p", "c", "not locked", 9),
            ("/w/p-other", "a", "elsewhere", 9),
        ] {
            used.add(&event(project, package, entry, at_ms));
        }
        used.add(&Event::new("a", Outcome::Miss));
        let names: BTreeMap<EntryKey, &str> = ["a-new", "a-old", "b-debug", "b-release"]
            .into_iter()
            .map(|name| (EntryKey(Digest::of(name.as_bytes())), name))
            .collect();
        let units = used.latest(|key, _| {
            let name = names.get(key)?;
            let metadata = if name.contains("release") { "2" } else { "1" };
            let field = |name: &str, value: &str| Field { name: name.into(), value: value.into() };
            let fields =
                vec![field("mode", "check"), field("compiler", "c"), field("flag -C metadata", metadata)];
            Some(MadeFrom { target: "wasm".to_owned(), fields })
        });
        for unit in &units {
            let kind = unit.kind.as_ref().expect("known");
            assert_eq!((kind.target.as_str(), kind.toolchain.as_str()), ("wasm", "c"));
            assert_eq!((kind.shape.mode.as_str(), unit.slot.len()), ("check", 32));
        }
        let mut found: Vec<_> = units.iter().map(|unit| names[&unit.entry_key]).collect();
        found.sort_unstable();
        assert_eq!(found, ["a-new", "b-debug", "b-release"]);
    }
}
