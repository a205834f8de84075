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
mod clean;
mod clouds;
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
mod spelling;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::ops::Deref;
use std::path::{Path, PathBuf};

pub use backend::{Backend, Http, HttpCredentials};
pub use clean::Clean;
pub use clouds::{Azure, AzureCredentials, Gcs, Gha};
pub use crate_file::CrateFile;
pub use error::{ConfigError, Place, Problem, Warning};
pub use remote::{Remote, SigningKey, host_of};
pub use rows::{Kind, Row};
pub use s3::{Credentials, S3};
pub use secret::Secret;

use crate::quantity;
use crate::verify::Sample;
use layers::{Found, Layers};

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
    Environment,
    File,
    Default,
}

/// A value and the layer it comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting<T> {
    pub value: T,
    pub origin: Origin,
}

impl<T> Setting<T> {
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

crate::words! {
    /// Which lines `KACHE_PROGRESS` asks for.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum Progress {
        Off = "off",
        /// One line per crate that was served from the cache.
        Hits = "hits",
        All = "all",
    }
}

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
    /// `[clean]`.
    pub clean: Clean,
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
        let layers = Layers::new(file, &env)?;
        let mut warnings = Vec::new();
        let known = rows::known_keys();
        let mut problems = layers.unknown_keys(&known);
        let remote = levels::resolve(&layers, &known, &mut warnings, &mut problems).unwrap_or_else(|error| {
            problems.push(error);
            None
        });
        let switch =
            |name, default| layers.switch(name).map(|found| found.unwrap_or(Setting::default_of(default)));
        let string = |name| layers.text(name, |text| Ok(text.to_owned()));
        let size = |name| layers.text(name, |text| Ok(quantity::parse_size(text)?));
        let seconds = |n: i64| u64::try_from(n).map_err(|_| out_of_range(n, "is not a number of seconds"));
        let transfers = |n: i64| match u32::try_from(n) {
            Ok(n @ 1..=512) => Ok(n),
            _ => Err(out_of_range(n, "is not between 1 and 512")),
        };
        let idle_timeout = layers.integer(&rows::IDLE_TIMEOUT, seconds);
        let concurrency = layers.integer(&rows::CONCURRENCY, transfers);
        let level = compression_level(&layers, &mut warnings);
        // Elsewhere neither the calling Cargo nor what a compile reads can be looked at.
        let can_observe = cfg!(target_os = "linux");
        let clean = Clean::resolve(&layers, &mut problems);
        let settings = Self {
            file: file.map(|(path, _)| path.to_owned()),
            cache_dir: cache_dir(&layers)?,
            local_size_bytes_max: size(&rows::MAX_SIZE)?.unwrap_or(Setting::default_of(SIZE_BYTES_MAX)),
            free_bytes_min: size(&rows::MIN_FREE)?,
            cache_executables: switch(&rows::EXECUTABLES, true)?,
            build_scripts: switch(&rows::BUILD_SCRIPTS, true)?,
            key_salt: string(&rows::KEY_SALT)?,
            exclude: exclude(&layers)?,
            fallback: string(&rows::FALLBACK)?.filter(|path| !path.is_empty()),
            local_only: switch(&rows::LOCAL_ONLY, false)?,
            portable_paths: switch(&rows::PORTABLE_PATHS, true)?,
            seed: switch(&rows::SEED, can_observe)?,
            prove: switch(&rows::PROVE, can_observe)?,
            daemon: unless_wrong(layers.switch(&rows::DAEMON), true, &mut problems),
            daemon_idle_timeout_s: unless_wrong(idle_timeout, IDLE_TIMEOUT_S, &mut problems),
            s3_concurrency: unless_wrong(concurrency, CONCURRENCY, &mut problems),
            compression_level: unless_wrong(level, COMPRESSION_LEVEL, &mut problems),
            clean,
            disabled: switch(&rows::DISABLED, false)?,
            verify: layers.text(&rows::VERIFY, sample)?.unwrap_or(Setting::default_of(Sample::NONE)),
            progress: layers.text(&rows::PROGRESS, progress)?.unwrap_or(Setting::default_of(Progress::Off)),
            log: string(&rows::LOG)?,
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
fn unless_wrong<T>(found: Found<T>, default: T, problems: &mut Vec<ConfigError>) -> Setting<T> {
    let found = found.unwrap_or_else(|error| {
        problems.push(error);
        None
    });
    found.unwrap_or(Setting::default_of(default))
}

fn from_env<T>(value: T) -> Setting<T> {
    Setting { value, origin: Origin::Environment }
}

/// Why a path with a `$` in it, or with a `~` that isn't `~/`, is none.
const UNEXPANDED: &str =
    "has a variable or `~` in it, and only `~/` in the settings file is expanded: write the path out";

/// `KACHE_CACHE_DIR`, else `cache.local_store`, else the user's cache directory.
fn cache_dir(layers: &Layers<'_>) -> Found<PathBuf> {
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
    let in_file = layers.text(&rows::LOCAL_STORE.in_file(), |text| {
        let is_unexpanded = text.contains('$') || text.starts_with('~') && !text.starts_with("~/");
        let why = if is_unexpanded { UNEXPANDED } else { "is not a directory path that can be resolved" };
        let path = if is_unexpanded { None } else { local_path(text, home.as_deref(), base) };
        path.ok_or(Problem::Value { value: text.to_owned(), why })
    })?;
    let by_default = || absolute(env::XDG_CACHE_HOME).or_else(|| Some(home.clone()?.join(".cache")));
    Ok(in_file.or_else(|| by_default().map(|dir| Setting::default_of(dir.join("kache")))))
}

/// `cache.exclude`, every pattern understood.
fn exclude(layers: &Layers<'_>) -> Result<Setting<Vec<String>>, ConfigError> {
    let Some(found) = layers.list(&rows::EXCLUDE)? else { return Ok(Setting::default_of(Vec::new())) };
    match found.value.iter().find_map(|pattern| source_glob(pattern).err()) {
        None => Ok(found),
        Some(problem) => Err(layers.error_at(&rows::EXCLUDE, problem)),
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

fn compression_level(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Found<i32> {
    let name = &rows::COMPRESSION;
    let Some(Setting { value: given, origin }) = layers.integer(name, Ok)? else { return Ok(None) };
    let used = given.clamp(1, 22);
    if used != given {
        let place = if origin == Origin::File { name.key } else { name.variable };
        warnings.push(Warning::Clamped { place: place.unwrap_or_default().to_owned(), given, used });
    }
    Ok(Some(Setting { value: used as i32, origin }))
}

fn out_of_range(value: i64, why: &'static str) -> Problem {
    Problem::Value { value: value.to_string(), why }
}
