//! Native archives: which ones a unit's search paths offer to the compiler. Rustc bundles static libraries into rlibs
//! without a word in the dep-info, and without changing the metadata; what an rlib bundles, `core::archive` sees. Knows
//! nothing about keys.

use std::fs;
use std::path::{Path, PathBuf};

use kache_core::unit::Unit;

/// The archives that the unit may bundle, as far as observing the compiler won't tell: `lib<name>.a` in each native
/// search directory outside `target_dir` for each `-l static=<name>`, and, where nothing is observed, every `.a` in
/// those below it. Paths may be absent; order is the search order.
pub fn candidates(unit: &Unit, cwd: &Path, target_dir: &Path) -> Vec<PathBuf> {
    let mut paths = Vec::new();
    for search in unit.search_paths.iter().filter(|path| matches!(path.kind.as_str(), "native" | "all")) {
        let dir = cwd.join(&search.path);
        if dir.starts_with(target_dir) {
            if kache_store::sys::can_observe() {
                continue;
            }
            let entries = fs::read_dir(&dir).into_iter().flatten().flatten();
            let mut archives: Vec<PathBuf> =
                entries.map(|entry| entry.path()).filter(|path| is_archive(path)).collect();
            archives.sort();
            paths.extend(archives);
        } else {
            paths.extend(static_names(unit).map(|name| dir.join(format!("lib{name}.a"))));
        }
    }
    paths
}

fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "a" || extension == "lib")
}

/// Names of `-l static=name`, `-l static:+whole-archive=name`, with renames (`name:other`) resolved.
fn static_names(unit: &Unit) -> impl Iterator<Item = &str> {
    unit.libraries.iter().filter_map(|library| {
        let (kind, name) = library.split_once('=')?;
        let is_static = kind == "static" || kind.starts_with("static:");
        is_static.then(|| name.split_once(':').map_or(name, |(_, real)| real))
    })
}

/// Whether every native archive that the unit could bundle is among its [`candidates`]: it names no directory
/// outside the target directory, or names what it takes from there.
pub fn may_bundle_unnamed(unit: &Unit, cwd: &Path, target_dir: &Path) -> bool {
    let outside = |path: &&kache_core::unit::SearchPath| {
        matches!(path.kind.as_str(), "native" | "all") && !cwd.join(&path.path).starts_with(target_dir)
    };
    unit.search_paths.iter().any(|path| outside(&path)) && static_names(unit).next().is_none()
}
