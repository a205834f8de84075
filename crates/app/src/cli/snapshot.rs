//! `kache snapshot`: what the wrapper starts, detached, to record which dependencies a build has left in its target
//! directory. People never call it.

use std::path::PathBuf;

use kache_core::cargo::layout::Layout;
use kache_engine::seed::{When, record};

use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Record what a Cargo has built, once it has ended: for the wrapper
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// Process id and start time of the Cargo
    #[arg(long, value_name = "ID-START")]
    cargo: String,
    /// The compiler that it uses
    #[arg(long, value_name = "PATH")]
    compiler: String,
    /// How that Cargo arranges its build directory
    #[arg(long, value_name = "LAYOUT", value_parser = layout)]
    layout: Layout,
    /// The file that says what came of it
    #[arg(long, value_name = "FILE")]
    note: PathBuf,
    /// Don't wait for its end
    #[arg(long)]
    now: bool,
}

fn layout(word: &str) -> Result<Layout, String> {
    word.parse().map_err(|()| format!("{word} is no layout"))
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    // Which store is meant, the wrapper says through variables; nobody reads what is said here unless it was started
    // by hand.
    let (settings, _) = crate::settings::load(None)?;
    let when = if args.now { When::DuringBuild } else { When::AfterBuild };
    let recorded = record(&settings, &args.cargo, (&args.compiler, args.layout, when), &args.note)
        .map_err(CliError::failure)?;
    ui.status(&recorded.to_string());
    Ok(Status::Done)
}
