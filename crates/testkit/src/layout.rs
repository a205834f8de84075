//! In which of Cargo's directory layouts tests build, how a Cargo is told, and where its files lie then. Knows the versions
//! of Cargo that have each layout, and nothing about what is built.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KACHE_TEST_CARGO` | path of the Cargo that tests drive in place of the toolchain's; the compiler stays the same |
//! | `KACHE_TEST_LAYOUT` | `classic` or `per-unit`; without it, test programs whose name ends in `_per_unit` build per unit, all others in classic directories |

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::toolchain::toolchain;

/// Chooses the layout in place of the program's name.
const VARIABLE: &str = "KACHE_TEST_LAYOUT";
/// The first minor version of Cargo 1 whose default is a directory for each unit.
const FIRST_PER_UNIT: u32 = 100;
/// Puts a Cargo back into classic directories.
const OPT_OUT: &str = "__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT";
/// Lets any Cargo be configured in unstable ways. Unlike `RUSTC_BOOTSTRAP`, compilers and build scripts see nothing of it.
const CHANNEL: &str = "__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS";
/// What an older Cargo's configuration needs for the layout per unit.
const UNSTABLE: &str = "\n[unstable]\nbuild-dir-new-layout = true\n";

/// How Cargo arranges a build directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `deps`, `.fingerprint` and `build/PKG-HASH` for all units of a profile.
    Classic,
    /// `build/PKG/HASH/{out,fingerprint,run}` for each unit.
    PerUnit,
}

impl Layout {
    /// The layout in which this process's tests build.
    pub fn of_this_process() -> Self {
        match env::var(VARIABLE).as_deref() {
            Ok("per-unit") => Layout::PerUnit,
            Ok("classic") => Layout::Classic,
            Ok(other) => panic!("{VARIABLE}={other} is neither classic nor per-unit"),
            Err(_) => Self::of_program(&env::current_exe().expect("this program")),
        }
    }

    /// Cargo puts `-` and a hash behind a test program's name.
    fn of_program(program: &Path) -> Self {
        let name = program.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let name = name.rsplit_once('-').map_or(name.as_str(), |(name, _)| name);
        if name.ends_with("_per_unit") { Layout::PerUnit } else { Layout::Classic }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Layout::Classic => Layout::PerUnit,
            Layout::PerUnit => Layout::Classic,
        }
    }

    /// Every variable that decides about the layout, with the value that this one needs.
    pub(crate) fn variables(self) -> [(&'static str, Option<&'static str>); 2] {
        let is_default = toolchain().cargo_minor >= FIRST_PER_UNIT;
        [
            (OPT_OUT, (self == Layout::Classic && is_default).then_some("1")),
            (CHANNEL, (self == Layout::PerUnit && !is_default).then_some("nightly")),
        ]
    }

    /// What Cargo's configuration has to say for this layout.
    pub(crate) fn configuration(self) -> &'static str {
        let is_default = toolchain().cargo_minor >= FIRST_PER_UNIT;
        if self == Layout::PerUnit && !is_default { UNSTABLE } else { "" }
    }

    /// The name of a `CARGO_HOME` that is configured for it.
    pub(crate) fn cargo_home(self) -> &'static str {
        match self {
            Layout::Classic => "cargo-home-classic",
            Layout::PerUnit => "cargo-home-per-unit",
        }
    }

    /// Where the compile of a package's unit leaves its outputs, below a profile's directory.
    pub fn out_dir(self, profile: &Path, package: &str, hash: &str) -> PathBuf {
        match self {
            Layout::Classic => self.outputs(profile),
            Layout::PerUnit => self.outputs(profile).join(package).join(hash).join("out"),
        }
    }

    /// The folder that holds the outputs of all units, below a profile's directory.
    pub fn outputs(self, profile: &Path) -> PathBuf {
        match self {
            Layout::Classic => profile.join("deps"),
            Layout::PerUnit => profile.join("build"),
        }
    }

    /// How many folders `OUT_DIR` lies below its profile's directory.
    pub fn depth_of_out_dir(self) -> usize {
        match self {
            Layout::Classic => 3,
            Layout::PerUnit => 4,
        }
    }

    /// What Cargo calls the file in which it keeps a build script's standard output.
    pub fn script_output(self) -> &'static str {
        match self {
            Layout::Classic => "output",
            Layout::PerUnit => "stdout",
        }
    }

    /// The fingerprint directory of each unit below a profile's directory.
    pub fn fingerprints(self, profile: &Path) -> Vec<PathBuf> {
        match self {
            Layout::Classic => folders(&profile.join(".fingerprint")),
            Layout::PerUnit => {
                let units = folders(&self.outputs(profile)).into_iter().flat_map(|package| folders(&package));
                units.map(|unit| unit.join("fingerprint")).filter(|dir| dir.is_dir()).collect()
            }
        }
    }
}

fn folders(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| path.is_dir()).collect()
}

/// Whether a path below a build directory is a compiler's output, in either layout: in `deps`, a build script, or in the
/// `out` of a unit that is no build script's run.
pub(crate) fn is_compiled(build_dir: &Path, file: &Path) -> bool {
    let names: Vec<&str> = file.iter().map(|name| name.to_str().unwrap_or_default()).collect();
    let is_hash = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unit = names.windows(4).position(|names| names[0] == "build" && is_hash(names[2]));
    if let Some(at) = unit {
        let dir: PathBuf = names[..at + 3].iter().collect();
        // Cargo gives a script a second name, as in classic directories.
        let is_alias = names.last().is_some_and(|name| name.starts_with("build-script-"));
        return names[at + 3] == "out" && !is_alias && !build_dir.join(dir).join("run").is_dir();
    }
    let is_script = names.last().is_some_and(|name| name.starts_with("build_script_"));
    names[..names.len() - 1].contains(&"deps") || is_script && !names.contains(&"out")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_says_by_its_name_in_which_layout_it_builds() {
        for (name, layout) in [
            ("e2e-0123456789abcdef", Layout::Classic),
            ("e2e_per_unit-0123456789abcdef", Layout::PerUnit),
            ("walk_per_unit", Layout::PerUnit),
            ("kache_testkit-1", Layout::Classic),
        ] {
            assert_eq!(Layout::of_program(Path::new(name)), layout, "{name}");
        }
    }

    #[test]
    fn outputs_of_compilers_are_told_from_others() {
        let dir = tempfile::tempdir().expect("temp dir");
        std::fs::create_dir_all(dir.path().join("debug/build/p/fedcba9876543210/run")).expect("mkdir");
        for (file, want) in [
            ("debug/deps/liba-1.rlib", true),
            ("debug/build/p-1/build_script_build-1", true),
            ("debug/build/p-1/out/x", false),
            ("debug/build/p/0123456789abcdef/out/app", true),
            ("debug/build/p/0123456789abcdef/out/build_script_build", true),
            ("debug/build/p/0123456789abcdef/out/build-script-build", false),
            ("debug/build/p/fedcba9876543210/out/x", false),
            ("debug/build/p/0123456789abcdef/fingerprint/lib-p", false),
            ("debug/app", false),
        ] {
            assert_eq!(is_compiled(dir.path(), Path::new(file)), want, "{file}");
        }
    }
}
