//! Tells when pieces of uploads go out, so that a server which stops reading is noticed, and a web page from an answer.
//! Stands between the client, which has signed by then, and the network.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::remote::progress::Progress;

/// Most bytes that go out at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The same connector, whose uploads are noted.
pub(in crate::remote) fn watched_connector(
    inner: SharedHttpConnector,
    progress: &Progress,
) -> SharedHttpConnector {
    SharedHttpConnector::new(Watched { inner, progress: progress.clone() })
}

#[derive(Debug)]
struct Watched<T> {
    inner: T,
    progress: Progress,
}

impl HttpConnector for Watched<SharedHttpConnector> {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let inner = std::mem::replace(request.body_mut(), SdkBody::taken());
        let pieces = Pieces { inner, left: Bytes::new(), progress: self.progress.clone() };
        *request.body_mut() = SdkBody::from_body_1_x(pieces);
        let asks_for_head = request.method() == "HEAD";
        let answer = self.inner.call(request);
        let progress = self.progress.clone();
        HttpConnectorFuture::new(async move {
            let mut answer = answer.await?;
            let kind = answer.headers().get("content-type").unwrap_or_default();
            if answer.status().as_u16() != 200 || !kind.trim_start().starts_with("text/html") {
                return Ok(answer);
            }
            let page = if asks_for_head {
                answer.headers().get("content-length").is_some_and(|length| length != "0")
            } else {
                let inner = std::mem::replace(answer.body_mut(), SdkBody::taken());
                let (begins, body) = beginning(inner, progress).await?;
                *answer.body_mut() = body;
                is_page(&begins)
            };
            if page { Err(ConnectorError::other(Box::new(WebPage), None)) } else { Ok(answer) }
        })
    }
}

/// The first piece of a body, empty where it has none, and a body with all of it.
async fn beginning(mut inner: SdkBody, progress: Progress) -> Result<(Bytes, SdkBody), ConnectorError> {
    let mut begins = Bytes::new();
    while begins.is_empty() {
        match std::future::poll_fn(|context| Pin::new(&mut inner).poll_frame(context)).await {
            Some(Ok(frame)) => begins = frame.into_data().unwrap_or_default(),
            Some(Err(error)) => return Err(ConnectorError::io(error)),
            None => break,
        }
    }
    let whole = Pieces { inner, left: begins.clone(), progress };
    Ok((begins, SdkBody::from_body_1_x(whole)))
}

/// Whether a document of this beginning is one for people. Its type alone says nothing: servers written in Python call
/// every answer `text/html`, XML and empty ones too.
fn is_page(begins: &[u8]) -> bool {
    let text = begins.trim_ascii_start();
    [&b"<!doctype html"[..], b"<html", b"<head", b"<body", b"<script", b"<!--"]
        .iter()
        .any(|word| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)))
}

/// A page for people in place of an answer, which neither buckets nor stores of files send with status 200.
#[derive(Debug, thiserror::Error)]
#[error(
    "a web page came in place of an answer, such as the login page of a proxy or of this network, or a server's console; \
     sign in there, or correct the address"
)]
struct WebPage;

/// A body in pieces.
struct Pieces {
    inner: SdkBody,
    /// What the body has given and wasn't asked for yet.
    left: Bytes,
    progress: Progress,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        while self.left.is_empty() {
            let frame = match ready!(Pin::new(&mut self.inner).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                end => return Poll::Ready(end),
            };
            match frame.into_data() {
                Ok(bytes) => self.left = bytes,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        self.progress.note();
        let length = self.left.len().min(PIECE_BYTES);
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(length)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && Body::is_end_stream(&self.inner)
    }

    fn size_hint(&self) -> SizeHint {
        let (inner, left) = (Body::size_hint(&self.inner), self.left.len() as u64);
        match inner.exact() {
            Some(exact) => SizeHint::with_exact(exact + left),
            None => inner,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_page;

    #[test]
    fn pages_are_told_from_answers_by_their_beginning() {
        for page in ["<!DOCTYPE html><p>", "\n  <html lang=\"en\">", "<HEAD>", "<!-- proxy --><html>"] {
            assert!(is_page(page.as_bytes()), "{page}");
        }
        for answer in
            ["", "<", "<?xml version=\"1.0\"?><ListBucketResult/>", "<ListBucketResult>", "{}", "htm"]
        {
            assert!(!is_page(answer.as_bytes()), "{answer}");
        }
    }
}
