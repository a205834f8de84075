//! A store over HTTP, for reading: `kache serve`. What can be read is what `objects` makes of names; there is no way from
//! a path to a file. Another kache asks as it asks any web server ([`crate::remote::web`]).
//!
//! | what a client does | what happens |
//! | --- | --- |
//! | a method other than GET and HEAD | 405 |
//! | a name that isn't of the layout, or of something that stays here | 404 |
//! | a head longer than `HEAD_BYTES_MAX` | 431 |
//! | more connections than are allowed | they wait to be taken until one ends |
//! | it doesn't send a request, or doesn't read the answer | the connection ends |
//!
//! A pack is sent from its file in pieces, so a connection takes little memory whatever it reads.

mod objects;

use std::convert::Infallible;
use std::os::unix::fs::FileExt;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::daemon::lock;
pub use objects::{Object, Objects};

/// Longest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;
/// Bytes that are sent at a time.
const PIECE_BYTES: usize = 64 << 10;
/// How long answers that are being sent may take after the server was told to end.
const LAST_ANSWERS: Duration = Duration::from_secs(5);
/// How long connections that fail to be taken are left alone: there may be too many open files.
const AFTER_FAILURE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub connections_max: usize,
    /// Longest wait for a request, and for the end of an answer beside [`Limits::slowest`].
    pub silence: Duration,
    /// Slowest reading that is waited for, in bytes per second.
    pub slowest: u64,
}

/// Connections at a time, unless said otherwise.
pub const CONNECTIONS_MAX: usize = 256;

impl Default for Limits {
    fn default() -> Self {
        Self { connections_max: CONNECTIONS_MAX, silence: Duration::from_secs(30), slowest: 64 << 10 }
    }
}

/// Answers requests until `stop` is done; answers that are being sent then get a moment to end.
pub async fn serve(
    listener: std::net::TcpListener,
    objects: Arc<Objects>,
    limits: Limits,
    stop: impl Future<Output = ()>,
) -> std::io::Result<()> {
    listener.set_nonblocking(true)?;
    let listener = TcpListener::from_std(listener)?;
    let (ended, ending) = watch::channel(false);
    let places = Arc::new(Semaphore::new(limits.connections_max.max(1)));
    let mut connections = JoinSet::new();
    let take = async {
        loop {
            while connections.try_join_next().is_some() {}
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let (objects, ending) = (Arc::clone(&objects), ending.clone());
                    connections.spawn(async move {
                        connection(stream, objects, limits, ending).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection can't be taken");
                    tokio::time::sleep(AFTER_FAILURE).await;
                }
            }
        }
    };
    tokio::select! {
        () = take => {}
        () = stop => {}
    }
    drop(listener);
    let _ = ended.send(true);
    let _ =
        tokio::time::timeout(LAST_ANSWERS, async { while connections.join_next().await.is_some() {} }).await;
    Ok(())
}

/// When a connection ends unless something happens; `None` while an object is made.
#[derive(Debug, Clone)]
struct Deadline {
    at: Arc<Mutex<Option<Instant>>>,
    silence: Duration,
}

impl Deadline {
    fn set(&self, more: Duration) {
        *lock(&self.at) = Some(Instant::now() + self.silence + more);
    }

    fn lift(&self) {
        *lock(&self.at) = None;
    }

    /// Returns once it has passed.
    async fn passed(&self) {
        loop {
            let at = *lock(&self.at);
            match at {
                Some(at) if at <= Instant::now() => return,
                Some(at) => tokio::time::sleep_until(at).await,
                None => tokio::time::sleep(self.silence).await,
            }
        }
    }
}

async fn connection(
    stream: TcpStream,
    objects: Arc<Objects>,
    limits: Limits,
    mut ending: watch::Receiver<bool>,
) {
    let deadline = Deadline { at: Arc::default(), silence: limits.silence };
    deadline.set(Duration::ZERO);
    let answers = service_fn(|request: Request<Incoming>| {
        let (objects, deadline) = (Arc::clone(&objects), deadline.clone());
        async move {
            deadline.lift();
            let mut response = answer(&request, &objects).await;
            let length = response.body().left;
            deadline.set(Duration::from_secs(length / limits.slowest.max(1)));
            response.body_mut().deadline = Some(deadline);
            Ok::<_, Infallible>(response)
        }
    });
    let mut http = http1::Builder::new();
    http.max_buf_size(HEAD_BYTES_MAX);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), answers));
    let mut is_ending = false;
    loop {
        tokio::select! {
            _ = connection.as_mut() => return,
            () = deadline.passed() => return,
            _ = ending.changed(), if !is_ending => {
                is_ending = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

async fn answer(request: &Request<Incoming>, objects: &Arc<Objects>) -> Response<Pieces> {
    let status = |status: StatusCode| {
        let mut response = Response::new(Pieces::of(Object::Bytes(Bytes::new())));
        *response.status_mut() = status;
        response
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
        response.headers_mut().insert("allow", hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let name = request.uri().path().trim_start_matches('/');
    match objects.find(name).await {
        Ok(Some(object)) => {
            let mut pieces = Pieces::of(object);
            let length = pieces.left;
            if *request.method() == Method::HEAD {
                pieces = Pieces::of(Object::Bytes(Bytes::new()));
            }
            let headers = Response::builder()
                .header("content-length", length)
                .header("content-type", "application/octet-stream");
            headers.body(pieces).unwrap_or_else(|_| status(StatusCode::INTERNAL_SERVER_ERROR))
        }
        Ok(None) => status(StatusCode::NOT_FOUND),
        Err(error) => {
            tracing::warn!(%error, name, "an object can't be served");
            status(StatusCode::INTERNAL_SERVER_ERROR)
        }
    }
}

/// An object on its way out.
struct Pieces {
    object: Object,
    at: u64,
    left: u64,
    deadline: Option<Deadline>,
}

impl Pieces {
    fn of(object: Object) -> Self {
        let left = match &object {
            Object::Bytes(bytes) => bytes.len() as u64,
            Object::Pack(packed) => packed.manifest.pack.size,
        };
        Self { object, at: 0, left, deadline: None }
    }

    fn next(&self) -> std::io::Result<Bytes> {
        let length = usize::try_from(self.left).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
        match &self.object {
            Object::Bytes(bytes) => {
                let at = usize::try_from(self.at).unwrap_or(usize::MAX).min(bytes.len());
                Ok(bytes.slice(at..at + length))
            }
            // It was written a moment ago, so this doesn't wait for the disk.
            Object::Pack(packed) => {
                let mut piece = vec![0; length];
                packed.scratch.file().read_exact_at(&mut piece, self.at)?;
                Ok(piece.into())
            }
        }
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let piece = self.next()?;
        self.at += piece.len() as u64;
        self.left -= piece.len() as u64;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

impl Drop for Pieces {
    /// The last piece was taken: the next request is waited for no longer than the first.
    fn drop(&mut self) {
        if let Some(deadline) = &self.deadline {
            deadline.set(Duration::ZERO);
        }
    }
}

#[cfg(test)]
#[path = "serve/tests.rs"]
mod tests;
