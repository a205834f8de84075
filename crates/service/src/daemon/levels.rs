//! Several remotes as one backend, nearest first. What a nearer level doesn't have, the next is asked for; what comes from a
//! farther one is put into those in front of it. Each level has a health of its own, so that one that is down or silent
//! doesn't hold up the others.
//!
//! | question | levels |
//! | --- | --- |
//! | an entry, a snapshot | one after the other, until one has it |
//! | input records | all at once: each may know results that the others don't |
//! | what a build needs | all at once |
//! | an upload | all that are written; it is owed until the farthest of them has it |
//!
//! One remote alone is asked as if there were no levels.

use std::sync::Arc;
use std::time::Duration;

use kache_core::key::{EntryKey, UnitKey};
use kache_core::protocol::{Build, Seed};
use kache_core::snapshot::Snapshot;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::backend::{Asked, Blame, Candidate, DaemonBackend, Fetched, Names, Promise, Pushed, Trouble};
use super::bucket::Bucket;
use super::health::Health;
use super::traffic::{SMALL_MAX, Traffic};
use crate::setup;

/// How long a level that others stand behind may move nothing.
const SILENCE_MAX: Duration = SMALL_MAX.checked_div(2).expect("a divisor");
/// Entries at a time that are put into nearer levels.
const FILLS_MAX: usize = 4;

struct Level {
    bucket: Bucket,
    is_read: bool,
    is_written: bool,
    traffic: Arc<Traffic>,
    /// Whether writing there is worth trying.
    writing: Health,
}

pub struct Levels {
    levels: Vec<Arc<Level>>,
    fills: Arc<Semaphore>,
}

impl Levels {
    /// These remotes, nearest first, with at most `slots` guesses at a time for each.
    pub fn new(remotes: Vec<setup::Level>, slots: usize) -> Self {
        let level = |level: setup::Level| Level {
            bucket: Bucket::new(level.transfer),
            is_read: !level.remote.write_only.value,
            is_written: !level.remote.read_only.value,
            traffic: Arc::new(Traffic::new(slots)),
            writing: Health::default(),
        };
        let levels = remotes.into_iter().map(|remote| Arc::new(level(remote))).collect();
        Self { levels, fills: Arc::new(Semaphore::new(FILLS_MAX)) }
    }

    /// The only remote, where it needs no rules about levels.
    fn alone(&self) -> Option<&Bucket> {
        match &self.levels[..] {
            [only] if only.is_read => Some(&only.bucket),
            _ => None,
        }
    }

    fn read(&self) -> impl DoubleEndedIterator<Item = (usize, &Arc<Level>)> {
        self.levels.iter().enumerate().filter(|(_, level)| level.is_read)
    }

    /// Whether a level that is read comes behind this one.
    fn has_more(&self, place: usize) -> bool {
        self.levels[place + 1..].iter().any(|level| level.is_read)
    }

    /// Asks one level after the other until `is_found`. What no level could be asked for failed; what one of them doesn't
    /// have, the remote doesn't.
    async fn first<'a, T>(
        &'a self,
        none: T,
        is_found: impl Fn(&T) -> bool,
        ask: impl Fn(&'a Bucket) -> Promise<'a, T>,
    ) -> Result<(usize, T), Trouble> {
        let (mut answered, mut trouble) = (None, None);
        for (place, level) in self.read() {
            if !level.traffic.permits() {
                trouble = trouble.or_else(|| level.traffic.sickness().map(left_alone));
                continue;
            }
            match level.ask(self.has_more(place), ask(&level.bucket)).await {
                Ok(found) if is_found(&found) => return Ok((place, found)),
                Ok(_) => answered = Some(place),
                // Others can do no better.
                Err(error) if error.blame == Blame::Local => return Err(error),
                Err(error) => {
                    tracing::warn!(level = place, %error, "a level is passed over");
                    trouble.get_or_insert(error);
                }
            }
        }
        match (answered, trouble) {
            (None, Some(trouble)) => Err(trouble),
            (place, _) => Ok((place.unwrap_or(0), none)),
        }
    }

    /// Puts an entry that came from a level into those in front of it, behind everybody's back.
    fn fill(&self, before: usize, key: EntryKey) {
        for (place, level) in self.levels[..before].iter().enumerate().filter(|(_, level)| level.is_written) {
            let (level, fills) = (Arc::clone(level), Arc::clone(&self.fills));
            tokio::spawn(async move {
                let _turn = fills.acquire().await;
                if let Err(error) = level.push(key).await {
                    tracing::warn!(level = place, %key, %error, "a nearer level isn't filled");
                }
            });
        }
    }
}

/// The trouble of a level that isn't asked at the moment.
fn left_alone(why: String) -> Trouble {
    Trouble { blame: Blame::Remote, why }
}

fn silent_for(wait: Duration) -> Trouble {
    let why = format!("the remote moved nothing for {:.1} s", wait.as_secs_f64());
    Trouble { blame: Blame::Remote, why }
}

impl Level {
    /// Waits for an answer, and notes what it says about the level. Where others can be asked in place of it, silence is
    /// an answer, too.
    async fn ask<T>(
        &self,
        has_others: bool,
        answer: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        let silent = async {
            if has_others { self.bucket.silent_for(SILENCE_MAX).await } else { std::future::pending().await }
        };
        let answer = tokio::select! {
            answer = answer => answer,
            () = silent => Err(silent_for(SILENCE_MAX)),
        };
        match &answer {
            Ok(_) => self.traffic.answered(Duration::ZERO, SMALL_MAX),
            Err(trouble) => self.traffic.failed(trouble),
        }
        answer
    }

    /// An upload that others don't depend on, unless writing there has failed of late.
    async fn push(&self, key: EntryKey) -> Result<Pushed, Trouble> {
        if !self.writing.permits(Instant::now()) {
            return Err(left_alone(self.writing.sickness(Instant::now()).unwrap_or_default()));
        }
        let pushed = tokio::select! {
            pushed = self.bucket.push(key) => pushed,
            () = self.bucket.silent_for(SMALL_MAX) => Err(silent_for(SMALL_MAX)),
        };
        match &pushed {
            Ok(_) => self.writing.well(),
            Err(trouble) if trouble.blame == Blame::Local => {}
            Err(trouble) => self.writing.failed(trouble.blame, &trouble.why, Instant::now()),
        }
        pushed
    }
}

impl DaemonBackend for Levels {
    fn fetch_entry<'a>(&'a self, key: EntryKey, names: &'a Names, session: &'a str) -> Promise<'a, Fetched> {
        if let Some(only) = self.alone() {
            return only.fetch_entry(key, names, session);
        }
        Box::pin(async move {
            let is_found = |fetched: &Fetched| *fetched != Fetched::Absent;
            let ask = |bucket: &'a Bucket| bucket.fetch_entry(key, names, session);
            let (place, fetched) = self.first(Fetched::Absent, is_found, ask).await?;
            if matches!(fetched, Fetched::New { .. }) {
                self.fill(place, key);
            }
            Ok(fetched)
        })
    }

    fn fetch_records<'a>(&'a self, unit: UnitKey, names: &'a Names) -> Promise<'a, Fetched> {
        if let Some(only) = self.alone() {
            return only.fetch_records(unit, names);
        }
        Box::pin(async move {
            let mut asked = JoinSet::new();
            for (place, level) in self.read().filter(|(_, level)| level.traffic.permits()) {
                let (level, names, has_more) = (Arc::clone(level), names.clone(), self.has_more(place));
                asked.spawn(
                    async move { level.ask(has_more, level.bucket.fetch_records(unit, &names)).await },
                );
            }
            let (mut best, mut trouble) = (None, None);
            while let Some(answer) = asked.join_next().await {
                match answer {
                    Ok(Ok(new @ Fetched::New { .. })) => best = Some(new),
                    Ok(Ok(other)) => best = best.or(Some(other)),
                    Ok(Err(error)) => trouble = Some(error),
                    Err(_) => {}
                }
            }
            let nobody = || left_alone("no level can be asked at the moment".to_owned());
            best.ok_or_else(|| trouble.unwrap_or_else(nobody))
        })
    }

    fn foresee<'a>(
        &'a self,
        build: &'a Build,
        asked: Asked,
        candidates: mpsc::Sender<Candidate>,
        traffic: Arc<Traffic>,
    ) -> Promise<'a, ()> {
        if let Some(only) = self.alone() {
            return only.foresee(build, asked, candidates, traffic);
        }
        Box::pin(async move {
            let mut looks = JoinSet::new();
            for (_, level) in self.read() {
                let (level, build) = (Arc::clone(level), build.clone());
                let (asked, candidates) = (asked.clone(), candidates.clone());
                // A level that is down is waited for here, and nowhere else.
                let traffic = Arc::clone(&level.traffic);
                looks.spawn(async move { level.bucket.foresee(&build, asked, candidates, traffic).await });
            }
            drop(candidates);
            let mut result = Ok(());
            let mut is_any_well = looks.is_empty();
            while let Some(look) = looks.join_next().await {
                match look {
                    Ok(Ok(())) => is_any_well = true,
                    Ok(Err(error)) => result = Err(error),
                    Err(_) => {}
                }
            }
            if is_any_well { Ok(()) } else { result }
        })
    }

    fn find_snapshot<'a>(&'a self, wanted: &'a Seed) -> Promise<'a, Option<Snapshot>> {
        if let Some(only) = self.alone() {
            return only.find_snapshot(wanted);
        }
        Box::pin(async move {
            let found = self.first(None, Option::is_some, |bucket| bucket.find_snapshot(wanted)).await;
            found.map(|(_, snapshot)| snapshot)
        })
    }

    fn take_snapshot(&self, snapshot: Snapshot) -> Promise<'_, usize> {
        self.levels[0].bucket.take_snapshot(snapshot)
    }

    fn push(&self, key: EntryKey) -> Promise<'_, Pushed> {
        let mut written: Vec<_> = self.levels.iter().filter(|level| level.is_written).collect();
        let Some(farthest) = written.pop() else { return self.levels[0].bucket.push(key) };
        Box::pin(async move {
            let nearer = async {
                for (place, level) in written.into_iter().enumerate() {
                    if let Err(error) = level.push(key).await {
                        tracing::warn!(level = place, %key, %error, "a nearer level doesn't get an entry");
                    }
                }
            };
            let (pushed, ()) = tokio::join!(farthest.bucket.push(key), nearer);
            pushed
        })
    }
}

#[cfg(test)]
#[path = "levels_tests.rs"]
mod tests;
