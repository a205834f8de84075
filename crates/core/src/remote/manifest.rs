//! The manifest of an entry: a small JSON object that says what a pack holds, for whom, and who vouches for it. Knows
//! how bytes are framed for a signature, not how signing works.
//!
//! ```text
//! {"version":1,"key":…,"unit_key":…,"crate_name":"serde","package":"serde","package_version":"1.0.0",
//!  "target":"","mode":"build","profile":"opt-level=3","toolchain":…,"created_s":…,"compile_ms":…,
//!  "pack":{"digest":…,"size":…,"unpacked_size":…},"blobs":[{"digest":…,"size":…}],
//!  "signatures":[{"key":<64 hex>,"signature":<128 hex>}]}
//! ```
//! Digests are BLAKE3, in lower-case hexadecimal; sizes are in bytes. `target` is empty for the host. At most
//! [`MANIFEST_BYTES_MAX`] bytes; a newer version is ignored.

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::entry::{Entry, Evidence};
use crate::form::{self, FormError};
use crate::key::{EntryKey, Field, UnitKey, field};

pub const VERSION: u32 = 1;
const FORM: &str = "manifest";
/// Longest manifest that is read, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 1 << 20;
/// Largest pack that is read or written, in bytes. Below what one PUT may carry anywhere.
pub const PACK_BYTES_MAX: u64 = 4 << 30;
/// Most that one pack may unpack to, in bytes.
pub const UNPACKED_BYTES_MAX: u64 = 16 << 30;
/// Most that a pack may grow when it is unpacked; real outputs stay below 100 even where they are mostly zeros.
const RATIO_MAX: u64 = 1000;
/// Below this an unpacked size is never suspicious, in bytes.
const RATIO_FREE_BYTES: u64 = 1 << 20;
pub const BLOBS_MAX: usize = 4096;
/// Longest signature beside a manifest that is read, in bytes.
pub const SIGNATURE_BYTES_MAX: u64 = 4096;
/// Most signatures that are looked at.
pub const SIGNATURES_MAX: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pack {
    pub digest: Digest,
    /// Its length, in bytes.
    pub size: u64,
    /// Length of the tar stream inside, in bytes.
    pub unpacked_size: u64,
}

impl Pack {
    /// Whether it would unpack to more than any compression makes that small.
    pub(crate) fn is_bomb(&self) -> bool {
        self.unpacked_size > self.size.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackedBlob {
    pub digest: Digest,
    /// Its length, in bytes.
    pub size: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature {
    /// The Ed25519 public key, in hexadecimal.
    pub key: String,
    pub signature: String,
}

pub trait Signed {
    /// The bytes that a signature is over: a label of the kind, and everything but the signatures, in the order of the
    /// form.
    fn signed_bytes(&self) -> Vec<u8>;
    fn signatures(&self) -> &[Signature];
    fn signatures_mut(&mut self) -> &mut Vec<Signature>;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    version: u32,
    pub key: EntryKey,
    /// The unit that it is a result of.
    pub unit_key: UnitKey,
    /// `--crate-name`.
    pub crate_name: String,
    /// Cargo package and version; empty outside of packages.
    pub package: String,
    /// See `package`.
    pub package_version: String,
    /// Target triple, empty for the host.
    pub target: String,
    /// `build`, `check` or `clippy`.
    pub mode: String,
    /// What a Cargo profile decides, as the flags say it.
    pub profile: String,
    pub toolchain: String,
    /// When the compile ended, in seconds since 1970.
    pub created_s: u64,
    /// What the compile took, in milliseconds.
    pub compile_ms: u64,
    pub pack: Pack,
    /// Contents in the pack, in their order there.
    pub blobs: Vec<PackedBlob>,
    /// Who vouches for all of the above.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<Signature>,
}

/// Flags that a Cargo profile decides.
const PROFILE_FLAGS: &[&str] =
    &["opt-level", "debuginfo", "debug-assertions", "overflow-checks", "lto", "panic", "codegen-units"];

/// What a Cargo profile decides, from the fields of a unit key.
pub fn profile_of(unit_fields: &[Field]) -> String {
    let flag =
        |name: &&str| Some(format!("{name}={}", Field::value_of(unit_fields, &format!("flag -C {name}"))?));
    PROFILE_FLAGS.iter().filter_map(flag).collect::<Vec<_>>().join(" ")
}

impl Manifest {
    /// The manifest of an entry that was packed.
    pub fn new(
        key: EntryKey,
        entry: &Entry,
        evidence: &Evidence,
        pack: Pack,
        blobs: Vec<PackedBlob>,
    ) -> Self {
        let value = |name| Field::value_of(&evidence.unit_fields, name).unwrap_or_default().to_owned();
        Self {
            version: VERSION,
            key,
            unit_key: entry.unit,
            crate_name: entry.crate_name.clone(),
            package: entry.package.clone(),
            package_version: entry.package_version.clone(),
            target: entry.target.clone(),
            mode: value(field::MODE),
            profile: profile_of(&evidence.unit_fields),
            toolchain: value(field::COMPILER),
            created_s: entry.created_s,
            compile_ms: entry.compile_ms,
            pack,
            blobs,
            signatures: Vec::new(),
        }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads the JSON form of the manifest that is kept under the name of `key`.
    pub fn decode(bytes: &[u8], key: &EntryKey) -> Result<Self, FormError> {
        form::refuse(FORM, &[(bytes.len() as u64 > MANIFEST_BYTES_MAX, "more than a manifest may be long")])?;
        let manifest: Manifest = form::decode(bytes, (FORM, VERSION), |manifest: &Self| manifest.version)?;
        if manifest.key != *key {
            return Err(FormError::OtherEntry(FORM, manifest.key));
        }
        manifest.check()?;
        Ok(manifest)
    }

    fn check(&self) -> Result<(), FormError> {
        let Pack { size, unpacked_size, .. } = self.pack;
        let blob_bytes = self.blobs.iter().try_fold(0u64, |sum, blob| sum.checked_add(blob.size));
        let absurd = [
            (size > PACK_BYTES_MAX || size == 0, "a pack of impossible size"),
            (unpacked_size > UNPACKED_BYTES_MAX, "more content than is accepted"),
            (self.pack.is_bomb(), "content that no compression makes that small"),
            (self.blobs.len() > BLOBS_MAX, "more files than a compile has"),
            (blob_bytes.is_none_or(|bytes| bytes > unpacked_size), "files larger than the pack"),
            (self.signatures.len() > SIGNATURES_MAX, "too many signatures"),
        ];
        form::refuse(FORM, &absurd)
    }
}

impl Signed for Manifest {
    fn signed_bytes(&self) -> Vec<u8> {
        let unsigned = Manifest { signatures: Vec::new(), ..self.clone() };
        [b"kache manifest 1\n".as_slice(), &unsigned.encode()].concat()
    }

    fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    fn signatures_mut(&mut self) -> &mut Vec<Signature> {
        &mut self.signatures
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn sample() -> Manifest {
        let blob = PackedBlob { digest: Digest::of(b"rlib"), size: 4000 };
        let entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        let pack = Pack { digest: Digest::of(b"p"), size: 900, unpacked_size: 9000 };
        Manifest::new(EntryKey(Digest::of(b"e")), &entry, &Evidence::default(), pack, vec![blob])
    }

    #[test]
    fn json_form_round_trips_and_its_name_must_fit() {
        let manifest = sample();
        let bytes = manifest.encode();
        assert_eq!(Manifest::decode(&bytes, &manifest.key).expect("own output"), manifest);
        let other = EntryKey(Digest::of(b"other"));
        assert!(matches!(Manifest::decode(&bytes, &other), Err(FormError::OtherEntry(..))));
    }

    #[test]
    fn absurd_figures_are_refused() {
        type Change = fn(&mut Manifest);
        let changes: [Change; 8] = [
            |m| m.pack.size = 0,
            |m| m.pack.size = PACK_BYTES_MAX + 1,
            |m| m.pack.unpacked_size = UNPACKED_BYTES_MAX + 1,
            |m| m.pack.unpacked_size = 900 * RATIO_MAX + RATIO_FREE_BYTES,
            |m| m.blobs = vec![m.blobs[0]; BLOBS_MAX + 1],
            |m| m.blobs[0].size = 9001,
            |m| m.blobs = vec![PackedBlob { size: u64::MAX, ..m.blobs[0] }; 2],
            |m| m.signatures = vec![Signature { key: String::new(), signature: String::new() }; 9],
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut manifest = sample();
            change(&mut manifest);
            let decoded = Manifest::decode(&manifest.encode(), &manifest.key);
            assert!(matches!(decoded, Err(FormError::Absurd(..))), "{i}");
        }
        let newer = br#""version":1"#;
        let text = String::from_utf8(sample().encode()).expect("text");
        let text = text.replace(std::str::from_utf8(newer).expect("text"), r#""version":2"#);
        for newer in [text.as_str(), r#"{"version":2,"entry":{}}"#] {
            let decoded = Manifest::decode(newer.as_bytes(), &sample().key);
            assert!(matches!(decoded, Err(FormError::Newer(_, 2))), "{newer}");
        }
    }

    #[test]
    fn what_is_signed_covers_every_field_but_the_signatures() {
        let base = sample();
        let mut signed = base.clone();
        signed.signatures.push(Signature { key: "k".into(), signature: "s".into() });
        assert_eq!(base.signed_bytes(), signed.signed_bytes());
        type Change = fn(&mut Manifest);
        let changes: [Change; 6] = [
            |m| m.key = EntryKey(Digest::of(b"x")),
            |m| m.unit_key = UnitKey(Digest::of(b"x")),
            |m| m.pack.digest = Digest::of(b"x"),
            |m| m.blobs.clear(),
            |m| m.toolchain = "x".into(),
            |m| m.target = "x".into(),
        ];
        for (i, change) in changes.iter().enumerate() {
            let mut changed = base.clone();
            change(&mut changed);
            assert_ne!(changed.signed_bytes(), base.signed_bytes(), "{i}");
        }
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
            let _ = Manifest::decode(&bytes, &EntryKey(Digest::of(b"e")));
        }
    }
}
