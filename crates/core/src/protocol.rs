//! What the wrapper and the daemon say to each other over a Unix socket, and its byte form. Knows neither sockets nor
//! what the answers come from.
//!
//! ```text
//! frame  = "kcd\n" version:u32 length:u32 body     little-endian; body is JSON of at most FRAME_BYTES_MAX bytes
//! asker  : one request, then it reads
//! daemon : any number of "working", then one reply, then it closes
//! ```
//! The first twelve bytes never change their form, so that both sides can tell another version. Lengths are judged
//! before anything is read or allocated. Whatever arrives is checked by [`Request::check`] before it is acted upon.
//!
//! A question that a daemon doesn't know it refuses, and goes on to answer the others: so a new one is no new version, as
//! long as the asker can do without the answer.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::key::{EntryKey, UnitKey};
use crate::record::RECORDS_MAX;
use crate::remote::shared::About;

/// Version of the frames and of their content.
pub const VERSION: u32 = 1;
pub const FRAME_BYTES_MAX: usize = 64 << 10;
/// Length of what comes before a body, in bytes.
pub const HEADER_BYTES: usize = 12;

const MAGIC: [u8; 4] = *b"kcd\n";
const NAME_BYTES_MAX: usize = 255;
const PATH_BYTES_MAX: usize = 4096;

/// Why bytes are not a frame, or a frame is not a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Whoever speaks there is not a kache.
    #[error("not a message of kache")]
    Foreign,
    /// A kache, but another one.
    #[error("speaks version {0} of the protocol, this is version {VERSION}")]
    OtherVersion(u32),
    /// Longer than any message.
    #[error("a message of {0} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// Not a message of this version.
    #[error("a message that makes no sense: {0}")]
    Malformed(String),
}

/// A frame around a message.
pub fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FrameError> {
    let body = serde_json::to_vec(message).map_err(|error| FrameError::Malformed(error.to_string()))?;
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    if body.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    let mut frame = Vec::with_capacity(HEADER_BYTES + body.len());
    frame.extend_from_slice(&MAGIC);
    frame.extend_from_slice(&VERSION.to_le_bytes());
    frame.extend_from_slice(&length.to_le_bytes());
    frame.extend_from_slice(&body);
    Ok(frame)
}

/// The length of the body that follows a header.
pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let number = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if header[..4] != MAGIC {
        return Err(FrameError::Foreign);
    }
    if number(4) != VERSION {
        return Err(FrameError::OtherVersion(number(4)));
    }
    match usize::try_from(number(8)) {
        Ok(length) if length <= FRAME_BYTES_MAX => Ok(length),
        Ok(length) => Err(FrameError::TooLong(length)),
        Err(_) => Err(FrameError::TooLong(usize::MAX)),
    }
}

/// The message in a body.
pub fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, FrameError> {
    if body.len() > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong(body.len()));
    }
    serde_json::from_slice(body).map_err(|error| FrameError::Malformed(error.to_string()))
}

/// What is asked of the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Whether the remote has a unit that the local store doesn't have.
    Find(Box<Find>),
    /// To bring a snapshot, and the entries that it names, for fresh target directories.
    Seed(Box<Seed>),
    Status,
    /// To forget what the remote was found not to have and which records came: the store has been purged.
    Forget,
    /// To end. Uploads are finished as long as that takes no longer than this.
    Stop {
        /// Longest time for uploads, in milliseconds.
        drain_ms: u64,
    },
}

/// A unit that is about to be compiled unless the remote has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Find {
    /// Which remote is meant, see `config::Remote::identity`: a daemon serves one.
    pub remote: Digest,
    pub unit: UnitKey,
    /// `--crate-name`.
    pub crate_name: String,
    /// Its Cargo package; empty outside of packages.
    pub package: String,
    /// The keys that the records known so far lead to, the likeliest first; empty when there are no records.
    pub wanted: Vec<EntryKey>,
    /// The build that the unit belongs to.
    pub build: Build,
    /// Which credentials the asker would use, see `config::Remote::credentials_id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Digest>,
}

/// A snapshot that the local store doesn't have, for a Cargo that begins in a fresh target directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// See [`Find::remote`].
    pub remote: Digest,
    /// What the remote's snapshots have to be about.
    pub about: About,
    /// Of these, the one of this context, see `snapshot::Header::context`.
    pub context: Digest,
    /// The directory with `Cargo.lock`.
    pub dir: String,
    /// See [`Build::session`].
    pub session: String,
    /// How long the asker waits for one that is on its way already, in milliseconds.
    pub patience_ms: u64,
    /// See [`Find::ambient`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ambient: Option<Digest>,
}

/// One Cargo invocation, as far as what it will need can be guessed from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Process id and start time of Cargo.
    pub session: String,
    /// A directory at or below the one with `Cargo.lock`; empty when none is known.
    pub dir: String,
    #[serde(default)]
    pub host: String,
    /// Identity of the compiler for the host, which builds are filed under.
    #[serde(default)]
    pub host_toolchain: String,
    /// Identity of the compiler of the unit that is asked for: for its target, and with clippy in it where that is used.
    pub toolchain: String,
    /// Its target, empty for the host.
    pub target: String,
    /// `build`, `check` or `clippy`, of the unit that is asked for.
    pub mode: String,
    /// What a Cargo profile decides, likewise; see `remote::manifest::profile_of`.
    pub profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Still at it; the next frame follows soon.
    Working,
    /// Something of use is in the store now: look again.
    Arrived,
    /// The remote has nothing of use.
    Absent,
    /// Nobody knows: the remote is sick, another one is served here, or there is too much to do.
    Unavailable(Unavailable),
    Status(Box<Status>),
    /// What was asked for is done.
    Done,
    /// It ends as soon as uploads allow.
    Stopping {
        owed: u64,
    },
    /// The request was not understood.
    Refused {
        why: String,
    },
}

/// Why the daemon can't say whether the remote has something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unavailable {
    OtherRemote,
    /// The remote fails or is too slow.
    Sick,
    /// It takes longer than it is worth waiting for.
    Late,
    /// Too many ask at once.
    Full,
    Ending,
    /// It ends at once: its credentials are refused, and the asker's are others. The next one gets these.
    Outdated,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Status {
    pub version: String,
    pub pid: u32,
    /// Since when it runs, in milliseconds since 1970.
    pub started_ms: u64,
    /// The remote it serves, for people.
    pub remote: String,
    /// See [`Find::remote`]; absent when no remote is configured.
    pub remote_id: Option<Digest>,
    /// Why the remote is left alone at the moment.
    pub sick: Option<String>,
    pub uploads: Uploads,
    pub demand: Demand,
    /// What was fetched before it was asked for.
    pub prefetch: Prefetch,
    pub snapshots: Snapshots,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Uploads {
    pub owed: u64,
    /// Their size in the store, in bytes.
    pub owed_bytes: u64,
    /// For how long the oldest waits, in seconds.
    pub oldest_s: u64,
    pub done: u64,
    /// Of these, entries that the remote had already.
    pub known: u64,
    /// Attempts that failed since the start.
    pub failed: u64,
    /// Entries given up, or not to be uploaded at all, since the start.
    pub dropped: u64,
    /// The latest failure.
    pub last_error: Option<String>,
    /// Why nothing is uploaded at the moment: the credentials may not write.
    pub refused: Option<String>,
}

/// Requests of wrappers since the start, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Demand {
    pub asked: u64,
    pub arrived: u64,
    pub absent: u64,
    /// Not answered: sick, late, full.
    pub unavailable: u64,
    /// Requests that shared the work of another one.
    pub shared: u64,
    /// Answered from memory, without asking the remote.
    pub remembered: u64,
}

/// Prefetches since the start, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Prefetch {
    /// Builds that it was tried for.
    pub builds: u64,
    pub entries: u64,
    /// Their size in the store, in bytes.
    pub bytes: u64,
    /// Of the entries, those that a build has used since.
    pub used: u64,
    /// Size of the used ones, in bytes.
    pub used_bytes: u64,
}

/// Snapshots since the start, as numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Snapshots {
    pub asked: u64,
    /// Snapshots that came into the store.
    pub taken: u64,
    /// Entries that were fetched for them.
    pub entries: u64,
}

impl Request {
    /// Whether everything in the request is within its bounds and safe to use in names.
    ///
    /// # Errors
    /// Names the first part that isn't.
    pub fn check(&self) -> Result<(), &'static str> {
        match self {
            Request::Find(find) => find.check(),
            Request::Seed(seed) => seed.check(),
            Request::Status | Request::Forget | Request::Stop { .. } => Ok(()),
        }
    }
}

impl Seed {
    fn check(&self) -> Result<(), &'static str> {
        if !is_path(&self.dir) || !is_path(&self.about.cargo_home) {
            return Err("the lockfile's directory or Cargo's home is not an absolute path");
        }
        if !is_plain(&self.session, NAME_BYTES_MAX) {
            return Err("the build's name is too long");
        }
        Ok(())
    }
}

impl Find {
    fn check(&self) -> Result<(), &'static str> {
        let Build { session, dir, host, host_toolchain, toolchain, target, mode, profile } = &self.build;
        if !is_crate_name(&self.crate_name) {
            return Err("the crate's name is none");
        }
        if !self.package.is_empty() && !is_crate_name(&self.package.replace('-', "_")) {
            return Err("the package's name is none");
        }
        if self.wanted.len() > RECORDS_MAX {
            return Err("too many entries at once");
        }
        if !(dir.is_empty() || is_path(dir)) {
            return Err("the build's directory is not an absolute path");
        }
        // A target may be the path of a file.
        if !is_plain(target, PATH_BYTES_MAX) || !is_plain(profile, PATH_BYTES_MAX) {
            return Err("the unit's target or profile is too long");
        }
        let short = [session, host, host_toolchain, toolchain, mode];
        if !short.into_iter().all(|text| is_plain(text, NAME_BYTES_MAX)) {
            return Err("a part of the build's description is too long");
        }
        Ok(())
    }
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.len() <= PATH_BYTES_MAX && !text.contains('\0')
}

fn is_plain(text: &str, bytes_max: usize) -> bool {
    text.len() <= bytes_max && !text.contains(char::is_control)
}

/// Whether a text can be a crate's name: Unicode letters, digits and `_`.
pub fn is_crate_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= NAME_BYTES_MAX && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn find() -> Find {
        Find {
            remote: Digest::of(b"r"),
            unit: UnitKey(Digest::of(b"u")),
            crate_name: "serde_json".into(),
            package: "serde-json".into(),
            wanted: vec![EntryKey(Digest::of(b"e"))],
            build: Build { session: "1-2".into(), dir: "/w".into(), ..Build::default() },
            ambient: None,
        }
    }

    fn seed() -> Seed {
        let about = About {
            manifest_key: "x86_64-unknown-linux-gnu".parse().expect("a label"),
            lockfile: Digest::of(b"l"),
            compiler: Digest::of(b"c"),
            cargo_home: "/home/a/.cargo".into(),
        };
        Seed {
            remote: Digest::of(b"r"),
            about,
            context: Digest::of(b"x"),
            dir: "/w".into(),
            session: "1-2".into(),
            patience_ms: 5,
            ambient: None,
        }
    }

    fn unframed(frame: &[u8]) -> Result<&[u8], FrameError> {
        let header = frame[..HEADER_BYTES].try_into().expect("a header");
        let length = body_length(header)?;
        Ok(&frame[HEADER_BYTES..HEADER_BYTES + length])
    }

    #[test]
    fn messages_come_back_as_they_were() {
        for request in [
            Request::Find(Box::new(find())),
            Request::Seed(Box::new(seed())),
            Request::Status,
            Request::Stop { drain_ms: 30_000 },
        ] {
            let frame = encode(&request).expect("short");
            assert_eq!(decode::<Request>(unframed(&frame).expect("own frame")), Ok(request));
        }
        let status = Status { pid: 7, remote_id: Some(Digest::of(b"r")), ..Status::default() };
        for reply in [
            Reply::Working,
            Reply::Arrived,
            Reply::Absent,
            Reply::Unavailable(Unavailable::Late),
            Reply::Status(Box::new(status)),
            Reply::Stopping { owed: 3 },
            Reply::Refused { why: "x".into() },
        ] {
            let frame = encode(&reply).expect("short");
            assert_eq!(decode::<Reply>(unframed(&frame).expect("own frame")), Ok(reply));
        }
    }

    #[test]
    fn strangers_other_versions_and_giants_are_told_apart_by_the_header() {
        let frame = encode(&Request::Status).expect("short");
        let mut header: [u8; HEADER_BYTES] = frame[..HEADER_BYTES].try_into().expect("a header");
        header[4] = 9;
        assert_eq!(body_length(&header), Err(FrameError::OtherVersion(9)));
        header[4] = 1;
        header[8..].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(body_length(&header), Err(FrameError::TooLong(u32::MAX as usize)));
        assert_eq!(body_length(b"GET / HTTP/1"), Err(FrameError::Foreign));
        let giant = Reply::Refused { why: "x".repeat(FRAME_BYTES_MAX) };
        assert!(matches!(encode(&giant), Err(FrameError::TooLong(_))));
    }

    #[test]
    fn requests_out_of_bounds_are_refused() {
        type Spoil = fn(&mut Find);
        let cases: &[(Spoil, bool)] = &[
            (|_| {}, true),
            (|find| find.build.dir.clear(), true),
            (|find| find.crate_name = "größe_1".into(), true),
            (|find| find.crate_name.clear(), false),
            (|find| find.crate_name = "../x".into(), false),
            (|find| find.crate_name = "a/b".into(), false),
            (|find| find.package.clear(), true),
            (|find| find.package = "../a".into(), false),
            (|find| find.crate_name = "a".repeat(256), false),
            (|find| find.wanted = vec![EntryKey(Digest::of(b"e")); RECORDS_MAX + 1], false),
            (|find| find.build.dir = "relative".into(), false),
            (|find| find.build.dir = "/".repeat(5000), false),
            (|find| find.build.session = "s".repeat(300), false),
            (|find| find.build.profile = "a\nb".into(), false),
            (|find| find.build.target = format!("/{}.json", "t".repeat(1000)), true),
            (|find| find.build.target = "/".repeat(5000), false),
            (|find| find.build.host = "h".repeat(300), false),
            (|find| find.build.host_toolchain = "h".repeat(300), false),
        ];
        for (i, (spoil, fine)) in cases.iter().enumerate() {
            let mut find = find();
            spoil(&mut find);
            assert_eq!(Request::Find(Box::new(find)).check().is_ok(), *fine, "case {i}");
        }
    }

    #[test]
    fn snapshots_are_asked_for_within_bounds() {
        type Spoil = fn(&mut Seed);
        let cases: &[(Spoil, bool)] = &[
            (|_| {}, true),
            (|seed| seed.session.clear(), true),
            (|seed| seed.session = "s".repeat(300), false),
            (|seed| seed.dir.clear(), false),
            (|seed| seed.dir = "relative".into(), false),
            (|seed| seed.dir = "/".repeat(5000), false),
            (|seed| seed.about.cargo_home = "a".into(), false),
            (|seed| seed.about.cargo_home = "/a\0".into(), false),
        ];
        for (i, (spoil, fine)) in cases.iter().enumerate() {
            let mut seed = seed();
            spoil(&mut seed);
            assert_eq!(Request::Seed(Box::new(seed)).check().is_ok(), *fine, "case {i}");
        }
        // What would lead elsewhere in the bucket isn't even a message.
        let mut json = serde_json::to_value(Request::Seed(Box::new(seed()))).expect("JSON");
        json["about"]["manifest_key"] = "../x".into();
        assert!(decode::<Request>(json.to_string().as_bytes()).is_err());
    }

    /// As a daemon sees it that is older than a question: it refuses that one, and the asker goes on without.
    #[test]
    fn an_unknown_question_is_a_frame_like_any_other() {
        let frame = encode(&serde_json::json!({ "ask": "later", "what": 1 })).expect("short");
        let body = unframed(&frame).expect("of this version");
        assert!(matches!(decode::<Request>(body), Err(FrameError::Malformed(_))));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES..300)) {
            if let Ok(header) = bytes[..HEADER_BYTES].try_into() {
                let _ = body_length(header);
            }
            let _ = decode::<Request>(&bytes);
            let _ = decode::<Reply>(&bytes);
        }
    }
}
