//! Puts an entry into the bucket, unless it has to stay here. A pack is written before its manifest, so what can be
//! listed can be fetched.

use kache_core::entry::{Entry, Evidence};
use kache_core::key::EntryKey;
use kache_core::provenance::Provenance;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::{MANIFEST_BYTES_MAX, Manifest};
use kache_core::remote::{origin, records};
use kache_store::Store;
use kache_store::fault::{self, Point};

use super::inputs::Theirs;
use super::{Attested, BODY_UNIT_BYTES, BROKEN_MEMO, Policy, Transfer, TransferError};
use crate::pack::{PackError, Packed, pack};
use crate::remote::{Body, Fault, Put, RemoteError};

/// Packs up to this size travel from memory, so that the server can check their hash, in bytes.
const MEMORY_BYTES_MAX: u64 = 4 << 20;

/// What pushing an entry came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// It is in the bucket now; so many bytes went there.
    Uploaded(u64),
    Present,
    Kept(Kept),
}

/// Why an entry stays on this machine.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Kept {
    #[error("depends on {0}, which looks like a credential")]
    Secret(String),
    #[error("{0:?} can't be the name of an object")]
    Name(String),
    /// No other machine would look at these.
    #[error("read devices or files of the kernel")]
    Inputs,
    #[error("can't be signed here, and only signed entries are trusted")]
    Unsigned,
    #[error("{}", from_where(.0))]
    Foreign(Provenance),
    #[error("came from a remote, and with witnesses only what was made here is signed")]
    Unwitnessed,
    /// That kache may push it.
    #[error("is of a newer kache")]
    Newer,
    /// Or what made its key is.
    #[error("is no longer in the store")]
    Gone,
}

fn from_where(provenance: &Provenance) -> String {
    match provenance {
        Provenance::Unknown => {
            "was stored by a kache that didn't note where it came from, and isn't signed here".to_owned()
        }
        Provenance::Signed(key) => format!("was signed by the key {key}, which isn't trusted"),
        _ => "came unsigned from a remote, and isn't signed here".to_owned(),
    }
}

impl Transfer {
    /// Puts an entry and its input record into the bucket, unless they are there or have to stay here.
    ///
    /// # Errors
    /// When the store can't be read or the bucket can't be written. The entry is then not visible in the bucket,
    /// unless its pack and manifest were there.
    pub async fn push_entry(&self, key: EntryKey) -> Result<Pushed, TransferError> {
        let Ready { dir, entry, evidence } = match self.prepare(key).await? {
            Ok(ready) => ready,
            Err(kept) => return Ok(Pushed::Kept(kept)),
        };
        let unit = entry.unit;
        // Records are written last: where a unit has none, none of its entries was pushed to the end. Runs of build
        // scripts never have any.
        let mine = self.publishable(unit, key).await?;
        let theirs = if mine.records.is_empty() { None } else { Some(self.their_inputs(&dir, &unit).await?) };
        let is_new = matches!(theirs, Some(Theirs::Absent)) && !self.policy.trust.is_particular();
        let is_broken = self.is_broken(&key);
        let pushed = if !is_broken && !is_new && self.has(&dir, &key).await? {
            if self.policy.trust.wants_witnesses()
                && let Attested::Differs(found) = self.attest(key).await?
            {
                tracing::warn!(%key, ?found, "what another machine pushed isn't what was made here; it isn't signed");
            }
            Pushed::Present
        } else {
            let packed = self.pack(key, entry, evidence).await?;
            self.upload(&dir, &key, packed).await?
        };
        if is_broken {
            self.blocking(move |this| this.store.memo_forget(BROKEN_MEMO, &key.0)).await??;
        }
        // After an upload others may have written records, too: only a server that doesn't let them be overwritten need
        // not be asked again.
        let is_safe = is_new && self.shared.keeps_what_is_there.get() == Some(&true);
        let theirs = theirs.filter(|_| pushed == Pushed::Present || is_safe);
        self.publish_inputs(&dir, unit, (mine, key), theirs).await?;
        Ok(pushed)
    }

    /// What pushing an entry would come to, without writing. It is packed, so that the figure is what a push would send.
    pub async fn consider_pushing(&self, key: EntryKey) -> Result<Pushed, TransferError> {
        match self.prepare(key).await? {
            Err(kept) => Ok(Pushed::Kept(kept)),
            Ok(ready) if self.has(&ready.dir, &key).await? => Ok(Pushed::Present),
            Ok(Ready { entry, evidence, .. }) => {
                Ok(Pushed::Uploaded(self.pack(key, entry, evidence).await?.manifest.pack.size))
            }
        }
    }

    async fn prepare(&self, key: EntryKey) -> Result<Result<Ready, Kept>, TransferError> {
        self.blocking(move |this| this.prepare_now(&key)).await?
    }

    pub(super) fn prepare_now(&self, key: &EntryKey) -> Result<Result<Ready, Kept>, TransferError> {
        Ok(self.policy.prepare(&self.store, key)?)
    }

    /// Whether the bucket has the entry, with its pack, in a form that this machine would write. A bucket that forgets
    /// old objects may have forgotten one of the two.
    async fn has(&self, dir: &CrateDir, key: &EntryKey) -> Result<bool, RemoteError> {
        if !self.has_manifest(dir, key).await? {
            return Ok(false);
        }
        let name = self.keys.pack(dir, key);
        Ok(self.unless_missing(self.retry(|| self.remote.head(&name)).await)?.is_some())
    }

    /// What can't be a manifest isn't one: too long, not the form, not signed by anybody who is trusted. What a newer
    /// kache wrote is one.
    pub(super) async fn has_manifest(&self, dir: &CrateDir, key: &EntryKey) -> Result<bool, RemoteError> {
        let name = self.keys.manifest(dir, key);
        if !self.policy.trust.is_particular() {
            let size = self.unless_missing(self.retry(|| self.remote.head(&name)).await)?;
            return Ok(size.is_some_and(|size| size <= MANIFEST_BYTES_MAX));
        }
        let bytes = match self.retry(|| self.remote.get(&name, MANIFEST_BYTES_MAX)).await {
            Err(error) if error.fault == Fault::TooLarge => return Ok(false),
            bytes => self.unless_missing(bytes)?,
        };
        let Some(bytes) = bytes else { return Ok(false) };
        Ok(match Manifest::decode(&bytes, key) {
            Ok(manifest) => self.policy.trust.would_keep(&manifest).is_ok(),
            Err(error) if error.is_newer() => true,
            Err(_) => false,
        })
    }

    async fn pack(&self, key: EntryKey, entry: Entry, evidence: Evidence) -> Result<Packed, TransferError> {
        let packed = self.on_a_core(move |this| this.policy.pack(&this.store, &key, &entry, &evidence));
        Ok(packed.await??)
    }

    async fn upload(&self, dir: &CrateDir, key: &EntryKey, packed: Packed) -> Result<Pushed, TransferError> {
        let Packed { scratch, manifest } = packed;
        let size = manifest.pack.size;
        let path = scratch.path().to_owned();
        let _memory;
        let body = if size <= MEMORY_BYTES_MAX {
            let units = u32::try_from(size.div_ceil(BODY_UNIT_BYTES)).unwrap_or(u32::MAX);
            _memory = self.shared.bodies.acquire_many(units).await.map_err(|_| TransferError::Interrupted)?;
            Body::of(self.blocking(move |_| std::fs::read(path)).await?.map_err(PackError::Write)?)
        } else {
            Body::File { path, size }
        };
        let (pack_name, manifest_name) = (self.keys.pack(dir, key), self.keys.manifest(dir, key));
        let is_broken = self.is_broken(key);
        if is_broken || self.policy.trust.is_particular() {
            self.retry(|| self.remote.put(&pack_name, body.clone())).await?;
        } else {
            let put = self.retry(|| self.remote.put_if_absent(&pack_name, body.clone())).await?;
            // Another machine is at it, or was interrupted before it came to the manifest.
            if put == Put::Present {
                if self.has(dir, key).await? {
                    return Ok(Pushed::Present);
                }
                self.retry(|| self.remote.put(&pack_name, body.clone())).await?;
            }
        }
        fault::point(Point::PackUploaded);
        let encoded = Body::of(manifest.encode());
        self.retry(|| self.remote.put(&manifest_name, encoded.clone())).await?;
        fault::point(Point::ManifestUploaded);
        Ok(Pushed::Uploaded(size))
    }
}

impl Policy {
    /// An entry, as far as it may leave this machine.
    pub(crate) fn prepare(
        &self,
        store: &Store,
        key: &EntryKey,
    ) -> Result<Result<Ready, Kept>, kache_store::Error> {
        if self.trust.is_mute() {
            return Ok(Err(Kept::Unsigned));
        }
        let (Some(entry), Some(evidence)) = (store.peek_entry(key)?, store.evidence(key)?) else {
            return Ok(Err(if store.is_newer(key)? { Kept::Newer } else { Kept::Gone }));
        };
        if !self.trust.vouches_for(&entry.provenance) {
            if self.trust.accepts(&entry.provenance) {
                return Ok(Err(Kept::Unwitnessed));
            }
            return Ok(Err(Kept::Foreign(entry.provenance)));
        }
        let Some(dir) = CrateDir::of(&entry.package, &entry.crate_name) else {
            return Ok(Err(Kept::Name(entry.crate_name)));
        };
        if let Some(name) = origin::secret(&evidence, &self.secret_env) {
            return Ok(Err(Kept::Secret(name.to_owned())));
        }
        if !records::is_acceptable(&evidence.record) {
            return Ok(Err(Kept::Inputs));
        }
        Ok(Ok(Ready { dir, entry, evidence }))
    }

    /// Packs an entry and signs its manifest.
    pub(crate) fn pack(
        &self,
        store: &Store,
        key: &EntryKey,
        entry: &Entry,
        evidence: &Evidence,
    ) -> Result<Packed, PackError> {
        let mut packed = pack(store, key, entry, evidence, self.compression_level)?;
        self.trust.sign(&mut packed.manifest);
        Ok(packed)
    }
}

/// An entry that may leave this machine.
pub(crate) struct Ready {
    pub(crate) dir: CrateDir,
    pub(crate) entry: Entry,
    pub(crate) evidence: Evidence,
}
