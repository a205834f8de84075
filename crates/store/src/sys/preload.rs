//! Owns the library that is preloaded into a compiler and what it starts, so that an observation shows the environment
//! variables that they ask their C library for. Knows the form of its reports (`preload/names.rs`), not what they mean.

use std::path::Path;

/// The library; empty where it could not be built.
pub const LIBRARY: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/names.so"));

const REPORTS: &str = "/dev/null/kache-env";

/// That a program asked for a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VariableRead<'a> {
    pub program: &'a str,
    pub name: &'a str,
    /// A library that the program loaded after its start was among the callers.
    pub by_plugin: bool,
}

/// Whether a path is a report, readable or not.
#[must_use]
pub fn is_report(path: &Path) -> bool {
    path.starts_with(REPORTS)
}

/// The report that a path is.
#[must_use]
pub fn variable_read(path: &Path) -> Option<VariableRead<'_>> {
    let (caller, rest) = path.strip_prefix(REPORTS).ok()?.to_str()?.split_once('/')?;
    let (program, name) = rest.split_once('/')?;
    Some(VariableRead { program, name, by_plugin: caller == "plugin" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports() {
        let read = |path: &'static str| variable_read(Path::new(path));
        let expected = VariableRead { program: "rustc", name: "CI", by_plugin: true };
        assert_eq!(read("/dev/null/kache-env/plugin/rustc/CI"), Some(expected));
        let expected = VariableRead { program: "ld.bfd", name: "LANG", by_plugin: false };
        assert_eq!(read("/dev/null/kache-env/own/ld.bfd/LANG"), Some(expected));
        assert_eq!(read("/dev/null/kache-env/own"), None);
        assert_eq!(read("/dev/null"), None);
        assert!(is_report(Path::new("/dev/null/kache-env/own")) && !is_report(Path::new("/dev/null")));
    }

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_library_is_there() {
        assert!(LIBRARY.starts_with(b"\x7fELF"), "{} bytes", LIBRARY.len());
    }
}
