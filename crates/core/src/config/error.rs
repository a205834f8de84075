//! What can be wrong with a setting, always with the place and the value. Does not know who presents it.

use std::fmt;

use crate::quantity::QuantityError;

/// Where a setting was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// An environment variable.
    Variable(&'static str),
    /// A key of a settings file.
    Key {
        /// The file.
        file: String,
        /// The key, with its sections.
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
    /// Where it is.
    pub place: Place,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a setting.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The file is not TOML; the parser's message has line and column.
    #[error("not valid TOML: {0}")]
    Syntax(String),
    /// No setting has this name.
    #[error("unknown setting{}", suggestion(.0.as_deref()))]
    UnknownKey(Option<String>),
    /// A value of another type.
    #[error("{value} is {found}, but this setting is {expected}")]
    Type {
        /// The value as written.
        value: String,
        /// Its type.
        found: &'static str,
        /// The type it should have.
        expected: &'static str,
    },
    /// A value that is out of the question.
    #[error("{value:?} {why}")]
    Value {
        /// The value as written.
        value: String,
        /// Why it can't be used.
        why: &'static str,
    },
    /// A pattern that can't match what it is for.
    #[error("{value:?} is not a pattern: {why}")]
    Pattern {
        /// The pattern as written.
        value: String,
        /// What is wrong with it.
        why: String,
    },
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
        /// The variable that is set.
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
    /// A credential of the user's isn't sent to an address that a project's file names; where else the address can be.
    Withheld(&'static str, &'static str),
    /// A connection string is for another storage account than this one.
    OtherAccount(String),
    /// The cache service of GitHub Actions is meant, and no job is known.
    OutsideActions,
    /// A credential for a web server where there are several.
    ForWhichServer(&'static str),
    /// The place of another kind of remote than the one that is used.
    OtherKind(&'static str, &'static str),
    /// A compression level outside the range was clamped.
    Clamped {
        /// Where it is.
        place: String,
        /// As written.
        given: i64,
        /// As used.
        used: i64,
    },
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
            Warning::Withheld(name, variable) => write!(
                f,
                "{name} isn't sent to the address in a project's `.kache.toml`; name it in {variable} or the user's \
                 settings"
            ),
            Warning::OtherAccount(account) => write!(
                f,
                "AZURE_STORAGE_CONNECTION_STRING is for another storage account than {account} and isn't used"
            ),
            Warning::OutsideActions => f.write_str(
                "the remote is of the kind \"gha\" but ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN aren't both set, so \
                 there is no remote",
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
