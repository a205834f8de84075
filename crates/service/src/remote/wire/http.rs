//! Plain HTTP requests, with bodies that show that they move. Knows no kind of server and no credentials.

use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorSettings, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::byte_stream::ByteStream;

use super::fault::{describe, fault_of_status, fault_of_transport, pause};
use super::sink::Sink;
use super::{Patience, body, route};
use crate::remote::progress::Progress;
use crate::remote::{Body, Fault, RemoteError};

/// Most bytes of an answer that isn't an object.
#[cfg(any(feature = "gcs", feature = "azure", feature = "gha"))]
const REPLY_BYTES_MAX: u64 = 16 << 20;

/// Sends requests.
#[derive(Debug)]
pub(crate) struct Client {
    connector: SharedHttpConnector,
    pub patience: Patience,
    pub progress: Progress,
}

impl Client {
    pub fn new(patience: Patience) -> Self {
        let progress = Progress::default();
        let connecting = HttpConnectorSettings::builder().connect_timeout(patience.connect).build();
        let connector = body::watched_connector(route::connector(&connecting), &progress);
        Self { connector, patience, progress }
    }

    /// One request; its answer, whatever the status.
    pub async fn send(
        &self,
        method: &str,
        url: &str,
        headers: &[(&str, &str)],
        body: Option<Body>,
    ) -> Result<HttpResponse, Failure> {
        let size = body.as_ref().map_or(0, Body::size);
        let is_typed = headers.iter().any(|(name, _)| *name == "content-type");
        let mut request = hyper::Request::builder()
            .method(method)
            .uri(url)
            .header("user-agent", concat!("kache/", env!("CARGO_PKG_VERSION")));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if body.is_some() {
            request = request.header("content-length", size);
            if !is_typed {
                request = request.header("content-type", TYPE);
            }
        }
        let sent = match body {
            None => SdkBody::empty(),
            Some(Body::Bytes(bytes)) => SdkBody::from(bytes),
            Some(Body::File { path, .. }) => {
                let stream = ByteStream::from_path(&path).await;
                stream.map_err(|error| Failure::new(Fault::Local, describe(&error)))?.into_inner()
            }
        };
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

    /// Hands the body of an answer over; its length.
    pub async fn fill(&self, answer: HttpResponse, bytes_max: u64, sink: &mut Sink) -> Result<u64, Failure> {
        let announced = length(&answer);
        let body = ByteStream::new(answer.into_body());
        let read = sink.fill(body, announced, bytes_max, (&self.patience, &self.progress)).await;
        read.map_err(|(fault, detail)| Failure::new(fault, detail))
    }

    /// The body of an answer that isn't an object.
    #[cfg(any(feature = "gcs", feature = "azure", feature = "gha"))]
    pub async fn reply(&self, answer: HttpResponse) -> Result<Vec<u8>, Failure> {
        let mut sink = Sink::Memory(Vec::new());
        self.fill(answer, REPLY_BYTES_MAX, &mut sink).await?;
        Ok(sink.into_bytes())
    }
}

/// The type of all bodies that have no other.
pub(crate) const TYPE: &str = "application/octet-stream";

/// What went wrong with a request.
#[derive(Debug)]
pub(crate) struct Failure {
    pub fault: Fault,
    pub detail: String,
    pub pause: Option<Duration>,
    pub is_renewed: bool,
}

impl Failure {
    pub fn new(fault: Fault, detail: impl Into<String>) -> Self {
        Self { fault, detail: detail.into(), pause: None, is_renewed: false }
    }

    /// What an answer with a status that isn't good says.
    pub fn of(answer: &HttpResponse) -> Self {
        let status = answer.status().as_u16();
        let elsewhere = answer.headers().get("location").filter(|_| (300..400).contains(&status));
        let detail = match elsewhere {
            Some(location) => format!("the server sends to {location} (status {status})"),
            None => format!("status {status}"),
        };
        let fault = if status == 410 { Fault::NotFound } else { fault_of_status(status) };
        Self { pause: pause(answer.headers().get("retry-after")), ..Self::new(fault, detail) }
    }

    pub fn about(self, act: &'static str, name: &str) -> RemoteError {
        let Self { fault, detail, pause, is_renewed } = self;
        RemoteError { pause, is_renewed, ..RemoteError::new(act, name, fault, detail) }
    }
}

/// An answer with one of these statuses.
pub(crate) fn good(answer: HttpResponse, statuses: &[u16]) -> Result<HttpResponse, Failure> {
    if statuses.contains(&answer.status().as_u16()) { Ok(answer) } else { Err(Failure::of(&answer)) }
}

/// The length that an answer announces.
pub(crate) fn length(answer: &HttpResponse) -> Option<u64> {
    answer.headers().get("content-length").and_then(|length| length.trim().parse().ok())
}
