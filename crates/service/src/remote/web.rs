//! A web server as a remote: GET, HEAD and PUT, and nothing else that every server has. Knows nothing about what the objects
//! mean.
//!
//! There is no listing. A write under a condition is a hint, as it is with buckets: a server that refuses the condition is
//! asked once, and of one that ignores it [`crate::transfer`] reads back what was written. A WebDAV server that wants
//! folders to be made before what is in them is served.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use kache_core::config;
use kache_core::remote::url;

use super::progress::Progress;
use super::wire::fault::{describe, fault_of_status, fault_of_transport, pause};
use super::wire::sink::Sink;
use super::wire::{self, Condition, Patience, Requests, body, route};
use super::{Answer, Body, Fault, Page, PageToken, Put, Remote, RemoteError};

/// What objects below one address are asked for.
pub struct Web {
    /// Without trailing slash.
    base: String,
    authorization: Option<String>,
    connector: SharedHttpConnector,
    patience: Patience,
    progress: Progress,
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
        let progress = Progress::default();
        let connecting = HttpConnectorSettings::builder().connect_timeout(patience.connect).build();
        Self {
            base: settings.url.value.clone(),
            authorization: settings.credentials.as_ref().map(authorization),
            connector: body::watched_connector(route::connector(&connecting), &progress),
            patience,
            progress,
            is_unconditional: AtomicBool::new(false),
        }
    }

    /// One request; its answer, whatever the status.
    async fn send(
        &self,
        method: &str,
        path: &str,
        body: Option<Body>,
        extra: &[(&'static str, &'static str)],
    ) -> Result<HttpResponse, Failure> {
        let size = body.as_ref().map_or(0, Body::size);
        let sent = match body.clone() {
            None => SdkBody::empty(),
            Some(Body::Bytes(bytes)) => SdkBody::from(bytes),
            Some(Body::File { path, .. }) => {
                let stream = ByteStream::from_path(&path).await;
                stream.map_err(|error| Failure::new(Fault::Local, describe(&error)))?.into_inner()
            }
        };
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(format!("{}/{}", self.base, url::encode(path)))
            .header("user-agent", concat!("kache/", env!("CARGO_PKG_VERSION")));
        for (name, value) in extra {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request =
                request.header("content-length", size).header("content-type", "application/octet-stream");
        }
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        // Only credentials can have such characters, and the library's error doesn't show them.
        let odd = |error: &dyn std::error::Error| Failure::new(Fault::Credentials, error.to_string());
        let request = request.body(sent).map_err(|error| odd(&error))?;
        let request = HttpRequest::try_from(request).map_err(|error| odd(&error))?;
        let wait = self.patience.for_upload(size);
        match tokio::time::timeout(wait, self.connector.call(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                let (fault, detail) = fault_of_transport(&error);
                Err(Failure::new(fault, detail))
            }
            Err(_) => Err(Failure::new(Fault::Unavailable, format!("no answer within {} s", wait.as_secs()))),
        }
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
    async fn read(&self, name: &str, bytes_max: u64, sink: &mut Sink) -> Result<u64, RemoteError> {
        let failed = |failure: Failure| failure.about("read", name);
        let answer = self.send("GET", name, None, &[]).await.map_err(failed)?;
        let answer = good(answer, &[200]).map_err(failed)?;
        let announced = length(&answer);
        let body = ByteStream::new(answer.into_body());
        let read = sink.fill(body, announced, bytes_max, (&self.patience, &self.progress)).await;
        read.map_err(|(fault, detail)| RemoteError::new("read", name, fault, detail))
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

    fn is_unconditional(&self) -> &AtomicBool {
        &self.is_unconditional
    }
}

/// What went wrong with a request.
struct Failure {
    fault: Fault,
    detail: String,
    pause: Option<std::time::Duration>,
}

impl Failure {
    fn new(fault: Fault, detail: String) -> Self {
        Self { fault, detail, pause: None }
    }

    fn about(self, act: &'static str, name: &str) -> RemoteError {
        RemoteError { pause: self.pause, ..RemoteError::new(act, name, self.fault, self.detail) }
    }
}

/// An answer with one of these statuses.
fn good(answer: HttpResponse, statuses: &[u16]) -> Result<HttpResponse, Failure> {
    let status = answer.status().as_u16();
    if statuses.contains(&status) {
        return Ok(answer);
    }
    let elsewhere = answer.headers().get("location").filter(|_| (300..400).contains(&status));
    let detail = match elsewhere {
        Some(location) => format!("the server sends to {location} (status {status})"),
        None => format!("status {status}"),
    };
    let fault = if status == 410 { Fault::NotFound } else { fault_of_status(status) };
    Err(Failure { fault, detail, pause: pause(answer.headers().get("retry-after")) })
}

fn length(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get("content-length").and_then(|length| length.trim().parse().ok())
}

fn authorization(credentials: &config::HttpCredentials) -> String {
    match credentials {
        config::HttpCredentials::Bearer(token) => format!("Bearer {}", token.0),
        config::HttpCredentials::Basic(user, password) => {
            format!("Basic {}", aws_smithy_types::base64::encode(format!("{user}:{}", password.0)))
        }
    }
}

impl Remote for Web {
    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>> {
        Box::pin(wire::get(self, name, bytes_max))
    }

    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64> {
        Box::pin(wire::download(self, name, bytes_max, file))
    }

    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()> {
        Box::pin(async move { self.write(name, body, Condition::Any).await.map(drop) })
    }

    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put> {
        Box::pin(wire::put_if_absent(self, name, body))
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn can_list(&self) -> bool {
        false
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            let failed = |failure: Failure| failure.about("look at", name);
            let answer = self.send("HEAD", name, None, &[]).await.map_err(failed)?;
            Ok(length(&good(answer, &[200]).map_err(failed)?).unwrap_or(0))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, _: Option<PageToken>) -> Answer<'a, Page> {
        let why = "a web server doesn't say what it has";
        Box::pin(std::future::ready(Err(RemoteError::new("list", prefix, Fault::Unsupported, why))))
    }
}
