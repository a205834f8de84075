//! Every setting as one row: key, variable, meaning, and its value as text with its origin. Serves listings and the
//! check for unknown keys; resolving is done elsewhere.

use super::{Backend, Origin, Progress, Remote, Setting, Settings, SigningKey, env};
use crate::quantity::format_size;
use crate::verify::Sample;

/// One setting of a process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Key in the settings file.
    pub key: Option<&'static str>,
    /// Environment variable.
    pub variable: Option<&'static str>,
    /// What it is in the settings file.
    pub kind: Kind,
    /// The value in use; absent when there is none.
    pub value: Option<String>,
    /// Where it comes from.
    pub origin: Origin,
}

/// What a setting is in the settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A string.
    Text,
    /// True or false.
    Switch,
    /// A whole number.
    Number,
    /// A list of strings.
    List,
}

impl Kind {
    fn of(key: &str) -> Self {
        match key {
            "cache.build_scripts"
            | "cache.cache_executables"
            | "cache.daemon"
            | "cache.local_only"
            | "cache.portable_paths"
            | "cache.prove"
            | "cache.remote.write_only"
            | "cache.seed" => Kind::Switch,
            "cache.daemon_idle_timeout_secs"
            | "cache.remote.stall_timeout_secs"
            | "cache.remote.witnesses"
            | "cache.s3_concurrency"
            | "cache.compression_level" => Kind::Number,
            "cache.exclude" | "cache.remote.trusted_keys" | "cache.remote.secret_env" => Kind::List,
            _ => Kind::Text,
        }
    }
}

/// Keys of the settings file and their variables; the order of listings.
const KEYS: &[(Option<&str>, Option<&str>)] = &[
    (Some("cache.local_store"), Some(env::KACHE_CACHE_DIR)),
    (Some("cache.local_max_size"), Some(env::KACHE_MAX_SIZE)),
    (Some("cache.min_free_space"), Some(env::KACHE_MIN_FREE_SPACE)),
    (Some("cache.cache_executables"), Some(env::KACHE_CACHE_EXECUTABLES)),
    (Some("cache.build_scripts"), Some(env::KACHE_BUILD_SCRIPTS)),
    (Some("cache.key_salt"), Some(env::KACHE_KEY_SALT)),
    (Some("cache.exclude"), None),
    (Some("cache.fallback"), Some(env::KACHE_FALLBACK)),
    (Some("cache.local_only"), Some(env::KACHE_LOCAL_ONLY)),
    (Some("cache.portable_paths"), Some(env::KACHE_PORTABLE_PATHS)),
    (Some("cache.seed"), Some(env::KACHE_SEED)),
    (Some("cache.prove"), Some(env::KACHE_PROVE)),
    (Some("cache.daemon"), Some(env::KACHE_DAEMON)),
    (Some("cache.daemon_idle_timeout_secs"), Some(env::KACHE_DAEMON_IDLE_TIMEOUT)),
    (Some("cache.s3_concurrency"), Some(env::KACHE_S3_CONCURRENCY)),
    (Some("cache.compression_level"), Some(env::KACHE_COMPRESSION_LEVEL)),
    (Some("cache.remote.type"), Some(env::KACHE_REMOTE_TYPE)),
    (Some("cache.remote.path"), Some(env::KACHE_REMOTE_PATH)),
    (Some("cache.remote.url"), Some(env::KACHE_REMOTE_URL)),
    (Some("cache.remote.bucket"), Some(env::KACHE_S3_BUCKET)),
    (Some("cache.remote.container"), Some(env::KACHE_AZURE_CONTAINER)),
    (Some("cache.remote.account"), Some(env::KACHE_AZURE_ACCOUNT)),
    (Some("cache.remote.endpoint"), Some(env::KACHE_S3_ENDPOINT)),
    (Some("cache.remote.region"), Some(env::KACHE_S3_REGION)),
    (Some("cache.remote.prefix"), Some(env::KACHE_S3_PREFIX)),
    (Some("cache.remote.profile"), Some(env::KACHE_S3_PROFILE)),
    (Some("cache.remote.signing_key"), Some(env::KACHE_S3_SIGNING_KEY)),
    (Some("cache.remote.trusted_keys"), Some(env::KACHE_S3_TRUSTED_KEYS)),
    (Some("cache.remote.witnesses"), Some(env::KACHE_S3_WITNESSES)),
    (Some("cache.remote.secret_env"), Some(env::KACHE_S3_SECRET_ENV)),
    (Some("cache.remote.read_only"), Some(env::KACHE_READ_ONLY)),
    (Some("cache.remote.write_only"), None),
    (Some("cache.remote.stall_timeout_secs"), Some(env::KACHE_S3_STALL_TIMEOUT)),
    (None, Some(env::KACHE_DISABLED)),
    (None, Some(env::KACHE_VERIFY)),
    (None, Some(env::KACHE_PROGRESS)),
    (None, Some(env::KACHE_LOG)),
    (None, Some(env::KACHE_LOG_FILE)),
];

/// Keys that a settings file may have.
pub(super) fn known_keys() -> Vec<&'static str> {
    KEYS.iter().filter_map(|(key, _)| *key).chain(["cache.remotes"]).collect()
}

impl Settings {
    /// Every setting in use, in a fixed order.
    pub fn rows(&self) -> Vec<Row> {
        KEYS.iter()
            .map(|&(key, variable)| {
                let (value, origin) = self.shown(key.or(variable).unwrap_or_default());
                let kind = Kind::of(key.unwrap_or_default());
                Row { key, variable: self.variable(variable), kind, value, origin }
            })
            .collect()
    }

    /// The variable of a setting, which a kind of remote may have for itself.
    fn variable(&self, variable: Option<&'static str>) -> Option<&'static str> {
        Some(match (self.remote.as_ref().map(|remote| &remote.backend), variable?) {
            (Some(Backend::Gcs(_)), env::KACHE_S3_BUCKET) => env::KACHE_GCS_BUCKET,
            (Some(Backend::Gcs(_)), env::KACHE_S3_ENDPOINT) => env::KACHE_GCS_ENDPOINT,
            (Some(Backend::Azure(_)), env::KACHE_S3_ENDPOINT) => env::KACHE_AZURE_ENDPOINT,
            (_, variable) => variable,
        })
    }

    /// The value of one setting as text.
    fn shown(&self, name: &str) -> (Option<String>, Origin) {
        // Levels are no single values.
        let remote = self.remote.as_ref().filter(|remote| remote.further.is_empty());
        let s3 = remote.and_then(Remote::s3);
        let azure = match remote.map(|remote| &remote.backend) {
            Some(Backend::Azure(azure)) => Some(azure),
            _ => None,
        };
        match name {
            "cache.local_store" => optional(self.cache_dir.as_ref(), |dir| dir.display().to_string()),
            "cache.local_max_size" => always(&self.local_size_bytes_max, |bytes| format_size(*bytes)),
            "cache.min_free_space" => optional(self.free_bytes_min.as_ref(), |bytes| format_size(*bytes)),
            "cache.cache_executables" => always(&self.cache_executables, bool::to_string),
            "cache.build_scripts" => always(&self.build_scripts, bool::to_string),
            "cache.key_salt" => optional(self.key_salt.as_ref(), String::clone),
            "cache.exclude" => always(&self.exclude, |globs| format!("{globs:?}")),
            "cache.fallback" => optional(self.fallback.as_ref(), String::clone),
            "cache.local_only" => always(&self.local_only, bool::to_string),
            "cache.portable_paths" => always(&self.portable_paths, bool::to_string),
            "cache.prove" => always(&self.prove, bool::to_string),
            "cache.seed" => always(&self.seed, bool::to_string),
            "cache.daemon" => always(&self.daemon, bool::to_string),
            "cache.daemon_idle_timeout_secs" => always(&self.daemon_idle_timeout_s, u64::to_string),
            "cache.s3_concurrency" => always(&self.s3_concurrency, u32::to_string),
            "cache.compression_level" => always(&self.compression_level, i32::to_string),
            "cache.remote.type" => (remote.map(|remote| remote.backend.word().to_owned()), Origin::Default),
            "cache.remote.path" => match remote.map(|remote| &remote.backend) {
                Some(Backend::File(path)) => always(path, |path| path.display().to_string()),
                _ => (None, Origin::Default),
            },
            "cache.remote.url" => match remote.map(|remote| &remote.backend) {
                Some(Backend::Http(http)) => always(&http.url, String::clone),
                _ => (None, Origin::Default),
            },
            "cache.remote.bucket" => optional(remote.and_then(Remote::bucket), String::clone),
            "cache.remote.container" => optional(azure.map(|azure| &azure.container), String::clone),
            "cache.remote.account" => optional(azure.map(|azure| &azure.account), String::clone),
            "cache.remote.endpoint" => optional(remote.and_then(Remote::endpoint), String::clone),
            "cache.remote.region" => optional(s3.map(|s3| &s3.region), String::clone),
            "cache.remote.prefix" => optional(remote.map(|remote| &remote.prefix), String::clone),
            "cache.remote.profile" => optional(s3.and_then(|s3| s3.profile.as_ref()), String::clone),
            "cache.remote.signing_key" => {
                optional(remote.and_then(|remote| remote.signing_key.as_ref()), |key| match key {
                    SigningKey::Inline(_) => "(hidden)".to_owned(),
                    SigningKey::File(path) => path.display().to_string(),
                })
            }
            "cache.remote.trusted_keys" => {
                optional(remote.map(|remote| &remote.trusted_keys), |keys| format!("{keys:?}"))
            }
            "cache.remote.witnesses" => optional(remote.map(|remote| &remote.witnesses), usize::to_string),
            "cache.remote.secret_env" => {
                optional(remote.map(|remote| &remote.secret_env), |names| format!("{names:?}"))
            }
            "cache.remote.read_only" => optional(remote.map(|remote| &remote.read_only), bool::to_string),
            "cache.remote.write_only" => optional(remote.map(|remote| &remote.write_only), bool::to_string),
            "cache.remote.stall_timeout_secs" => {
                optional(remote.map(|remote| &remote.stall_timeout_s), u64::to_string)
            }
            env::KACHE_DISABLED => always(&self.disabled, bool::to_string),
            env::KACHE_VERIFY => always(&self.verify, Sample::to_string),
            env::KACHE_PROGRESS => always(&self.progress, |progress| progress.word().to_owned()),
            env::KACHE_LOG => optional(self.log.as_ref(), String::clone),
            env::KACHE_LOG_FILE => optional(self.log_file.as_ref(), |file| file.display().to_string()),
            _ => (None, Origin::Default),
        }
    }
}

impl Progress {
    /// The word that sets it.
    pub const fn word(self) -> &'static str {
        match self {
            Progress::Off => "off",
            Progress::Hits => "hits",
            Progress::All => "all",
        }
    }
}

fn always<T>(setting: &Setting<T>, show: impl Fn(&T) -> String) -> (Option<String>, Origin) {
    (Some(show(&setting.value)), setting.origin)
}

fn optional<T>(setting: Option<&Setting<T>>, show: impl Fn(&T) -> String) -> (Option<String>, Origin) {
    setting.map_or((None, Origin::Default), |setting| always(setting, show))
}
