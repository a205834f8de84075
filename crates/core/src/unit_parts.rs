//! The small parts that a unit consists of: plain data with rustc's names. How a command line becomes a unit is in
//! `unit`.

use crate::reason::Bypass;

/// `--crate-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CrateType {
    Rlib,
    ProcMacro,
    Bin,
    Dylib,
    Cdylib,
    Staticlib,
}

impl CrateType {
    pub(crate) fn parse(text: &str) -> Result<Self, Bypass> {
        Ok(match text {
            "lib" | "rlib" => CrateType::Rlib,
            "proc-macro" => CrateType::ProcMacro,
            "bin" => CrateType::Bin,
            "dylib" => CrateType::Dylib,
            "cdylib" => CrateType::Cdylib,
            "staticlib" => CrateType::Staticlib,
            other => return Err(Bypass::CrateType(other.to_owned())),
        })
    }

    pub const fn name(self) -> &'static str {
        match self {
            CrateType::Rlib => "lib",
            CrateType::ProcMacro => "proc-macro",
            CrateType::Bin => "bin",
            CrateType::Dylib => "dylib",
            CrateType::Cdylib => "cdylib",
            CrateType::Staticlib => "staticlib",
        }
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
