//! Why a look-up missed, worked out afterwards: the fields in which two keys differ, which earlier key is the nearest,
//! and what can be done about each kind of difference. Works on the fields that were kept when the keys were made;
//! knows nothing about where they are kept.

use std::collections::{BTreeMap, BTreeSet};

use crate::digest::Digest;
use crate::entry::Evidence;
use crate::key::{EntryKey, Field, KeyWriter, field};

/// Longest value that is kept in readable form, in bytes.
const READABLE_BYTES_MAX: usize = 200;

crate::words! {
    /// What kind of thing a key field stands for; decides what can be done when it differs.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum Class {
        Compiler = "compiler",
        /// Which unit it is: crate type, source, target, whether it is a test.
        Identity = "identity",
        Flag = "flag",
        Setting = "setting",
        /// The linker, the processor, and other parts of the surroundings.
        Surroundings = "surroundings",
        /// A variable that the compiler reported as read.
        Variable = "variable",
        /// Variables that a proc macro may read.
        MacroVariable = "macro-variable",
        /// A file's content or absence, a directory's listing, a link's destination.
        File = "file",
        Extern = "extern",
        /// A local path that the output contains.
        BakedPath = "baked-path",
        /// Follows from other things: Cargo's own hash over features, profile and dependencies.
        Derived = "derived",
    }
}

impl Class {
    /// The class of a field, by the names that `unit_key`, `entry_key` and the engine give.
    pub fn of(field: &str) -> Self {
        let first = field.split(' ').next().unwrap_or_default();
        match (first, field) {
            (_, field::COMPILER) => Class::Compiler,
            (_, "flag -C metadata" | "flag -C extra-filename" | "source named by its absolute path") => {
                Class::Derived
            }
            ("flag", _) | ("rendering", _) => Class::Flag,
            (_, field::KEY_SALT | field::PORTABLE_PATHS) => Class::Setting,
            ("env", _) => Class::Variable,
            (_, field) if field.starts_with("environment named in ") => Class::MacroVariable,
            ("file", field) if dependency_of(field).is_some() => Class::Extern,
            ("file" | "directory" | "link" | "native", _) => Class::File,
            (_, field) if field.starts_with("extra input ") || field.starts_with("presence of ") => {
                Class::File
            }
            ("program", field) if field.ends_with(" on PATH") => Class::File,
            (_, "target specification" | "clippy configuration") => Class::File,
            ("extern", _) => Class::Extern,
            (_, field) if field.starts_with(field::BAKED) || field.starts_with("exact path ") => {
                Class::BakedPath
            }
            ("mode" | "crate" | "test" | "emit" | "source" | "working" | "target", _) => Class::Identity,
            _ => Class::Surroundings,
        }
    }

    /// What to do about a difference, where there is something.
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Class::Compiler => Some(
                "another compiler means other results; a `rust-toolchain.toml` keeps every build of a project on one",
            ),
            Class::Identity | Class::File => None,
            Class::Flag => Some(
                "flags come from RUSTFLAGS, `build.rustflags`, the profile and features; builds with the same ones \
                 share results",
            ),
            Class::Setting => {
                Some("builds with the same `cache.key_salt` and `cache.portable_paths` share results")
            }
            Class::Surroundings => Some("results are shared where this is the same"),
            Class::Variable => Some(
                "`kache inputs CRATE` says which program reads it; keep its value the same, or out of crates that can \
                 do without it",
            ),
            Class::MacroVariable => Some(
                "a proc macro names this variable and may read it; unset it for builds that don't need it. Where it only \
                 holds the checkout's path, the next checkout hits if this compile had the same result",
            ),
            Class::Extern => Some("`kache why-miss` with that crate's name says why the dependency differs"),
            Class::BakedPath => Some(
                "the output contains this path (`env!(\"CARGO_MANIFEST_DIR\")`, `file!()`, a generated path); without \
                 it the result would fit every checkout",
            ),
            Class::Derived => Some(
                "Cargo's own hash of the unit differs: version, source, features, profile or the way it was selected",
            ),
        }
    }

    /// How much a difference sets two results apart when the nearest is sought.
    const fn weight(self) -> u32 {
        match self {
            Class::Identity => 1000,
            Class::Derived => 0,
            Class::Compiler
            | Class::Flag
            | Class::Setting
            | Class::Surroundings
            | Class::Variable
            | Class::MacroVariable
            | Class::File
            | Class::Extern
            | Class::BakedPath => 1,
        }
    }
}

/// The crate that a field is about, for externs and for the libraries of dependencies that the linker read.
pub fn dependency_of(field: &str) -> Option<&str> {
    if let Some(name) = field.strip_prefix(field::EXTERN) {
        return name.rsplit(':').next();
    }
    let path = field.strip_prefix("file ")?;
    let (dir, file) = path.rsplit_once('/')?;
    let (stem, extension) = file.rsplit_once('.')?;
    let is_library = matches!(extension, "rlib" | "rmeta" | "so" | "dylib");
    let (name, _) = stem.strip_prefix("lib")?.rsplit_once('-')?;
    (is_library && dir.starts_with("{target}/")).then_some(name)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Name of the field, as in the key.
    pub field: String,
    pub class: Class,
    /// Its value in the earlier key; `None` where that had no such field.
    pub old: Option<String>,
    /// Its value now; `None` where there is no such field any more.
    pub new: Option<String>,
}

/// Everything in which `new` differs from `old`, in the order of the key. What follows from the rest comes last, and
/// only where there is nothing else.
pub fn differences(old: &Evidence, new: &Evidence) -> Vec<Difference> {
    let mut found = compare(&old.unit_fields, &new.unit_fields);
    // Without an earlier compile of the very unit nobody knows yet what it reads.
    if !new.entry_fields.is_empty() {
        found.extend(compare(&old.entry_fields, &new.entry_fields));
    }
    found.retain(|difference| difference.field != field::UNIT);
    for difference in &mut found {
        explain(difference, old, new);
    }
    if found.iter().any(|difference| difference.class != Class::Derived) {
        found.retain(|difference| difference.class != Class::Derived);
    }
    found
}

/// Whether two results were made to the same end: by the same kind of call, as the same kind of output. Others are of
/// the same crate and yet no answer to why one of them is missing.
pub fn is_alike(old: &Evidence, new: &Evidence) -> bool {
    let of = |evidence: &Evidence, name: &str| -> Vec<String> {
        let fields = evidence.unit_fields.iter().filter(|field| field.name == name);
        fields.map(|field| field.value.clone()).collect()
    };
    [field::MODE, field::CRATE_TYPE, field::TEST].iter().all(|name| of(old, name) == of(new, name))
}

/// How far two keys are apart; the smallest is the nearest.
pub fn distance(old: &Evidence, new: &Evidence) -> u32 {
    let fields = [(&old.unit_fields, &new.unit_fields), (&old.entry_fields, &new.entry_fields)];
    let differing = fields.into_iter().flat_map(|(old, new)| compare(old, new));
    differing.map(|difference| difference.class.weight()).sum()
}

/// The key that the fields of an entry key belong to; `None` where they are not known.
pub fn key_of(evidence: &Evidence) -> Option<EntryKey> {
    if evidence.entry_fields.is_empty() {
        return None;
    }
    let mut key = KeyWriter::new("entry");
    for Field { name, value } in &evidence.entry_fields {
        key.text(name.clone(), value.clone());
    }
    Some(EntryKey(key.finish().0))
}

/// Compares fields by name. Fields with the same name are lists: what both have is taken away; where nothing is left
/// the order differs.
fn compare(old: &[Field], new: &[Field]) -> Vec<Difference> {
    let (before, after) = (by_name(old), by_name(new));
    let mut seen = BTreeSet::new();
    let mut found = Vec::new();
    for Field { name, .. } in new.iter().chain(old) {
        if !seen.insert(name.as_str()) {
            continue;
        }
        let nothing = Vec::new();
        let (old, new) = (before.get(name.as_str()), after.get(name.as_str()));
        if old == new {
            continue;
        }
        let (old, new) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
        let (gone, come) = (without(old, new), without(new, old));
        let (gone, come) =
            if gone.is_empty() && come.is_empty() { (old.clone(), new.clone()) } else { (gone, come) };
        let joined = |values: &[&str]| (!values.is_empty()).then(|| values.join(" "));
        let class = Class::of(name);
        found.push(Difference { field: name.clone(), class, old: joined(&gone), new: joined(&come) });
    }
    found
}

fn by_name(fields: &[Field]) -> BTreeMap<&str, Vec<&str>> {
    let mut map: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for field in fields {
        map.entry(&field.name).or_default().push(&field.value);
    }
    map
}

/// The values that the others don't have, each as often as it is more frequent.
fn without<'a>(values: &[&'a str], others: &[&str]) -> Vec<&'a str> {
    let mut others = others.to_vec();
    let mut left = Vec::new();
    for value in values {
        match others.iter().position(|other| other == value) {
            Some(at) => drop(others.remove(at)),
            None => left.push(*value),
        }
    }
    left
}

/// Puts what people can read in place of digests.
fn explain(difference: &mut Difference, old: &Evidence, new: &Evidence) {
    let known = |evidence: &Evidence| evidence.values.get(&difference.field).cloned();
    let (mut before, mut after) = (known(old), known(new));
    if difference.class == Class::MacroVariable
        && let (Some(old), Some(new)) = (&before, &after)
    {
        // The list of all variables that occur in the library: only those that changed are of interest.
        let (old, new): (Vec<&str>, Vec<&str>) = (old.split(' ').collect(), new.split(' ').collect());
        (before, after) = (Some(without(&old, &new).join(" ")), Some(without(&new, &old).join(" ")));
    }
    let shown = |value: &mut Option<String>, known: Option<String>, other: &Option<String>| {
        // Two values that look the same would be no explanation.
        if let (Some(value), Some(known)) =
            (value.as_mut(), known.filter(|known| Some(known) != other.as_ref()))
        {
            *value = known;
        }
        *value = value.take().map(|value| shorten(&value));
    };
    let (old_known, new_known) = (before.clone(), after.clone());
    shown(&mut difference.old, before, &new_known);
    shown(&mut difference.new, after, &old_known);
}

fn shorten(value: &str) -> String {
    let word = |word: &str| word.parse::<Digest>().map_or(word.to_owned(), |digest| digest.short());
    value.split(' ').map(word).collect::<Vec<_>>().join(" ")
}

/// A variable's value in a form that may be written down beside an entry: short, and nothing that looks like a secret.
/// The compiler has put it into the output, but an output is not read by people who ask why something missed.
pub fn readable(name: &str, value: &str) -> Option<String> {
    const SECRET: &[&str] = &["AUTH", "CREDENTIAL", "KEY", "PASS", "PRIVATE", "SECRET", "TOKEN"];
    let name = name.to_ascii_uppercase();
    let is_secret =
        SECRET.iter().any(|word| name.contains(word)) || (value.contains("://") && value.contains('@'));
    (!is_secret && value.len() <= READABLE_BYTES_MAX).then(|| format!("{value:?}"))
}

/// What to do about a call that went to the compiler without a look-up, by the stable code of its reason.
pub fn remedy_of_bypass(code: &str) -> Option<&'static str> {
    Some(match code {
        "excluded" => "remove the pattern from `cache.exclude` to have it cached",
        "unknown-flag" | "uncacheable-flag" | "emit" => "leave that flag out to have it cached",
        "environment" => "unset that variable to have it cached",
        "executable" => "set `cache.cache_executables = true` (KACHE_CACHE_EXECUTABLES) to have it cached",
        "linker" => "GNU ld, lld, gold and mold report what they read; with one of them it is cached",
        "store" => "`kache doctor` says what is wrong with the cache directory",
        "config" => "`kache doctor` says which setting can't be used",
        "toolchain" => "`kache doctor` says whether the compiler can be run",
        "not-utf8" => "give the file or directory a name in UTF-8",
        "target-dir" => "build with Cargo, into a target directory that Cargo has made",
        "unknown-driver" => "only clippy is known as RUSTC_WORKSPACE_WRAPPER",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unit_key;

    fn fields(text: &str) -> Vec<Field> {
        let field = |line: &str| {
            let (name, value) = line.split_once('=').expect("name=value");
            Field { name: name.trim().into(), value: value.trim().into() }
        };
        text.split(';').filter(|line| !line.trim().is_empty()).map(field).collect()
    }

    fn evidence(unit: &str, entry: &str) -> Evidence {
        Evidence { unit_fields: fields(unit), entry_fields: fields(entry), ..Evidence::default() }
    }

    fn shown(old: &Evidence, new: &Evidence) -> Vec<String> {
        let text = |d: Difference| {
            let side = |value: Option<String>| value.unwrap_or("-".into());
            format!("{:?} {}: {} > {}", d.class, d.field, side(d.old), side(d.new))
        };
        differences(old, new).into_iter().map(text).collect()
    }

    #[test]
    fn results_made_to_another_end_are_no_answer() {
        let lib = "mode=build;crate type=lib;test=false;source=a.rs";
        for (other, alike) in [
            ("mode=build;crate type=lib;test=false;source=b.rs;flag --cfg=x", true),
            ("mode=clippy;crate type=lib;test=false;source=a.rs", false),
            ("mode=build;crate type=lib;crate type=cdylib;test=false;source=a.rs", false),
            ("mode=build;crate type=lib;test=true;source=a.rs", false),
        ] {
            assert_eq!(is_alike(&evidence(lib, ""), &evidence(other, "")), alike, "{other}");
        }
    }

    #[test]
    fn exactly_the_fields_that_differ_are_named() {
        let digest = |text: &str| Digest::of(text.as_bytes()).to_string();
        let (a, b) = (digest("a"), digest("b"));
        let short = |digest: &str| digest[..12].to_owned();
        for (old, new, want) in [
            ("flag -C opt-level=0", "flag -C opt-level=3", "Flag flag -C opt-level: 0 > 3".to_owned()),
            ("flag --cfg=x", "flag --cfg=x;flag --cfg=y", "Flag flag --cfg: - > y".into()),
            ("flag --cfg=x;flag --cfg=y", "flag --cfg=y;flag --cfg=x", "Flag flag --cfg: x y > y x".into()),
            ("flag -C metadata=1", "flag -C metadata=2", "Derived flag -C metadata: 1 > 2".into()),
            (
                "flag -C metadata=1;test=false",
                "flag -C metadata=2;test=true",
                "Identity test: false > true".into(),
            ),
            ("key salt=x", "", "Setting key salt: x > -".into()),
        ] {
            assert_eq!(shown(&evidence(old, ""), &evidence(new, "")), [want], "{old} {new}");
        }
        for (old, new, want) in [
            (&a, &b, format!("File file {{ws}}/l.rs: {} > {}", short(&a), short(&b))),
            (&a, &"absent".to_owned(), format!("File file {{ws}}/l.rs: {} > absent", short(&a))),
        ] {
            let entry = |value: &str| evidence("", &format!("unit={value};file {{ws}}/l.rs={value}"));
            assert_eq!(shown(&entry(old), &entry(new)), [want]);
        }
        let same = evidence("mode=build", "file x=1");
        assert_eq!(shown(&same, &same), [""; 0]);
        // A miss whose inputs nobody has seen yet says nothing about inputs.
        assert_eq!(shown(&same, &evidence("mode=build", "")), [""; 0]);
    }

    #[test]
    fn values_take_the_place_of_digests() {
        let with = |digest: &str, values: &[(&str, &str)]| {
            let mut evidence = evidence("", &format!("env X={digest};environment named in m={digest}"));
            evidence.values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            evidence
        };
        let (a, b) = (Digest::of(b"a").to_string(), Digest::of(b"b").to_string());
        let old = with(&a, &[("env X", "\"1\""), ("environment named in m", "A=1 B=2")]);
        let new = with(&b, &[("env X", "\"2\""), ("environment named in m", "A=1 B=3 C=1")]);
        assert_eq!(
            shown(&old, &new),
            ["Variable env X: \"1\" > \"2\"", "MacroVariable environment named in m: B=2 > B=3 C=1"]
        );
        // Kept by one side only, or alike although the digests differ: digests are better than nothing.
        let bare = with(&b, &[]);
        assert!(shown(&old, &bare)[0].ends_with(&format!("\"1\" > {}", &b[..12])));
        let alike = with(&b, &[("env X", "\"1\"")]);
        assert_eq!(shown(&old, &alike)[0], format!("Variable env X: {} > {}", &a[..12], &b[..12]));
    }

    #[test]
    fn secrets_and_novels_are_not_written_down() {
        assert_eq!(readable("BUILD_ID", "a b").as_deref(), Some("\"a b\""));
        let long = "x".repeat(READABLE_BYTES_MAX + 1);
        for (name, value) in [
            ("API_TOKEN", "x"),
            ("db_password", "x"),
            ("DATABASE_URL", "postgres://me:secret@db/x"),
            ("NOVEL", &long),
        ] {
            assert_eq!(readable(name, value), None, "{name}");
        }
    }

    #[test]
    fn another_unit_is_farther_than_any_other_change() {
        let base = evidence("test=false;flag -O=;flag -g=", "file a=1");
        let other_flags = evidence("test=false;flag -C metadata=3", "file a=2");
        let other_unit = evidence("test=true;flag -O=;flag -g=", "file a=1");
        assert_eq!(distance(&base, &base), 0);
        assert_eq!(distance(&other_flags, &base), 3);
        assert_eq!(distance(&other_unit, &base), 1000);
    }

    #[test]
    fn the_key_of_kept_fields_is_the_key() {
        use crate::entry_key::{self, Rendering};
        use crate::record::{Input, InputRecord, Observed};
        let unit = crate::key::UnitKey(Digest::of(b"u"));
        let record = InputRecord { inputs: vec![Input::Env("X".into())], ..InputRecord::default() };
        let roots = crate::paths::Roots::default();
        let (key, entry_fields) =
            entry_key::derive(&unit, &record, &[Observed::Absent], &roots, &Rendering::default());
        assert_eq!(key_of(&Evidence { entry_fields, ..Evidence::default() }), Some(key));
        assert_eq!(key_of(&Evidence::default()), None);
    }

    #[test]
    fn libraries_that_the_linker_read_are_dependencies_too() {
        for (field, name) in [
            ("extern serde", Some("serde")),
            ("extern priv,noprelude:alloc", Some("alloc")),
            ("file {target}/debug/deps/libserde_core-0123.rlib", Some("serde_core")),
            ("file {ws}/vendor/libx-1.rlib", None),
            ("file {target}/debug/build/x-1/out/libz.a", None),
            ("file {ws}/src/lib.rs", None),
        ] {
            assert_eq!(dependency_of(field), name, "{field}");
            assert_eq!(Class::of(field) == Class::Extern, name.is_some(), "{field}");
        }
    }

    /// Every field that a unit key can have is of a class that was meant for it.
    #[test]
    fn fields_of_a_real_unit_have_classes() {
        let call = crate::invocation::Invocation {
            compiler: "/tc/bin/rustc".into(),
            args: "--crate-name a --edition=2021 src/lib.rs --error-format=json --json=artifacts --crate-type lib \
                   --emit=dep-info,link -C metadata=1 -C extra-filename=-2 --out-dir /w/t -L native=/n -l z \
                   --extern b=/w/libb.rlib --cfg x -C link-arg=-s"
                .split_whitespace()
                .map(str::to_owned)
                .collect(),
            cwd: "/w".into(),
            ..Default::default()
        };
        let unit = crate::unit::Unit::parse(&call).expect("a unit");
        let inputs = unit_key::KeyInputs { externs: vec![None], ..Default::default() };
        let (_, fields) = unit_key::derive(&unit, &inputs);
        let classes: BTreeMap<&str, Class> =
            fields.iter().map(|field| (field.name.as_str(), Class::of(&field.name))).collect();
        for (name, class) in [
            ("compiler", Class::Compiler),
            ("mode", Class::Identity),
            ("crate type", Class::Identity),
            ("source", Class::Identity),
            ("working directory", Class::Identity),
            ("flag -C metadata", Class::Derived),
            ("flag -C extra-filename", Class::Derived),
            ("flag --cfg", Class::Flag),
            ("flag -L native", Class::Flag),
            ("extern b", Class::Extern),
        ] {
            assert_eq!(classes.get(name), Some(&class), "{name} in {classes:?}");
        }
    }
}
