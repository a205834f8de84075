//! The one table of environment variables that kache itself reads. Knows names and meanings, reads nothing.
//!
//! Variables that belong to a compile (what `env!` sees, what Cargo passes to rustc) are not settings and are not
//! listed: they are part of a unit's inputs.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variable {
    pub name: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
}

macro_rules! variables {
    ($($(#[$attribute:meta])* $constant:ident, $meaning:literal;)*) => {
        $($(#[$attribute])* #[doc = $meaning] pub const $constant: &str = stringify!($constant);)*
        /// Every variable, in the order of the documentation.
        pub const ALL: &[Variable] = &[$($(#[$attribute])* Variable { name: stringify!($constant), meaning: $meaning }),*];
    };
}

variables! {
    KACHE_CONFIG, "settings file to use in place of the nearest `.kache.toml` or the user's own";
    KACHE_CACHE_DIR, "directory of the local store";
    KACHE_MAX_SIZE, "size limit of the local store";
    KACHE_MIN_FREE_SPACE, "what stays free on the store's disk";
    KACHE_CACHE_EXECUTABLES, "whether executables are cached";
    KACHE_BUILD_SCRIPTS, "whether runs of build scripts are cached";
    KACHE_IN_SCRIPT, "set by kache for a build script that it runs: the script's `OUT_DIR`";
    KACHE_KEY_SALT, "text mixed into every key";
    KACHE_DISABLED, "hands every call straight to the compiler";
    KACHE_LOCAL_ONLY, "no remote, no network";
    KACHE_FALLBACK, "another wrapper for what kache passes through";
    KACHE_IN_FALLBACK, "set by kache for the wrapper of `KACHE_FALLBACK`: kache below it doesn't call that again";
    KACHE_PORTABLE_PATHS, "whether entries are made to fit other machines";
    KACHE_SEED, "whether dependencies are put into a fresh target directory before Cargo looks";
    KACHE_PROVE, "whether results that may depend on their place are compiled once more elsewhere, after the build";
    KACHE_CLEAN_AUTO, "whether target directories are cleaned after builds";
    KACHE_VERIFY, "share of the hits that are compiled as well and compared";
    KACHE_PROGRESS, "one line on standard error per crate";
    KACHE_JOB, "mark of the CI job, for summaries of it";
    KACHE_LOG, "log filter";
    KACHE_LOG_FILE, "file that the log goes to";
    KACHE_DAEMON, "whether builds use the daemon";
    KACHE_DAEMON_IDLE_TIMEOUT, "seconds after which an idle daemon ends";
    KACHE_REMOTE_TYPE, "kind of remote: s3, file, http, gcs, azure or gha";
    KACHE_REMOTE_PATH, "folder that is the remote";
    KACHE_REMOTE_URL, "address of the web server that is the remote";
    KACHE_REMOTE_TOKEN, "token for the web server";
    KACHE_REMOTE_USER, "user's name for the web server";
    KACHE_REMOTE_PASSWORD, "password for the web server";
    KACHE_S3_BUCKET, "bucket of the remote";
    KACHE_S3_ENDPOINT, "address of an S3-compatible server";
    KACHE_S3_REGION, "region of the bucket";
    KACHE_S3_PREFIX, "what every object's name starts with";
    KACHE_S3_PROFILE, "named AWS profile";
    KACHE_S3_ACCESS_KEY, "explicit access key";
    KACHE_S3_SECRET_KEY, "explicit secret key";
    KACHE_GCS_BUCKET, "bucket of Google Cloud Storage that is the remote";
    KACHE_GCS_ENDPOINT, "address of a server in place of Google's";
    KACHE_AZURE_CONTAINER, "container of an Azure storage account that is the remote";
    KACHE_AZURE_ACCOUNT, "storage account of the container";
    KACHE_AZURE_ENDPOINT, "address of a server in place of Azure's";
    KACHE_S3_SIGNING_KEY, "private key, or the path of one, that signs what is pushed";
    KACHE_S3_TRUSTED_KEYS, "public keys whose entries are pulled";
    KACHE_S3_WITNESSES, "how many trusted keys must have signed the same result";
    KACHE_S3_SECRET_ENV, "variables that count as credentials";
    KACHE_S3_CONCURRENCY, "transfers at a time";
    KACHE_READ_ONLY, "whether nothing is pushed; on in CI jobs for pull requests";
    KACHE_S3_STALL_TIMEOUT, "seconds after which commands give up on a remote that moves nothing";
    KACHE_COMPRESSION_LEVEL, "zstd level of uploaded packs";
    #[cfg(debug_assertions)]
    KACHE_FAULT, "where a test has a process die; not in release builds";
    HOME, "the user's home directory";
    XDG_CACHE_HOME, "where caches are kept";
    XDG_CONFIG_HOME, "where settings are kept";
    XDG_DATA_HOME, "where completion scripts are kept";
    SCCACHE_DIR, "where sccache keeps its store";
    CARGO, "the Cargo to start";
    CARGO_HOME, "Cargo's home directory";
    CARGO_TARGET_DIR, "where Cargo builds";
    RUSTC, "the compiler that Cargo uses";
    RUSTC_WRAPPER, "the wrapper that Cargo uses whatever its configuration says";
    CARGO_BUILD_RUSTC_WRAPPER, "the wrapper that Cargo uses unless RUSTC_WRAPPER is set";
    RUSTC_WORKSPACE_WRAPPER, "another wrapper, for members of the workspace";
    CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER, "the same, unless RUSTC_WORKSPACE_WRAPPER is set";
    NO_COLOR, "no colour in output";
    CLICOLOR_FORCE, "colour even when the output is not a terminal";
    TERM, "kind of terminal";
    PATH, "where programs are looked for";
}

/// In which a completion script names its shell when it asks what fits.
pub const COMPLETE: &str = "_KACHE_COMPLETE";

/// Variables of the session that a background process needs beside its settings: who and where it is, and how the
/// network is reached.
const SESSION: &[&str] = &[
    "HOME",
    "USER",
    "LOGNAME",
    "PATH",
    "TMPDIR",
    "TZ",
    "LANG",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "ALL_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "all_proxy",
];

/// The profile of the standard AWS chain.
pub const AWS_PROFILE: &str = "AWS_PROFILE";
/// Where the chain's profiles are, in place of the user's own files.
pub const AWS_CONFIG_FILE: &str = "AWS_CONFIG_FILE";
/// See [`AWS_CONFIG_FILE`].
pub const AWS_SHARED_CREDENTIALS_FILE: &str = "AWS_SHARED_CREDENTIALS_FILE";
/// Variables of the chain that say who one is: access key, token of a session, profile.
pub const AWS_CREDENTIALS: [&str; 3] = ["AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", AWS_PROFILE];

/// The secret that belongs to the access key of [`AWS_CREDENTIALS`].
pub const AWS_SECRET_ACCESS_KEY: &str = "AWS_SECRET_ACCESS_KEY";

/// The file with the credentials for Google Cloud.
pub const GOOGLE_APPLICATION_CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";
/// Where `gcloud` keeps its files.
pub const CLOUDSDK_CONFIG: &str = "CLOUDSDK_CONFIG";
/// Host of Google's metadata server.
pub const GCE_METADATA_HOST: &str = "GCE_METADATA_HOST";
pub const AZURE_STORAGE_ACCOUNT: &str = "AZURE_STORAGE_ACCOUNT";
pub const AZURE_STORAGE_KEY: &str = "AZURE_STORAGE_KEY";
/// A shared access signature for it.
pub const AZURE_STORAGE_SAS_TOKEN: &str = "AZURE_STORAGE_SAS_TOKEN";
/// Account, key and address in one.
pub const AZURE_STORAGE_CONNECTION_STRING: &str = "AZURE_STORAGE_CONNECTION_STRING";
/// Where a job of GitHub Actions has its cache service.
pub const ACTIONS_RESULTS_URL: &str = "ACTIONS_RESULTS_URL";
/// The token of a job of GitHub Actions.
pub const ACTIONS_RUNTIME_TOKEN: &str = "ACTIONS_RUNTIME_TOKEN";

/// What the names of kache's own variables start with.
const OWN: &str = "KACHE";

/// Variables that are about one call and not about the store or its remote.
const ONE_CALL: &[&str] = &[
    KACHE_CONFIG,
    KACHE_CACHE_DIR,
    KACHE_DISABLED,
    KACHE_VERIFY,
    KACHE_PROGRESS,
    KACHE_LOG_FILE,
    KACHE_IN_FALLBACK,
    KACHE_IN_SCRIPT,
];

/// Whether a variable looks like a setting and is none; the one that a typing mistake most likely meant comes with it.
pub fn unknown(name: &str) -> Option<Option<String>> {
    let known: Vec<&str> =
        ALL.iter().map(|variable| variable.name).filter(|name| name.starts_with(OWN)).collect();
    let own = name.get(..6).filter(|start| start.eq_ignore_ascii_case("KACHE_")).map(|_| &name[6..]);
    // Those are read by the project's own tests.
    let is_own = own.is_some_and(|rest| !rest.starts_with("CI_") && !rest.starts_with("TEST_"));
    (is_own && !known.contains(&name)).then(|| super::spelling::nearest(&name.to_ascii_uppercase(), &known))
}

/// Whether a background process that is started from a build gets this variable; `ambient` are beginnings of names, see
/// [`super::Remote::ambient`]. Which settings file and which store it is for, it is told apart from this.
pub fn is_for_daemon(name: &str, ambient: &[&str]) -> bool {
    let files = matches!(name, AWS_CONFIG_FILE | AWS_SHARED_CREDENTIALS_FILE);
    SESSION.contains(&name)
        || files
        || (ALL.iter().any(|variable| variable.name == name)
            && name.starts_with(OWN)
            && !ONE_CALL.contains(&name))
        || ambient.iter().any(|start| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_gets_its_settings_and_nothing_of_the_build() {
        for (name, used, unused) in [
            ("PATH", true, true),
            (KACHE_S3_BUCKET, true, true),
            (KACHE_CONFIG, false, false),
            (KACHE_DISABLED, false, false),
            ("AWS_ACCESS_KEY_ID", true, false),
            ("AWS_CONFIG_FILE", true, true),
            ("CARGO_MANIFEST_DIR", false, false),
            ("RUSTFLAGS", false, false),
            ("LD_LIBRARY_PATH", false, false),
            ("CARGO_REGISTRY_TOKEN", false, false),
        ] {
            assert_eq!(is_for_daemon(name, &["AWS_"]), used, "{name}");
            assert_eq!(is_for_daemon(name, &[]), unused, "{name}");
        }
    }

    #[test]
    fn names_are_listed_once() {
        let mut names: Vec<_> = ALL.iter().map(|variable| variable.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}
