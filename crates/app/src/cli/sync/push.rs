//! From the store to the remote: what the workspace's builds used, or everything.

use kache_core::key::EntryKey;
use kache_core::provenance::Provenance;
use kache_service::sync::{self, Pushing};
use kache_service::transfer::{Kept, Pushed};

use super::{Done, Mode, Moved, Sync, Trouble, counted};
use crate::cli::transfers::Meter;
use crate::error::CliError;

pub async fn run(sync: &Sync<'_>) -> Result<Done, CliError> {
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
        return Ok(Done::default());
    }
    these(sync, keys).await
}

pub async fn these(sync: &Sync<'_>, keys: Vec<EntryKey>) -> Result<Done, CliError> {
    let (what, pushing) = match sync.mode {
        Mode::Really => ("pushing", Pushing::Really),
        Mode::DryRun => ("comparing", Pushing::DryRun),
    };
    let mut meter = Meter::new(sync.ui, what, keys.len());
    let ended = sync::push(&sync.level.transfer, keys, sync.concurrency, pushing, |result| {
        meter.step(match result {
            Ok(Pushed::Uploaded(bytes)) => *bytes,
            _ => 0,
        });
    })
    .await;
    meter.end();
    let mut trouble = Trouble::default();
    let mut moved = Moved::default();
    for (_, result) in ended {
        match result {
            Some(Ok(Pushed::Uploaded(size))) => {
                moved.entries += 1;
                moved.bytes += size;
            }
            Some(Ok(Pushed::Present)) => moved.known += 1,
            Some(Ok(Pushed::Kept(why))) => *moved.kept.entry(reason(&why)).or_default() += 1,
            Some(Err(error)) => trouble.add(sync.ui, error),
            None => trouble.skip(),
        }
    }
    let done = if sync.mode == Mode::Really { "Pushed" } else { "Would push" };
    let what = counted(moved.entries, moved.bytes);
    let there = &sync.there();
    sync.ui.status(&format!("{done} {what} to {there}; {} were there already.", moved.known));
    for (why, count) in &moved.kept {
        sync.ui.status(&format!("{count} stay here: {why}."));
    }
    Ok(Done { trouble, moved, ..Done::default() })
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
        Kept::Foreign(Provenance::Signed(key)) => format!(
            "they came with the signature of {key}, which isn't trusted here (`cache.remote.trusted_keys`)"
        ),
        Kept::Foreign(_) => {
            "they aren't known to be made here, and no trusted key signed them (`kache verify \
                             --origin` lists them)"
                .to_owned()
        }
        Kept::Unwitnessed => {
            "they came from a remote, and with `cache.remote.witnesses` only what was made here is signed"
                .to_owned()
        }
        Kept::Newer => "only a newer kache understands them".to_owned(),
        Kept::Gone => "they were evicted meanwhile".to_owned(),
    }
}
