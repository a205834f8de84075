//! Settings of a bucket behind an S3-compatible server: what names it, and whose credentials are used. Knows nothing about
//! where credentials come from when they aren't given explicitly.

use std::fmt;

use super::error::{ConfigError, Warning};
use super::layers::Layers;
use super::place::{bucket_name, endpoint_url, word};
use super::secret::half;
use super::{Setting, env, rows};
use crate::digest::Digest;
use crate::key::KeyWriter;

pub const REGION: &str = "us-east-1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3 {
    pub bucket: Setting<String>,
    /// Address of an S3-compatible server, without trailing slash; AWS when absent.
    pub endpoint: Option<Setting<String>>,
    pub region: Setting<String>,
    pub profile: Option<Setting<String>>,
    /// The explicit pair of credentials, when both halves are set.
    pub credentials: Option<Credentials>,
    /// Digest of the credentials in the environment that the standard AWS chain begins with; `None` where the settings
    /// name their own. Temporary ones change by the hour, so they are no part of the identity.
    pub ambient: Option<Digest>,
    /// Who the environment says one is, as far as that lasts: part of the identity.
    ambient_user: Option<String>,
}

impl S3 {
    pub(super) fn identify(&self, key: &mut KeyWriter) {
        key.text("bucket", self.bucket.value.as_str());
        key.text("endpoint", self.endpoint.as_ref().map_or("", |endpoint| endpoint.value.as_str()));
        key.text("region", self.region.value.as_str());
        key.text("profile", self.profile.as_ref().map_or("", |profile| profile.value.as_str()));
        key.text("access key", self.credentials.as_ref().map_or("", |pair| pair.access_key.as_str()));
        if let Some(user) = &self.ambient_user {
            key.text("as", user.as_str());
        }
    }

    pub(super) fn identify_credentials(&self, key: &mut KeyWriter) {
        key.text("ambient", self.ambient.map(|digest| digest.to_string()).unwrap_or_default());
        key.text("profile", self.profile.as_ref().map_or("", |profile| profile.value.as_str()));
        if let Some(pair) = &self.credentials {
            key.text("access key", pair.access_key.as_str());
            key.text("secret key", pair.secret_key.as_str());
        }
    }

    /// Where the server is, in a word.
    pub fn place(&self) -> &str {
        self.endpoint.as_ref().map_or(&self.region.value, |url| &url.value)
    }
}

/// The bucket that the layers name, if any; whatever else they say about it has to be right all the same.
pub(super) fn resolve(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<S3>, ConfigError> {
    let bucket = layers.text(&rows::BUCKET, bucket_name)?;
    let endpoint = layers.text(&rows::ENDPOINT, endpoint_url)?;
    let region = layers.text(&rows::REGION, word)?;
    let profile = layers.text(&rows::PROFILE, word)?;
    let Some(bucket) = bucket else { return Ok(None) };
    let has_bucket = |url: &&Setting<String>| {
        let path = url.value.split_once("://").and_then(|(_, rest)| rest.split_once('/'));
        path.is_some_and(|(_, path)| path.rsplit('/').next() == Some(&bucket.value))
    };
    let twice = endpoint.as_ref().filter(has_bucket);
    warnings.extend(twice.map(|url| Warning::BucketInEndpoint(url.value.clone())));
    let credentials = credentials(layers, profile.as_ref(), warnings)?;
    let is_ambient = credentials.is_none() && profile.is_none();
    let keys = [env::AWS_CREDENTIALS[0], env::AWS_SECRET_ACCESS_KEY, env::AWS_CREDENTIALS[1]];
    let is_padded = |name: &&str| {
        let value = layers.os_variable(name).unwrap_or_default();
        value.to_str().is_some_and(|value| value.trim().len() < value.len())
    };
    warnings.extend(keys.into_iter().filter(|name| is_ambient && is_padded(name)).map(Warning::Trimmed));
    Ok(Some(S3 {
        bucket,
        endpoint,
        region: region.unwrap_or_else(|| Setting::default_of(REGION.to_owned())),
        profile,
        credentials,
        ambient: is_ambient.then(|| ambient(layers)),
        ambient_user: ambient_user(layers).filter(|_| is_ambient),
    }))
}

/// The explicit pair. Its debug form never shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

fn credentials(
    layers: &Layers<'_>,
    profile: Option<&Setting<String>>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Credentials>, ConfigError> {
    let (access, secret) = (
        half(layers, env::KACHE_S3_ACCESS_KEY, warnings)?,
        half(layers, env::KACHE_S3_SECRET_KEY, warnings)?,
    );
    let next = profile.map_or_else(
        || "the standard AWS chain is used".to_owned(),
        |profile| format!("the profile {} is used", profile.value),
    );
    let lone = |set, unset| Warning::LoneCredential { set, unset, next };
    match (access, secret) {
        (Some(access), Some(secret)) => {
            return Ok(Some(Credentials { access_key: access, secret_key: secret }));
        }
        (Some(_), None) => warnings.push(lone(env::KACHE_S3_ACCESS_KEY, env::KACHE_S3_SECRET_KEY)),
        (None, Some(_)) => warnings.push(lone(env::KACHE_S3_SECRET_KEY, env::KACHE_S3_ACCESS_KEY)),
        (None, None) => {}
    }
    Ok(None)
}

/// What the standard chain finds in the environment, as one digest.
fn ambient(layers: &Layers<'_>) -> Digest {
    let mut key = KeyWriter::new("ambient credentials");
    for name in env::AWS_CREDENTIALS.into_iter().chain([env::AWS_SECRET_ACCESS_KEY]) {
        let value = layers.os_variable(name).unwrap_or_default();
        key.text(name, value.to_string_lossy().into_owned());
    }
    key.finish().0
}

/// The access key that the chain takes from the environment, else the profile. The key of a session counts as nobody's:
/// the next session of the same person has another.
fn ambient_user(layers: &Layers<'_>) -> Option<String> {
    let [access_key, session_token, profile] = env::AWS_CREDENTIALS.map(|name| layers.os_variable(name));
    let user = match (access_key, session_token) {
        (Some(key), None) => Some(key),
        (Some(_), Some(_)) => None,
        (None, _) => profile,
    };
    user.map(|user| user.to_string_lossy().into_owned())
}
