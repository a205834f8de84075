//! Builds the client: where the server is, how it is addressed, who asks, and how long to wait. Credentials are taken
//! in the documented order and never shown.
//!
//! Four things are set on purpose, whatever the environment says: path-style addresses, no checksums beyond what an
//! operation requires (servers other than AWS reject trailers), a region, and an end to every wait.

use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_credential_types::Credentials;
use aws_credential_types::credential_feature::AwsCredentialFeature;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::Client;
use aws_sdk_s3::config::retry::RetryConfig;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{
    BehaviorVersion, Config, Region, RequestChecksumCalculation, ResponseChecksumValidation, SharedHttpClient,
};
use kache_core::config::{S3, env};

use crate::remote::progress::Progress;
use crate::remote::wire::Patience;
use crate::remote::wire::fault::describe;

use super::http;

/// Attempts of the client itself for one request; whoever calls tries again, too.
const ATTEMPTS: u32 = 2;

/// Limits for a request that carries so many bytes.
pub(super) fn limits(patience: &Patience, bytes: u64) -> TimeoutConfig {
    let wait = patience.for_upload(bytes);
    TimeoutConfig::builder()
        .connect_timeout(patience.connect)
        .read_timeout(wait)
        .operation_attempt_timeout(wait)
        .operation_timeout(wait * (ATTEMPTS + 1))
        .build()
}

/// A client and what it was made from.
pub(super) struct Connected {
    pub client: Client,
    pub credentials: SharedCredentialsProvider,
}

/// Builds the client. Asks nobody yet, apart from profile files.
pub(super) async fn connect(remote: &S3, patience: &Patience, progress: &Progress) -> Connected {
    let http = http::client(patience.connect, progress);
    let credentials = SharedCredentialsProvider::new(Fit {
        inner: credentials(remote, &http).await,
        profile: remote.profile.as_ref().filter(|_| remote.credentials.is_none()).map(|it| it.value.clone()),
    });
    let mut config = Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(remote.region.value.clone()))
        .credentials_provider(credentials.clone())
        .force_path_style(true)
        .disable_s3_express_session_auth(true)
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS))
        .timeout_config(limits(patience, 0));
    if let Some(endpoint) = &remote.endpoint {
        // A path that doesn't end in a slash would run into the bucket's name.
        config = config.endpoint_url(format!("{}/", endpoint.value));
    }
    Connected { client: Client::from_conf(config.build()), credentials }
}

/// The explicit pair, else the named profile, else the standard chain.
async fn credentials(remote: &S3, http: &SharedHttpClient) -> SharedCredentialsProvider {
    if let Some(pair) = &remote.credentials {
        let (access, secret) = (pair.access_key.as_str(), pair.secret_key.as_str());
        return SharedCredentialsProvider::new(Credentials::new(access, secret, None, None, "explicit"));
    }
    let region = Region::new(remote.region.value.clone());
    if let Some(profile) = &remote.profile {
        // Asked directly: behind the chain, variables of the environment would win over a profile that was named.
        let config =
            ProviderConfig::without_region().with_region(Some(region)).with_http_client(http.clone());
        let provider = ProfileFileCredentialsProvider::builder()
            .configure(&config)
            .profile_name(profile.value.clone())
            .build();
        return SharedCredentialsProvider::new(provider);
    }
    let chain =
        aws_config::defaults(BehaviorVersion::latest()).region(region).http_client(http.clone()).load().await;
    let none = || SharedCredentialsProvider::new(NoProvider);
    chain.credentials_provider().unwrap_or_else(none)
}

/// Credentials as a request can carry them: without white space around them, which comes with them out of files and
/// variables, and without characters that no header may have, at which the client would panic.
#[derive(Debug)]
struct Fit {
    inner: SharedCredentialsProvider,
    /// The profile that they come from, where one is named.
    profile: Option<String>,
}

impl Fit {
    /// Names the profile, which the client leaves out where it finds no files at all.
    fn named(&self, error: CredentialsError) -> CredentialsError {
        let Some(profile) = &self.profile else { return error };
        let files = "~/.aws/config and ~/.aws/credentials, or where AWS_CONFIG_FILE and AWS_SHARED_CREDENTIALS_FILE lead";
        let why = match &error {
            CredentialsError::CredentialsNotLoaded(_) => {
                format!("there is no profile `{profile}` in {files}")
            }
            _ => format!("profile `{profile}` of {files}: {}", describe(&error)),
        };
        CredentialsError::invalid_configuration(why)
    }
}

impl ProvideCredentials for Fit {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::new(async {
            fit(self.inner.provide_credentials().await.map_err(|error| self.named(error))?)
        })
    }

    fn fallback_on_interrupt(&self) -> Option<Credentials> {
        fit(self.inner.fallback_on_interrupt()?).ok()
    }
}

fn fit(credentials: Credentials) -> Result<Credentials, CredentialsError> {
    let token = credentials.session_token();
    let parts = [Some(credentials.access_key_id()), Some(credentials.secret_access_key()), token];
    if parts.iter().flatten().all(|part| part.bytes().all(|byte| byte.is_ascii_graphic())) {
        return Ok(credentials);
    }
    let names = ["access key", "secret key", "session token"];
    let is_odd = |part: &str| !part.trim().bytes().all(|byte| byte.is_ascii_graphic());
    if let Some((name, _)) = names.iter().zip(parts).find(|(_, part)| part.is_some_and(is_odd)) {
        let why = format!("the {name} has white space or a character in it that no request can carry");
        return Err(CredentialsError::invalid_configuration(why));
    }
    let mut builder = Credentials::builder()
        .access_key_id(credentials.access_key_id().trim())
        .secret_access_key(credentials.secret_access_key().trim())
        .provider_name("trimmed");
    builder.set_session_token(token.map(|token| token.trim().to_owned()));
    builder.set_expiry(credentials.expiry());
    Ok(builder.build())
}

/// Stands where the chain offers nothing at all.
#[derive(Debug)]
struct NoProvider;

impl ProvideCredentials for NoProvider {
    fn provide_credentials<'a>(&'a self) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::ready(Err(CredentialsError::not_loaded(
            "no source of credentials",
        )))
    }
}

/// Where the credentials come from, in words for people, or why there are none.
pub(super) async fn source(remote: &S3, provider: &SharedCredentialsProvider) -> Result<String, String> {
    let credentials = provider.provide_credentials().await.map_err(|error| without_credentials(&error))?;
    if remote.credentials.is_some() {
        return Ok(format!("{} and {}", env::KACHE_S3_ACCESS_KEY, env::KACHE_S3_SECRET_KEY));
    }
    let features = credentials.get_property::<Vec<AwsCredentialFeature>>();
    // A profile's keys may only be what something else was asked for with.
    let is_more = |feature: &&AwsCredentialFeature| **feature != AwsCredentialFeature::CredentialsProfile;
    let kind = features.and_then(|features| features.iter().rev().filter(is_more).find_map(kind_of));
    let has_profile = features.is_some_and(|features| !features.is_empty());
    let kind = kind.unwrap_or(if has_profile { "static keys of a profile" } else { "of unknown kind" });
    Ok(match &remote.profile {
        Some(profile) => format!("profile `{}` ({kind})", profile.value),
        None => format!("the standard AWS chain ({kind})"),
    })
}

/// What kind of source a feature stands for.
fn kind_of(feature: &AwsCredentialFeature) -> Option<&'static str> {
    Some(match feature {
        AwsCredentialFeature::CredentialsEnvVars => "variables of the environment",
        AwsCredentialFeature::CredentialsEnvVarsStsWebIdToken
        | AwsCredentialFeature::CredentialsStsAssumeRoleWebId
        | AwsCredentialFeature::CredentialsProfileStsWebIdToken => "web identity",
        AwsCredentialFeature::CredentialsStsAssumeRole
        | AwsCredentialFeature::CredentialsProfileSourceProfile
        | AwsCredentialFeature::CredentialsProfileNamedProvider => "an assumed role",
        AwsCredentialFeature::CredentialsSso | AwsCredentialFeature::CredentialsProfileSso => "SSO",
        AwsCredentialFeature::CredentialsProcess | AwsCredentialFeature::CredentialsProfileProcess => {
            "credential_process"
        }
        AwsCredentialFeature::CredentialsHttp => "the container's role",
        AwsCredentialFeature::CredentialsImds => "the instance's role",
        _ => return None,
    })
}

/// Says that there are no credentials, and why.
pub(super) fn without_credentials(why: &(dyn std::error::Error + 'static)) -> String {
    format!("there are no credentials: {}", describe(why))
}
