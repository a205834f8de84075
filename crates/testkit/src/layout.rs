//! In which of Cargo's directory layouts tests build, and how a Cargo is told. Knows the versions of Cargo that have them,
//! and nothing about what is built.

use std::env;
use std::path::Path;

use crate::toolchain::toolchain;

/// Chooses the layout: `classic` or `per-unit`. Without it, test programs whose name ends in `_per_unit` build per unit,
/// all others in classic directories.
const VARIABLE: &str = "KACHE_TEST_LAYOUT";
/// The first minor version of Cargo 1 whose default is a directory for each unit.
const FIRST_PER_UNIT: u32 = 100;

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

    /// Variables that Cargo needs to build in this layout.
    pub(crate) fn variables(self) -> &'static [(&'static str, &'static str)] {
        match (self, is_default_per_unit()) {
            (Layout::Classic, true) => &[("__CARGO_TEMPORARY_BUILD_DIR_NEW_LAYOUT_OPT_OUT", "1")],
            // Unstable: the variable opens it in any Cargo.
            (Layout::PerUnit, false) => &[("RUSTC_BOOTSTRAP", "1")],
            _ => &[],
        }
    }

    /// What Cargo's configuration has to say for this layout.
    pub(crate) fn configuration(self) -> &'static str {
        match (self, is_default_per_unit()) {
            (Layout::PerUnit, false) => "\n[unstable]\nbuild-dir-new-layout = true\n",
            _ => "",
        }
    }
}

fn is_default_per_unit() -> bool {
    toolchain().cargo_minor >= FIRST_PER_UNIT
}

/// Whether a path below a build directory is a compiler's output: in `deps`, a build script, or in `build/PKG/HASH/out`
/// of a unit that is no build script's run.
pub(crate) fn is_compiled(target: &Path, file: &Path) -> bool {
    let names: Vec<&str> = file.iter().map(|name| name.to_str().unwrap_or_default()).collect();
    let is_hash = |name: &str| name.len() == 16 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let unit = names
        .windows(4)
        .position(|names| names[0] == "build" && is_hash(names[2]) && matches!(names[3], "out" | "artifact"));
    if let Some(at) = unit {
        let dir: std::path::PathBuf = names[..at + 3].iter().collect();
        return !target.join(dir).join("run").is_dir();
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
            ("debug/build/p/fedcba9876543210/out/x", false),
            ("debug/build/p/0123456789abcdef/fingerprint/lib-p", false),
            ("debug/app", false),
        ] {
            assert_eq!(is_compiled(dir.path(), Path::new(file)), want, "{file}");
        }
    }
}
