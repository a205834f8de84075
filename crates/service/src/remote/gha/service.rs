//! The requests of the cache service of GitHub Actions, version 2: names are looked up and reserved at the service, contents
//! are read and written at addresses that it hands out. After an answer that asks for fewer requests none is sent for as long
//! as it says.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use aws_smithy_types::base64;
use kache_core::config::{self, Secret};
use kache_core::digest::Digest;
use serde_json::{Value, json};

use super::index::Index;
use crate::remote::wire::Patience;
use crate::remote::wire::http::{Client, Failure, good};
use crate::remote::wire::sink::Sink;
use crate::remote::{Body, Fault, Put};

/// What all names begin with.
const NAMES: &str = "kache-1";
/// What is added to the service's address.
const METHODS: &str = "twirp/github.actions.results.api.v1.CacheService";
/// How long the service is left alone where it doesn't say so.
const PAUSE: Duration = Duration::from_secs(10);

/// A branch or pull request whose caches the job sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    pub name: String,
    pub is_writable: bool,
}

pub(super) struct Service {
    url: String,
    authorization: Secret,
    /// What names are looked up together with; another layout is another version.
    version: String,
    scopes: Vec<Scope>,
    pub client: Client,
    not_before: Mutex<Option<Instant>>,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.url)
    }
}

impl Service {
    pub fn new(settings: &config::Gha, patience: Patience) -> Self {
        let mut scopes = scopes(&settings.token.0).unwrap_or_default();
        if scopes.is_empty() {
            scopes.push(Scope { name: "this branch".to_owned(), is_writable: true });
        }
        Self {
            url: format!("{}/{METHODS}", settings.url),
            authorization: Secret(format!("Bearer {}", settings.token.0)),
            version: Digest::of(NAMES.as_bytes()).to_string(),
            scopes,
            client: Client::new(patience),
            not_before: Mutex::default(),
        }
    }

    /// Nearest first.
    pub fn scopes(&self) -> &[Scope] {
        &self.scopes
    }

    /// How names of this kind begin.
    fn names(kind: &str, scope: &Scope) -> String {
        let hash = Digest::of(scope.name.as_bytes()).to_string();
        format!("{NAMES}-{kind}-{}-", &hash[..16])
    }

    /// A name for a bundle, which nothing has.
    pub fn bundle_name(scope: &Scope) -> String {
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis());
        format!("{}{now_ms:013}-{:016x}", Self::names("bundle", scope), RandomState::new().hash_one(now_ms))
    }

    pub fn index_name(scope: &Scope, number: u64) -> String {
        format!("{}{number:010}", Self::names("index", scope))
    }

    /// Where something of exactly this name can be read.
    pub async fn find(&self, name: &str) -> Result<Option<String>, Failure> {
        let found = self.look_up(name).await?;
        Ok(found.filter(|(matched, _)| matched == name).map(|(_, address)| address))
    }

    /// The newest index of a scope and its number; an empty one, number 0, where there is none.
    pub async fn newest_index(&self, scope: &Scope) -> Result<(Index, u64), Failure> {
        let names = Self::names("index", scope);
        let found = self.look_up(&names).await?;
        let number = |matched: &str| matched.strip_prefix(&names)?.parse::<u64>().ok();
        let Some((number, address)) = found.and_then(|(matched, at)| Some((number(&matched)?, at))) else {
            return Ok((Index::default(), 0));
        };
        let answer = self.client.send("GET", &address, &[], None).await?;
        let bytes = self.client.reply(good(answer, &[200])?).await?;
        Ok((Index::decode(&bytes).unwrap_or_default(), number))
    }

    /// A name that is this one or begins so, the newest of these, and where it can be read.
    async fn look_up(&self, name: &str) -> Result<Option<(String, String)>, Failure> {
        let asked = json!({"key": name, "restore_keys": [name], "version": self.version});
        let said = match self.ask("GetCacheEntryDownloadURL", &asked).await {
            Err(failure) if failure.fault == Fault::NotFound => return Ok(None),
            said => said?,
        };
        if said["ok"] != true {
            return Ok(None);
        }
        let text = |name: &str| said[name].as_str().map(str::to_owned);
        let odd = || Failure::new(Fault::Protocol, "an answer without an address");
        text("matched_key").zip(text("signed_download_url")).ok_or_else(odd).map(Some)
    }

    /// Saves something under a name, unless something has it.
    pub async fn save(&self, name: &str, body: Body) -> Result<Put, Failure> {
        let size = body.size();
        let made = self.ask("CreateCacheEntry", &json!({"key": name, "version": self.version})).await?;
        let address = made["signed_upload_url"].as_str().filter(|_| made["ok"] == true);
        let Some(address) = address else { return Ok(Put::Present) };
        let kind = [("x-ms-blob-type", "BlockBlob"), ("x-ms-version", "2021-12-02")];
        good(self.client.send("PUT", address, &kind, Some(body)).await?, &[201])?;
        let done = json!({"key": name, "version": self.version, "size_bytes": size.to_string()});
        let done = self.ask("FinalizeCacheEntryUpload", &done).await?;
        let odd = || Failure::new(Fault::Protocol, "the service doesn't take what was uploaded");
        (done["ok"] == true).then_some(Put::Written).ok_or_else(odd)
    }

    /// A part of what is at an address.
    pub async fn read(&self, address: &str, offset: u64, size: u64, sink: &mut Sink) -> Result<u64, Failure> {
        let range = format!("bytes={offset}-{}", offset + size - 1);
        let answer = self.client.send("GET", address, &[("range", &range)], None).await?;
        // An address that has expired is refused.
        let renewed = |failure: Failure| match failure.fault {
            Fault::Denied => Failure { fault: Fault::Unavailable, ..failure },
            _ => failure,
        };
        let answer = good(answer, &[206]).map_err(renewed)?;
        let read = self.client.fill(answer, size, sink).await?;
        let odd = || Failure::new(Fault::Protocol, format!("{read} bytes in place of {size}"));
        (read == size).then_some(read).ok_or_else(odd)
    }

    async fn ask(&self, method: &str, asked: &Value) -> Result<Value, Failure> {
        let not_before = || self.not_before.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = not_before().map(|until| until.saturating_duration_since(Instant::now()));
        if let Some(pause) = rest.filter(|rest| !rest.is_zero()) {
            let failure = Failure::new(Fault::Throttled, "the service has asked for fewer requests");
            return Err(Failure { pause: Some(pause), ..failure });
        }
        let url = format!("{}/{method}", self.url);
        let headers =
            [("content-type", "application/json"), ("authorization", self.authorization.0.as_str())];
        let answer = self.client.send("POST", &url, &headers, Some(Body::of(asked.to_string()))).await?;
        if answer.status().as_u16() == 200 {
            let said = self.client.reply(answer).await?;
            let odd = |_| Failure::new(Fault::Protocol, "an answer that isn't JSON");
            return serde_json::from_slice(&said).map_err(odd);
        }
        // The name is taken.
        if answer.status().as_u16() == 409 {
            return Ok(Value::Null);
        }
        let mut failure = Failure::of(&answer);
        if answer.status().as_u16() == 429 {
            let pause = failure.pause.unwrap_or(PAUSE);
            failure.pause = Some(pause);
            *not_before() = Some(Instant::now() + pause);
        }
        let said = self.client.reply(answer).await.unwrap_or_default();
        let said = serde_json::from_slice::<Value>(&said).unwrap_or_default();
        if let Some(why) = said["msg"].as_str() {
            failure.detail = format!("{why} ({})", failure.detail);
        }
        Err(failure)
    }
}

/// What the job's token says about the caches that it opens: what it may write first, then in the token's order.
fn scopes(token: &str) -> Option<Vec<Scope>> {
    let claims = token.split('.').nth(1)?.replace('-', "+").replace('_', "/");
    let padding = "=".repeat((4 - claims.len() % 4) % 4);
    let claims: Value = serde_json::from_slice(&base64::decode(claims + &padding).ok()?).ok()?;
    let listed: Value = serde_json::from_str(claims["ac"].as_str()?).ok()?;
    let scope = |scope: &Value| {
        // 1 is to read, 2 to write.
        let is_writable = scope["Permission"].as_u64()? & 2 != 0;
        Some(Scope { name: scope["Scope"].as_str()?.to_owned(), is_writable })
    };
    let mut scopes: Vec<_> = listed.as_array()?.iter().filter_map(scope).collect();
    scopes.sort_by_key(|scope| !scope.is_writable);
    Some(scopes)
}
