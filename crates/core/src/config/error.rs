//! What can be wrong with a setting, always with the place and the value. Does not know who presents it.

use crate::quantity::QuantityError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Place {
    #[error("{0}")]
    Variable(&'static str),
    #[error("{file}: {key}")]
    Key { file: String, key: String },
    /// A settings file as a whole.
    #[error("{0}")]
    File(String),
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
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Warning {
    /// Only one half of the explicit credentials is set; what comes next in the order is used.
    #[error("{set} is set but {unset} is not; the pair is ignored and {next}")]
    LoneCredential { set: &'static str, unset: &'static str, next: String },
    #[error("{0} begins or ends with white space or a line feed, which is left out")]
    Trimmed(&'static str),
    #[error("the endpoint {0} is plain http: entries can be read and changed on the way")]
    PlainHttp(String),
    #[error(
        "the endpoint {0} ends in the bucket's name, which kache adds: leave it out of \
         `cache.remote.endpoint` (KACHE_S3_ENDPOINT)"
    )]
    BucketInEndpoint(String),
    /// A project's file that belongs to somebody whose word doesn't count here.
    #[error("{0} belongs to another user and isn't used; KACHE_CONFIG can name it if you trust them")]
    Foreign(String),
    #[error("{0} is set but no bucket is, so there is no remote")]
    NoBucket(&'static str),
    /// A credential of the user's and an address that a project's file names; where else the address can be.
    #[error(
        "{0} isn't sent to the address in a project's `.kache.toml`; name it in {1} or the user's settings"
    )]
    Withheld(&'static str, &'static str),
    #[error("AZURE_STORAGE_CONNECTION_STRING is for another storage account than {0} and isn't used")]
    OtherAccount(String),
    #[error(
        "the remote is of the kind \"gha\" but ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN aren't both set, so there is \
         no remote"
    )]
    OutsideActions,
    #[error("{0} isn't sent: several of `cache.remotes` are web servers, and it is for one of them")]
    ForWhichServer(&'static str),
    /// The place of another kind of remote than the one that is used.
    #[error("{0} is set but the remote is of the kind \"{1}\", which has no use for it")]
    OtherKind(&'static str, &'static str),
    #[error("{place}: {given} is out of range, {used} is used")]
    Clamped { place: String, given: i64, used: i64 },
}
