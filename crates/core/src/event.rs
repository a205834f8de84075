//! Events: one line of the journal for each compiler invocation that the cache had a say in. Knows nothing about
//! where the journal is or who reads it.
//!
//! A line is one JSON object and a newline, at most [`EVENT_BYTES_MAX`] bytes. Readers skip lines that they can't
//! parse (a torn last line, a newer version) and ignore fields that they don't know.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::key::{EntryKey, UnitKey};

pub const VERSION: u32 = 1;
/// Longest line that is written or read, in bytes.
pub const EVENT_BYTES_MAX: usize = 8 << 10;

/// The kind of a build script's run.
pub const SCRIPT_RUN: &str = "build-script-run";

crate::words! {
    #[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
    #[serde(rename_all = "lowercase")]
    pub enum Outcome {
        Hit = "hit",
        /// Compiled, and every output was known already.
        Dup = "dup",
        #[default]
        Miss = "miss",
        /// Handed to the compiler without a look-up.
        Passthrough = "passthrough",
        /// The compiler reported an error in the user's code, or could not be run.
        Error = "error",
    }
}

/// Where a hit's entry came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// It was in the local store.
    Local,
    /// The daemon had fetched it before it was asked for.
    Prefetch,
    /// It was fetched from the remote on demand.
    Remote,
}

/// Time spent in each phase, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Times {
    /// From the start of the process to its end.
    pub total_us: u64,
    pub key_us: u64,
    pub lookup_us: u64,
    /// Waiting for another process that compiles the same unit, or that records the build before.
    pub wait_us: u64,
    /// Waiting for the daemon to look at the remote.
    pub remote_us: u64,
    pub restore_us: u64,
    pub compile_us: u64,
    pub store_us: u64,
}

/// Bytes moved, by how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Moved {
    /// Shared by hard link, in bytes.
    pub linked_bytes: u64,
    pub reflinked_bytes: u64,
    pub copied_bytes: u64,
    /// Left alone because the very file was there, in bytes.
    pub kept_bytes: u64,
    /// New in the store, in bytes.
    pub stored_bytes: u64,
}

/// What seeding did for one Cargo invocation.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Seeding {
    /// Compiles that were put into place.
    pub units: u64,
    /// Runs of build scripts that were put into place.
    pub runs: u64,
    /// What of that the build is about to use: units of the profile that Cargo works in.
    pub asked: Asked,
    /// Units of that profile that were not put into place.
    pub left_out: u64,
    /// How many for which reason, by its stable code.
    #[serde(skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub reasons: std::collections::BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub declined: Option<String>,
}

/// What seeding did of what a build asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Asked {
    /// Compiles that were put into place.
    pub units: u64,
    /// Runs of build scripts that were put into place.
    pub runs: u64,
    /// Runs that Cargo does itself although the script is in place.
    pub runs_left: u64,
    /// What making the placed units took when it was done, in milliseconds.
    pub saved_ms: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub version: u32,
    /// When the invocation ended, in milliseconds since 1970.
    pub at_ms: u64,
    /// One Cargo invocation: its process id and start time.
    #[serde(default)]
    pub session: String,
    /// Directory in which Cargo was started.
    #[serde(default)]
    pub project: String,
    /// The session that this one is a part of: of a Cargo that a build script has started, or of a call by a script.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// Mark of the CI job: see [`crate::config::ci::job`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<String>,
    /// `--crate-name`.
    pub crate_name: String,
    #[serde(default)]
    pub package: String,
    /// See `package`.
    #[serde(default)]
    pub package_version: String,
    /// Crate type (`lib`, `bin`, `test`, `proc-macro`, `build-script`, …).
    #[serde(default)]
    pub kind: String,
    /// `build`, `check` or `clippy`.
    #[serde(default)]
    pub mode: String,
    pub outcome: Outcome,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
    /// Stable code of the miss, bypass or degradation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Why the result of a compile was not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_stored: Option<String>,
    /// A compile whose accesses to files could not be observed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unobserved: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_key: Option<UnitKey>,
    /// Key of the entry that was served or stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_key: Option<EntryKey>,
    #[serde(default)]
    pub times: Times,
    /// Where the bytes went.
    #[serde(default)]
    pub moved: Moved,
    /// For hits: what the compile took when it was done, in milliseconds.
    #[serde(default)]
    pub saved_ms: u64,
    /// For the moment before a build: what was put into place. Such an event is about no crate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeding: Option<Seeding>,
    /// Exit code of the compiler; absent for hits and death by signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
}

impl Event {
    /// An event about `crate_name` with everything else empty.
    pub fn new(crate_name: &str, outcome: Outcome) -> Self {
        Self { version: VERSION, crate_name: crate_name.to_owned(), outcome, ..Self::default() }
    }

    /// The build that it belongs to: the session, or the one around it.
    pub fn build(&self) -> &str {
        self.within.as_deref().unwrap_or(&self.session)
    }

    /// Whether a compile was asked for that belongs to the build: build scripts try things out, too.
    pub fn is_compile(&self) -> bool {
        let aside = matches!(self.reason.as_deref(), Some("probe" | "stdin" | "not-from-cargo" | "source"));
        self.outcome != Outcome::Passthrough || (!aside && self.seeding.is_none())
    }

    /// Whether it is about a run of a build script.
    pub fn is_run(&self) -> bool {
        self.kind == SCRIPT_RUN
    }

    /// What it was about, for lists: all build scripts have one crate name, and a question to the compiler may have
    /// none.
    pub fn label(&self) -> Cow<'_, str> {
        match self.package.as_str() {
            "" => self.crate_name.as_str().into(),
            package if self.kind == "build-script" => format!("{package} (build script)").into(),
            package if self.is_run() => format!("{package} (build script run)").into(),
            package if self.crate_name == "?" => package.into(),
            _ => self.crate_name.as_str().into(),
        }
    }

    /// The journal line, with its newline. A detail that would make the line too long is shortened.
    pub fn encode(&self) -> Vec<u8> {
        let mut event = self.clone();
        for text in [&mut event.detail, &mut event.not_stored].into_iter().flatten() {
            truncate(text, 1 << 10);
        }
        truncate(&mut event.project, 4 << 10);
        let mut line = serde_json::to_vec(&event).unwrap_or_default();
        line.push(b'\n');
        line
    }

    /// Reads one line; `None` for anything that is not an event of this version.
    pub fn decode(line: &[u8]) -> Option<Self> {
        if line.len() > EVENT_BYTES_MAX * 2 {
            return None;
        }
        let event: Event = serde_json::from_slice(line).ok()?;
        (event.version == VERSION).then_some(event)
    }
}

/// As much of an event as it takes to find it among many: reading only this from a line takes a fraction of the time.
#[derive(Debug, PartialEq, Eq, Deserialize)]
pub struct Glimpse<'a> {
    version: u32,
    /// As in [`Event`].
    pub at_ms: u64,
    /// As in [`Event`].
    #[serde(borrow, default)]
    pub session: Cow<'a, str>,
    /// As in [`Event`].
    #[serde(borrow)]
    pub crate_name: Cow<'a, str>,
    /// As in [`Event`].
    #[serde(borrow, default)]
    pub package: Cow<'a, str>,
    /// As in [`Event`].
    #[serde(borrow, default)]
    pub kind: Cow<'a, str>,
    /// As in [`Event`].
    #[serde(borrow, default)]
    pub mode: Cow<'a, str>,
    /// As in [`Event`].
    pub outcome: Outcome,
    /// As in [`Event`].
    #[serde(default)]
    pub entry_key: Option<EntryKey>,
}

impl<'a> Glimpse<'a> {
    /// Reads one line; `None` for what is not an event of this version.
    pub fn decode(line: &'a [u8]) -> Option<Self> {
        if line.len() > EVENT_BYTES_MAX * 2 {
            return None;
        }
        let glimpse: Glimpse<'a> = serde_json::from_slice(line).ok()?;
        (glimpse.version == VERSION).then_some(glimpse)
    }
}

fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let mut end = bytes_max;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        text.truncate(end);
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_name_of_its_own_has_its_packages() {
        for (crate_name, package, kind, label) in [
            ("serde", "serde", "lib", "serde"),
            ("build_script_build", "libc", "build-script", "libc (build script)"),
            ("build_script_run", "libc", SCRIPT_RUN, "libc (build script run)"),
            ("?", "libc", "", "libc"),
            ("?", "", "", "?"),
        ] {
            let mut event = Event::new(crate_name, Outcome::Hit);
            (event.package, event.kind) = (package.into(), kind.into());
            assert_eq!(event.label(), label);
        }
    }

    #[test]
    fn lines_round_trip_and_stay_short() {
        let mut event = Event::new("demo", Outcome::Miss);
        event.detail = Some("ü".repeat(10_000));
        let line = event.encode();
        assert!(line.len() < EVENT_BYTES_MAX);
        let back = Event::decode(&line).expect("own output");
        assert_eq!(back.crate_name, "demo");
        assert!(back.detail.is_some_and(|d| d.ends_with('…')));
    }

    #[test]
    fn a_glimpse_shows_what_the_event_has() {
        let mut event = Event::new("a_crate", Outcome::Dup);
        event.at_ms = 7;
        event.session = "1-2 \"quoted\"".to_owned();
        event.package = "a-crate".to_owned();
        event.entry_key = Some(EntryKey(crate::digest::Digest::of(b"e")));
        let line = event.encode();
        let glimpse = Glimpse::decode(&line).expect("own output");
        assert_eq!(glimpse.session, event.session);
        assert_eq!((&*glimpse.crate_name, &*glimpse.package), ("a_crate", "a-crate"));
        assert_eq!((glimpse.at_ms, glimpse.outcome, glimpse.entry_key), (7, Outcome::Dup, event.entry_key));
        assert_eq!(Glimpse::decode(&line[..line.len() / 2]), None);
    }

    #[test]
    fn torn_lines_and_other_versions_are_skipped() {
        let line = Event::new("demo", Outcome::Hit).encode();
        for cut in 0..line.len() - 1 {
            assert_eq!(Event::decode(&line[..cut]), None);
        }
        let newer = String::from_utf8(line).expect("text").replace("\"version\":1", "\"version\":2");
        assert_eq!(Event::decode(newer.as_bytes()), None);
    }
}
