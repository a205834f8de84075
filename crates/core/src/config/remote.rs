//! Settings of the S3 remote: what `[cache.remote]` and the `KACHE_S3_*` variables say. Knows nothing about
//! connecting, nor where credentials come from when they aren't given explicitly.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

pub use super::place::host_of;

use super::error::{ConfigError, Place, Problem, Warning};
use super::layers::Layers;
use super::place::{bucket_name, endpoint_url, is_plain_http_to_another_machine, object_prefix, value, word};
use super::{Origin, Setting, env};
use crate::digest::Digest;
use crate::key::KeyWriter;

/// Region when none is given.
pub const REGION: &str = "us-east-1";
/// Prefix when none is given.
pub const PREFIX: &str = "artifacts";
/// Seconds that a remote which moves nothing is waited for, when none are given.
pub const STALL_TIMEOUT_S: u64 = 60;

/// A remote that is configured.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    /// The bucket.
    pub bucket: Setting<String>,
    /// Address of an S3-compatible server, without trailing slash; AWS when absent.
    pub endpoint: Option<Setting<String>>,
    /// Region.
    pub region: Setting<String>,
    /// What every object's name starts with, without slashes at its ends.
    pub prefix: Setting<String>,
    /// Named AWS profile.
    pub profile: Option<Setting<String>>,
    /// The explicit pair of credentials, when both halves are set.
    pub credentials: Option<Credentials>,
    /// Digest of the credentials in the environment that the standard AWS chain begins with; `None` where the settings
    /// name their own. Temporary ones change by the hour, so they are no part of the identity.
    pub ambient: Option<Digest>,
    /// Who the environment says one is, as far as that lasts: part of the identity.
    ambient_user: Option<String>,
    /// The key that signs what this machine pushes.
    pub signing_key: Option<Setting<SigningKey>>,
    /// Public keys; where there are any, only what one of them signed is pulled.
    pub trusted_keys: Setting<Vec<String>>,
    /// Variables that count as credentials, besides those whose names look like it; patterns with `*` at their ends.
    pub secret_env: Setting<Vec<String>>,
    /// Whether nothing is pushed.
    pub read_only: Setting<bool>,
    /// The variable by which this is a CI job for a pull request, where that decides it.
    pub pull_request: Option<&'static str>,
    /// After how many seconds commands give up on a remote that moves nothing; 0 for never.
    pub stall_timeout_s: Setting<u64>,
}

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    /// In the setting itself.
    Inline(Secret),
    /// In this file.
    File(PathBuf),
}

/// How the base64 form of every Ed25519 private key begins.
const PRIVATE_KEY_START: &str = "MC4CAQAwBQYDK2Vw";

impl Remote {
    /// Names the remote: two that differ in this may hold different things, or be meant for different people. A daemon
    /// serves one of them only, whatever environment it was started in. Who is believed is part of it; the secret key
    /// of the bucket isn't.
    pub fn identity(&self) -> Digest {
        let mut key = KeyWriter::new("remote");
        key.text("bucket", self.bucket.value.as_str());
        key.text("endpoint", self.endpoint.as_ref().map_or("", |endpoint| endpoint.value.as_str()));
        key.text("region", self.region.value.as_str());
        key.text("prefix", self.prefix.value.as_str());
        key.text("profile", self.profile.as_ref().map_or("", |profile| profile.value.as_str()));
        key.text("access key", self.credentials.as_ref().map_or("", |pair| pair.access_key.as_str()));
        if let Some(user) = &self.ambient_user {
            key.text("as", user.as_str());
        }
        match &self.signing_key {
            None => {}
            Some(Setting { value: SigningKey::Inline(Secret(text)), .. }) => {
                key.text("signs as", text.as_str())
            }
            Some(Setting { value: SigningKey::File(path), .. }) => {
                key.text("signs with", path.to_string_lossy().into_owned());
            }
        }
        for trusted in &self.trusted_keys.value {
            key.text("trusts", trusted.as_str());
        }
        for pattern in &self.secret_env.value {
            key.text("keeps", pattern.as_str());
        }
        key.finish().0
    }

    /// Which credentials are used and whether only for reading, secrets included: two builds that mean the same remote may differ in them after one was
    /// corrected. Profiles are read when they are used, and are no part of it.
    pub fn credentials_id(&self) -> Digest {
        let mut key = KeyWriter::new("credentials");
        key.text("read only", self.read_only.value.to_string());
        key.text("ambient", self.ambient.map(|digest| digest.to_string()).unwrap_or_default());
        key.text("profile", self.profile.as_ref().map_or("", |profile| profile.value.as_str()));
        if let Some(pair) = &self.credentials {
            key.text("access key", pair.access_key.as_str());
            key.text("secret key", pair.secret_key.as_str());
        }
        key.finish().0
    }

    /// Why nothing is pushed, for people; `None` where pushes are allowed.
    pub fn why_read_only(&self) -> Option<String> {
        self.read_only.value.then(|| match self.pull_request {
            Some(variable) => format!(
                "{variable} says that this is a job for a pull request, whose results nobody else is to get; \
                 KACHE_READ_ONLY=0 allows pushes"
            ),
            None => "`cache.remote.read_only` (KACHE_READ_ONLY) is set".to_owned(),
        })
    }

    /// The remote in a few words, for people.
    pub fn describe(&self) -> String {
        let place = self.endpoint.as_ref().map_or_else(|| self.region.value.clone(), |url| url.value.clone());
        format!("s3://{}/{} at {place}", self.bucket.value, self.prefix.value)
    }
}

/// The explicit pair. Its debug form never shows the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(hidden)")
    }
}

/// The remote that the layers configure, if any.
pub(super) fn resolve<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Remote>, ConfigError> {
    layers.text(None, Some("cache.remote.type"), |text| match text {
        "s3" => Ok(()),
        _ => Err(value(text, "is not a kind of remote that kache knows (only \"s3\")")),
    })?;
    let bucket = layers.text(Some(env::KACHE_S3_BUCKET), Some("cache.remote.bucket"), bucket_name)?;
    let endpoint = layers.text(Some(env::KACHE_S3_ENDPOINT), Some("cache.remote.endpoint"), endpoint_url)?;
    let region = layers.text(Some(env::KACHE_S3_REGION), Some("cache.remote.region"), word)?;
    let prefix = layers.text(Some(env::KACHE_S3_PREFIX), Some("cache.remote.prefix"), object_prefix)?;
    let profile = layers.text(Some(env::KACHE_S3_PROFILE), Some("cache.remote.profile"), word)?;

    let signing_key = signing_key(layers)?;
    let list = |variable, key| layers.list(Some(variable), key);
    let trusted_keys = list(env::KACHE_S3_TRUSTED_KEYS, "cache.remote.trusted_keys")?;
    let secret_env = list(env::KACHE_S3_SECRET_ENV, "cache.remote.secret_env")?;
    let said = layers.switch(Some(env::KACHE_READ_ONLY), Some("cache.remote.read_only"))?;
    // The variable decides, then the job, then the file: it is the same file for all jobs.
    let is_said_here = said.as_ref().is_some_and(|said| said.origin == Origin::Environment || said.value);
    let text = |name: &str| layers.os_variable(name)?.into_string().ok();
    let pull_request = super::ci::pull_request(text).filter(|_| !is_said_here);
    let read_only = match pull_request {
        Some(_) => Setting { value: true, origin: Origin::Environment },
        None => said.unwrap_or(Setting::default_of(false)),
    };
    let seconds = |n: i64| u64::try_from(n).map_err(|_| value(&n.to_string(), "is not a number of seconds"));
    let stall = (env::KACHE_S3_STALL_TIMEOUT, "cache.remote.stall_timeout_secs");
    let stall_timeout_s = layers.integer(Some(stall.0), Some(stall.1), seconds)?;

    let Some(bucket) = bucket else {
        return missing_bucket(layers, warnings);
    };
    if let Some(endpoint) = &endpoint
        && is_plain_http_to_another_machine(&endpoint.value)
    {
        warnings.push(Warning::PlainHttp(endpoint.value.clone()));
    }
    let credentials = credentials(layers, profile.as_ref(), warnings)?;
    let is_ambient = credentials.is_none() && profile.is_none();
    let keys = [env::AWS_CREDENTIALS[0], env::AWS_SECRET_ACCESS_KEY, env::AWS_CREDENTIALS[1]];
    let is_padded = |name: &&str| {
        let value = layers.os_variable(name).unwrap_or_default();
        value.to_str().is_some_and(|value| value.trim().len() < value.len())
    };
    warnings.extend(keys.into_iter().filter(|name| is_ambient && is_padded(name)).map(Warning::Trimmed));
    Ok(Some(Remote {
        bucket,
        endpoint,
        region: region.unwrap_or_else(|| Setting::default_of(REGION.to_owned())),
        prefix: prefix.unwrap_or_else(|| Setting::default_of(PREFIX.to_owned())),
        profile,
        credentials,
        ambient: is_ambient.then(|| ambient(layers)),
        ambient_user: ambient_user(layers).filter(|_| is_ambient),
        signing_key,
        trusted_keys: trusted_keys.unwrap_or(Setting::default_of(Vec::new())),
        secret_env: secret_env.unwrap_or(Setting::default_of(Vec::new())),
        read_only,
        pull_request,
        stall_timeout_s: stall_timeout_s.unwrap_or(Setting::default_of(STALL_TIMEOUT_S)),
    }))
}

/// The key itself, or the path of a file that holds it.
fn signing_key<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
) -> Result<Option<Setting<SigningKey>>, ConfigError> {
    let home = layers.os_variable(env::HOME).map(PathBuf::from);
    let base = layers.file.as_ref().and_then(|(file, _)| Path::new(file).parent());
    let read = |text: &str| {
        let text = text.trim();
        if text.starts_with("-----BEGIN ") || text.starts_with(PRIVATE_KEY_START) {
            return Ok(SigningKey::Inline(Secret(text.to_owned())));
        }
        // What is neither may be a key in another form, so it isn't shown.
        let path = super::local_path(text, home.as_deref(), base);
        path.map(SigningKey::File).ok_or_else(|| value("…", "is neither a private key nor the path of one"))
    };
    layers.text(Some(env::KACHE_S3_SIGNING_KEY), Some("cache.remote.signing_key"), read)
}

fn missing_bucket<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Remote>, ConfigError> {
    let section = layers.file.as_ref().and_then(|(file, table)| {
        let remote = table.get("cache")?.get("remote")?;
        Some(((*file).to_owned(), remote.as_table()?.is_empty()))
    });
    match section {
        Some((file, false)) => Err(ConfigError {
            place: Place::Key { file, key: "cache.remote.bucket".to_owned() },
            problem: Problem::Missing("the other settings of the remote need it"),
        }),
        _ => {
            let variables = [env::KACHE_S3_ENDPOINT, env::KACHE_S3_PREFIX, env::KACHE_S3_ACCESS_KEY];
            let stray = variables.into_iter().find(|name| layers.os_variable(name).is_some());
            warnings.extend(stray.map(Warning::NoBucket));
            Ok(None)
        }
    }
}

fn credentials<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
    profile: Option<&Setting<String>>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Credentials>, ConfigError> {
    let (access, secret) = (
        half(layers, env::KACHE_S3_ACCESS_KEY, warnings)?,
        half(layers, env::KACHE_S3_SECRET_KEY, warnings)?,
    );
    let profile = profile.map(|profile| profile.value.clone());
    let lone = |set, unset| Warning::LoneCredential { set, unset, profile };
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

/// One half of the explicit pair, without the white space and line feeds that come with it out of files and secrets of
/// CI; nothing where nothing else is left.
fn half<E: Fn(&str) -> Option<OsString>>(
    layers: &Layers<'_, E>,
    name: &'static str,
    warnings: &mut Vec<Warning>,
) -> Result<Option<String>, ConfigError> {
    let read = |text: &str| {
        let key = text.trim();
        if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
            // It may be a secret, so it isn't shown.
            return Err(value("…", "has white space or a control character in the middle"));
        }
        Ok((key.to_owned(), key.len() < text.len()))
    };
    let Some((key, is_trimmed)) = layers.text(Some(name), None, read)?.map(|setting| setting.value) else {
        return Ok(None);
    };
    if is_trimmed {
        warnings.push(Warning::Trimmed(name));
    }
    Ok(Some(key).filter(|key| !key.is_empty()))
}

/// What the standard chain finds in the environment, as one digest.
fn ambient<E: Fn(&str) -> Option<OsString>>(layers: &Layers<'_, E>) -> Digest {
    let mut key = KeyWriter::new("ambient credentials");
    for name in env::AWS_CREDENTIALS.into_iter().chain([env::AWS_SECRET_ACCESS_KEY]) {
        let value = layers.os_variable(name).unwrap_or_default();
        key.text(name, value.to_string_lossy().into_owned());
    }
    key.finish().0
}

/// The access key that the chain takes from the environment, else the profile. The key of a session counts as nobody's:
/// the next session of the same person has another.
fn ambient_user<E: Fn(&str) -> Option<OsString>>(layers: &Layers<'_, E>) -> Option<String> {
    let [access_key, session_token, profile] = env::AWS_CREDENTIALS.map(|name| layers.os_variable(name));
    let user = match (access_key, session_token) {
        (Some(key), None) => Some(key),
        (Some(_), Some(_)) => None,
        (None, _) => profile,
    };
    user.map(|user| user.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn remote(variables: &[(&str, &str)]) -> Remote {
        let value = |name: &str| match name {
            env::KACHE_S3_BUCKET => Some("b".into()),
            _ => variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).into()),
        };
        Settings::resolve(None, value).expect("settings").0.remote().expect("a remote").clone()
    }

    /// A daemon that was started by one person's shell doesn't serve another's; a new session of the same person is
    /// told from the one before, but what is queued stays owed to the same remote.
    #[test]
    fn the_environment_counts_only_where_the_chain_is_used() {
        let [key, token, profile] = env::AWS_CREDENTIALS;
        let plain = remote(&[]);
        type Case<'a> = (&'a [(&'a str, &'a str)], bool, bool);
        let cases: &[Case<'_>] = &[
            (&[(profile, "dev")], false, false),
            (&[(key, "AK1")], false, false),
            (&[(key, "AS1"), (token, "t1")], true, false),
            (&[(key, "AS2"), (token, "t2"), (profile, "dev")], true, false),
            (&[("AWS_REGION", "eu-west-1")], true, true),
        ];
        for (variables, same_identity, same_ambient) in cases {
            let other = remote(variables);
            assert_eq!(other.identity() == plain.identity(), *same_identity, "{variables:?}");
            assert_eq!(other.ambient == plain.ambient, *same_ambient, "{variables:?}");
        }
        for own in [
            &[(env::KACHE_S3_PROFILE, "ci")][..],
            &[(env::KACHE_S3_ACCESS_KEY, "a"), (env::KACHE_S3_SECRET_KEY, "s")],
        ] {
            let (with, without) = ([own, &[(profile, "dev"), (key, "AK1")]].concat(), remote(own));
            assert_eq!(remote(&with).identity(), without.identity());
            assert_eq!((remote(&with).ambient, without.ambient), (None, None));
        }
    }
}
