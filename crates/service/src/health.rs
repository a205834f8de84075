//! Tries the remote step by step, from the name of the server to writing an object, and stops where going on makes no
//! sense. Says what it found; words of advice belong to whoever shows it.

use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::Duration;

use kache_core::config::{AzureCredentials, Backend, HttpCredentials, Remote as Settings, S3 as Bucket};
use kache_core::remote::keys::Keys;

use crate::remote::wire::Patience;
use crate::remote::wire::route::proxy_of;
use crate::remote::{Body, Fault, Remote, RemoteError};
use crate::setup::client;

const CONNECT_WAIT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(10);
const SCRATCH: &[u8] = b"kache doctor was here\n";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Good(String),
    /// Works for reading only.
    ReadOnly(String),
    /// Works, but a missing object can't be told from a forbidden one.
    NoListing(String),
    /// Keeps the remote from working; with the kind of trouble, if it is the bucket's.
    Bad(String, Option<Fault>),
}

/// The address of the bucket's server.
fn server(settings: &Bucket) -> String {
    let by_region = || format!("https://s3.{}.amazonaws.com", settings.region.value);
    settings.endpoint.as_ref().map_or_else(by_region, |endpoint| endpoint.value.clone())
}

/// Host and port of an address.
fn host_and_port(url: &str) -> (String, u16) {
    let (port, rest) = match url.strip_prefix("http://") {
        Some(rest) => (80, rest),
        None => (443, url.strip_prefix("https://").unwrap_or(url)),
    };
    let authority = rest.split('/').next().unwrap_or_default();
    match authority.rsplit_once(':').and_then(|(host, port)| Some((host, port.parse().ok()?))) {
        Some((host, port)) => (host.trim_matches(['[', ']']).to_owned(), port),
        None => (authority.trim_matches(['[', ']']).to_owned(), port),
    }
}

/// Tries everything that the settings lead to. Whatever takes longer than a stall may is not waited for.
pub async fn examine(settings: &Settings) -> Vec<Step> {
    let mut steps = Vec::new();
    let patience = Duration::from_secs(settings.stall_timeout_s.value);
    if patience.is_zero() {
        examine_all(settings, &mut steps).await;
    } else if tokio::time::timeout(patience, examine_all(settings, &mut steps)).await.is_err() {
        let what = format!("the remote gave no more answers within {} s", patience.as_secs());
        steps.push(Step::Bad(what, Some(Fault::Unavailable)));
    }
    steps
}

async fn examine_all(settings: &Settings, steps: &mut Vec<Step>) {
    let Some(remote) = begin(settings, steps).await else { return };
    let keys = Keys::new(&settings.prefix.value);
    let sight = if remote.can_list() {
        list(&*remote, &keys, steps).await
    } else {
        let what = "there is no listing on a web server: builds are known by `kache save-manifest`";
        steps.push(Step::Good(what.to_owned()));
        Some(Sight::Clear)
    };
    if let Some(sight) = sight {
        write_and_read(&*remote, &keys, sight, steps).await;
    }
}

/// As far as it takes no request: the place, the connection, the credentials.
async fn begin(settings: &Settings, steps: &mut Vec<Step>) -> Option<Arc<dyn Remote>> {
    let address = match &settings.backend {
        Backend::S3(bucket) => Some(server(bucket)),
        Backend::Gcs(gcs) => Some(gcs.server().to_owned()),
        Backend::Azure(azure) => Some(azure.endpoint.value.clone()),
        Backend::Http(http) => Some(http.url.value.clone()),
        Backend::Gha(gha) => Some(gha.url.clone()),
        Backend::File(_) => None,
    };
    if let Some(address) = address
        && !reach(address, steps).await
    {
        return None;
    }
    steps.extend(carried(&settings.backend).map(Step::Good));
    let patience = Patience { connect: CONNECT_WAIT, silence: SILENCE, ..Patience::default() };
    let remote = match client(&settings.backend, patience).await {
        Ok(remote) => remote,
        Err(error) => {
            steps.push(Step::Bad(error.to_string(), None));
            return None;
        }
    };
    match remote.credentials().await {
        Ok(said) => {
            steps.extend(said.map(Step::Good));
            Some(remote)
        }
        Err(error) => {
            steps.push(Step::Bad(error.detail, Some(error.fault)));
            None
        }
    }
}

/// What requests carry, where the settings say it.
fn carried(backend: &Backend) -> Option<String> {
    let nothing = "requests carry no credentials";
    Some(match backend {
        Backend::Http(http) => match &http.credentials {
            None => nothing.to_owned(),
            Some(HttpCredentials::Bearer(_)) => "requests carry a token".to_owned(),
            Some(HttpCredentials::Basic(user, _)) => format!("requests carry the password of {user}"),
        },
        Backend::Azure(azure) => match &azure.credentials {
            None => nothing.to_owned(),
            Some(AzureCredentials::Key(_)) => {
                format!("requests are signed with the key of {}", azure.account.value)
            }
            Some(AzureCredentials::Sas(_)) => "requests carry a shared access signature".to_owned(),
        },
        _ => return None,
    })
}

/// Whether a missing object can be told from a forbidden one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    Clear,
    Blind,
}

/// Name and port of the server, or of the proxy before it.
async fn reach(server: String, steps: &mut Vec<Step>) -> bool {
    let proxy = proxy_of(&server);
    if let Some(proxy) = &proxy {
        steps.push(Step::Good(format!("requests go through the proxy {proxy}")));
    }
    let (host, port) = host_and_port(proxy.as_ref().unwrap_or(&server));
    let name = host.clone();
    let resolved = tokio::task::spawn_blocking(move || (name.as_str(), port).to_socket_addrs()).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let what = format!("the name {host} can't be resolved: {error}");
            steps.push(Step::Bad(what, Some(Fault::Unavailable)));
            return false;
        }
        Err(_) => return false,
    };
    let found: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    steps.push(Step::Good(format!("{host} is {}", found.join(", "))));
    let connected = tokio::task::spawn_blocking(move || {
        let mut last = None;
        for address in &addresses {
            match TcpStream::connect_timeout(address, CONNECT_WAIT) {
                Ok(_) => return Ok(*address),
                Err(error) => last = Some(error),
            }
        }
        Err(last)
    });
    match connected.await {
        Ok(Ok(address)) => {
            steps.push(Step::Good(format!("{address} accepts connections")));
            true
        }
        Ok(Err(error)) => {
            let why = error.map(|error| error.to_string()).unwrap_or_default();
            let what = format!("no connection to {host}, port {port}: {why}");
            steps.push(Step::Bad(what, Some(Fault::Unavailable)));
            false
        }
        Err(_) => false,
    }
}

async fn list(remote: &dyn Remote, keys: &Keys, steps: &mut Vec<Step>) -> Option<Sight> {
    let listed = match remote.list(&keys.manifests(), None).await {
        // It was sent elsewhere, or has read its credentials again.
        Err(error) if error.is_renewed => remote.list(&keys.manifests(), None).await,
        listed => listed,
    };
    match listed {
        Ok(page) => {
            let more = if page.next.is_some() { "more than " } else { "" };
            steps.push(Step::Good(format!("listing works: {more}{} entries", page.objects.len())));
            Some(Sight::Clear)
        }
        Err(error) if error.fault == Fault::Denied => {
            steps.push(Step::NoListing(format!("listing is not allowed: {}", error.detail)));
            Some(Sight::Blind)
        }
        Err(error) => {
            steps.push(bad(&error));
            None
        }
    }
}

async fn write_and_read(remote: &dyn Remote, keys: &Keys, sight: Sight, steps: &mut Vec<Step>) {
    let name = keys.scratch();
    let put = async {
        remote.put(&name, Body::of(SCRATCH)).await?;
        remote.flush().await
    };
    let is_written = match put.await {
        Ok(()) => {
            steps.push(Step::Good(format!("writing works: {name}")));
            true
        }
        // The second is what web servers answer that take no uploads at all.
        Err(error) if matches!(error.fault, Fault::Denied | Fault::Unsupported) => {
            steps.push(Step::ReadOnly(format!("writing is not allowed: {}", error.detail)));
            false
        }
        Err(error) => return steps.push(bad(&error)),
    };
    match remote.get(&name, 1024).await {
        Ok(bytes) if bytes == SCRATCH => steps.push(Step::Good("reading works".to_owned())),
        Ok(_) => steps.push(Step::Bad(format!("{name} has other content than was written"), None)),
        Err(error) if error.fault == Fault::NotFound => {
            steps.push(Step::Good("reading works, there is nothing to read yet".to_owned()));
        }
        Err(error) if error.fault == Fault::Denied && sight == Sight::Blind && !is_written => {
            let what = format!(
                "listing, writing and reading are all denied: nothing may be done here. Credentials that may only \
                 read can't be told from this before a machine that may write has made {name} (`kache doctor` does)"
            );
            steps.push(Step::Bad(what, Some(Fault::Denied)));
        }
        Err(error) => steps.push(bad(&error)),
    }
}

fn bad(error: &RemoteError) -> Step {
    Step::Bad(error.to_string(), Some(error.fault))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::memory::{Memory, Mischief, Request};
    use kache_core::config::{Settings as All, env};

    #[tokio::test]
    async fn a_denied_read_is_judged_by_what_else_is_allowed() {
        let denied = Mischief::Fail(Fault::Denied);
        let is_bad = |step: &Step| matches!(step, Step::Bad(..));
        let keys = Keys::new("artifacts");
        for (listing, writing, bad) in
            [("denied", "denied", true), ("", "denied", true), ("denied", "", true), ("", "", true)]
        {
            let bucket = Memory::new();
            bucket.arrange(Request::Get, "", 1, denied.clone());
            bucket.arrange(Request::List, "", u32::from(!listing.is_empty()), denied.clone());
            bucket.arrange(Request::Put, "", u32::from(!writing.is_empty()), denied.clone());
            let mut steps = Vec::new();
            let sight = list(&bucket, &keys, &mut steps).await.expect("goes on");
            write_and_read(&bucket, &keys, sight, &mut steps).await;
            assert_eq!(steps.iter().any(is_bad), bad, "{steps:?}");
        }
        // What may only be read is no trouble, once there is something to read.
        let bucket = Memory::new();
        bucket.put(&keys.scratch(), Body::of(SCRATCH)).await.expect("written");
        bucket.arrange(Request::List, "", 1, denied.clone());
        bucket.arrange(Request::Put, "", 1, denied);
        let mut steps = Vec::new();
        write_and_read(&bucket, &keys, Sight::Blind, &mut steps).await;
        assert!(!steps.iter().any(is_bad), "{steps:?}");
        {}
    }

    #[test]
    fn the_server_follows_from_endpoint_and_region() {
        for (endpoint, host, port) in [
            ("", "s3.eu-west-1.amazonaws.com", 443),
            ("https://s3.example.com", "s3.example.com", 443),
            ("http://s3.example.com/path", "s3.example.com", 80),
            ("http://127.0.0.1:9000", "127.0.0.1", 9000),
            ("http://[::1]:9000/x", "::1", 9000),
            ("https://[::1]", "::1", 443),
        ] {
            let value = |name: &str| match name {
                env::KACHE_S3_BUCKET => Some("b".into()),
                env::KACHE_S3_REGION => Some("eu-west-1".into()),
                env::KACHE_S3_ENDPOINT => Some(endpoint.into()),
                _ => None,
            };
            let (settings, _) = All::resolve(None, value).expect("settings");
            let remote = settings.remote().and_then(|remote| remote.s3()).expect("a bucket");
            assert_eq!(host_and_port(&server(remote)), (host.to_owned(), port), "{endpoint}");
        }
    }
}
