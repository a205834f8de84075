//! `kache snapshot`: what the wrapper starts, detached, to record which dependencies a build has left in its target
//! directory. People never call it.

use kache_engine::seed::{Recorded, record_after};

use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Wait for a Cargo to end and record its dependencies: for the wrapper
#[derive(clap::Args)]
#[command(hide = true)]
pub struct Args {
    /// Process id and start time of the Cargo
    #[arg(long, value_name = "ID-START")]
    cargo: String,
    /// The compiler that it uses
    #[arg(long, value_name = "PATH")]
    compiler: String,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    // Which store is meant, the wrapper says through variables; nobody reads what is said here unless it was started
    // by hand.
    let (settings, _) = crate::settings::load(None)?;
    let recorded = record_after(&settings, &args.cargo, &args.compiler).map_err(CliError::failure)?;
    ui.status(&match recorded {
        Recorded::Written { units, new } => format!("Recorded {units} units, {new} of them new."),
        Recorded::Unchanged => "Nothing new to record.".to_owned(),
        Recorded::Busy => "Another Cargo is at work there; it will be recorded after it.".to_owned(),
        Recorded::Nothing => "No dependencies to record.".to_owned(),
    });
    Ok(Status::Done)
}
