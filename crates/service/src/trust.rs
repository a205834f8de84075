//! Whose entries and snapshots are believed: signs manifests with a key of this machine and checks signatures against the keys that
//! the settings trust. Knows nothing about buckets.
//!
//! Keys are Ed25519 in the forms that OpenSSL writes: `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout`,
//! as PEM or as the one line of base64 inside.

use std::collections::BTreeSet;
use std::fmt;

use kache_core::provenance::Provenance;
use kache_core::remote::manifest::{SIGNATURES_MAX, Signature, Signed};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

/// What stands before the 32 bytes of a private key (PKCS #8).
const PRIVATE_HEAD: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// What stands before the 32 bytes of a public key (SubjectPublicKeyInfo).
const PUBLIC_HEAD: &[u8] = &[0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

/// A text that is not a key. Never shows the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not an Ed25519 {0} key as `openssl genpkey -algorithm ed25519` and `openssl pkey -pubout` write them"
)]
pub struct NotAKey(&'static str);

/// Why a manifest is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    #[error("it is not signed, and only trusted keys are accepted")]
    Unsigned,
    #[error("it is signed by keys that are not trusted")]
    Strangers,
    /// Trusted keys signed it, and not enough of them.
    #[error("{0} of the {1} trusted keys signed it that `cache.remote.witnesses` asks for")]
    TooFew(usize, usize),
    /// A trusted key's signature is over something else.
    #[error("the signature of a trusted key is wrong: it was changed after it was signed")]
    Forged,
}

/// The keys in use. A machine that signs and names no keys to believe believes its own.
#[derive(Default)]
pub struct Trust {
    signing: Option<Ed25519KeyPair>,
    trusted: Vec<[u8; 32]>,
    /// How many of them must have signed the same; zero as good as one.
    witnesses: usize,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trust({} trusted, signs: {})", self.trusted.len(), self.signing.is_some())
    }
}

impl Trust {
    /// Keys from their texts.
    pub fn new(signing: Option<&str>, trusted: &[String]) -> Result<Self, NotAKey> {
        let signing = match signing {
            None => None,
            Some(text) => {
                let seed = key_bytes(text, PRIVATE_HEAD).ok_or(NotAKey("private"))?;
                Some(Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| NotAKey("private"))?)
            }
        };
        Self { signing, ..Self::default() }.trusting(trusted)
    }

    /// The same with these public keys to believe.
    pub fn trusting(self, trusted: &[String]) -> Result<Self, NotAKey> {
        let trusted = trusted.iter().map(|text| key_bytes(text, PUBLIC_HEAD).ok_or(NotAKey("public")));
        Ok(Self { trusted: trusted.collect::<Result<_, _>>()?, ..self })
    }

    /// The same where so many different keys must have signed the same bytes.
    pub fn with_witnesses(self, witnesses: usize) -> Self {
        Self { witnesses, ..self }
    }

    /// Whether one signature isn't enough. Then each stands for a compile: only what was made here is signed.
    pub fn wants_witnesses(&self) -> bool {
        self.witnesses > 1
    }

    /// Whether keys are in use: a manifest that is there already has to be looked at before it counts.
    pub fn is_particular(&self) -> bool {
        self.signing.is_some() || !self.trusted.is_empty()
    }

    /// Signs a manifest, where there is a key to sign with.
    pub fn sign(&self, manifest: &mut impl Signed) {
        let Some(signature) = self.signature(manifest) else { return };
        let signatures = manifest.signatures_mut();
        signatures.retain(|other| other.key != signature.key);
        signatures.truncate(SIGNATURES_MAX - 1);
        signatures.push(signature);
    }

    /// The signature of this machine's key, always the same for the same manifest; `None` without a key.
    pub fn signature(&self, manifest: &impl Signed) -> Option<Signature> {
        let pair = self.signing.as_ref()?;
        let signature = hex(pair.sign(&manifest.signed_bytes()).as_ref());
        Some(Signature { key: hex(pair.public_key().as_ref()), signature })
    }

    /// Trusted keys, in hexadecimal, whose signatures a manifest lacks and needs.
    pub fn missing(&self, manifest: &impl Signed) -> Vec<String> {
        let signed = signers(manifest, |key| self.is_accepted(key)).unwrap_or_default();
        if !self.wants_witnesses() || signed.len() >= self.witnesses {
            return Vec::new();
        }
        self.trusted.iter().map(|key| hex(key)).filter(|key| !signed.contains(key)).collect()
    }

    /// Who made what a manifest describes, if it may be used. Where no keys are in use that is anybody.
    ///
    /// # Errors
    /// When keys are in use and none that is believed signed it.
    pub fn judge(&self, manifest: &impl Signed) -> Result<Provenance, Untrusted> {
        if !self.is_particular() {
            let signer = signers(manifest, |_| true).ok().map(|mut signers| signers.swap_remove(0));
            return Ok(signer.map_or(Provenance::Unsigned, Provenance::Signed));
        }
        let own = self.own_key().filter(|_| self.trusted.is_empty());
        let accepted: Vec<[u8; 32]> = self.trusted.iter().copied().chain(own).collect();
        let mut signers = signers(manifest, |key| accepted.iter().any(|trusted| trusted[..] == *key))?;
        let needed = self.witnesses.max(1);
        if signers.len() < needed {
            return Err(Untrusted::TooFew(signers.len(), needed));
        }
        signers.truncate(needed);
        Ok(Provenance::Signed(signers.join(",")))
    }

    /// Whether this machine may put its name, or nobody's where no keys are in use, under what comes from there.
    pub fn vouches_for(&self, provenance: &Provenance) -> bool {
        self.accepts(provenance) && (!self.wants_witnesses() || provenance.is_here())
    }

    /// Whether what comes from there would come again: made here, or signed by as many keys as it takes.
    pub fn accepts(&self, provenance: &Provenance) -> bool {
        match provenance {
            _ if !self.is_particular() => true,
            Provenance::Here => true,
            Provenance::Signed(keys) => {
                let keys: BTreeSet<&str> = keys.split(',').collect();
                let is_accepted = |key: &&&str| unhex(key).is_some_and(|key| self.is_accepted(&key));
                keys.iter().filter(is_accepted).count() >= self.witnesses.max(1)
            }
            Provenance::Unknown | Provenance::Unsigned => false,
        }
    }

    /// Whether what comes from there was made here, or came with the signature of a key that is believed.
    pub fn believes(&self, provenance: &Provenance) -> bool {
        match provenance {
            Provenance::Here => true,
            _ => self.is_particular() && self.accepts(provenance),
        }
    }

    /// Whether there is a key to sign with.
    pub fn can_sign(&self) -> bool {
        self.signing.is_some()
    }

    /// Whether nobody who believes the same keys would use what this machine writes.
    pub fn is_mute(&self) -> bool {
        self.signing.is_none() && !self.trusted.is_empty()
    }

    /// Whether a manifest in the bucket may stay: this machine or another one that is trusted has signed it, as far as
    /// anybody here signs. So machines with keys of their own don't replace each other's.
    pub fn would_keep(&self, manifest: &impl Signed) -> Result<(), Untrusted> {
        if !self.is_particular() {
            return Ok(());
        }
        signers(manifest, |key| self.is_accepted(key)).map(drop)
    }

    fn own_key(&self) -> Option<[u8; 32]> {
        self.signing.as_ref().and_then(|pair| pair.public_key().as_ref().try_into().ok())
    }

    /// Whether a key is trusted or this machine's own.
    fn is_accepted(&self, key: &[u8]) -> bool {
        self.trusted.iter().copied().chain(self.own_key()).any(|accepted| accepted[..] == *key)
    }
}

/// The accepted keys whose signatures are right, each once, in hexadecimal; at least one.
fn signers(manifest: &impl Signed, is_accepted: impl Fn(&[u8]) -> bool) -> Result<Vec<String>, Untrusted> {
    let mut signers: Vec<String> = Vec::new();
    let message = manifest.signed_bytes();
    let mut verdict =
        if manifest.signatures().is_empty() { Untrusted::Unsigned } else { Untrusted::Strangers };
    for Signature { key, signature } in manifest.signatures() {
        let Some(key) = unhex(key).filter(|key| is_accepted(key)) else { continue };
        let signature = unhex(signature).unwrap_or_default();
        match UnparsedPublicKey::new(&ED25519, &key).verify(&message, &signature) {
            Ok(()) if signers.contains(&hex(&key)) => {}
            Ok(()) => signers.push(hex(&key)),
            Err(_) => verdict = Untrusted::Forged,
        }
    }
    if signers.is_empty() { Err(verdict) } else { Ok(signers) }
}

/// The 32 bytes of a key behind its fixed head.
fn key_bytes(text: &str, head: &[u8]) -> Option<[u8; 32]> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let bytes = unbase64(&lines.collect::<String>())?;
    bytes.strip_prefix(head)?.try_into().ok()
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let value = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let mut bytes = Vec::new();
    let (mut bits, mut count) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(value(c)?);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 0xff) as u8);
        }
    }
    Some(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len() / 2).map(|i| u8::from_str_radix(&text[2 * i..2 * i + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::digest::Digest;
    use kache_core::entry::{Entry, Evidence};
    use kache_core::key::{EntryKey, UnitKey};
    use kache_core::remote::manifest::{Manifest, Pack};

    // Written by OpenSSL.
    const PRIVATE: &str = "-----BEGIN PRIVATE KEY-----\n\
        MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI\n-----END PRIVATE KEY-----\n";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";
    const OTHER: &str = "-----BEGIN PUBLIC KEY-----\n\
        MCowBQYDK2VwAyEA5SDdQp7cUh60ufNBoCWPkcoZlkJO4s/Z1u1Lroy1tjk=\n-----END PUBLIC KEY-----\n";

    const ANOTHER: &str = "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";

    fn manifest() -> Manifest {
        let entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        let pack = Pack { digest: Digest::of(b"p"), size: 900, unpacked_size: 9000 };
        Manifest::new(EntryKey(Digest::of(b"e")), &entry, &Evidence::default(), pack, Vec::new())
    }

    fn trust(signing: Option<&str>, trusted: &[&str]) -> Trust {
        let trusted: Vec<_> = trusted.iter().map(|key| (*key).to_owned()).collect();
        Trust::new(signing, &trusted).expect("keys")
    }

    #[test]
    fn only_what_a_trusted_key_signed_is_believed() {
        let (unsigned, mut signed) = (manifest(), manifest());
        let signer = trust(Some(PRIVATE), &[]);
        signer.sign(&mut signed);
        signer.sign(&mut signed);
        assert_eq!(signed.signatures.len(), 1);
        let mut changed = signed.clone();
        changed.pack.digest = Digest::of(b"poison");
        let anybody = trust(None, &[]);
        let ours = trust(None, &[OTHER, PUBLIC]);
        let others = trust(None, &[OTHER]);
        let by_us = || Ok(Provenance::Signed(signed.signatures[0].key.clone()));
        for (trust, manifest, expected) in [
            (&anybody, &unsigned, Ok(Provenance::Unsigned)),
            (&anybody, &changed, Ok(Provenance::Unsigned)),
            (&anybody, &signed, by_us()),
            (&ours, &signed, by_us()),
            (&ours, &unsigned, Err(Untrusted::Unsigned)),
            (&ours, &changed, Err(Untrusted::Forged)),
            (&others, &signed, Err(Untrusted::Strangers)),
            // Without a list, its own key is the only one.
            (&signer, &signed, by_us()),
            (&signer, &unsigned, Err(Untrusted::Unsigned)),
            (&trust(Some(ANOTHER), &[]), &signed, Err(Untrusted::Strangers)),
            (&trust(Some(PRIVATE), &[OTHER]), &signed, Err(Untrusted::Strangers)),
        ] {
            assert_eq!(trust.judge(manifest), expected, "{trust:?}");
        }
        for (trust, manifest, expected) in [
            (&anybody, &unsigned, Ok(())),
            (&signer, &signed, Ok(())),
            (&signer, &unsigned, Err(Untrusted::Unsigned)),
            (&signer, &changed, Err(Untrusted::Forged)),
            (&trust(Some(ANOTHER), &[PUBLIC]), &signed, Ok(())),
            (&trust(Some(ANOTHER), &[OTHER]), &signed, Err(Untrusted::Strangers)),
            (&trust(Some(PRIVATE), &[OTHER]), &signed, Ok(())),
        ] {
            assert_eq!(trust.would_keep(manifest), expected, "{trust:?}");
        }
        assert!(ours.is_mute() && !anybody.is_mute() && !signer.is_mute());
        let Ok(signed_by_us) = by_us() else { unreachable!() };
        for (trust, vouched, believed) in [
            (&anybody, [true; 4], [true, false, false, false]),
            (&signer, [true, true, false, false], [true, true, false, false]),
            (&ours, [true, true, false, false], [true, true, false, false]),
            (&others, [true, false, false, false], [true, false, false, false]),
        ] {
            let kinds = [Provenance::Here, signed_by_us.clone(), Provenance::Unsigned, Provenance::Unknown];
            assert_eq!(kinds.each_ref().map(|kind| trust.vouches_for(kind)), vouched, "{trust:?}");
            assert_eq!(kinds.each_ref().map(|kind| trust.believes(kind)), believed, "{trust:?}");
        }
    }

    #[test]
    fn texts_that_are_no_keys_are_refused_and_not_shown() {
        for bad in ["", "secret!", PUBLIC, &PUBLIC[..40], &"A".repeat(64)] {
            let error = Trust::new(Some(bad), &[]).expect_err("no private key").to_string();
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
        assert!(Trust::new(None, &[PRIVATE.to_owned()]).is_err());
        assert!(!format!("{:?}", trust(Some(PRIVATE), &[])).contains("LP2j"));
    }
}
