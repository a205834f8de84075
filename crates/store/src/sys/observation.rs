//! Owns what an observation is asked for and what it yields. Plain data, the same on every platform.

use std::collections::BTreeSet;
use std::path::PathBuf;

/// What an observation covers. Opens for reading, listings and executions always count.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    /// Absolute directories or files below which nothing is recorded.
    pub ignored: Vec<PathBuf>,
    /// Which looks at a path without opening it count.
    pub probes: Probes,
    pub writes: Writes,
}

/// Which calls that look at a path without opening it are observed. Existence checks stop a compile about as often
/// as opens do. `realpath` stops it three times as often again: it reads one link per component of a path, and rustc
/// and gcc call it for every library.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Probes {
    Skip,
    /// `stat` and `access`: what a macro decides by `Path::exists`. And `readlink`, except by glibc's `realpath`.
    #[default]
    Existence,
    /// That of `realpath` too: what a macro decides by `canonicalize` alone, without opening the file then.
    ExistenceAndRealpath,
}

/// Whether the calls that make or change files are observed: what a compile leaves behind besides its outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Writes {
    #[default]
    Skip,
    /// Opens for writing, `mkdir`, the new names made by `rename`, `link` and `symlink`, and names that go by `unlink`,
    /// `rmdir` and `rename`; and that a socket for the internet is made ([`AccessKind::Network`]).
    Observe,
}

/// How a path was used. An attempt counts whether or not it succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessKind {
    /// Opened for reading. The path may be a directory: some programs list without saying so on opening.
    Read,
    /// Opened for reading and writing in place, as databases are.
    Update,
    List,
    Exec,
    /// Read as a symbolic link: where it leads, not what is there.
    Link,
    /// Looked at without being opened. Left out where the content was read as well.
    Probe,
    /// Made, replaced, or opened for writing only ([`Writes::Observe`]).
    Write,
    /// Removed or renamed, where it was there before the observation began ([`Writes::Observe`]).
    Remove,
    /// A socket for the internet was made, under the path `/`: what others said isn't known ([`Writes::Observe`]).
    Network,
}

/// One path and one way in which it was used by any process of the tree.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObservedAccess {
    /// Absolute, without `.` and empty components. A `..` remains only after what isn't a real directory (a
    /// symbolic link, a missing one), where leaving it out would name another file.
    pub path: PathBuf,
    pub kind: AccessKind,
}

/// Everything seen. It is all there was only when [`Observation::is_complete`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// Sorted, without duplicates.
    pub accesses: Vec<ObservedAccess>,
    /// Paths that were written before their content was used: what was there before didn't matter.
    pub rewritten: BTreeSet<PathBuf>,
    /// There were more paths than are remembered.
    pub overflowed: bool,
    /// Accesses whose path could not be read.
    pub unreadable: u32,
    /// How many calls were stopped: what the observation cost, at a few microseconds each.
    pub calls: u64,
    /// A descendant was still running at the end; what it looks at from then on is not observed.
    pub outlived: bool,
}

impl Observation {
    /// Whether every access (outside the ignored prefixes) is in the list.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.overflowed && self.unreadable == 0 && !self.outlived
    }
}
