//! What a build script left in its `OUT_DIR`: directories, links and files, in the order in which they are made. Knows
//! nothing about where contents are kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;

/// One thing in an `OUT_DIR`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Path below `OUT_DIR`.
    pub path: String,
    pub kind: NodeKind,
}

/// What a thing in an `OUT_DIR` is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NodeKind {
    /// A directory with these permission bits.
    Dir { mode: u32 },
    /// A symbolic link; where it leads, with tokens.
    Link { to: String },
    File {
        /// Its content; with tokens where `tokens`.
        blob: Digest,
        mode: u32,
        /// Modification time, in nanoseconds since 1970.
        mtime_ns: i64,
        /// Whether local directories are to be put in for tokens.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        tokens: bool,
    },
}

/// The first path that could lead out of `OUT_DIR`, that is there twice, or whose folder isn't a folder that came before
/// it: below a link it would be somewhere else.
pub fn astray(tree: &[Node]) -> Option<&str> {
    let mut folders = BTreeSet::from([""]);
    let mut all = BTreeSet::new();
    tree.iter().map(|node| (node, node.path.as_str())).find_map(|(node, path)| {
        let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
        let is_fine = is_safe_path(path) && folders.contains(parent) && all.insert(path);
        if matches!(node.kind, NodeKind::Dir { .. }) {
            folders.insert(path);
        }
        (!is_fine).then_some(path)
    })
}

/// Whether a relative path stays below what it is joined to.
pub(crate) fn is_safe_path(path: &str) -> bool {
    path.len() <= 4096 && path.split('/').all(is_safe_name)
}

/// Whether `name` is one plain path component that can't leave the directory it is joined to.
pub fn is_safe_name(name: &str) -> bool {
    !name.is_empty() && name.len() <= 255 && name != "." && name != ".." && !name.contains(['/', '\\', '\0'])
}
