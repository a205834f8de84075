//! Settings of the remote: what `[cache.remote]` and its variables say about every kind. Knows nothing about connecting.

use std::path::{Path, PathBuf};

pub use super::place::host_of;

use super::backend::{self, Backend};
use super::error::{ConfigError, Problem, Warning};
use super::layers::{Found, Layers};
use super::place::{object_prefix, value};
use super::s3::S3;
use super::secret::Secret;
use super::{Origin, Setting, env, rows};
use crate::digest::Digest;
use crate::key::KeyWriter;

pub const PREFIX: &str = "artifacts";
/// Seconds that a remote which moves nothing is waited for, when none are given.
pub const STALL_TIMEOUT_S: u64 = 60;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub backend: Backend,
    /// What every object's name starts with, without slashes at its ends.
    pub prefix: Setting<String>,
    /// The key that signs what this machine pushes.
    pub signing_key: Option<Setting<SigningKey>>,
    /// Public keys; where there are any, only what one of them signed is pulled.
    pub trusted_keys: Setting<Vec<String>>,
    /// How many of these keys must have signed the same result.
    pub witnesses: Setting<usize>,
    /// Variables that count as credentials, besides those whose names look like it; patterns with `*` at their ends.
    pub secret_env: Setting<Vec<String>>,
    pub read_only: Setting<bool>,
    pub write_only: Setting<bool>,
    /// The variable by which this is a CI job for a pull request, where that decides it.
    pub pull_request: Option<&'static str>,
    /// After how many seconds commands give up on a remote that moves nothing; 0 for never.
    pub stall_timeout_s: Setting<u64>,
    /// The levels behind it, nearest first: they are asked for what this one doesn't have. None of these has any.
    pub further: Vec<Remote>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigningKey {
    Inline(Secret),
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
        self.backend.identify(&mut key);
        key.text("prefix", self.prefix.value.as_str());
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
        if self.witnesses.value > 1 {
            key.text("witnesses", self.witnesses.value.to_string());
        }
        for pattern in &self.secret_env.value {
            key.text("keeps", pattern.as_str());
        }
        if self.write_only.value {
            key.text("reads", "no");
        }
        for level in &self.further {
            key.digest("then", level.identity());
        }
        key.finish().0
    }

    /// Which credentials are used and whether only for reading, secrets included: two builds that mean the same remote may
    /// differ in them after one was corrected. Profiles are read when they are used, and are no part of it.
    pub fn credentials_id(&self) -> Digest {
        let mut key = KeyWriter::new("credentials");
        key.text("read only", self.read_only.value.to_string());
        self.backend.identify_credentials(&mut key);
        for level in &self.further {
            key.digest("then", level.credentials_id());
        }
        key.finish().0
    }

    /// All levels, nearest first, each as a remote of its own.
    pub fn levels(&self) -> impl Iterator<Item = Remote> {
        let nearest = Remote { further: Vec::new(), ..self.clone() };
        [nearest].into_iter().chain(self.further.iter().cloned())
    }

    /// Whether nothing is pushed, to no level.
    pub fn is_read_only(&self) -> bool {
        self.read_only.value && self.further.iter().all(Remote::is_read_only)
    }

    /// Why nothing is pushed, for people; `None` where pushes are allowed.
    pub fn why_read_only(&self) -> Option<String> {
        self.is_read_only().then(|| match self.pull_request {
            Some(variable) => format!(
                "{variable} says that this is a job for a pull request, whose results nobody else is to get; \
                 KACHE_READ_ONLY=0 allows pushes"
            ),
            None => "`cache.remote.read_only` (KACHE_READ_ONLY) is set".to_owned(),
        })
    }

    /// The remote in a few words, for people.
    pub fn describe(&self) -> String {
        let prefix = &self.prefix.value;
        let nearest = match &self.backend {
            Backend::S3(s3) => format!("s3://{}/{prefix} at {}", s3.bucket.value, s3.place()),
            Backend::File(folder) => format!("{}", folder.value.join(prefix).display()),
            Backend::Http(http) => format!("{}/{prefix}", http.url.value),
            Backend::Gcs(gcs) => format!("gs://{}/{prefix} at {}", gcs.bucket.value, gcs.server()),
            Backend::Azure(azure) => format!("{}/{}/{prefix}", azure.endpoint.value, azure.container.value),
            Backend::Gha(_) => format!("the cache service of GitHub Actions, prefix {prefix}"),
        };
        let further = self.further.iter().map(|level| format!(", then {}", level.describe()));
        [nearest].into_iter().chain(further).collect()
    }

    /// The bucket, where it is in one.
    pub fn s3(&self) -> Option<&S3> {
        match &self.backend {
            Backend::S3(s3) => Some(s3),
            _ => None,
        }
    }

    /// The bucket's name, where it is in one.
    pub fn bucket(&self) -> Option<&Setting<String>> {
        match &self.backend {
            Backend::S3(s3) => Some(&s3.bucket),
            Backend::Gcs(gcs) => Some(&gcs.bucket),
            _ => None,
        }
    }

    /// The address of the server of a bucket or container, where the settings name one.
    pub fn endpoint(&self) -> Option<&Setting<String>> {
        match &self.backend {
            Backend::S3(s3) => s3.endpoint.as_ref(),
            Backend::Gcs(gcs) => gcs.endpoint.as_ref(),
            Backend::Azure(azure) => Some(&azure.endpoint),
            _ => None,
        }
    }

    /// How the names of the session's variables begin that say whose credentials are used.
    pub fn ambient(&self) -> Vec<&'static str> {
        let own: &[_] = match &self.backend {
            Backend::S3(s3) if s3.ambient.is_some() => &["AWS_"],
            Backend::Gcs(_) => {
                &[env::GOOGLE_APPLICATION_CREDENTIALS, env::CLOUDSDK_CONFIG, env::GCE_METADATA_HOST]
            }
            Backend::Azure(_) => &["AZURE_STORAGE_"],
            Backend::Gha(_) => &[env::ACTIONS_RESULTS_URL, env::ACTIONS_RUNTIME_TOKEN],
            Backend::S3(_) | Backend::File(_) | Backend::Http(_) => &[],
        };
        own.iter().copied().chain(self.further.iter().flat_map(Remote::ambient)).collect()
    }
}

/// The remote that the layers configure, if any.
pub(super) fn resolve(
    layers: &Layers<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Remote>, ConfigError> {
    let backend = backend::resolve(layers, warnings)?;
    let prefix = layers.text(&rows::PREFIX, object_prefix)?;
    let signing_key = signing_key(layers)?;
    let trusted_keys = layers.list(&rows::TRUSTED_KEYS)?;
    let keys = trusted_keys.as_ref().map_or(0, |keys| keys.value.len());
    let number = |n: i64| match usize::try_from(n) {
        Ok(n) if (1..=keys.max(1)).contains(&n) => Ok(n),
        _ => Err(value(&n.to_string(), "is not a number from 1 to that of `cache.remote.trusted_keys`")),
    };
    let witnesses = layers.integer(&rows::WITNESSES, number)?;
    let secret_env = layers.list(&rows::SECRET_ENV)?;
    let said = layers.switch(&rows::READ_ONLY)?;
    // The variable decides, then the job, then the file: it is the same file for all jobs.
    let is_said_here = said.as_ref().is_some_and(|said| said.origin == Origin::Environment || said.value);
    let text = |name: &str| layers.os_variable(name)?.into_string().ok();
    let pull_request = super::ci::pull_request(text).filter(|_| !is_said_here);
    let read_only = match pull_request {
        Some(_) => Setting { value: true, origin: Origin::Environment },
        None => said.unwrap_or(Setting::default_of(false)),
    };
    let write_only = layers.switch(&rows::WRITE_ONLY)?.unwrap_or(Setting::default_of(false));
    if write_only.value && read_only.value && read_only.origin == Origin::File {
        let problem = Problem::Unfit("can't be combined with `read_only`: nothing would be left to do");
        return Err(layers.error_at(&rows::WRITE_ONLY, problem));
    }
    let seconds = |n: i64| u64::try_from(n).map_err(|_| value(&n.to_string(), "is not a number of seconds"));
    let stall_timeout_s = layers.integer(&rows::STALL_TIMEOUT, seconds)?;

    let Some(backend) = backend else { return Ok(None) };
    Ok(Some(Remote {
        backend,
        prefix: prefix.unwrap_or_else(|| Setting::default_of(PREFIX.to_owned())),
        signing_key,
        trusted_keys: trusted_keys.unwrap_or(Setting::default_of(Vec::new())),
        witnesses: witnesses.unwrap_or(Setting::default_of(1)),
        secret_env: secret_env.unwrap_or(Setting::default_of(Vec::new())),
        read_only,
        write_only,
        pull_request,
        stall_timeout_s: stall_timeout_s.unwrap_or(Setting::default_of(STALL_TIMEOUT_S)),
        further: Vec::new(),
    }))
}

/// The key itself, or the path of a file that holds it.
fn signing_key(layers: &Layers<'_>) -> Found<SigningKey> {
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
    layers.text(&rows::SIGNING_KEY, read)
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

    fn ambient(remote: &Remote) -> Option<Digest> {
        remote.s3().expect("a bucket").ambient
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
            assert_eq!(ambient(&other) == ambient(&plain), *same_ambient, "{variables:?}");
        }
        for own in [
            &[(env::KACHE_S3_PROFILE, "ci")][..],
            &[(env::KACHE_S3_ACCESS_KEY, "a"), (env::KACHE_S3_SECRET_KEY, "s")],
        ] {
            let (with, without) = ([own, &[(profile, "dev"), (key, "AK1")]].concat(), remote(own));
            assert_eq!(remote(&with).identity(), without.identity());
            assert_eq!((ambient(&remote(&with)), ambient(&without)), (None, None));
        }
    }
}
