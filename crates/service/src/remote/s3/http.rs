//! The HTTP client of the S3 client and of those who give out credentials: straight or through the proxy, with uploads that
//! are noted.

use std::time::Duration;

use aws_sdk_s3::config::{HttpClient, RuntimeComponents, SharedHttpClient};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::{Builder, Connector};
use aws_smithy_runtime_api::client::http::{HttpConnectorSettings, SharedHttpConnector};

use crate::remote::progress::Progress;
use crate::remote::wire::body;
use crate::remote::wire::route::{Fork, TLS, has_proxy, tunnels};
use crate::remote::wire::tunnel::Tunnels;

/// The client. A proxy has `connect` to accept a connection.
pub(super) fn client(connect: Duration, progress: &Progress) -> SharedHttpClient {
    let direct = Builder::new().tls_provider(TLS).build_https();
    let proxied = has_proxy().then(|| {
        Builder::new().build_with_connector_fn(|settings, components| {
            let mut builder = Connector::builder().tls_provider(TLS).proxy_config(ProxyConfig::from_env());
            builder.set_connector_settings(settings.cloned());
            builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
            builder.build()
        })
    });
    SharedHttpClient::new(Routes {
        direct,
        proxied,
        tunnels: tunnels(Some(connect)),
        progress: progress.clone(),
    })
}

#[derive(Debug)]
struct Routes {
    direct: SharedHttpClient,
    proxied: Option<SharedHttpClient>,
    tunnels: Option<Tunnels>,
    progress: Progress,
}

impl HttpClient for Routes {
    fn http_connector(
        &self,
        settings: &HttpConnectorSettings,
        components: &RuntimeComponents,
    ) -> SharedHttpConnector {
        let direct = self.direct.http_connector(settings, components);
        let connector = match &self.proxied {
            None => direct,
            Some(proxied) => SharedHttpConnector::new(Fork::new(
                direct,
                proxied.http_connector(settings, components),
                self.tunnels.as_ref(),
                settings,
            )),
        };
        body::watched_connector(connector, &self.progress)
    }
}
