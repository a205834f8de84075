//! Signatures of several machines for one entry. Each witness writes an object of its own beside the manifest, so that two
//! never overwrite each other's and an earlier kache doesn't notice. It signs the bytes that the publisher signed, pack
//! included, after its own compile came to the same.

use kache_core::entry::Entry;
use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::{MANIFEST_BYTES_MAX, Manifest, SIGNATURE_BYTES_MAX, Signature};
use kache_core::verify::deviations;

use super::{Refusal, Transfer, TransferError, refuse};
use crate::pack::{UnpackError, entry_of};
use crate::remote::{Body, Fault};

/// What comparing an entry of the bucket with this machine's own compile came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attested {
    /// They are the same, and this machine's signature is there now.
    Signed,
    Already,
    /// The bucket doesn't have the entry, or the store no result of a compile of its own.
    Absent,
    Differs(Vec<String>),
}

impl Transfer {
    /// Whether this machine has a key to sign with.
    pub fn can_sign(&self) -> bool {
        self.policy.trust.can_sign()
    }

    /// Signs an entry that others have published, if this machine made the same of the same.
    pub async fn attest(&self, key: EntryKey) -> Result<Attested, TransferError> {
        let made = self.blocking(move |this| this.store.peek_entry(&key)).await??;
        let made = made.filter(|entry| entry.provenance.is_here());
        let Some(made) = made else { return Ok(Attested::Absent) };
        let Some(dir) = CrateDir::of(&made.package, &made.crate_name) else { return Ok(Attested::Absent) };
        let name = self.keys.manifest(&dir, &key);
        let bytes = self.unless_missing(self.retry(|| self.remote.get(&name, MANIFEST_BYTES_MAX)).await)?;
        let Some(bytes) = bytes else { return Ok(Attested::Absent) };
        let manifest = match Manifest::decode(&bytes, &key) {
            Ok(manifest) => manifest,
            Err(error) if error.is_newer() => return Ok(Attested::Absent),
            Err(error) => return Err(refuse(&name, error)),
        };
        let Some(own) = self.policy.trust.signature(&manifest) else { return Ok(Attested::Absent) };
        if manifest.signatures.contains(&own)
            || self.beside(&dir, &key, &own.key).await?.as_ref() == Some(&own)
        {
            return Ok(Attested::Already);
        }
        let theirs = self.entry_in_pack(&dir, manifest).await?;
        let found = deviations(&theirs, &made);
        if !found.is_empty() {
            return Ok(Attested::Differs(found.iter().map(ToString::to_string).collect()));
        }
        let beside = self.keys.signature(&dir, &key, &own.key);
        let body = Body::of(serde_json::to_vec(&own).unwrap_or_default());
        self.retry(|| self.remote.put(&beside, body.clone())).await?;
        Ok(Attested::Signed)
    }

    /// Adds what witnesses have signed of a manifest, as far as it takes that to believe it.
    pub(super) async fn add_witnesses(
        &self,
        dir: &CrateDir,
        manifest: &mut Manifest,
    ) -> Result<(), TransferError> {
        for signer in self.policy.trust.missing(manifest) {
            if let Some(signature) = self.beside(dir, &manifest.key, &signer).await? {
                manifest.signatures.push(signature);
            }
            if self.policy.trust.missing(manifest).is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// A signature that lies beside a manifest; `None` also for what isn't one.
    async fn beside(
        &self,
        dir: &CrateDir,
        key: &EntryKey,
        signer: &str,
    ) -> Result<Option<Signature>, TransferError> {
        let name = self.keys.signature(dir, key, signer);
        let bytes = match self.retry(|| self.remote.get(&name, SIGNATURE_BYTES_MAX)).await {
            Err(error) if error.fault == Fault::TooLarge => None,
            bytes => self.unless_missing(bytes)?,
        };
        let signature = bytes.and_then(|bytes| serde_json::from_slice::<Signature>(&bytes).ok());
        Ok(signature.filter(|signature| signature.key == signer))
    }

    /// The entry in the pack that a manifest describes. Nothing of it gets into the store.
    async fn entry_in_pack(&self, dir: &CrateDir, manifest: Manifest) -> Result<Entry, TransferError> {
        let key = manifest.key;
        let name = self.keys.pack(dir, &key);
        let scratch = self.blocking(|this| this.store.scratch()).await??;
        if self.unless_missing(self.download(&name, &manifest, &scratch).await)?.is_none() {
            return Err(refuse(&name, Refusal::NoPack));
        }
        let read = self
            .on_a_core(move |_| {
                let file = scratch.reopen()?;
                entry_of(&manifest, file)
            })
            .await?;
        read.map_err(|error: UnpackError| {
            self.note_broken(&key);
            refuse(&name, Refusal::Pack(error))
        })
    }
}
