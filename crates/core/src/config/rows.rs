//! The one table of settings: what each is called in the settings file and in the environment, what it is there, and how
//! its value is shown. Resolving, the check for unknown keys, listings and the editor go by it.

use super::{Azure, Backend, Origin, Remote, S3, Setting, Settings, SigningKey, env};
use crate::quantity::{format_duration, format_size};

/// One setting of a process, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub key: Option<&'static str>,
    pub variable: Option<&'static str>,
    pub kind: Kind,
    /// The value in use; absent when there is none.
    pub value: Option<String>,
    pub origin: Origin,
}

/// What a setting is in the settings file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Switch,
    Number,
    List,
}

type Shown = (Option<String>, Origin);

/// What a setting is called, and how it is shown.
#[derive(Clone, Copy)]
pub(super) struct Name {
    pub key: Option<&'static str>,
    pub variable: Option<&'static str>,
    kind: Kind,
    shown: fn(&Settings) -> Shown,
}

impl Name {
    /// The setting as far as the settings file has it.
    pub const fn in_file(self) -> Self {
        Self { variable: None, ..self }
    }

    /// The setting as far as the environment has it.
    pub const fn in_env(self) -> Self {
        Self { key: None, ..self }
    }

    /// The same setting with another variable, which a kind of remote has for itself.
    pub const fn of(self, variable: &'static str) -> Self {
        Self { variable: Some(variable), ..self }
    }

    /// A variable that no listing shows.
    pub fn secret(variable: &'static str) -> Self {
        Self { key: None, variable: Some(variable), kind: Kind::Text, shown: |_| (None, Origin::Default) }
    }
}

macro_rules! maybe {
    (-) => {
        None
    };
    ($key:literal) => {
        Some($key)
    };
    ($variable:ident) => {
        Some(env::$variable)
    };
}

macro_rules! settings {
    ($($name:ident: $kind:ident, $key:tt, $variable:tt, $shown:expr;)*) => {
        $(pub(super) const $name: Name =
            Name { key: maybe!($key), variable: maybe!($variable), kind: Kind::$kind, shown: $shown };)*
        /// Every setting, in the order of listings.
        const ALL: &[Name] = &[$($name),*];
    };
}

settings! {
    LOCAL_STORE: Text, "cache.local_store", KACHE_CACHE_DIR, |s| shown(s.cache_dir.as_ref(), |dir| dir.display().to_string());
    MAX_SIZE: Text, "cache.local_max_size", KACHE_MAX_SIZE, |s| shown(&s.local_size_bytes_max, |bytes| format_size(*bytes));
    MIN_FREE: Text, "cache.min_free_space", KACHE_MIN_FREE_SPACE, |s| shown(s.free_bytes_min.as_ref(), |bytes| format_size(*bytes));
    EXECUTABLES: Switch, "cache.cache_executables", KACHE_CACHE_EXECUTABLES, |s| plain(&s.cache_executables);
    BUILD_SCRIPTS: Switch, "cache.build_scripts", KACHE_BUILD_SCRIPTS, |s| plain(&s.build_scripts);
    KEY_SALT: Text, "cache.key_salt", KACHE_KEY_SALT, |s| plain(s.key_salt.as_ref());
    EXCLUDE: List, "cache.exclude", -, |s| list(&s.exclude);
    FALLBACK: Text, "cache.fallback", KACHE_FALLBACK, |s| plain(s.fallback.as_ref());
    LOCAL_ONLY: Switch, "cache.local_only", KACHE_LOCAL_ONLY, |s| plain(&s.local_only);
    PORTABLE_PATHS: Switch, "cache.portable_paths", KACHE_PORTABLE_PATHS, |s| plain(&s.portable_paths);
    SEED: Switch, "cache.seed", KACHE_SEED, |s| plain(&s.seed);
    PROVE: Switch, "cache.prove", KACHE_PROVE, |s| plain(&s.prove);
    DAEMON: Switch, "cache.daemon", KACHE_DAEMON, |s| plain(&s.daemon);
    IDLE_TIMEOUT: Number, "cache.daemon_idle_timeout_secs", KACHE_DAEMON_IDLE_TIMEOUT, |s| plain(&s.daemon_idle_timeout_s);
    CONCURRENCY: Number, "cache.s3_concurrency", KACHE_S3_CONCURRENCY, |s| plain(&s.s3_concurrency);
    COMPRESSION: Number, "cache.compression_level", KACHE_COMPRESSION_LEVEL, |s| plain(&s.compression_level);
    REMOTE_TYPE: Text, "cache.remote.type", KACHE_REMOTE_TYPE,
        |s| (remote(s).map(|remote| remote.backend.word().to_owned()), Origin::Default);
    REMOTE_PATH: Text, "cache.remote.path", KACHE_REMOTE_PATH, |s| match remote(s).map(|remote| &remote.backend) {
        Some(Backend::File(path)) => shown(path, |path| path.display().to_string()),
        _ => (None, Origin::Default),
    };
    REMOTE_URL: Text, "cache.remote.url", KACHE_REMOTE_URL, |s| match remote(s).map(|remote| &remote.backend) {
        Some(Backend::Http(http)) => plain(&http.url),
        _ => (None, Origin::Default),
    };
    BUCKET: Text, "cache.remote.bucket", KACHE_S3_BUCKET, |s| plain(remote(s).and_then(Remote::bucket));
    CONTAINER: Text, "cache.remote.container", KACHE_AZURE_CONTAINER, |s| plain(azure(s).map(|azure| &azure.container));
    ACCOUNT: Text, "cache.remote.account", KACHE_AZURE_ACCOUNT, |s| plain(azure(s).map(|azure| &azure.account));
    ENDPOINT: Text, "cache.remote.endpoint", KACHE_S3_ENDPOINT, |s| plain(remote(s).and_then(Remote::endpoint));
    REGION: Text, "cache.remote.region", KACHE_S3_REGION, |s| plain(s3(s).map(|s3| &s3.region));
    PREFIX: Text, "cache.remote.prefix", KACHE_S3_PREFIX, |s| plain(remote(s).map(|remote| &remote.prefix));
    PROFILE: Text, "cache.remote.profile", KACHE_S3_PROFILE, |s| plain(s3(s).and_then(|s3| s3.profile.as_ref()));
    SIGNING_KEY: Text, "cache.remote.signing_key", KACHE_S3_SIGNING_KEY,
        |s| shown(remote(s).and_then(|remote| remote.signing_key.as_ref()), |key| match key {
            SigningKey::Inline(_) => "(hidden)".to_owned(),
            SigningKey::File(path) => path.display().to_string(),
        });
    TRUSTED_KEYS: List, "cache.remote.trusted_keys", KACHE_S3_TRUSTED_KEYS, |s| list(remote(s).map(|remote| &remote.trusted_keys));
    WITNESSES: Number, "cache.remote.witnesses", KACHE_S3_WITNESSES, |s| plain(remote(s).map(|remote| &remote.witnesses));
    SECRET_ENV: List, "cache.remote.secret_env", KACHE_S3_SECRET_ENV, |s| list(remote(s).map(|remote| &remote.secret_env));
    READ_ONLY: Switch, "cache.remote.read_only", KACHE_READ_ONLY, |s| plain(remote(s).map(|remote| &remote.read_only));
    WRITE_ONLY: Switch, "cache.remote.write_only", -, |s| plain(remote(s).map(|remote| &remote.write_only));
    STALL_TIMEOUT: Number, "cache.remote.stall_timeout_secs", KACHE_S3_STALL_TIMEOUT,
        |s| plain(remote(s).map(|remote| &remote.stall_timeout_s));
    CLEAN_AUTO: Switch, "clean.auto", KACHE_CLEAN_AUTO, |s| plain(&s.clean.auto);
    ORPHANED_AFTER: Text, "clean.orphaned_after", -, |s| shown(&s.clean.orphaned_after, |age| format_duration(*age));
    UNUSED_FOR: Text, "clean.unused_for", -, |s| shown(&s.clean.unused_for, |age| format_duration(*age));
    CLEAN_MIN_FREE: Text, "clean.min_free_space", -, |s| shown(s.clean.free_bytes_min.as_ref(), |bytes| format_size(*bytes));
    DISABLED: Switch, -, KACHE_DISABLED, |s| plain(&s.disabled);
    VERIFY: Text, -, KACHE_VERIFY, |s| plain(&s.verify);
    PROGRESS: Text, -, KACHE_PROGRESS, |s| shown(&s.progress, |progress| progress.word().to_owned());
    LOG: Text, -, KACHE_LOG, |s| plain(s.log.as_ref());
    LOG_FILE: Text, -, KACHE_LOG_FILE, |s| shown(s.log_file.as_ref(), |file| file.display().to_string());
}

/// Keys that a settings file may have.
pub(super) fn known_keys() -> Vec<&'static str> {
    ALL.iter().filter_map(|name| name.key).chain(["cache.remotes"]).collect()
}

impl Settings {
    /// Every setting in use, in a fixed order.
    pub fn rows(&self) -> Vec<Row> {
        // Of the variables, a kind of remote may have one for itself.
        let variable =
            |name: &Name| match (self.remote.as_ref().map(|remote| &remote.backend), name.variable?) {
                (Some(Backend::Gcs(_)), env::KACHE_S3_BUCKET) => Some(env::KACHE_GCS_BUCKET),
                (Some(Backend::Gcs(_)), env::KACHE_S3_ENDPOINT) => Some(env::KACHE_GCS_ENDPOINT),
                (Some(Backend::Azure(_)), env::KACHE_S3_ENDPOINT) => Some(env::KACHE_AZURE_ENDPOINT),
                (_, variable) => Some(variable),
            };
        let row = |name: &Name| {
            let (value, origin) = (name.shown)(self);
            Row { key: name.key, variable: variable(name), kind: name.kind, value, origin }
        };
        ALL.iter().map(row).collect()
    }
}

/// The remote, unless it has levels: these are no single values.
fn remote(settings: &Settings) -> Option<&Remote> {
    settings.remote.as_ref().filter(|remote| remote.further.is_empty())
}

fn s3(settings: &Settings) -> Option<&S3> {
    remote(settings).and_then(Remote::s3)
}

fn azure(settings: &Settings) -> Option<&Azure> {
    match &remote(settings)?.backend {
        Backend::Azure(azure) => Some(azure),
        _ => None,
    }
}

fn shown<'a, T: 'a>(setting: impl Into<Option<&'a Setting<T>>>, text: impl Fn(&T) -> String) -> Shown {
    setting.into().map_or((None, Origin::Default), |setting| (Some(text(&setting.value)), setting.origin))
}

fn plain<'a, T: ToString + 'a>(setting: impl Into<Option<&'a Setting<T>>>) -> Shown {
    shown(setting, T::to_string)
}

fn list<'a>(setting: impl Into<Option<&'a Setting<Vec<String>>>>) -> Shown {
    shown(setting, |items| format!("{items:?}"))
}
