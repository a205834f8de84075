//! What can be wrong with a setting, always with the place and the value. Does not know who presents it.

use std::fmt;

use crate::quantity::QuantityError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    Variable(&'static str),
    /// A key of a settings file.
    Key {
        file: String,
        key: String,
    },
    /// A settings file as a whole.
    File(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Variable(name) => f.write_str(name),
            Place::Key { file, key } => write!(f, "{file}: {key}"),
            Place::File(file) => f.write_str(file),
        }
    }
}

/// A setting that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct ConfigError {
    pub place: Place,
    pub problem: Problem,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML; the parser's message has line and column.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    #[error("unknown setting{}", suggestion(.0.as_deref()))]
    UnknownKey(Option<String>),
    #[error("{value} is {found}, but this setting is {expected}")]
    Type { value: String, found: &'static str, expected: &'static str },
    /// A value that is out of the question.
    #[error("{value:?} {why}")]
    Value {
        value: String,
        /// Why it can't be used.
        why: &'static str,
    },
    /// A pattern that can't match what it is for.
    #[error("{value:?} is not a pattern: {why}")]
    Pattern { value: String, why: String },
    /// A size or duration that doesn't parse.
    #[error(transparent)]
    Quantity(#[from] QuantityError),
    /// A variable that is not UTF-8; its value may be a secret and isn't shown.
    #[error("the value is not UTF-8")]
    NotUtf8,
    /// A setting that others need is missing.
    #[error("is missing, and {0}")]
    Missing(&'static str),
    /// Settings that contradict each other.
    #[error("{0}")]
    Unfit(&'static str),
    /// Neither a cache directory nor a home directory is known.
    #[error("not set (nor `cache.local_store`, XDG_CACHE_HOME or HOME), so there is no place for the store")]
    NoCacheDir,
    /// The file can't be read.
    #[error("can't be read: {0}")]
    Unreadable(String),
}

fn suggestion(near: Option<&str>) -> String {
    near.map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default()
}

/// Something odd that doesn't keep a setting from being used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// Only one half of the explicit credentials is set; what comes next in the order is used.
    LoneCredential {
        set: &'static str,
        /// The one that isn't.
        unset: &'static str,
        /// What happens in place of it.
        next: String,
    },
    /// White space or line feeds around a key were taken away.
    Trimmed(&'static str),
    /// Plain http to another machine: anybody on the way can read and change what is transferred.
    PlainHttp(String),
    /// The address of the server ends in the bucket's name, which kache adds itself.
    BucketInEndpoint(String),
    /// A project's file that belongs to somebody whose word doesn't count here; it isn't used.
    Foreign(String),
    /// Remote settings without a bucket: there is no remote.
    NoBucket(&'static str),
    /// A credential of the user's isn't sent to an address that a project's file names.
    Withheld(&'static str),
    /// A credential for a web server where there are several.
    ForWhichServer(&'static str),
    /// The place of another kind of remote than the one that is used.
    OtherKind(&'static str, &'static str),
    /// A compression level outside the range was clamped.
    Clamped { place: String, given: i64, used: i64 },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warning::LoneCredential { set, unset, next } => {
                write!(f, "{set} is set but {unset} is not; the pair is ignored and {next}")
            }
            Warning::Trimmed(name) => {
                write!(f, "{name} begins or ends with white space or a line feed, which is left out")
            }
            Warning::PlainHttp(endpoint) => {
                write!(f, "the endpoint {endpoint} is plain http: entries can be read and changed on the way")
            }
            Warning::BucketInEndpoint(endpoint) => write!(
                f,
                "the endpoint {endpoint} ends in the bucket's name, which kache adds: leave it out of \
                 `cache.remote.endpoint` (KACHE_S3_ENDPOINT)"
            ),
            Warning::Foreign(file) => {
                write!(
                    f,
                    "{file} belongs to another user and isn't used; KACHE_CONFIG can name it if you trust them"
                )
            }
            Warning::NoBucket(name) => write!(f, "{name} is set but no bucket is, so there is no remote"),
            Warning::Withheld(name) => write!(
                f,
                "{name} isn't sent to the address in a project's `.kache.toml`; name it in KACHE_REMOTE_URL or the \
                 user's settings"
            ),
            Warning::ForWhichServer(name) => {
                write!(
                    f,
                    "{name} isn't sent: several of `cache.remotes` are web servers, and it is for one of them"
                )
            }
            Warning::OtherKind(name, kind) => {
                write!(f, "{name} is set but the remote is of the kind \"{kind}\", which has no use for it")
            }
            Warning::Clamped { place, given, used } => {
                write!(f, "{place}: {given} is out of range, {used} is used")
            }
        }
    }
}
