//! Takes an entry from the bucket into the store: manifest, signature, pack, digests, and only then is it visible.

use std::sync::atomic::Ordering;

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::{MANIFEST_BYTES_MAX, Manifest};
use kache_store::fault::{self, Point};
use kache_store::incoming::Scratch;

use super::{Refusal, Transfer, TransferError, Untrusted, refuse};
use crate::pack::{Note, UnpackError, unpack};
use crate::remote::{Fault, RemoteError};

/// What fetching an entry came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// It is in the store now.
    Imported {
        /// Bytes that came over the network.
        packed_bytes: u64,
        /// Bytes that the store didn't have.
        new_bytes: u64,
    },
    Known,
    /// The bucket doesn't have it, as far as it says.
    Absent,
}

impl Transfer {
    /// The same, for entries that the build `session` has not asked for yet: they say so, see
    /// [`kache_core::entry::Entry::prefetched_for`].
    pub fn ahead_of(&self, session: &str) -> Self {
        Self { session: session.to_owned(), ..self.clone() }
    }

    /// Takes an entry into the store, with its input record.
    ///
    /// # Errors
    /// When the bucket can't be read, when what it has is not to be believed, or when the store can't be written.
    /// Nothing is visible then that wasn't before.
    pub async fn fetch_entry(&self, dir: &CrateDir, key: &EntryKey) -> Result<Fetched, TransferError> {
        if self.has_here(*key).await? {
            return Ok(Fetched::Known);
        }
        match self.fetch_manifest(dir, key).await? {
            Some(manifest) => self.fetch_described(dir, manifest).await,
            None => Ok(Fetched::Absent),
        }
    }

    /// The manifest of an entry, checked and believed; `None` where there is none, or one that only a newer kache
    /// understands.
    pub async fn fetch_manifest(
        &self,
        dir: &CrateDir,
        key: &EntryKey,
    ) -> Result<Option<Manifest>, TransferError> {
        let name = self.keys.manifest(dir, key);
        let bytes = match self.retry(|| self.remote.get(&name, MANIFEST_BYTES_MAX)).await {
            Err(error) if error.fault == Fault::TooLarge => {
                self.note_broken(key);
                return Err(error.into());
            }
            result => self.unless_missing(result)?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        let believed = match Manifest::decode(&bytes, key) {
            Ok(mut manifest) => {
                self.add_witnesses(dir, &mut manifest).await?;
                self.policy.trust.judge(&manifest).map(|_| manifest).map_err(Refusal::from)
            }
            Err(error) => Err(error.into()),
        };
        match believed {
            Ok(manifest) => Ok(Some(manifest)),
            Err(Refusal::Form(error)) if error.is_newer() => Ok(None),
            // It is whole, and others may still sign it.
            Err(Refusal::Untrusted(why @ Untrusted::TooFew(..))) => {
                tracing::debug!(name, %why, "an entry stays where it is");
                self.shared.unwitnessed.fetch_add(1, Ordering::Relaxed);
                Ok(None)
            }
            Err(refusal) => {
                self.note_broken(key);
                Err(refuse(&name, refusal))
            }
        }
    }

    /// Takes the entry that a manifest describes into the store.
    ///
    /// # Errors
    /// As [`Transfer::fetch_entry`].
    pub async fn fetch_described(
        &self,
        dir: &CrateDir,
        manifest: Manifest,
    ) -> Result<Fetched, TransferError> {
        let judged = self.policy.trust.judge(&manifest);
        let provenance = judged.map_err(|why| refuse(&self.keys.manifest(dir, &manifest.key), why))?;
        let name = self.keys.pack(dir, &manifest.key);
        let scratch = self.blocking(|this| this.store.scratch()).await??;
        let odd = |why: &str| Refusal::Pack(UnpackError::Refused(why.to_owned()));
        let refusal = match self.unless_missing(self.download(&name, &manifest, &scratch).await) {
            Ok(Some(_)) => None,
            Ok(None) => Some(Refusal::NoPack),
            Err(error) if error.fault == Fault::TooLarge => Some(odd("is longer than its manifest says")),
            Err(error) if error.fault == Fault::Protocol => {
                Some(odd(&format!("can't be read whole: {}", error.detail)))
            }
            Err(error) => return Err(error.into()),
        };
        if let Some(refusal) = refusal {
            self.note_broken(&manifest.key);
            return Err(refuse(&name, refusal));
        }
        fault::point(Point::PackDownloaded);
        let key = manifest.key;
        let packed_bytes = manifest.pack.size;
        let unpacked = self
            .on_a_core(move |this| {
                let file = scratch.reopen()?;
                unpack(&this.store, &manifest, file, &Note { session: &this.session, provenance })
            })
            .await?;
        match unpacked {
            Ok(unpacked) => Ok(Fetched::Imported { packed_bytes, new_bytes: unpacked.new_bytes }),
            Err(UnpackError::Store(error)) => Err(error.into()),
            Err(error) => {
                self.note_broken(&key);
                Err(refuse(&name, Refusal::Pack(error)))
            }
        }
    }

    pub(super) async fn download(
        &self,
        name: &str,
        manifest: &Manifest,
        scratch: &Scratch,
    ) -> Result<u64, RemoteError> {
        self.retry(|| async {
            scratch
                .file()
                .set_len(0)
                .map_err(|error| RemoteError::new("read", name, Fault::Local, error.to_string()))?;
            let size = self.remote.download(name, manifest.pack.size, scratch.path()).await?;
            // A body that ends early is trouble on the way, as likely as a short object.
            if size < manifest.pack.size {
                let detail = format!("{size} bytes came where {} were announced", manifest.pack.size);
                return Err(RemoteError::new("read", name, Fault::Protocol, detail));
            }
            Ok(size)
        })
        .await
    }

    /// Whether the store has the entry with all its blobs. Where keys are in use, one that came from elsewhere before
    /// doesn't count: the bucket may have what a believed key signed.
    pub async fn has_here(&self, key: EntryKey) -> Result<bool, TransferError> {
        self.blocking(move |this| {
            let Some(entry) = this.store.peek_entry(&key)? else { return Ok(false) };
            if !this.policy.trust.accepts(&entry.provenance) {
                return Ok(false);
            }
            let blobs = entry.blobs().collect::<Vec<_>>();
            Ok(blobs.iter().all(|digest| this.store.blob_path(digest).exists()))
        })
        .await?
    }
}
