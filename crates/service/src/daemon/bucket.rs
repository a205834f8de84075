//! The real depot: a bucket, by way of `transfer`. What a build will need is read from the build manifest of its
//! lockfile, or else, crate by crate, from what the bucket has for that version and compiler.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kache_core::key::{EntryKey, UnitKey};
use kache_core::lockfile::{LOCKFILE_BYTES_MAX, Lockfile};
use kache_core::protocol::Build;
use kache_core::remote::build::BuildUnit;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use kache_core::remote::records::Grown;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::depot::{Blame, Depot, Fetched, Names, Promise, Pushed, Shape, Trouble, Wish};
use crate::pack::PackError;
use crate::remote::Fault;
use crate::transfer::{self, BuildPlace, Transfer, TransferError};

/// Crates that are looked at, at the same time, while a build's needs are guessed.
const CRATES_AT_ONCE: usize = 8;
/// Manifests of one crate that are looked at, the newest in the listing's order last.
const MANIFESTS_MAX: usize = 64;

/// A bucket as a depot.
#[derive(Debug, Clone)]
pub struct Bucket {
    transfer: Transfer,
}

impl Bucket {
    /// The bucket that `transfer` goes to.
    pub fn new(transfer: Transfer) -> Self {
        Self { transfer }
    }

    /// The needs of a build by what a machine has saved about its lockfile.
    async fn saved(&self, build: &Build, lockfile: &Lockfile) -> Result<Option<Vec<Wish>>, TransferError> {
        let (Ok(toolchain), Ok(manifest_key)) = (build.toolchain.parse(), build.target.parse()) else {
            return Ok(None);
        };
        let place = BuildPlace { manifest_key, namespace: None };
        let found = self.transfer.find_build(&place, &lockfile.digest, &toolchain).await?;
        Ok(found.map(|found| in_order(found.units, lockfile)))
    }

    /// The needs of a build by what the bucket has for each package of its lockfile.
    async fn listed(&self, build: &Build, lockfile: &Lockfile, wishes: &mpsc::Sender<Wish>) {
        let mut rest = lockfile.dependencies_first();
        let mut looks = std::collections::VecDeque::new();
        loop {
            while looks.len() < CRATES_AT_ONCE
                && let Some((name, version)) = rest.next()
            {
                let (me, build) = (self.clone(), build.clone());
                let (name, version) = (name.to_owned(), version.to_owned());
                let mut look = JoinSet::new();
                look.spawn(async move { me.of_crate(&build, &name, &version).await });
                looks.push_back(look);
            }
            // In the order of the packages, whichever answer comes first.
            let Some(mut look) = looks.pop_front() else { return };
            let found = match look.join_next().await {
                Some(Ok(Ok(found))) => found,
                Some(Ok(Err(error))) => {
                    tracing::warn!(%error, "a crate is not prefetched");
                    continue;
                }
                Some(Err(_)) | None => continue,
            };
            for wish in found {
                if wishes.send(wish).await.is_err() {
                    return;
                }
            }
        }
    }

    async fn of_crate(&self, build: &Build, name: &str, version: &str) -> Result<Vec<Wish>, TransferError> {
        let Some(dir) = CrateDir::of(name, "") else { return Ok(Vec::new()) };
        let listed = self.transfer.list_manifests(Some(&dir)).await?;
        let mut found = Vec::new();
        for listed in listed.into_iter().take(MANIFESTS_MAX) {
            match self.transfer.fetch_manifest(&dir, &listed.key).await {
                Ok(Some(manifest)) if is_for(&manifest, build, version) => found.push(wish(&manifest)),
                Ok(_) => {}
                Err(TransferError::Refused { name, refusal }) => {
                    tracing::warn!(name, %refusal, "a manifest is passed over");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

impl Depot for Bucket {
    fn fetch_entry<'a>(&'a self, key: EntryKey, names: &'a Names) -> Promise<'a, Fetched> {
        Box::pin(async move {
            let Some(dir) = CrateDir::of(&names.package, &names.crate_name) else {
                return Ok(Fetched::Absent);
            };
            Ok(match self.transfer.fetch_entry(&dir, &key).await.map_err(trouble)? {
                transfer::Fetched::Imported { .. } => Fetched::New,
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
                Grown::Yes => Fetched::New,
                Grown::No => Fetched::Absent,
            })
        })
    }

    fn foresee<'a>(&'a self, build: &'a Build, wishes: mpsc::Sender<Wish>) -> Promise<'a, ()> {
        Box::pin(async move {
            let Some(lockfile) = lockfile_above(Path::new(&build.dir)).await else { return Ok(()) };
            match self.saved(build, &lockfile).await {
                Ok(Some(saved)) => {
                    for wish in saved {
                        if wishes.send(wish).await.is_err() {
                            break;
                        }
                    }
                    return Ok(());
                }
                Ok(None) => {}
                Err(error) if error.fault().is_some() => return Err(trouble(error)),
                Err(error) => tracing::warn!(%error, "the build manifest is passed over"),
            }
            self.listed(build, &lockfile, &wishes).await;
            Ok(())
        })
    }

    fn push(&self, key: EntryKey) -> Promise<'_, Pushed> {
        Box::pin(async move {
            match self.transfer.push_entry(key).await {
                Ok(transfer::Pushed::Uploaded(_)) => Ok(Pushed::Done),
                Ok(transfer::Pushed::Present) => Ok(Pushed::Known),
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
        let path = dir.ancestors().map(|dir| dir.join("Cargo.lock")).find(|path| path.is_file())?;
        let is_readable = std::fs::metadata(&path).is_ok_and(|meta| meta.len() <= LOCKFILE_BYTES_MAX);
        let text = is_readable.then(|| std::fs::read_to_string(&path).ok())??;
        Lockfile::parse(&text).ok()
    });
    read.await.ok().flatten()
}

/// The units of a build manifest, dependencies first; build scripts before the rest of their package.
fn in_order(mut units: Vec<BuildUnit>, lockfile: &Lockfile) -> Vec<Wish> {
    let places: HashMap<(&str, &str), usize> =
        lockfile.dependencies_first().enumerate().map(|(place, package)| (package, place)).collect();
    let place = |unit: &BuildUnit| {
        let known = places.get(&(unit.package.as_str(), unit.package_version.as_str()));
        (known.copied().unwrap_or(usize::MAX), !unit.crate_name.starts_with("build_script_"))
    };
    units.sort_by_key(place);
    let wish = |unit: BuildUnit| Wish {
        names: Names { crate_name: unit.crate_name, package: unit.package },
        unit: unit.unit_key,
        entry: unit.entry_key,
        shape: None,
    };
    units.into_iter().map(wish).collect()
}

/// Whether an entry may be what the build needs of a package.
fn is_for(manifest: &Manifest, build: &Build, version: &str) -> bool {
    manifest.package_version == version
        && manifest.toolchain == build.toolchain
        && (manifest.target.is_empty() || manifest.target == build.target)
}

fn wish(manifest: &Manifest) -> Wish {
    Wish {
        names: Names { crate_name: manifest.crate_name.clone(), package: manifest.package.clone() },
        unit: manifest.unit_key,
        entry: manifest.key,
        shape: Some(Shape { mode: manifest.mode.clone(), profile: manifest.profile.clone() }),
    }
}

fn trouble(error: TransferError) -> Trouble {
    let blame = match &error {
        TransferError::Remote(error) => match error.fault {
            Fault::TooLarge => Blame::Object,
            Fault::Local => Blame::Local,
            _ => Blame::Remote,
        },
        TransferError::Refused { .. } => Blame::Object,
        TransferError::Pack(_)
        | TransferError::Store(_)
        | TransferError::Interrupted
        | TransferError::Panicked => Blame::Local,
    };
    Trouble { blame, why: error.to_string() }
}
