//! `kache purge`: removes entries at once, whatever their age, when the user says so. A sweep with other options.

use std::io::{self, IsTerminal};
use std::time::Duration;

use clap_complete::ArgValueCompleter;
use kache_core::protocol::Request;
use kache_core::quantity::format_size;
use kache_engine::daemon_client;
use kache_store::evict::{Purge, SweepOptions};

use super::{completions, gc, open_store, settings, unknown_crate};
use crate::error::{CliError, Outcome, Status};
use crate::health::PATIENCE;
use crate::ui::Ui;

/// Remove everything from the store, or one crate's entries
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache purge                        ask, then remove every entry
  kache purge --dry-run              show what would go, and remove nothing
  kache purge -y --crate-name serde  remove the entries of one crate or package without asking

Builds in other terminals go on: what they miss they compile. Files in target directories stay.")]
pub struct Args {
    /// Remove only the entries of this crate or package
    #[arg(long, value_name = "CRATE", value_parser = super::crate_name, add = ArgValueCompleter::new(completions::crates))]
    crate_name: Option<String>,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Remove without asking
    #[arg(short, long, conflicts_with = "dry_run")]
    yes: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let unknown = |store, name: &str| unknown_crate(store, name, "the store has no entry of");
    let Some(store) = open_store(&settings, ui)? else {
        return args.crate_name.as_deref().map_or(Ok(Status::Done), |name| Err(unknown(None, name)));
    };
    let purge = args.crate_name.clone().map_or(Purge::Everything, Purge::Crate);
    // Whoever asks for it expects the space back now; a build that loses a blob just stored compiles once more.
    let options = SweepOptions { purge, grace: Duration::ZERO, ..SweepOptions::default() };
    let plan = store.plan_sweep(&options)?;
    if let (Some(name), true) = (&args.crate_name, plan.entries.is_empty()) {
        return Err(unknown(Some(&store), name));
    }
    if args.dry_run {
        return gc::show(&plan, &options, args.json, ui);
    }
    if !args.yes {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return Err(CliError::usage("there is nobody to ask: this is not a terminal").hint(
                "`kache purge -y` removes without asking, `kache purge --dry-run` only shows what would go",
            ));
        }
        let (entries, size) = (plan.entries.len(), format_size(plan.freed_bytes()));
        let what = args.crate_name.as_ref().map_or_else(String::new, |name| format!(" of {name}"));
        if !ui.confirm(&format!("Remove {entries} entries{what} ({size}) from {}?", store.root().display())) {
            ui.status("Nothing was removed.");
            return Ok(Status::Done);
        }
    }
    let outcome = gc::sweep(&store, &options, args.json, ui)?;
    // A running daemon remembers for two minutes which records it brought; they are gone.
    if let Err(trouble) = daemon_client::ask(&store, &Request::Forget, PATIENCE) {
        tracing::debug!(%trouble, "no daemon was told");
    }
    Ok(outcome)
}
