//! Object stores of clouds, by requests of their own kind: what they have in common. Knows nothing about what the objects
//! mean, nor about single clouds.

#[cfg(feature = "azure")]
pub mod azure;
#[cfg(feature = "gcs")]
pub mod gcs;
#[cfg(feature = "gcs")]
mod google;

use std::sync::atomic::AtomicBool;

use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use kache_core::remote::url;

use super::progress::Progress;
use super::wire::http::{Client, Failure, length};
use super::wire::sink::Sink;
use super::wire::{Condition, Patience, Requests};
use super::{Body, Fault, Page, PageToken, Put, RemoteError};

/// Most names asked for in one page.
const PAGE_LEN: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ask<'a> {
    Read(&'a str),
    Look(&'a str),
    Write(&'a str, Condition),
    List(&'a str, Option<&'a str>),
}

/// A request, complete with what shows who asks.
pub(crate) struct Request {
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, String)>,
}

/// What one cloud has of its own.
pub(crate) trait Service: std::fmt::Debug + Send + Sync + 'static {
    /// `size` is that of what is written, in bytes.
    fn request(
        &self,
        client: &Client,
        ask: Ask<'_>,
        size: u64,
    ) -> impl Future<Output = Result<Request, Failure>> + Send;

    /// What an answer with a status that isn't good means. `failure` is what the status alone says.
    fn judge(&self, ask: Ask<'_>, failure: Failure, code: Option<&str>, body: &[u8]) -> Failure;

    /// The length of an object that was looked at.
    fn size(&self, announced: Option<u64>, body: &[u8]) -> Option<u64>;

    /// A part of a listing.
    fn page(&self, body: &[u8]) -> Option<Page>;

    /// Credentials were refused: whether the next request has others.
    fn renew(&self) -> impl Future<Output = bool> + Send;

    /// Where the credentials come from, in words; `None` where the settings have them.
    fn source(&self, _: &Client) -> impl Future<Output = Result<Option<String>, Failure>> + Send {
        std::future::ready(Ok(None))
    }
}

/// A client of one cloud's object store.
#[derive(Debug)]
pub(crate) struct Cloud<S> {
    service: S,
    client: Client,
    is_unconditional: AtomicBool,
}

impl<S: Service> Cloud<S> {
    fn over(service: S, patience: Patience) -> Self {
        Self { service, client: Client::new(patience), is_unconditional: AtomicBool::new(false) }
    }

    /// One request; an answer whose status is good, or is that of an object which is there already.
    async fn send(&self, ask: Ask<'_>, body: Option<Body>) -> Result<HttpResponse, Failure> {
        let Request { method, url, headers } =
            self.service.request(&self.client, ask, body.as_ref().map_or(0, Body::size)).await?;
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = self.client.send(method, &url, &headers, body).await?;
        let status = answer.status().as_u16();
        let code = answer.headers().get("x-ms-error-code").map(str::to_owned);
        let is_there = status == 412 || code.as_deref() == Some("BlobAlreadyExists");
        let is_present = is_there && matches!(ask, Ask::Write(_, Condition::Absent));
        if matches!(status, 200 | 201) || is_present {
            return Ok(answer);
        }
        let failure = Failure::of(&answer);
        let body = self.client.reply(answer).await.unwrap_or_default();
        let mut failure = self.service.judge(ask, failure, code.as_deref(), &body);
        if failure.fault == Fault::Credentials {
            failure.is_renewed = self.service.renew().await;
        }
        Err(failure)
    }
}

impl<S: Service> Requests for Cloud<S> {
    async fn read(&self, name: &str, bytes_max: u64, sink: &mut Sink) -> Result<u64, RemoteError> {
        let failed = |failure: Failure| failure.about("read", name);
        let answer = self.send(Ask::Read(name), None).await.map_err(failed)?;
        self.client.fill(answer, bytes_max, sink).await.map_err(failed)
    }

    async fn write(&self, name: &str, body: Body, condition: Condition) -> Result<Put, RemoteError> {
        let ask = Ask::Write(name, condition);
        match self.send(ask, Some(body)).await {
            Ok(answer) if answer.status().as_u16() >= 400 => Ok(Put::Present),
            Ok(_) => Ok(Put::Written),
            Err(failure) => Err(failure.about("write", name)),
        }
    }

    async fn look(&self, name: &str) -> Result<u64, RemoteError> {
        let failed = |failure: Failure| failure.about("look at", name);
        let answer = self.send(Ask::Look(name), None).await.map_err(failed)?;
        let announced = length(&answer);
        let body = self.client.reply(answer).await;
        let odd = || RemoteError::new("look at", name, Fault::Protocol, "an answer without a size");
        self.service.size(announced, &body.unwrap_or_default()).ok_or_else(odd)
    }

    async fn part(&self, prefix: &str, page: Option<PageToken>) -> Result<Page, RemoteError> {
        let failed = |failure: Failure| failure.about("list", prefix);
        let ask = Ask::List(prefix, page.as_ref().map(|page| page.0.as_str()));
        let answer = self.send(ask, None).await.map_err(failed)?;
        let body = self.client.reply(answer).await.map_err(failed)?;
        let odd = || RemoteError::new("list", prefix, Fault::Protocol, "an answer that is no listing");
        self.service.page(&body).ok_or_else(odd)
    }

    async fn identity(&self) -> Result<Option<String>, RemoteError> {
        let source = self.service.source(&self.client).await;
        source.map_err(|failure| failure.about("sign in to", &format!("{:?}", self.service)))
    }

    fn moved(&self) -> &Progress {
        &self.client.progress
    }

    fn is_unconditional(&self) -> &AtomicBool {
        &self.is_unconditional
    }
}

/// A text as one part of a path or query.
fn part(text: &str) -> String {
    url::encode(text).replace('/', "%2F")
}
