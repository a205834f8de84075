//! Why a unit is not cached, not found or not stored: enums with evidence, each variant in one row with its code and its
//! words. The codes are what the journal, `kache stats` and `kache report` show; they are stable.

/// Makes an enum of reasons. A row is the variant with its evidence, the stable code, and the words for people.
macro_rules! reasons {
    ($(#[$meta:meta])* pub enum $name:ident {
        $($(#[$doc:meta])* $variant:ident $(($evidence:ty))? = $code:literal, $words:tt;)*
    }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
        pub enum $name {
            $($(#[$doc])* #[error $words] $variant $(($evidence))?,)*
        }

        impl $name {
            pub const fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                }
            }
        }
    };
}
pub(crate) use reasons;

reasons! {
    /// Why an invocation goes straight to the compiler.
    pub enum Bypass {
        /// `-vV`, `--print` and the like.
        Query = "query", ("a question to the compiler, not a compile");
        StartsCargo = "starts-cargo", ("it starts a Cargo, whose compiles are observed");
        Stdin = "stdin", ("the source comes from standard input");
        Disabled = "disabled", ("KACHE_DISABLED is set");
        /// A build script compiles C or the like through the wrapper.
        OtherLanguage = "other-language", ("a compiler of another language");
        Excluded(String) = "excluded", ("excluded by `cache.exclude` pattern {0:?}");
        /// An argument that the flag table doesn't have.
        UnknownFlag(String) = "unknown-flag", ("unknown compiler flag {0:?}");
        UncacheableFlag(String) = "uncacheable-flag", ("the effect of {0:?} can't be captured");
        /// An `--emit` kind other than dep-info, metadata and link, or one with an explicit path.
        Emit(String) = "emit", ("output kind {0:?} is not cached");
        CrateType(String) = "crate-type", ("crate type {0:?} is not cached");
        /// Something that every Cargo compile has is missing.
        NotFromCargo(&'static str) = "not-from-cargo", ("no {0}: not a compile by Cargo");
        Source = "source", ("not exactly one source file");
        NotUtf8 = "not-utf8", ("an argument or path is not UTF-8");
        ResponseFile(String) = "response-file", ("response file {0} can't be read");
        /// It changes the compiler's behaviour in ways that are not modelled.
        Environment(String) = "environment", ("environment variable {0} is set");
        /// A `RUSTC_WORKSPACE_WRAPPER` other than clippy-driver.
        UnknownDriver(String) = "unknown-driver", ("unknown workspace wrapper {0}");
        Toolchain(String) = "toolchain", ("the compiler can't be identified: {0}");
        Linker(String) = "linker", ("the linker's inputs can't be known: {0}");
        TargetDir = "target-dir", ("the output directory is not in a Cargo target directory");
        /// It compiles from or into `OUT_DIR`.
        Probe = "probe", ("a build script's compile probe");
        /// The unit links an executable or a library for other languages.
        Executable = "executable", ("`cache.cache_executables` is off");
        Store(String) = "store", ("the cache directory can't be used: {0}");
        Config(String) = "config", ("the settings can't be read: {0}");
        /// The compiler runs without it.
        Fallback(String) = "fallback", ("`cache.fallback` is skipped: {0}");
    }
}

impl Bypass {
    /// Whether the journal records it. Questions to the compiler and compiles of other languages are not counted.
    pub const fn is_counted(&self) -> bool {
        !matches!(self, Bypass::Query | Bypass::Disabled | Bypass::OtherLanguage)
    }
}

reasons! {
    pub enum Miss {
        /// No compile of this unit is known: first build, or flags, toolchain or dependencies changed.
        UnitUnknown = "unit-unknown", ("first compile with these flags, compiler and dependencies");
        /// The unit is known, but not with these inputs; names the first that differs where that is known.
        InputsChanged(String) = "inputs-changed", ("inputs changed: {0}");
        /// The same sources were built where a path that ended up in the output was different.
        PathBaked(&'static str) = "path-baked", ("the output contains the path of {0}, which differs here");
        Broken(String) = "broken-entry", ("the entry was broken and is dropped: {0}");
        /// A verification run compiles although there is an entry; what it came to.
        Verify(String) = "verify", ("compiled to verify the entry: {0}");
        /// A verification run found something else, so the entry was dropped.
        VerifyMismatch(String) = "verify-mismatch", ("the entry was not what the compiler makes: {0}");
    }
}

reasons! {
    /// Why the result of a compile was used but not stored.
    pub enum NotStored {
        Failed = "compile-failed", ("the compile failed");
        InputChanged(String) = "input-changed-during-compile", ("{0} changed while the compiler ran");
        Incremental = "incremental", ("compiled incrementally: the crate is being edited here");
        /// The outputs announced and the outputs found don't match, or one can't be taken over.
        Outputs(String) = "outputs", ("the outputs can't be captured: {0}");
        /// A native archive went into the output that no key mentions.
        UnattributedNative(String) = "unattributed-native", ("bundles native object {0} of unknown origin");
        DepInfo(String) = "dep-info", ("unusable dep-info: {0}");
        /// The linker's report of its inputs is missing or incomplete.
        LinkInputs(String) = "link-inputs", ("the linker's inputs are not known: {0}");
        /// Messages or dep-info contain what can't be made portable.
        Text = "text", ("messages contain characters that can't be stored");
        /// No permission, too many links.
        Store(String) = "store", ("the store refused: {0}");
        /// The disk is full, or so full that the rest is left to others.
        Full(String) = "disk-full", ("the store's disk is full: {0}");
        /// A tool that rustc started complained, and rustc went on with a lesser result.
        Degraded(String) = "degraded", ("the compiler reported a degraded result: {0}");
        /// A socket for the internet was made.
        Network = "network", ("it may have asked another machine");
        /// The run of a build script is good for this once.
        Run(String) = "build-script-run", ("the build script has to run each time: {0}");
    }
}
