//! `kache serve`: the store over HTTP, for reading, until it is told to end. What is served is decided in the service
//! crate.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;

use kache_core::quantity::{QuantityError, parse_size};
use kache_service::daemon::signalled;
use kache_service::serve::{self, CONNECTIONS_MAX, Limits, Objects};
use kache_service::setup::{block_on, serving_policy};
use kache_store::Store;
use serde_json::json;

use super::settings;
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Let other machines and containers read the store over HTTP
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache serve                                   for containers that share this machine's network
  kache serve --listen 192.168.1.7:8271         for the network behind that address
  kache serve --listen 127.0.0.1:0 --json       on a port of the system's choice
  KACHE_REMOTE_URL=http://192.168.1.7:8271 KACHE_READ_ONLY=1 cargo build      on the other side

Every request is answered from the store as it is then. Entries that depend on a credential, or came from elsewhere \
unsigned where keys are in use, stay here. With a signing key (`cache.remote.signing_key`, or --signing-key) what is \
served is signed: the other side names the public key in `cache.remote.trusted_keys` and need not trust the network. \
Any program that reaches the address can read every entry. It runs until SIGINT or SIGTERM.")]
pub struct Args {
    /// Address and port; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8271")]
    listen: SocketAddr,
    /// Connections at a time; others wait
    #[arg(long, value_name = "COUNT", default_value_t = CONNECTIONS_MAX, value_parser = at_least_one)]
    connections: usize,
    /// Disk space for packed entries that may be asked for again
    #[arg(long, value_name = "SIZE", default_value = "1GiB", value_parser = size)]
    packs: u64,
    /// File with the private key to sign with, in place of `cache.remote.signing_key`
    #[arg(long, value_name = "PATH")]
    signing_key: Option<PathBuf>,
    /// Print the address as JSON
    #[arg(long)]
    json: bool,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("{text:?} is no number from 1 on"))
}

fn size(text: &str) -> Result<u64, QuantityError> {
    parse_size(text)
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = Store::open(settings.cache_dir()?)?;
    let store = Arc::new(store.leaving_free(settings.free_bytes_min.as_deref().copied()));
    let policy = serving_policy(&settings, args.signing_key.as_deref())?;
    if policy.trust.is_mute() {
        return Err(CliError::usage(
            "only signed entries are trusted here, and there is no key to sign with",
        )
        .hint(
            "name one with --signing-key or `cache.remote.signing_key`; clients that trust keys refuse what isn't signed",
        ));
    }
    let unusable =
        |error: std::io::Error| CliError::failure(format!("can't listen at {}", args.listen)).because(&error);
    let listener = TcpListener::bind(args.listen).map_err(unusable)?;
    let address = listener.local_addr().map_err(unusable)?;
    let url = format!("http://{address}");
    if !address.ip().is_loopback() {
        ui.warn("any program that reaches this address can read every entry of the store");
    }
    let json = || format!("{}\n", json!({ "version": 1, "url": url }));
    ui.print_as(args.json, json, || format!("Serving {} at {url}\n", store.root().display()))?;
    let objects = Arc::new(Objects::new(store, policy, args.packs));
    let limits = Limits { connections_max: args.connections, ..Limits::default() };
    block_on(serve::serve(listener, objects, limits, signalled()))?.map_err(unusable)?;
    Ok(Status::Done)
}
