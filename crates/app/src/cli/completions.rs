//! `kache completions`: a script for the user's shell, made from the command line's definition.

use clap_complete::Shell;

use crate::error::{Outcome, Status};
use crate::ui::Ui;

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache completions bash > ~/.local/share/bash-completion/completions/kache
  kache completions zsh  > ~/.zfunc/_kache        # with ~/.zfunc in $fpath
  kache completions fish > ~/.config/fish/completions/kache.fish")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    ui.print(&String::from_utf8_lossy(&script(args.shell)))?;
    Ok(Status::Done)
}

/// The script for a shell.
pub fn script(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::command(), "kache", &mut script);
    script
}
