//! From the store to the remote: what the workspace's builds used, or everything.

use std::collections::BTreeMap;

use kache_core::key::EntryKey;
use kache_service::sync::{self, Pushing};
use kache_service::transfer::{Kept, Pushed};

use super::{Mode, Sync, Trouble, counted};
use crate::cli::transfers::Meter;
use crate::error::CliError;

pub async fn run(sync: &Sync<'_>) -> Result<Trouble, CliError> {
    let mut keys: Vec<EntryKey> = match &sync.scope {
        None => sync.store.entries()?.map(|entry| entry.key).collect(),
        Some((workspace, compilers)) => workspace
            .used(sync.store, |target, compiler| compilers.accept(target, compiler))
            .into_iter()
            .map(|unit| unit.entry_key)
            .collect(),
    };
    keys.sort_unstable();
    keys.dedup();
    if keys.is_empty() {
        sync.ui.status(match sync.scope {
            None => "The store is empty: nothing to push.",
            Some(_) => "No build of this workspace with this compiler is known here: nothing to push.",
        });
        return Ok(Trouble::default());
    }
    let (what, pushing) = match sync.mode {
        Mode::Really => ("pushing", Pushing::Really),
        Mode::DryRun => ("comparing", Pushing::DryRun),
    };
    let mut meter = Meter::new(sync.ui, what, keys.len());
    let ended = sync::push(&sync.transfer, keys, sync.concurrency, pushing, |result| {
        meter.step(match result {
            Ok(Pushed::Uploaded(bytes)) => *bytes,
            _ => 0,
        });
    })
    .await;
    meter.end();
    let mut trouble = Trouble::default();
    let (mut count, mut bytes, mut present) = (0, 0, 0);
    let mut kept: BTreeMap<String, usize> = BTreeMap::new();
    for (_, result) in ended {
        match result {
            Some(Ok(Pushed::Uploaded(size))) => {
                count += 1;
                bytes += size;
            }
            Some(Ok(Pushed::Present)) => present += 1,
            Some(Ok(Pushed::Kept(why))) => *kept.entry(reason(&why)).or_default() += 1,
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    let done = if sync.mode == Mode::Really { "Pushed" } else { "Would push" };
    sync.ui.status(&format!("{done} {}; {present} were there already.", counted(count, bytes)));
    for (why, count) in kept {
        sync.ui.status(&format!("{count} stay here: {why}."));
    }
    Ok(trouble)
}

fn reason(why: &Kept) -> String {
    match why {
        Kept::Secret(name) => format!("they depend on {name}, which looks like a credential"),
        Kept::Name(name) => format!("{name:?} can't be the name of an object"),
        Kept::Inputs => "they read devices or files of the kernel".to_owned(),
        Kept::Unsigned => {
            "only signed entries are trusted here, and there is no signing key (`cache.remote.signing_key`)"
                .to_owned()
        }
        Kept::Gone => "they were evicted meanwhile".to_owned(),
    }
}
