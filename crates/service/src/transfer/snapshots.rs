//! Shares snapshots: what dependencies left in target directories, for machines with the same lockfile, compiler and
//! `CARGO_HOME`. The entries that they name travel like all others. Decides which units may leave this machine.

use std::collections::BTreeSet;
use std::io::Read;

use bytes::Bytes;
use kache_core::digest::Digest;
use kache_core::form::FormError;
use kache_core::key::EntryKey;
use kache_core::lockfile::Lockfile;
use kache_core::provenance::Provenance;
use kache_core::remote::manifest::Pack;
use kache_core::remote::secrets;
use kache_core::remote::shared::{About, Head, OBJECT_BYTES_MAX, covers, damaged, has_places, join, payload};
use kache_core::seed_unit::{Made, SeedUnit};
use kache_core::seeding::{Unseeded, choose};
use kache_core::snapshot::Snapshot;
use kache_store::Store;
use kache_store::clock::since_1970;

use super::builds::ROUNDS_MAX;
use super::{Policy, Refusal, Transfer, TransferError, refuse};
use crate::pack::WINDOW_LOG_MAX;
use crate::remote::{Body, Fault};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Saved {
    /// They are in this object now, or were.
    Here(String),
    /// Somebody else has signed what is there, and this machine can't sign.
    Signed,
    /// A newer kache wrote what is there.
    Newer,
    /// They are more than one object may hold.
    TooLarge,
}

impl Transfer {
    /// The snapshots about something that machines have saved; none where there is no object.
    ///
    /// # Errors
    /// When the bucket can't be read, or what it has is not to be believed.
    pub async fn find_snapshots(&self, about: &About) -> Result<Vec<Snapshot>, TransferError> {
        let name = self.keys.snapshots(&about.hash());
        let Some(bytes) = self.watched(self.shared_bytes(&name)).await? else { return Ok(Vec::new()) };
        let about = about.clone();
        let read = move |this: &Transfer| -> Result<_, Refusal> {
            let (head, payload) = Head::decode(&bytes, &about)?;
            let provenance = this.policy.trust.judge(&head)?;
            let mut snapshots = unpacked(&head, payload, &about)?;
            let units = snapshots.iter_mut().flat_map(|snapshot| &mut snapshot.units);
            units.for_each(|unit| unit.provenance = provenance.clone());
            Ok(snapshots)
        };
        match self.on_a_core(read).await? {
            Ok(snapshots) => Ok(snapshots),
            Err(Refusal::Form(error)) if error.is_newer() => Ok(Vec::new()),
            Err(refusal) => Err(refuse(&name, refusal)),
        }
    }

    /// The same, and of them the units of the lockfile's packages: what isn't of it is never placed, and whoever wrote it has
    /// no say in what is fetched for it.
    ///
    /// # Errors
    /// As [`Transfer::find_snapshots`].
    pub async fn find_snapshots_for(
        &self,
        about: &About,
        lockfile: &Lockfile,
    ) -> Result<Vec<Snapshot>, TransferError> {
        let mut found = self.find_snapshots(about).await?;
        let is_part = |unit: &SeedUnit| {
            unit.package.split_once(' ').is_some_and(|(name, version)| lockfile.has(name, version))
        };
        found.iter_mut().for_each(|snapshot| snapshot.units.retain(is_part));
        Ok(found)
    }

    /// Takes a snapshot into the store, with what is known here of the same context and lockfile. Returns what there is
    /// now.
    pub async fn take_snapshot(&self, snapshot: Snapshot) -> Result<Snapshot, TransferError> {
        Ok(self.blocking(move |this| this.store.join_snapshot(snapshot)).await??)
    }

    /// The part of a snapshot that may leave this machine: units that this machine vouches for, whose entries may, and
    /// whose script didn't ask for a credential; without them, what rests on them is of no use.
    pub async fn shareable(&self, snapshot: Snapshot) -> Result<Snapshot, TransferError> {
        Ok(self.blocking(move |this| this.policy.shareable(&this.store, snapshot)).await??)
    }

    /// Adds snapshots to what is saved about the same. Units that only others have stay; of one place in a target
    /// directory, this machine's counts.
    pub async fn save_snapshots(&self, about: &About, mine: Vec<Snapshot>) -> Result<Saved, TransferError> {
        let saved = self.watched(self.save_joined(about, mine)).await?;
        self.flush().await?;
        Ok(saved)
    }

    async fn save_joined(&self, about: &About, mine: Vec<Snapshot>) -> Result<Saved, TransferError> {
        let name = self.keys.snapshots(&about.hash());
        for round in 0..ROUNDS_MAX {
            let Some(theirs) = self.to_be_joined(&name, about).await? else { return Ok(Saved::Signed) };
            let theirs = match theirs {
                Ok(theirs) => theirs,
                Err(error) if error.is_newer() => return Ok(Saved::Newer),
                // Of no use to anybody.
                Err(_) => Vec::new(),
            };
            // Read back, another machine may have made the same units again; none may be missing.
            let is_done = if round == 0 { covers(&theirs, &mine) } else { has_places(&theirs, &mine) };
            if is_done {
                break;
            }
            let (about, mine) = (about.clone(), mine.clone());
            let object = self.on_a_core(move |this| this.policy.object(&about, join(mine, theirs))).await?;
            let Some(object) = object else { return Ok(Saved::TooLarge) };
            let bytes = Bytes::from(object);
            self.retry(|| self.remote.put(&name, Body::Bytes(bytes.clone()))).await?;
        }
        Ok(Saved::Here(name))
    }

    /// What is there, as far as this machine may add to it and sign the whole; `None` where it may not be replaced.
    async fn to_be_joined(
        &self,
        name: &str,
        about: &About,
    ) -> Result<Option<Result<Vec<Snapshot>, FormError>>, TransferError> {
        let bytes = match self.shared_bytes(name).await {
            Err(error) if error.fault() == Some(Fault::TooLarge) => None,
            bytes => bytes?,
        };
        let Some(bytes) = bytes else { return Ok(Some(Ok(Vec::new()))) };
        let about = about.clone();
        self.on_a_core(move |this| {
            let (head, payload) = match Head::decode(&bytes, &about) {
                Ok(decoded) => decoded,
                Err(error) => return Some(Err(error)),
            };
            if !this.policy.trust.is_particular() && !head.signatures.is_empty() {
                return None;
            }
            // What strangers wrote is not signed here.
            let is_acceptable = this.policy.trust.would_keep(&head).is_ok();
            let found = || match unpacked(&head, payload, &about) {
                Ok(snapshots) => Ok(snapshots),
                Err(_) => Ok(Vec::new()),
            };
            Some(if is_acceptable { found() } else { Ok(Vec::new()) })
        })
        .await
    }

    async fn shared_bytes(&self, name: &str) -> Result<Option<Vec<u8>>, TransferError> {
        Ok(self.unless_missing(self.retry(|| self.remote.get(name, OBJECT_BYTES_MAX)).await)?)
    }
}

impl Policy {
    /// See [`Transfer::shareable`].
    pub(crate) fn shareable(
        &self,
        store: &Store,
        snapshot: Snapshot,
    ) -> Result<Snapshot, kache_store::Error> {
        let mut kept = Vec::new();
        for unit in &snapshot.units {
            kept.push(
                !self.trust.vouches_for(&unit.provenance)
                    || self.prepare(store, &unit.entry())?.is_err()
                    || self.asks_for_secret(unit),
            );
        }
        let mut stays = kept.into_iter();
        let is_kept = |_: &SeedUnit| stays.next().unwrap_or(true).then_some(Unseeded::Environment);
        let mut placed = choose(&snapshot.units, is_kept).placed;
        placed.sort_unstable();
        let sent = |i: usize| SeedUnit { provenance: Provenance::Unknown, ..snapshot.units[i].clone() };
        let units = placed.into_iter().map(sent).collect();
        Ok(Snapshot { units, ..snapshot })
    }

    fn asks_for_secret(&self, unit: &SeedUnit) -> bool {
        let Made::Run { asked, .. } = &unit.made else { return false };
        let set = asked.iter().filter(|(_, value)| value.is_some());
        set.map(|(name, _)| name).any(|name| secrets::is_secret(name, &self.secret_env))
    }

    /// The signed object of these snapshots; `None` where they are too large.
    pub(crate) fn object(&self, about: &About, mut snapshots: Vec<Snapshot>) -> Option<Vec<u8>> {
        loop {
            let (bytes, parts) = payload(&snapshots)?;
            let unpacked_size = bytes.len() as u64;
            let level = self.compression_level;
            let compressed = zstd::stream::encode_all(bytes.as_slice(), level).ok()?;
            let size = compressed.len() as u64;
            let pack = Pack { digest: Digest::of(&compressed), size, unpacked_size };
            let mut head = Head::new(about, pack, parts);
            self.trust.sign(&mut head);
            let object = head.encode(&compressed);
            if object.len() as u64 <= OBJECT_BYTES_MAX {
                return Some(object);
            }
            if snapshots.len() < 2 {
                return None;
            }
            snapshots.pop();
        }
    }
}

/// Entries that snapshots need and the store doesn't have, each once, with the packages that they are filed under.
pub fn missing_entries<'s>(store: &Store, snapshots: &'s [Snapshot]) -> Vec<(&'s str, EntryKey)> {
    let mut seen = BTreeSet::new();
    let units = snapshots.iter().flat_map(|snapshot| &snapshot.units);
    let named = units.map(|unit| (unit.package.split_once(' ').map_or("", |(name, _)| name), unit.entry()));
    named.filter(|(_, key)| !store.has_entry(key) && seen.insert(*key)).collect()
}

/// The snapshots in a payload that is the one its head describes.
fn unpacked(head: &Head, payload: &[u8], about: &About) -> Result<Vec<Snapshot>, Refusal> {
    let odd = |error: std::io::Error| damaged(&format!("the payload can't be decompressed: {error}"));
    let mut decoder = zstd::Decoder::with_buffer(payload).map_err(odd)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(odd)?;
    let mut bytes = Vec::new();
    // One more than announced shows that there is more.
    decoder.take(head.pack.unpacked_size.saturating_add(1)).read_to_end(&mut bytes).map_err(odd)?;
    let now_s = since_1970().as_secs();
    Ok(head.split(&bytes, about, now_s)?)
}
