//! From settings to a transfer: reads key files, builds the client. The only place that knows which setting means what
//! here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kache_core::config::{Backend, Remote as RemoteSettings, Settings, SigningKey};
use kache_store::Store;

use crate::remote::Remote;
#[cfg(feature = "azure")]
use crate::remote::cloud::azure::Azure;
#[cfg(feature = "gcs")]
use crate::remote::cloud::gcs::Gcs;
use crate::remote::folder::Folder;
#[cfg(feature = "gha")]
use crate::remote::gha::Gha;
#[cfg(feature = "s3")]
use crate::remote::s3::S3;
#[cfg(feature = "http")]
use crate::remote::web::Web;
use crate::remote::wire::Patience;
use crate::transfer::{Policy, Transfer};
use crate::trust::{NotAKey, Trust};

/// How long work that nothing waits for any more may take to end.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// Why the settings of the remote can't be put to work.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file with the signing key.
    #[error("{setting}: can't read {}: {error}", path.display())]
    KeyFile { setting: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{setting}: {error}")]
    Key { setting: &'static str, error: NotAKey },
    /// A kind of remote that this program was built without.
    #[error("this build of kache has no remotes of the kind \"{0}\"")]
    LeftOut(&'static str),
    #[error("can't start the network threads: {0}")]
    Runtime(std::io::Error),
}

/// A remote, and how to move things between it and the store.
#[derive(Debug, Clone)]
pub struct Level {
    /// Its settings; there is none behind it.
    pub remote: RemoteSettings,
    pub transfer: Transfer,
}

/// Transfers between the store and the remotes that the settings configure, nearest first; empty when they configure none.
///
/// # Errors
/// When a key can't be used. Nothing is sent yet.
pub async fn connect(settings: &Settings, store: &Arc<Store>) -> Result<Vec<Level>, SetupError> {
    let mut levels = Vec::new();
    for remote in settings.remote().into_iter().flat_map(RemoteSettings::levels) {
        let policy = policy(settings, &remote)?;
        let client = client(&remote.backend, Patience::default()).await?;
        let transfer = Transfer::new(Arc::clone(store), client, &remote.prefix.value, policy);
        levels.push(Level { remote, transfer });
    }
    Ok(levels)
}

/// A client of a remote. Sends nothing yet.
///
/// # Errors
/// When this program was built without that kind.
pub(crate) async fn client(backend: &Backend, patience: Patience) -> Result<Arc<dyn Remote>, SetupError> {
    Ok(match backend {
        #[cfg(feature = "s3")]
        Backend::S3(s3) => Arc::new(S3::connect_with(s3, patience).await),
        Backend::File(folder) => Arc::new(Folder::new(&folder.value)),
        #[cfg(feature = "http")]
        Backend::Http(http) => Arc::new(Web::connect_with(http, patience)),
        #[cfg(feature = "gcs")]
        Backend::Gcs(gcs) => Arc::new(Gcs::connect(gcs, patience)),
        #[cfg(feature = "azure")]
        Backend::Azure(azure) => Arc::new(Azure::connect(azure, patience)),
        #[cfg(feature = "gha")]
        Backend::Gha(gha) => Arc::new(Gha::connect(gha, patience)),
        #[cfg(not(all(
            feature = "s3",
            feature = "http",
            feature = "gcs",
            feature = "azure",
            feature = "gha"
        )))]
        left_out => return Err(SetupError::LeftOut(left_out.word())),
    })
}

/// What the settings say about sharing.
pub fn policy(settings: &Settings, remote: &RemoteSettings) -> Result<Policy, SetupError> {
    let signing = match remote.signing_key.as_ref().map(|key| &key.value) {
        None => None,
        Some(SigningKey::Inline(text)) => Some(text.0.clone()),
        Some(SigningKey::File(path)) => Some(key_in("cache.remote.signing_key", path)?),
    };
    let key_error = |setting| move |error| SetupError::Key { setting, error };
    let signer = Trust::new(signing.as_deref(), &[]).map_err(key_error("cache.remote.signing_key"))?;
    let trust = signer.trusting(&remote.trusted_keys).map_err(key_error("cache.remote.trusted_keys"))?;
    let trust = trust.with_witnesses(remote.witnesses.value);
    Ok(Policy {
        compression_level: *settings.compression_level,
        secret_env: remote.secret_env.value.clone(),
        trust,
        stall: Duration::from_secs(remote.stall_timeout_s.value),
        remote: Some(remote.identity()),
    })
}

/// What the settings say about a store that others read: the remote's policy where one is configured, whether it is in use or
/// not; signed with the key in this file, if it is given.
pub fn serving_policy(settings: &Settings, signing_key: Option<&Path>) -> Result<Policy, SetupError> {
    let Some(path) = signing_key else {
        return match settings.configured_remote() {
            Some(remote) => policy(settings, remote),
            None => {
                let compression_level = *settings.compression_level;
                Ok(Policy { compression_level, ..Policy::default() })
            }
        };
    };
    let remote =
        settings.configured_remote().cloned().map(|remote| RemoteSettings { signing_key: None, ..remote });
    let mut policy = match &remote {
        Some(remote) => policy(settings, remote)?,
        None => serving_policy(settings, None)?,
    };
    let key_error = |setting| move |error| SetupError::Key { setting, error };
    let signer =
        Trust::new(Some(&key_in("--signing-key", path)?), &[]).map_err(key_error("--signing-key"))?;
    let trusted = remote.map(|remote| remote.trusted_keys.value).unwrap_or_default();
    policy.trust = signer.trusting(&trusted).map_err(key_error("cache.remote.trusted_keys"))?;
    Ok(policy)
}

fn key_in(setting: &'static str, path: &Path) -> Result<String, SetupError> {
    std::fs::read_to_string(path).map_err(|error| SetupError::KeyFile {
        setting,
        path: path.to_owned(),
        error,
    })
}

/// Runs asynchronous work to its end, for callers that are not asynchronous.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, SetupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(SetupError::Runtime)?;
    let done = runtime.block_on(work);
    // A request to a file system that gives no answer never ends.
    runtime.shutdown_timeout(LEFT_BEHIND);
    Ok(done)
}
