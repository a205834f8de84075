//! Many transfers at a time, as `kache sync` wants them: bounded, each failure counted and none fatal, except those
//! after which every further request would fail alike. Shows nothing; whoever calls hears of each end.

use std::collections::HashMap;
use std::future::Future;

use kache_core::key::EntryKey;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::manifest::Manifest;
use tokio::task::JoinSet;

use crate::remote::Fault;
use crate::transfer::{Attested, Fetched, Listed, Pushed, Transfer, TransferError};

/// What happened to one item; `None` for what was not begun because of an earlier failure.
pub type Ended<I, T> = (I, Option<Result<T, TransferError>>);

#[derive(Debug, Clone)]
pub enum Wanted {
    /// An entry whose manifest is still to be fetched.
    Named(Listed),
    Described(CrateDir, Box<Manifest>),
}

impl Wanted {
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
        transfer.list_manifests(dir.as_ref()).await
    };
    each(transfer, items, concurrency, act, tell).await
}

/// What is known of an entry.
#[derive(Debug)]
pub enum Described {
    Here,
    /// The bucket doesn't have it.
    Absent,
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
        if transfer.has_here(listed.key).await? {
            return Ok(Described::Here);
        }
        let manifest = transfer.fetch_manifest(&listed.dir, &listed.key).await?;
        Ok::<_, TransferError>(manifest.map_or(Described::Absent, |found| Described::There(Box::new(found))))
    };
    each(transfer, listed, concurrency, act, tell).await
}

pub async fn pull(
    transfer: &Transfer,
    wanted: Vec<Wanted>,
    concurrency: usize,
    tell: impl FnMut(&Result<Fetched, TransferError>),
) -> Vec<Ended<Wanted, Fetched>> {
    let act = |transfer: Transfer, wanted: Wanted| async move {
        match wanted {
            Wanted::Named(listed) => transfer.fetch_entry(&listed.dir, &listed.key).await,
            Wanted::Described(dir, manifest) => transfer.fetch_described(&dir, *manifest).await,
        }
    };
    let ended = each(transfer, wanted, concurrency, act, tell).await;
    let is_there =
        |(_, result): &&Ended<Wanted, Fetched>| matches!(result, Some(Ok(Fetched::Imported { .. })));
    transfer.remember(ended.iter().filter(is_there).map(|(wanted, _)| wanted.key()));
    ended
}

/// Whether a push writes, or only says what it would write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushing {
    Really,
    /// Only looks.
    DryRun,
}

pub async fn push(
    transfer: &Transfer,
    keys: Vec<EntryKey>,
    concurrency: usize,
    pushing: Pushing,
    tell: impl FnMut(&Result<Pushed, TransferError>),
) -> Vec<Ended<EntryKey, Pushed>> {
    let known = transfer.known(&keys).await;
    let act = move |transfer: Transfer, key: EntryKey| {
        let is_known = known.contains(&key);
        async move {
            match pushing {
                _ if is_known => Ok(Pushed::Present),
                Pushing::Really => transfer.push_entry(key).await,
                Pushing::DryRun => transfer.consider_pushing(key).await,
            }
        }
    };
    let mut ended = each(transfer, keys, concurrency, act, tell).await;
    if pushing == Pushing::Really {
        let is_new = |pushed: &Pushed| matches!(pushed, Pushed::Uploaded(_));
        flush(transfer, &mut ended, is_new).await;
    }
    transfer.remember(ended.iter().filter_map(|(key, result)| match result {
        Some(Ok(Pushed::Present)) => Some(*key),
        Some(Ok(Pushed::Uploaded(_))) if pushing == Pushing::Really => Some(*key),
        _ => None,
    }));
    ended
}

/// Signs entries that others have published, where this machine made the same.
pub async fn attest(
    transfer: &Transfer,
    keys: Vec<EntryKey>,
    concurrency: usize,
    tell: impl FnMut(&Result<Attested, TransferError>),
) -> Vec<Ended<EntryKey, Attested>> {
    let act = |transfer: Transfer, key: EntryKey| async move { transfer.attest(key).await };
    let mut ended = each(transfer, keys, concurrency, act, tell).await;
    flush(transfer, &mut ended, |attested| matches!(attested, Attested::Signed)).await;
    ended
}

/// Lets others see what was put. Where that fails, all of it has failed, and the first item says why.
async fn flush<I, T>(transfer: &Transfer, ended: &mut [Ended<I, T>], is_new: impl Fn(&T) -> bool) {
    let Err(error) = transfer.flush().await else { return };
    let mut why = Some(error);
    for (_, result) in ended {
        if matches!(result, Some(Ok(done)) if is_new(done)) {
            *result = why.take().map(Err);
        }
    }
}

/// Whether every further request would fail in the same way.
pub fn is_lasting(error: &TransferError) -> bool {
    match error {
        TransferError::Remote(error) => {
            let is_refused = matches!(error.fault, Fault::Denied | Fault::Unsupported | Fault::Full);
            error.fault.is_lasting() || (is_refused && error.act != "read")
        }
        TransferError::Store(error) => error.is_full() || error.is_denied(),
        TransferError::Interrupted | TransferError::Stalled(_) => true,
        TransferError::Refused { .. } | TransferError::Pack(_) | TransferError::Panicked => false,
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
    I: Clone,
    T: Send + 'static,
    F: Future<Output = Result<T, TransferError>> + Send + 'static,
{
    let mut ended = Vec::with_capacity(items.len());
    let mut waiting = items.into_iter();
    let mut running = JoinSet::new();
    let mut begun = HashMap::new();
    let mut is_over = false;
    loop {
        while !is_over && running.len() < concurrency.max(1) {
            let Some(item) = waiting.next() else { break };
            let task = running.spawn(act(transfer.clone(), item.clone()));
            begun.insert(task.id(), item);
        }
        let done = tokio::select! {
            done = running.join_next_with_id() => done,
            stalled = transfer.stalled() => {
                // What is under way ends where it is; what was done stays.
                running.abort_all();
                for item in begun.drain().map(|(_, item)| item) {
                    let result = Err(match stalled {
                        TransferError::Stalled(patience) => TransferError::Stalled(patience),
                        _ => TransferError::Interrupted,
                    });
                    tell(&result);
                    ended.push((item, Some(result)));
                }
                break;
            }
        };
        let Some(done) = done else { break };
        // Whoever panicked counts as failed, too.
        let (id, result) = match done {
            Ok((id, result)) => (id, result),
            Err(error) => (error.id(), Err(error.into())),
        };
        let Some(item) = begun.remove(&id) else { continue };
        is_over |= result.as_ref().is_err_and(is_lasting);
        tell(&result);
        ended.push((item, Some(result)));
    }
    ended.extend(waiting.map(|item| (item, None)));
    ended
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use crate::remote::memory::Memory;
    use crate::testing::Machine;
    use crate::transfer::Policy;

    #[tokio::test]
    async fn whoever_panics_has_failed_and_the_others_go_on() {
        let machine = Machine::new(&Arc::new(Memory::new()), Policy::default());
        let act = |_, i: u32| async move {
            assert!(i != 2, "a mistake");
            Ok(i)
        };
        let mut told = 0;
        let mut ended = each(&machine.transfer, vec![1, 2, 3], 2, act, |_| told += 1).await;
        ended.sort_by_key(|(i, _)| *i);
        let outcomes: Vec<_> = ended.iter().map(|(i, result)| (*i, matches!(result, Some(Ok(_))))).collect();
        assert_eq!(outcomes, [(1, true), (2, false), (3, true)]);
        assert!(matches!(ended[1].1, Some(Err(TransferError::Panicked))));
        assert_eq!(told, 3);
    }
}
