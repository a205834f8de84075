//! One call of the wrapper as plain data: which compiler, with which arguments, where, in which environment. Knows
//! nothing about what the arguments mean.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};

use crate::reason::Bypass;

/// The process environment; values may be any bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Env(BTreeMap<String, OsString>);

impl Env {
    /// From pairs; names that aren't UTF-8 are left out (rustc can't name them either).
    pub fn new(pairs: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        Self(pairs.into_iter().filter_map(|(name, value)| Some((name.into_string().ok()?, value))).collect())
    }

    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(name).map(OsString::as_os_str)
    }

    /// A variable's value if it is UTF-8 and not empty.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(OsStr::to_str).filter(|value| !value.is_empty())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_os_str()))
    }
}

/// A wrapper call, response files already expanded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    /// The compiler, as Cargo names it.
    pub compiler: String,
    /// `RUSTC_WORKSPACE_WRAPPER` between this wrapper and the compiler (clippy-driver).
    pub driver: Option<String>,
    pub args: Vec<String>,
    /// Working directory, absolute.
    pub cwd: String,
    pub env: Env,
}

impl Invocation {
    /// Splits the wrapper's own arguments (without `argv[0]`). Cargo calls `wrapper rustc args…`, or
    /// `wrapper clippy-driver rustc args…` when a workspace wrapper is set (`src/cargo/util/rustc.rs`, 1.95).
    pub fn split(argv: &[OsString], cwd: &OsStr, env: Env) -> Result<Self, Bypass> {
        let text = |arg: &OsString| arg.clone().into_string().map_err(|_| Bypass::NotUtf8);
        let mut args = argv.iter().map(text).collect::<Result<Vec<_>, _>>()?.into_iter();
        let first = args.next().ok_or(Bypass::Query)?;
        let mut rest: Vec<String> = args.collect();
        let has_driver = rest.first().is_some_and(|arg| is_compiler_path(arg)) && !is_rustc(&first);
        let (driver, compiler) = if has_driver { (Some(first), rest.remove(0)) } else { (None, first) };
        let cwd = cwd.to_str().ok_or(Bypass::NotUtf8)?.to_owned();
        Ok(Self { compiler, driver, args: rest, cwd, env })
    }
}

/// Whether `arg` names rustc itself.
pub fn is_rustc(arg: &str) -> bool {
    file_stem(arg) == "rustc"
}

/// Whether `arg` names clippy's driver.
pub fn is_clippy(arg: &str) -> bool {
    file_stem(arg) == "clippy-driver"
}

fn is_compiler_path(arg: &str) -> bool {
    is_rustc(arg) && !arg.starts_with('-')
}

fn file_stem(path: &str) -> &str {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    name.strip_suffix(".exe").unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_driver_is_recognised_by_the_compiler_that_follows() {
        for (argv, driver, compiler, args) in [
            (&["/t/bin/rustc", "-vV"][..], None, "/t/bin/rustc", &["-vV"][..]),
            (&["/t/clippy-driver", "/t/rustc", "-vV"], Some("/t/clippy-driver"), "/t/rustc", &["-vV"]),
            (&["/x/mydriver", "rustc", "a.rs"], Some("/x/mydriver"), "rustc", &["a.rs"]),
            (&["rustc", "rustc"], None, "rustc", &["rustc"]),
            (&["clippy-driver", "--crate-name", "x"], None, "clippy-driver", &["--crate-name", "x"]),
        ] {
            let argv: Vec<OsString> = argv.iter().map(OsString::from).collect();
            let call = Invocation::split(&argv, OsStr::new("/w"), Env::default()).expect("valid");
            assert_eq!((call.driver.as_deref(), call.compiler.as_str()), (driver, compiler));
            assert_eq!(call.args, args);
        }
    }
}
