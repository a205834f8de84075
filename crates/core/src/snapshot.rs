//! Snapshots: which registry and git units a target directory held complete, so that another one can be given them
//! before Cargo looks. Owns the form and the choice of units; doesn't know how they are observed or placed.
//!
//! A snapshot names units by Cargo's own words for them (profile directory, fingerprint directory, fingerprint hash)
//! and carries the small files of the fingerprint directory. What the compiler or a build script made is an
//! [`crate::entry::Entry`]: it is evicted, checked and shared like every other.
//!
//! ```text
//! header newline (unit newline)*           each line one JSON object
//! header = {"version":1,"context":…,"lock":…,"packages":[…],"sources":{…},"tools":{…},"recorded_s":…,"unfit":[…]}
//! unit   = {"profile":"debug","dir":"serde-1a2b","name":"lib-serde","hash":"0011223344556677","deps":[…],…}
//! ```
//! At most [`SNAPSHOT_BYTES_MAX`] bytes, [`UNITS_MAX`] units; a newer version is ignored. Every path in it is checked
//! before it is joined to anything: a snapshot may come from another machine.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::is_safe_name;
use crate::key::EntryKey;
use crate::record::Input;

/// Version of the form.
pub const VERSION: u32 = 1;
/// Longest snapshot that is read, in bytes.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 20;
/// Most units in one snapshot; those not seen for longest go first.
pub const UNITS_MAX: usize = 8192;
/// A unit that no build has shown for this long is dropped, in seconds.
pub const UNIT_AGE_S: u64 = 30 * 86_400;

/// A set of units that fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What it is for.
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
    /// The lockfile's content.
    pub lock: Digest,
    /// `name version` of every package that the lockfile names.
    #[serde(default)]
    pub packages: BTreeSet<String>,
    /// Package directories and a stamp of what was in them.
    #[serde(default)]
    pub sources: BTreeMap<String, Digest>,
    /// Programs that build scripts are known to run, and their stamps.
    #[serde(default)]
    pub tools: BTreeMap<String, String>,
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
    /// `profile/dir`, for instance `debug/serde-1a2b`.
    pub unit: String,
    /// Package and version, where known.
    #[serde(default)]
    pub package: String,
    /// Stable code of the reason.
    pub code: String,
    /// The same for people.
    pub detail: String,
}

/// One unit as Cargo knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedUnit {
    /// Profile directory below the build directory: `debug`, `x86_64-unknown-linux-gnu/release`.
    pub profile: String,
    /// Its directory below `.fingerprint`.
    pub dir: String,
    /// The file with its fingerprint hash in that directory.
    pub name: String,
    /// The fingerprint hash, 16 hexadecimal digits.
    pub hash: String,
    /// Fingerprint hashes of its dependencies.
    pub deps: Vec<String>,
    /// Package name and version.
    pub package: String,
    /// Directory of its sources.
    pub package_dir: String,
    /// The other files of the fingerprint directory.
    pub files: Vec<SmallFile>,
    /// What was made.
    pub made: Made,
    /// The only target directory in which it is valid, where an output names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    /// Files outside the package and the toolchain that went in, and what they looked like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<(Input, String)>,
    /// Proc-macro libraries that ran, and the environment that each could see.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub macros: Vec<(Digest, Digest)>,
    /// The CPU, where the unit was compiled for this very one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Digest>,
    /// What making it took, in milliseconds.
    #[serde(default)]
    pub took_ms: u64,
    /// When a build last had it, in seconds since 1970.
    #[serde(default)]
    pub seen_s: u64,
}

/// A small file, kept inside the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallFile {
    /// One safe path component.
    pub name: String,
    /// Content, with root tokens where it is text.
    pub content: Content,
    /// Modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// A small file's content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// Text, with tokens in place of local directories.
    Text(String),
    /// Anything else, as it is, in hexadecimal.
    Hex(String),
}

impl Content {
    /// The bytes of a file that isn't text.
    pub fn hex(bytes: &[u8]) -> Self {
        Content::Hex(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// Undoes [`Content::hex`].
    pub fn bytes_of_hex(text: &str) -> Option<Vec<u8>> {
        let digits = text.as_bytes();
        let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|n| u8::try_from(n).ok());
        digits
            .chunks(2)
            .map(|pair| match pair {
                [high, low] => Some(nibble(*high)? << 4 | nibble(*low)?),
                _ => None,
            })
            .collect()
    }
}

/// What a unit left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// A compile: its outputs are those of an entry.
    Compile {
        /// The entry.
        entry: EntryKey,
        /// Where the outputs go, below the profile directory: `deps` or `build/<dir>`.
        out_dir: String,
    },
    /// A build script's run: output, messages and `OUT_DIR` are in an entry too.
    Run {
        /// The entry.
        entry: EntryKey,
        /// Modification time of `output`, in nanoseconds since 1970.
        output_ns: i64,
        /// Modification time of `invoked.timestamp`, in nanoseconds since 1970.
        invoked_ns: i64,
        /// What lies in `OUT_DIR`.
        tree: Vec<Node>,
        /// Files outside Cargo's directories that its output names.
        witnesses: BTreeMap<String, String>,
    },
}

/// One thing in an `OUT_DIR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Path below `OUT_DIR`.
    pub path: String,
    /// What it is.
    pub kind: NodeKind,
}

/// What a thing in an `OUT_DIR` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A directory with these permission bits.
    Dir {
        /// Permission bits.
        mode: u32,
    },
    /// A symbolic link; where it leads, with tokens.
    Link {
        /// Where it leads.
        to: String,
    },
    /// A file.
    File {
        /// Its content; with tokens where `tokens`.
        blob: Digest,
        /// Permission bits.
        mode: u32,
        /// Modification time, in nanoseconds since 1970.
        mtime_ns: i64,
        /// Whether local directories are to be put in for tokens.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tokens: bool,
    },
}

/// Why bytes are not a usable snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Not the form at all.
    #[error("not a snapshot: {0}")]
    Malformed(#[from] serde_json::Error),
    /// Nothing in it.
    #[error("not a snapshot: no header")]
    Empty,
    /// Too many units.
    #[error("a snapshot of more than {UNITS_MAX} units")]
    TooMany,
    /// Written by a newer kache; left alone.
    #[error("snapshot of version {0}, newer than this kache")]
    Newer(u32),
    /// A path that could leave the directory it is joined to.
    #[error("unsafe path {0:?}")]
    UnsafePath(String),
}

impl Header {
    /// A header without packages, sources and tools.
    pub fn new(context: Digest, lock: Digest) -> Self {
        Self {
            version: VERSION,
            context,
            lock,
            packages: BTreeSet::new(),
            sources: BTreeMap::new(),
            tools: BTreeMap::new(),
            recorded_s: 0,
            unfit: Vec::new(),
        }
    }

    /// Reads the first line of a snapshot.
    ///
    /// # Errors
    /// When it isn't a header of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, SnapshotError> {
        let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| !line.is_empty());
        let header: Header = serde_json::from_slice(line.ok_or(SnapshotError::Empty)?)?;
        if header.version > VERSION { Err(SnapshotError::Newer(header.version)) } else { Ok(header) }
    }

    /// How many packages two lockfiles have in common.
    pub fn shared_packages(&self, packages: &BTreeSet<String>) -> usize {
        self.packages.intersection(packages).count()
    }
}

impl SeedUnit {
    /// A unit whose fingerprint `name` lies in `profile/dir`, with nothing else known of it.
    pub fn new(profile: &str, dir: &str, name: &str, made: Made) -> Self {
        Self {
            profile: profile.to_owned(),
            dir: dir.to_owned(),
            name: name.to_owned(),
            hash: String::new(),
            deps: Vec::new(),
            package: String::new(),
            package_dir: String::new(),
            files: Vec::new(),
            made,
            bound_to: None,
            inputs: Vec::new(),
            macros: Vec::new(),
            cpu: None,
            took_ms: 0,
            seen_s: 0,
        }
    }

    /// `profile/dir`: one place in a target directory.
    pub fn place(&self) -> String {
        format!("{}/{}", self.profile, self.dir)
    }

    /// The entry that holds what was made.
    pub fn entry(&self) -> EntryKey {
        match &self.made {
            Made::Compile { entry, .. } | Made::Run { entry, .. } => *entry,
        }
    }

    /// Whether this is a build script's run.
    pub fn is_run(&self) -> bool {
        matches!(self.made, Made::Run { .. })
    }

    fn unsafe_path(&self) -> Option<&str> {
        let mut paths = vec![self.profile.as_str()];
        let mut names = vec![self.dir.as_str(), &self.name];
        names.extend(self.files.iter().map(|file| file.name.as_str()));
        match &self.made {
            Made::Compile { out_dir, .. } => paths.push(out_dir),
            Made::Run { tree, .. } => paths.extend(tree.iter().map(|node| node.path.as_str())),
        }
        let bad_path = paths.into_iter().find(|path| !is_safe_path(path));
        bad_path.or_else(|| names.into_iter().find(|name| !is_safe_name(name)))
    }
}

/// Whether a relative path stays below what it is joined to.
fn is_safe_path(path: &str) -> bool {
    path.len() <= 4096 && path.split('/').all(is_safe_name)
}

impl Snapshot {
    /// The stored form.
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
    ///
    /// # Errors
    /// When it isn't one of this version, is too large, or names a path that leaves its directory.
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
    /// profile, another command. Of one place, the newer unit stays.
    pub fn absorb(&mut self, earlier: Snapshot) {
        let known: BTreeSet<String> = self.units.iter().map(SeedUnit::place).collect();
        let oldest_s = self.header.recorded_s.saturating_sub(UNIT_AGE_S);
        let same_tools = self.header.tools == earlier.header.tools;
        for unit in earlier.units {
            let stamp = earlier.header.sources.get(&unit.package_dir);
            let same_sources = match (stamp, self.header.sources.get(&unit.package_dir)) {
                (Some(earlier), Some(now)) => earlier == now,
                (stamp, None) => stamp.is_some(),
                (None, Some(_)) => false,
            };
            let is_usable = unit.seen_s >= oldest_s && same_sources && (same_tools || !unit.is_run());
            if let Some(stamp) = stamp.filter(|_| is_usable && !known.contains(&unit.place())) {
                self.header.sources.insert(unit.package_dir.clone(), *stamp);
                self.units.push(unit);
            }
        }
        self.units.sort_by_key(|unit| std::cmp::Reverse(unit.seen_s));
        self.units.truncate(UNITS_MAX);
        let used: BTreeSet<&str> = self.units.iter().map(|unit| unit.package_dir.as_str()).collect();
        self.header.sources.retain(|dir, _| used.contains(dir.as_str()));
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
