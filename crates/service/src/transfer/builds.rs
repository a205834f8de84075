//! Shares what builds needed, by lockfile and toolchain, under a manifest key and, where a namespace is given, as a
//! shard that can be named without looking.

use bytes::Bytes;
use kache_core::digest::Digest;
use kache_core::key::{Field, field};
use kache_core::lockfile::Lockfile;
use kache_core::remote::build::{Build, BuildManifest, BuildUnit, OBJECT_BYTES_MAX, shard_hash};
use kache_core::remote::keys::Label;
use kache_core::remote::used::{MadeFrom, Used};
use kache_store::Store;

use super::{Refusal, Transfer, TransferError, refuse};
use crate::remote::{Body, Fault};

/// How often what was written is read back and, where another machine's came in between, joined again.
pub(super) const ROUNDS_MAX: usize = 4;

/// Pages of a listing of shards that are looked through.
const SHARD_PAGES_MAX: usize = 10;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildPlace {
    /// The manifest key; usually the host's target triple.
    pub manifest_key: Label,
    /// The namespace of shards, if there is one.
    pub namespace: Option<Label>,
}

impl Transfer {
    /// What a build of this lockfile with this toolchain needed, if some machine has saved that.
    pub async fn find_build(
        &self,
        place: &BuildPlace,
        lockfile: &Digest,
        toolchain: &Digest,
    ) -> Result<Option<Build>, TransferError> {
        for name in self.names(place, lockfile, toolchain).into_iter().rev() {
            if let Some(build) = self.watched(self.build_manifest(&name)).await?.and_then(|manifest| {
                let found = manifest.find(lockfile, toolchain);
                found.cloned()
            }) {
                return Ok(Some(build));
            }
        }
        Ok(None)
    }

    /// The same from a shard, whatever namespace it is in: for those who don't know which ones there are. The latest,
    /// where several have it.
    ///
    /// # Errors
    /// When the bucket can't be listed or read. A shard that can't be used is passed over.
    pub async fn find_shard(
        &self,
        manifest_key: &Label,
        lockfile: &Digest,
        toolchain: &Digest,
    ) -> Result<Option<Build>, TransferError> {
        if !self.can_list() {
            return Ok(None);
        }
        let prefix = self.keys.shards();
        let end = format!("/shards/{}.json", shard_hash(manifest_key, lockfile, toolchain));
        let mut found: Option<Build> = None;
        let mut page = None;
        for _ in 0..SHARD_PAGES_MAX {
            let listed = match self.retry(|| self.remote.list(&prefix, page.clone())).await {
                // Whoever may not list knows only what has a fixed name.
                Err(error) if error.fault == Fault::Denied => return Ok(None),
                listed => listed?,
            };
            for object in listed.objects.iter().filter(|object| object.name.ends_with(&end)) {
                let build = match self.build_manifest(&object.name).await {
                    Err(error @ TransferError::Refused { .. }) => {
                        tracing::warn!(%error, "a shard is passed over");
                        continue;
                    }
                    manifest => manifest?.and_then(|manifest| manifest.find(lockfile, toolchain).cloned()),
                };
                found = found.into_iter().chain(build).max_by_key(|build| build.saved_s);
            }
            page = listed.next;
            if page.is_none() {
                break;
            }
        }
        Ok(found)
    }

    /// Adds what a build needed to what is saved of the same lockfile and toolchain; returns the names of the objects.
    /// Builds of other lockfiles stay.
    ///
    /// # Errors
    /// When the bucket can't be read or written, or holds what a newer kache wrote.
    pub async fn save_build(&self, place: &BuildPlace, build: &Build) -> Result<Vec<String>, TransferError> {
        let names = self.names(place, &build.lockfile, &build.toolchain);
        for name in &names {
            self.watched(self.join_build(name, build)).await?;
        }
        self.flush().await?;
        Ok(names)
    }

    async fn join_build(&self, name: &str, build: &Build) -> Result<(), TransferError> {
        for round in 0..ROUNDS_MAX {
            let mut manifest = match self.build_manifest(name).await {
                Ok(manifest) => manifest.unwrap_or_default(),
                Err(error) if is_worthless(&error) => BuildManifest::default(),
                Err(error) => return Err(error),
            };
            // Read back, it may have later results than this machine's, but no unit may be missing.
            let is_done = if round == 0 { manifest.is_newest(build) } else { manifest.covers(build) };
            if is_done {
                break;
            }
            manifest.add(build.clone());
            let bytes = Bytes::from(manifest.encode());
            self.retry(|| self.remote.put(name, Body::Bytes(bytes.clone()))).await?;
        }
        Ok(())
    }

    /// The build manifest, then the shard.
    fn names(&self, place: &BuildPlace, lockfile: &Digest, toolchain: &Digest) -> Vec<String> {
        let mut names = vec![self.keys.build(&place.manifest_key)];
        names.extend(place.namespace.as_ref().map(|namespace| {
            let hash = shard_hash(&place.manifest_key, lockfile, toolchain);
            self.keys.shard(namespace, &hash)
        }));
        names
    }

    async fn build_manifest(&self, name: &str) -> Result<Option<BuildManifest>, TransferError> {
        let bytes = self.unless_missing(self.retry(|| self.remote.get(name, OBJECT_BYTES_MAX)).await)?;
        let Some(bytes) = bytes else { return Ok(None) };
        BuildManifest::decode(&bytes).map(Some).map_err(|error| refuse(name, error))
    }
}

/// The latest entry of each unit that builds below `root` used, as far as `accept` takes its target and compiler.
pub fn units_used(
    store: &Store,
    root: &str,
    lockfile: Option<&Lockfile>,
    accept: impl Fn(&str, &str) -> bool,
) -> Vec<BuildUnit> {
    let mut used = Used::new(root, lockfile);
    store.events(None).for_each(|event| used.add(&event));
    // What is in place before Cargo looks, no build asks for.
    let snapshots = lockfile.map(|lockfile| store.snapshots_of(&lockfile.digest)).unwrap_or_default();
    for unit in snapshots.iter().flat_map(|snapshot| &snapshot.units) {
        if let Some(entry) = store.peek_entry(&unit.entry()).ok().flatten() {
            used.add_seeded(unit.entry(), &entry, unit.seen_s.saturating_mul(1000));
        }
    }
    used.latest(|key, unit| {
        let entry = store.peek_entry(key).ok()??;
        let fields = store.evidence(key).ok()??.unit_fields;
        let compiler = Field::value_of(&fields, field::COMPILER)?;
        let is_meant = entry.unit == *unit && accept(&entry.target, compiler);
        is_meant.then_some(MadeFrom { target: entry.target, fields })
    })
}

/// Whether what is there is of no use to anybody, so that it may be replaced.
fn is_worthless(error: &TransferError) -> bool {
    match error {
        TransferError::Refused { refusal: Refusal::Form(why), .. } => !why.is_newer(),
        _ => error.fault() == Some(Fault::TooLarge),
    }
}
