//! Why a unit is not cached, not found or not stored: enums with evidence, and their one rendering. The codes are
//! what the journal, `kache stats` and `kache report` show; they are stable.

use std::fmt;

use crate::paths::Root;

/// Why an invocation goes straight to the compiler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bypass {
    /// `-vV`, `--print` and other questions; not a compile.
    Query,
    /// A build script that was seen to start a Cargo.
    StartsCargo,
    /// The source comes from standard input.
    Stdin,
    /// `KACHE_DISABLED`.
    Disabled,
    /// A build script compiles C or the like through the wrapper.
    OtherLanguage,
    /// The crate's source matches `cache.exclude`.
    Excluded(String),
    /// An argument that the flag table doesn't have.
    UnknownFlag(String),
    /// A known flag whose effect can't be captured exactly.
    UncacheableFlag(String),
    /// An `--emit` kind other than dep-info, metadata and link, or one with an explicit path.
    Emit(String),
    /// A crate type that isn't cached.
    CrateType(String),
    /// Something that every Cargo compile has is missing: not a call from Cargo.
    NotFromCargo(&'static str),
    /// More than one source file, or none.
    Source,
    /// A path or argument that isn't UTF-8.
    NotUtf8,
    /// A response file that can't be read.
    ResponseFile(String),
    /// An environment variable that changes the compiler's behaviour in ways that are not modelled.
    Environment(String),
    /// A `RUSTC_WORKSPACE_WRAPPER` other than clippy-driver.
    UnknownDriver(String),
    /// The compiler can't be identified.
    Toolchain(String),
    /// The linker's inputs can't be known.
    Linker(String),
    /// Output directory that isn't inside a recognisable target directory.
    TargetDir,
    /// A build-script probe: compiles from or into `OUT_DIR`.
    Probe,
    /// `cache.cache_executables = false` and the unit links an executable or a library for other languages.
    Executable,
    /// The cache directory can't be used.
    Store(String),
    /// The settings can't be read.
    Config(String),
    /// `cache.fallback` can't be used, so the compiler runs without it.
    Fallback(String),
}

impl Bypass {
    pub const fn code(&self) -> &'static str {
        match self {
            Bypass::Query => "query",
            Bypass::Stdin => "stdin",
            Bypass::Disabled => "disabled",
            Bypass::OtherLanguage => "other-language",
            Bypass::Excluded(_) => "excluded",
            Bypass::UnknownFlag(_) => "unknown-flag",
            Bypass::UncacheableFlag(_) => "uncacheable-flag",
            Bypass::Emit(_) => "emit",
            Bypass::CrateType(_) => "crate-type",
            Bypass::NotFromCargo(_) => "not-from-cargo",
            Bypass::Source => "source",
            Bypass::NotUtf8 => "not-utf8",
            Bypass::ResponseFile(_) => "response-file",
            Bypass::Environment(_) => "environment",
            Bypass::UnknownDriver(_) => "unknown-driver",
            Bypass::Toolchain(_) => "toolchain",
            Bypass::Linker(_) => "linker",
            Bypass::TargetDir => "target-dir",
            Bypass::Probe => "probe",
            Bypass::Executable => "executable",
            Bypass::Store(_) => "store",
            Bypass::Config(_) => "config",
            Bypass::Fallback(_) => "fallback",
            Bypass::StartsCargo => "starts-cargo",
        }
    }

    /// Whether the journal records it. Questions to the compiler and compiles of other languages are not counted.
    pub const fn is_counted(&self) -> bool {
        !matches!(self, Bypass::Query | Bypass::Disabled | Bypass::OtherLanguage)
    }
}

impl fmt::Display for Bypass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bypass::Query => f.write_str("a question to the compiler, not a compile"),
            Bypass::StartsCargo => f.write_str("it starts a Cargo, whose compiles are observed"),
            Bypass::Stdin => f.write_str("the source comes from standard input"),
            Bypass::Disabled => f.write_str("KACHE_DISABLED is set"),
            Bypass::OtherLanguage => f.write_str("a compiler of another language"),
            Bypass::Excluded(glob) => write!(f, "excluded by `cache.exclude` pattern {glob:?}"),
            Bypass::UnknownFlag(flag) => write!(f, "unknown compiler flag {flag:?}"),
            Bypass::UncacheableFlag(flag) => write!(f, "the effect of {flag:?} can't be captured"),
            Bypass::Emit(kind) => write!(f, "output kind {kind:?} is not cached"),
            Bypass::CrateType(kind) => write!(f, "crate type {kind:?} is not cached"),
            Bypass::NotFromCargo(what) => write!(f, "no {what}: not a compile by Cargo"),
            Bypass::Source => f.write_str("not exactly one source file"),
            Bypass::NotUtf8 => f.write_str("an argument or path is not UTF-8"),
            Bypass::ResponseFile(file) => write!(f, "response file {file} can't be read"),
            Bypass::Environment(name) => write!(f, "environment variable {name} is set"),
            Bypass::UnknownDriver(path) => write!(f, "unknown workspace wrapper {path}"),
            Bypass::Toolchain(why) => write!(f, "the compiler can't be identified: {why}"),
            Bypass::Linker(why) => write!(f, "the linker's inputs can't be known: {why}"),
            Bypass::TargetDir => f.write_str("the output directory is not in a Cargo target directory"),
            Bypass::Probe => f.write_str("a build script's compile probe"),
            Bypass::Executable => f.write_str("`cache.cache_executables` is off"),
            Bypass::Store(why) => write!(f, "the cache directory can't be used: {why}"),
            Bypass::Config(why) => write!(f, "the settings can't be read: {why}"),
            Bypass::Fallback(why) => write!(f, "`cache.fallback` is skipped: {why}"),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Miss {
    /// No compile of this unit is known: first build, or flags, toolchain or dependencies changed.
    UnitUnknown,
    /// The unit is known, but not with these inputs; names the first that differs where that is known.
    InputsChanged(String),
    /// The same sources were built where a path that ended up in the output was different.
    PathBaked(Root),
    /// The entry's files are gone or were changed; it was dropped.
    Broken(String),
    /// A verification run compiles although there is an entry; what it came to.
    Verify(String),
    /// A verification run found the entry to be something else than the compiler makes now; it was dropped.
    VerifyMismatch(String),
}

impl Miss {
    pub const fn code(&self) -> &'static str {
        match self {
            Miss::UnitUnknown => "unit-unknown",
            Miss::InputsChanged(_) => "inputs-changed",
            Miss::PathBaked(_) => "path-baked",
            Miss::Broken(_) => "broken-entry",
            Miss::Verify(_) => "verify",
            Miss::VerifyMismatch(_) => "verify-mismatch",
        }
    }
}

impl fmt::Display for Miss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Miss::UnitUnknown => f.write_str("first compile with these flags, compiler and dependencies"),
            Miss::InputsChanged(what) => write!(f, "inputs changed: {what}"),
            Miss::PathBaked(root) => {
                write!(f, "the output contains the path of {}, which differs here", root.name_prefix())
            }
            Miss::Broken(why) => write!(f, "the entry was broken and is dropped: {why}"),
            Miss::Verify(what) => write!(f, "compiled to verify the entry: {what}"),
            Miss::VerifyMismatch(what) => write!(f, "the entry was not what the compiler makes: {what}"),
        }
    }
}

/// Why the result of a compile was used but not stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NotStored {
    Failed,
    /// An input changed while the compiler ran.
    InputChanged(String),
    /// Someone is editing: the compile was incremental.
    Incremental,
    /// The outputs announced and the outputs found don't match, or one can't be taken over.
    Outputs(String),
    /// A native archive went into the output that no key mentions.
    UnattributedNative(String),
    /// The `.d` file is missing or not in the expected form.
    DepInfo(String),
    /// The linker's report of its inputs is missing or incomplete.
    LinkInputs(String),
    /// Messages or dep-info contain what can't be made portable.
    Text,
    /// The store refused: no permission, too many links.
    Store(String),
    /// The store's disk is full, or so full that the rest is left to others.
    Full(String),
    /// A tool that rustc started complained, and rustc went on with a lesser result.
    Degraded(String),
    /// A socket for the internet was made.
    Network,
    /// The run of a build script is good for this once.
    Run(String),
}

impl NotStored {
    pub const fn code(&self) -> &'static str {
        match self {
            NotStored::Failed => "compile-failed",
            NotStored::InputChanged(_) => "input-changed-during-compile",
            NotStored::Incremental => "incremental",
            NotStored::Outputs(_) => "outputs",
            NotStored::UnattributedNative(_) => "unattributed-native",
            NotStored::DepInfo(_) => "dep-info",
            NotStored::LinkInputs(_) => "link-inputs",
            NotStored::Text => "text",
            NotStored::Store(_) => "store",
            NotStored::Full(_) => "disk-full",
            NotStored::Degraded(_) => "degraded",
            NotStored::Network => "network",
            NotStored::Run(_) => "build-script-run",
        }
    }
}

impl fmt::Display for NotStored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotStored::Failed => f.write_str("the compile failed"),
            NotStored::InputChanged(what) => write!(f, "{what} changed while the compiler ran"),
            NotStored::Incremental => f.write_str("compiled incrementally: the crate is being edited here"),
            NotStored::Outputs(why) => write!(f, "the outputs can't be captured: {why}"),
            NotStored::UnattributedNative(what) => {
                write!(f, "bundles native object {what} of unknown origin")
            }
            NotStored::DepInfo(why) => write!(f, "unusable dep-info: {why}"),
            NotStored::LinkInputs(why) => write!(f, "the linker's inputs are not known: {why}"),
            NotStored::Text => f.write_str("messages contain characters that can't be stored"),
            NotStored::Store(why) => write!(f, "the store refused: {why}"),
            NotStored::Full(why) => write!(f, "the store's disk is full: {why}"),
            NotStored::Network => f.write_str("it may have asked another machine"),
            NotStored::Run(why) => write!(f, "the build script has to run each time: {why}"),
            NotStored::Degraded(what) => write!(f, "the compiler reported a degraded result: {what}"),
        }
    }
}
