use super::*;
use crate::digest::Digest;
use crate::key::EntryKey;
use crate::snapshot::Made;

fn unit(name: &str, deps: &[&str]) -> SeedUnit {
    let made = Made::Compile { entry: EntryKey(Digest::of(name.as_bytes())), out_dir: "deps".into() };
    SeedUnit {
        hash: name.to_owned(),
        deps: deps.iter().map(|dep| (*dep).to_owned()).collect(),
        package: format!("{name} 1.0.0"),
        ..SeedUnit::new("debug", &format!("{name}-1"), &format!("lib-{name}"), made)
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
fn units_with_one_hash_stand_and_fall_together() {
    let twins = |second: Option<Unseeded>| {
        let units = [unit("run", &[]), unit("run", &[]), unit("lib", &["run"])];
        let mut count = 0;
        let choice = choose(&units, |unit| {
            count += usize::from(unit.hash == "run");
            if unit.hash == "run" && count == 2 { second.clone() } else { None }
        });
        choice.placed
    };
    assert_eq!(twins(None), [0, 1, 2]);
    assert_eq!(twins(Some(Unseeded::Cpu)), [0]);
}

#[test]
fn a_cycle_is_never_placed() {
    let units = [unit("a", &["b"]), unit("b", &["a"]), unit("c", &["c"])];
    let choice = choose(&units, |_| None);
    assert_eq!((choice.placed.len(), choice.left_out.len()), (0, 3));
}

#[test]
fn packages_of_a_lockfile() {
    let text = "version = 4\n\n[[package]]\nname = \"a-b\"\nversion = \"1.0.0\"\nsource = \"registry+x\"\n\
                dependencies = [\n \"c\",\n]\n\n[[package]]\nname = \"c\"\nversion = \"2.0.0-rc.1+x\"\n";
    let found: Vec<_> = locked_packages(text).into_iter().collect();
    assert_eq!(found, ["a-b 1.0.0", "c 2.0.0-rc.1+x"]);
    assert!(locked_packages("<<<<<<< HEAD\n").is_empty());
}
