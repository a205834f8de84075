//! Sums over the journal. Those over its full files are remembered, so that a long history costs a summary nothing;
//! only the file that is being appended to is read again.

use std::path::Path;
use std::time::Duration;

use kache_core::config::ci;
use kache_core::digest::Digest;
use kache_core::event::Event;
use kache_core::tally::{Build, Tally};
use kache_store::Store;
use kache_store::journal::JournalFile;

use super::{ms_ago, now_ms};
use crate::error::CliError;

/// Which part of the journal is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Period {
    All,
    /// What happened since this long ago.
    Since(Duration),
    /// The latest Cargo invocation.
    LastBuild,
    /// This CI job.
    Job,
}

impl Period {
    pub const fn word(self) -> &'static str {
        match self {
            Period::All => "all",
            Period::Since(_) => "since",
            Period::LastBuild => "last-build",
            Period::Job => "job",
        }
    }
}

/// Kind of the memos; changes whenever the meaning of a tally does.
const MEMO: &str = "tally-3";

/// The sums over the events of a period.
pub fn tally(store: &Store, period: Period) -> Tally {
    let files = store.journal_files();
    match period {
        Period::All => merged(files.iter().map(|file| of_file(store, file))),
        Period::Since(duration) => {
            let since_ms = ms_ago(duration);
            merged(
                files.iter().filter(|file| file.reaches(since_ms)).map(|file| since(store, file, since_ms)),
            )
        }
        Period::LastBuild => Tally::of(&last_build(store)),
        Period::Job => Tally::of(&this_job(store)),
    }
}

fn merged(tallies: impl Iterator<Item = Tally>) -> Tally {
    tallies.fold(Tally::default(), |mut sum, tally| {
        sum.merge(tally);
        sum
    })
}

fn of_file(store: &Store, file: &JournalFile) -> Tally {
    let is_final = file.is_final(now_ms());
    let key = memo_key(file);
    if is_final
        && let Some(memo) = store.memo_get(MEMO, &key)
        && let Ok(tally) = serde_json::from_slice(&memo)
    {
        return tally;
    }
    let mut tally = Tally::default();
    file.events().for_each(|event| tally.add(&event));
    if is_final {
        // A memo that can't be written costs the next summary some time.
        let _ = store.memo_put(MEMO, &key, &serde_json::to_vec(&tally).unwrap_or_default());
    }
    tally
}

fn memo_key(file: &JournalFile) -> Digest {
    let name = file.path.file_name().unwrap_or_default().to_string_lossy();
    Digest::of(format!("{name} {}", file.bytes).as_bytes())
}

/// The sums over what happened in one file since a time.
fn since(store: &Store, file: &JournalFile, since_ms: u64) -> Tally {
    let whole = of_file(store, file);
    if whole.all.first_ms >= since_ms {
        return whole;
    }
    let mut tally = Tally::default();
    if whole.all.last_ms < since_ms {
        return tally;
    }
    file.events().filter(|event| event.at_ms >= since_ms).for_each(|event| tally.add(&event));
    tally
}

/// The events of the build that ended last: of this project where it has any, which is one above or below the current
/// directory. Only the files that have any of them are read again.
pub fn last_build(store: &Store) -> Vec<Event> {
    last_build_in(store, &std::env::current_dir().unwrap_or_default())
}

fn last_build_in(store: &Store, cwd: &Path) -> Vec<Event> {
    let files = store.journal_files();
    let tallies: Vec<Tally> = files.iter().map(|file| of_file(store, file)).collect();
    let builds = tallies.iter().flat_map(|tally| &tally.builds);
    let is_here = |project: &str| {
        !project.is_empty() && (cwd.starts_with(project) || Path::new(project).starts_with(cwd))
    };
    let rank = |build: &Build| (build.has_compiles(), is_here(&build.project), build.part.last_ms);
    let Some((session, _)) = builds.max_by_key(|(_, build)| rank(build)) else { return Vec::new() };
    let its_files = files.iter().zip(&tallies).filter(|(_, tally)| tally.builds.contains_key(session));
    its_files.flat_map(|(file, _)| file.events()).filter(|event| event.build() == session).collect()
}

/// The mark of the CI job that this process is a part of.
pub fn job() -> Option<String> {
    ci::job(|name| std::env::var(name).ok())
}

/// The events of this CI job, also where the journal came with the store and tells of jobs before it.
pub fn this_job(store: &Store) -> Vec<Event> {
    let job = job();
    store.events(None).filter(|event| event.job.is_some() && event.job == job).collect()
}

/// The period that is asked for, or in a CI job, where none is, that job.
pub fn chosen(since: Option<Duration>, last_build: bool, is_job: bool) -> Result<Period, CliError> {
    if is_job && job().is_none() {
        return Err(CliError::usage("this is no CI job that kache knows")
            .hint("set KACHE_JOB to a text that no other job has, before the build and now"));
    }
    Ok(match since {
        _ if last_build => Period::LastBuild,
        Some(duration) => Period::Since(duration),
        None if is_job || job().is_some() => Period::Job,
        None => Period::All,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::event::Outcome;

    fn event(name: &str, at_ms: u64, session: &str) -> Event {
        let mut event = Event::new(name, Outcome::Hit);
        event.at_ms = at_ms;
        event.session = session.to_owned();
        event
    }

    /// A store with a full file of two hours ago and a current one.
    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("temporary directory");
        let store = Store::open(dir.path()).expect("store");
        let now = now_ms();
        let full: Vec<u8> = [event("a", 1000, "1"), event("b", now - 7_200_000, "2")]
            .iter()
            .flat_map(Event::encode)
            .collect();
        std::fs::write(store.journal_dir().join(format!("{:013}.jsonl", now - 7_000_000)), full)
            .expect("file");
        store.append(&event("c", now - 60_000, "2")).expect("append");
        store.append(&event("d", now - 90_000, "3")).expect("append");
        (dir, store)
    }

    fn names(tally: &Tally) -> String {
        tally.crates.keys().map(String::as_str).collect()
    }

    #[test]
    fn periods_and_remembered_files_give_the_same_sums() {
        let (_dir, store) = store();
        for _ in 0..2 {
            assert_eq!(names(&tally(&store, Period::All)), "abcd");
            assert_eq!(names(&tally(&store, Period::Since(Duration::from_secs(3600)))), "cd");
            assert_eq!(names(&tally(&store, Period::Since(Duration::from_secs(3 * 3600)))), "bcd");
            assert_eq!(names(&tally(&store, Period::LastBuild)), "bc");
        }
    }

    #[test]
    fn the_latest_build_is_this_projects_even_when_everything_was_passed_through() {
        let (_dir, store) = store();
        let mut passed = Event::new("e", Outcome::Passthrough);
        (passed.at_ms, passed.session, passed.project) = (now_ms() - 50, "4".into(), "/src/one".into());
        passed.reason = Some("unknown-flag".into());
        store.append(&passed).expect("append");
        let mut other = event("f", now_ms(), "5");
        other.project = "/src/other".into();
        store.append(&other).expect("append");
        for (cwd, expected) in
            [("/src/one", "e"), ("/src/one/sub", "e"), ("/src/other", "f"), ("/src", "f"), ("/x", "f")]
        {
            let events = last_build_in(&store, Path::new(cwd));
            assert_eq!(names(&Tally::of(&events)), expected, "{cwd}");
        }
    }

    #[test]
    fn a_memo_that_makes_no_sense_is_made_anew() {
        let (_dir, store) = store();
        let key = memo_key(&store.journal_files()[0]);
        store.memo_put(MEMO, &key, b"{}x").expect("memo");
        assert_eq!(names(&tally(&store, Period::All)), "abcd");
        assert!(store.memo_get(MEMO, &key).is_some_and(|memo| memo.len() > 3));
    }
}
