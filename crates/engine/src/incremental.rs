//! How a unit is compiled for which Cargo wants incremental state, and what that state does to the outputs' times.
//! Does not run the compiler.
//!
//! | unit in this target directory | compiled | stored |
//! | --- | --- | --- |
//! | Cargo doesn't want incremental state | without | yes |
//! | split debug information, whose files would lie among the state | without | yes |
//! | never compiled here, no state of a crate of that name | incrementally, from nothing | yes |
//! | never compiled here, but there is state of unknown age | without | yes |
//! | placed or compiled here before: someone is editing | incrementally | no |
//!
//! A compile that starts with no state gives what plain Cargo's would give, and leaves the state that makes the next
//! edit quick. One that starts with state is not stored: its output could depend on what was compiled before.
//! All of them remap paths alike, since rustc throws state away that was made with other flags.

use std::fs;
use std::path::Path;

use kache_core::unit::Unit;

use crate::placement::Standing;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effort {
    /// Without incremental state; the result is stored.
    Plain,
    /// With incremental state that starts empty; the result is stored.
    Anew,
    /// With the state that is there; the result is not stored.
    Edit,
}

impl Effort {
    /// Decides for a unit that stands like this in its target directory.
    pub fn choose(unit: &Unit, standing: &Standing) -> Self {
        let Some(dir) = &unit.incremental else { return Effort::Plain };
        if standing.is_known_here() {
            return Effort::Edit;
        }
        if unit.split_debuginfo.is_some() {
            return Effort::Plain;
        }
        // State of a unit that was never here can't be there in a directory that is known from birth; then what lies
        // there belongs to another unit of a crate with the same name.
        let empty = standing.is_certainly_first() || !has_state(Path::new(dir), &unit.crate_name);
        if empty { Effort::Anew } else { Effort::Plain }
    }

    /// Whether the compiler gets `-C incremental`.
    pub fn keeps_incremental(self) -> bool {
        self != Effort::Plain
    }
}

/// Whether there is state of any unit of a crate: rustc names the directory `<crate>-<hash of name and metadata>`
/// (`rustc_incremental/src/persist/fs.rs`, 1.95).
fn has_state(dir: &Path, crate_name: &str) -> bool {
    let mut names = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.any(|name| {
        name.to_str().and_then(|name| name.rsplit_once('-')).is_none_or(|(name, _)| name == crate_name)
    })
}

/// Dates metadata that rustc announces. When nothing in it has changed since the state was made, rustc links it from
/// there with the time of that compile (`rustc_metadata/src/rmeta/encoder.rs`, 1.95), which is older than dependents
/// that were built against what the cache put there in between; Cargo would take those for fresh.
pub fn date_metadata(metadata: &Path) {
    if let Err(error) = kache_store::link::set_mtime_now_of(metadata) {
        tracing::warn!(%error, "metadata keeps its time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_is_told_by_the_crates_name() {
        let dir = tempfile::tempdir().expect("temp dir");
        let state = |name: &str| has_state(dir.path(), name);
        assert!(!state("a"));
        fs::create_dir(dir.path().join("a_b-38ixto84kb7tl")).expect("directory");
        assert_eq!([state("a_b"), state("a"), state("b")], [true, false, false]);
        assert!(!has_state(&dir.path().join("none"), "a_b"));
        fs::write(dir.path().join("odd"), "").expect("file");
        assert!(state("a"), "what isn't understood counts");
    }
}
