//! The table of `-Z` options: what each one means for the cache. An option that is not here is a bypass, never a guess.
//!
//! Source: `rustc -Z help` of 1.95 and of the nightly of May 2026, and the marks in
//! `compiler/rustc_session/src/options.rs`. What rustc marks `TRACKED` changes its outputs and is keyed; so is what it
//! marks `UNTRACKED` unless the reason for another word is below.

use crate::flags::{Arity, Flag, Role, options};

options! {
    UNSTABLE,
    // All that they change is captured.
    Key:
        "allow-features" "always-encode-mir" "annotate-moves" "assume-incomplete-release" "binary-dep-depinfo"
        "box-noalias" "branch-protection" "cf-protection" "check-cfg-all-expected" "checksum-hash-algorithm"
        "codegen-source-order" "contract-checks" "coverage-options" "crate-attr" "cross-crate-inline-threshold"
        "debug-info-for-profiling" "debug-info-type-line-numbers" "debuginfo-compression"
        "deduplicate-diagnostics" "default-visibility" "dep-info-omit-d-target" "direct-access-external-data"
        "dwarf-version" "embed-metadata" "embed-source" "emit-stack-sizes" "export-executable-symbols"
        "external-clangrt" "extra-const-ub-checks" "fewer-names" "fixed-x18" "flatten-format-args" "fmt-debug"
        "force-unstable-if-unmarked" "function-return" "function-sections" "has-thread-local"
        "higher-ranked-assumptions" "hint-mostly-unused" "indirect-branch-cs-prefix" "inline-llvm" "inline-mir"
        "inline-mir-forwarder-threshold" "inline-mir-hint-threshold" "inline-mir-preserve-debug"
        "inline-mir-threshold" "instrument-mcount" "instrument-xray" "large-data-threshold" "layout-seed"
        "link-directives" "link-native-libraries" "lint-llvm-ir" "lint-mir" "llvm-module-flag" "location-detail"
        "maximal-hir-to-mir-coverage" "merge-functions" "min-function-alignment" "min-recursion-limit"
        "mir-enable-passes" "mir-opt-level" "mir-preserve-ub" "mir-strip-debuginfo" "move-size-limit"
        "mutable-noalias" "namespaced-crates" "next-solver" "no-generate-arange-section"
        "no-implied-bounds-compat" "no-parallel-backend" "no-profiler-runtime" "no-unique-section-names"
        "on-broken-pipe" "panic-abort-tests" "panic-in-drop" "patchable-function-entry" "plt" "polonius"
        "precise-enum-drop-elaboration" "proc-macro-execution-strategy" "randomize-layout" "reg-struct-return"
        "regparm" "relax-elf-relocations" "retpoline" "retpoline-external-thunk" "sanitizer"
        "sanitizer-cfi-canonical-jump-tables" "sanitizer-cfi-generalize-pointers"
        "sanitizer-cfi-normalize-integers" "sanitizer-kcfi-arity" "sanitizer-memory-track-origins"
        "sanitizer-recover" "saturating-float-casts" "self-profile-counter" "self-profile-events"
        "share-generics" "shell-argfiles" "small-data-threshold" "split-dwarf-inlining" "split-dwarf-kind"
        "split-lto-unit" "src-hash-algorithm" "stack-protector" "strict-init-checks" "teach" "thinlto" "threads"
        "time-passes-format" "tls-model" "trace-macros" "trap-unreachable" "ub-checks" "ui-testing"
        "unstable-options" "use-ctors-section" "use-sync-unwind" "validate-mir" "verify-llvm-ir"
        "virtual-function-elimination" "wasi-exec-model" "write-long-types-to-disk";
    Field: "codegen-backend";
    KeyPath: "profile-sample-use" "remap-cwd-prefix";
    KeyNoFile: "tune-cpu";
    // They change messages where there are some, make none, and are `UNTRACKED`.
    Rendering:
        "macro-backtrace" "proc-macro-backtrace" "terminal-urls" "track-diagnostics" "trim-diagnostic-paths";
    Query: "help" "ls";
    // They print measurements or statistics about this compile, which are not those of another one.
    Uncacheable:
        "incremental-info" "input-stats" "macro-stats" "meta-stats" "print-codegen-stats" "print-llvm-passes"
        "print-mono-items" "print-type-sizes" "time-llvm-passes" "time-passes";
    // They write files that the compiler does not announce, often outside of the target directory.
    Uncacheable:
        "dump-dep-graph" "dump-mir" "dump-mono-stats" "llvm-time-trace" "metrics-dir" "nll-facts"
        "print-codegen-stats-json" "profile-closures" "remark-dir" "self-profile" "split-dwarf-out-dir"
        "temps-dir";
    // They bring in what neither dep-info nor a key tells of: files, code, arguments of the linker, results of an
    // earlier run.
    Uncacheable: "cache-proc-macros" "llvm-plugins" "pre-link-arg" "pre-link-args" "sanitizer-dataflow-abilist";
    // Only a part of a compile, or something else instead of one.
    Uncacheable: "link-only" "no-analysis" "no-codegen" "no-link" "parse-crate-root-only" "unpretty";
}

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
