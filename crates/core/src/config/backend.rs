//! Kinds of remote, and what says which one is meant: a bucket, a folder, a web server, or what a cloud or CI service
//! has. Knows nothing about what they have in common.

use std::path::{Path, PathBuf};

use super::clouds::{self, Azure, Gcs, Gha};
use super::error::{ConfigError, Place, Problem, Warning};
use super::layers::{Found, Layers};
use super::place::{endpoint_url, is_plain_http_to_another_machine, value};
use super::rows::{self, Name};
use super::s3::{self, S3};
use super::secret::{Secret, half};
use super::{Origin, Setting, env};
use crate::key::KeyWriter;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    S3(Box<S3>),
    File(Setting<PathBuf>),
    Http(Http),
    /// In a bucket of Google Cloud Storage.
    Gcs(Box<Gcs>),
    /// In a container of an Azure storage account.
    Azure(Box<Azure>),
    /// In the cache service of GitHub Actions.
    Gha(Gha),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Http {
    /// What the addresses of all objects begin with, without trailing slash.
    pub url: Setting<String>,
    /// Who asks, where the server wants to know.
    pub credentials: Option<HttpCredentials>,
}

/// What goes along with each request to a web server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HttpCredentials {
    Bearer(Secret),
    Basic(String, Secret),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    S3,
    File,
    Http,
    Azure,
    Gcs,
    Gha,
}

impl Kind {
    /// Where several kinds have the same key, the first is meant.
    const ALL: [Self; 6] = [Self::S3, Self::File, Self::Http, Self::Azure, Self::Gcs, Self::Gha];

    fn parse(text: &str) -> Result<Self, Problem> {
        Self::ALL.into_iter().find(|kind| kind.word() == text).ok_or_else(|| {
            let why = "is not a kind of remote that kache knows (\"s3\", \"file\", \"http\", \"gcs\", \"azure\" or \"gha\")";
            value(text, why)
        })
    }

    const fn word(self) -> &'static str {
        match self {
            Kind::S3 => "s3",
            Kind::File => "file",
            Kind::Http => "http",
            Kind::Azure => "azure",
            Kind::Gcs => "gcs",
            Kind::Gha => "gha",
        }
    }

    /// The setting that says where it is. In GitHub Actions the job says it, whatever is used.
    const fn name(self) -> Option<Name> {
        Some(match self {
            Kind::S3 => rows::BUCKET,
            Kind::File => rows::REMOTE_PATH,
            Kind::Http => rows::REMOTE_URL,
            Kind::Azure => rows::CONTAINER,
            Kind::Gcs => rows::BUCKET.of(env::KACHE_GCS_BUCKET),
            Kind::Gha => return None,
        })
    }

    fn key(self) -> Option<&'static str> {
        self.name()?.key
    }

    fn variable(self) -> Option<&'static str> {
        self.name()?.variable
    }
}

impl Backend {
    /// The word that `cache.remote.type` has for it.
    pub fn word(&self) -> &'static str {
        match self {
            Backend::S3(_) => Kind::S3.word(),
            Backend::File(_) => Kind::File.word(),
            Backend::Http(_) => Kind::Http.word(),
            Backend::Gcs(_) => Kind::Gcs.word(),
            Backend::Azure(_) => Kind::Azure.word(),
            Backend::Gha(_) => Kind::Gha.word(),
        }
    }

    /// The setting that says where it is, for people.
    pub fn setting(&self) -> &'static str {
        match self {
            Backend::S3(_) => "`cache.remote.bucket` (KACHE_S3_BUCKET)",
            Backend::File(_) => "`cache.remote.path` (KACHE_REMOTE_PATH)",
            Backend::Http(_) => "`cache.remote.url` (KACHE_REMOTE_URL)",
            Backend::Gcs(_) => "`cache.remote.bucket` (KACHE_GCS_BUCKET)",
            Backend::Azure(_) => "`cache.remote.container` (KACHE_AZURE_CONTAINER)",
            Backend::Gha(_) => "ACTIONS_RESULTS_URL",
        }
    }

    /// Names what makes it this one and no other.
    pub(super) fn identify(&self, key: &mut KeyWriter) {
        match self {
            Backend::S3(s3) => s3.identify(key),
            Backend::File(path) => {
                key.text("folder", path.value.to_string_lossy().into_owned());
            }
            Backend::Http(http) => {
                key.text("url", http.url.value.as_str());
                if let Some(HttpCredentials::Basic(user, _)) = &http.credentials {
                    key.text("as", user.as_str());
                }
            }
            Backend::Gcs(gcs) => gcs.identify(key),
            Backend::Azure(azure) => azure.identify(key),
            Backend::Gha(gha) => key.text("gha", gha.url.as_str()),
        }
    }

    pub(super) fn identify_credentials(&self, key: &mut KeyWriter) {
        match self {
            Backend::S3(s3) => s3.identify_credentials(key),
            Backend::Http(Http { credentials: Some(HttpCredentials::Bearer(token)), .. }) => {
                key.text("token", token.0.as_str());
            }
            Backend::Http(Http { credentials: Some(HttpCredentials::Basic(user, password)), .. }) => {
                key.text("user", user.as_str());
                key.text("password", password.0.as_str());
            }
            Backend::Gcs(gcs) => gcs.identify_credentials(key),
            Backend::Azure(azure) => azure.identify_credentials(key),
            Backend::Gha(gha) => key.text("token", gha.token.0.as_str()),
            Backend::File(_) | Backend::Http(_) => {}
        }
    }
}

/// The remote's place, if the layers name one.
pub(super) fn resolve(
    layers: &Layers<'_>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Backend>, ConfigError> {
    let kind = kind(layers, warnings)?;
    let backend = match kind {
        Kind::S3 => s3::resolve(layers, warnings)?.map(|s3| Backend::S3(Box::new(s3))),
        Kind::Gcs => clouds::gcs(layers, warnings)?.map(|gcs| Backend::Gcs(Box::new(gcs))),
        Kind::Azure => clouds::azure(layers, warnings)?.map(|azure| Backend::Azure(Box::new(azure))),
        Kind::Gha => clouds::gha(layers, warnings)?.map(Backend::Gha),
        Kind::File => folder(layers)?.map(Backend::File),
        Kind::Http => {
            let url = layers.text(&rows::REMOTE_URL, endpoint_url)?;
            let credentials = match &url {
                Some(url) => credentials(layers, url, warnings)?,
                None => None,
            };
            url.map(|url| Backend::Http(Http { url, credentials }))
        }
    };
    let address = match &backend {
        None => return missing(layers, kind, warnings),
        Some(Backend::S3(s3)) => s3.endpoint.as_ref(),
        Some(Backend::Gcs(gcs)) => gcs.endpoint.as_ref(),
        Some(Backend::Azure(azure)) => Some(&azure.endpoint),
        Some(Backend::Http(http)) => Some(&http.url),
        Some(Backend::File(_) | Backend::Gha(_)) => None,
    };
    let plain = address.filter(|url| is_plain_http_to_another_machine(&url.value));
    warnings.extend(plain.map(|url| Warning::PlainHttp(url.value.clone())));
    Ok(backend)
}

/// Which kind is meant: the environment says so before the file, and each by naming a kind or the place of one.
fn kind(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Kind, ConfigError> {
    let said = layers.text(&rows::REMOTE_TYPE.in_env(), Kind::parse)?;
    let in_file = layers.text(&rows::REMOTE_TYPE.in_file(), Kind::parse)?;
    let is_set = |kind: &Kind| kind.variable().is_some_and(|name| layers.os_variable(name).is_some());
    let is_in_file = |kind: &Kind| kind.key().is_some_and(|key| layers.has(key));
    let said = said.map(|said| said.value).or_else(|| Kind::ALL.into_iter().find(is_set));
    let kind = match said {
        Some(kind) => kind,
        None => {
            let first = || Kind::ALL.into_iter().find(is_in_file);
            let kind = in_file.map(|said| said.value).or_else(first).unwrap_or(Kind::S3);
            let others = Kind::ALL.into_iter().filter(|other| other.key() != kind.key() && is_in_file(other));
            let mut keys: Vec<_> = others.filter_map(Kind::key).collect();
            keys.dedup();
            keys.retain(|key| Some(*key) != kind.key());
            warnings.extend(keys.into_iter().map(|key| Warning::OtherKind(key, kind.word())));
            kind
        }
    };
    let others = Kind::ALL.into_iter().filter(|other| *other != kind && is_set(other));
    let variables = others.filter_map(Kind::variable);
    warnings.extend(variables.map(|variable| Warning::OtherKind(variable, kind.word())));
    Ok(kind)
}

fn folder(layers: &Layers<'_>) -> Found<PathBuf> {
    let home = layers.os_variable(env::HOME).map(PathBuf::from);
    let base = layers.file.as_ref().and_then(|(file, _)| Path::new(file).parent());
    // Cargo starts the wrapper in another directory for each package, so a relative variable would mean many folders.
    let read = |base| {
        let home = home.as_deref();
        move |text: &str| {
            let path = super::local_path(text, home, base);
            path.ok_or_else(|| value(text, "is not the path of a folder that can be resolved"))
        }
    };
    let said = layers.text(&rows::REMOTE_PATH.in_env(), read(None))?;
    if said.is_some() {
        return Ok(said);
    }
    layers.text(&rows::REMOTE_PATH.in_file(), read(base))
}

/// The token, else user and password. They go to an address that the user names, not to one that a project's file does:
/// projects come from elsewhere.
fn credentials(
    layers: &Layers<'_>,
    url: &Setting<String>,
    warnings: &mut Vec<Warning>,
) -> Result<Option<HttpCredentials>, ConfigError> {
    if url.origin == Origin::File && layers.is_of_project() {
        let secrets = [env::KACHE_REMOTE_TOKEN, env::KACHE_REMOTE_PASSWORD];
        let set = secrets.into_iter().filter(|name| layers.os_variable(name).is_some());
        warnings.extend(set.map(|name| Warning::Withheld(name, env::KACHE_REMOTE_URL)));
        return Ok(None);
    }
    if let Some(token) = half(layers, env::KACHE_REMOTE_TOKEN, warnings)? {
        return Ok(Some(HttpCredentials::Bearer(Secret(token))));
    }
    let (user, password) = (
        half(layers, env::KACHE_REMOTE_USER, warnings)?,
        half(layers, env::KACHE_REMOTE_PASSWORD, warnings)?,
    );
    let lone =
        |set, unset| Warning::LoneCredential { set, unset, next: "requests carry no credentials".to_owned() };
    match (user, password) {
        (Some(user), Some(password)) => return Ok(Some(HttpCredentials::Basic(user, Secret(password)))),
        (Some(_), None) => warnings.push(lone(env::KACHE_REMOTE_USER, env::KACHE_REMOTE_PASSWORD)),
        (None, Some(_)) => warnings.push(lone(env::KACHE_REMOTE_PASSWORD, env::KACHE_REMOTE_USER)),
        (None, None) => {}
    }
    Ok(None)
}

/// There is no remote; an error where something was said about one.
fn missing(
    layers: &Layers<'_>,
    kind: Kind,
    warnings: &mut Vec<Warning>,
) -> Result<Option<Backend>, ConfigError> {
    let problem = Problem::Missing("the other settings of the remote need it");
    let Some((variable, key)) = kind.variable().zip(kind.key()) else {
        warnings.push(Warning::OutsideActions);
        return Ok(None);
    };
    if layers.os_variable(env::KACHE_REMOTE_TYPE).is_some() {
        return Err(ConfigError { place: Place::Variable(variable), problem });
    }
    let section = layers.file.as_ref().and_then(|(file, table)| {
        let remote = table.get("cache")?.get("remote")?;
        Some(((*file).to_owned(), remote.as_table()?.is_empty()))
    });
    match section {
        Some((file, false)) => Err(ConfigError { place: Place::Key { file, key: key.to_owned() }, problem }),
        _ => {
            let variables = [env::KACHE_S3_ENDPOINT, env::KACHE_S3_PREFIX, env::KACHE_S3_ACCESS_KEY];
            let stray = variables.into_iter().find(|name| layers.os_variable(name).is_some());
            warnings.extend(stray.map(Warning::NoBucket));
            Ok(None)
        }
    }
}
