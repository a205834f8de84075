//! Finding some events of a long journal: every line is looked at, only what is found is read. Files are looked through
//! side by side. Does not know what is looked for.

use std::fs::File;
use std::io::BufReader;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use kache_core::event::{Event, Glimpse};

use crate::journal::read_line;
use crate::layout::Store;

/// Where an event is in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    file: usize,
    offset: u64,
    bytes: usize,
}

/// The journal as it was, for reading events again that were found in it.
#[derive(Debug)]
pub struct Index<T> {
    files: Vec<Option<File>>,
    /// What was found, in the order of the journal.
    pub found: Vec<(T, Place)>,
}

impl<T> Index<T> {
    /// An event that was found; `None` when it can't be read any more.
    pub fn event(&self, place: Place) -> Option<Event> {
        let mut line = vec![0; place.bytes];
        self.files[place.file].as_ref()?.read_exact_at(&mut line, place.offset).ok()?;
        Event::decode(&line)
    }
}

impl Store {
    /// Looks at every event of the journal, and keeps what `look` makes of those that are of interest. What can't be read
    /// is left out.
    pub fn index_journal<T: Send>(&self, look: impl Fn(&Glimpse<'_>) -> Option<T> + Sync) -> Index<T> {
        let paths: Vec<PathBuf> = self.journal_files().into_iter().map(|file| file.path).collect();
        let files: Vec<Option<File>> = paths.iter().map(|path| File::open(path).ok()).collect();
        let next = AtomicUsize::new(0);
        let found: Mutex<Vec<_>> = Mutex::new(files.iter().map(|_| Vec::new()).collect());
        let search = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(at) else { return };
                let Some(file) = file else { continue };
                let those = look_through(file, at, &look);
                found.lock().unwrap_or_else(PoisonError::into_inner)[at] = those;
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(files.len());
        std::thread::scope(|scope| {
            (1..threads).for_each(|_| drop(scope.spawn(search)));
            search();
        });
        let found =
            found.into_inner().unwrap_or_else(PoisonError::into_inner).into_iter().flatten().collect();
        Index { files, found }
    }
}

fn look_through<T>(file: &File, at: usize, look: impl Fn(&Glimpse<'_>) -> Option<T>) -> Vec<(T, Place)> {
    let mut found = Vec::new();
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let mut line = Vec::new();
    let mut offset = 0;
    while let Ok(bytes @ 1..) = read_line(&mut reader, &mut line) {
        if let Some((start, glimpse)) = glimpse(&line)
            && let Some(wanted) = look(&glimpse)
        {
            found.push((wanted, Place { file: at, offset: offset + start as u64, bytes: bytes - start }));
        }
        offset += bytes as u64;
    }
    found
}

/// The event of a line, or the one that was appended to a torn line's beginning, and where it starts.
fn glimpse(line: &[u8]) -> Option<(usize, Glimpse<'_>)> {
    if let Some(glimpse) = Glimpse::decode(line) {
        return Some((0, glimpse));
    }
    let start = crate::journal::last_start(line)?;
    Some((start, Glimpse::decode(&line[start..])?))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kache_core::event::Outcome;

    use super::*;

    #[test]
    fn what_is_found_is_what_reading_everything_finds() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        assert!(store.index_journal(|_| Some(())).found.is_empty());
        let event = |name: &str, outcome| Event { session: name.repeat(3), ..Event::new(name, outcome) };
        let mut bytes = Vec::new();
        for (name, outcome) in [("a", Outcome::Hit), ("b", Outcome::Miss), ("c", Outcome::Hit)] {
            bytes.extend(event(name, outcome).encode());
            bytes.extend(&event("torn", Outcome::Hit).encode()[..30]);
        }
        for name in ["0000000000007.jsonl", "0000000000009.jsonl", "current.jsonl"] {
            fs::write(store.journal_dir().join(name), &bytes).expect("write");
        }
        let all: Vec<Event> = store.events(None).collect();
        assert_eq!(all.len(), 9);
        let index = store.index_journal(|glimpse| Some(glimpse.at_ms));
        let read: Vec<Event> = index.found.iter().filter_map(|(_, place)| index.event(*place)).collect();
        assert_eq!(read, all);
        let hits = store.index_journal(|glimpse| {
            (glimpse.outcome == Outcome::Hit).then(|| glimpse.crate_name.clone().into_owned())
        });
        let names: Vec<&str> = hits.found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "c", "a", "c", "a", "c"]);
        // Put aside meanwhile, as a rotation does.
        fs::rename(store.journal_dir().join("current.jsonl"), store.journal_dir().join("x")).expect("rename");
        assert_eq!(hits.event(hits.found[5].1).map(|event| event.crate_name), Some("c".to_owned()));
    }
}
