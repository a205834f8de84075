//! The S3 client against a server in the test's own process: what goes over the wire, what comes back, and what each
//! kind of trouble is called.

mod faults;
mod wire;

use kache_core::config::{S3 as Bucket, Settings};
use kache_service::remote::s3::S3 as Client;
use kache_testkit::S3;

/// Settings of a remote from variables.
fn remote(env: &[(&str, String)]) -> Bucket {
    let read = |name: &str| env.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.into());
    let (settings, _) = Settings::resolve(None, read).expect("settings");
    settings.remote().and_then(|remote| remote.s3()).expect("a bucket").clone()
}

/// A client of the server.
async fn client(server: &S3) -> Client {
    Client::connect(&remote(&server.env())).await
}
