use super::*;
use crate::cargo::layout::UnitDir;
use crate::digest::Digest;
use crate::key::EntryKey;
use crate::seed_unit::{Dependency, Made};

fn entry(name: &str) -> EntryKey {
    EntryKey(Digest::of(name.as_bytes()))
}

fn dir_of(name: &str) -> UnitDir {
    UnitDir::parse(&format!("{name}-{:016}", 1)).expect("a unit")
}

fn unit(name: &str, deps: &[&str]) -> SeedUnit {
    let made = Made::Compile { entry: entry(name) };
    let dependency = |name: &&str| Dependency {
        hash: (*name).to_owned(),
        pins: vec![(format!("debug/{name}-0000000000000001"), entry(name))],
    };
    SeedUnit {
        hash: name.to_owned(),
        deps: deps.iter().map(dependency).collect(),
        package: format!("{name} 1.0.0"),
        ..SeedUnit::new("debug", dir_of(name), &format!("lib-{name}"), made)
    }
}

/// Names of what is placed, in order, and codes of the rest.
fn chosen(units: &[SeedUnit], unfit: &str) -> (String, String) {
    let choice = choose(units, |unit| (unit.hash == unfit).then_some(Unseeded::Cpu));
    let placed: Vec<&str> = choice.placed.iter().map(|i| units[*i].hash.as_str()).collect();
    let left_out = choice.left_out.iter().map(|(i, why)| format!("{} {}", units[*i].hash, why.code()));
    (placed.join(" "), left_out.collect::<Vec<_>>().join(", "))
}

#[test]
fn dependencies_come_first_and_what_rests_on_something_unfit_is_left_out() {
    let units = [unit("app", &["mid", "low"]), unit("mid", &["low"]), unit("low", &[]), unit("apart", &[])];
    for (unfit, placed, left_out) in [
        ("none", "low mid app apart", ""),
        ("low", "apart", "app dependency, mid dependency, low cpu"),
        ("mid", "low apart", "app dependency, mid cpu"),
        ("app", "low mid apart", "app cpu"),
    ] {
        assert_eq!(chosen(&units, unfit), (placed.to_owned(), left_out.to_owned()), "{unfit}");
    }
}

#[test]
fn a_dependency_that_is_not_in_the_snapshot_counts_as_unfit() {
    assert_eq!(chosen(&[unit("a", &["elsewhere"])], ""), (String::new(), "a dependency".to_owned()));
}

#[test]
fn a_dependency_that_was_never_found_counts_as_unfit() {
    let mut lonely = unit("a", &["b"]);
    lonely.deps[0].pins.clear();
    assert_eq!(chosen(&[lonely, unit("b", &[])], ""), ("b".to_owned(), "a dependency".to_owned()));
}

/// The same hash, but other contents: what was built on the former must not meet the latter.
#[test]
fn a_dependency_that_was_built_again_is_not_the_one_that_was_built_on() {
    let mut again = unit("low", &[]);
    again.made = Made::Compile { entry: entry("low, built again") };
    let units = [unit("top", &["mid"]), unit("mid", &["low"]), again];
    assert_eq!(chosen(&units, ""), ("low".to_owned(), "top dependency, mid dependency-rebuilt".to_owned()));
    let mut other_hash = unit("low", &[]);
    other_hash.hash = "other".into();
    assert_eq!(
        chosen(&[unit("mid", &["low"]), other_hash], ""),
        ("other".to_owned(), "mid dependency-rebuilt".to_owned())
    );
}

#[test]
fn units_with_one_hash_stand_and_fall_together() {
    let mut lib = unit("lib", &["run"]);
    lib.deps[0].pins.push(("x/run-0000000000000001".to_owned(), entry("run")));
    let twin = SeedUnit { profile: "x".into(), ..unit("run", &[]) };
    let units = [unit("run", &[]), twin, lib];
    let placed = |unfit: &str| choose(&units, |unit| (unit.profile == unfit).then_some(Unseeded::Cpu)).placed;
    assert_eq!(placed(""), [0, 1, 2]);
    assert_eq!(placed("x"), [0]);
}

#[test]
fn a_cycle_is_never_placed() {
    let units = [unit("a", &["b"]), unit("b", &["a"]), unit("c", &["c"])];
    let choice = choose(&units, |_| None);
    assert_eq!((choice.placed.len(), choice.left_out.len()), (0, 3));
}

#[test]
fn packages_of_a_lockfile_and_what_tells_their_content() {
    let package =
        |name: &str, rest: &str| format!("[[package]]\nname = \"{name}\"\nversion = \"1.0.0\"\n{rest}\n");
    let text = [
        "version = 4\n\n".to_owned(),
        package("a-b", "source = \"registry+x\"\nchecksum = \"01\"\ndependencies = [\n \"c\",\n]\n"),
        package("c", ""),
        package("d", "source = \"git+https://x#rev\"\n"),
        package("e", "source = \"registry+y\"\nchecksum = \"02\"\n"),
        package("e", "source = \"git+https://y#rev\"\n"),
        package("f", "source = \"registry+y\"\nchecksum = \"02\"\n"),
        package("f", ""),
        "[[patch.unused]]\nname = \"g\"\nversion = \"1.0.0\"\n".to_owned(),
    ]
    .concat();
    let found = locked_packages(&text);
    let of = |name: &str| found.get(&format!("{name} 1.0.0")).map(String::as_str);
    assert_eq!(of("a-b"), Some("registry+x 01"));
    assert_eq!(
        (of("c"), of("f")),
        (Some(""), Some("")),
        "what lies here has no content that a lockfile knows"
    );
    assert_eq!(of("d"), Some("git+https://x#rev"));
    assert_eq!(of("e"), Some("git+https://y#rev\nregistry+y 02"));
    assert_eq!((of("g"), found.len()), (None, 5));
    let old = package("a", "source = \"registry+x\"\n");
    assert_ne!(locked_packages(&old), locked_packages(&format!("{old}# else\n")));
    assert!(locked_packages("<<<<<<< HEAD\n").is_empty());
}
