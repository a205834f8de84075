//! Shares input records: without them another machine knows no key to ask for. Neither side loses what it knows.

use bytes::Bytes;
use kache_core::key::{EntryKey, UnitKey};
use kache_core::record::{RecordError, RecordSet};
use kache_core::remote::keys::CrateDir;
use kache_core::remote::records::{self, Change, Grown, OBJECT_BYTES_MAX};

use super::{Transfer, TransferError, refuse};
use crate::remote::{Body, Fault};

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

    /// Adds the store's input records of a unit to the bucket's. Where the bucket knows what the entry `pushed` read, it
    /// learns that this entry is the latest result of that.
    ///
    /// # Errors
    /// When the store can't be read or the bucket can't be read or written. An object of a newer kache is left alone.
    pub async fn publish_inputs(
        &self,
        dir: &CrateDir,
        unit: UnitKey,
        pushed: Option<EntryKey>,
    ) -> Result<(), TransferError> {
        let mut mine = self.blocking(move |this| this.store.records(&unit)).await??;
        // What others would drop when they read it isn't told to them.
        mine.records.retain(|record| records::is_acceptable(record, &self.policy.secret_env));
        if mine.records.is_empty() {
            return Ok(());
        }
        let name = self.keys.inputs(dir, &unit);
        for round in 0..ROUNDS_MAX {
            let theirs = match self.remote_records(dir, &unit).await {
                Ok(theirs) => theirs,
                Err(TransferError::Refused { refusal: super::Refusal::Records(why), .. }) => match why {
                    RecordError::Newer(_) => return Ok(()),
                    RecordError::Malformed(_) => Some(RecordSet::default()),
                },
                Err(error) if error.fault() == Some(Fault::TooLarge) => Some(RecordSet::default()),
                Err(error) => return Err(error),
            };
            let was_absent = theirs.is_none();
            // Read back, another machine's latest result is as good as this one's.
            let latest = pushed.filter(|_| round == 0);
            let (merged, change) = records::join(theirs.unwrap_or_default(), &mine, latest);
            if change == Change::None {
                return Ok(());
            }
            let Some(bytes) = encode_within(merged) else { return Ok(()) };
            let bytes = Bytes::from(bytes);
            let body = || Body::Bytes(bytes.clone());
            if was_absent {
                self.retry(|| self.remote.put_if_absent(&name, body())).await?;
            } else {
                self.retry(|| self.remote.put(&name, body())).await?;
            }
            if change == Change::Latest {
                return Ok(());
            }
            // The next round reads it back: where another machine's version won, both are joined again.
        }
        Ok(())
    }

    async fn remote_records(
        &self,
        dir: &CrateDir,
        unit: &UnitKey,
    ) -> Result<Option<RecordSet>, TransferError> {
        let name = self.keys.inputs(dir, unit);
        let bytes = self.unless_missing(self.retry(|| self.remote.get(&name, OBJECT_BYTES_MAX)).await)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let records = records::decode(&bytes, &self.policy.secret_env);
        records.map(Some).map_err(|error| refuse(&name, error))
    }
}

/// The JSON form; the oldest records are left out where it would be too long. `None` where even one is.
fn encode_within(mut set: RecordSet) -> Option<Vec<u8>> {
    loop {
        let bytes = set.encode();
        if bytes.len() as u64 <= OBJECT_BYTES_MAX {
            return Some(bytes).filter(|_| !set.records.is_empty());
        }
        set.records.pop();
    }
}
