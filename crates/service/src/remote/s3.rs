//! The bucket behind an S3-compatible server. Knows requests and answers, nothing about what the objects mean.

mod connect;
mod fault;
mod http;
mod redirect;

use std::sync::RwLock;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use aws_sdk_s3::Client;
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::error::SdkError;
use aws_sdk_s3::primitives::ByteStream;
use kache_core::config;

use connect::Connected;
use fault::Failure;

use super::progress::Progress;
pub use super::wire::Patience;
use super::wire::fault::describe;
use super::wire::sink::Sink;
use super::wire::{Condition, Requests};
use super::{Body, Fault, Object, Page, PageToken, Put, RemoteError};

/// Shortest time between two clients: profile files are read once per client, so an expired session needs a new one.
const RECONNECT_PAUSE: Duration = Duration::from_millis(200);
/// Most names asked for in one page.
const PAGE_LEN: i32 = 1000;

/// A bucket of an S3-compatible server.
pub struct S3 {
    settings: config::S3,
    patience: Patience,
    connected: RwLock<Arc<Connected>>,
    /// Where the server has sent; it is followed once.
    moved: OnceLock<config::S3>,
    made: RwLock<Instant>,
    progress: Progress,
    /// The server has said that it doesn't know conditional writes.
    is_unconditional: AtomicBool,
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let endpoint = self.settings.endpoint.as_ref().map_or("s3:/", |endpoint| &endpoint.value);
        write!(f, "S3({endpoint}/{})", self.bucket())
    }
}

impl S3 {
    /// A client for the remote that the settings configure. Sends nothing yet.
    pub async fn connect(settings: &config::S3) -> Self {
        Self::connect_with(settings, Patience::default()).await
    }

    /// The same with other limits.
    pub async fn connect_with(settings: &config::S3, patience: Patience) -> Self {
        let progress = Progress::default();
        let connected = connect::connect(settings, &patience, &progress).await;
        Self {
            settings: settings.clone(),
            patience,
            connected: RwLock::new(Arc::new(connected)),
            moved: OnceLock::new(),
            made: RwLock::new(Instant::now()),
            progress,
            is_unconditional: AtomicBool::new(false),
        }
    }

    fn connected(&self) -> Arc<Connected> {
        self.connected.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn client(&self) -> Client {
        self.connected().client.clone()
    }

    fn bucket(&self) -> &str {
        &self.settings.bucket.value
    }

    /// Turns a failure of a request that was begun then into an error; where credentials were refused, the next request
    /// gets a client that reads them again, and where the server sends elsewhere, one that asks there.
    async fn error<E>(
        &self,
        (act, name): (&'static str, &str),
        begun: Instant,
        error: SdkError<E, HttpResponse>,
    ) -> RemoteError
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let Failure { fault, detail, pause, elsewhere } = fault::judge(error);
        let is_refused = fault == Fault::Credentials;
        let is_later = *self.made.read().unwrap_or_else(PoisonError::into_inner) > begun;
        let mut is_renewed = is_later && (is_refused || fault == Fault::WrongRegion);
        let moves = !is_renewed && self.follow(elsewhere);
        if moves || (is_refused && !is_renewed && self.may_reconnect()) {
            is_renewed = true;
            let settings = self.moved.get().unwrap_or(&self.settings);
            let connected = connect::connect(settings, &self.patience, &self.progress).await;
            *self.connected.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(connected);
        }
        RemoteError { pause, is_renewed, ..RemoteError::new(act, name, fault, detail) }
    }

    /// Notes the place to which the server sends, once, if it is one of the same service.
    fn follow(&self, (region, location): (Option<String>, Option<String>)) -> bool {
        let mut moved = self.settings.clone();
        match (region.filter(|region| *region != moved.region.value), location) {
            (Some(region), _) => moved.region.value = region,
            (None, Some(location)) => {
                let from = moved.endpoint.as_ref().map_or("https://s3.amazonaws.com", |url| &url.value);
                let Some(endpoint) = redirect::endpoint(from, &location, self.bucket()) else { return false };
                let origin = moved.endpoint.as_ref().map_or(config::Origin::Default, |url| url.origin);
                moved.endpoint = Some(config::Setting { value: endpoint, origin });
            }
            (None, None) => return false,
        }
        let is_first = self.moved.set(moved).is_ok();
        if is_first {
            *self.made.write().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        }
        is_first
    }

    fn may_reconnect(&self) -> bool {
        let mut made = self.made.write().unwrap_or_else(PoisonError::into_inner);
        let may = made.elapsed() >= RECONNECT_PAUSE;
        if may {
            *made = Instant::now();
        }
        may
    }
}

impl Requests for S3 {
    async fn read(&self, name: &str, bytes_max: u64, sink: &mut Sink) -> Result<u64, RemoteError> {
        let act = "read";
        let begun = Instant::now();
        let answer = self.client().get_object().bucket(self.bucket()).key(name).send().await;
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => return Err(self.error((act, name), begun, error).await),
        };
        let announced = answer.content_length().and_then(|length| u64::try_from(length).ok());
        let read = sink.fill(answer.body, announced, bytes_max, (&self.patience, &self.progress)).await;
        read.map_err(|(fault, detail)| RemoteError::new(act, name, fault, detail))
    }

    async fn write(&self, name: &str, body: Body, condition: Condition) -> Result<Put, RemoteError> {
        let act = "write";
        let size = body.size();
        let stream = match body {
            Body::Bytes(bytes) => ByteStream::from(bytes),
            Body::File { path, .. } => ByteStream::from_path(&path)
                .await
                .map_err(|error| RemoteError::new(act, name, Fault::Local, describe(&error)))?,
        };
        let mut request = self.client().put_object().bucket(self.bucket()).key(name).body(stream);
        if condition == Condition::Absent {
            request = request.if_none_match("*");
        }
        let limits =
            aws_sdk_s3::config::Config::builder().timeout_config(connect::limits(&self.patience, size));
        let begun = Instant::now();
        match request.customize().config_override(limits).send().await {
            Ok(_) => Ok(Put::Written),
            Err(error) if status_of(&error) == Some(412) && condition == Condition::Absent => {
                Ok(Put::Present)
            }
            Err(error) => Err(self.error((act, name), begun, error).await),
        }
    }

    async fn look(&self, name: &str) -> Result<u64, RemoteError> {
        let begun = Instant::now();
        match self.client().head_object().bucket(self.bucket()).key(name).send().await {
            Ok(answer) => {
                Ok(answer.content_length().and_then(|length| u64::try_from(length).ok()).unwrap_or(0))
            }
            Err(error) => Err(self.error(("look at", name), begun, error).await),
        }
    }

    async fn part(&self, prefix: &str, page: Option<PageToken>) -> Result<Page, RemoteError> {
        let request = self.client().list_objects_v2().bucket(self.bucket()).prefix(prefix);
        let request = request.max_keys(PAGE_LEN).set_continuation_token(page.map(|token| token.0));
        let begun = Instant::now();
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) => {
                let mut error = self.error(("list", prefix), begun, error).await;
                // A bucket can always be listed: what was asked isn't one.
                if error.fault == Fault::NotFound {
                    error.fault = Fault::NoBucket;
                }
                return Err(error);
            }
        };
        let next = answer.next_continuation_token.map(PageToken);
        let next = next.filter(|_| answer.is_truncated == Some(true));
        let objects = answer.contents.unwrap_or_default().into_iter().filter_map(|object| {
            let size = object.size.and_then(|size| u64::try_from(size).ok()).unwrap_or(0);
            let modified_s = object.last_modified.map_or(0, |time| time.secs());
            Some(Object { name: object.key?, size, modified_s })
        });
        Ok(Page { objects: objects.collect(), next })
    }

    async fn identity(&self) -> Result<Option<String>, RemoteError> {
        let source = connect::source(&self.settings, &self.connected().credentials).await;
        source
            .map(|source| Some(format!("credentials from {source}")))
            .map_err(|why| RemoteError::new("sign in to", self.bucket(), Fault::Credentials, why))
    }

    fn moved(&self) -> &Progress {
        &self.progress
    }

    fn is_unconditional(&self) -> &AtomicBool {
        &self.is_unconditional
    }
}

fn status_of<E>(error: &SdkError<E, HttpResponse>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}
