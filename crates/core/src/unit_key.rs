//! Derives the unit key: everything about a compile that is known before its sources are looked at. The contents
//! (dependencies, compiler, linker) arrive as digests; where they come from is the engine's business.
//!
//! What is in which key, who finds it out, and a test that shows it:
//!
//! | what | key | found out by | shown by |
//! |---|---|---|---|
//! | crate name, types, edition, target, flags | unit | `core::args`, `core::flags` | `every_field_flips_the_key` below |
//! | `--extern` files | unit | content (`engine::facts`) | `e2e::keys` |
//! | compiler: version, libraries, standard library | unit | content (`engine::toolchain`) | `e2e::toolchains` |
//! | linker, its variables, target specification, CPU, Clippy's configuration | unit | `engine::facts`, `engine::link_inputs` | `e2e::linked`, `e2e::check_clippy` |
//! | `cache.key_salt`, `cache.portable_paths`, `extra_inputs` | unit | settings, `kache.toml` | `e2e::keys` |
//! | the object in a build script | unit | `engine::script_hook` | `e2e::build_runs` |
//! | sources, `include!`, `env!` | entry | the compiler's dep-info | `e2e::freshness`, `e2e::depinfo` |
//! | the other spelling of a module, which must not be there | entry | `engine::reads` | `e2e::freshness` |
//! | what macros, the linker and their programs read, list, look for, execute | entry | observed (`engine::accesses`) | `e2e::observed` |
//! | variables that they ask for | entry | observed (`engine::variables`) | `e2e::observed` |
//! | the workspace's or target directory's path, where an output names it | entry | `core::scan` | `e2e::paths` |
//! | the same, where a macro or `env!` may have made something of it | entry | `engine::reads::named_roots`, until `engine::proof` shows that it didn't | `e2e::proofs` |
//! | for a script's run: program, compiler, what Cargo tells it | unit | `engine::script::key` | `e2e::build_runs` |
//! | for a script's run: what it and its programs read | entry | observed (`engine::script::inputs`) | `e2e::build_runs` |
//!
//! In no key: the target directory, incremental state, colours and widths, the remote, the daemon.

use std::path::Path;

use crate::cargo::layout::OutputDir;
use crate::digest::Digest;
use crate::key::{Field, KeyWriter, UnitKey, field};
use crate::paths::{Roots, absolute};
use crate::unit::{SearchPath, Unit};

/// What the engine found out about the world for a unit's key.
#[derive(Debug, Clone, Default)]
pub struct KeyInputs {
    pub roots: Roots,
    pub cwd: String,
    /// `cache.portable_paths`: the compile names Cargo's home in a form that fits every machine.
    pub portable_paths: bool,
    /// Identity of the compiler (and of the driver, where there is one).
    pub toolchain: Option<Digest>,
    /// One digest for each of the unit's externs; `None` where no file is named.
    pub externs: Vec<Option<Digest>>,
    /// Everything else, already named: salt, CPU, linker, target specification, configuration files.
    pub facts: Vec<Field>,
}

/// The unit key and the fields that made it, for `why-miss`.
pub fn derive(unit: &Unit, inputs: &KeyInputs) -> (UnitKey, Vec<Field>) {
    let roots = &inputs.roots;
    let mut key = KeyWriter::new("unit");
    key.text(field::COMPILER, inputs.toolchain.map(|digest| digest.to_string()).unwrap_or_default());
    key.text(field::MODE, unit.mode.word());
    key.text(field::CRATE_NAME, unit.crate_name.clone());
    for kind in &unit.crate_types {
        key.text(field::CRATE_TYPE, kind.word());
    }
    key.text(field::TEST, unit.is_test.to_string());
    key.text(field::EMIT, format!("metadata={} link={}", unit.emits_metadata, unit.emits_link));
    key.text(field::SOURCE, roots.name_of(&absolute(&inputs.cwd, &unit.source)));
    // Decides whether the workspace is remapped: see `remap::remapped_roots`.
    key.text("source named by its absolute path", unit.source.starts_with('/').to_string());
    key.text(field::WORKING_DIRECTORY, roots.name_of(&inputs.cwd));
    key.text(field::TARGET, unit.target.clone().unwrap_or_default());
    if unit.coverage {
        for (root, path) in roots.iter() {
            key.text(format!("exact path {}", root.name_prefix()), path);
        }
    }
    key.text(field::PORTABLE_PATHS, inputs.portable_paths.to_string());
    for arg in &unit.key_args {
        let value = match &arg.value {
            Some(value) if arg.is_path => portable(roots, value),
            Some(value) => value.clone(),
            None => String::new(),
        };
        key.text(format!("flag {}", arg.name), value);
    }
    for path in unit.search_paths.iter().filter(|path| !is_search_for_externs(path, &inputs.cwd)) {
        key.text(format!("flag -L {}", path.kind), roots.name_of(&absolute(&inputs.cwd, &path.path)));
    }
    for library in &unit.libraries {
        key.text("flag -l", library.clone());
    }
    for arg in &unit.link_args {
        key.text("flag -C link-arg", portable(roots, arg));
    }
    for (dependency, digest) in unit.externs.iter().zip(&inputs.externs) {
        let file = dependency.path.as_deref().map(file_name).unwrap_or_default();
        let digest = digest.map(|digest| digest.to_string()).unwrap_or_default();
        key.text(format!("{}{}", field::EXTERN, dependency.name), format!("{file} {digest}"));
    }
    for fact in &inputs.facts {
        key.text(fact.name.clone(), fact.value.clone());
    }
    let (digest, fields) = key.finish();
    (UnitKey(digest), fields)
}

/// Whether the compiler only looks in a directory for what the externs were built on. Their digests say which crates those
/// are, and Cargo's directories differ by layout and by hashes that decide nothing else.
fn is_search_for_externs(path: &SearchPath, cwd: &str) -> bool {
    path.kind == "dependency" && OutputDir::of(Path::new(&absolute(cwd, &path.path))).is_some()
}

/// A flag value with local roots replaced, or as it is where that is impossible.
fn portable(roots: &Roots, value: &str) -> String {
    roots.tokenize(value).unwrap_or_else(|| value.to_owned())
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Invocation;
    use crate::paths::Root;

    const ARGS: &str = "--crate-name a --edition=2021 src/lib.rs --error-format=json --json=artifacts --crate-type lib \
        --emit=dep-info,metadata,link -C opt-level=0 -C metadata=1 -C extra-filename=-2 --out-dir /w/target/debug/deps \
        -L dependency=/w/target/debug/deps -L native=/w/target/n -l static=z --extern b=/w/target/debug/deps/libb-3.rmeta \
        --cfg x --cfg y --check-cfg cfg(x) --cap-lints allow -A p -D q -C link-arg=-L/w/native --target t";

    fn key(cwd: &str, args: &str, change: impl Fn(&mut KeyInputs)) -> UnitKey {
        let call = Invocation {
            compiler: "/tc/bin/rustc".into(),
            args: args.replace("/w/", &format!("{cwd}/")).split_whitespace().map(str::to_owned).collect(),
            cwd: cwd.to_owned(),
            ..Invocation::default()
        };
        let unit = Unit::parse(&call).expect("a unit");
        let mut inputs = KeyInputs {
            roots: Roots::new([(Root::Workspace, cwd.to_owned()), (Root::Target, format!("{cwd}/target"))]),
            cwd: cwd.to_owned(),
            portable_paths: true,
            toolchain: Some(Digest::of(b"rustc")),
            externs: vec![Some(Digest::of(b"b"))],
            facts: vec![],
        };
        change(&mut inputs);
        derive(&unit, &inputs).0
    }

    #[test]
    fn the_checkout_does_not_matter() {
        assert_eq!(key("/w", ARGS, |_| {}), key("/somewhere/else", ARGS, |_| {}));
    }

    #[test]
    fn what_only_places_or_renders_does_not_matter() {
        let base = key("/w", ARGS, |_| {});
        for (from, to) in [
            ("--out-dir /w/target/debug/deps", "--out-dir /w/target/other/deps"),
            (
                "-L dependency=/w/target/debug/deps",
                "-L dependency=/w/target/debug/build/b/0123456789abcdef/out",
            ),
            ("-L dependency=/w/target/debug/deps", ""),
            ("--cfg x", "--cfg x --diagnostic-width=70"),
            ("--cfg x", "--cfg x --color=always"),
            ("--cfg x", "--cfg x -C incremental=/w/target/debug/incremental"),
        ] {
            assert_eq!(base, key("/w", &ARGS.replace(from, to), |_| {}), "{to}");
        }
    }

    #[test]
    fn every_field_flips_the_key() {
        let mut keys = vec![key("/w", ARGS, |_| {})];
        for (from, to) in [
            ("--crate-name a", "--crate-name c"),
            ("--edition=2021", "--edition=2024"),
            ("src/lib.rs", "src/main.rs"),
            ("src/lib.rs", "/w/src/lib.rs"),
            ("--json=artifacts", "--json=artifacts,future-incompat"),
            ("--crate-type lib", "--crate-type lib --crate-type cdylib"),
            ("--crate-type lib", "--crate-type lib --test"),
            ("metadata,link", "metadata"),
            ("metadata,link", "link"),
            ("opt-level=0", "opt-level=1"),
            ("opt-level=0", "opt-level=0 -C opt-level=1"),
            ("opt-level=0", "opt-level=1 -C opt-level=0"),
            ("metadata=1", "metadata=9"),
            ("extra-filename=-2", "extra-filename=-9"),
            ("-L native=/w/target/n", "-L native=/w/target/o"),
            ("-L native=/w/target/n", ""),
            ("-L dependency=/w/target/debug/deps", "-L dependency=/w/elsewhere"),
            ("-l static=z", "-l dylib=z"),
            ("libb-3.rmeta", "libb-4.rmeta"),
            ("--extern b=", "--extern priv:b="),
            ("--cfg x --cfg y", "--cfg y --cfg x"),
            ("--check-cfg cfg(x)", "--check-cfg cfg(x,y)"),
            ("--check-cfg cfg(x)", ""),
            ("--cap-lints allow", "--cap-lints warn"),
            ("-A p -D q", "-D q -A p"),
            ("-A p", "-W p"),
            ("-C link-arg=-L/w/native", "-C link-arg=-L/w/nativf"),
            ("--target t", "--target u"),
            ("--cfg x", "--cfg x --remap-path-prefix=/a=/b"),
            ("--cfg x", "--cfg x -C lto=thin"),
            ("--cfg x", "--cfg x -C target-cpu=native"),
            ("--cfg x", "--cfg x -C split-debuginfo=packed"),
            ("--cfg x", "--cfg x -C instrument-coverage"),
            ("--cfg x", "--cfg x -g"),
            ("--cfg x", "--cfg x -C strip=symbols"),
            ("--cfg x", "--cfg x -Zembed-metadata=no"),
            ("--cfg x", "--cfg x -Zhint-mostly-unused"),
            ("--cfg x", "--cfg x -Zrandomize-layout"),
            ("--cfg x", "--cfg x -Zlocation-detail=none"),
            ("--cfg x", "--cfg x -Zfmt-debug=none"),
            ("--cfg x", "--cfg x -Zsanitizer=address"),
            ("--cfg x", "--cfg x -Zdwarf-version=5"),
            ("--cfg x", "--cfg x -Zchecksum-hash-algorithm=blake3"),
        ] {
            let args = ARGS.replace(from, to);
            assert_ne!(args, ARGS, "{from}");
            keys.push(key("/w", &args, |_| {}));
        }
        keys.push(key("/w", ARGS, |inputs| inputs.toolchain = Some(Digest::of(b"rebuilt"))));
        keys.push(key("/w", ARGS, |inputs| inputs.externs = vec![Some(Digest::of(b"c"))]));
        keys.push(key("/w", ARGS, |inputs| inputs.portable_paths = false));
        keys.push(key("/w", ARGS, |inputs| {
            inputs.facts.push(Field { name: "RUSTC_BOOTSTRAP".into(), value: "1".into() });
        }));
        let count = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), count);
    }

    /// `-Z embed-metadata=no`: two files under one name, each with a digest of its own.
    #[test]
    fn both_files_of_a_library_count() {
        let args = ARGS.replace("libb-3.rmeta", "libb-3.rlib --extern b=/w/target/debug/deps/libb-3.rmeta");
        let with = |code: &[u8], metadata: &[u8]| {
            let digests = vec![Some(Digest::of(code)), Some(Digest::of(metadata))];
            key("/w", &args, |inputs| inputs.externs = digests.clone())
        };
        let keys = [with(b"1", b"2"), with(b"1", b"3"), with(b"3", b"2"), with(b"2", b"1")];
        for (i, one) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(one), "{i}");
        }
    }

    #[test]
    fn coverage_builds_keep_their_checkout() {
        let args = ARGS.replace("--cfg x", "-C instrument-coverage");
        assert_ne!(key("/w", &args, |_| {}), key("/v", &args, |_| {}));
    }
}
