//! Requests to TLS servers through a proxy: a tunnel (`CONNECT`), with TLS and HTTP/1.1 in it. In the tunnel a request line
//! has a path only, as it has without a proxy (RFC 9112, section 3.2.1). The client of the SDK writes the whole address
//! there, which some servers answer with 400. Doesn't know which requests need a tunnel.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, HttpConnectorSettings};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_types::body::SdkBody;
use hyper_rustls::{ConfigBuilderExt, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector as Tcp;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

/// A client for servers behind one proxy. Clones share its connections.
#[derive(Debug, Clone)]
pub(in crate::remote) struct Tunnels(Client<HttpsConnector<Tunnel<HttpsConnector<Tcp>>>, SdkBody>);

impl Tunnels {
    /// Tunnels through `proxy`, which may itself want TLS and has `connect` to accept a connection. Fails where the system has no
    /// certificates of authorities.
    pub(super) fn through(proxy: &Intercept, connect: Option<Duration>) -> io::Result<Self> {
        let tls = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_native_roots()?
            .with_no_client_auth();
        let over = || {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            builder.https_or_http().enable_http1()
        };
        let mut tcp = Tcp::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(connect);
        let mut tunnel = Tunnel::new(proxy.uri().clone(), over().wrap_connector(tcp));
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(Duration::from_secs(20))
            .build(over().wrap_connector(tunnel));
        Ok(Self(client))
    }

    /// The same as a connector of the SDK's.
    pub(in crate::remote) fn connector(
        &self,
        settings: &HttpConnectorSettings,
    ) -> impl HttpConnector + 'static {
        // Connecting counts as part of waiting for an answer: both limits together bound it.
        let limit = settings.read_timeout().map(|read| read + settings.connect_timeout().unwrap_or_default());
        Limited { tunnels: self.clone(), limit }
    }
}

#[derive(Debug)]
struct Limited {
    tunnels: Tunnels,
    /// Longest time until an answer begins.
    limit: Option<Duration>,
}

impl HttpConnector for Limited {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (client, limit) = (self.tunnels.0.clone(), self.limit.unwrap_or(Duration::MAX));
        HttpConnectorFuture::new(async move {
            let request = request.try_into_http1x().map_err(|error| ConnectorError::user(Box::new(error)))?;
            let answer = tokio::time::timeout(limit, client.request(request))
                .await
                .map_err(|late| ConnectorError::timeout(Box::new(late)))?
                .map_err(|error| ConnectorError::io(Box::new(error)))?;
            HttpResponse::try_from(answer.map(SdkBody::from_body_1_x))
                .map_err(|error| ConnectorError::other(Box::new(error), None))
        })
    }
}
