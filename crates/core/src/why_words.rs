//! Differences between two keys in the words of the person who made them: a version, a profile, RUSTFLAGS, an edited file.
//! Knows nothing about where the keys come from.

use crate::key::field;
use crate::why::{Class, Difference};

/// One way to say it, where the differences are of its kind.
type Phrase = fn(&[Difference]) -> Option<String>;

/// What changed, the most telling difference first; `None` where nothing differs.
pub fn words(differences: &[Difference]) -> Option<String> {
    let phrases: [Phrase; 10] =
        [version, compiler, target, settings, profile, features, flags, variables, files, rest];
    phrases.iter().find_map(|phrase| phrase(differences))
}

fn of<'a>(differences: &'a [Difference], field: &str) -> Option<&'a Difference> {
    differences.iter().find(|difference| difference.field == field)
}

fn in_class(differences: &[Difference], class: Class) -> Vec<&Difference> {
    differences.iter().filter(|difference| difference.class == class).collect()
}

/// A value, or a word for none.
fn value(value: Option<&str>) -> &str {
    value.map_or("none", |value| value.trim_matches('"'))
}

/// `serde 1.0.17 → 1.0.19`, by the directories that registries unpack packages into.
fn version(differences: &[Difference]) -> Option<String> {
    let source = of(differences, field::SOURCE)?;
    let (name, old) = package(source.old.as_deref()?)?;
    let (_, new) = package(source.new.as_deref()?)?;
    (old != new).then(|| format!("{name} {old} → {new}"))
}

/// Name and version in a path through a directory `name-1.2.3`.
fn package(path: &str) -> Option<(&str, &str)> {
    path.split('/').rev().find_map(|part| {
        let dash = part.match_indices('-').find(|(at, _)| {
            let rest = &part[at + 1..];
            rest.starts_with(|c: char| c.is_ascii_digit()) && rest.matches('.').count() >= 2
        })?;
        Some((&part[..dash.0], &part[dash.0 + 1..]))
    })
}

fn compiler(differences: &[Difference]) -> Option<String> {
    let found = of(differences, field::COMPILER)?;
    Some(format!(
        "another compiler: {}; before: {}",
        value(found.new.as_deref()),
        value(found.old.as_deref())
    ))
}

fn target(differences: &[Difference]) -> Option<String> {
    let found = of(differences, field::TARGET)?;
    let host = |target: Option<&str>| match target {
        None | Some("") => "the host".to_owned(),
        Some(target) => target.to_owned(),
    };
    Some(format!("built for {}; before: for {}", host(found.new.as_deref()), host(found.old.as_deref())))
}

fn settings(differences: &[Difference]) -> Option<String> {
    if of(differences, field::KEY_SALT).is_some() {
        return Some("`cache.key_salt` (KACHE_KEY_SALT) is another".to_owned());
    }
    // Roots beyond the workspace are remapped where results are made to fit other machines.
    let remapped = of(differences, "remapped")?;
    let way = if remapped.new.is_some() { "on" } else { "off" };
    Some(format!("a remote (or `cache.portable_paths`) was switched {way}"))
}

/// `release; before: dev`, by what the profiles set.
fn profile(differences: &[Difference]) -> Option<String> {
    let level = of(differences, "flag -C opt-level")?;
    let name = |level: Option<&str>| match level {
        None | Some("0") => "dev",
        Some("3") => "release",
        _ => "another profile",
    };
    let (old, new) = (name(level.old.as_deref()), name(level.new.as_deref()));
    let shown = |level: Option<&str>| format!("opt-level {}", level.unwrap_or("0"));
    Some(match old == new {
        false => format!("{new}; before: {old}"),
        true => format!("{}; before: {}", shown(level.new.as_deref()), shown(level.old.as_deref())),
    })
}

fn features(differences: &[Difference]) -> Option<String> {
    let cfg = of(differences, "flag --cfg")?;
    let names = |value: &Option<String>| -> Vec<String> {
        let words = value.as_deref().unwrap_or_default().split(' ');
        words.filter_map(|word| Some(word.strip_prefix("feature=")?.trim_matches('"').to_owned())).collect()
    };
    let (gone, come) = (names(&cfg.old), names(&cfg.new));
    let part =
        |names: Vec<String>, way: &str| (!names.is_empty()).then(|| format!("{} {way}", names.join(", ")));
    let parts: Vec<String> =
        [part(come, "switched on"), part(gone, "switched off")].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| format!("features: {}", parts.join("; ")))
}

fn flags(differences: &[Difference]) -> Option<String> {
    let found = in_class(differences, Class::Flag);
    let shown = |difference: &&Difference| {
        let flag = difference.field.trim_start_matches("flag ");
        let joint = if flag.starts_with("-C") || flag.starts_with("-Z") { "=" } else { " " };
        match difference.new.as_deref() {
            Some("") => flag.to_owned(),
            Some(new) => format!("{flag}{joint}{new}"),
            None => format!("no {flag}"),
        }
    };
    let list: Vec<String> = found.iter().map(shown).collect();
    (!list.is_empty()).then(|| format!("RUSTFLAGS or the profile's settings: {}", list.join(", ")))
}

fn variables(differences: &[Difference]) -> Option<String> {
    if let Some(read) = in_class(differences, Class::Variable).first() {
        let name = read.field.trim_start_matches(field::ENV);
        return Some(format!(
            "the variable {name} is {}; before: {}",
            value(read.new.as_deref()),
            value(read.old.as_deref())
        ));
    }
    let seen = in_class(differences, Class::MacroVariable).first().copied()?;
    let names = seen.new.as_deref().or(seen.old.as_deref()).unwrap_or_default();
    Some(format!("variables that a proc macro may read are others: {names}"))
}

fn files(differences: &[Difference]) -> Option<String> {
    let found = in_class(differences, Class::File);
    let first = found.first()?;
    let name = first.field.split_once(' ').map_or(first.field.as_str(), |(_, name)| name);
    let name = ["{ws}/", "{target}/"].iter().find_map(|root| name.strip_prefix(root)).unwrap_or(name);
    Some(match found.len() - 1 {
        0 => format!("{name} was changed"),
        more => format!("{name} and {more} more were changed"),
    })
}

fn rest(differences: &[Difference]) -> Option<String> {
    let first = differences.iter().min_by_key(|difference| difference.class)?;
    Some(match first.class {
        Class::Extern => {
            format!("its dependency {} is another", first.field.trim_start_matches(field::EXTERN))
        }
        Class::BakedPath => {
            "its output contains the checkout's path, and this is another checkout".to_owned()
        }
        Class::Derived => "Cargo chose it with other features, dependencies or versions".to_owned(),
        _ => format!(
            "{} is {}; before: {}",
            first.field,
            value(first.new.as_deref()),
            value(first.old.as_deref())
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(field: &str, old: &str, new: &str) -> Difference {
        let text = |value: &str| (value != "-").then(|| value.to_owned());
        Difference { field: field.into(), class: Class::of(field), old: text(old), new: text(new) }
    }

    #[test]
    fn what_people_did() {
        let registry = "{cargo_home}/registry/src/index.crates.io-1949cf8c6b5b557f";
        let (old, new) =
            (format!("{registry}/serde-1.0.17/src/lib.rs"), format!("{registry}/serde-1.0.19/src/lib.rs"));
        for (field, old, new, words_) in [
            ("source", old.as_str(), new.as_str(), "serde 1.0.17 → 1.0.19"),
            (
                "compiler",
                "rustc 1.94.0",
                "rustc 1.95.0",
                "another compiler: rustc 1.95.0; before: rustc 1.94.0",
            ),
            ("target", "", "wasm32-wasip1", "built for wasm32-wasip1; before: for the host"),
            ("flag -C opt-level", "-", "3", "release; before: dev"),
            ("flag -C opt-level", "3", "-", "dev; before: release"),
            ("flag -C opt-level", "-", "1", "another profile; before: dev"),
            ("flag -C opt-level", "1", "s", "opt-level s; before: opt-level 1"),
            (
                "flag --cfg",
                "feature=\"std\"",
                "feature=\"a\" feature=\"b\"",
                "features: a, b switched on; std switched off",
            ),
            (
                "flag --cfg",
                "-",
                "tokio_unstable",
                "RUSTFLAGS or the profile's settings: --cfg tokio_unstable",
            ),
            (
                "flag -C target-cpu",
                "-",
                "native",
                "RUSTFLAGS or the profile's settings: -C target-cpu=native",
            ),
            ("flag -C debuginfo", "2", "-", "RUSTFLAGS or the profile's settings: no -C debuginfo"),
            (
                "remapped",
                "-",
                "{cargo_home} {sysroot}",
                "a remote (or `cache.portable_paths`) was switched on",
            ),
            ("remapped", "{sysroot}", "-", "a remote (or `cache.portable_paths`) was switched off"),
            ("key salt", "-", "x", "`cache.key_salt` (KACHE_KEY_SALT) is another"),
            ("env BUILD_ID", "\"1\"", "\"2\"", "the variable BUILD_ID is 2; before: 1"),
            (
                "environment named in libm.so",
                "A=1",
                "A=2",
                "variables that a proc macro may read are others: A=2",
            ),
            ("file {ws}/src/lib.rs", "aa", "bb", "src/lib.rs was changed"),
            ("extern dep", "1", "2", "its dependency dep is another"),
            (
                "baked path {ws}",
                "/a",
                "/b",
                "its output contains the checkout's path, and this is another checkout",
            ),
            ("flag -C metadata", "1", "2", "Cargo chose it with other features, dependencies or versions"),
            ("linker", "ld", "mold", "linker is mold; before: ld"),
        ] {
            assert_eq!(words(&[difference(field, old, new)]).as_deref(), Some(words_), "{field}");
        }
        assert_eq!(words(&[]), None);
        let edited = [difference("file {ws}/a.rs", "1", "2"), difference("file {ws}/b.rs", "1", "2")];
        assert_eq!(words(&edited).as_deref(), Some("a.rs and 1 more were changed"));
        let both = [difference("file {ws}/a.rs", "1", "2"), difference("flag -C opt-level", "-", "3")];
        assert_eq!(words(&both).as_deref(), Some("release; before: dev"));
    }
}
