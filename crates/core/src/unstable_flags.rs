//! The table of `-Z` options: what each one means for the cache. An option without a row is a bypass, never a guess.
//!
//! Source: `rustc -Z help` of 1.95 and of the nightly of May 2026, and the marks in
//! `compiler/rustc_session/src/options.rs`. What rustc marks `TRACKED` changes its outputs and is keyed; so is what it
//! marks `UNTRACKED` unless the reason for another word is below.

use crate::flags::{Arity, Flag, Role, row};

/// Its text is part of the key, and that is all: everything that it changes is captured.
const fn keyed(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Key)
}

/// Changes messages where there are some, makes none, and is `UNTRACKED`.
const fn looks(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Rendering)
}

/// Prints measurements or statistics about this compile, which are not those of another one.
const fn measures(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Uncacheable)
}

/// Writes files that the compiler does not announce, often outside of the target directory.
const fn writes(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Uncacheable)
}

/// Brings in what neither dep-info nor a key tells of: files, code, arguments of the linker, results of an earlier
/// run.
const fn brings(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Uncacheable)
}

/// Only a part of a compile, or something else instead of one.
const fn partial(name: &'static str) -> Flag {
    row(name, Arity::Optional, Role::Uncacheable)
}

/// `-Z` options.
#[rustfmt::skip]
pub const UNSTABLE: &[Flag] = &[
    keyed("allow-features"),
    keyed("always-encode-mir"),
    keyed("annotate-moves"),
    keyed("assume-incomplete-release"),
    keyed("binary-dep-depinfo"),
    keyed("box-noalias"),
    keyed("branch-protection"),
    brings("cache-proc-macros"),
    keyed("cf-protection"),
    keyed("check-cfg-all-expected"),
    keyed("checksum-hash-algorithm"),
    row("codegen-backend", Arity::Optional, Role::Field),
    keyed("codegen-source-order"),
    keyed("contract-checks"),
    keyed("coverage-options"),
    keyed("crate-attr"),
    keyed("cross-crate-inline-threshold"),
    keyed("debug-info-for-profiling"),
    keyed("debug-info-type-line-numbers"),
    keyed("debuginfo-compression"),
    keyed("deduplicate-diagnostics"),
    keyed("default-visibility"),
    keyed("dep-info-omit-d-target"),
    keyed("direct-access-external-data"),
    writes("dump-dep-graph"),
    writes("dump-mir"),
    writes("dump-mono-stats"),
    keyed("dwarf-version"),
    keyed("embed-metadata"),
    keyed("embed-source"),
    keyed("emit-stack-sizes"),
    keyed("export-executable-symbols"),
    keyed("external-clangrt"),
    keyed("extra-const-ub-checks"),
    keyed("fewer-names"),
    keyed("fixed-x18"),
    keyed("flatten-format-args"),
    keyed("fmt-debug"),
    keyed("force-unstable-if-unmarked"),
    keyed("function-return"),
    keyed("function-sections"),
    keyed("has-thread-local"),
    row("help", Arity::Optional, Role::Query),
    keyed("higher-ranked-assumptions"),
    keyed("hint-mostly-unused"),
    measures("incremental-info"),
    keyed("indirect-branch-cs-prefix"),
    keyed("inline-llvm"),
    keyed("inline-mir"),
    keyed("inline-mir-forwarder-threshold"),
    keyed("inline-mir-hint-threshold"),
    keyed("inline-mir-preserve-debug"),
    keyed("inline-mir-threshold"),
    measures("input-stats"),
    keyed("instrument-mcount"),
    keyed("instrument-xray"),
    keyed("large-data-threshold"),
    keyed("layout-seed"),
    keyed("link-directives"),
    keyed("link-native-libraries"),
    partial("link-only"),
    keyed("lint-llvm-ir"),
    keyed("lint-mir"),
    keyed("llvm-module-flag"),
    brings("llvm-plugins"),
    writes("llvm-time-trace"),
    keyed("location-detail"),
    row("ls", Arity::Optional, Role::Query),
    looks("macro-backtrace"),
    measures("macro-stats"),
    keyed("maximal-hir-to-mir-coverage"),
    keyed("merge-functions"),
    measures("meta-stats"),
    writes("metrics-dir"),
    keyed("min-function-alignment"),
    keyed("min-recursion-limit"),
    keyed("mir-enable-passes"),
    keyed("mir-opt-level"),
    keyed("mir-preserve-ub"),
    keyed("mir-strip-debuginfo"),
    keyed("move-size-limit"),
    keyed("mutable-noalias"),
    keyed("namespaced-crates"),
    keyed("next-solver"),
    writes("nll-facts"),
    partial("no-analysis"),
    partial("no-codegen"),
    keyed("no-generate-arange-section"),
    keyed("no-implied-bounds-compat"),
    partial("no-link"),
    keyed("no-parallel-backend"),
    keyed("no-profiler-runtime"),
    keyed("no-unique-section-names"),
    keyed("on-broken-pipe"),
    keyed("panic-abort-tests"),
    keyed("panic-in-drop"),
    partial("parse-crate-root-only"),
    keyed("patchable-function-entry"),
    keyed("plt"),
    keyed("polonius"),
    brings("pre-link-arg"),
    brings("pre-link-args"),
    keyed("precise-enum-drop-elaboration"),
    measures("print-codegen-stats"),
    writes("print-codegen-stats-json"),
    measures("print-llvm-passes"),
    measures("print-mono-items"),
    measures("print-type-sizes"),
    looks("proc-macro-backtrace"),
    keyed("proc-macro-execution-strategy"),
    writes("profile-closures"),
    row("profile-sample-use", Arity::Optional, Role::KeyPath),
    keyed("randomize-layout"),
    keyed("reg-struct-return"),
    keyed("regparm"),
    keyed("relax-elf-relocations"),
    row("remap-cwd-prefix", Arity::Optional, Role::KeyPath),
    writes("remark-dir"),
    keyed("retpoline"),
    keyed("retpoline-external-thunk"),
    keyed("sanitizer"),
    keyed("sanitizer-cfi-canonical-jump-tables"),
    keyed("sanitizer-cfi-generalize-pointers"),
    keyed("sanitizer-cfi-normalize-integers"),
    brings("sanitizer-dataflow-abilist"),
    keyed("sanitizer-kcfi-arity"),
    keyed("sanitizer-memory-track-origins"),
    keyed("sanitizer-recover"),
    keyed("saturating-float-casts"),
    writes("self-profile"),
    keyed("self-profile-counter"),
    keyed("self-profile-events"),
    keyed("share-generics"),
    keyed("shell-argfiles"),
    keyed("small-data-threshold"),
    keyed("split-dwarf-inlining"),
    keyed("split-dwarf-kind"),
    writes("split-dwarf-out-dir"),
    keyed("split-lto-unit"),
    keyed("src-hash-algorithm"),
    keyed("stack-protector"),
    keyed("strict-init-checks"),
    keyed("teach"),
    writes("temps-dir"),
    looks("terminal-urls"),
    keyed("thinlto"),
    keyed("threads"),
    measures("time-llvm-passes"),
    measures("time-passes"),
    keyed("time-passes-format"),
    keyed("tls-model"),
    keyed("trace-macros"),
    looks("track-diagnostics"),
    keyed("trap-unreachable"),
    looks("trim-diagnostic-paths"),
    row("tune-cpu", Arity::Optional, Role::KeyNoFile),
    keyed("ub-checks"),
    keyed("ui-testing"),
    partial("unpretty"),
    keyed("unstable-options"),
    keyed("use-ctors-section"),
    keyed("use-sync-unwind"),
    keyed("validate-mir"),
    keyed("verify-llvm-ir"),
    keyed("virtual-function-elimination"),
    keyed("wasi-exec-model"),
    keyed("write-long-types-to-disk"),];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flags::find;

    /// What people set in `RUSTFLAGS` and profiles, and what Cargo passes by itself.
    #[test]
    fn decisions() {
        let keyed = "allow-features always-encode-mir binary-dep-depinfo branch-protection checksum-hash-algorithm crate-attr \
                     cross-crate-inline-threshold debuginfo-compression dwarf-version embed-metadata embed-source \
                     fmt-debug force-unstable-if-unmarked hint-mostly-unused inline-mir layout-seed location-detail \
                     min-function-alignment mir-opt-level next-solver panic-abort-tests polonius randomize-layout sanitizer \
                     share-generics split-dwarf-inlining split-dwarf-kind stack-protector threads tls-model ub-checks \
                     unstable-options virtual-function-elimination";
        let refused = "cache-proc-macros dump-mir dump-mono-stats llvm-plugins llvm-time-trace macro-stats metrics-dir no-codegen \
                       no-link pre-link-args print-mono-items print-type-sizes remark-dir sanitizer-dataflow-abilist \
                       self-profile split-dwarf-out-dir time-llvm-passes time-passes unpretty";
        for (names, role) in [
            (keyed, Role::Key),
            ("profile-sample-use remap-cwd-prefix", Role::KeyPath),
            ("tune-cpu", Role::KeyNoFile),
            ("macro-backtrace proc-macro-backtrace terminal-urls track-diagnostics", Role::Rendering),
            (refused, Role::Uncacheable),
            ("help ls", Role::Query),
        ] {
            for name in names.split_whitespace() {
                assert_eq!(find(UNSTABLE, name).map(|flag| flag.role), Some(role), "{name}");
            }
        }
        for unknown in ["human-readable-cgu-names", "no-such-flag", "", "sanitizers"] {
            assert_eq!(find(UNSTABLE, unknown), None, "{unknown}");
        }
    }
}
