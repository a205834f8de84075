//! Settings: what the environment, the settings file and the defaults say together, and `kache.toml` beside a
//! crate. Pure: whoever calls found and read the files, and passes the environment as a function.
//!
//! Environment wins over file, file over default; an empty variable counts as unset. A value that can't be used is
//! an error that names place, key and value. Errors that only concern the remote or the daemon, and unknown keys, are
//! kept in [`Settings::problems`]: the wrapper goes on without, the command line refuses.
//!
//! The wrapper resolves settings for every compiler call, so without a settings file nothing is parsed.

mod backend;
pub mod ci;
mod crate_file;
pub mod env;
mod error;
mod layers;
mod levels;
mod place;
mod remote;
mod rows;
mod s3;
mod secret;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub use backend::{Backend, Http, HttpCredentials};
pub use crate_file::CrateFile;
pub use error::{ConfigError, Place, Problem, Warning};
pub use remote::{Remote, SigningKey, host_of};
pub use rows::{Kind, Row};
pub use s3::{Credentials, S3};
pub use secret::Secret;

use crate::quantity;
use crate::verify::Sample;
use layers::Layers;

/// Size limit of the store unless one is set, in bytes.
pub const SIZE_BYTES_MAX: u64 = 50 << 30;

/// Seconds after which an idle daemon ends unless others are set.
const IDLE_TIMEOUT_S: u64 = 600;
/// Transfers at a time unless another number is set.
const CONCURRENCY: u32 = 16;
/// zstd level of packs unless another one is set.
const COMPRESSION_LEVEL: i32 = 3;

/// Which layer a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Environment,
    /// The settings file.
    File,
    /// Built in.
    Default,
}

/// A value and the layer it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Where it comes from.
    pub origin: Origin,
}

impl<T> Setting<T> {
    /// A value that nobody set.
    pub const fn default_of(value: T) -> Self {
        Self { value, origin: Origin::Default }
    }
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Which lines `KACHE_PROGRESS` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// None.
    Off,
    /// One line per crate that was served from the cache.
    Hits,
    /// One line per crate.
    All,
}

/// Every setting of one process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The settings file that was used.
    pub file: Option<String>,
    cache_dir: Option<Setting<PathBuf>>,
    /// `cache.local_max_size`: what eviction keeps the store under, in bytes.
    pub local_size_bytes_max: Setting<u64>,
    /// `cache.min_free_space`: what stays free on the store's disk, in bytes; without it a twentieth, 1 GiB at most.
    pub free_bytes_min: Option<Setting<u64>>,
    /// `cache.cache_executables`: whether executables are cached where their link inputs are known exactly.
    pub cache_executables: Setting<bool>,
    /// `cache.build_scripts`: whether runs of build scripts are cached where all that they read is known.
    pub build_scripts: Setting<bool>,
    /// `cache.key_salt`: a text that separates keys.
    pub key_salt: Option<Setting<String>>,
    /// `cache.exclude`: globs over source paths of crates that bypass the cache.
    pub exclude: Setting<Vec<String>>,
    /// `cache.fallback`: another wrapper for what kache passes through.
    pub fallback: Option<Setting<String>>,
    /// `cache.local_only`: no remote, no network.
    pub local_only: Setting<bool>,
    /// `cache.portable_paths`: entries fit other machines, whether or not a remote is in use: see design/0008.
    pub portable_paths: Setting<bool>,
    /// `cache.prove`: results that may depend on their place are compiled once more elsewhere: see design/0010.
    pub prove: Setting<bool>,
    /// `cache.seed`: dependencies are put into fresh target directories before Cargo looks.
    pub seed: Setting<bool>,
    /// `cache.daemon`: whether builds ask the daemon and have it upload; without it only commands use the remote.
    pub daemon: Setting<bool>,
    /// `cache.daemon_idle_timeout_secs`: 0 keeps the daemon for ever.
    pub daemon_idle_timeout_s: Setting<u64>,
    /// `cache.s3_concurrency`: transfers at a time.
    pub s3_concurrency: Setting<u32>,
    /// `cache.compression_level`: zstd level of packs, 1 to 22.
    pub compression_level: Setting<i32>,
    /// `KACHE_DISABLED`.
    pub disabled: Setting<bool>,
    /// `KACHE_VERIFY`: the share of hits that are compiled as well, and compared.
    pub verify: Setting<Sample>,
    /// `KACHE_PROGRESS`.
    pub progress: Setting<Progress>,
    /// `KACHE_LOG`: a tracing filter.
    pub log: Option<Setting<String>>,
    /// `KACHE_LOG_FILE`.
    pub log_file: Option<Setting<PathBuf>>,
    remote: Option<Remote>,
    /// What is wrong without keeping the local cache from working: unknown keys, everything about the remote, which is
    /// off then, and figures that only transfers and the daemon need, in whose place the defaults are used.
    pub problems: Vec<ConfigError>,
}

impl Settings {
    /// Brings the layers together. `file` is the settings file's path and text, `env` the environment.
    pub fn resolve(
        file: Option<(&str, &str)>,
        env: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Vec<Warning>), ConfigError> {
        let layers = Layers::new(file, env)?;
        let mut warnings = Vec::new();
        let known = rows::known_keys();
        let mut problems = layers.unknown_keys(&known);
        let remote = levels::resolve(&layers, &known, &mut warnings, &mut problems).unwrap_or_else(|error| {
            problems.push(error);
            None
        });
        let switch = |var, key, default| {
            layers.switch(var, key).map(|found| found.unwrap_or(Setting::default_of(default)))
        };
        let string = |var, key| layers.text(Some(var), key, |text| Ok(text.to_owned()));
        let size = |text: &str| Ok(quantity::parse_size(text)?);
        let daemon = switch(Some(env::KACHE_DAEMON), Some("cache.daemon"), true);
        let daemon = unless_wrong(daemon, true, &mut problems);
        let daemon_idle_timeout_s = unless_wrong(idle_timeout(&layers), IDLE_TIMEOUT_S, &mut problems);
        let s3_concurrency = unless_wrong(concurrency(&layers), CONCURRENCY, &mut problems);
        let level = compression_level(&layers, &mut warnings);
        let compression_level = unless_wrong(level, COMPRESSION_LEVEL, &mut problems);
        let local_only = switch(Some(env::KACHE_LOCAL_ONLY), Some("cache.local_only"), false)?;
        let settings = Self {
            file: file.map(|(path, _)| path.to_owned()),
            cache_dir: cache_dir(&layers)?,
            local_size_bytes_max: layers
                .text(Some(env::KACHE_MAX_SIZE), Some("cache.local_max_size"), size)?
                .unwrap_or(Setting::default_of(SIZE_BYTES_MAX)),
            free_bytes_min: layers.text(
                Some(env::KACHE_MIN_FREE_SPACE),
                Some("cache.min_free_space"),
                size,
            )?,
            cache_executables: switch(
                Some(env::KACHE_CACHE_EXECUTABLES),
                Some("cache.cache_executables"),
                true,
            )?,
            build_scripts: switch(Some(env::KACHE_BUILD_SCRIPTS), Some("cache.build_scripts"), true)?,
            key_salt: string(env::KACHE_KEY_SALT, Some("cache.key_salt"))?,
            exclude: exclude(&layers)?,
            fallback: string(env::KACHE_FALLBACK, Some("cache.fallback"))?.filter(|path| !path.is_empty()),
            local_only,
            portable_paths: switch(Some(env::KACHE_PORTABLE_PATHS), Some("cache.portable_paths"), true)?,
            // Elsewhere the calling Cargo can't be looked at.
            seed: switch(Some(env::KACHE_SEED), Some("cache.seed"), cfg!(target_os = "linux"))?,
            // Elsewhere what a compile reads can't be observed.
            prove: switch(Some(env::KACHE_PROVE), Some("cache.prove"), cfg!(target_os = "linux"))?,
            daemon,
            daemon_idle_timeout_s,
            s3_concurrency,
            compression_level,
            disabled: switch(Some(env::KACHE_DISABLED), None, false)?,
            verify: layers
                .text(Some(env::KACHE_VERIFY), None, sample)?
                .unwrap_or(Setting::default_of(Sample::NONE)),
            progress: layers
                .text(Some(env::KACHE_PROGRESS), None, progress)?
                .unwrap_or(Setting::default_of(Progress::Off)),
            log: string(env::KACHE_LOG, None)?,
            log_file: layers.os_variable(env::KACHE_LOG_FILE).map(|path| from_env(PathBuf::from(path))),
            remote,
            problems,
        };
        Ok((settings, warnings))
    }

    /// The directory of the store. An error when neither a setting nor the environment leads to one.
    pub fn cache_dir(&self) -> Result<&Path, ConfigError> {
        self.cache_dir
            .as_ref()
            .map(|dir| dir.value.as_path())
            .ok_or(ConfigError { place: Place::Variable(env::KACHE_CACHE_DIR), problem: Problem::NoCacheDir })
    }

    /// The remote to use: configured, and not switched off by `local_only`.
    pub fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref().filter(|_| !self.local_only.value)
    }

    /// The remote that is configured, whether it is used or not.
    pub fn configured_remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// Settings without problems, or the first problem.
    pub fn checked(self) -> Result<Self, ConfigError> {
        match self.problems.first() {
            Some(problem) => Err(problem.clone()),
            None => Ok(self),
        }
    }
}

/// A setting that builds can do without: what is wrong with it is noted, and the default is used.
fn unless_wrong<T>(
    found: Result<Setting<T>, ConfigError>,
    default: T,
    problems: &mut Vec<ConfigError>,
) -> Setting<T> {
    found.unwrap_or_else(|error| {
        problems.push(error);
        Setting::default_of(default)
    })
}

fn from_env<T>(value: T) -> Setting<T> {
    Setting { value, origin: Origin::Environment }
}

/// Why a path with a `$` in it, or with a `~` that isn't `~/`, is none.
const UNEXPANDED: &str =
    "has a variable or `~` in it, and only `~/` in the settings file is expanded: write the path out";

/// `KACHE_CACHE_DIR`, else `cache.local_store`, else the user's cache directory.
fn cache_dir<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
) -> Result<Option<Setting<PathBuf>>, ConfigError> {
    // Cargo starts the wrapper in another directory for each package, so a relative variable would scatter stores.
    if let Some(dir) = layers.os_variable(env::KACHE_CACHE_DIR) {
        let dir = PathBuf::from(dir);
        let value = dir.to_string_lossy().into_owned();
        let why = match dir.is_absolute() {
            false => "is not an absolute path",
            true if value.contains('$') => UNEXPANDED,
            true => return Ok(Some(from_env(dir))),
        };
        let problem = Problem::Value { value, why };
        return Err(ConfigError { place: Place::Variable(env::KACHE_CACHE_DIR), problem });
    }
    let absolute = |name| layers.os_variable(name).map(PathBuf::from).filter(|dir| dir.is_absolute());
    let home = absolute(env::HOME);
    let base = layers.file.as_ref().and_then(|(file, _)| Path::new(file).parent());
    let in_file = layers.text(None, Some("cache.local_store"), |text| {
        let is_unexpanded = text.contains('$') || text.starts_with('~') && !text.starts_with("~/");
        let why = if is_unexpanded { UNEXPANDED } else { "is not a directory path that can be resolved" };
        let path = if is_unexpanded { None } else { local_path(text, home.as_deref(), base) };
        path.ok_or(Problem::Value { value: text.to_owned(), why })
    })?;
    let by_default = || absolute(env::XDG_CACHE_HOME).or_else(|| Some(home.clone()?.join(".cache")));
    Ok(in_file.or_else(|| by_default().map(|dir| Setting::default_of(dir.join("kache")))))
}

/// `cache.exclude`, every pattern understood.
fn exclude<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
) -> Result<Setting<Vec<String>>, ConfigError> {
    let Some(found) = layers.list(None, "cache.exclude")? else { return Ok(Setting::default_of(Vec::new())) };
    match found.value.iter().find_map(|pattern| source_glob(pattern).err()) {
        None => Ok(found),
        Some(problem) => Err(layers.error_at("cache.exclude", problem)),
    }
}

/// The glob that a pattern of `cache.exclude` stands for, to be matched with absolute paths of sources. A pattern that
/// begins with a name matches below any directory.
pub fn source_glob(pattern: &str) -> Result<globset::Glob, Problem> {
    let wrong = |why: String| Problem::Pattern { value: pattern.to_owned(), why };
    if pattern.starts_with('~') || pattern.contains('$') {
        return Err(wrong("`~` and variables are not expanded in it".to_owned()));
    }
    let is_rooted = pattern.starts_with(['/', '*', '[', '{', '?']);
    let below_any = format!("**/{}", pattern.trim_start_matches("./"));
    globset::Glob::new(if is_rooted { pattern } else { &below_any })
        .map_err(|error| wrong(error.kind().to_string()))
}

/// A path named in a file: absolute, below home (`~/…`), or relative to the file.
fn local_path(text: &str, home: Option<&Path>, base: Option<&Path>) -> Option<PathBuf> {
    let path = match text.strip_prefix("~/") {
        Some(rest) => home?.join(rest),
        None if text.is_empty() || text.starts_with('~') => return None,
        None => base.unwrap_or(Path::new("")).join(text),
    };
    path.is_absolute().then_some(path)
}

fn progress(text: &str) -> Result<Progress, Problem> {
    match text.to_ascii_lowercase().as_str() {
        "0" | "off" | "false" => Ok(Progress::Off),
        "1" | "hits" | "true" => Ok(Progress::Hits),
        "verbose" | "all" => Ok(Progress::All),
        _ => Err(Problem::Value { value: text.to_owned(), why: "is none of 0, 1, hits, verbose, all" }),
    }
}

fn sample(text: &str) -> Result<Sample, Problem> {
    let not = || Problem::Value { value: text.to_owned(), why: "is neither a switch nor a share like 10%" };
    Sample::parse(text).ok_or_else(not)
}

fn idle_timeout<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
) -> Result<Setting<u64>, ConfigError> {
    let found = layers.integer(
        Some(env::KACHE_DAEMON_IDLE_TIMEOUT),
        Some("cache.daemon_idle_timeout_secs"),
        |seconds| u64::try_from(seconds).map_err(|_| out_of_range(seconds, "is not a number of seconds")),
    )?;
    Ok(found.unwrap_or(Setting::default_of(IDLE_TIMEOUT_S)))
}

fn concurrency<E: Fn(&str) -> Option<OsString>>(layers: &Layers<'_, E>) -> Result<Setting<u32>, ConfigError> {
    let check = |n: i64| match u32::try_from(n) {
        Ok(n @ 1..=512) => Ok(n),
        _ => Err(out_of_range(n, "is not between 1 and 512")),
    };
    let found = layers.integer(Some(env::KACHE_S3_CONCURRENCY), Some("cache.s3_concurrency"), check)?;
    Ok(found.unwrap_or(Setting::default_of(CONCURRENCY)))
}

fn compression_level<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
    warnings: &mut Vec<Warning>,
) -> Result<Setting<i32>, ConfigError> {
    let found = layers.integer(Some(env::KACHE_COMPRESSION_LEVEL), Some("cache.compression_level"), Ok)?;
    let Some(Setting { value: given, origin }) = found else {
        return Ok(Setting::default_of(COMPRESSION_LEVEL));
    };
    let used = given.clamp(1, 22);
    if used != given {
        let place =
            if origin == Origin::File { "cache.compression_level" } else { env::KACHE_COMPRESSION_LEVEL };
        warnings.push(Warning::Clamped { place: place.to_owned(), given, used });
    }
    Ok(Setting { value: used as i32, origin })
}

fn out_of_range(value: i64, why: &'static str) -> Problem {
    Problem::Value { value: value.to_string(), why }
}
