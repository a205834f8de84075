//! The table of compiler flags: each with its arity and what it means for the cache. A flag that is not here
//! is a bypass, never a guess. Source: `rustc --help -v` and `rustc -C help` of 1.95, and
//! `compiler/rustc_session/src/options.rs`; `-Z` options are in `unstable_flags`. Does not know how flags are spelled
//! on a command line (see `args`).

/// How many values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    None,
    /// Exactly one value, attached or following.
    One,
    /// `-C name` or `-C name=value`.
    Optional,
}

/// What a flag means for the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Changes the output or the outcome: its text is part of the key, in order.
    Key,
    /// As `Key`, but the value is a path (or contains paths) and is keyed with portable names.
    KeyPath,
    /// As `Key`, but a value that names a file outside dep-info can't be followed.
    KeyNoFile,
    /// Says where outputs go; handled by its own field of the unit and not keyed.
    Place,
    /// Handled by its own field of the unit, keyed there.
    Field,
    /// Affects only how messages look.
    Rendering,
    Query,
    /// Known, but its effect can't be captured.
    Uncacheable,
}

/// One row of a flag table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Long name without dashes, or the name of a `-C`/`-Z` option.
    pub name: &'static str,
    pub short: Option<char>,
    pub arity: Arity,
    pub role: Role,
}

const fn row(name: &'static str, arity: Arity, role: Role) -> Flag {
    Flag { name, short: None, arity, role }
}

const fn short(name: &'static str, short: char, arity: Arity, role: Role) -> Flag {
    Flag { name, short: Some(short), arity, role }
}

pub const FLAGS: &[Flag] = &[
    short("allow", 'A', Arity::One, Role::Key),
    row("cap-lints", Arity::One, Role::Key),
    row("cfg", Arity::One, Role::Key),
    row("check-cfg", Arity::One, Role::Key),
    short("codegen", 'C', Arity::One, Role::Field),
    row("color", Arity::One, Role::Rendering),
    row("crate-name", Arity::One, Role::Field),
    row("crate-type", Arity::One, Role::Field),
    short("deny", 'D', Arity::One, Role::Key),
    row("diagnostic-width", Arity::One, Role::Rendering),
    row("edition", Arity::One, Role::Key),
    row("emit", Arity::One, Role::Field),
    row("env-set", Arity::One, Role::Key),
    row("error-format", Arity::One, Role::Field),
    row("explain", Arity::One, Role::Query),
    row("extern", Arity::One, Role::Field),
    short("forbid", 'F', Arity::One, Role::Key),
    row("force-warn", Arity::One, Role::Key),
    short("g", 'g', Arity::None, Role::Key),
    short("help", 'h', Arity::None, Role::Query),
    row("json", Arity::One, Role::Field),
    short("library", 'l', Arity::One, Role::Field),
    short("O", 'O', Arity::None, Role::Key),
    row("out-dir", Arity::One, Role::Place),
    short("output", 'o', Arity::One, Role::Uncacheable),
    row("print", Arity::One, Role::Query),
    row("remap-path-prefix", Arity::One, Role::KeyPath),
    row("remap-path-scope", Arity::One, Role::Key),
    short("search-path", 'L', Arity::One, Role::Field),
    row("sysroot", Arity::One, Role::Field),
    row("target", Arity::One, Role::Field),
    row("test", Arity::None, Role::Field),
    row("unpretty", Arity::One, Role::Uncacheable),
    short("unstable", 'Z', Arity::One, Role::Field),
    short("verbose", 'v', Arity::None, Role::Key),
    short("version", 'V', Arity::None, Role::Query),
    short("warn", 'W', Arity::One, Role::Key),
];

/// Makes a table of `-C` or `-Z` options, by role.
macro_rules! options {
    ($table:ident, $($role:ident: $($name:literal)*;)*) => {
        pub const $table: &[Flag] =
            &[$($(Flag { name: $name, short: None, arity: Arity::Optional, role: Role::$role },)*)*];
    };
}
pub(crate) use options;

options! {
    CODEGEN,
    Key:
        "code-model" "codegen-units" "collapse-macro-debuginfo" "control-flow-guard" "debug-assertions"
        "debuginfo" "default-linker-libraries" "dwarf-version" "embed-bitcode" "force-frame-pointers"
        "force-unwind-tables" "inline-threshold" "jump-tables" "link-dead-code" "link-self-contained"
        "linker-features" "metadata" "no-prepopulate-passes" "no-redzone" "no-stack-check" "no-vectorize-loops"
        "no-vectorize-slp" "opt-level" "overflow-checks" "panic" "passes" "prefer-dynamic" "relocation-model"
        "relro-level" "remark" "rpath" "soft-float" "strip" "symbol-mangling-version" "target-feature";
    KeyNoFile: "linker-plugin-lto" "llvm-args";
    KeyPath: "profile-use";
    Field:
        "extra-filename" "instrument-coverage" "link-arg" "link-args" "linker" "linker-flavor" "lto"
        "split-debuginfo" "target-cpu";
    Place: "incremental";
    Uncacheable: "dlltool" "profile-generate" "save-temps";
}

/// The row named `name`; rustc reads `_` in option names as `-`.
pub fn find(table: &'static [Flag], name: &str) -> Option<&'static Flag> {
    let same = |flag: &&Flag| {
        flag.name.len() == name.len()
            && flag.name.bytes().zip(name.bytes()).all(|(a, b)| a == b || (a == b'-' && b == b'_'))
    };
    table.iter().find(same)
}

/// The top-level row with this one-letter form.
pub fn find_short(letter: char) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.short == Some(letter))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unstable_flags::UNSTABLE;

    #[test]
    fn tables_are_sorted_without_repetition() {
        for pair in FLAGS.windows(2) {
            assert!(pair[0].name.to_lowercase() < pair[1].name.to_lowercase(), "{}", pair[1].name);
        }
        for table in [CODEGEN, UNSTABLE] {
            let mut names: Vec<&str> = table.iter().map(|flag| flag.name).collect();
            // Each role's names are sorted; of what can't be cached there are several lists.
            let is_sorted = |pair: &[Flag]| pair[0].role != pair[1].role || pair[0].name < pair[1].name;
            let breaks = table.windows(2).filter(|pair| !is_sorted(pair));
            let roles: Vec<Role> = breaks.map(|pair| pair[0].role).collect();
            assert!(roles.len() < 4 && roles.iter().all(|role| *role == Role::Uncacheable), "{roles:?}");
            names.sort_unstable();
            assert!(names.windows(2).all(|pair| pair[0] < pair[1]), "{names:?}");
        }
        let mut letters: Vec<char> = FLAGS.iter().filter_map(|flag| flag.short).collect();
        letters.sort_unstable();
        letters.dedup();
        assert_eq!(letters.len(), FLAGS.iter().filter(|flag| flag.short.is_some()).count());
    }

    #[test]
    fn options_take_an_optional_value_and_switches_are_never_places() {
        for flag in CODEGEN.iter().chain(UNSTABLE) {
            assert_eq!((flag.arity, flag.short), (Arity::Optional, None), "{}", flag.name);
        }
        for flag in FLAGS {
            assert!(flag.arity != Arity::None || flag.role != Role::Place, "{}", flag.name);
        }
        assert_eq!(find(CODEGEN, "opt_level").map(|flag| flag.name), Some("opt-level"));
        assert_eq!(find(CODEGEN, "opt level"), None);
    }
}
