//! Snapshots in the bucket: what machines with one lockfile, compiler and `CARGO_HOME` have recorded, joined in one
//! object. Knows its form, which figures are believed and how two machines' words are joined; not how bytes are compressed
//! or signed.
//!
//! ```text
//! head newline payload                     the payload is compressed with zstd
//! head = {"version":1,"about":…,"pack":{"digest":…,"size":…,"unpacked_size":…},
//!         "parts":[{"context":…,"size":…}],"signatures":[…]}
//! ```
//! `about` is the hash in the object's name, `pack` is what the payload is, and a part is one snapshot of it, in the
//! form of [`crate::snapshot`], newest first. A signature is over the head, which has the payload's digest, so it
//! covers everything. At most [`OBJECT_BYTES_MAX`] bytes; a newer version is left alone.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::keys::Label;
use super::manifest::{Pack, SIGNATURES_MAX, Signature, Signed};
use crate::digest::Digest;
use crate::form::{self, FormError};
use crate::key::KeyWriter;
use crate::seed_unit::SeedUnit;
use crate::snapshot::{self, Snapshot};

pub const VERSION: u32 = 1;
const FORM: &str = "snapshots";
/// Longest object that is read or written, in bytes.
pub const OBJECT_BYTES_MAX: u64 = 32 << 20;
/// Longest payload before it is compressed, in bytes.
pub const PAYLOAD_BYTES_MAX: u64 = 64 << 20;
/// Most snapshots in one object; the oldest go first.
pub const PARTS_MAX: usize = 8;
const HEAD_BYTES_MAX: usize = 64 << 10;
/// An object that has all that a machine knows is written again when it is this old, in seconds: units that no build has
/// shown for a month are dropped, and those in use have to stay.
const RENEW_S: u64 = 86_400;

/// What snapshots are about: who has the same can use them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The manifest key; usually the host's target triple.
    pub manifest_key: Label,
    /// Digest of `Cargo.lock`.
    pub lockfile: Digest,
    /// Identity of the compiler for the host.
    pub compiler: Digest,
    pub cargo_home: String,
}

impl About {
    /// The hash in the object's name, which needs no listing to be found. Snapshots of another form have another.
    pub fn hash(&self) -> Digest {
        let mut key = KeyWriter::new("shared snapshots");
        key.text("form", snapshot::VERSION.to_string());
        key.text("manifest key", self.manifest_key.to_string());
        key.digest("lockfile", self.lockfile);
        key.digest("compiler", self.compiler);
        key.text("cargo home", self.cargo_home.as_str());
        key.finish().0
    }

    /// Whether a snapshot is about the same, by its own words.
    pub fn is_of(&self, snapshot: &Snapshot) -> bool {
        let header = &snapshot.header;
        (header.lock, header.compiler) == (self.lockfile, Some(self.compiler))
            && header.cargo_home == self.cargo_home
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub context: Digest,
    /// Its length, in bytes.
    pub size: u64,
}

/// What comes before the payload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    version: u32,
    /// See [`About::hash`].
    pub about: Digest,
    pub pack: Pack,
    pub parts: Vec<Part>,
    /// Who vouches for all of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

impl Head {
    pub fn new(about: &About, pack: Pack, parts: Vec<Part>) -> Self {
        Self { version: VERSION, about: about.hash(), pack, parts, signatures: Vec::new() }
    }

    pub fn encode(&self, payload: &[u8]) -> Vec<u8> {
        [&serde_json::to_vec(self).unwrap_or_default(), b"\n".as_slice(), payload].concat()
    }

    /// Reads an object that is kept under the name of `about`: the head, and the payload, which is the one that the head
    /// describes.
    pub fn decode<'b>(bytes: &'b [u8], about: &About) -> Result<(Self, &'b [u8]), FormError> {
        let end = bytes.iter().take(HEAD_BYTES_MAX).position(|byte| *byte == b'\n');
        let (line, payload) = bytes.split_at(end.ok_or(FormError::Absurd(FORM, "no end of itself"))?);
        let payload = &payload[1..];
        let head: Head = form::decode(line, (FORM, VERSION), |head: &Self| head.version)?;
        if head.about != about.hash() {
            return Err(FormError::OtherBuild(FORM));
        }
        head.check()?;
        if payload.len() as u64 != head.pack.size || Digest::of(payload) != head.pack.digest {
            return Err(damaged("the payload is not the one that the head describes"));
        }
        Ok((head, payload))
    }

    fn check(&self) -> Result<(), FormError> {
        let Pack { size, unpacked_size, .. } = self.pack;
        let sum = self.parts.iter().try_fold(0u64, |sum, part| sum.checked_add(part.size));
        let contexts: BTreeSet<_> = self.parts.iter().map(|part| part.context).collect();
        let absurd = [
            (size > OBJECT_BYTES_MAX, "a payload of impossible size"),
            (unpacked_size > PAYLOAD_BYTES_MAX, "more than is accepted"),
            (self.pack.is_bomb(), "a payload that no compression makes that small"),
            (self.parts.len() > PARTS_MAX, "too many snapshots"),
            (contexts.len() != self.parts.len(), "one snapshot twice"),
            (sum != Some(unpacked_size), "parts that don't make the whole"),
            (self.signatures.len() > SIGNATURES_MAX, "too many signatures"),
        ];
        form::refuse(FORM, &absurd)
    }

    /// The snapshots of a decompressed payload: each what its part says, and about what the object's name says.
    pub fn split(&self, payload: &[u8], about: &About, now_s: u64) -> Result<Vec<Snapshot>, FormError> {
        let mut rest = payload;
        let mut snapshots = Vec::new();
        for part in &self.parts {
            let size = usize::try_from(part.size).ok().filter(|size| *size <= rest.len());
            let (bytes, after) =
                rest.split_at(size.ok_or_else(|| damaged("the payload ends before its last snapshot"))?);
            rest = after;
            let mut found = Snapshot::decode(bytes).map_err(|error| damaged(&format!("it holds {error}")))?;
            if found.header.context != part.context || !about.is_of(&found) {
                return Err(FormError::OtherBuild(FORM));
            }
            // A unit from the future would never be too old.
            found.header.recorded_s = found.header.recorded_s.min(now_s);
            found.units.iter_mut().for_each(|unit| unit.seen_s = unit.seen_s.min(now_s));
            snapshots.push(found);
        }
        if rest.is_empty() {
            Ok(snapshots)
        } else {
            Err(damaged("the payload goes on behind its last snapshot"))
        }
    }
}

/// The payload isn't the one that the head describes, or not what it should be.
pub fn damaged(how: &str) -> FormError {
    FormError::Damaged(FORM, how.to_owned())
}

impl Signed for Head {
    fn signed_bytes(&self) -> Vec<u8> {
        let unsigned = Head { signatures: Vec::new(), ..self.clone() };
        [b"kache snapshots 1\n".as_slice(), &serde_json::to_vec(&unsigned).unwrap_or_default()].concat()
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn signatures_mut(&mut self) -> &mut Vec<Signature> {
        &mut self.signatures
    }
}

/// The payload of these snapshots, and its parts. The oldest are left out where it would be too long; `None` where even
/// the newest one is.
pub fn payload(snapshots: &[Snapshot]) -> Option<(Vec<u8>, Vec<Part>)> {
    let mut bytes = Vec::new();
    let mut parts = Vec::new();
    for snapshot in snapshots.iter().take(PARTS_MAX) {
        let part = snapshot.encode();
        if (bytes.len() + part.len()) as u64 > PAYLOAD_BYTES_MAX {
            break;
        }
        parts.push(Part { context: snapshot.header.context, size: part.len() as u64 });
        bytes.extend(part);
    }
    (!parts.is_empty() || snapshots.is_empty()).then_some((bytes, parts))
}

/// What both know: `mine` in front, each joined with what is known of the same context, then the others.
pub fn join(mine: Vec<Snapshot>, theirs: Vec<Snapshot>) -> Vec<Snapshot> {
    let mut theirs: BTreeMap<Digest, (usize, Snapshot)> = theirs
        .into_iter()
        .enumerate()
        .map(|(place, snapshot)| (snapshot.header.context, (place, snapshot)))
        .collect();
    let mut joined: Vec<Snapshot> = Vec::new();
    for mut snapshot in mine {
        if let Some((_, known)) = theirs.remove(&snapshot.header.context) {
            snapshot.absorb(known);
        }
        joined.push(snapshot);
    }
    let mut others: Vec<(usize, Snapshot)> = theirs.into_values().collect();
    others.sort_by_key(|(place, _)| *place);
    joined.extend(others.into_iter().map(|(_, snapshot)| snapshot));
    joined
}

/// Whether writing `mine` would tell nobody anything: each unit is known as it is, and lately.
pub fn covers(theirs: &[Snapshot], mine: &[Snapshot]) -> bool {
    let same = |unit: &SeedUnit, other: &SeedUnit| {
        let SeedUnit { took_ms, seen_s, .. } = *other;
        SeedUnit { took_ms, seen_s, ..unit.clone() } == *other
    };
    mine.iter().all(|snapshot| {
        known_of(theirs, snapshot).is_some_and(|(known, places)| {
            snapshot.header.recorded_s < known.header.recorded_s.saturating_add(RENEW_S)
                && snapshot
                    .units
                    .iter()
                    .all(|unit| places.get(&unit.place()).is_some_and(|other| same(unit, other)))
        })
    })
}

/// Whether no unit of `mine` is missing, perhaps as another machine has made it: for what is read back after writing.
pub fn has_places(theirs: &[Snapshot], mine: &[Snapshot]) -> bool {
    mine.iter().all(|snapshot| {
        known_of(theirs, snapshot)
            .is_some_and(|(_, places)| snapshot.units.iter().all(|unit| places.contains_key(&unit.place())))
    })
}

fn known_of<'s>(
    theirs: &'s [Snapshot],
    snapshot: &Snapshot,
) -> Option<(&'s Snapshot, BTreeMap<String, &'s SeedUnit>)> {
    let known = theirs.iter().find(|other| other.header.context == snapshot.header.context)?;
    Some((known, known.units.iter().map(|unit| (unit.place(), unit)).collect()))
}

#[cfg(test)]
#[path = "shared_tests.rs"]
mod tests;
