//! Tells when pieces of uploads go out, so that a server which stops reading is noticed, and a web page from an answer.
//! Stands between the client, which has signed by then, and the network.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_s3::config::http::HttpRequest;
use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_sdk_s3::primitives::SdkBody;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::remote::progress::Progress;

/// Most bytes that go out at a time.
const PIECE_BYTES: usize = 64 << 10;

/// The same client, whose uploads are noted.
pub(in crate::remote) fn watched(client: SharedHttpClient, progress: &Progress) -> SharedHttpClient {
    SharedHttpClient::new(Watched { inner: client, progress: progress.clone() })
}

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

impl HttpClient for Watched<SharedHttpClient> {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let inner = self.inner.http_connector(settings, components);
        SharedHttpConnector::new(Watched { inner, progress: self.progress.clone() })
    }
}

impl HttpConnector for Watched<SharedHttpConnector> {
    fn call(&self, mut request: HttpRequest) -> HttpConnectorFuture {
        let inner = std::mem::replace(request.body_mut(), SdkBody::taken());
        let pieces = Pieces { inner, left: Bytes::new(), progress: self.progress.clone() };
        *request.body_mut() = SdkBody::from_body_1_x(pieces);
        let answer = self.inner.call(request);
        HttpConnectorFuture::new(async move {
            let answer = answer.await?;
            let kind = answer.headers().get("content-type").unwrap_or_default();
            if answer.status().as_u16() == 200 && kind.trim_start().starts_with("text/html") {
                return Err(ConnectorError::other(Box::new(WebPage), None));
            }
            Ok(answer)
        })
    }
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
