//! What commands that use the remote have in common: opening it, showing how far they are, and saying what to do about
//! failures.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kache_core::config::{Backend, Remote, Settings};
use kache_core::quantity::format_size;
use kache_service::remote::Fault;
use kache_service::setup::{self, Level, SetupError};
use kache_service::transfer::TransferError;
use kache_store::Store;

use crate::error::CliError;
use crate::ui::Ui;

/// Shortest time between two redrawings of a bar.
const REDRAW: Duration = Duration::from_millis(80);
const BAR_WIDTH: usize = 24;
/// Where there is no terminal, every so many percent are a line.
const LINE_EVERY_PERCENT: usize = 25;

/// The remotes that are configured, nearest first; an error that says how to configure one where there is none.
pub async fn open(settings: &Settings, store: &Arc<Store>) -> Result<Vec<Level>, CliError> {
    let levels = setup::connect(settings, store).await?;
    match levels.len() {
        1.. => Ok(levels),
        0 if *settings.local_only => Err(CliError::usage("there is no remote: `local_only` is set")
            .hint("unset KACHE_LOCAL_ONLY or `cache.local_only`")),
        0 => Err(CliError::usage("no remote is configured").hint(
            "put `[cache.remote]` with `type = \"s3\"` or \"gcs\" and `bucket = \"…\"` (or \"azure\" and `container`, \
             \"file\" and `path`, \"http\" and `url`, or \"gha\") into ~/.config/kache/config.toml, or set \
             KACHE_S3_BUCKET, KACHE_GCS_BUCKET, KACHE_AZURE_CONTAINER, KACHE_REMOTE_PATH or KACHE_REMOTE_URL",
        )),
    }
}

impl From<SetupError> for CliError {
    fn from(error: SetupError) -> Self {
        Self::usage("the remote's settings can't be used").because(&error)
    }
}

/// What a person can do about a failure.
pub fn hint(error: &TransferError, remote: &Remote) -> Option<String> {
    if let TransferError::Refused { name, .. } = error {
        if name.contains("/_manifests/") {
            return Some("it stays unused; the next `kache save-manifest` replaces it".to_owned());
        }
        return Some("it stays unused; the next push of that entry from this machine replaces it".to_owned());
    }
    if matches!(error, TransferError::Stalled(_)) {
        let what = "what was done stays; run it again to go on, or give it longer with \
                    `cache.remote.stall_timeout_secs` (KACHE_S3_STALL_TIMEOUT)";
        return Some(what.to_owned());
    }
    hint_for(error.fault()?, &remote.backend)
}

/// What a person can do about trouble with the remote.
pub fn hint_for(fault: Fault, backend: &Backend) -> Option<String> {
    let setting = backend.setting();
    let of_cloud = hint_for_cloud(fault, backend);
    if of_cloud.is_some() {
        return of_cloud;
    }
    Some(match (fault, backend) {
        (Fault::NoBucket, Backend::S3(_)) => format!(
            "create the bucket, or correct {setting}; `cache.remote.endpoint` (KACHE_S3_ENDPOINT) doesn't have it in its path"
        ),
        (Fault::Full, Backend::S3(_)) => {
            "raise the bucket's quota, or have the server remove old objects (a lifecycle rule); pulls go on".to_owned()
        }
        (Fault::Full, _) => format!("make room where {setting} leads, or raise the quota there; pulls go on"),
        (Fault::NoBucket, _) => format!("make the folder, mount what it is on, or correct {setting}"),
        (Fault::Denied, Backend::S3(_)) => "the policy must allow s3:GetObject and s3:ListBucket, and for pushing \
                                            s3:PutObject, below {prefix}/v3/ and {prefix}/_manifests/"
            .to_owned(),
        (Fault::Denied, Backend::File(_)) => {
            "this user must be allowed to read what is in the folder, and for pushing to write; where several share it, \
             give it a group and the mode 2775"
                .to_owned()
        }
        (Fault::Denied, Backend::Http(_)) => {
            "the server must allow GET and HEAD, and for pushing PUT, below the address".to_owned()
        }
        (Fault::Credentials, Backend::Http(_)) => {
            "set KACHE_REMOTE_TOKEN, or KACHE_REMOTE_USER and KACHE_REMOTE_PASSWORD, to what the server accepts".to_owned()
        }
        (Fault::Credentials, _) => {
            "sign in again if they have expired, else correct the key, the profile or the role; `kache doctor` shows \
             which are used"
                .to_owned()
        }
        (Fault::ClockSkew, _) => "set this machine's clock: requests are only valid for some minutes".to_owned(),
        (Fault::WrongRegion, Backend::S3(_)) => {
            "set `cache.remote.region` (KACHE_S3_REGION) to the bucket's region".to_owned()
        }
        (Fault::WrongRegion, _) => format!("set {setting} to where the server sends; kache follows no redirections"),
        (Fault::Certificate, _) => "add the authority that signed the server's certificate to the system's, or name its \
                                    file in SSL_CERT_FILE"
            .to_owned(),
        (Fault::Throttled, _) => {
            "run it again later, or lower `cache.s3_concurrency` (KACHE_S3_CONCURRENCY)".to_owned()
        }
        (Fault::Unreachable | Fault::Unavailable, Backend::S3(_)) => {
            "check `cache.remote.endpoint` (KACHE_S3_ENDPOINT) and the network".to_owned()
        }
        (Fault::Unreachable | Fault::Unavailable, Backend::File(_)) => {
            format!("check {setting} and the file system that it is on: its space, its connection")
        }
        (Fault::Unreachable | Fault::Unavailable, Backend::Http(_) | Backend::Gha(_)) => {
            format!("check {setting} and the network")
        }
        (Fault::Unsupported, Backend::Http(_)) => "the server takes no such requests: `kache doctor` shows which it \
                                                   takes; KACHE_READ_ONLY=1 only reads"
            .to_owned(),
        (Fault::Denied | Fault::Unreachable | Fault::Unavailable, Backend::Gcs(_) | Backend::Azure(_))
        | (Fault::Denied, Backend::Gha(_))
        | (Fault::NotFound | Fault::Protocol | Fault::Unsupported | Fault::TooLarge | Fault::Local, _) => {
            return None;
        }
    })
}

/// The same where clouds and GitHub's service have their own settings and rights.
fn hint_for_cloud(fault: Fault, backend: &Backend) -> Option<String> {
    let setting = backend.setting();
    Some(match (fault, backend) {
        (Fault::NoBucket, Backend::Gcs(_)) => format!("create the bucket, or correct {setting}"),
        (Fault::NoBucket, Backend::Azure(_)) => {
            format!("create the container, or correct {setting} or `cache.remote.account` (KACHE_AZURE_ACCOUNT)")
        }
        (Fault::Denied, Backend::Gcs(_)) => {
            "the account needs the role Storage Object User on the bucket, for pulling alone Storage Object Viewer"
                .to_owned()
        }
        (Fault::Denied, Backend::Azure(_)) => {
            "a shared access signature needs the permissions `rl`, and for pushing `wc`, for the container and its objects"
                .to_owned()
        }
        (Fault::Denied, Backend::Gha(_)) => {
            "jobs for pull requests from forks, and with `permissions` that exclude it, may not write: KACHE_READ_ONLY=1 only \
             reads"
                .to_owned()
        }
        (Fault::Credentials, Backend::Gcs(_)) => {
            "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or run `gcloud auth application-default login`"
                .to_owned()
        }
        (Fault::Credentials, Backend::Azure(_)) => {
            "set AZURE_STORAGE_KEY, AZURE_STORAGE_SAS_TOKEN or AZURE_STORAGE_CONNECTION_STRING to what the account accepts"
                .to_owned()
        }
        (Fault::Credentials, Backend::Gha(_)) => {
            "ACTIONS_RUNTIME_TOKEN is valid for the job that has it: hand it to this step again".to_owned()
        }
        (Fault::Unreachable | Fault::Unavailable, Backend::Gcs(_)) => {
            "check `cache.remote.endpoint` (KACHE_GCS_ENDPOINT) and the network".to_owned()
        }
        (Fault::Unreachable | Fault::Unavailable, Backend::Azure(_)) => {
            "check `cache.remote.account` (KACHE_AZURE_ACCOUNT), `cache.remote.endpoint` (KACHE_AZURE_ENDPOINT) and the network"
                .to_owned()
        }
        _ => return None,
    })
}

/// A failed transfer as an error of the command.
pub fn failure(what: &str, error: &TransferError, remote: &Remote) -> CliError {
    let failure = CliError::failure(what).because(error);
    match hint(error, remote) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// How far a row of transfers is: a bar on a terminal, now and then a line elsewhere.
pub struct Meter<'u> {
    ui: &'u Ui,
    what: &'static str,
    total: usize,
    done: usize,
    bytes: u64,
    started: Instant,
    drawn: Option<Instant>,
    told_percent: usize,
    is_terminal: bool,
}

impl<'u> Meter<'u> {
    /// Begins with nothing of `total` done.
    pub fn new(ui: &'u Ui, what: &'static str, total: usize) -> Self {
        let is_terminal = std::io::stderr().is_terminal();
        let started = Instant::now();
        Self { ui, what, total, done: 0, bytes: 0, started, drawn: None, told_percent: 0, is_terminal }
    }

    /// One more is done, after so many bytes.
    pub fn step(&mut self, bytes: u64) {
        self.done += 1;
        self.bytes += bytes;
        if self.is_terminal {
            if self.done == self.total || self.drawn.is_none_or(|at| at.elapsed() >= REDRAW) {
                self.drawn = Some(Instant::now());
                self.ui.progress(&self.bar());
            }
            return;
        }
        let percent = self.done * 100 / self.total.max(1);
        if percent >= self.told_percent + LINE_EVERY_PERCENT && self.done < self.total {
            self.told_percent = percent - percent % LINE_EVERY_PERCENT;
            let moved = self.moved().map(|moved| format!(", {moved}")).unwrap_or_default();
            self.ui.status(&format!("{}: {} of {}{moved}", self.what, self.done, self.total));
        }
    }

    pub fn end(self) {
        if self.is_terminal {
            self.ui.progress("");
        }
    }

    fn bar(&self) -> String {
        let filled = self.done * BAR_WIDTH / self.total.max(1);
        let bar = format!("{}{}", "#".repeat(filled), "-".repeat(BAR_WIDTH - filled.min(BAR_WIDTH)));
        let rate = self.bytes as f64 / self.started.elapsed().as_secs_f64().max(0.001);
        let moved = self.moved().map(|moved| format!(", {moved}, {}/s", format_size(rate as u64)));
        format!("{} [{bar}] {}/{}{}", self.what, self.done, self.total, moved.unwrap_or_default())
    }

    /// What was moved so far; listings and comparisons move nothing.
    fn moved(&self) -> Option<String> {
        (self.bytes > 0).then(|| format_size(self.bytes))
    }
}
