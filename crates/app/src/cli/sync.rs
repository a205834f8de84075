//! `kache sync`: transfers entries between the store and the remote, without a daemon. What to transfer is decided
//! here, how it travels in `kache_service`.

mod pull;
mod push;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use kache_core::config::{Remote, Settings};
use kache_core::key::EntryKey;
use kache_core::quantity::format_size;
use kache_core::remote::keys::Label;
use kache_core::remote::shared::About;
use kache_service::remote::Fault;
use kache_service::setup::{Level, block_on};
use kache_service::sync;
use kache_service::transfer::{BuildPlace, TransferError};
use kache_store::Store;
use serde::Serialize;
use serde_json::json;

use super::workspace::{Compilers, Workspace};
use super::{seeds, transfers};
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Transfer entries between the store and the remote
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache sync                   pull what this workspace needs, push what its builds made
  kache sync --pull            on a fresh machine, before `cargo build`
  kache sync --push            after a build
  kache sync --pull --all      everything that the remote has
  kache sync --dry-run         counts and sizes only
  kache sync --pull --json     counts for scripts

A pull takes what `kache save-manifest` recorded for this Cargo.lock and compiler; without that it lists the manifests \
of each package in Cargo.lock. Entries of other compilers or versions are left where they are. Where seeding is on, \
what `save-manifest` saved of the dependencies comes, too, but not with `--all`: in a fresh target directory they are then \
in place, and Cargo runs neither compilers nor build scripts for them. That takes the same CARGO_HOME, and the sources \
(`cargo fetch --locked`). Run it again to go on after a failure. Exit code 1 when a transfer failed.")]
pub struct Args {
    /// Only from the remote into the store
    #[arg(long)]
    pull: bool,
    /// Only from the store to the remote
    #[arg(long)]
    push: bool,
    /// Everything, not only what this workspace needs
    #[arg(long)]
    all: bool,
    /// Show what would be transferred, and transfer nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print what was transferred as JSON
    #[arg(long)]
    json: bool,
    /// Cargo.toml of the workspace, in place of the current directory's
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
    /// Build manifest to pull from; the host's target triple when not given
    #[arg(long, value_name = "KEY")]
    manifest_key: Option<Label>,
    /// Namespace of the build manifest's shards
    #[arg(long, value_name = "NAME")]
    namespace: Option<Label>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Really,
    DryRun,
}

struct Sync<'a> {
    /// The remote that it is about.
    level: Level,
    settings: &'a Settings,
    store: &'a Store,
    /// The workspace and its compilers; `None` for everything.
    scope: Option<(Workspace, Compilers<'a>)>,
    concurrency: usize,
    mode: Mode,
    ui: &'a Ui,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = super::settings(ui)?;
    let store = Arc::new(Store::open(settings.cache_dir()?)?);
    block_on(async { run_async(args, &settings, &store, ui).await })?
}

async fn run_async(args: &Args, settings: &Settings, store: &Arc<Store>, ui: &Ui) -> Outcome {
    let levels = transfers::open(settings, store).await?;
    let scope = if args.all {
        None
    } else {
        let workspace = Workspace::find(args.manifest_path.as_deref())?;
        let compilers = Compilers::identify(store, &workspace.root)?;
        Some((workspace, compilers))
    };
    let concurrency = usize::try_from(*settings.s3_concurrency).unwrap_or(16);
    let mode = if args.dry_run { Mode::DryRun } else { Mode::Really };
    let there = settings.remote().map(Remote::describe).unwrap_or_default();
    let mut sync = Sync { level: levels[0].clone(), settings, store, scope, concurrency, mode, ui };
    let both = args.pull == args.push;
    let mut trouble = Trouble::default();
    let (mut pulled, mut pushed) = (None, None);
    if both || args.pull {
        pulled = Some(pull_all(&mut sync, &levels, args, &mut trouble).await?);
    }
    let read_only = settings.remote().and_then(Remote::why_read_only).filter(|_| both || args.push);
    if let Some(why) = &read_only {
        ui.status(&format!("Nothing is pushed: {why}."));
    }
    for level in levels.iter().filter(|level| (both || args.push) && !level.remote.read_only.value) {
        if !trouble.is_over_at(&level.remote) {
            sync.level = level.clone();
            let done = push::run(&sync).await?;
            trouble.join(done.trouble, &level.remote);
            pushed.get_or_insert_with(Moved::default).add(done.moved);
        }
    }
    if levels.iter().any(|level| level.transfer.is_blind()) {
        ui.warn(
            "the remote denies access instead of saying that an object is missing; that counts as a miss \
             (in a bucket, s3:ListBucket makes the difference visible)",
        );
    }
    if args.json {
        let value = json!({
            "version": 1,
            "remote": there,
            "dry_run": args.dry_run,
            "read_only": read_only,
            "pull": pulled,
            "push": pushed,
            "failed": trouble.failed,
            "not_begun": trouble.not_begun,
        });
        ui.print_json(&format!("{value:#}\n"))?;
    }
    trouble.into_outcome()
}

/// Pulls from each level what the nearer ones didn't have, and puts it there.
async fn pull_all(
    sync: &mut Sync<'_>,
    levels: &[Level],
    args: &Args,
    trouble: &mut Trouble,
) -> Result<Moved, CliError> {
    let place = sync.place(args)?;
    let mut moved = Moved::default();
    if levels.iter().all(|level| level.remote.write_only.value) {
        sync.ui.status("Nothing is pulled: `write_only` is set.");
    }
    for (i, level) in levels.iter().enumerate().filter(|(_, level)| !level.remote.write_only.value) {
        sync.level = level.clone();
        let done = pull::run(sync, place.as_ref()).await?;
        trouble.join(done.trouble, &level.remote);
        moved.add(done.moved);
        for nearer in levels[..i].iter().filter(|nearer| !nearer.remote.read_only.value) {
            if !done.keys.is_empty() && !trouble.is_over_at(&nearer.remote) {
                sync.level = nearer.clone();
                let filled = push::these(sync, done.keys.clone()).await?;
                trouble.join(filled.trouble, &nearer.remote);
            }
        }
    }
    Ok(moved)
}

#[derive(Default)]
struct Done {
    trouble: Trouble,
    moved: Moved,
    keys: Vec<EntryKey>,
}

/// What was transferred, or would be.
#[derive(Debug, Default, Serialize)]
struct Moved {
    entries: usize,
    /// Bytes that went over the network for them.
    bytes: u64,
    known: usize,
    /// Entries that a saved build names and the remote doesn't have.
    absent: usize,
    /// Units of dependencies that a fresh target directory will have in place before Cargo looks.
    snapshot_units: usize,
    /// Entries that stay on this machine, by the reason.
    kept: BTreeMap<String, usize>,
}

impl Moved {
    fn add(&mut self, other: Self) {
        self.entries += other.entries;
        self.bytes += other.bytes;
        self.known += other.known;
        self.absent += other.absent;
        self.snapshot_units += other.snapshot_units;
        for (why, count) in other.kept {
            *self.kept.entry(why).or_default() += count;
        }
    }
}

impl Sync<'_> {
    /// The remote in a few words.
    fn there(&self) -> String {
        self.level.remote.describe()
    }

    fn place(&self, args: &Args) -> Result<Option<BuildPlace>, CliError> {
        let Some((_, compilers)) = &self.scope else { return Ok(None) };
        build_place(args.manifest_key.as_ref(), args.namespace.as_ref(), compilers).map(Some)
    }

    /// What the snapshots of the build manifest at `place` are about.
    fn about(&self, place: Option<&BuildPlace>) -> Option<About> {
        let (workspace, compilers) = self.scope.as_ref()?;
        seeds::about(self.settings, place?, workspace, compilers)
    }
}

/// A build manifest by its key, or that of the host.
pub(super) fn build_place(
    manifest_key: Option<&Label>,
    namespace: Option<&Label>,
    compilers: &Compilers<'_>,
) -> Result<BuildPlace, CliError> {
    let manifest_key = match manifest_key {
        Some(key) => key.clone(),
        None => compilers.host().parse().map_err(|error| {
            CliError::failure("the compiler's host triple can't name an object").because(&error)
        })?,
    };
    Ok(BuildPlace { manifest_key, namespace: namespace.cloned() })
}

#[derive(Default)]
struct Trouble {
    failed: usize,
    not_begun: usize,
    first: Option<TransferError>,
    is_over: bool,
    /// The remotes with which nothing more can be done, and the one of the first failure.
    over_at: Vec<Remote>,
    first_at: Option<Remote>,
}

impl Trouble {
    /// Counts a failure, and shows it unless there were many, or the command ends with it anyway.
    fn add(&mut self, ui: &Ui, error: TransferError) {
        const SHOWN_MAX: usize = 20;
        self.failed += 1;
        let is_lasting = sync::is_lasting(&error);
        // Every further request would end like the first, which the command ends with.
        let is_known = is_lasting && self.first.as_ref().is_none_or(sync::is_lasting);
        self.is_over |= is_lasting && error.fault() != Some(Fault::Denied);
        if self.failed <= SHOWN_MAX && !is_known {
            ui.warn(&error.to_string());
        }
        self.first.get_or_insert(error);
    }

    fn skip(&mut self) {
        self.not_begun += 1;
        self.is_over = true;
    }

    /// Adds what went wrong with a remote.
    fn join(&mut self, other: Self, at: &Remote) {
        self.failed += other.failed;
        self.not_begun += other.not_begun;
        if other.is_over {
            self.over_at.push(at.clone());
        }
        if self.first.is_none() {
            self.first_at = other.first.as_ref().map(|_| at.clone());
            self.first = other.first;
        }
    }

    fn is_over_at(&self, remote: &Remote) -> bool {
        self.over_at.contains(remote)
    }

    fn into_outcome(self) -> Outcome {
        let (Some(first), Some(remote)) = (self.first, self.first_at) else { return Ok(Status::Done) };
        let mut what = match self.failed {
            1 => "one transfer failed".to_owned(),
            failed => format!("{failed} transfers failed"),
        };
        if self.not_begun > 0 {
            what.push_str(&format!(", {} were not begun", self.not_begun));
        }
        Err(transfers::failure(&what, &first, &remote))
    }
}

/// `3 entries`.
fn entries(count: usize) -> String {
    if count == 1 { "1 entry".to_owned() } else { format!("{count} entries") }
}

/// `3 entries`, with their size.
fn counted(count: usize, bytes: u64) -> String {
    format!("{} ({})", entries(count), format_size(bytes))
}
