//! `kache version`: what `--version` says, as a command and for scripts.

use serde_json::json;

use crate::error::{Outcome, Status};
use crate::ui::Ui;

/// Print the version
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache version
  kache version --json | jq -r .kache")]
pub struct Args {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let version = env!("CARGO_PKG_VERSION");
    let json = || format!("{:#}\n", json!({ "version": 1, "kache": version }));
    ui.print_as(args.json, json, || format!("kache {version}\n"))?;
    Ok(Status::Done)
}
