//! Members of a pack: which names it may hold and in which order. Knows nothing about tar or compression.
//!
//! A pack is a tar stream of regular files: `entry.json`, `evidence.json`, then `blobs/<digest>` for each content, in
//! the manifest's order. Anything else is refused: other names, repetitions, links, devices, folders.

use std::fmt;

use crate::digest::Digest;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Member {
    Entry,
    Evidence,
    Blob(Digest),
}

impl Member {
    pub fn parse(name: &[u8]) -> Option<Self> {
        match std::str::from_utf8(name).ok()? {
            "entry.json" => Some(Member::Entry),
            "evidence.json" => Some(Member::Evidence),
            name => Some(Member::Blob(name.strip_prefix("blobs/")?.parse().ok()?)),
        }
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Member::Entry => f.write_str("entry.json"),
            Member::Evidence => f.write_str("evidence.json"),
            Member::Blob(digest) => write!(f, "blobs/{digest}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_names_of_the_form_are_names() {
        for member in [Member::Entry, Member::Evidence, Member::Blob(Digest::of(b"x"))] {
            assert_eq!(Member::parse(member.to_string().as_bytes()), Some(member));
        }
        let digest = Digest::of(b"x");
        for bad in [
            String::new(),
            "../entry.json".into(),
            "/entry.json".into(),
            "blobs/".into(),
            "blobs/../x".into(),
            format!("blobs/{digest}/"),
            format!("blobs//{digest}"),
            format!("./blobs/{digest}"),
            digest.to_string(),
        ] {
            assert_eq!(Member::parse(bad.as_bytes()), None, "{bad}");
        }
        assert_eq!(Member::parse(b"\xff"), None);
    }
}
