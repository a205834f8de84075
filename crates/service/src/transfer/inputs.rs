//! Shares input records: without them another machine knows no key to ask for. Neither side loses what it knows.

use kache_core::key::UnitKey;
use kache_core::record::{RecordError, RecordSet};
use kache_core::remote::keys::CrateDir;
use kache_core::remote::records::{self, Grown, OBJECT_BYTES_MAX};

use super::retry::retry;
use super::{Transfer, TransferError, refuse};
use crate::remote::Body;

/// How often what was written is read back and, where another machine's came in between, joined again.
const ROUNDS_MAX: usize = 4;

impl Transfer {
    /// Takes the bucket's input records of a unit into the store, behind its own. Returns whether there were new ones.
    ///
    /// # Errors
    /// When the bucket can't be read, the object can't be used, or the store can't be written.
    pub async fn fetch_inputs(&self, dir: &CrateDir, unit: UnitKey) -> Result<Grown, TransferError> {
        let Some(theirs) = self.remote_records(dir, &unit).await? else { return Ok(Grown::No) };
        Ok(self.blocking(move |this| this.store.merge_records(&unit, &theirs)).await??)
    }

    /// Adds the store's input records of a unit to the bucket's.
    ///
    /// # Errors
    /// When the store can't be read or the bucket can't be read or written. An object of a newer kache is left alone.
    pub async fn publish_inputs(&self, dir: &CrateDir, unit: UnitKey) -> Result<(), TransferError> {
        let mut mine = self.blocking(move |this| this.store.records(&unit)).await??;
        // What others would drop when they read it isn't told to them.
        mine.records.retain(records::is_acceptable);
        if mine.records.is_empty() {
            return Ok(());
        }
        let name = self.keys.inputs(dir, &unit);
        for _ in 0..ROUNDS_MAX {
            let theirs = match self.remote_records(dir, &unit).await {
                Ok(theirs) => theirs,
                Err(TransferError::Refused { refusal: super::Refusal::Records(why), .. }) => match why {
                    RecordError::Newer(_) => return Ok(()),
                    RecordError::Malformed(_) => Some(RecordSet::default()),
                },
                Err(error) => return Err(error),
            };
            let was_absent = theirs.is_none();
            let Some(merged) = joined(&mine, theirs.unwrap_or_default()) else { return Ok(()) };
            let bytes = merged.encode();
            if bytes.len() as u64 > OBJECT_BYTES_MAX {
                return Ok(());
            }
            let body = || Body::Bytes(bytes.clone());
            // The next round reads it back: where another machine's version won, both are joined again.
            if was_absent {
                retry(|| self.remote.put_if_absent(&name, body())).await?;
            } else {
                retry(|| self.remote.put(&name, body())).await?;
            }
        }
        Ok(())
    }

    async fn remote_records(
        &self,
        dir: &CrateDir,
        unit: &UnitKey,
    ) -> Result<Option<RecordSet>, TransferError> {
        let name = self.keys.inputs(dir, unit);
        let bytes = self.unless_missing(retry(|| self.remote.get(&name, OBJECT_BYTES_MAX)).await)?;
        let Some(bytes) = bytes else { return Ok(None) };
        records::decode(&bytes).map(Some).map_err(|error| refuse(&name, error))
    }
}

/// Theirs with what only this machine knows in front; `None` when they know it all.
fn joined(mine: &RecordSet, theirs: RecordSet) -> Option<RecordSet> {
    let mut merged = theirs;
    let mut changed = false;
    for record in mine.records.iter().rev() {
        if !merged.records.iter().any(|known| known.is_same(record)) {
            changed |= merged.add(record.clone());
        }
    }
    changed.then_some(merged)
}
