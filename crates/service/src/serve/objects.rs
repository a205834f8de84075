//! What a store looks like to others: each object of the remote's layout, made when it is asked for from what may leave
//! this machine. Writes nothing but temporary files; knows nothing about requests.
//!
//! A client that can't list asks for a build manifest. It is made of what builds used whose projects are still here, for
//! any manifest key: lockfile and compiler tell builds apart.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::lockfile::{LOCKFILE_BYTES_MAX, Lockfile};
use kache_core::remote::build::{BUILDS_MAX, Build, BuildManifest};
use kache_core::remote::keys::{CrateDir, Named};
use kache_core::remote::shared::About;
use kache_store::Store;
use kache_store::clock::since_1970;
use tokio::sync::Semaphore;

use crate::daemon::lock;
use crate::pack::{PackError, Packed};
use crate::transfer::{Policy, Ready, TransferError, encode_within, units_used};

/// How long a summary of the journal and of all snapshots counts: a client that asks for many absent objects doesn't have
/// them read again for each.
const SUMMARY_AGE_MAX: Duration = Duration::from_secs(10);
/// Hosts of compilers that run here: the manifest key is a part of what names snapshots, and isn't kept with them.
const HOST_ENDS: [&str; 3] = ["unknown-linux-gnu", "unknown-linux-musl", "apple-darwin"];

#[derive(Debug, Clone)]
pub enum Object {
    /// In memory; at most as long as the form allows, 32 MiB.
    Bytes(Bytes),
    /// A pack in a temporary file.
    Pack(Arc<Packed>),
}

/// A value and when it was found out.
type Dated<T> = Mutex<Option<(Instant, T)>>;

#[derive(Debug)]
pub struct Objects {
    store: Arc<Store>,
    policy: Policy,
    /// Bounds work that takes a core.
    cores: Arc<Semaphore>,
    /// Packs that were made, oldest first; a client asks for the manifest, then for the pack.
    packs: Mutex<VecDeque<(EntryKey, Arc<Packed>)>>,
    packs_bytes_max: u64,
    builds: Dated<Bytes>,
    abouts: Dated<Arc<HashMap<Digest, About>>>,
}

impl Objects {
    /// What may leave `store`; packs are kept up to so many bytes.
    pub fn new(store: Arc<Store>, policy: Policy, packs_bytes_max: u64) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            store,
            policy,
            cores: Arc::new(Semaphore::new(cores)),
            packs: Mutex::default(),
            packs_bytes_max,
            builds: Mutex::default(),
            abouts: Mutex::default(),
        }
    }

    /// The object of a name; `None` where there is none, or it stays here.
    pub async fn find(self: &Arc<Self>, name: &str) -> Result<Option<Object>, TransferError> {
        let Some(named) = Named::parse(name) else { return Ok(None) };
        // The permit goes along: work that nothing waits for any more still takes a core.
        let permit = Arc::clone(&self.cores).acquire_owned().await;
        let permit = permit.map_err(|_| TransferError::Interrupted)?;
        let me = Arc::clone(self);
        let work = move || {
            let _permit = permit;
            me.find_now(&named)
        };
        tokio::task::spawn_blocking(work).await?
    }

    fn find_now(&self, named: &Named) -> Result<Option<Object>, TransferError> {
        Ok(match named {
            Named::Pack(dir, key) => self.packed(dir, key)?.map(Object::Pack),
            Named::Manifest(dir, key) => {
                let manifest = self.packed(dir, key)?.map(|packed| packed.manifest.encode());
                manifest.map(|bytes| Object::Bytes(bytes.into()))
            }
            Named::Inputs(unit) => {
                let is_shared = |key: &EntryKey| self.ready(key).ok().flatten().is_some();
                let records = self.policy.records_for_others(self.store.records(unit)?, is_shared);
                encode_within(records).map(|bytes| Object::Bytes(bytes.into()))
            }
            Named::Build(_) => Some(Object::Bytes(fresh(&self.builds, || self.builds().encode().into()))),
            Named::Snapshots(hash) => {
                let abouts = fresh(&self.abouts, || Arc::new(self.abouts()));
                match abouts.get(hash) {
                    Some(about) => self.snapshots(about)?.map(|bytes| Object::Bytes(bytes.into())),
                    None => None,
                }
            }
        })
    }

    fn ready(&self, key: &EntryKey) -> Result<Option<Ready>, TransferError> {
        Ok(self.policy.prepare(&self.store, key)?.ok())
    }

    fn packed(&self, dir: &CrateDir, key: &EntryKey) -> Result<Option<Arc<Packed>>, TransferError> {
        // What was removed since isn't served any more.
        let Some(ready) = self.ready(key)?.filter(|ready| ready.dir == *dir) else { return Ok(None) };
        let known = |packs: &VecDeque<(EntryKey, Arc<Packed>)>| {
            packs.iter().find(|(other, _)| other == key).map(|(_, packed)| Arc::clone(packed))
        };
        if let Some(packed) = known(&lock(&self.packs)) {
            return Ok(Some(packed));
        }
        let packed = match self.policy.pack(&self.store, key, &ready.entry, &ready.evidence) {
            Ok(packed) => Arc::new(packed),
            Err(why @ (PackError::Incomplete(..) | PackError::TooLarge(_))) => {
                tracing::warn!(%why, "an entry isn't served");
                return Ok(None);
            }
            Err(error) => return Err(error.into()),
        };
        let mut packs = lock(&self.packs);
        // Another request has made it meanwhile.
        if let Some(packed) = known(&packs) {
            return Ok(Some(packed));
        }
        packs.push_back((*key, Arc::clone(&packed)));
        let mut bytes: u64 = packs.iter().map(|(_, packed)| packed.manifest.pack.size).sum();
        while bytes > self.packs_bytes_max && packs.len() > 1 {
            bytes -= packs.pop_front().map_or(0, |(_, oldest)| oldest.manifest.pack.size);
        }
        Ok(Some(packed))
    }

    /// What builds here used, by the lockfiles that their projects have now.
    fn builds(&self) -> BuildManifest {
        let mut projects: BTreeMap<String, u64> = BTreeMap::new();
        for event in self.store.events(None).filter(|event| event.entry_key.is_some()) {
            let latest = projects.entry(event.project).or_default();
            *latest = event.at_ms.max(*latest);
        }
        let mut roots: BTreeMap<PathBuf, u64> = BTreeMap::new();
        for (project, at_ms) in projects.into_iter().filter(|(project, _)| project.starts_with('/')) {
            if let Some(path) = Lockfile::nearest(Path::new(&project), Path::is_file) {
                let latest = roots.entry(path).or_default();
                *latest = at_ms.max(*latest);
            }
        }
        let mut roots: Vec<_> = roots.into_iter().map(|(path, at_ms)| (at_ms, path)).collect();
        roots.sort_unstable();
        let mut manifest = BuildManifest::default();
        for (_, path) in roots.iter().skip(roots.len().saturating_sub(BUILDS_MAX)) {
            for build in self.builds_of(path) {
                manifest.add(build);
            }
        }
        manifest
    }

    fn builds_of(&self, path: &Path) -> Vec<Build> {
        let is_short = std::fs::metadata(path).is_ok_and(|meta| meta.len() <= LOCKFILE_BYTES_MAX);
        let text = is_short.then(|| std::fs::read_to_string(path).ok()).flatten();
        let lockfile = text.and_then(|text| Lockfile::parse(&text).ok());
        let (Some(lockfile), Some(root)) = (lockfile, path.parent()) else { return Vec::new() };
        let mut units = units_used(&self.store, &root.to_string_lossy(), Some(&lockfile), |_, _| true);
        units.retain(|unit| self.ready(&unit.entry_key).ok().flatten().is_some());
        let for_host = units.iter().filter_map(|unit| unit.kind.as_ref());
        let for_host = for_host.filter(|kind| kind.target.is_empty() && kind.shape.mode != "clippy");
        let compilers: BTreeSet<Digest> = for_host.filter_map(|kind| kind.toolchain.parse().ok()).collect();
        let saved_s = since_1970().as_secs();
        let build = |toolchain| Build { lockfile: lockfile.digest, toolchain, saved_s, units: units.clone() };
        compilers.into_iter().map(build).collect()
    }

    /// What the snapshots of the store are about, by the hashes under which others ask for them.
    fn abouts(&self) -> HashMap<Digest, About> {
        let mut abouts = HashMap::new();
        for header in self.store.snapshot_headers() {
            let Some(compiler) = header.compiler else { continue };
            let hosts = HOST_ENDS.iter().map(|end| format!("{}-{end}", std::env::consts::ARCH));
            for manifest_key in hosts.filter_map(|host| host.parse().ok()) {
                let cargo_home = header.cargo_home.clone();
                let about = About { manifest_key, lockfile: header.lock, compiler, cargo_home };
                abouts.insert(about.hash(), about);
            }
        }
        abouts
    }

    fn snapshots(&self, about: &About) -> Result<Option<Vec<u8>>, TransferError> {
        let mut snapshots = Vec::new();
        for snapshot in self.store.snapshots_of(&about.lockfile) {
            if about.is_of(&snapshot) {
                let snapshot = self.policy.shareable(&self.store, snapshot)?;
                snapshots.extend(Some(snapshot).filter(|snapshot| !snapshot.units.is_empty()));
            }
        }
        Ok(if snapshots.is_empty() { None } else { self.policy.object(about, snapshots) })
    }
}

/// A value that was found out a moment ago, else found out now. Others who ask meanwhile wait for it.
fn fresh<T: Clone>(dated: &Dated<T>, find: impl FnOnce() -> T) -> T {
    let mut dated = lock(dated);
    match &*dated {
        Some((at, value)) if at.elapsed() < SUMMARY_AGE_MAX => value.clone(),
        _ => {
            let value = find();
            *dated = Some((Instant::now(), value.clone()));
            value
        }
    }
}
