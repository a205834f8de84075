//! `kache save-manifest`: records which entries the workspace's builds used, so that another machine can pull exactly
//! those.

use std::path::PathBuf;
use std::sync::Arc;

use kache_core::config::{Remote, Settings};
use kache_core::remote::build::{Build, UNITS_MAX};
use kache_core::remote::keys::Label;
use kache_core::remote::origin;
use kache_service::setup::block_on;
use kache_store::Store;

use super::seeds;
use super::sync::build_place;
use super::workspace::{Compilers, Workspace};
use super::{now_ms, settings, transfers};
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Record what this workspace's builds used, for other machines to pull
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache sync --push && kache save-manifest     on the machine that builds first
  kache sync --pull                            on the others, with the same Cargo.lock and compiler

The latest result of each unit that builds in this workspace used is added to what is recorded in the remote, under the \
digest of Cargo.lock and the identity of the compiler: jobs that build other profiles add theirs. With a namespace it is \
also written as an object of its own, which nobody else's builds share.

Where seeding is on, what the dependencies left in target directories is saved as well, results of build scripts \
included: machines with the same CARGO_HOME pull it or have their daemon fetch it, and start with their dependencies in \
place.")]
pub struct Args {
    /// Name of the build manifest; the host's target triple when not given
    #[arg(long, value_name = "KEY")]
    manifest_key: Option<Label>,
    /// Namespace for a shard of its own
    #[arg(long, value_name = "NAME")]
    namespace: Option<Label>,
    /// Cargo.toml of the workspace, in place of the current directory's
    #[arg(long, value_name = "PATH")]
    manifest_path: Option<PathBuf>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = Arc::new(Store::open(settings.cache_dir()?)?);
    block_on(async { save(args, &settings, &store, ui).await })?
}

async fn save(args: &Args, settings: &Settings, store: &Arc<Store>, ui: &Ui) -> Outcome {
    let levels = transfers::open(settings, store).await?;
    if let Some(why) = settings.remote().and_then(Remote::why_read_only) {
        ui.status(&format!("Nothing is saved: {why}."));
        return Ok(Status::Done);
    }
    let workspace = Workspace::find(args.manifest_path.as_deref())?;
    let compilers = Compilers::identify(store, &workspace.root)?;
    // A shard is named by the lockfile.
    let namespace = args.namespace.as_ref().filter(|_| workspace.lockfile.is_some());
    if args.namespace.is_some() && namespace.is_none() {
        ui.warn("there is no Cargo.lock, so no shard is written");
    }
    let place = build_place(args.manifest_key.as_ref(), namespace, &compilers)?;
    let mut units = workspace.used(store, |target, compiler| compilers.accept(target, compiler));
    // A key that follows from a credential is for nobody else to see, and leads nowhere.
    let listed = settings.remote().map_or(&[][..], |remote| &remote.secret_env.value);
    units.retain(|unit| {
        let evidence = store.evidence(&unit.entry_key).ok().flatten();
        evidence.is_some_and(|evidence| origin::secret(&evidence, listed).is_none())
    });
    if units.is_empty() {
        return Err(CliError::failure("no build of this workspace with this compiler is known here")
            .hint("build with kache first"));
    }
    if units.len() > UNITS_MAX {
        return Err(CliError::failure(format!("{} units are too many for one manifest", units.len())));
    }
    let count = units.len();
    let build = Build {
        lockfile: workspace.lock_digest(),
        toolchain: compilers.id(),
        saved_s: now_ms() / 1000,
        units,
    };
    let about = seeds::about(settings, &place, &workspace, &compilers);
    let concurrency = usize::try_from(*settings.s3_concurrency).unwrap_or(16);
    let mut failed = None;
    // One that fails doesn't keep it from the others.
    for level in levels.iter().filter(|level| !level.remote.read_only.value) {
        let saved = async {
            let saved = level.transfer.save_build(&place, &build).await;
            let names = saved.map_err(|error| {
                transfers::failure("the build manifest can't be saved", &error, &level.remote)
            })?;
            for name in names {
                let noun = if count == 1 { "unit" } else { "units" };
                ui.status(&format!("Saved {count} {noun} as {name}."));
            }
            match &about {
                Some(about) => seeds::save(level, concurrency, about, ui).await,
                None => Ok(()),
            }
        };
        if let Err(error) = saved.await
            && let Some(earlier) = failed.replace(error)
        {
            earlier.present(ui);
        }
    }
    failed.map_or(Ok(Status::Done), Err)
}
