//! Tokens for Google Cloud, from the file that `GOOGLE_APPLICATION_CREDENTIALS` names, from the login of `gcloud`, or from
//! the machine's metadata server, in this order. Files are those of Google's own libraries: keys of service accounts,
//! logins of users, and workload identity federation, as runners of CI services have it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_smithy_types::base64;
use kache_core::config;
use ring::rand::SystemRandom;
use ring::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{Body, Client, Fault, part};
use crate::remote::wire::http::{Failure, good};

/// What tokens allow.
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";
/// What a token allows that is only exchanged for another.
const SCOPE_OF_EXCHANGE: &str = "https://www.googleapis.com/auth/cloud-platform";
/// Where users' logins and keys get tokens, if their files say nothing else.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// A token is used no longer than until so long before its end.
const SPARE: Duration = Duration::from_secs(120);
/// How long a key's assertion is valid.
const ASSERTION_S: u64 = 3600;
/// A token that was refused within so long of being made would be followed by one like it.
const RENEW_PAUSE: Duration = Duration::from_millis(200);
/// How long the metadata server is waited for; elsewhere its address may lead nowhere.
const METADATA_WAIT: Duration = Duration::from_secs(3);

/// The source of tokens.
pub(super) struct Tokens {
    file: Option<PathBuf>,
    login: Option<PathBuf>,
    metadata_host: String,
    held: Mutex<Option<Token>>,
}

struct Token {
    text: String,
    made: Instant,
    ends: Instant,
}

impl Tokens {
    pub fn new(settings: &config::Gcs) -> Self {
        Self {
            file: settings.credentials.clone(),
            login: settings.login.clone(),
            metadata_host: settings.metadata_host.clone(),
            held: Mutex::default(),
        }
    }

    /// The file that is used; none where the metadata server is asked.
    fn file(&self) -> Option<&Path> {
        self.file.as_deref().or_else(|| self.login.as_deref().filter(|login| login.is_file()))
    }

    /// Where tokens come from, in words for people.
    pub fn source(&self) -> String {
        match self.file() {
            None => format!("the metadata server {}", self.metadata_host),
            Some(file) => {
                let said = read(file).ok();
                let said =
                    |name: &str| said.as_ref().and_then(|said| said[name].as_str()).unwrap_or_default();
                let whose = match said("type") {
                    "service_account" => format!("the service account {}", said("client_email")),
                    "external_account" => "workload identity federation".to_owned(),
                    _ => "a login".to_owned(),
                };
                format!("{whose} in {}", file.display())
            }
        }
    }

    /// A token that is valid for a while. Those who ask meanwhile wait for the same one.
    pub async fn token(&self, client: &Client) -> Result<String, Failure> {
        let mut held = self.held.lock().await;
        if let Some(token) = held.as_ref().filter(|token| token.ends > Instant::now()) {
            return Ok(token.text.clone());
        }
        let (text, valid) = match self.file() {
            Some(file) => of_file(client, file).await?,
            None => self.of_machine(client).await?,
        };
        let made = Instant::now();
        *held = Some(Token { text: text.clone(), made, ends: made + valid.saturating_sub(SPARE) });
        Ok(text)
    }

    /// Whether the next token is another one.
    pub async fn renew(&self) -> bool {
        let mut held = self.held.lock().await;
        let is_old = held.as_ref().is_none_or(|token| token.made.elapsed() >= RENEW_PAUSE);
        if is_old {
            *held = None;
        }
        is_old
    }

    async fn of_machine(&self, client: &Client) -> Result<(String, Duration), Failure> {
        let host = &self.metadata_host;
        let url = format!("http://{host}/computeMetadata/v1/instance/service-accounts/default/token");
        let flavor = [("metadata-flavor", "Google")];
        let asked = tokio::time::timeout(METADATA_WAIT, client.send("GET", &url, &flavor, None)).await;
        let none = |why: &str| {
            Failure::new(
                Fault::Credentials,
                format!(
                    "there are no credentials for Google Cloud: GOOGLE_APPLICATION_CREDENTIALS is not set, there is no \
                     login of `gcloud auth application-default login`, and the metadata server {host} gives no token: {why}"
                ),
            )
        };
        let answer = match asked {
            Ok(Ok(answer)) => good(answer, &[200]).map_err(|failure| none(&failure.detail))?,
            Ok(Err(failure)) => return Err(none(&failure.detail)),
            Err(_) => return Err(none("no answer")),
        };
        token_in(&client.reply(answer).await?).ok_or_else(|| none("an answer without one"))
    }
}

fn read(file: &Path) -> Result<Value, Failure> {
    let bad = |why: String| Failure::new(Fault::Credentials, format!("can't read {}: {why}", file.display()));
    let text = std::fs::read(file).map_err(|error| bad(error.to_string()))?;
    // What a file that isn't JSON holds may be a secret, so the parser's words stay out.
    serde_json::from_slice(&text).map_err(|_| bad("it is not JSON".to_owned()))
}

async fn of_file(client: &Client, file: &Path) -> Result<(String, Duration), Failure> {
    let account = read(file)?;
    let missing =
        |name: &str| Failure::new(Fault::Credentials, format!("{} has no `{name}`", file.display()));
    let text = |name: &str| account[name].as_str().ok_or_else(|| missing(name));
    let uri = account["token_uri"].as_str().unwrap_or(TOKEN_URI);
    match text("type")? {
        "service_account" => {
            let key_id = account["private_key_id"].as_str().unwrap_or_default();
            let assertion = assertion(text("client_email")?, uri, key_id, text("private_key")?);
            let assertion = assertion.ok_or_else(|| {
                let why = format!("the `private_key` in {} is not an RSA key in PKCS#8", file.display());
                Failure::new(Fault::Credentials, why)
            })?;
            let grant = "urn:ietf:params:oauth:grant-type:jwt-bearer";
            exchange(client, uri, &[("grant_type", grant), ("assertion", &assertion)]).await
        }
        "authorized_user" => {
            let form = [
                ("grant_type", "refresh_token"),
                ("client_id", text("client_id")?),
                ("client_secret", text("client_secret")?),
                ("refresh_token", text("refresh_token")?),
            ];
            exchange(client, uri, &form).await
        }
        "external_account" => {
            let subject = subject(client, file, &account["credential_source"]).await?;
            let impersonates = account["service_account_impersonation_url"].as_str();
            let form = [
                ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange"),
                ("requested_token_type", "urn:ietf:params:oauth:token-type:access_token"),
                ("audience", text("audience")?),
                ("scope", if impersonates.is_some() { SCOPE_OF_EXCHANGE } else { SCOPE }),
                ("subject_token_type", text("subject_token_type")?),
                ("subject_token", &subject),
            ];
            let (token, valid) = exchange(client, text("token_url")?, &form).await?;
            match impersonates {
                None => Ok((token, valid)),
                Some(url) => impersonate(client, url, &token).await,
            }
        }
        other => Err(Failure::new(
            Fault::Credentials,
            format!("{} is of the type {other:?}, which kache doesn't know", file.display()),
        )),
    }
}

/// What a service account signs to get a token; `None` where its key isn't one.
fn assertion(email: &str, audience: &str, key_id: &str, pem: &str) -> Option<String> {
    let lines = pem.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let key = base64::decode(lines.collect::<String>()).ok()?;
    let key = RsaKeyPair::from_pkcs8(&key).ok()?;
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let claims =
        json!({"iss": email, "scope": SCOPE, "aud": audience, "iat": now_s, "exp": now_s + ASSERTION_S});
    let header = json!({"alg": "RS256", "typ": "JWT", "kid": key_id});
    let signed = format!("{}.{}", in_address(header.to_string()), in_address(claims.to_string()));
    let mut signature = vec![0; key.public().modulus_len()];
    key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), signed.as_bytes(), &mut signature).ok()?;
    Some(format!("{signed}.{}", in_address(signature)))
}

/// Base64 as addresses can have it.
fn in_address(bytes: impl AsRef<[u8]>) -> String {
    base64::encode(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

/// What the runner's identity provider says about it.
async fn subject(client: &Client, file: &Path, source: &Value) -> Result<String, Failure> {
    let bad = |why: &str| {
        Failure::new(Fault::Credentials, format!("the `credential_source` in {} {why}", file.display()))
    };
    let said = if let Some(path) = source["file"].as_str() {
        std::fs::read(path).map_err(|error| bad(&format!("names {path}: {error}")))?
    } else if let Some(url) = source["url"].as_str() {
        let headers = source["headers"].as_object();
        let headers =
            headers.into_iter().flatten().filter_map(|(name, value)| Some((name.as_str(), value.as_str()?)));
        let answer = client.send("GET", url, &headers.collect::<Vec<_>>(), None).await?;
        let refused = |failure: Failure| Failure {
            fault: if failure.fault.is_passing() { failure.fault } else { Fault::Credentials },
            detail: bad(&format!("gives no token: {}", failure.detail)).detail,
            ..failure
        };
        client.reply(good(answer, &[200]).map_err(refused)?).await?
    } else {
        return Err(bad("has neither `file` nor `url`, and kache knows no other"));
    };
    let token = match source["format"]["subject_token_field_name"].as_str() {
        None => String::from_utf8(said).ok(),
        Some(field) => serde_json::from_slice::<Value>(&said)
            .ok()
            .and_then(|said| Some(said[field].as_str()?.to_owned())),
    };
    token.map(|token| token.trim().to_owned()).ok_or_else(|| bad("gives no token"))
}

async fn exchange(client: &Client, uri: &str, form: &[(&str, &str)]) -> Result<(String, Duration), Failure> {
    let fields = form.iter().map(|(name, value)| format!("{name}={}", part(value)));
    let body = Body::of(fields.collect::<Vec<_>>().join("&"));
    let kind = [("content-type", "application/x-www-form-urlencoded")];
    ask(client, uri, &kind, body).await
}

/// The token of a service account that the holder of `token` may act for.
async fn impersonate(client: &Client, url: &str, token: &str) -> Result<(String, Duration), Failure> {
    let body = Body::of(json!({"scope": [SCOPE], "lifetime": "3600s"}).to_string());
    let authorization = format!("Bearer {token}");
    let headers = [("content-type", "application/json"), ("authorization", authorization.as_str())];
    ask(client, url, &headers, body).await
}

async fn ask(
    client: &Client,
    url: &str,
    headers: &[(&str, &str)],
    body: Body,
) -> Result<(String, Duration), Failure> {
    let answer = client.send("POST", url, headers, Some(body)).await?;
    let status = answer.status().as_u16();
    let failure = Failure::of(&answer);
    let said = client.reply(answer).await?;
    let host = config::host_of(url);
    if status != 200 {
        let said = serde_json::from_slice::<Value>(&said).unwrap_or_default();
        let why = ["error_description", "error"].into_iter().find_map(|name| said[name].as_str());
        let why = why.or_else(|| said["error"]["message"].as_str()).unwrap_or(&failure.detail);
        let fault = match failure.fault {
            fault if fault.is_passing() && status != 400 => fault,
            _ if why.contains("reasonable timeframe") => Fault::ClockSkew,
            _ => Fault::Credentials,
        };
        return Err(Failure { fault, detail: format!("{host} gives no token: {why}"), ..failure });
    }
    token_in(&said)
        .ok_or_else(|| Failure::new(Fault::Protocol, format!("{host} gives an answer without a token")))
}

/// The token in an answer, and how long it is valid.
fn token_in(answer: &[u8]) -> Option<(String, Duration)> {
    let answer: Value = serde_json::from_slice(answer).ok()?;
    let token = answer["access_token"].as_str().or_else(|| answer["accessToken"].as_str())?;
    // Those of impersonation say when they end; they were asked for an hour.
    let valid_s = answer["expires_in"].as_u64().unwrap_or(3600);
    Some((token.to_owned(), Duration::from_secs(valid_s)))
}
