//! Second stage of parsing: what a command line means as a unit of work. A `Unit` is a compile whose effects can be
//! captured exactly; everything else is a named [`Bypass`]. Knows nothing about the contents of files.

use std::path::Path;

use crate::args::{self, Arg};
use crate::cargo::layout::OutputDir;
use crate::entry_key::Rendering;
use crate::flags::Role;
use crate::invocation::{Invocation, is_clippy, is_rustc};
use crate::reason::Bypass;
pub use crate::unit_parts::{CrateType, Extern, KeyArg, Lto, Mode, SearchPath};

/// A compile that can be cached.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unit {
    /// `--crate-name`.
    pub crate_name: String,
    /// `--crate-type`, in order; empty for test harnesses.
    pub crate_types: Vec<CrateType>,
    /// `--test`.
    pub is_test: bool,
    pub source: String,
    /// `--out-dir`.
    pub out_dir: String,
    /// `-C extra-filename`.
    pub extra_filename: String,
    /// `--emit` has `link`.
    pub emits_link: bool,
    /// `--emit` has `metadata`.
    pub emits_metadata: bool,
    pub mode: Mode,
    /// `--extern`, in order.
    pub externs: Vec<Extern>,
    /// `-L`, in order.
    pub search_paths: Vec<SearchPath>,
    /// `-l`, in order.
    pub libraries: Vec<String>,
    /// `-C incremental`.
    pub incremental: Option<String>,
    /// `--target`.
    pub target: Option<String>,
    /// `-C linker`.
    pub linker: Option<String>,
    /// `-C linker-flavor`.
    pub linker_flavor: Option<String>,
    /// `-C link-arg(s)`, one argument each.
    pub link_args: Vec<String>,
    /// `-C lto`.
    pub lto: Lto,
    /// `-C split-debuginfo`, if it makes files of its own.
    pub split_debuginfo: Option<String>,
    /// `-C instrument-coverage` or a coverage tool's cfg: paths must stay exact.
    pub coverage: bool,
    /// `-C target-cpu=native`: the key needs to know the CPU.
    pub native_cpu: bool,
    /// `-Z codegen-backend`.
    pub codegen_backend: Option<String>,
    /// Flags keyed as they are, in order.
    pub key_args: Vec<KeyArg>,
    pub rendering: Rendering,
}

impl Unit {
    /// The unit that `call` asks for, or why it isn't one.
    pub fn parse(call: &Invocation) -> Result<Self, Bypass> {
        check_driver(call)?;
        check_environment(call)?;
        // `- --crate-name ___` is how Cargo asks for the target's properties.
        if call.args.iter().any(|arg| arg == "___" || arg == "--crate-name=___") {
            return Err(Bypass::Query);
        }
        let line = args::parse(&call.args)?;
        let mut draft = Draft::new(call);
        for arg in &line.flags {
            draft.take(arg)?;
        }
        draft.finish(line.sources, call)
    }

    pub fn runs_linker(&self) -> bool {
        self.emits_link
            && (self.is_test
                || self.crate_types.iter().any(|t| !matches!(t, CrateType::Rlib | CrateType::Staticlib)))
    }

    /// Whether object code of dependencies ends up in the output, so that more is read than the externs named.
    pub fn bundles_dependencies(&self) -> bool {
        self.emits_link && (self.runs_linker() || self.crate_types.contains(&CrateType::Staticlib))
    }

    /// Whether libraries come in two files, metadata and object code: with `-Z embed-metadata=no` Cargo names both under
    /// one name (`build_deps_args`, `src/cargo/core/compiler/mod.rs`, 1.95), and those of indirect dependencies lie
    /// beside each other.
    pub fn has_split_libraries(&self) -> bool {
        let is_metadata =
            |dependency: &Extern| dependency.path.as_deref().is_some_and(|p| p.ends_with(".rmeta"));
        let (metadata, code): (Vec<&Extern>, Vec<&Extern>) =
            self.externs.iter().partition(|e| is_metadata(e));
        code.iter().any(|one| one.path.is_some() && metadata.iter().any(|other| other.name == one.name))
    }

    /// A build script: Cargo names them `build_script_<file>` (`src/cargo/core/manifest.rs`, 1.95).
    pub fn is_build_script(&self) -> bool {
        self.crate_types == [CrateType::Bin] && !self.is_test && self.crate_name.starts_with("build_script_")
    }

    /// Whether the unit makes a library for other crates or host code that only Cargo runs; the rest is governed by
    /// `cache.cache_executables`.
    pub fn is_executable(&self) -> bool {
        self.bundles_dependencies() && !self.is_build_script() && self.crate_types != [CrateType::ProcMacro]
    }

    /// What all output files of the unit are named after; distinguishes units within a profile directory.
    pub fn stem(&self) -> String {
        format!("{}{}", self.crate_name, self.extra_filename)
    }

    /// Name of the `.d` file in the output directory.
    pub fn dep_info_name(&self) -> String {
        format!("{}.d", self.stem())
    }

    /// What kind of target it is, for people.
    pub fn kind(&self) -> &'static str {
        if self.is_test {
            "test"
        } else if self.is_build_script() {
            "build-script"
        } else {
            self.crate_types.first().map_or("bin", |t| t.word())
        }
    }
}

/// Only clippy's driver may stand between the wrapper and rustc: what another one does is unknown.
fn check_driver(call: &Invocation) -> Result<(), Bypass> {
    match &call.driver {
        Some(driver) if !is_clippy(driver) => Err(Bypass::UnknownDriver(driver.clone())),
        None if !is_rustc(&call.compiler) && !is_clippy(&call.compiler) => {
            Err(Bypass::UnknownDriver(call.compiler.clone()))
        }
        _ => Ok(()),
    }
}

/// Variables that make rustc behave in ways the key doesn't describe.
const UNMODELLED_ENV: &[&str] = &[
    "RUSTC_LOG",
    "RUSTC_OVERRIDE_VERSION_STRING",
    "RUSTC_FORCE_RUSTC_VERSION",
    "RUSTC_FORCE_UNSTABLE",
    "RUST_TARGET_PATH",
    "UNPRETTY_DUMP",
];

fn check_environment(call: &Invocation) -> Result<(), Bypass> {
    match UNMODELLED_ENV.iter().find(|name| call.env.get(name).is_some()) {
        Some(name) => Err(Bypass::Environment((*name).to_owned())),
        None => Ok(()),
    }
}

/// Messages formats of `--json` that are understood.
const JSON_KINDS: &[&str] = &[
    "artifacts",
    "diagnostic-rendered-ansi",
    "diagnostic-short",
    "diagnostic-unicode",
    "future-incompat",
    "timings",
    "unused-externs",
    "unused-externs-silent",
];

#[derive(Default)]
struct Draft {
    unit: Unit,
    crate_name: Option<String>,
    out_dir: Option<String>,
    emit: Vec<String>,
    json: Vec<String>,
    is_json: bool,
}

impl Draft {
    fn new(call: &Invocation) -> Self {
        let clippy = call.driver.is_some() || is_clippy(&call.compiler);
        let unit = Unit { mode: if clippy { Mode::Clippy } else { Mode::Build }, ..Unit::default() };
        Self { unit, ..Self::default() }
    }

    fn take(&mut self, arg: &Arg) -> Result<(), Bypass> {
        let uncacheable = || Bypass::UncacheableFlag(format!("{} {}", arg.display_name(), arg.text()));
        match arg.flag.role {
            Role::Query => return Err(Bypass::Query),
            Role::Uncacheable => return Err(uncacheable()),
            Role::Rendering => {
                self.unit.rendering.flags.push(format!("{}={}", arg.display_name(), arg.text()))
            }
            Role::KeyNoFile if arg.text().contains('/') => return Err(uncacheable()),
            Role::Key | Role::KeyNoFile | Role::KeyPath => self.key(arg),
            Role::Place => match arg.flag.name {
                "out-dir" => self.out_dir = arg.value.clone(),
                _ => self.unit.incremental = arg.value.clone(),
            },
            Role::Field if arg.family.is_empty() => self.take_field(arg)?,
            Role::Field => self.take_option(arg)?,
        }
        if arg.flag.name == "cfg" && matches!(arg.text(), "coverage" | "tarpaulin" | "coverage_nightly") {
            self.unit.coverage = true;
        }
        Ok(())
    }

    fn key(&mut self, arg: &Arg) {
        let is_path = arg.flag.role == Role::KeyPath;
        self.unit.key_args.push(KeyArg { name: arg.display_name(), value: arg.value.clone(), is_path });
    }

    /// Top-level flags with a field of their own.
    fn take_field(&mut self, arg: &Arg) -> Result<(), Bypass> {
        let value = arg.text().to_owned();
        match arg.flag.name {
            "crate-name" => self.crate_name = Some(value),
            "crate-type" => {
                for kind in value.split(',') {
                    self.unit.crate_types.push(CrateType::parse(kind)?);
                }
            }
            "emit" => self.emit.extend(value.split(',').map(str::to_owned)),
            "error-format" => {
                self.is_json = value == "json";
                self.key(arg);
            }
            "json" => {
                self.json.extend(value.split(',').map(str::to_owned));
                self.key(arg);
            }
            "extern" => self.unit.externs.push(match value.split_once('=') {
                Some((name, path)) => Extern { name: name.to_owned(), path: Some(path.to_owned()) },
                None => Extern { name: value, path: None },
            }),
            "search-path" => self.unit.search_paths.push(match value.split_once('=') {
                Some((kind @ ("dependency" | "crate" | "native" | "framework" | "all"), path)) => {
                    SearchPath { kind: kind.to_owned(), path: path.to_owned() }
                }
                _ => SearchPath { kind: "all".to_owned(), path: value },
            }),
            "library" => self.unit.libraries.push(value),
            "target" => self.unit.target = Some(value),
            "test" => self.unit.is_test = true,
            _ => return Err(Bypass::UncacheableFlag(format!("{} {value}", arg.display_name()))),
        }
        Ok(())
    }

    /// `-C` and `-Z` options with a field of their own.
    fn take_option(&mut self, arg: &Arg) -> Result<(), Bypass> {
        let value = arg.text();
        match arg.flag.name {
            "extra-filename" => {
                self.unit.extra_filename = value.to_owned();
                self.key(arg);
            }
            "instrument-coverage" => {
                self.unit.coverage |=
                    !matches!(arg.value.as_deref(), Some("off" | "no" | "n" | "0" | "false"));
                self.key(arg);
            }
            "link-arg" => self.unit.link_args.push(value.to_owned()),
            "link-args" => self.unit.link_args.extend(value.split_whitespace().map(str::to_owned)),
            "linker" => self.unit.linker = Some(value.to_owned()),
            "linker-flavor" => {
                self.unit.linker_flavor = Some(value.to_owned());
                self.key(arg);
            }
            "lto" => {
                let off = matches!(arg.value.as_deref(), Some("off" | "no" | "n" | "false"));
                self.unit.lto = if off { Lto::Local } else { Lto::CrossCrate };
                self.key(arg);
            }
            "split-debuginfo" => {
                self.unit.split_debuginfo = (value != "off").then(|| value.to_owned());
                self.key(arg);
            }
            "target-cpu" => {
                self.unit.native_cpu = value == "native";
                self.key(arg);
            }
            "codegen-backend" => self.unit.codegen_backend = Some(value.to_owned()),
            _ => return Err(Bypass::UncacheableFlag(format!("{} {value}", arg.display_name()))),
        }
        Ok(())
    }

    fn finish(mut self, sources: Vec<String>, call: &Invocation) -> Result<Unit, Bypass> {
        let [source] = <[String; 1]>::try_from(sources).map_err(|_| Bypass::Source)?;
        self.unit.source = source;
        self.unit.crate_name = self.crate_name.take().ok_or(Bypass::NotFromCargo("--crate-name"))?;
        self.unit.out_dir = self.out_dir.take().ok_or(Bypass::NotFromCargo("--out-dir"))?;
        // Also an absolute one may have parts that say nothing: Cargo keeps the dot of `CARGO_TARGET_DIR=.`.
        self.unit.out_dir = crate::paths::absolute(&call.cwd, &self.unit.out_dir);
        if is_probe(&self.unit, call) {
            return Err(Bypass::Probe);
        }
        self.take_emit()?;
        if let Some(kind) = self.json.iter().find(|kind| !JSON_KINDS.contains(&kind.as_str())) {
            return Err(Bypass::UncacheableFlag(format!("--json={kind}")));
        }
        if !self.is_json || !self.json.iter().any(|kind| kind == "artifacts") {
            return Err(Bypass::NotFromCargo("--json=artifacts"));
        }
        // Tests with a harness of their own name no crate type.
        if self.unit.crate_types.is_empty() && !self.unit.is_test {
            self.unit.crate_types.push(CrateType::Bin);
        }
        if !self.unit.emits_link && self.unit.mode == Mode::Build {
            self.unit.mode = Mode::Check;
        }
        Ok(self.unit)
    }

    fn take_emit(&mut self) -> Result<(), Bypass> {
        let mut has_dep_info = false;
        for kind in &self.emit {
            match kind.as_str() {
                "dep-info" => has_dep_info = true,
                "metadata" => self.unit.emits_metadata = true,
                "link" => self.unit.emits_link = true,
                other => return Err(Bypass::Emit(other.to_owned())),
            }
        }
        if !has_dep_info || !(self.unit.emits_metadata || self.unit.emits_link) {
            return Err(Bypass::NotFromCargo("--emit=dep-info with metadata or link"));
        }
        Ok(())
    }
}

/// A build script that tries out the compiler: it compiles into, or from, its `OUT_DIR`. What a Cargo that it starts
/// compiles in a build directory below is an ordinary unit.
fn is_probe(unit: &Unit, call: &Invocation) -> bool {
    let Some(scratch) = call.env.text("OUT_DIR").map(Path::new) else { return false };
    let outputs = OutputDir::of(Path::new(&unit.out_dir));
    if outputs
        .is_some_and(|outputs| outputs.profile_dir != scratch && outputs.profile_dir.starts_with(scratch))
    {
        return false;
    }
    let source = crate::paths::absolute(&call.cwd, &unit.source);
    [unit.out_dir.as_str(), source.as_str()].iter().any(|path| Path::new(path).starts_with(scratch))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invocation::Env;

    const LIB: &str = "--crate-name a --edition=2021 src/lib.rs --error-format=json \
        --json=diagnostic-rendered-ansi,artifacts,future-incompat --crate-type lib \
        --emit=dep-info,metadata,link -C metadata=1 -C extra-filename=-2 --out-dir /t/debug/deps";

    fn call(args: &str) -> Invocation {
        Invocation {
            compiler: "/tc/bin/rustc".into(),
            args: args.split_whitespace().map(str::to_owned).collect(),
            cwd: "/w".into(),
            ..Invocation::default()
        }
    }

    #[test]
    fn a_library_as_cargo_compiles_it() {
        let unit = Unit::parse(&call(&format!(
            "{LIB} --extern priv:b=/t/debug/deps/libb-3.rmeta -L dependency=/t/debug/deps -L native=/n -l static=z \
             -C incremental=/t/debug/incremental --diagnostic-width=80 --extern core_only"
        )))
        .expect("a unit");
        assert_eq!(unit.dep_info_name(), "a-2.d");
        assert_eq!((unit.mode, unit.kind(), unit.runs_linker()), (Mode::Build, "lib", false));
        assert_eq!(
            unit.externs[0],
            Extern { name: "priv:b".into(), path: Some("/t/debug/deps/libb-3.rmeta".into()) }
        );
        assert_eq!(unit.externs[1].path, None);
        assert_eq!(unit.search_paths[1], SearchPath { kind: "native".into(), path: "/n".into() });
        assert_eq!(unit.rendering.flags, ["--diagnostic-width=80"]);
        assert_eq!(unit.incremental.as_deref(), Some("/t/debug/incremental"));
        assert!(
            !unit.key_args.iter().any(|arg| arg.name.contains("incremental") || arg.name.contains("out-dir"))
        );
    }

    #[test]
    fn kinds() {
        let linked = LIB.replace("--crate-type lib", "--crate-type bin");
        let test = LIB.replace("--crate-type lib", "--test");
        let script = linked.replace("--crate-name a", "--crate-name build_script_build");
        let check = LIB.replace(",link", "");
        for (args, kind, mode, linker, executable) in [
            (linked.as_str(), "bin", Mode::Build, true, true),
            (&test, "test", Mode::Build, true, true),
            (&script, "build-script", Mode::Build, true, false),
            (&check, "lib", Mode::Check, false, false),
            (&linked.replace("--crate-type bin", ""), "bin", Mode::Build, true, true),
            (&linked.replace("bin", "staticlib"), "staticlib", Mode::Build, false, true),
            (&linked.replace("bin", "proc-macro"), "proc-macro", Mode::Build, true, false),
        ] {
            let unit = Unit::parse(&call(args)).expect(args);
            assert_eq!(
                (unit.kind(), unit.mode, unit.runs_linker(), unit.is_executable()),
                (kind, mode, linker, executable)
            );
        }
    }

    #[test]
    fn bypasses_are_named() {
        for (change, code) in [
            (("--crate-name a", "--crate-name ___"), "query"),
            (("src/lib.rs", "src/lib.rs other.rs"), "source"),
            (("src/lib.rs", "-"), "stdin"),
            (("--error-format=json", ""), "not-from-cargo"),
            (("artifacts,", ""), "not-from-cargo"),
            (("artifacts", "artifacts,other"), "uncacheable-flag"),
            (("--out-dir /t/debug/deps", ""), "not-from-cargo"),
            (("dep-info,", ""), "not-from-cargo"),
            (("link", "asm"), "emit"),
            (("metadata,", "metadata=/x,"), "emit"),
            (("--crate-type lib", "--crate-type sdylib"), "crate-type"),
            (("-C metadata=1", "-C save-temps"), "uncacheable-flag"),
            (("-C metadata=1", "-C llvm-args=-x=/f"), "uncacheable-flag"),
            (("-C metadata=1", "--sysroot /s"), "uncacheable-flag"),
            (("-C metadata=1", "-Zself-profile"), "uncacheable-flag"),
            (("-C metadata=1", "-Ztime-passes"), "uncacheable-flag"),
            (("-C metadata=1", "-Z human-readable-cgu-names"), "unknown-flag"),
            (("-C metadata=1", "--print cfg"), "query"),
        ] {
            let result = Unit::parse(&call(&LIB.replace(change.0, change.1)));
            assert_eq!(result.map_err(|bypass| bypass.code()).err(), Some(code), "{change:?}");
        }
        let mut other = call(LIB);
        other.driver = Some("/x/dylint-driver".into());
        assert_eq!(Unit::parse(&other).err().map(|b| b.code()), Some("unknown-driver"));
        let mut logged = call(LIB);
        logged.env = Env::new([("RUSTC_LOG".into(), "info".into())]);
        assert_eq!(Unit::parse(&logged).err().map(|b| b.code()), Some("environment"));
        for (out_dir, is_probe) in
            [("/t/debug", true), ("/t/debug/deps", true), ("/w/src", true), ("/t", false), ("/t/deb", false)]
        {
            let mut probe = call(LIB);
            probe.env = Env::new([("OUT_DIR".into(), out_dir.into())]);
            let found = Unit::parse(&probe).err().map(|b| b.code());
            assert_eq!(found, is_probe.then_some("probe"), "{out_dir}");
        }
    }

    #[test]
    fn libraries_in_two_files() {
        for (externs, expected) in [
            ("--extern b=/t/libb.rmeta --extern b=/t/libb.rlib", true),
            ("--extern c=/t/libc.so --extern b=/t/libb.rlib --extern b=/t/libb.rmeta", true),
            ("--extern b=/t/libb.rmeta --extern c=/t/libc.rlib", false),
            ("--extern proc_macro --extern b=/t/libb.rlib", false),
        ] {
            let unit = Unit::parse(&call(&format!("{LIB} {externs}"))).expect(externs);
            assert_eq!(unit.has_split_libraries(), expected, "{externs}");
        }
    }

    #[test]
    fn coverage_native_and_lto() {
        let with = |extra: &str| Unit::parse(&call(&format!("{LIB} {extra}"))).expect(extra);
        assert!(with("-C instrument-coverage").coverage && with("--cfg tarpaulin").coverage);
        assert!(!with("-C instrument-coverage=off").coverage);
        assert!(with("-C target-cpu=native").native_cpu && !with("-C target-cpu=x86-64-v3").native_cpu);
        for (flag, lto) in
            [("-C lto", Lto::CrossCrate), ("-C lto=off", Lto::Local), ("-Clto=thin", Lto::CrossCrate)]
        {
            assert_eq!(with(flag).lto, lto);
        }
        assert_eq!(with("-C split-debuginfo=off").split_debuginfo, None);
        assert_eq!(with("-C split-debuginfo=packed").split_debuginfo.as_deref(), Some("packed"));
    }
}
