//! The cache service of GitHub Actions, inside the test process: it checks each request's token, type and fields, never lets a
//! name be written twice, keeps apart what branches save, hands out signed addresses, and lets only so many requests be made.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use aws_smithy_types::base64;
use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::Body;
use serde_json::{Value, json};

use crate::objects::{decode, pairs, reply, value, whole};
use crate::server::Server;

const METHODS: &str = "/twirp/github.actions.results.api.v1.CacheService/";

/// The service; it ends when dropped.
pub struct GitHub {
    shared: Arc<Shared>,
    server: Server,
}

#[derive(Default)]
struct Shared {
    entries: Mutex<BTreeMap<usize, Entry>>,
    /// Requests that may still be made.
    left: AtomicUsize,
}

struct Entry {
    scope: String,
    key: String,
    version: String,
    content: Option<Vec<u8>>,
    is_final: bool,
}

impl GitHub {
    /// Starts a service that has nothing.
    pub fn start() -> Self {
        let shared = Arc::new(Shared { left: AtomicUsize::new(usize::MAX), ..Shared::default() });
        let of_server = shared.clone();
        let server = Server::start(move |request| answer(of_server.clone(), request));
        Self { shared, server }
    }

    /// Variables of a job of the default branch.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        self.env_of(&[("refs/heads/main", 3)])
    }

    /// Variables of a job for a pull request: it reads what the default branch has, too.
    pub fn env_of_pull_request(&self) -> Vec<(&'static str, String)> {
        self.env_of(&[("refs/heads/main", 1), ("refs/pull/7/merge", 3)])
    }

    /// Variables of a job that may do this with these branches: 1 is to read, 2 to write.
    pub fn env_of(&self, scopes: &[(&str, u8)]) -> Vec<(&'static str, String)> {
        let scopes = scopes.iter().map(|(scope, allowed)| json!({"Scope": scope, "Permission": allowed}));
        let claims = json!({"ac": json!(scopes.collect::<Vec<_>>()).to_string(), "sub": "hushhush"});
        let claims = base64::encode(claims.to_string());
        let claims = claims.replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned();
        vec![
            ("KACHE_REMOTE_TYPE", "gha".to_owned()),
            ("ACTIONS_RESULTS_URL", format!("{}/", self.endpoint())),
            ("ACTIONS_RUNTIME_TOKEN", format!("e30.{claims}.hush")),
        ]
    }

    /// From now on, so many requests of the service's own are answered; the others are asked to wait.
    pub fn limit(&self, requests: usize) {
        self.shared.left.store(requests, Ordering::SeqCst);
    }

    /// Names of all that was saved, in the order in which it was.
    pub fn names(&self) -> Vec<String> {
        let entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.values().filter(|entry| entry.is_final).map(|entry| entry.key.clone()).collect()
    }

    /// The service drops what has this in its name, as it does with what wasn't used.
    pub fn evict(&self, part: &str) {
        let mut entries = self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| !entry.key.contains(part));
    }

    /// How many requests of the service's own were made, which it counts.
    pub fn requests(&self) -> usize {
        self.count("POST", METHODS)
    }
}

impl std::ops::Deref for GitHub {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn answer(shared: Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    let header = |name: &str| {
        request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
    };
    let json = |status: u16, body: Value| reply(status, "application/json", body.to_string());
    let failed = |status: u16, code: &str| json(status, json!({"code": code, "msg": code}));
    let (path, host) = (request.uri().path().to_owned(), header("host"));
    if let Some(method) = path.strip_prefix(METHODS) {
        let Some(scopes) = scopes(&header("authorization")) else { return failed(401, "unauthenticated") };
        let may = shared.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if may.is_err() {
            let mut response = failed(429, "resource_exhausted");
            response.headers_mut().insert("retry-after", "1".parse().expect("a header's value"));
            return response;
        }
        if header("content-type") != "application/json" {
            return failed(400, "bad_route");
        }
        let asked: Value = serde_json::from_slice(&whole(request.into_body()).await).expect("JSON");
        return of_service(&shared, method, &scopes, &asked, &host);
    }
    // What follows is the storage behind signed addresses.
    let query = pairs(request.uri().query().unwrap_or_default());
    let (Some(id), Some(right)) =
        (path.strip_prefix("/blob/").and_then(|id| id.parse::<usize>().ok()), value(&query, "sig"))
    else {
        return failed(404, "not_found");
    };
    assert_eq!(header("authorization"), "", "the job's token goes to the service alone");
    let (method, range, is_block) =
        (request.method().to_string(), header("range"), header("x-ms-blob-type") == "BlockBlob");
    let body = whole(request.into_body()).await;
    let mut entries = shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(entry) = entries.get_mut(&id) else { return failed(404, "not_found") };
    match (method.as_str(), right.as_str(), &mut entry.content) {
        ("PUT", "hush/write", content @ None) if is_block => {
            *content = Some(body);
            reply(201, "application/xml", "")
        }
        ("GET", "hush/read", Some(content)) if entry.is_final => {
            let Some(range) = range.strip_prefix("bytes=") else {
                return reply(200, "application/octet-stream", content.clone());
            };
            let (from, to) = range.split_once('-').expect("a range");
            let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
            match content.get(from..(to + 1).min(content.len())) {
                Some(part) => reply(206, "application/octet-stream", part),
                None => failed(416, "out_of_range"),
            }
        }
        _ => failed(403, "permission_denied"),
    }
}

/// What a token opens, nearest first.
fn scopes(authorization: &str) -> Option<Vec<(String, u64)>> {
    let token = authorization.strip_prefix("Bearer ")?;
    let mut parts = token.split('.');
    let (claims, signature) = (parts.nth(1)?, parts.next()?);
    let mut claims = claims.replace('-', "+").replace('_', "/");
    claims.extend(std::iter::repeat_n('=', (4 - claims.len() % 4) % 4));
    let claims: Value = serde_json::from_slice(&base64::decode(claims).ok()?).ok()?;
    let listed: Value = serde_json::from_str(claims["ac"].as_str()?).ok()?;
    let scope = |scope: &Value| Some((scope["Scope"].as_str()?.to_owned(), scope["Permission"].as_u64()?));
    let mut scopes: Vec<_> = listed.as_array()?.iter().filter_map(scope).collect();
    scopes.sort_by_key(|(_, allowed)| allowed & 2 == 0);
    (signature == "hush").then_some(scopes)
}

fn of_service(
    shared: &Shared,
    method: &str,
    scopes: &[(String, u64)],
    asked: &Value,
    host: &str,
) -> Response<Body> {
    let json = |status: u16, body: Value| reply(status, "application/json", body.to_string());
    let failed = |status: u16, code: &str| json(status, json!({"code": code, "msg": code}));
    let text = |name: &str| asked[name].as_str().unwrap_or_default().to_owned();
    let (key, version) = (text("key"), text("version"));
    if key.is_empty() || key.len() > 512 || key.contains(',') || version.len() != 64 {
        return failed(400, "invalid_argument");
    }
    let mut entries = shared.entries.lock().unwrap_or_else(PoisonError::into_inner);
    let address = |id: usize, right: &str| format!("http://{host}/blob/{id}?sig=hush%2F{right}");
    let writable = scopes.iter().find(|(_, allowed)| allowed & 2 != 0);
    let is_this =
        |entry: &Entry, scope: &str| entry.scope == scope && entry.key == key && entry.version == version;
    match method {
        "CreateCacheEntry" => {
            let Some((scope, _)) = writable else { return failed(403, "permission_denied") };
            if entries.values().any(|entry| is_this(entry, scope)) {
                return failed(409, "already_exists");
            }
            let id = entries.last_key_value().map_or(1, |(id, _)| id + 1);
            let scope = scope.clone();
            entries.insert(id, Entry { scope, key, version, content: None, is_final: false });
            json(200, json!({"ok": true, "signed_upload_url": address(id, "write")}))
        }
        "FinalizeCacheEntryUpload" => {
            let Some((scope, _)) = writable else { return failed(403, "permission_denied") };
            let found = entries.iter_mut().find(|(_, entry)| is_this(entry, scope) && !entry.is_final);
            let Some((id, entry)) = found else { return failed(404, "not_found") };
            let size = entry.content.as_ref().map(|content| content.len().to_string());
            if size != Some(text("size_bytes")) {
                return failed(400, "invalid_argument");
            }
            entry.is_final = true;
            json(200, json!({"ok": true, "entry_id": id.to_string()}))
        }
        "GetCacheEntryDownloadURL" => {
            let restore: Vec<String> = asked["restore_keys"]
                .as_array()
                .map(|keys| keys.iter().filter_map(|key| key.as_str().map(decode)).collect())
                .unwrap_or_default();
            let of = |scope: &str, fits: &dyn Fn(&str) -> bool| {
                let mut newest = entries.iter().rev();
                let found = newest.find(|(_, entry)| {
                    entry.is_final && entry.scope == scope && entry.version == version && fits(&entry.key)
                });
                found.map(|(id, entry)| (*id, entry.key.clone()))
            };
            let found = scopes.iter().find_map(|(scope, _)| {
                let exact = of(scope, &|name| name == key);
                exact.or_else(|| {
                    restore.iter().find_map(|prefix| of(scope, &|name| name.starts_with(prefix.as_str())))
                })
            });
            match found {
                Some((id, matched)) => json(
                    200,
                    json!({"ok": true, "signed_download_url": address(id, "read"), "matched_key": matched}),
                ),
                None => json(200, json!({"ok": false, "signed_download_url": "", "matched_key": ""})),
            }
        }
        _ => failed(404, "bad_route"),
    }
}
