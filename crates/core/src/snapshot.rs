//! Snapshots: which registry and git units a target directory held complete, so that another one can be given them
//! before Cargo looks. Owns the form and the choice of units; doesn't know how they are observed or placed.
//!
//! A snapshot names units by Cargo's own words for them (profile directory, unit directory, fingerprint hash) and carries the small files of the fingerprint directory. What the compiler or a build script made is an
//! [`crate::entry::Entry`]: it is evicted, checked and shared like every other.
//!
//! ```text
//! header newline (unit newline)*           each line one JSON object
//! header = {"version":5,"context":…,"lock":…,"compiler":…,"cargo_home":…,"packages":[…],"recorded_s":…,"unfit":[…]}
//! unit   = {"profile":"debug","dir":"serde/0123456789abcdef","name":"lib-serde","hash":"0011223344556677","deps":[…],…}
//! ```
//! At most [`SNAPSHOT_BYTES_MAX`] bytes, [`UNITS_MAX`] units; another version is ignored. Every path in it is checked
//! before it is joined to anything: a snapshot may come from another machine.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::form::Versioned;
use crate::key::EntryKey;
use crate::seed_unit::SeedUnit;

pub const VERSION: u32 = 5;
/// Longest snapshot that is read, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Most units in one snapshot; those not seen for longest go first.
pub const UNITS_MAX: usize = 8192;
/// A unit that no build has shown for this long is dropped, in seconds.
pub const UNIT_AGE_S: u64 = 30 * 86_400;

/// A set of units that fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    pub header: Header,
    /// The units, in no order.
    pub units: Vec<SeedUnit>,
}

/// What a snapshot is for and what all its units rest on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    version: u32,
    /// Compiler, Cargo, `CARGO_HOME`, key salt: without these being the same, nothing is reusable.
    pub context: Digest,
    pub lock: Digest,
    /// Identity of the compiler for the host. The context covers it; a snapshot that is shared is found by it.
    #[serde(default)]
    pub compiler: Option<Digest>,
    #[serde(default)]
    pub cargo_home: String,
    /// `name version` of every package that the lockfile names.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    /// When it was recorded, in seconds since 1970.
    #[serde(default)]
    pub recorded_s: u64,
    /// Units that could not be recorded, and why.
    #[serde(default)]
    pub unfit: Vec<Unfit>,
}

/// A unit that was not recorded or not placed, for `why-miss`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfit {
    /// `profile/dir`, for instance `debug/serde/0123456789abcdef`.
    pub unit: String,
    #[serde(default)]
    pub package: String,
    pub code: String,
    pub detail: String,
}

/// Why bytes are not a usable snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not the form at all.
    #[error("not a snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    #[error("not a snapshot: no header")]
    Empty,
    #[error("a snapshot of more than {UNITS_MAX} units")]
    TooMany,
    /// Written by another kache; left alone.
    #[error("snapshot of version {0}, not {VERSION}")]
    Version(u32),
    /// A path that could leave the directory it is joined to.
    #[error("unsafe path {0:?}")]
    UnsafePath(String),
}

impl Header {
    /// A header without packages and sources.
    pub fn new(context: Digest, lock: Digest) -> Self {
        Self {
            version: VERSION,
            context,
            lock,
            compiler: None,
            cargo_home: String::new(),
            packages: BTreeSet::new(),
            recorded_s: 0,
            unfit: Vec::new(),
        }
    }

    /// Reads the first line of a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
        let line = line.ok_or(SnapshotError::Empty)?;
        let Versioned { version } = serde_json::from_slice(line)?;
        if version == VERSION {
            Ok(serde_json::from_slice(line)?)
        } else {
            Err(SnapshotError::Version(version))
        }
    }

    /// How many packages two lockfiles have in common.
    pub fn shared_packages(&self, packages: &BTreeSet<String>) -> usize {
        self.packages.intersection(packages).count()
    }
}

impl Snapshot {
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec(&self.header).unwrap_or_default();
        bytes.push(b'\n');
        for unit in &self.units {
            bytes.extend(serde_json::to_vec(unit).unwrap_or_default());
            bytes.push(b'\n');
        }
        bytes
    }

    /// Reads the stored form and checks its paths.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let header = Header::decode(bytes)?;
        let mut units = Vec::new();
        for line in bytes.split(|byte| *byte == b'\n').skip(1).filter(|line| !line.is_empty()) {
            let unit: SeedUnit = serde_json::from_slice(line)?;
            if let Some(path) = unit.unsafe_path() {
                return Err(SnapshotError::UnsafePath(path.to_owned()));
            }
            units.push(unit);
            if units.len() > UNITS_MAX {
                return Err(SnapshotError::TooMany);
            }
        }
        Ok(Self { header, units })
    }

    /// Entries that the units need, without repetition.
    pub fn entries(&self) -> BTreeSet<EntryKey> {
        self.units.iter().map(SeedUnit::entry).collect()
    }

    /// Brings the units of an earlier snapshot in that this one doesn't have, as long as they aren't too old: another
    /// profile, another command. Of one place, the newer unit stays; what was built on the older one names it, and so
    /// is chosen no more. Units of another layout are no use to the Cargo that recorded this.
    pub fn absorb(&mut self, earlier: Snapshot) {
        let known: BTreeSet<String> = self.units.iter().map(SeedUnit::place).collect();
        let layout = self.units.first().map(|unit| unit.dir.layout);
        let oldest_s = self.header.recorded_s.saturating_sub(UNIT_AGE_S);
        let is_wanted = |unit: &SeedUnit| {
            unit.seen_s >= oldest_s
                && layout.is_none_or(|layout| unit.dir.layout == layout)
                && !known.contains(&unit.place())
        };
        self.units.extend(earlier.units.into_iter().filter(is_wanted));
        self.units.sort_by_key(|unit| std::cmp::Reverse(unit.seen_s));
        self.units.truncate(UNITS_MAX);
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
