//! The small parts that a unit consists of: plain data with rustc's names. How a command line becomes a unit is in
//! `unit`.

use crate::reason::Bypass;

crate::words! {
    /// `--crate-type`.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    pub enum CrateType {
        Rlib = "lib",
        ProcMacro = "proc-macro",
        Bin = "bin",
        Dylib = "dylib",
        Cdylib = "cdylib",
        Staticlib = "staticlib",
    }
}

impl CrateType {
    pub(crate) fn parse(text: &str) -> Result<Self, Bypass> {
        use CrateType::{Bin, Cdylib, Dylib, ProcMacro, Rlib, Staticlib};
        let mut all = [Rlib, ProcMacro, Bin, Dylib, Cdylib, Staticlib].into_iter();
        let found = all.find(|kind| kind.word() == text || (*kind == Rlib && text == "rlib"));
        found.ok_or_else(|| Bypass::CrateType(text.to_owned()))
    }
}

crate::words! {
    /// Which Cargo command a unit belongs to.
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
    pub enum Mode {
        #[default]
        Build = "build",
        /// Metadata only.
        Check = "check",
        /// Metadata only, by clippy's driver.
        Clippy = "clippy",
    }
}

/// `--extern`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extern {
    /// Options and name, as typed before `=`.
    pub name: String,
    /// The file, if one is named.
    pub path: Option<String>,
}

/// `-L`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPath {
    /// `dependency`, `crate`, `native`, `framework` or `all`.
    pub kind: String,
    pub path: String,
}

/// One flag that goes into the key as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyArg {
    pub name: String,
    pub value: Option<String>,
    /// Whether the value is, or contains, paths that are keyed by portable name.
    pub is_path: bool,
}

/// `-C lto` and relatives: whether the compiler itself reads the object code of all dependencies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Lto {
    #[default]
    Local,
    /// rustc reads the rlibs; the linker sees temporary files.
    CrossCrate,
}
