//! A web server as a remote: GET, HEAD and PUT, and nothing else that every server has. Knows nothing about what the objects
//! mean.
//!
//! There is no listing. A write under a condition is a hint, as it is with buckets: a server that refuses the condition is
//! asked once, and of one that ignores it [`crate::transfer`] reads back what was written. A WebDAV server that wants
//! folders to be made before what is in them is served.

use std::sync::atomic::AtomicBool;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use kache_core::config;
use kache_core::remote::url;

use super::progress::Progress;
use super::wire::http::{Client, Failure, good, length};
use super::wire::sink::Sink;
use super::wire::{Condition, Patience, Requests};
use super::{Body, Fault, Page, PageToken, Put, RemoteError};

/// What objects below one address are asked for.
pub struct Web {
    /// Without trailing slash.
    base: String,
    authorization: Option<String>,
    client: Client,
    /// The server has said that it doesn't know conditional writes.
    is_unconditional: AtomicBool,
}

impl std::fmt::Debug for Web {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Web({})", self.base)
    }
}

impl Web {
    /// A client of the server that the settings name. Sends nothing yet.
    pub fn connect(settings: &config::Http) -> Self {
        Self::connect_with(settings, Patience::default())
    }

    /// The same with other limits.
    pub fn connect_with(settings: &config::Http, patience: Patience) -> Self {
        Self {
            base: settings.url.value.clone(),
            authorization: settings.credentials.as_ref().map(authorization),
            client: Client::new(patience),
            is_unconditional: AtomicBool::new(false),
        }
    }

    /// One request; its answer, whatever the status.
    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Body>,
        extra: &[(&str, &str)],
    ) -> Result<HttpResponse, Failure> {
        let authorization = self.authorization.as_deref().map(|value| ("authorization", value));
        let headers: Vec<_> = extra.iter().copied().chain(authorization).collect();
        self.client.send(method, &format!("{}/{}", self.base, url::encode(path)), &headers, body).await
    }

    /// Makes the folders that an object is in; those that are there are refused, which the next request will tell.
    async fn make_folders(&self, name: &str) -> Result<(), Failure> {
        for (end, _) in name.match_indices('/') {
            self.send("MKCOL", &name[..=end], None, &[]).await?;
        }
        Ok(())
    }
}

impl Requests for Web {
    const LISTS: bool = false;

    async fn read(&self, name: &str, bytes_max: u64, sink: &mut Sink) -> Result<u64, RemoteError> {
        let failed = |failure: Failure| failure.about("read", name);
        let answer = self.send("GET", name, None, &[]).await.map_err(failed)?;
        let answer = good(answer, &[200]).map_err(failed)?;
        self.client.fill(answer, bytes_max, sink).await.map_err(failed)
    }

    async fn write(&self, name: &str, body: Body, condition: Condition) -> Result<Put, RemoteError> {
        let failed = |failure: Failure| failure.about("write", name);
        let extra: &[_] = if condition == Condition::Absent { &[("if-none-match", "*")] } else { &[] };
        let mut answer = self.send("PUT", name, Some(body.clone()), extra).await.map_err(failed)?;
        if answer.status().as_u16() == 409 {
            self.make_folders(name).await.map_err(failed)?;
            answer = self.send("PUT", name, Some(body), extra).await.map_err(failed)?;
            if answer.status().as_u16() == 409 {
                let detail = format!("the server has no folder at {} (status 409)", self.base);
                return Err(RemoteError::new("write", name, Fault::NoBucket, detail));
            }
        }
        if condition == Condition::Absent && answer.status().as_u16() == 412 {
            return Ok(Put::Present);
        }
        good(answer, &[200, 201, 202, 204]).map_err(failed)?;
        Ok(Put::Written)
    }

    async fn look(&self, name: &str) -> Result<u64, RemoteError> {
        let failed = |failure: Failure| failure.about("look at", name);
        let answer = self.send("HEAD", name, None, &[]).await.map_err(failed)?;
        Ok(length(&good(answer, &[200]).map_err(failed)?).unwrap_or(0))
    }

    async fn part(&self, prefix: &str, _: Option<PageToken>) -> Result<Page, RemoteError> {
        let why = "a web server doesn't say what it has";
        Err(RemoteError::new("list", prefix, Fault::Unsupported, why))
    }

    fn moved(&self) -> &Progress {
        &self.client.progress
    }

    fn is_unconditional(&self) -> &AtomicBool {
        &self.is_unconditional
    }
}

fn authorization(credentials: &config::HttpCredentials) -> String {
    match credentials {
        config::HttpCredentials::Bearer(token) => format!("Bearer {}", token.0),
        config::HttpCredentials::Basic(user, password) => {
            format!("Basic {}", aws_smithy_types::base64::encode(format!("{user}:{}", password.0)))
        }
    }
}
