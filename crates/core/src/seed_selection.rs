//! Which units of a snapshot a call of Cargo's can use: by profile, target and package. What can't be told counts as
//! wanted. Knows nothing about whether a unit is fit.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;

use crate::cargo_call::CargoCall;
use crate::entry::OutputKind;
use crate::lockfile::Lockfile;
use crate::seed_unit::SeedUnit;

/// What `cargo metadata --no-deps` says about a workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct Metadata {
    pub workspace_root: PathBuf,
    pub target_directory: PathBuf,
    /// Where everything else goes, since 1.91.
    pub build_directory: Option<PathBuf>,
    #[serde(default)]
    packages: Vec<Member>,
    #[serde(default)]
    workspace_default_members: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Member {
    id: String,
    name: String,
    version: String,
    manifest_path: PathBuf,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Dependency {
    name: String,
    /// `dev`, `build`, or nothing.
    kind: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Last part of the profile directories.
    pub profile: String,
    targets: BTreeSet<String>,
    /// `None` where that can't be told.
    packages: Option<BTreeSet<String>>,
    /// Names of packages that build scripts of members use.
    for_scripts: BTreeSet<String>,
    is_check: bool,
}

impl Selection {
    /// What `call`, made in `cwd`, can use of what `lockfile` names. `targets` are all that are built for.
    pub fn new(
        call: &CargoCall,
        cwd: &Path,
        targets: BTreeSet<String>,
        metadata: &Metadata,
        lockfile: &str,
    ) -> Self {
        let lockfile = Lockfile::parse(lockfile).ok();
        let packages = lockfile.and_then(|lockfile| metadata.reached(call, cwd, &lockfile));
        let of_members = metadata.packages.iter().flat_map(|member| &member.dependencies);
        let for_scripts = of_members.filter(|dep| dep.kind.as_deref() == Some("build"));
        let for_scripts = for_scripts.map(|dep| dep.name.clone()).collect();
        Self { profile: call.profile.clone(), targets, packages, for_scripts, is_check: call.is_check }
    }

    /// Of units that are fit, dependencies first, those that the call uses. A check is no use to a build. Beside checks,
    /// and in the host's directory where another one is named, only what runs during the build counts, with what that
    /// rests on. `has` says whether a unit has an output of a kind.
    pub fn used(
        &self,
        units: &[SeedUnit],
        fit: Vec<usize>,
        has: impl Fn(&SeedUnit, OutputKind) -> bool,
    ) -> Vec<usize> {
        let mut wanted: BTreeSet<&str> = BTreeSet::new();
        let mut kept = Vec::new();
        for i in fit.into_iter().rev() {
            let unit = &units[i];
            let is_check = has(unit, OutputKind::CheckMetadata);
            let name = unit.package.split(' ').next().unwrap_or_default();
            let runs = has(unit, OutputKind::ProcMacro) || self.for_scripts.contains(name);
            let is_of_target = self.targets.is_empty() || unit.profile.contains('/');
            let is_asked = is_of_target && (is_check == self.is_check || unit.is_run());
            if is_asked || (runs && !is_check) || wanted.contains(unit.hash.as_str()) {
                wanted.extend(unit.deps.iter().map(|dep| dep.hash.as_str()));
                kept.push(i);
            }
        }
        kept.reverse();
        kept
    }

    /// Whether the call can use a unit.
    pub fn has(&self, unit: &SeedUnit) -> bool {
        let (target, profile) = match unit.profile.split_once('/') {
            Some((target, profile)) => (Some(target), profile),
            None => (None, unit.profile.as_str()),
        };
        profile == self.profile
            && target.is_none_or(|target| self.targets.contains(target))
            && self.packages.as_ref().is_none_or(|packages| packages.contains(&unit.package))
    }
}

impl Metadata {
    /// Packages that the call builds or needs.
    fn reached(&self, call: &CargoCall, cwd: &Path, lockfile: &Lockfile) -> Option<BTreeSet<String>> {
        // A name, with or without a version; anything else is left to Cargo.
        let is_plain = |spec: &String| {
            let name = spec.split(['@', ':']).next().unwrap_or_default();
            !spec.contains("//") && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
        };
        if self.packages.is_empty() || !call.packages.iter().all(is_plain) {
            return None;
        }
        let named: BTreeSet<&str> =
            call.packages.iter().filter_map(|spec| spec.split(['@', ':']).next()).collect();
        let chosen = if call.is_workspace { self.packages.iter().collect() } else { self.chosen(call, cwd) };
        let is = |member: &Member, (name, version): (&str, &str)| {
            (member.name.as_str(), member.version.as_str()) == (name, version)
        };
        let is_root = |name: &str, version: &str| {
            if named.is_empty() || call.is_workspace {
                chosen.iter().any(|member| is(member, (name, version)))
            } else {
                named.contains(name)
            }
        };
        let uses = |package: (&str, &str), dep: &str| {
            let is_used = |dependency: &Dependency| {
                dependency.name == dep && (call.is_testing || dependency.kind.as_deref() != Some("dev"))
            };
            let member = self.packages.iter().find(|member| is(member, package));
            member.is_none_or(|member| member.dependencies.iter().any(is_used))
        };
        Some(lockfile.reached(is_root, uses))
    }

    /// The members that are built where the arguments name none.
    fn chosen(&self, call: &CargoCall, cwd: &Path) -> Vec<&Member> {
        let root = self.workspace_root.join("Cargo.toml");
        let named = call.manifest().map(|manifest| plain(&cwd.join(manifest)));
        let here = |member: &&Member| match &named {
            Some(manifest) => member.manifest_path == *manifest,
            None => member.manifest_path.parent().is_some_and(|dir| cwd.starts_with(dir)),
        };
        // The innermost one, unless the workspace itself lies there.
        let here =
            self.packages.iter().filter(here).max_by_key(|member| member.manifest_path.as_os_str().len());
        match here.filter(|member| member.manifest_path != root) {
            Some(member) => vec![member],
            None if self.workspace_default_members.is_empty() => self.packages.iter().collect(),
            None => {
                let is_default = |member: &&Member| self.workspace_default_members.contains(&member.id);
                self.packages.iter().filter(is_default).collect()
            }
        }
    }
}

/// A path without `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, part| {
        match part {
            Component::ParentDir => drop(plain.pop()),
            part => plain.push(part),
        }
        plain
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cargo::layout::UnitDir;
    use crate::digest::Digest;
    use crate::key::EntryKey;
    use crate::seed_unit::{Dependency as Dep, Made};

    fn metadata() -> Metadata {
        let json = r#"{"workspace_root":"/w","target_directory":"/w/target","packages":[
            {"id":"app","name":"app","version":"0.1.0","manifest_path":"/w/Cargo.toml","dependencies":[
                {"name":"serde","kind":null},{"name":"proptest","kind":"dev"},{"name":"cc","kind":"build"}]},
            {"id":"side","name":"side","version":"0.1.0","manifest_path":"/w/side/Cargo.toml","dependencies":[
                {"name":"rand","kind":null},{"name":"rand","kind":"dev"},{"name":"app","kind":"dev"}]}],
            "workspace_default_members":["app"]}"#;
        serde_json::from_str(json).expect("metadata")
    }

    const LOCK: &str = r#"
[[package]]
name = "app"
version = "0.1.0"
dependencies = ["cc", "proptest", "serde"]
[[package]]
name = "cc"
version = "1.0.0"
[[package]]
name = "proptest"
version = "1.0.0"
dependencies = ["rand"]
[[package]]
name = "rand"
version = "0.9.0"
[[package]]
name = "serde"
version = "1.0.0"
[[package]]
name = "side"
version = "0.1.0"
dependencies = ["app", "rand"]
"#;

    #[test]
    fn packages_are_those_that_the_call_reaches() {
        for (line, cwd, expected) in [
            ("build", "/w", "app cc serde"),
            ("test", "/w", "app cc proptest rand serde"),
            ("build --tests", "/w/src", "app cc proptest rand serde"),
            ("build", "/w/side", "rand side"),
            ("build", "/w/side/src", "rand side"),
            ("test", "/w/side", "app cc proptest rand serde side"),
            ("build --manifest-path side/Cargo.toml", "/w", "rand side"),
            ("build --manifest-path ../side/Cargo.toml", "/w/src", "rand side"),
            ("build --manifest-path=../Cargo.toml", "/w/side", "app cc serde"),
            ("build -p side", "/w", "rand side"),
            ("build -p side@0.1.0 -p cc", "/w", "cc rand side"),
            ("build --workspace", "/w/side", "app cc rand serde side"),
            ("build -p serde", "/w", "serde"),
            ("build -p s*", "/w", "-"),
            ("build -p path+file:///w/side", "/w", "-"),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let call = crate::cargo_call::parse(&args).expect("a call");
            let found = Selection::new(&call, Path::new(cwd), BTreeSet::new(), &metadata(), LOCK).packages;
            let names = |found: BTreeSet<String>| {
                let names: Vec<&str> = found.iter().filter_map(|package| package.split(' ').next()).collect();
                names.join(" ")
            };
            assert_eq!(found.map_or_else(|| "-".to_owned(), names), expected, "{line} in {cwd}");
        }
    }

    /// A script and its run, a macro, a library that both need, built and checked, for the host and for a target.
    #[test]
    fn what_runs_during_the_build_is_used_by_checks_and_for_other_targets() {
        let unit = |profile: &str, name: &str, deps: &[&str]| {
            let dir = UnitDir::parse("some-0123456789abcdef").expect("a unit");
            let made = Made::Compile { entry: EntryKey(Digest::of(b"x")) };
            let mut unit = SeedUnit::new(profile, dir, name, made);
            unit.hash = format!("{profile} {name}");
            unit.package = format!("{} 1.0.0", name.trim_start_matches("checked-"));
            let dep = |dep: &&str| Dep { hash: (*dep).to_owned(), pins: Vec::new() };
            unit.deps = deps.iter().map(dep).collect();
            unit
        };
        let units = [
            unit("debug", "low", &[]),
            unit("debug", "checked-low", &[]),
            unit("debug", "cc", &[]),
            unit("debug", "macro", &["debug low"]),
            unit("debug", "other", &[]),
            unit("t/debug", "top", &["debug macro"]),
            unit("t/debug", "checked-top", &["debug macro"]),
        ];
        let has = |unit: &SeedUnit, kind| match kind {
            OutputKind::CheckMetadata => unit.name.starts_with("checked-"),
            OutputKind::ProcMacro => unit.name == "macro",
            _ => false,
        };
        for (line, target, expected) in [
            ("build", "", "low cc macro other top"),
            ("check", "", "low checked-low cc macro checked-top"),
            ("build", "t", "low cc macro top"),
            ("check", "t", "low cc macro checked-top"),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let call = crate::cargo_call::parse(&args).expect("a call");
            let targets = target.split_whitespace().map(str::to_owned).collect();
            let selection = Selection::new(&call, Path::new("/w"), targets, &metadata(), LOCK);
            let used = selection.used(&units, (0..units.len()).collect(), has);
            let names: Vec<&str> = used.into_iter().map(|i| units[i].name.as_str()).collect();
            assert_eq!(names.join(" "), expected, "{line} {target}");
        }
    }

    #[test]
    fn units_of_other_profiles_and_targets_are_not_wanted() {
        let unit = |profile: &str| {
            let dir = UnitDir::parse("serde-0123456789abcdef").expect("a unit");
            let made = Made::Compile { entry: EntryKey(Digest::of(b"x")) };
            SeedUnit { package: "serde 1.0.0".to_owned(), ..SeedUnit::new(profile, dir, "lib-serde", made) }
        };
        for (line, targets, wanted) in [
            ("build", "", "debug"),
            ("build --release", "", "release"),
            ("build", "a", "debug a/debug"),
            ("bench", "a b", "release a/release b/release"),
            ("build --profile fast", "", "fast"),
        ] {
            let args: Vec<String> = line.split(' ').map(str::to_owned).collect();
            let call = crate::cargo_call::parse(&args).expect("a call");
            let targets = targets.split_whitespace().map(str::to_owned).collect();
            let selection = Selection::new(&call, Path::new("/w"), targets, &metadata(), LOCK);
            let all = ["debug", "release", "fast", "a/debug", "a/release", "b/debug", "b/release"];
            let found: Vec<&str> = all.into_iter().filter(|profile| selection.has(&unit(profile))).collect();
            assert_eq!(found.join(" "), wanted, "{line}");
            let other = SeedUnit { package: "rand 0.9.0".to_owned(), ..unit(found[0]) };
            // Benchmarks have development dependencies.
            assert_eq!(selection.has(&other), line == "bench", "{line}");
        }
    }
}
