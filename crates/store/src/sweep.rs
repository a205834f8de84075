//! The sweep: makes room by carrying out an eviction plan. Does not decide what goes.
//!
//! It runs beside builds. An entry that was used, or a blob that was found again by a compile, since the survey is
//! left; a build that meets a hole all the same has a miss.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use kache_core::digest::Digest;

use crate::clock::{FileTime, since_1970};
use crate::error::{Error, unless_absent};
use crate::evict::{BlobRemoval, EvictPlan, Eviction, SweepOptions, plan};
use crate::fault::{self, Point};
use crate::files::remove;
use crate::footprint::{BlobIndex, Footprint};
use crate::layout::Store;
use crate::lock::Locking;
use crate::survey::Holding;
use crate::usage::Usage;

/// Most errors that a report lists.
const ERRORS_MAX: usize = 20;

#[derive(Debug, Default)]
pub struct SweepReport {
    pub plan: EvictPlan,
    pub entries: u64,
    pub blobs: u64,
    /// Bytes that are free now and weren't before.
    pub freed_bytes: u64,
    /// Bytes of removed blobs that a target directory still holds.
    pub held_bytes: u64,
    /// Entries and blobs that were left because they were used since the survey.
    pub spared: u64,
    /// What could not be removed, the first few.
    pub errors: Vec<Error>,
}

/// What came of a candidate to sweep.
#[derive(Debug)]
pub enum Sweeping {
    Done(Box<SweepReport>),
    Busy,
}

impl Store {
    /// What [`Store::sweep`] would do.
    pub fn plan_sweep(&self, options: &SweepOptions) -> Result<EvictPlan, Error> {
        let mut survey = self.survey()?;
        if !options.whole {
            return Ok(plan(&survey, options));
        }
        survey.blobs.values_mut().for_each(|blob| blob.holding = Holding::StoreOnly);
        let all_bytes = Footprint::of(self.root(), &BlobIndex::default())?.disk_bytes();
        let other_bytes = all_bytes.saturating_sub(survey.sizes().counted_bytes());
        let limit_bytes = options.limit_bytes.map(|bytes| bytes.saturating_sub(other_bytes));
        Ok(plan(&survey, &SweepOptions { limit_bytes, ..options.clone() }))
    }

    /// Removes what the options say, unless another process is sweeping, and counts the store's size.
    ///
    /// # Errors
    /// When an entry can't be read, or the lock can't be had. What can't be removed is in the report instead.
    pub fn sweep(&self, options: &SweepOptions) -> Result<Sweeping, Error> {
        let Locking::Locked(_lock) = self.lock("sweep", Duration::ZERO)? else { return Ok(Sweeping::Busy) };
        let plan = self.plan_sweep(options)?;
        fault::point(Point::SweepPlanned);
        let report = self.apply_sweep(plan);
        fault::point(Point::Swept);
        let counted = report.plan.before.counted_bytes().saturating_sub(report.freed_bytes);
        self.reset_usage(Usage { bytes: counted, counted_s: since_1970().as_secs() })?;
        Ok(Sweeping::Done(Box::new(report)))
    }

    fn apply_sweep(&self, plan: EvictPlan) -> SweepReport {
        let mut report = SweepReport::default();
        let mut needed: HashSet<Digest> = HashSet::new();
        for eviction in &plan.entries {
            match self.evict(eviction) {
                Ok(Removal::Done) => {
                    fault::point(Point::EntryEvicted);
                    report.entries += 1;
                }
                Ok(Removal::Spared) => {
                    report.spared += 1;
                    needed.extend(plan.needs.get(&eviction.key).into_iter().flatten());
                }
                Err(error) => {
                    needed.extend(plan.needs.get(&eviction.key).into_iter().flatten());
                    report.note(error);
                }
            }
        }
        for blob in plan.blobs.iter().filter(|blob| !needed.contains(&blob.digest)) {
            match self.remove_blob(blob) {
                Ok(Removal::Done) => {
                    fault::point(Point::BlobSwept);
                    report.blobs += 1;
                    match blob.holding {
                        Holding::StoreOnly => report.freed_bytes += blob.size,
                        Holding::Shared => report.held_bytes += blob.size,
                    }
                }
                Ok(Removal::Spared) => report.spared += 1,
                Err(error) => report.note(error),
            }
        }
        for path in &plan.strays {
            if let Err(error) = remove(path) {
                report.note(error);
            }
        }
        report.plan = plan;
        report
    }

    fn evict(&self, eviction: &Eviction) -> Result<Removal, Error> {
        let path = self.entry_path(&eviction.key);
        let meta = unless_absent(fs::symlink_metadata(&path));
        match meta.map_err(|error| Error::new("look at entry", &path, error))? {
            Some(meta) if FileTime::modified(&meta) != eviction.used => Ok(Removal::Spared),
            Some(_) | None => self.drop_entry(&eviction.key).map(|()| Removal::Done),
        }
    }

    fn remove_blob(&self, blob: &BlobRemoval) -> Result<Removal, Error> {
        let path = self.blob_path(&blob.digest);
        let meta = unless_absent(fs::symlink_metadata(&path));
        match meta.map_err(|error| Error::new("look at blob", &path, error))? {
            Some(meta) if FileTime::changed(&meta) == blob.changed => remove(&path).map(|_| Removal::Done),
            Some(_) => Ok(Removal::Spared),
            None => Ok(Removal::Done),
        }
    }
}

enum Removal {
    Done,
    Spared,
}

impl SweepReport {
    fn note(&mut self, error: Error) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        }
    }
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
