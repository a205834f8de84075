//! Shares input records: without them another machine knows no key to ask for. Neither side loses what it knows.

use kache_core::key::{EntryKey, UnitKey};
use kache_core::provenance::Provenance;
use kache_core::record::RecordSet;
use kache_core::remote::keys::CrateDir;
use kache_core::remote::records::{self, Change, Grown, OBJECT_BYTES_MAX};

use super::{Policy, Transfer, TransferError, refuse};
use crate::remote::{Body, Fault, Put};

/// How often what was written is read back and, where another machine's came in between, joined again.
const ROUNDS_MAX: usize = 4;

/// What a bucket has of a unit's input records.
pub(super) enum Theirs {
    Absent,
    /// These; none where it has an object that nobody can use.
    Records(RecordSet),
    /// Something that only a newer kache understands.
    Newer,
}

impl Transfer {
    /// Takes the bucket's input records of a unit into the store, behind its own. Returns whether there were new ones.
    pub async fn fetch_inputs(&self, dir: &CrateDir, unit: UnitKey) -> Result<Grown, TransferError> {
        let Some(mut theirs) = self.remote_records(dir, &unit).await? else { return Ok(Grown::No) };
        // Records have no signatures.
        theirs.records.iter_mut().for_each(|record| record.provenance = Provenance::Unsigned);
        Ok(self.blocking(move |this| this.store.merge_records(&unit, &theirs)).await??)
    }

    /// The store's input records of a unit, as others get them along with the entry `pushed`.
    pub(super) async fn publishable(
        &self,
        unit: UnitKey,
        pushed: EntryKey,
    ) -> Result<RecordSet, TransferError> {
        let mine = self.blocking(move |this| this.store.records(&unit)).await??;
        Ok(self.policy.records_for_others(mine, |last| *last == pushed))
    }

    /// Adds this machine's input records of a unit to the bucket's. Where the bucket knows what the entry `pushed` read, it
    /// learns that this entry is the latest result of that. `theirs` is what the bucket has, if that was just looked at.
    ///
    /// # Errors
    /// When the bucket can't be read or written. An object of a newer kache is left alone.
    pub(super) async fn publish_inputs(
        &self,
        dir: &CrateDir,
        unit: UnitKey,
        (mine, pushed): (RecordSet, EntryKey),
        mut theirs: Option<Theirs>,
    ) -> Result<(), TransferError> {
        if mine.records.is_empty() {
            return Ok(());
        }
        let name = self.keys.inputs(dir, &unit);
        for round in 0..ROUNDS_MAX {
            let theirs = match theirs.take() {
                Some(theirs) => theirs,
                None => self.their_inputs(dir, &unit).await?,
            };
            let was_absent = matches!(theirs, Theirs::Absent);
            let theirs = match theirs {
                Theirs::Newer => return Ok(()),
                Theirs::Absent => RecordSet::default(),
                Theirs::Records(records) => records,
            };
            // Read back, another machine's latest result is as good as this one's.
            let latest = Some(pushed).filter(|_| round == 0);
            let (merged, change) = records::join(theirs, &mine, latest);
            if change == Change::None {
                return Ok(());
            }
            let Some(bytes) = encode_within(merged) else { return Ok(()) };
            let body = Body::of(bytes);
            if was_absent {
                let put = self.retry(|| self.remote.put_if_absent(&name, body.clone())).await?;
                if put == Put::Written && self.keeps_what_is_there(&name, &body).await? {
                    return Ok(());
                }
            } else {
                self.retry(|| self.remote.put(&name, body.clone())).await?;
            }
            if change == Change::Latest {
                return Ok(());
            }
            // The next round reads it back: where another machine's version won, both are joined again.
        }
        Ok(())
    }

    /// What the bucket has of a unit's input records.
    pub(super) async fn their_inputs(&self, dir: &CrateDir, unit: &UnitKey) -> Result<Theirs, TransferError> {
        match self.remote_records(dir, unit).await {
            Ok(records) => Ok(records.map_or(Theirs::Absent, Theirs::Records)),
            Err(TransferError::Refused { refusal: super::Refusal::Form(why), .. }) => {
                Ok(if why.is_newer() { Theirs::Newer } else { Theirs::Records(RecordSet::default()) })
            }
            Err(error) if error.fault() == Some(Fault::TooLarge) => Ok(Theirs::Records(RecordSet::default())),
            Err(error) => Err(error),
        }
    }

    /// Whether the server refuses to write over an object when it is asked to, so that whoever wrote one knows to be the
    /// first. Found out once, with the very bytes that were just written: where they are written again, nothing changes.
    async fn keeps_what_is_there(&self, name: &str, body: &Body) -> Result<bool, TransferError> {
        if let Some(keeps) = self.shared.keeps_what_is_there.get() {
            return Ok(*keeps);
        }
        let again = self.retry(|| self.remote.put_if_absent(name, body.clone())).await?;
        Ok(*self.shared.keeps_what_is_there.get_or_init(|| again == Put::Present))
    }

    async fn remote_records(
        &self,
        dir: &CrateDir,
        unit: &UnitKey,
    ) -> Result<Option<RecordSet>, TransferError> {
        let name = self.keys.inputs(dir, unit);
        let bytes = self.unless_missing(self.retry(|| self.remote.get(&name, OBJECT_BYTES_MAX)).await)?;
        let Some(bytes) = bytes else { return Ok(None) };
        let records = records::decode(&bytes);
        records.map(Some).map_err(|error| refuse(&name, error))
    }
}

impl Policy {
    /// What others are told of a unit's records, with the latest results that `is_shared`.
    pub(crate) fn records_for_others(
        &self,
        mut mine: RecordSet,
        is_shared: impl Fn(&EntryKey) -> bool,
    ) -> RecordSet {
        // What others would drop when they read it isn't told to them.
        mine.records
            .retain(|record| records::is_acceptable(record) && self.trust.vouches_for(&record.provenance));
        for record in &mut mine.records {
            // The key of a result that stays here, because of a credential perhaps, is nobody else's business.
            record.last = record.last.filter(&is_shared);
            record.provenance = Provenance::Unknown;
        }
        mine
    }
}

/// The JSON form; the oldest records are left out where it would be too long. `None` where even one is.
pub(crate) fn encode_within(mut set: RecordSet) -> Option<Vec<u8>> {
    loop {
        let bytes = set.encode();
        if bytes.len() as u64 <= OBJECT_BYTES_MAX {
            return Some(bytes).filter(|_| !set.records.is_empty());
        }
        set.records.pop();
    }
}
