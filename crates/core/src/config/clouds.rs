//! Settings of the remotes of Google, Azure and GitHub Actions: what names them, and which credentials the session has
//! for them. Reads no file and asks no server.

use std::path::PathBuf;

use super::error::{ConfigError, Place, Warning};
use super::layers::Layers;
use super::place::{bucket_name, endpoint_url, value, word};
use super::rows::{self, Name};
use super::secret::{Secret, half};
use super::{Origin, Setting, env};
use crate::key::KeyWriter;

/// A bucket of Google Cloud Storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gcs {
    /// The bucket's name.
    pub bucket: Setting<String>,
    /// Address of the server, without trailing slash; Google's when absent.
    pub endpoint: Option<Setting<String>>,
    /// The file that `GOOGLE_APPLICATION_CREDENTIALS` names.
    pub credentials: Option<PathBuf>,
    /// The file where `gcloud auth application-default login` leaves the user's credentials.
    pub login: Option<PathBuf>,
    /// Host of the metadata server, which hands out tokens on machines of Google's.
    pub metadata_host: String,
    /// No credentials are sent: a project's file names the server.
    pub is_anonymous: bool,
}

/// A container of an Azure storage account.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Azure {
    /// The container's name.
    pub container: Setting<String>,
    /// The storage account's name.
    pub account: Setting<String>,
    /// Address of the account's blob service, without trailing slash.
    pub endpoint: Setting<String>,
    /// Who asks; a public container wants nothing.
    pub credentials: Option<AzureCredentials>,
}

/// What requests to Azure carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AzureCredentials {
    /// A signature with the account's key, in base64.
    Key(Secret),
    /// A shared access signature, without `?`.
    Sas(Secret),
}

/// The cache service of GitHub Actions, as a job sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gha {
    /// The service's address, without trailing slash.
    pub url: String,
    /// The job's token.
    pub token: Secret,
}

impl Gcs {
    /// The server's address.
    pub fn server(&self) -> &str {
        self.endpoint.as_ref().map_or("https://storage.googleapis.com", |endpoint| &endpoint.value)
    }

    pub(super) fn identify(&self, key: &mut KeyWriter) {
        key.text("gcs", self.bucket.value.as_str());
        key.text("endpoint", self.server());
        self.identify_credentials(key);
    }

    pub(super) fn identify_credentials(&self, key: &mut KeyWriter) {
        let file = self.credentials.as_ref().or(self.login.as_ref());
        key.text("credentials", file.map(|file| file.to_string_lossy().into_owned()).unwrap_or_default());
    }
}

impl Azure {
    pub(super) fn identify(&self, key: &mut KeyWriter) {
        key.text("azure", self.account.value.as_str());
        key.text("container", self.container.value.as_str());
        key.text("endpoint", self.endpoint.value.as_str());
    }

    pub(super) fn identify_credentials(&self, key: &mut KeyWriter) {
        match &self.credentials {
            Some(AzureCredentials::Key(Secret(text))) => key.text("account key", text.as_str()),
            Some(AzureCredentials::Sas(Secret(text))) => key.text("sas", text.as_str()),
            None => {}
        }
    }
}

/// Whether a project's file says this: projects come from elsewhere.
fn is_of_project<T>(layers: &Layers<'_>, setting: &Setting<T>) -> bool {
    setting.origin == Origin::File && layers.is_of_project()
}

pub(super) fn gcs(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<Gcs>, ConfigError> {
    let bucket = layers.text(&rows::BUCKET.of(env::KACHE_GCS_BUCKET), bucket_name)?;
    let endpoint = layers.text(&rows::ENDPOINT.of(env::KACHE_GCS_ENDPOINT), endpoint_url)?;
    let Some(bucket) = bucket else { return Ok(None) };
    let path = |name: &str| layers.os_variable(name).map(PathBuf::from);
    let is_anonymous = endpoint.as_ref().is_some_and(|endpoint| is_of_project(layers, endpoint));
    if is_anonymous {
        warnings.push(Warning::Withheld("the credentials of Google Cloud", env::KACHE_GCS_ENDPOINT));
    }
    let config = path(env::CLOUDSDK_CONFIG).or_else(|| Some(path(env::HOME)?.join(".config/gcloud")));
    let host = layers.text(&Name::secret(env::GCE_METADATA_HOST), word)?;
    Ok(Some(Gcs {
        bucket,
        endpoint,
        credentials: path(env::GOOGLE_APPLICATION_CREDENTIALS),
        login: config.map(|dir| dir.join("application_default_credentials.json")),
        metadata_host: host.map_or_else(|| "metadata.google.internal".to_owned(), |host| host.value),
        is_anonymous,
    }))
}

pub(super) fn azure(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<Azure>, ConfigError> {
    let container = layers.text(&rows::CONTAINER, container_name)?;
    let account = layers.text(&rows::ACCOUNT, account_name)?;
    let endpoint = layers.text(&rows::ENDPOINT.of(env::KACHE_AZURE_ENDPOINT), endpoint_url)?;
    let Some(container) = container else { return Ok(None) };
    let string = half(layers, env::AZURE_STORAGE_CONNECTION_STRING, warnings)?;
    let string = ConnectionString::parse(string.as_deref().unwrap_or_default());
    let of_string = |value: &str| Setting { value: value.to_owned(), origin: Origin::Environment };
    let account = match account {
        Some(account) => account,
        None => match layers.text(&Name::secret(env::AZURE_STORAGE_ACCOUNT), account_name)? {
            Some(account) => account,
            None => of_string(string.account().ok_or(ConfigError {
                place: Place::Variable(env::AZURE_STORAGE_ACCOUNT),
                problem: super::error::Problem::Missing(
                    "`cache.remote.container` needs it, or `cache.remote.account` or AZURE_STORAGE_CONNECTION_STRING",
                ),
            })?),
        },
    };
    // A key of another account opens nothing here.
    let string = if string.account().is_none_or(|name| name == account.value) {
        string
    } else {
        warnings.push(Warning::OtherAccount(account.value.clone()));
        ConnectionString::default()
    };
    let endpoint = match (endpoint, string.get("BlobEndpoint")) {
        (Some(endpoint), _) => endpoint,
        (None, Some(url)) => {
            let place = Place::Variable(env::AZURE_STORAGE_CONNECTION_STRING);
            // The whole string may hold a key, so no part of it is shown.
            let problem = |_| value("…", "has a `BlobEndpoint` that is no address");
            let url = endpoint_url(url).map_err(|error| ConfigError { place, problem: problem(error) })?;
            of_string(&url)
        }
        (None, None) => {
            let suffix = string.get("EndpointSuffix").unwrap_or("core.windows.net");
            Setting { value: format!("https://{}.blob.{suffix}", account.value), origin: account.origin }
        }
    };
    let key = half(layers, env::AZURE_STORAGE_KEY, warnings)?;
    let sas = half(layers, env::AZURE_STORAGE_SAS_TOKEN, warnings)?;
    let owned = |name: &str| string.get(name).map(str::to_owned);
    let sas_of = |text: String| AzureCredentials::Sas(Secret(text.trim_start_matches('?').to_owned()));
    let credentials = match (key, sas) {
        (Some(key), _) => Some(AzureCredentials::Key(Secret(key))),
        (None, Some(sas)) => Some(sas_of(sas)),
        (None, None) => owned("AccountKey")
            .map(|key| AzureCredentials::Key(Secret(key)))
            .or_else(|| owned("SharedAccessSignature").map(sas_of)),
    };
    // A signature with the key tells a server nothing that it could use again; a shared access signature does.
    let is_withheld = matches!(credentials, Some(AzureCredentials::Sas(_)))
        && layers.has("cache.remote.endpoint")
        && is_of_project(layers, &endpoint);
    if is_withheld {
        warnings.push(Warning::Withheld(env::AZURE_STORAGE_SAS_TOKEN, env::KACHE_AZURE_ENDPOINT));
    }
    Ok(Some(Azure { container, account, endpoint, credentials: credentials.filter(|_| !is_withheld) }))
}

/// The job's service; `None` outside of a job, or where the job doesn't hand its variables on.
pub(super) fn gha(layers: &Layers<'_>, warnings: &mut Vec<Warning>) -> Result<Option<Gha>, ConfigError> {
    let url = layers.text(&Name::secret(env::ACTIONS_RESULTS_URL), endpoint_url)?;
    let token = half(layers, env::ACTIONS_RUNTIME_TOKEN, warnings)?;
    Ok(url.zip(token).map(|(url, token)| Gha { url: url.value, token: Secret(token) }))
}

fn account_name(text: &str) -> Result<String, super::error::Problem> {
    let name = word(text)?;
    let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    if fits && (3..=24).contains(&name.len()) {
        return Ok(name);
    }
    Err(value(text, "is not the name of a storage account (3 to 24 lower-case letters and digits)"))
}

fn container_name(text: &str) -> Result<String, super::error::Problem> {
    let name = word(text)?;
    let fits = name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if fits && (3..=63).contains(&name.len()) && !name.starts_with('-') && !name.ends_with('-') {
        return Ok(name);
    }
    Err(value(
        text,
        "is not a container's name (3 to 63 lower-case letters, digits and `-`; no address, no path)",
    ))
}

/// `Name=value;…`, as Azure's portal shows it.
#[derive(Default)]
struct ConnectionString<'a>(Vec<(&'a str, &'a str)>);

impl<'a> ConnectionString<'a> {
    fn parse(text: &'a str) -> Self {
        Self(text.split(';').filter_map(|part| part.split_once('=')).collect())
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.iter().find(|(own, _)| own.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn account(&self) -> Option<&'a str> {
        self.get("AccountName")
    }
}
