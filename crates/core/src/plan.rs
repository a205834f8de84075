//! Where an output may share the store's inode, and with which time: the decision behind "zero copy, and Cargo none
//! the wiser". Pure; the engine observes the facts and the store applies the result.
//!
//! # The argument
//!
//! Cargo (1.95, `src/cargo/core/compiler/fingerprint/mod.rs`, `check_filesystem`) calls a unit stale when a
//! dependency's output is newer than the unit's own newest output, and never looks at contents. A hard link has one
//! time for all target directories. So every shared output carries a **canonical time**, a fixed epoch plus one
//! second for each level of its dependency tree: a dependency is older than its dependents in every directory, and
//! nobody ever has to touch a shared inode again.
//!
//! An old time is a lie that is only harmless while nothing in the directory can have been built against *other*
//! content: Cargo notices "a dependency was rebuilt" by its time rising. The ledger of a profile directory says
//! whether that is certain:
//!
//! | case | ledger | placement |
//! | --- | --- | --- |
//! | first build here | directory known from birth, no mark, no file | shared, canonical time |
//! | same content again | mark; the file is gone, since Cargo removes a unit's outputs before it asks | private, current time |
//! | asked for by somebody who doesn't | the very inode is there | keep it |
//! | other content | mark | private, current time |
//! | mark but no file (`cargo clean -p`) | mark | private, current time |
//! | written by a build without kache | file, no mark | private, current time |
//! | directory that existed before kache came, or was built in without it, be a program all that is left of that | not known from birth | private, current time |
//! | the host's directory of a cross build was removed, `TRIPLE/PROFILE` beside it stays: units there were built against the old macros | not known from birth | private, current time |
//! | interrupted build | mark is set before the file is placed | private, current time |
//! | a dependency (or the build script's `output`) is newer than the canonical time | any | private, current time |
//! | only that `output` is newer, and its run is the first one that anything here saw | no mark, run on record | `output` is set back, shared |
//! | the build script ran again, and `output` changed or not | another run on record | private, current time |
//! | `check`/clippy metadata, `.d`, executables that people edit | any | private, current time |
//!
//! A unit's dependents lie in its own profile directory, or for macros and scripts of a cross build in `TRIPLE/PROFILE`.
//! Two profiles are two directories with a ledger each; so are two build directories, wherever they are and by
//! whichever symlink they are reached, because the ledger lies inside.

use crate::entry::OutputKind;

/// 2024-01-01T00:00:00Z, in seconds since 1970. Later than every file time that published packages carry by
/// convention (2006), earlier than any real build.
pub const EPOCH_S: i64 = 1_704_067_200;
/// Canonical times lie in `EPOCH_S ..= EPOCH_S + DEPTH_MAX`.
pub const DEPTH_MAX: i64 = 100_000;

/// What is known about the place where an output goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The profile directory held no artifacts when kache first saw it, and nobody else has built there since.
    pub known_from_birth: bool,
    /// The unit was placed or compiled here before.
    pub marked: bool,
    pub occupant: Occupant,
}

/// What lies where an output is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occupant {
    Nothing,
    SameInode,
    /// Any other file.
    Other,
}

/// How to put an output into place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placement {
    Keep,
    /// Share the blob's data and carry its canonical time.
    Shared,
    /// An inode of its own with the current time.
    Private,
}

/// Whether outputs of this kind may share an inode with the store at all.
pub const fn may_share(kind: OutputKind) -> bool {
    match kind {
        OutputKind::Metadata | OutputKind::Rlib | OutputKind::ProcMacro | OutputKind::BuildScript => true,
        OutputKind::CheckMetadata | OutputKind::Generated | OutputKind::Linked | OutputKind::Debug => false,
    }
}

/// Where a unit's outputs go. All outputs of a unit are treated alike, because Cargo compares the newest of them.
/// `newest_dependency_ns` is the newest time that Cargo will compare with, in nanoseconds since 1970;
/// `oldest_blob_s` the oldest recorded time among the unit's blobs.
pub fn place_unit(
    kinds: &[OutputKind],
    place: Place,
    oldest_blob_s: i64,
    newest_dependency_ns: i128,
) -> Placement {
    let shareable = kinds.iter().all(|kind| may_share(*kind));
    let in_order =
        is_canonical(oldest_blob_s) && newest_dependency_ns <= i128::from(oldest_blob_s) * 1_000_000_000;
    if !shareable || !in_order {
        return Placement::Private;
    }
    match place {
        Place { occupant: Occupant::SameInode, .. } => Placement::Keep,
        Place { known_from_birth: true, marked: false, occupant: Occupant::Nothing } => Placement::Shared,
        _ => Placement::Private,
    }
}

/// Whether a time is one that the store gives to blobs.
pub const fn is_canonical(mtime_s: i64) -> bool {
    mtime_s >= EPOCH_S && mtime_s <= EPOCH_S + DEPTH_MAX
}

/// The canonical time of a unit whose dependencies carry these times, in nanoseconds since 1970. Dependencies with
/// other times have no depth; they only matter when the unit is placed.
pub fn canonical_time(dependencies_ns: impl IntoIterator<Item = i128>) -> i64 {
    let deepest = dependencies_ns
        .into_iter()
        .filter(|ns| ns % 1_000_000_000 == 0)
        .filter_map(|ns| i64::try_from(ns / 1_000_000_000).ok())
        .filter(|s| is_canonical(*s))
        .max();
    deepest.map_or(EPOCH_S + 1, |s| (s + 1).min(EPOCH_S + DEPTH_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RLIB: &[OutputKind] = &[OutputKind::Metadata, OutputKind::Rlib];
    const FRESH: Place = Place { known_from_birth: true, marked: false, occupant: Occupant::Nothing };

    #[test]
    fn the_table_of_cases() {
        let t = EPOCH_S + 3;
        let older = i128::from(t - 1) * 1_000_000_000;
        let newer = i128::from(t) * 1_000_000_000 + 1;
        for (what, kinds, place, blob_s, dependency_ns, want) in [
            ("first build", RLIB, FRESH, t, older, Placement::Shared),
            ("equal times are fresh", RLIB, FRESH, t, older + 1_000_000_000, Placement::Shared),
            (
                "same inode",
                RLIB,
                Place { marked: true, occupant: Occupant::SameInode, ..FRESH },
                t,
                older,
                Placement::Keep,
            ),
            (
                "other content",
                RLIB,
                Place { marked: true, occupant: Occupant::Other, ..FRESH },
                t,
                older,
                Placement::Private,
            ),
            ("cleaned", RLIB, Place { marked: true, ..FRESH }, t, older, Placement::Private),
            (
                "foreign file",
                RLIB,
                Place { occupant: Occupant::Other, ..FRESH },
                t,
                older,
                Placement::Private,
            ),
            (
                "foreign directory",
                RLIB,
                Place { known_from_birth: false, ..FRESH },
                t,
                older,
                Placement::Private,
            ),
            ("newer dependency", RLIB, FRESH, t, newer, Placement::Private),
            (
                "newer dependency, same inode",
                RLIB,
                Place { occupant: Occupant::SameInode, ..FRESH },
                t,
                newer,
                Placement::Private,
            ),
            ("check metadata", &[OutputKind::CheckMetadata], FRESH, t, older, Placement::Private),
            ("executable", &[OutputKind::Linked], FRESH, t, older, Placement::Private),
            ("not a canonical blob", RLIB, FRESH, 1_900_000_000, older, Placement::Private),
        ] {
            assert_eq!(place_unit(kinds, place, blob_s, dependency_ns), want, "{what}");
        }
    }

    #[test]
    fn canonical_times_rise_with_depth() {
        let ns = |s: i64| i128::from(s) * 1_000_000_000;
        assert_eq!(canonical_time([]), EPOCH_S + 1);
        assert_eq!(canonical_time([ns(EPOCH_S + 1), ns(EPOCH_S + 4)]), EPOCH_S + 5);
        assert_eq!(canonical_time([ns(1_900_000_000), ns(EPOCH_S + 4) + 5]), EPOCH_S + 1);
        assert_eq!(canonical_time([ns(EPOCH_S + DEPTH_MAX)]), EPOCH_S + DEPTH_MAX);
    }
}
