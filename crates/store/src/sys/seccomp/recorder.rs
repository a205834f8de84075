//! Owns the record of an observation: which paths count, in what form, and how many at most.
//! Does not know how accesses come to light.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::clock::FileTime;

use super::super::observation::{AccessKind, Observation, ObservedAccess, Scope, Writes};

/// Distinct paths remembered before the record gives up.
const PATHS_MAX: usize = 200_000;
/// Bytes of paths remembered before the record gives up.
const SIZE_BYTES_MAX: usize = 32 << 20;
const KINDS: [AccessKind; 9] = [
    AccessKind::Read,
    AccessKind::Update,
    AccessKind::List,
    AccessKind::Exec,
    AccessKind::Link,
    AccessKind::Probe,
    AccessKind::Write,
    AccessKind::Remove,
    AccessKind::Network,
];
/// Whoever knows the content knows that it exists.
const READING: u16 = bit(AccessKind::Read) | bit(AccessKind::Update) | bit(AccessKind::List);

/// Not a kind: written before its content was used.
const REWRITTEN: u16 = 1 << 15;

const fn bit(kind: AccessKind) -> u16 {
    1 << kind as u8
}

/// Collects accesses, each path once.
#[derive(Debug)]
pub(super) struct Recorder {
    started: FileTime,
    ignored: Vec<Vec<u8>>,
    writes: Writes,
    seen: HashMap<Vec<u8>, u16>,
    size_bytes: usize,
    overflowed: bool,
    unreadable: u32,
    calls: u64,
    /// Not even the first call, which is our own child's, could be read.
    is_blind: bool,
}

impl Recorder {
    pub(super) fn new(scope: &Scope) -> Self {
        let ignored = scope.ignored.iter().map(|path| clean(path.as_os_str().as_bytes(), |_| true)).collect();
        Self {
            started: FileTime::now_coarse(),
            ignored,
            writes: scope.writes,
            seen: HashMap::new(),
            size_bytes: 0,
            overflowed: false,
            unreadable: 0,
            calls: 0,
            is_blind: false,
        }
    }

    pub(super) fn started(&self) -> FileTime {
        self.started
    }

    /// Notes that `path`, which must be absolute, was used.
    pub(super) fn add(&mut self, path: &[u8], kind: AccessKind) {
        let is_change = matches!(kind, AccessKind::Write | AccessKind::Remove);
        if self.overflowed || (is_change && self.writes == Writes::Skip) {
            return;
        }
        let path = clean(path, is_real_directory);
        if self.ignored.iter().any(|prefix| is_at_or_below(&path, prefix)) {
            return;
        }
        if let Some(kinds) = self.seen.get_mut(&path) {
            if kind == AccessKind::Write && *kinds & READING == 0 {
                *kinds |= REWRITTEN;
            }
            *kinds |= bit(kind);
            return;
        }
        if self.seen.len() >= PATHS_MAX || self.size_bytes + path.len() > SIZE_BYTES_MAX {
            self.overflowed = true;
            return;
        }
        self.size_bytes += path.len();
        let rewritten = if kind == AccessKind::Write { REWRITTEN } else { 0 };
        self.seen.insert(path, bit(kind) | rewritten);
    }

    /// Counts one stopped call, whatever it was about.
    pub(super) fn count_call(&mut self) {
        self.calls += 1;
    }

    /// Notes that the call counted last is one whose path is unknown.
    pub(super) fn add_unreadable(&mut self) {
        self.is_blind |= self.calls == 1;
        self.unreadable = self.unreadable.saturating_add(1);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.overflowed || self.is_blind
    }

    /// Nothing if nothing could be seen.
    pub(super) fn into_observation(self) -> Option<Observation> {
        let Self { seen, overflowed, unreadable, calls, is_blind, .. } = self;
        if is_blind {
            return None;
        }
        let mut accesses = Vec::with_capacity(seen.len());
        let mut rewritten = BTreeSet::new();
        for (path, mut kinds) in seen {
            if kinds & READING != 0 {
                kinds &= !bit(AccessKind::Probe);
            }
            let path = PathBuf::from(OsString::from_vec(path));
            if kinds & REWRITTEN != 0 {
                rewritten.insert(path.clone());
            }
            for kind in KINDS {
                if kinds & bit(kind) != 0 {
                    accesses.push(ObservedAccess { path: path.clone(), kind });
                }
            }
        }
        accesses.sort_unstable();
        Some(Observation { accesses, rewritten, overflowed, unreadable, calls, outlived: false })
    }
}

/// Drops `.` and empty components, and each `..` together with the component before it if that one satisfies
/// `is_real_directory`.
fn clean(path: &[u8], is_real_directory: impl Fn(&[u8]) -> bool) -> Vec<u8> {
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." if cleaned.is_empty() => {}
            b".." if is_real_directory(&cleaned) => {
                let parent = cleaned.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                cleaned.truncate(parent);
            }
            _ => {
                cleaned.push(b'/');
                cleaned.extend_from_slice(component);
            }
        }
    }
    if cleaned.is_empty() {
        cleaned.push(b'/');
    }
    cleaned
}

fn is_real_directory(path: &[u8]) -> bool {
    if path.ends_with(b"/..") {
        return false;
    }
    fs::symlink_metadata(Path::new(OsStr::from_bytes(path))).is_ok_and(|metadata| metadata.is_dir())
}

/// A `..` that is still there may lead out of the prefix again, so it counts as outside.
fn is_at_or_below(path: &[u8], prefix: &[u8]) -> bool {
    let Some(rest) = path.strip_prefix(prefix) else { return false };
    let is_whole = rest.is_empty() || rest.first() == Some(&b'/') || prefix == b"/";
    is_whole && !rest.split(|byte| *byte == b'/').any(|component| component == b"..")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(path: &str, real_directories: &[&str]) -> String {
        let clean =
            clean(path.as_bytes(), |path| real_directories.iter().any(|real| real.as_bytes() == path));
        String::from_utf8(clean).expect("text in, text out")
    }

    #[test]
    fn paths_are_cleaned_without_changing_what_they_name() {
        for (path, real_directories, expected) in [
            ("/a/b", &[][..], "/a/b"),
            ("//a/./b/", &[], "/a/b"),
            ("/", &[], "/"),
            ("/..", &[], "/"),
            ("/../../a", &[], "/a"),
            ("/a/b/../c", &["/a/b"], "/a/c"),
            ("/a/link/../c", &[], "/a/link/../c"),
            ("/a/link/../../c", &[], "/a/link/../../c"),
            ("/a/link/../b/../c", &["/a/link/../b"], "/a/link/../c"),
            ("/a/../b/../c", &["/a", "/b"], "/c"),
            ("/a/.hidden/..c", &[], "/a/.hidden/..c"),
        ] {
            assert_eq!(cleaned(path, real_directories), expected, "{path}");
        }
    }

    fn recorded(scope: &Scope, accesses: &[(&str, AccessKind)]) -> Vec<(String, AccessKind)> {
        let mut recorder = Recorder::new(scope);
        for (path, kind) in accesses {
            recorder.add(path.as_bytes(), *kind);
        }
        let accesses = recorder.into_observation().expect("not blind").accesses;
        accesses.into_iter().map(|access| (access.path.display().to_string(), access.kind)).collect()
    }

    #[test]
    fn a_path_is_listed_once_per_use_and_a_probe_only_if_the_content_is_unknown() {
        use AccessKind::{Exec, Link, List, Probe, Read, Update, Write};
        for (uses, expected) in [
            (&[Probe, Probe][..], &[Probe][..]),
            (&[Read, Probe, Read], &[Read]),
            (&[Probe, Exec, Read], &[Read, Exec]),
            (&[Probe, List], &[List]),
            (&[Probe, Update], &[Update]),
            (&[Probe, Exec], &[Exec, Probe]),
            (&[Link, Probe], &[Link, Probe]),
            (&[Write, Probe], &[Probe, Write]),
        ] {
            let accesses: Vec<_> = uses.iter().map(|kind| ("/a", *kind)).collect();
            let expected: Vec<_> = expected.iter().map(|kind| ("/a".to_owned(), *kind)).collect();
            assert_eq!(recorded(&Scope { writes: Writes::Observe, ..Scope::default() }, &accesses), expected);
        }
        assert_eq!(recorded(&Scope::default(), &[("/a", Write)]), []);
    }

    #[test]
    fn what_is_written_first_is_told_apart() {
        use AccessKind::{Probe, Read, Write};
        for (uses, expected) in [
            (&[Write, Read][..], true),
            (&[Probe, Write, Read], true),
            (&[Read, Write], false),
            (&[Read], false),
        ] {
            let mut recorder = Recorder::new(&Scope { writes: Writes::Observe, ..Scope::default() });
            uses.iter().for_each(|kind| recorder.add(b"/a", *kind));
            let seen = recorder.into_observation().expect("not blind");
            assert_eq!(seen.rewritten.contains(Path::new("/a")), expected, "{uses:?}");
        }
    }

    #[test]
    fn nothing_is_recorded_below_an_ignored_prefix() {
        use AccessKind::Read;
        for (prefix, path, is_recorded) in [
            ("/proc", "/proc/self/maps", false),
            ("/proc", "/proc", false),
            ("/proc/", "/proc/self", false),
            ("/proc", "/processes", true),
            ("/a/b", "/a", true),
            ("/", "/a", false),
            ("/a", "/a/missing-here/../b", true),
            ("/a", "/a/..b/c", false),
        ] {
            let scope = Scope { ignored: vec![PathBuf::from(prefix)], ..Scope::default() };
            assert_eq!(!recorded(&scope, &[(path, Read)]).is_empty(), is_recorded, "{prefix} {path}");
        }
    }

    #[test]
    fn a_first_call_that_can_not_be_read_makes_blind_and_a_later_one_incomplete() {
        let mut recorder = Recorder::new(&Scope::default());
        recorder.count_call();
        recorder.add_unreadable();
        assert_eq!(recorder.into_observation(), None);

        let mut recorder = Recorder::new(&Scope::default());
        recorder.count_call();
        recorder.add(b"/a", AccessKind::Exec);
        recorder.count_call();
        recorder.add_unreadable();
        let observation = recorder.into_observation().expect("not blind");
        assert!(!observation.is_complete() && observation.unreadable == 1 && observation.accesses.len() == 1);
    }

    #[test]
    fn the_record_is_bounded() {
        let mut recorder = Recorder::new(&Scope::default());
        for number in 0..=PATHS_MAX {
            recorder.add(format!("/{number}").as_bytes(), AccessKind::Read);
        }
        assert!(recorder.is_closed());
        let observation = recorder.into_observation().expect("not blind");
        assert!(observation.overflowed && !observation.is_complete());
        assert_eq!(observation.accesses.len(), PATHS_MAX);

        let long = "x".repeat(4000);
        let mut recorder = Recorder::new(&Scope::default());
        for number in 0..SIZE_BYTES_MAX / 4000 {
            recorder.add(format!("/{number}/{long}").as_bytes(), AccessKind::Read);
        }
        assert!(recorder.is_closed());
    }
}
