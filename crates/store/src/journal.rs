//! The journal: one event per line, appended by every process with a single write, rotated by rename. Does not know
//! what the events mean.
//!
//! ```text
//! journal/current.jsonl        being appended to
//! journal/<at_ms>.jsonl        full; named by the time of its rotation, in milliseconds since 1970, 13 digits
//! ```
//! A torn line (full disk, power cut) is skipped, and an event glued to its end is found all the same.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::event::{EVENT_BYTES_MAX, Event};

use crate::clock::since_1970;
use crate::error::{Doing, Error};
use crate::fault::{self, Point};
use crate::files::{open_append, remove};
use crate::layout::Store;
use crate::lock::Locking;

/// Size at which the current file is put aside, in bytes. Sums over full files can be remembered, so this bounds what
/// a summary has to read again.
const ROTATE_BYTES: u64 = 4 << 20;

/// How many full files are kept.
const KEPT_FILES: usize = 32;

/// A process may append to a file that another has just put aside; no later than this after, in milliseconds.
const STRAGGLER_MS: u64 = 60_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalFile {
    pub path: PathBuf,
    /// When it was put aside, in milliseconds since 1970; `None` while it is being appended to.
    pub end_ms: Option<u64>,
    pub bytes: u64,
}

impl JournalFile {
    /// Whether nothing is appended to it any more.
    pub fn is_final(&self, now_ms: u64) -> bool {
        self.end_ms.is_some_and(|end_ms| end_ms.saturating_add(STRAGGLER_MS) < now_ms)
    }

    /// Whether it can hold events of this time, in milliseconds since 1970, or later.
    pub fn reaches(&self, since_ms: u64) -> bool {
        self.end_ms.is_none_or(|end_ms| end_ms.saturating_add(STRAGGLER_MS) >= since_ms)
    }

    /// Its events, in the order they were written. What can't be read is left out.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<> {
        Events { files: VecDeque::from([self.path.clone()]), reader: None }
    }
}

impl Store {
    /// Appends an event.
    pub fn append(&self, event: &Event) -> Result<(), Error> {
        self.append_rotating_at(event, ROTATE_BYTES)
    }

    fn append_rotating_at(&self, event: &Event, rotate_bytes: u64) -> Result<(), Error> {
        let path = self.current_journal();
        let mut file = open_append(&path).doing("open journal", &path)?;
        let line = event.encode();
        fault::point(Point::JournalOpened);
        let written = file.write(&line).doing("append to journal", &path)?;
        if written < line.len() {
            return Err(Error::new("append to journal", path, io::ErrorKind::WriteZero));
        }
        fault::point(Point::JournalAppended);
        if file.metadata().is_ok_and(|meta| meta.len() >= rotate_bytes) {
            self.rotate_journal(rotate_bytes)?;
        }
        Ok(())
    }

    /// Events since a time in milliseconds since 1970, or all; oldest file first, each in the order it was written.
    /// What can't be read is left out.
    pub fn events(&self, since_ms: Option<u64>) -> impl Iterator<Item = Event> + use<> {
        let since_ms = since_ms.unwrap_or(0);
        let files = self.journal_files().into_iter().filter(|file| file.reaches(since_ms));
        let files = files.map(|file| file.path).collect();
        Events { files, reader: None }.filter(move |event| event.at_ms >= since_ms)
    }

    /// The files of the journal, oldest first.
    pub fn journal_files(&self) -> Vec<JournalFile> {
        let full = self.full_journals().into_iter().map(|(end_ms, path)| (Some(end_ms), path));
        let files = full.chain([(None, self.current_journal())]);
        let file = |(end_ms, path): (Option<u64>, PathBuf)| {
            let bytes = fs::metadata(&path).ok()?.len();
            Some(JournalFile { path, end_ms, bytes })
        };
        files.filter_map(file).collect()
    }

    /// Puts the current file aside when it is full. Whoever appends does the same; this is for a file that nobody has
    /// appended to since it was filled by a kache that allowed more.
    pub fn rotate_journal_if_full(&self) -> Result<(), Error> {
        self.rotate_journal(ROTATE_BYTES)
    }

    fn current_journal(&self) -> PathBuf {
        self.journal_dir().join("current.jsonl")
    }

    /// Full files with the time of their rotation, oldest first.
    fn full_journals(&self) -> Vec<(u64, PathBuf)> {
        let files = fs::read_dir(self.journal_dir()).into_iter().flatten().flatten();
        let mut full: Vec<_> = files
            .filter_map(|file| {
                let end_ms = file.file_name().to_str()?.strip_suffix(".jsonl")?.parse().ok()?;
                Some((end_ms, file.path()))
            })
            .collect();
        full.sort();
        full
    }

    /// Puts the current file aside, unless somebody else does or did.
    fn rotate_journal(&self, rotate_bytes: u64) -> Result<(), Error> {
        let Locking::Locked(_lock) = self.lock("journal", Duration::ZERO)? else { return Ok(()) };
        let current = self.current_journal();
        if !fs::metadata(&current).is_ok_and(|meta| meta.len() >= rotate_bytes) {
            return Ok(());
        }
        let now_ms = since_1970().as_millis();
        let mut full = self.full_journals();
        // Names rise even where the clock doesn't.
        let newest = full.last().map_or(0, |(end_ms, _)| *end_ms);
        let end_ms = u64::try_from(now_ms).unwrap_or(0).max(newest + 1);
        let dest = self.journal_dir().join(format!("{end_ms:013}.jsonl"));
        fs::rename(&current, &dest).doing("rotate journal", &current)?;
        fault::point(Point::JournalRotated);
        full.push((end_ms, dest));
        for (_, path) in full.iter().rev().skip(KEPT_FILES) {
            remove(path)?;
        }
        Ok(())
    }
}

/// The events of some files, one after the other.
struct Events {
    files: VecDeque<PathBuf>,
    reader: Option<BufReader<File>>,
}

impl Iterator for Events {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        let mut line = Vec::new();
        loop {
            let Some(reader) = &mut self.reader else {
                self.reader = File::open(self.files.pop_front()?).ok().map(BufReader::new);
                continue;
            };
            match read_line(reader, &mut line) {
                Ok(0) | Err(_) => self.reader = None,
                Ok(_) => {
                    if let Some(event) = decode(&line) {
                        return Some(event);
                    }
                }
            }
        }
    }
}

/// Reads up to and including a newline; of a line that is too long to be an event, only pieces.
pub(crate) fn read_line(reader: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<usize> {
    line.clear();
    reader.take(4 * EVENT_BYTES_MAX as u64).read_until(b'\n', line)
}

/// The event of a line, or the one that was appended to a torn line's beginning.
fn decode(line: &[u8]) -> Option<Event> {
    Event::decode(line).or_else(|| Event::decode(&line[last_start(line)?..]))
}

/// Where the last event of a line begins, if there is any sign of one.
pub(crate) fn last_start(line: &[u8]) -> Option<usize> {
    const START: &[u8] = b"{\"version\":";
    line.windows(START.len()).rposition(|window| window == START)
}

/// Follows the journal as it grows: each call gives what was appended since the one before.
#[derive(Debug)]
pub struct Follower {
    path: PathBuf,
    file: Option<File>,
    rest: Vec<u8>,
}

impl Follower {
    /// Starts at the journal's present end.
    pub fn at_end(store: &Store) -> Self {
        let path = store.current_journal();
        let file = File::open(&path).ok().and_then(|mut file| {
            io::Seek::seek(&mut file, io::SeekFrom::End(0)).ok()?;
            Some(file)
        });
        Self { path, file, rest: Vec::new() }
    }

    /// The events that came since the last call.
    pub fn poll(&mut self) -> Result<Vec<Event>, Error> {
        let mut events = Vec::new();
        self.read_on(&mut events)?;
        if self.is_rotated() {
            // What came between the last read and the rotation, then the new file from its beginning.
            self.read_on(&mut events)?;
            self.file = File::open(&self.path).ok();
            self.rest.clear();
            self.read_on(&mut events)?;
        }
        Ok(events)
    }

    fn is_rotated(&self) -> bool {
        use std::os::unix::fs::MetadataExt;
        let identity = |meta: fs::Metadata| (meta.dev(), meta.ino());
        let followed = self.file.as_ref().and_then(|file| file.metadata().ok()).map(identity);
        let current = fs::metadata(&self.path).ok().map(identity);
        current.is_some() && current != followed
    }

    fn read_on(&mut self, events: &mut Vec<Event>) -> Result<(), Error> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.read_to_end(&mut self.rest).doing("read journal", Path::new(&self.path))?;
        let complete = self.rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        events.extend(self.rest[..complete].split(|byte| *byte == b'\n').filter_map(decode));
        self.rest.drain(..complete);
        Ok(())
    }
}

#[cfg(test)]
#[path = "journal_tests.rs"]
mod tests;
