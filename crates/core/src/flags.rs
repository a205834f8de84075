//! The table of compiler flags: one row each, with its arity and what it means for the cache. A flag without a row
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

pub(crate) const fn row(name: &'static str, arity: Arity, role: Role) -> Flag {
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

/// `-C` options.
pub const CODEGEN: &[Flag] = &[
    row("code-model", Arity::Optional, Role::Key),
    row("codegen-units", Arity::Optional, Role::Key),
    row("collapse-macro-debuginfo", Arity::Optional, Role::Key),
    row("control-flow-guard", Arity::Optional, Role::Key),
    row("debug-assertions", Arity::Optional, Role::Key),
    row("debuginfo", Arity::Optional, Role::Key),
    row("default-linker-libraries", Arity::Optional, Role::Key),
    row("dlltool", Arity::Optional, Role::Uncacheable),
    row("dwarf-version", Arity::Optional, Role::Key),
    row("embed-bitcode", Arity::Optional, Role::Key),
    row("extra-filename", Arity::Optional, Role::Field),
    row("force-frame-pointers", Arity::Optional, Role::Key),
    row("force-unwind-tables", Arity::Optional, Role::Key),
    row("incremental", Arity::Optional, Role::Place),
    row("inline-threshold", Arity::Optional, Role::Key),
    row("instrument-coverage", Arity::Optional, Role::Field),
    row("jump-tables", Arity::Optional, Role::Key),
    row("link-arg", Arity::Optional, Role::Field),
    row("link-args", Arity::Optional, Role::Field),
    row("link-dead-code", Arity::Optional, Role::Key),
    row("link-self-contained", Arity::Optional, Role::Key),
    row("linker", Arity::Optional, Role::Field),
    row("linker-features", Arity::Optional, Role::Key),
    row("linker-flavor", Arity::Optional, Role::Field),
    row("linker-plugin-lto", Arity::Optional, Role::KeyNoFile),
    row("llvm-args", Arity::Optional, Role::KeyNoFile),
    row("lto", Arity::Optional, Role::Field),
    row("metadata", Arity::Optional, Role::Key),
    row("no-prepopulate-passes", Arity::Optional, Role::Key),
    row("no-redzone", Arity::Optional, Role::Key),
    row("no-stack-check", Arity::Optional, Role::Key),
    row("no-vectorize-loops", Arity::Optional, Role::Key),
    row("no-vectorize-slp", Arity::Optional, Role::Key),
    row("opt-level", Arity::Optional, Role::Key),
    row("overflow-checks", Arity::Optional, Role::Key),
    row("panic", Arity::Optional, Role::Key),
    row("passes", Arity::Optional, Role::Key),
    row("prefer-dynamic", Arity::Optional, Role::Key),
    row("profile-generate", Arity::Optional, Role::Uncacheable),
    row("profile-use", Arity::Optional, Role::KeyPath),
    row("relocation-model", Arity::Optional, Role::Key),
    row("relro-level", Arity::Optional, Role::Key),
    row("remark", Arity::Optional, Role::Key),
    row("rpath", Arity::Optional, Role::Key),
    row("save-temps", Arity::Optional, Role::Uncacheable),
    row("soft-float", Arity::Optional, Role::Key),
    row("split-debuginfo", Arity::Optional, Role::Field),
    row("strip", Arity::Optional, Role::Key),
    row("symbol-mangling-version", Arity::Optional, Role::Key),
    row("target-cpu", Arity::Optional, Role::Field),
    row("target-feature", Arity::Optional, Role::Key),
];

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
        for table in [FLAGS, CODEGEN, UNSTABLE] {
            for pair in table.windows(2) {
                assert!(pair[0].name.to_lowercase() < pair[1].name.to_lowercase(), "{}", pair[1].name);
            }
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
