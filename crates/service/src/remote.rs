//! The seam to a remote: six operations over object names and bytes, with errors that say what a caller can do, and a flush for
//! what collects. None of them knows what the objects mean.
//!
//! | kind | lists | a write where nothing must be yet |
//! | --- | --- | --- |
//! | bucket ([`s3`]) | yes | a hint: some servers refuse the condition, some ignore it |
//! | folder ([`folder`]) | yes | kept, but on a file system without links and such renames: there the last writer wins |
//! | web server ([`web`]) | no | a hint |
//! | bucket of Google's, container of Azure's (`cloud`) | yes | kept |
//! | cache service of GitHub Actions (`gha`) | what its indexes have | a hint: jobs at the same time don't see each other |
//!
//! Where there is no listing, a build is known by its saved manifest alone, whose name doesn't have to be looked for.
//!
//! Names are relative to the bucket, so they begin with the prefix; [`keys`] makes them.

#[cfg(any(feature = "gcs", feature = "azure"))]
pub(crate) mod cloud;
#[cfg(all(test, feature = "default"))]
mod conformance;
pub mod folder;
#[cfg(feature = "gha")]
pub(crate) mod gha;
#[cfg(test)]
pub(crate) mod memory;
pub mod progress;
#[cfg(feature = "s3")]
pub mod s3;
#[cfg(feature = "http")]
pub mod web;
pub(crate) mod wire;

use std::fmt;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
pub use kache_core::remote::keys;

use progress::Progress;

/// What an operation answers, some time later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, RemoteError>> + Send + 'a>>;

pub trait Remote: fmt::Debug + Send + Sync {
    /// The whole object, if it is no longer than `bytes_max`.
    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>>;

    /// Writes the object to a file that is empty, if it is no longer than `bytes_max`, and returns its length. After
    /// an error the file may hold a part.
    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64>;

    /// Makes an object, in place of any that is there.
    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()>;

    /// Makes an object unless there is one. Only a hint: many servers can't tell, and then it is replaced.
    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put>;

    /// Where the credentials come from or what they allow, in words; `None` where the settings have them.
    fn credentials(&self) -> Answer<'_, Option<String>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// What is moved; requests that fail move nothing.
    fn progress(&self) -> &Progress;

    /// Whether [`Remote::list`] can succeed at all.
    fn can_list(&self) -> bool {
        true
    }

    /// Whether others see what was put only after [`Remote::flush`].
    fn collects(&self) -> bool {
        false
    }

    /// Uploads what was collected so far.
    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// The object's length, in bytes; [`Fault::NotFound`] when there is none.
    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64>;

    /// Objects whose names start with `prefix`, in byte order; continues after what `page` is from.
    fn list<'a>(&'a self, prefix: &'a str, page: Option<PageToken>) -> Answer<'a, Page>;
}

/// What an object is made of.
#[derive(Debug, Clone)]
pub enum Body {
    /// Bytes in memory; copies share them.
    Bytes(Bytes),
    /// A file that doesn't change meanwhile.
    File {
        /// Where it is.
        path: std::path::PathBuf,
        /// Its length, in bytes.
        size: u64,
    },
}

impl Body {
    /// Bytes in memory.
    pub fn of(bytes: impl Into<Bytes>) -> Self {
        Body::Bytes(bytes.into())
    }

    /// Its length, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Body::Bytes(bytes) => bytes.len() as u64,
            Body::File { size, .. } => *size,
        }
    }
}

/// What a conditional write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Written; perhaps over one that was there.
    Written,
    /// The server says that there is one.
    Present,
}

/// Where the next page begins; only the remote that made it understands it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageToken(pub(crate) String);

/// An object that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    pub name: String,
    /// In bytes.
    pub size: u64,
    /// When it was written, in seconds since 1970; 0 where the server doesn't say.
    pub modified_s: i64,
}

/// A part of a listing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Page {
    pub objects: Vec<Object>,
    /// How to get the next part; `None` at the end.
    pub next: Option<PageToken>,
}

/// What went wrong, by what can be done about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// There is no such object.
    NotFound,
    /// There is no such bucket, or no such folder.
    NoBucket,
    /// The credentials may not do this, or not see whether the object exists.
    Denied,
    /// There are no credentials, or they are not accepted: expired, unknown, wrong.
    Credentials,
    /// The clocks differ too much.
    ClockSkew,
    /// The bucket is in another region or behind another address.
    WrongRegion,
    /// The server's certificate is not one that this machine trusts.
    Certificate,
    /// No more is stored there: the disk or a quota is full.
    Full,
    /// The server asks for fewer requests.
    Throttled,
    /// Nobody takes connections at the server's address, or the address leads nowhere.
    Unreachable,
    /// No connection, no answer in time, or the server has trouble of its own.
    Unavailable,
    /// An answer that makes no sense.
    Protocol,
    /// The server doesn't know this kind of request.
    Unsupported,
    /// The object is longer than it may be.
    TooLarge,
    /// The local file can't be read or written.
    Local,
}

impl Fault {
    /// Whether the same request may succeed a moment later.
    pub const fn is_passing(self) -> bool {
        matches!(self, Fault::Throttled | Fault::Unreachable | Fault::Unavailable | Fault::Protocol)
    }

    /// Whether no request of this kind will succeed until somebody changes something.
    pub const fn is_lasting(self) -> bool {
        matches!(
            self,
            Fault::NoBucket
                | Fault::Credentials
                | Fault::ClockSkew
                | Fault::WrongRegion
                | Fault::Certificate
                | Fault::Unreachable
        )
    }
}

/// An operation that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("can't {act} {name}: {detail}")]
pub struct RemoteError {
    /// What was attempted: a verb that reads well after "can't".
    pub act: &'static str,
    /// The object, or the prefix of a listing.
    pub name: String,
    /// What kind of trouble.
    pub fault: Fault,
    /// What the server or the system said; never a credential.
    pub detail: String,
    /// For how long the server wants to be left alone, where it says so.
    pub pause: Option<Duration>,
    /// The credentials were read again since: the next request has others, perhaps.
    pub is_renewed: bool,
}

impl RemoteError {
    /// An error from trying to `act` on the object `name`.
    pub fn new(act: &'static str, name: &str, fault: Fault, detail: impl Into<String>) -> Self {
        Self { act, name: name.to_owned(), fault, detail: detail.into(), pause: None, is_renewed: false }
    }
}
