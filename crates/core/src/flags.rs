//! The table of compiler flags: one row each, with its arity and what it means for the cache. A flag without a row
//! is a bypass, never a guess. Source: `rustc --help -v` and `rustc -C help` of 1.95, and
//! `compiler/rustc_session/src/options.rs`. Does not know how flags are spelled on a command line (see `args`).

/// How many values a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arity {
    /// A switch.
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
    /// A question to the compiler.
    Query,
    /// Known, but its effect can't be captured.
    Uncacheable,
}

/// One row of a flag table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flag {
    /// Long name without dashes, or the name of a `-C`/`-Z` option.
    pub name: &'static str,
    /// One-letter form.
    pub short: Option<char>,
    /// Values.
    pub arity: Arity,
    /// Meaning.
    pub role: Role,
}

const fn row(name: &'static str, arity: Arity, role: Role) -> Flag {
    Flag { name, short: None, arity, role }
}

const fn short(name: &'static str, short: char, arity: Arity, role: Role) -> Flag {
    Flag { name, short: Some(short), arity, role }
}

/// Top-level flags.
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

/// The `-Z` options that are understood (`rustc -Z help`, 1.95 and 1.97); every other one is a bypass that names it. Keyed
/// are those that decide about code, metadata or messages alone. Refused are those that print or write what is about this
/// very run of the compiler: a stored result would tell of another one.
pub const UNSTABLE: &[Flag] = &[
    row("allow-features", Arity::Optional, Role::Key),
    row("always-encode-mir", Arity::Optional, Role::Key),
    row("annotate-moves", Arity::Optional, Role::Key),
    row("assume-incomplete-release", Arity::Optional, Role::Key),
    row("box-noalias", Arity::Optional, Role::Key),
    row("branch-protection", Arity::Optional, Role::Key),
    row("cf-protection", Arity::Optional, Role::Key),
    row("checksum-hash-algorithm", Arity::Optional, Role::Key),
    row("codegen-backend", Arity::Optional, Role::Field),
    row("codegen-source-order", Arity::Optional, Role::Key),
    row("crate-attr", Arity::Optional, Role::Key),
    row("cross-crate-inline-threshold", Arity::Optional, Role::Key),
    row("debug-info-for-profiling", Arity::Optional, Role::Key),
    row("debug-info-type-line-numbers", Arity::Optional, Role::Key),
    row("debuginfo-compression", Arity::Optional, Role::Key),
    row("default-visibility", Arity::Optional, Role::Key),
    row("direct-access-external-data", Arity::Optional, Role::Key),
    row("dump-mir", Arity::Optional, Role::Uncacheable),
    row("dump-mono-stats", Arity::Optional, Role::Uncacheable),
    row("dwarf-version", Arity::Optional, Role::Key),
    row("dylib-lto", Arity::Optional, Role::Key),
    row("ehcont-guard", Arity::Optional, Role::Key),
    row("embed-metadata", Arity::Optional, Role::Key),
    row("embed-source", Arity::Optional, Role::Key),
    row("emit-stack-sizes", Arity::Optional, Role::Key),
    row("export-executable-symbols", Arity::Optional, Role::Key),
    row("fewer-names", Arity::Optional, Role::Key),
    row("fixed-x18", Arity::Optional, Role::Key),
    row("flatten-format-args", Arity::Optional, Role::Key),
    row("fmt-debug", Arity::Optional, Role::Key),
    row("force-unstable-if-unmarked", Arity::Optional, Role::Key),
    row("function-return", Arity::Optional, Role::Key),
    row("function-sections", Arity::Optional, Role::Key),
    row("has-thread-local", Arity::Optional, Role::Key),
    row("hint-mostly-unused", Arity::Optional, Role::Key),
    row("human-readable-cgu-names", Arity::Optional, Role::Key),
    row("incremental-ignore-spans", Arity::Optional, Role::Key),
    row("indirect-branch-cs-prefix", Arity::Optional, Role::Key),
    row("inline-llvm", Arity::Optional, Role::Key),
    row("inline-mir", Arity::Optional, Role::Key),
    row("inline-mir-hint-threshold", Arity::Optional, Role::Key),
    row("inline-mir-threshold", Arity::Optional, Role::Key),
    row("input-stats", Arity::Optional, Role::Uncacheable),
    row("instrument-mcount", Arity::Optional, Role::Key),
    row("instrument-xray", Arity::Optional, Role::Key),
    row("large-data-threshold", Arity::Optional, Role::Key),
    row("layout-seed", Arity::Optional, Role::Key),
    row("link-native-libraries", Arity::Optional, Role::Key),
    row("llvm-time-trace", Arity::Optional, Role::Uncacheable),
    row("location-detail", Arity::Optional, Role::Key),
    row("macro-backtrace", Arity::Optional, Role::Key),
    row("macro-stats", Arity::Optional, Role::Uncacheable),
    row("maximal-hir-to-mir-coverage", Arity::Optional, Role::Key),
    row("merge-functions", Arity::Optional, Role::Key),
    row("meta-stats", Arity::Optional, Role::Uncacheable),
    row("metrics-dir", Arity::Optional, Role::Uncacheable),
    row("min-function-alignment", Arity::Optional, Role::Key),
    row("mir-emit-retag", Arity::Optional, Role::Key),
    row("mir-enable-passes", Arity::Optional, Role::Key),
    row("mir-include-spans", Arity::Optional, Role::Key),
    row("mir-opt-level", Arity::Optional, Role::Key),
    row("mir-preserve-ub", Arity::Optional, Role::Key),
    row("mir-strip-debuginfo", Arity::Optional, Role::Key),
    row("move-size-limit", Arity::Optional, Role::Key),
    row("mutable-noalias", Arity::Optional, Role::Key),
    row("next-solver", Arity::Optional, Role::Key),
    row("no-generate-arange-section", Arity::Optional, Role::Key),
    row("no-parallel-backend", Arity::Optional, Role::Key),
    row("no-trait-vptr", Arity::Optional, Role::Key),
    row("no-unique-section-names", Arity::Optional, Role::Key),
    row("osx-rpath-install-name", Arity::Optional, Role::Key),
    row("packed-bundled-libs", Arity::Optional, Role::Key),
    row("packed-stack", Arity::Optional, Role::Key),
    row("panic-abort-tests", Arity::Optional, Role::Key),
    row("panic-in-drop", Arity::Optional, Role::Key),
    row("plt", Arity::Optional, Role::Key),
    row("polonius", Arity::Optional, Role::Key),
    row("precise-enum-drop-elaboration", Arity::Optional, Role::Key),
    row("print-llvm-passes", Arity::Optional, Role::Uncacheable),
    row("print-mono-items", Arity::Optional, Role::Uncacheable),
    row("print-type-sizes", Arity::Optional, Role::Uncacheable),
    row("proc-macro-backtrace", Arity::Optional, Role::Key),
    row("query-dep-graph", Arity::Optional, Role::Uncacheable),
    row("randomize-layout", Arity::Optional, Role::Key),
    row("reg-struct-return", Arity::Optional, Role::Key),
    row("regparm", Arity::Optional, Role::Key),
    row("relax-elf-relocations", Arity::Optional, Role::Key),
    row("retpoline", Arity::Optional, Role::Key),
    row("retpoline-external-thunk", Arity::Optional, Role::Key),
    row("sanitizer", Arity::Optional, Role::Key),
    row("sanitizer-cfi-canonical-jump-tables", Arity::Optional, Role::Key),
    row("sanitizer-cfi-generalize-pointers", Arity::Optional, Role::Key),
    row("sanitizer-cfi-normalize-integers", Arity::Optional, Role::Key),
    row("sanitizer-kcfi-arity", Arity::Optional, Role::Key),
    row("sanitizer-memory-track-origins", Arity::Optional, Role::Key),
    row("sanitizer-recover", Arity::Optional, Role::Key),
    row("saturating-float-casts", Arity::Optional, Role::Key),
    row("self-profile", Arity::Optional, Role::Uncacheable),
    row("self-profile-counter", Arity::Optional, Role::Uncacheable),
    row("self-profile-events", Arity::Optional, Role::Uncacheable),
    row("share-generics", Arity::Optional, Role::Key),
    row("small-data-threshold", Arity::Optional, Role::Key),
    row("split-dwarf-inlining", Arity::Optional, Role::Key),
    row("split-lto-unit", Arity::Optional, Role::Key),
    row("src-hash-algorithm", Arity::Optional, Role::Key),
    row("stack-protector", Arity::Optional, Role::Key),
    row("strict-init-checks", Arity::Optional, Role::Key),
    row("temps-dir", Arity::Optional, Role::Uncacheable),
    row("thinlto", Arity::Optional, Role::Key),
    row("threads", Arity::Optional, Role::Key),
    row("time-llvm-passes", Arity::Optional, Role::Uncacheable),
    row("time-passes", Arity::Optional, Role::Uncacheable),
    row("time-passes-format", Arity::Optional, Role::Uncacheable),
    row("tiny-const-eval-limit", Arity::Optional, Role::Key),
    row("tls-model", Arity::Optional, Role::Key),
    row("trap-unreachable", Arity::Optional, Role::Key),
    row("trim-diagnostic-paths", Arity::Optional, Role::Key),
    row("tune-cpu", Arity::Optional, Role::KeyNoFile),
    row("ub-checks", Arity::Optional, Role::Key),
    row("unstable-options", Arity::Optional, Role::Key),
    row("use-ctors-section", Arity::Optional, Role::Key),
    row("use-sync-unwind", Arity::Optional, Role::Key),
    row("verbose-asm", Arity::Optional, Role::Key),
    row("virtual-function-elimination", Arity::Optional, Role::Key),
    row("wasi-exec-model", Arity::Optional, Role::Key),
    row("wasm-c-abi", Arity::Optional, Role::Key),
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
