//! `kache man`: manual pages, made from the command line's definition.

use std::path::PathBuf;

use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Print the manual page, or write one for each command
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache man | man -l -                         read it
  kache man --output ~/.local/share/man/man1   install kache(1), kache-stats(1) and the others")]
pub struct Args {
    /// Directory to write the pages of all commands to
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let failed = |error: std::io::Error| CliError::failure("can't make the manual page").because(&error);
    let Some(dir) = &args.output else {
        let mut page = Vec::new();
        clap_mangen::Man::new(super::command()).render(&mut page).map_err(failed)?;
        ui.print(&String::from_utf8_lossy(&page))?;
        return Ok(Status::Done);
    };
    std::fs::create_dir_all(dir).map_err(|error| CliError::file("create", dir, &error))?;
    clap_mangen::generate_to(super::command(), dir).map_err(|error| CliError::file("write", dir, &error))?;
    ui.status(&format!("Wrote the manual pages to {}.", dir.display()));
    Ok(Status::Done)
}
