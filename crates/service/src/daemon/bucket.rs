//! The real backend: a bucket, by way of `transfer`. What a build will need is read from the build manifest of its
//! lockfile, and, as far as that doesn't cover it, crate by crate from what the bucket has for that version.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use kache_core::key::{EntryKey, UnitKey};
use kache_core::lockfile::{LOCKFILE_BYTES_MAX, Lockfile};
use kache_core::protocol::{Build, Seed};
use kache_core::remote::build::{Build as SavedBuild, BuildUnit};
use kache_core::remote::fit::{Offer, Wanted};
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use kache_core::remote::records::Grown;
use kache_core::snapshot::Snapshot;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::backend::{Asked, Blame, Candidate, DaemonBackend, Fetched, Names, Promise, Pushed, Trouble};
use super::lock;
use super::traffic::Traffic;
use crate::pack::PackError;
use crate::remote::Fault;
use crate::transfer::{self, BuildPlace, Kept, Listed, Transfer, TransferError};

/// Crates that are looked at, at the same time, while a build's needs are guessed.
const CRATES_AT_ONCE: usize = 8;
/// Manifests of one version of a crate that are looked at: the newest.
const MANIFESTS_MAX: usize = 64;

/// Manifests that are kept until their entries are fetched.
const READ_MAX: usize = 4096;

/// How long uploads to a remote that collects wait for each other.
const COLLECT: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub struct Bucket {
    transfer: Transfer,
    /// Manifests that were read while the needs of a build were guessed: one request less for each entry.
    read: Arc<Mutex<HashMap<EntryKey, Manifest>>>,
}

impl Bucket {
    /// The bucket that `transfer` goes to.
    pub fn new(transfer: Transfer) -> Self {
        Self { transfer, read: Arc::default() }
    }

    /// Returns once the remote has moved nothing for so long, from now on.
    pub async fn silent_for(&self, wait: Duration) {
        self.transfer.silent_for(wait).await;
    }

    fn read(&self) -> MutexGuard<'_, HashMap<EntryKey, Manifest>> {
        lock(&self.read)
    }

    /// The needs of a build by what machines have saved about its lockfile.
    async fn saved(
        &self,
        build: &Build,
        lockfile: &Lockfile,
        traffic: &Traffic,
    ) -> Result<Option<SavedBuild>, Trouble> {
        let (Ok(toolchain), Ok(manifest_key)) = (build.host_toolchain.parse(), build.host.parse()) else {
            return Ok(None);
        };
        let place = BuildPlace { manifest_key, namespace: None };
        let digest = lockfile.digest;
        let found = traffic
            .guess(|| async { self.transfer.find_build(&place, &digest, &toolchain).await.map_err(trouble) })
            .await;
        let found = match found {
            // The manifest holds a few builds, of all projects; shards are kept longer.
            Ok(None) => {
                let key = &place.manifest_key;
                let look =
                    || async { self.transfer.find_shard(key, &digest, &toolchain).await.map_err(trouble) };
                traffic.guess(look).await
            }
            found => found,
        };
        match found {
            Ok(found) => Ok(found.map(|found| in_order(found, lockfile))),
            Err(trouble) if trouble.blame.is_remote() => Err(trouble),
            Err(trouble) => {
                tracing::warn!(%trouble, "the build manifest is passed over");
                Ok(None)
            }
        }
    }

    /// The needs of a build by what the bucket has for each package of its lockfile.
    async fn listed(
        &self,
        lockfile: &Lockfile,
        candidates: &mpsc::Sender<Candidate>,
        traffic: &Arc<Traffic>,
    ) -> Result<(), Trouble> {
        if !self.transfer.can_list() {
            return Ok(());
        }
        // One listing has all versions of a crate.
        let mut versions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for (name, version) in lockfile.dependencies_first() {
            versions.entry(name).or_default().push(version.to_owned());
        }
        let mut rest = lockfile
            .dependencies_first()
            .filter_map(|(name, _)| Some((name.to_owned(), versions.remove(name)?)));
        let mut looks = VecDeque::new();
        let mut failed = None;
        loop {
            while looks.len() < CRATES_AT_ONCE
                && let Some((name, versions)) = rest.next()
            {
                let (me, traffic) = (self.clone(), Arc::clone(traffic));
                let mut look = JoinSet::new();
                look.spawn(async move { me.of_crate(&name, &versions, &traffic).await });
                looks.push_back(look);
            }
            // In the order of the packages, whichever answer comes first.
            let Some(mut look) = looks.pop_front() else { break };
            match look.join_next().await {
                Some(Ok(Ok(found))) => {
                    for candidate in found {
                        if candidates.send(candidate).await.is_err() {
                            return Ok(());
                        }
                    }
                }
                // Other crates will fare no better.
                Some(Ok(Err(trouble))) if trouble.blame == Blame::Denied => return Err(trouble),
                Some(Ok(Err(trouble))) => {
                    tracing::warn!(%trouble, "a crate is not prefetched");
                    failed = Some(trouble).filter(|trouble| trouble.blame.is_remote()).or(failed);
                }
                Some(Err(_)) | None => {}
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// What the bucket has for these versions of a package, whatever it was compiled for: the newest first.
    async fn of_crate(
        &self,
        name: &str,
        versions: &[String],
        traffic: &Arc<Traffic>,
    ) -> Result<Vec<Candidate>, Trouble> {
        let Some(dir) = CrateDir::of(name, "") else { return Ok(Vec::new()) };
        let count = MANIFESTS_MAX * versions.len();
        let newest = || async { self.transfer.newest_manifests(&dir, count).await.map_err(trouble) };
        let mut reads = JoinSet::new();
        for (place, listed) in traffic.guess(newest).await?.into_iter().enumerate() {
            let (me, traffic) = (self.clone(), Arc::clone(traffic));
            reads.spawn(async move { (place, me.manifest(&listed, &traffic).await) });
        }
        let mut manifests = Vec::new();
        while let Some(read) = reads.join_next().await {
            let Ok((place, manifest)) = read else { continue };
            manifests.extend(manifest?.map(|manifest| (place, manifest)));
        }
        manifests.sort_by_key(|(place, _)| *place);
        Ok(self.fitting(name, versions, manifests.into_iter().map(|(_, manifest)| manifest)))
    }

    /// Candidates for what is of these versions of a package, whose manifests are kept. Which compilers and shapes the build
    /// has shows by and by: a candidate that fits none so far waits.
    fn fitting(
        &self,
        name: &str,
        versions: &[String],
        manifests: impl Iterator<Item = Manifest>,
    ) -> Vec<Candidate> {
        let wanted = Wanted {
            has_package: &|package, version| package == name && versions.iter().any(|one| one == version),
            uses_compiler: &|_, _| true,
        };
        let mut read = self.read();
        let mut candidates = Vec::new();
        for manifest in manifests.filter(|manifest| wanted.takes(manifest)) {
            if read.len() >= READ_MAX {
                read.clear();
            }
            candidates.push(candidate(&manifest));
            read.insert(manifest.key, manifest);
        }
        candidates
    }

    /// A manifest that was listed; `None` where it is of no use.
    async fn manifest(&self, listed: &Listed, traffic: &Traffic) -> Result<Option<Manifest>, Trouble> {
        // What is here already needs no candidate.
        if self.transfer.store().has_entry(&listed.key) {
            return Ok(None);
        }
        let read = || async { self.transfer.fetch_manifest(&listed.dir, &listed.key).await.map_err(trouble) };
        match traffic.guess(read).await {
            Err(trouble) if trouble.blame == Blame::Object => {
                tracing::warn!(%trouble, "a manifest is passed over");
                Ok(None)
            }
            result => result,
        }
    }
}

impl DaemonBackend for Bucket {
    fn fetch_entry<'a>(&'a self, key: EntryKey, names: &'a Names, session: &'a str) -> Promise<'a, Fetched> {
        Box::pin(async move {
            let transfer = self.transfer.ahead_of(session);
            let Some(dir) = CrateDir::of(&names.package, &names.crate_name) else {
                return Ok(Fetched::Absent);
            };
            let read = self.read().remove(&key);
            let fetched = match read {
                Some(manifest) => match transfer.fetch_described(&dir, manifest).await {
                    // It may have been written again since.
                    Err(TransferError::Refused { .. }) => transfer.fetch_entry(&dir, &key).await,
                    fetched => fetched,
                },
                None => transfer.fetch_entry(&dir, &key).await,
            };
            Ok(match fetched.map_err(trouble)? {
                transfer::Fetched::Imported { packed_bytes, .. } => Fetched::New { bytes: packed_bytes },
                transfer::Fetched::Known => Fetched::Known,
                transfer::Fetched::Absent => Fetched::Absent,
            })
        })
    }

    fn fetch_records<'a>(&'a self, unit: UnitKey, names: &'a Names) -> Promise<'a, Fetched> {
        Box::pin(async move {
            let Some(dir) = CrateDir::of(&names.package, &names.crate_name) else {
                return Ok(Fetched::Absent);
            };
            Ok(match self.transfer.fetch_inputs(&dir, unit).await.map_err(trouble)? {
                Grown::Yes => Fetched::New { bytes: 0 },
                Grown::No => Fetched::Absent,
            })
        })
    }

    fn foresee<'a>(
        &'a self,
        build: &'a Build,
        mut asked: Asked,
        candidates: mpsc::Sender<Candidate>,
        traffic: Arc<Traffic>,
    ) -> Promise<'a, ()> {
        Box::pin(async move {
            let Some(lockfile) = lockfile_above(Path::new(&build.dir)).await else { return Ok(()) };
            if let Some(saved) = self.saved(build, &lockfile, &traffic).await? {
                for unit in &saved.units {
                    if candidates.send(wish_of(unit.clone())).await.is_err() {
                        return Ok(());
                    }
                }
                // Until the build turns out to be of a kind that nobody has saved.
                while asked.borrow_and_update().iter().all(|kind| saved.has_shape(&kind.shape)) {
                    tokio::select! {
                        changed = asked.changed() => if changed.is_err() { return Ok(()) },
                        () = candidates.closed() => return Ok(()),
                    }
                }
            }
            self.listed(&lockfile, &candidates, &traffic).await
        })
    }

    fn find_snapshot<'a>(&'a self, wanted: &'a Seed) -> Promise<'a, Option<Snapshot>> {
        Box::pin(async move {
            let lockfile = lockfile_above(Path::new(&wanted.dir)).await;
            let Some(lockfile) = lockfile.filter(|lockfile| lockfile.digest == wanted.about.lockfile) else {
                let why = format!("the lockfile in {} is another one by now", wanted.dir);
                return Err(Trouble { blame: Blame::Local, why });
            };
            let found = self.transfer.find_snapshots_for(&wanted.about, &lockfile).await.map_err(trouble)?;
            let is_meant =
                |snapshot: &Snapshot| snapshot.header.context == wanted.context && !snapshot.units.is_empty();
            Ok(found.into_iter().find(is_meant))
        })
    }

    fn take_snapshot(&self, snapshot: Snapshot) -> Promise<'_, usize> {
        Box::pin(async move { Ok(self.transfer.take_snapshot(snapshot).await.map_err(trouble)?.units.len()) })
    }

    fn push(&self, key: EntryKey) -> Promise<'_, Pushed> {
        Box::pin(async move {
            let mut pushed = self.transfer.push_entry(key).await;
            if matches!(pushed, Ok(transfer::Pushed::Uploaded(_))) && self.transfer.collects() {
                // Others are on their way, and one upload serves them all.
                tokio::time::sleep(COLLECT).await;
                if let Err(error) = self.transfer.flush().await {
                    pushed = Err(error);
                }
            }
            match pushed {
                Ok(transfer::Pushed::Uploaded(_)) => Ok(Pushed::Done),
                Ok(transfer::Pushed::Present) => Ok(Pushed::Known),
                Ok(transfer::Pushed::Kept(why @ Kept::Newer)) => Ok(Pushed::Left(why.to_string())),
                Ok(transfer::Pushed::Kept(why)) => Ok(Pushed::Dropped(why.to_string())),
                Err(TransferError::Pack(why @ (PackError::Incomplete(..) | PackError::TooLarge(_)))) => {
                    Ok(Pushed::Dropped(why.to_string()))
                }
                Err(error) => Err(trouble(error)),
            }
        })
    }
}

/// The nearest lockfile above a directory.
async fn lockfile_above(dir: &Path) -> Option<Lockfile> {
    let dir: PathBuf = dir.to_owned();
    let read = tokio::task::spawn_blocking(move || {
        let path = Lockfile::nearest(&dir, Path::is_file)?;
        let is_readable = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= LOCKFILE_BYTES_MAX);
        let text = is_readable.then(|| std::fs::read_to_string(&path).ok())??;
        Lockfile::parse(&text).ok()
    });
    read.await.ok().flatten()
}

/// The units of a build manifest, dependencies first; build scripts before the rest of their package.
fn in_order(mut build: SavedBuild, lockfile: &Lockfile) -> SavedBuild {
    let places: HashMap<(&str, &str), usize> =
        lockfile.dependencies_first().enumerate().map(|(place, package)| (package, place)).collect();
    let place = |unit: &BuildUnit| {
        let known = places.get(&(unit.package.as_str(), unit.package_version.as_str()));
        (known.copied().unwrap_or(usize::MAX), !unit.crate_name.starts_with("build_script_"))
    };
    build.units.sort_by_key(place);
    build
}

fn wish_of(unit: BuildUnit) -> Candidate {
    Candidate {
        names: Names { crate_name: unit.crate_name, package: unit.package },
        unit: unit.unit_key,
        entry: unit.entry_key,
        kind: unit.kind,
        bytes: 0,
    }
}

fn candidate(manifest: &Manifest) -> Candidate {
    Candidate {
        names: Names { crate_name: manifest.crate_name.clone(), package: manifest.package.clone() },
        unit: manifest.unit_key,
        entry: manifest.key,
        kind: Offer::from(manifest).kind,
        bytes: manifest.pack.size,
    }
}

fn trouble(error: TransferError) -> Trouble {
    let blame = match &error {
        TransferError::Remote(error) => match error.fault {
            Fault::TooLarge => Blame::Object,
            Fault::Local => Blame::Local,
            Fault::Denied | Fault::Unsupported | Fault::Full => Blame::Denied,
            Fault::Credentials => Blame::Credentials,
            Fault::Unreachable => Blame::Unreachable,
            _ => Blame::Remote,
        },
        TransferError::Refused { .. } => Blame::Object,
        TransferError::Stalled(_) => Blame::Remote,
        TransferError::Pack(_)
        | TransferError::Store(_)
        | TransferError::Interrupted
        | TransferError::Panicked => Blame::Local,
    };
    Trouble { blame, why: error.to_string() }
}
