//! Google Cloud Storage and what hands out tokens for it, inside the test process: the token endpoint checks signatures and
//! claims of service accounts, logins, and identities of runners; the metadata server wants its header; the bucket takes only
//! tokens that were handed out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use aws_smithy_types::base64;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ring::signature::{KeyPair, RSA_PKCS1_2048_8192_SHA256, RsaKeyPair, UnparsedPublicKey};
use s3s::Body;
use serde_json::{Value, json};

use crate::objects::{Objects, decode, pairs, reply, value, whole};
use crate::server::Server;

const KEY: &str = include_str!("google_key.pem");
const EMAIL: &str = "builds@testkit.iam.gserviceaccount.com";
const AUDIENCE: &str = "//iam.googleapis.com/projects/1/locations/global/workloadIdentityPools/p/providers/x";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_write";

/// The server, with one bucket; it ends when dropped.
pub struct Google {
    dir: tempfile::TempDir,
    objects: Objects,
    tokens: Tokens,
    server: Server,
}

/// Tokens that were handed out, and to whom.
type Tokens = Arc<Mutex<BTreeSet<String>>>;

impl Google {
    /// Name of the bucket.
    pub const BUCKET: &'static str = "build-cache";

    /// Starts a server with an empty bucket.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("kgcs-").tempdir().expect("make a temporary directory");
        let (objects, tokens) = (Objects::default(), Tokens::default());
        let (of_server, handed_out) = (objects.clone(), tokens.clone());
        let server = Server::start(move |request| answer(of_server.clone(), handed_out.clone(), request));
        Self { dir, objects, tokens, server }
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// No token that was handed out is valid any more.
    pub fn revoke(&self) {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// The file of a service account.
    pub fn service_account(&self) -> PathBuf {
        let token_uri = format!("{}/token", self.endpoint());
        self.file(
            "service-account.json",
            &json!({"type": "service_account", "project_id": "testkit", "private_key_id": "k1", "private_key": KEY,
                    "client_email": EMAIL, "token_uri": token_uri}),
        )
    }

    /// The file of somebody who has signed in.
    pub fn login(&self) -> PathBuf {
        let token_uri = format!("{}/token", self.endpoint());
        self.file(
            "application_default_credentials.json",
            &json!({"type": "authorized_user", "client_id": "c", "client_secret": "s", "refresh_token": "r/1",
                    "token_uri": token_uri}),
        )
    }

    /// The file that a runner of a CI service has.
    pub fn federation(&self) -> PathBuf {
        let at = self.endpoint();
        self.file(
            "federation.json",
            &json!({"type": "external_account", "audience": AUDIENCE,
                    "subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": format!("{at}/sts"),
                    "service_account_impersonation_url": format!("{at}/impersonate"),
                    "credential_source": {"url": format!("{at}/identity?audience=x"),
                                          "headers": {"Authorization": "Bearer of-the-job"},
                                          "format": {"type": "json", "subject_token_field_name": "value"}}}),
        )
    }

    fn file(&self, name: &str, content: &Value) -> PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, content.to_string()).expect("written");
        path
    }

    /// Variables that make kache use it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.env_with(&self.service_account())
    }

    /// The same with another file of credentials.
    pub fn env_with(&self, file: &Path) -> Vec<(&'static str, String)> {
        let mut env = self.env_on_machine();
        env.push(("GOOGLE_APPLICATION_CREDENTIALS", file.display().to_string()));
        env
    }

    /// The same on a machine of Google's, whose metadata server knows who it is.
    pub fn env_on_machine(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KACHE_GCS_BUCKET", Self::BUCKET.to_owned()),
            ("KACHE_GCS_ENDPOINT", self.endpoint()),
            ("GCE_METADATA_HOST", self.endpoint().trim_start_matches("http://").to_owned()),
        ]
    }
}

impl std::ops::Deref for Google {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn answer(objects: Objects, tokens: Tokens, request: Request<Incoming>) -> Response<Body> {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let (authorization, flavor) = (header("authorization"), header("metadata-flavor"));
    let host = header("host");
    let (method, path) = (request.method().as_str().to_owned(), request.uri().path().to_owned());
    let query = pairs(request.uri().query().unwrap_or_default());
    let body = whole(request.into_body()).await;
    let hand_out = |who: &str| {
        let mut tokens = tokens.lock().unwrap_or_else(PoisonError::into_inner);
        let token = format!("ya29.{who}-{}", tokens.len());
        tokens.insert(token.clone());
        token
    };
    let json = |status: u16, body: Value| reply(status, "application/json", body.to_string());
    let refused = |why: String| json(400, json!({"error": "invalid_grant", "error_description": why}));
    match (method.as_str(), path.as_str()) {
        ("POST", "/token") => {
            let form = pairs(std::str::from_utf8(&body).expect("text"));
            match grant(&form, &format!("http://{host}/token")) {
                Ok(who) => json(200, json!({"access_token": hand_out(&who), "expires_in": 3599})),
                Err(why) => refused(why),
            }
        }
        ("GET", "/identity") if authorization == "Bearer of-the-job" => {
            json(200, json!({"value": "identity-of-the-job"}))
        }
        ("POST", "/sts") => {
            let form = pairs(std::str::from_utf8(&body).expect("text"));
            let says = |name: &str, expected: &str| value(&form, name).as_deref() == Some(expected);
            let is_right = says("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
                && says("audience", AUDIENCE)
                && says("subject_token", "identity-of-the-job")
                && says("subject_token_type", "urn:ietf:params:oauth:token-type:jwt")
                && says("scope", "https://www.googleapis.com/auth/cloud-platform");
            if is_right {
                json(200, json!({"access_token": "federated", "expires_in": 3599}))
            } else {
                refused("no".to_owned())
            }
        }
        ("POST", "/impersonate") if authorization == "Bearer federated" => {
            let asked: Value = serde_json::from_slice(&body).expect("JSON");
            assert_eq!(asked["scope"][0], SCOPE);
            json(200, json!({"accessToken": hand_out("impersonated"), "expireTime": "2099-01-01T00:00:00Z"}))
        }
        ("GET", "/computeMetadata/v1/instance/service-accounts/default/token") if flavor == "Google" => {
            json(200, json!({"access_token": hand_out("machine"), "expires_in": 3599}))
        }
        (_, path) if path.starts_with("/storage/") || path.starts_with("/upload/") => {
            let token = authorization.strip_prefix("Bearer ").unwrap_or_default();
            if !tokens.lock().unwrap_or_else(PoisonError::into_inner).contains(token) {
                return json(401, json!({"error": {"code": 401, "message": "Invalid Credentials"}}));
            }
            of_bucket(&objects, &method, path, &query, body)
        }
        _ => json(404, json!({"error": {"code": 404, "message": "Not Found"}})),
    }
}

/// Who may have a token for this form.
fn grant(form: &[(String, String)], audience: &str) -> Result<String, String> {
    let says = |name: &str| value(form, name).unwrap_or_default();
    if says("grant_type") == "refresh_token" {
        let is_right = (says("client_id"), says("client_secret"), says("refresh_token"))
            == ("c".to_owned(), "s".to_owned(), "r/1".to_owned());
        return if is_right {
            Ok("user".to_owned())
        } else {
            Err("Token has been expired or revoked.".to_owned())
        };
    }
    if says("grant_type") != "urn:ietf:params:oauth:grant-type:jwt-bearer" {
        return Err("unknown grant".to_owned());
    }
    let assertion = says("assertion");
    let (signed, signature) = assertion.rsplit_once('.').ok_or("no JWT")?;
    let (header, claims) = signed.split_once('.').ok_or("no JWT")?;
    let lines = KEY.lines().filter(|line| !line.starts_with("-----"));
    let key = base64::decode(lines.collect::<String>()).expect("base64");
    let key = RsaKeyPair::from_pkcs8(&key).expect("a key");
    UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key())
        .verify(signed.as_bytes(), &from_address(signature))
        .map_err(|_| "Invalid JWT Signature.")?;
    let read = |part: &str| serde_json::from_slice::<Value>(&from_address(part)).expect("JSON");
    let (header, claims) = (read(header), read(claims));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let (made, ends) = (claims["iat"].as_u64().expect("iat"), claims["exp"].as_u64().expect("exp"));
    if made > now + 60 || made + 300 < now || ends > made + 3600 {
        return Err(
            "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe."
                .to_owned(),
        );
    }
    let is_right = header["alg"] == "RS256"
        && header["kid"] == "k1"
        && claims["iss"] == EMAIL
        && claims["aud"] == audience
        && claims["scope"] == SCOPE;
    if is_right { Ok("service".to_owned()) } else { Err(format!("wrong claims: {claims}")) }
}

fn from_address(text: &str) -> Vec<u8> {
    let mut text = text.replace('-', "+").replace('_', "/");
    text.extend(std::iter::repeat_n('=', (4 - text.len() % 4) % 4));
    base64::decode(text).expect("base64")
}

fn of_bucket(
    objects: &Objects,
    method: &str,
    path: &str,
    query: &[(String, String)],
    body: Vec<u8>,
) -> Response<Body> {
    let json = |status: u16, body: Value| reply(status, "application/json; charset=UTF-8", body.to_string());
    let failed = |status: u16, why: &str| json(status, json!({"error": {"code": status, "message": why}}));
    let asked = |name: &str| value(query, name);
    let place = path.trim_start_matches("/upload");
    let Some(name) = place.strip_prefix(&format!("/storage/v1/b/{}/o", Google::BUCKET)) else {
        return failed(404, "The specified bucket does not exist.");
    };
    let name = decode(name.trim_start_matches('/'));
    match method {
        "POST" if asked("uploadType").as_deref() == Some("media") => {
            let is_conditional = asked("ifGenerationMatch").as_deref() == Some("0");
            let size = body.len();
            if objects.put(&asked("name").expect("a name"), body, is_conditional) {
                json(200, json!({"size": size.to_string()}))
            } else {
                failed(412, "At least one of the pre-conditions you specified did not hold.")
            }
        }
        "GET" if name.is_empty() => {
            let from = asked("pageToken").unwrap_or_default();
            let most = asked("maxResults").and_then(|most| most.parse().ok()).unwrap_or(1000);
            let (page, next) = objects.page(&asked("prefix").unwrap_or_default(), &from, most);
            let items = page.into_iter().map(|(name, size)| {
                json!({"name": name, "size": size.to_string(), "updated": "2026-01-02T03:04:05.678Z"})
            });
            let mut listed = json!({});
            // Google leaves out what is empty.
            let items: Vec<_> = items.collect();
            if !items.is_empty() {
                listed["items"] = json!(items);
            }
            if let Some(next) = next {
                listed["nextPageToken"] = json!(next);
            }
            json(200, listed)
        }
        "GET" => match objects.lock().get(&name) {
            Some(bytes) if asked("alt").as_deref() == Some("media") => {
                reply(200, "application/octet-stream", bytes.clone())
            }
            Some(bytes) => json(200, json!({"size": bytes.len().to_string()})),
            None => failed(404, &format!("No such object: {}/{name}", Google::BUCKET)),
        },
        _ => failed(405, "Method Not Allowed"),
    }
}
