//! Many transfers at a time, as `kache sync` wants them: bounded, each failure counted and none fatal, except those
//! after which every further request would fail alike. Shows nothing; whoever calls hears of each end.

use std::future::Future;

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use tokio::task::JoinSet;

use crate::remote::Fault;
use crate::transfer::{Fetched, Listed, Pushed, Transfer, TransferError};

/// What happened to one item; `None` for what was not begun because of an earlier failure.
pub type Ended<I, T> = (I, Option<Result<T, TransferError>>);

/// An item of a pull.
#[derive(Debug, Clone)]
pub enum Wanted {
    /// An entry whose manifest is still to be fetched.
    Named(Listed),
    /// One whose manifest is here.
    Described(CrateDir, Box<Manifest>),
}

impl Wanted {
    /// The entry.
    pub fn key(&self) -> EntryKey {
        match self {
            Wanted::Named(listed) => listed.key,
            Wanted::Described(_, manifest) => manifest.key,
        }
    }
}

/// Lists the manifests of these crates, or of all. Each crate's end is told to `tell`.
pub async fn list(
    transfer: &Transfer,
    crates: Option<Vec<CrateDir>>,
    concurrency: usize,
    tell: impl FnMut(&Result<Vec<Listed>, TransferError>),
) -> Vec<Ended<Option<CrateDir>, Vec<Listed>>> {
    let items = crates.map_or_else(|| vec![None], |crates| crates.into_iter().map(Some).collect());
    let act = |transfer: Transfer, dir: Option<CrateDir>| async move {
        let result = transfer.list_manifests(dir.as_ref()).await;
        (dir, result)
    };
    each(transfer, items, concurrency, act, tell).await
}

/// What is known of an entry.
#[derive(Debug)]
pub enum Described {
    /// The store has it.
    Here,
    /// The bucket doesn't have it.
    Absent,
    /// The bucket has it.
    There(Box<Manifest>),
}

/// Finds out which entries are here, and fetches the manifests of the others.
pub async fn describe(
    transfer: &Transfer,
    listed: Vec<Listed>,
    concurrency: usize,
    tell: impl FnMut(&Result<Described, TransferError>),
) -> Vec<Ended<Listed, Described>> {
    let act = |transfer: Transfer, listed: Listed| async move {
        let result = match transfer.has_here(listed.key).await {
            Ok(true) => Ok(Described::Here),
            Ok(false) => {
                let manifest = transfer.fetch_manifest(&listed.dir, &listed.key).await;
                manifest
                    .map(|found| found.map_or(Described::Absent, |found| Described::There(Box::new(found))))
            }
            Err(error) => Err(error),
        };
        (listed, result)
    };
    each(transfer, listed, concurrency, act, tell).await
}

/// Fetches entries.
pub async fn pull(
    transfer: &Transfer,
    wanted: Vec<Wanted>,
    concurrency: usize,
    tell: impl FnMut(&Result<Fetched, TransferError>),
) -> Vec<Ended<Wanted, Fetched>> {
    let act = |transfer: Transfer, wanted: Wanted| async move {
        let result = match wanted.clone() {
            Wanted::Named(listed) => transfer.fetch_entry(&listed.dir, &listed.key).await,
            Wanted::Described(dir, manifest) => transfer.fetch_described(&dir, *manifest).await,
        };
        (wanted, result)
    };
    each(transfer, wanted, concurrency, act, tell).await
}

/// Whether a push writes, or only says what it would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushing {
    /// Writes.
    Really,
    /// Only looks.
    DryRun,
}

/// Pushes entries.
pub async fn push(
    transfer: &Transfer,
    keys: Vec<EntryKey>,
    concurrency: usize,
    pushing: Pushing,
    tell: impl FnMut(&Result<Pushed, TransferError>),
) -> Vec<Ended<EntryKey, Pushed>> {
    let act = move |transfer: Transfer, key: EntryKey| async move {
        let result = match pushing {
            Pushing::Really => transfer.push_entry(key).await,
            Pushing::DryRun => transfer.consider_pushing(key).await,
        };
        (key, result)
    };
    each(transfer, keys, concurrency, act, tell).await
}

/// Whether every further request would fail in the same way.
pub fn is_lasting(error: &TransferError) -> bool {
    match error {
        TransferError::Remote(error) => {
            error.fault.is_lasting() || (error.fault == Fault::Denied && error.act != "read")
        }
        TransferError::Store(error) => error.is_full() || error.is_denied(),
        TransferError::Interrupted => true,
        TransferError::Refused { .. } | TransferError::Pack(_) => false,
    }
}

/// Runs `act` for each item, `concurrency` at a time.
async fn each<I, T, F>(
    transfer: &Transfer,
    items: Vec<I>,
    concurrency: usize,
    act: impl Fn(Transfer, I) -> F,
    mut tell: impl FnMut(&Result<T, TransferError>),
) -> Vec<Ended<I, T>>
where
    I: Send + 'static,
    T: Send + 'static,
    F: Future<Output = (I, Result<T, TransferError>)> + Send + 'static,
{
    let mut ended = Vec::with_capacity(items.len());
    let mut waiting = items.into_iter();
    let mut running = JoinSet::new();
    let mut is_over = false;
    loop {
        while !is_over && running.len() < concurrency.max(1) {
            let Some(item) = waiting.next() else { break };
            running.spawn(act(transfer.clone(), item));
        }
        let Some(done) = running.join_next().await else { break };
        let Ok((item, result)) = done else { continue };
        is_over |= result.as_ref().is_err_and(is_lasting);
        tell(&result);
        ended.push((item, Some(result)));
    }
    ended.extend(waiting.map(|item| (item, None)));
    ended
}
