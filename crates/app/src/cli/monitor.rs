//! `kache monitor`: opens the dashboard. What it shows is in `crate::monitor`.

use std::io::{self, IsTerminal};
use std::time::Duration;

use kache_store::Store;

use super::settings;
use crate::error::{CliError, Outcome, Status};
use crate::monitor;
use crate::ui::Ui;

/// Watch builds, store and transfers live
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache monitor               the last day, and what happens from now on
  kache monitor --since 7d    a week

Keys: q or Esc quit; Tab, ←→ or 1-5 page; ↑↓, j k, PgUp PgDn or Home move; f or / filter; s sort; c clear; r refresh.
Works from 40 by 12 characters on; a narrow terminal has fewer columns.")]
pub struct Args {
    /// How far back to look (30m, 24h, 7d, or bare hours)
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    since: Option<Duration>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::usage("the monitor needs a terminal")
            .hint("`kache report` and `kache stats` work without one"));
    }
    // The directory may not be there yet: the first build is what one wants to watch.
    let store = Store::open(settings.cache_dir()?)?;
    monitor::run(&store, &settings, args.since.unwrap_or(monitor::SINCE))?;
    Ok(Status::Done)
}
