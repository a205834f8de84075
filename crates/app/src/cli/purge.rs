//! `kache purge`: removes entries at once, whatever their age. A sweep with other options.

use std::time::Duration;

use kache_store::evict::{Purge, SweepOptions};

use super::{gc, open_store, settings};
use crate::error::{Outcome, Status};
use crate::ui::Ui;

/// Remove everything from the store, or one crate's entries
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache purge                        remove every entry
  kache purge --crate-name serde     remove the entries of one crate or package

Builds in other terminals go on: what they miss they compile. Files in target directories stay.")]
pub struct Args {
    /// Remove only the entries of this crate or package
    #[arg(long, value_name = "CRATE")]
    crate_name: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let Some(store) = open_store(&settings, ui)? else { return Ok(Status::Done) };
    let purge = args.crate_name.clone().map_or(Purge::Everything, Purge::Crate);
    // Whoever asks for it expects the space back now; a build that loses a blob just stored compiles once more.
    let options = SweepOptions { purge, grace: Duration::ZERO, ..SweepOptions::default() };
    gc::sweep(&store, &options, args.json, ui)
}
