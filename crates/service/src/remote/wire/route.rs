//! Which way requests go: through the proxy that the environment names (`HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`,
//! `NO_PROXY`, in capitals or not, as curl reads them), or straight to the server. Addresses of this machine and of its
//! own link, where clouds have their metadata services, are never asked for through a proxy.

use std::net::IpAddr;
use std::time::Duration;

use aws_smithy_http_client::Connector;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use hyper_util::client::proxy::matcher::Matcher;
use kache_core::config::host_of;

use super::tunnel::Tunnels;

pub(in crate::remote) const TLS: Provider = Provider::Rustls(CryptoMode::Ring);

/// Some TLS server that isn't near.
const FAR: &str = "https://server.invalid";

/// The way of requests that nothing signs.
pub(in crate::remote) fn connector(settings: &HttpConnectorSettings) -> SharedHttpConnector {
    let builder = || Connector::builder().tls_provider(TLS).connector_settings(settings.clone());
    let direct = SharedHttpConnector::new(builder().build());
    if !has_proxy() {
        return direct;
    }
    let proxied = SharedHttpConnector::new(builder().proxy_config(ProxyConfig::from_env()).build());
    SharedHttpConnector::new(Fork::new(
        direct,
        proxied,
        tunnels(settings.connect_timeout()).as_ref(),
        settings,
    ))
}

/// The way to TLS servers through the proxy that the environment names for them, which has `connect` to accept a connection.
pub(in crate::remote) fn tunnels(connect: Option<Duration>) -> Option<Tunnels> {
    let proxy = Matcher::from_env().intercept(&FAR.parse().ok()?)?;
    Tunnels::through(&proxy, connect)
        .inspect_err(|error| tracing::warn!("can't use the proxy for https: {error}"))
        .ok()
}

pub(in crate::remote) fn has_proxy() -> bool {
    ["http://server.invalid", FAR].into_iter().any(|url| proxy_of(url).is_some())
}

/// The address of the proxy, as `http://host:port`, that requests to `url` go through; `None` where they go straight.
pub(crate) fn proxy_of(url: &str) -> Option<String> {
    let url = url.parse().ok().filter(|_| !is_near(url))?;
    let proxy = Matcher::from_env().intercept(&url)?;
    let uri = proxy.uri();
    Some(format!("{}://{}", uri.scheme_str().unwrap_or("http"), uri.authority()?))
}

/// Whether a server is this machine, or on its own link.
fn is_near(url: &str) -> bool {
    let host = host_of(url);
    match host.parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unicast_link_local() || address.is_unique_local()
        }
        Err(_) => host == "localhost" || host.ends_with(".localhost") || host == "metadata.google.internal",
    }
}

#[derive(Debug)]
pub(in crate::remote) struct Fork {
    direct: SharedHttpConnector,
    /// To servers without TLS.
    proxied: SharedHttpConnector,
    /// To servers with TLS.
    tunnelled: SharedHttpConnector,
}

impl Fork {
    pub fn new(
        direct: SharedHttpConnector,
        proxied: SharedHttpConnector,
        tunnels: Option<&Tunnels>,
        settings: &HttpConnectorSettings,
    ) -> Self {
        let tunnelled = tunnels.map(|tunnels| SharedHttpConnector::new(tunnels.connector(settings)));
        Self { tunnelled: tunnelled.unwrap_or_else(|| proxied.clone()), direct, proxied }
    }
}

impl HttpConnector for Fork {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let way = match proxy_of(request.uri()) {
            None => &self.direct,
            Some(_) if request.uri().starts_with("https:") => &self.tunnelled,
            Some(_) => &self.proxied,
        };
        way.call(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_near_is_never_asked_for_through_a_proxy() {
        for (url, expected) in [
            ("http://127.0.0.1:9000/bucket", true),
            ("http://localhost:9000", true),
            ("https://s3.localhost/x", true),
            ("http://169.254.169.254/latest/api/token", true),
            ("http://169.254.170.2/v2/credentials", true),
            ("http://metadata.google.internal/computeMetadata/v1/", true),
            ("http://[::1]:9000/x", true),
            ("http://[fe80::1]/", true),
            ("http://[fd00:ec2::254]/latest", true),
            ("https://s3.eu-west-1.amazonaws.com/b", false),
            ("http://10.0.0.1:9000", false),
            ("http://localhost.example.com", false),
            ("https://[2001:db8::1]:443/", false),
        ] {
            assert_eq!(is_near(url), expected, "{url}");
        }
    }
}
