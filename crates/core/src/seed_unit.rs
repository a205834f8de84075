//! One unit of a snapshot: what Cargo calls it, what it rests on, what it left behind. Doesn't know how a snapshot is
//! stored, nor how a unit is observed or placed.

use serde::{Deserialize, Serialize};

use crate::cargo::layout::UnitDir;
use crate::digest::Digest;
use crate::entry::is_safe_name;
use crate::key::EntryKey;
use crate::provenance::Provenance;
use crate::record::Input;
use crate::tree::{self, Node, NodeKind, is_safe_path};

/// One unit as Cargo knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedUnit {
    /// Profile directory below the build directory: `debug`, `x86_64-unknown-linux-gnu/release`.
    pub profile: String,
    pub dir: UnitDir,
    /// The file with its fingerprint hash in that directory.
    pub name: String,
    /// The fingerprint hash, 16 hexadecimal digits.
    pub hash: String,
    pub deps: Vec<Dependency>,
    pub package: String,
    /// What the lockfile says beyond that: where the package comes from, and the checksum of its content.
    pub locked: String,
    pub package_dir: String,
    /// Stamp of the files in that directory, none of which had changed since the unit was made.
    pub sources: Digest,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// The target that it was compiled for, where one was named, and the identity of the compiler for that target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compiler: Option<(String, String)>,
    /// The other files of the fingerprint directory.
    pub files: Vec<SmallFile>,
    pub made: Made,
    /// The only target directory in which it is valid, where an output names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_to: Option<String>,
    /// Files outside the package and the toolchain that went in, and what they looked like.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<(Input, String)>,
    /// Programs and libraries that ran (proc macros, or the build script), and the environment that each could see.
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
    #[serde(default, skip_serializing_if = "Provenance::is_unknown")]
    pub provenance: Provenance,
}

/// A dependency: Cargo's word for its state, and what was there under that word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dependency {
    pub hash: String,
    /// Places with that hash, and the entry that each of them held. Cargo's hash doesn't cover contents: a unit that
    /// was built again under the same hash is another one.
    pub pins: Vec<(String, EntryKey)>,
}

/// A small file, kept inside the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SmallFile {
    pub name: String,
    /// Content, with root tokens where it is text.
    pub content: Content,
    /// Modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

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

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Made {
    /// A compile: its outputs are those of an entry.
    Compile { entry: EntryKey },
    /// A build script's run: output, messages and `OUT_DIR` are in an entry too.
    Run {
        entry: EntryKey,
        /// Modification time of the file with its standard output, in nanoseconds since 1970.
        output_ns: i64,
        /// Modification time of `invoked.timestamp`, in nanoseconds since 1970.
        invoked_ns: i64,
        /// Modification time of `root-output`: when it had ended, in nanoseconds since 1970.
        ended_ns: i64,
        /// Variables that it asked Cargo to watch, and digests of their values.
        asked: Vec<(String, Option<Digest>)>,
        /// What lies in `OUT_DIR`.
        tree: Vec<Node>,
    },
}

impl SeedUnit {
    /// A unit whose fingerprint `name` lies in `profile/dir`, with nothing else known of it.
    pub fn new(profile: &str, dir: UnitDir, name: &str, made: Made) -> Self {
        Self {
            profile: profile.to_owned(),
            dir,
            name: name.to_owned(),
            hash: String::new(),
            deps: Vec::new(),
            package: String::new(),
            locked: String::new(),
            package_dir: String::new(),
            sources: Digest::of(b""),
            source: String::new(),
            compiler: None,
            files: Vec::new(),
            made,
            bound_to: None,
            inputs: Vec::new(),
            macros: Vec::new(),
            cpu: None,
            took_ms: 0,
            seen_s: 0,
            provenance: Provenance::Here,
        }
    }

    /// `profile/dir`: one place in a target directory.
    pub fn place(&self) -> String {
        format!("{}/{}", self.profile, self.dir.name())
    }

    /// Whether this is the compile of a build script.
    pub fn is_script(&self) -> bool {
        matches!(self.made, Made::Compile { .. }) && self.name.starts_with("build-script-")
    }

    /// The entry that holds what was made.
    pub fn entry(&self) -> EntryKey {
        match &self.made {
            Made::Compile { entry } | Made::Run { entry, .. } => *entry,
        }
    }

    /// Whether this is a build script's run.
    pub fn is_run(&self) -> bool {
        matches!(self.made, Made::Run { .. })
    }

    /// Contents of the files in its `OUT_DIR`.
    pub fn blobs(&self) -> impl Iterator<Item = Digest> {
        let tree = match &self.made {
            Made::Run { tree, .. } => tree.as_slice(),
            Made::Compile { .. } => &[],
        };
        tree.iter().filter_map(|node| match &node.kind {
            NodeKind::File { blob, .. } => Some(*blob),
            NodeKind::Dir { .. } | NodeKind::Link { .. } => None,
        })
    }

    /// The newest time that placing the unit sets, in nanoseconds since 1970.
    pub fn newest_ns(&self) -> i64 {
        let files = self.files.iter().map(|file| file.mtime_ns);
        let made = match &self.made {
            Made::Compile { .. } => Vec::new(),
            Made::Run { output_ns, invoked_ns, ended_ns, tree, .. } => {
                let mut times = vec![*output_ns, *invoked_ns, *ended_ns];
                times.extend(tree.iter().filter_map(|node| match &node.kind {
                    NodeKind::File { mtime_ns, .. } => Some(*mtime_ns),
                    NodeKind::Dir { .. } | NodeKind::Link { .. } => None,
                }));
                times
            }
        };
        files.chain(made).max().unwrap_or(i64::MIN)
    }

    /// A path that could lead out of the directory that it is joined to.
    pub(crate) fn unsafe_path(&self) -> Option<&str> {
        let paths = [self.profile.as_str()];
        let mut names = vec![self.name.as_str()];
        names.extend(self.files.iter().map(|file| file.name.as_str()));
        let mut astray = None;
        if let Made::Run { tree, .. } = &self.made {
            astray = tree::astray(tree);
        }
        let bad_path = paths.into_iter().find(|path| !is_safe_path(path));
        bad_path.or_else(|| names.into_iter().find(|name| !is_safe_name(name))).or(astray)
    }
}
