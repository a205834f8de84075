//! From settings to a transfer: reads key files, builds the client. The only place that knows which setting means what
//! here.

use std::path::PathBuf;
use std::sync::Arc;

use kache_core::config::{Remote as RemoteSettings, Settings, SigningKey};
use kache_store::Store;

use crate::remote::s3::S3;
use crate::transfer::{Policy, Transfer};
use crate::trust::{NotAKey, Trust};

/// Why the settings of the remote can't be put to work.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The file with the signing key.
    #[error("cache.remote.signing_key: can't read {}: {error}", path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        error: std::io::Error,
    },
    /// A key.
    #[error("{setting}: {error}")]
    Key {
        /// The setting.
        setting: &'static str,
        /// What is wrong.
        error: NotAKey,
    },
    /// No threads for the network.
    #[error("can't start the network threads: {0}")]
    Runtime(std::io::Error),
}

/// A transfer between the store and the remote that the settings configure; `None` when they configure none.
///
/// # Errors
/// When a key can't be used. Nothing is sent yet.
pub async fn connect(settings: &Settings, store: Arc<Store>) -> Result<Option<Transfer>, SetupError> {
    let Some(remote) = settings.remote() else { return Ok(None) };
    let policy = policy(settings, remote)?;
    let s3 = S3::connect(remote).await;
    Ok(Some(Transfer::new(store, Arc::new(s3), &remote.prefix.value, policy)))
}

/// What the settings say about sharing.
///
/// # Errors
/// When a key can't be read or isn't one.
pub fn policy(settings: &Settings, remote: &RemoteSettings) -> Result<Policy, SetupError> {
    let signing = match remote.signing_key.as_ref().map(|key| &key.value) {
        None => None,
        Some(SigningKey::Inline(text)) => Some(text.0.clone()),
        Some(SigningKey::File(path)) => Some(
            std::fs::read_to_string(path)
                .map_err(|error| SetupError::KeyFile { path: path.clone(), error })?,
        ),
    };
    let key_error = |setting| move |error| SetupError::Key { setting, error };
    let signer = Trust::new(signing.as_deref(), &[]).map_err(key_error("cache.remote.signing_key"))?;
    let trust = signer.trusting(&remote.trusted_keys).map_err(key_error("cache.remote.trusted_keys"))?;
    Ok(Policy {
        compression_level: *settings.compression_level,
        secret_env: remote.secret_env.value.clone(),
        trust,
        stall: std::time::Duration::from_secs(remote.stall_timeout_s.value),
    })
}

/// Runs asynchronous work to its end, for callers that are not asynchronous.
///
/// # Errors
/// When there can be no threads for it.
pub fn block_on<T>(work: impl Future<Output = T>) -> Result<T, SetupError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    Ok(runtime.map_err(SetupError::Runtime)?.block_on(work))
}
