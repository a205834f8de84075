//! `kache completions`: a script for the user's shell. The script asks this program what fits, so that it knows the
//! crates that the store has, and never grows old.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::process::ExitCode;

use clap_complete::Shell;
use clap_complete::engine::CompletionCandidate;
use clap_complete::env::Shells;
use kache_core::config::env;
use kache_store::Store;

use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Print a completion script for a shell
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache completions bash > ~/.local/share/bash-completion/completions/kache
  kache completions zsh  > ~/.zfunc/_kache        # with ~/.zfunc in $fpath
  kache completions fish > ~/.config/fish/completions/kache.fish

The script asks `kache` for what fits: commands, options, and names of crates where one is expected.")]
pub struct Args {
    /// The shell
    shell: Shell,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    ui.print(&String::from_utf8_lossy(&script(args.shell)?))?;
    Ok(Status::Done)
}

pub fn script(shell: Shell) -> Result<Vec<u8>, CliError> {
    let mut script = Vec::new();
    Shells::builtins()
        .completer(&shell.to_string())
        .ok_or_else(|| CliError::usage(format!("there are no completions for {shell}")))?
        .write_registration(env::COMPLETE, "kache", "kache", "kache", &mut script)
        .map_err(|error| CliError::failure("can't make the completion script").because(&error))?;
    Ok(script)
}

/// Answers a completion script: it calls `kache -- WORDS` with its shell in a variable. `None` for every other call.
pub fn answer(args: &[OsString]) -> Option<ExitCode> {
    let (first, words) = args.split_first()?;
    let shell = std::env::var(env::COMPLETE).ok().filter(|_| first == "--" && !words.is_empty())?;
    let mut fitting = Vec::new();
    let cwd = std::env::current_dir().ok();
    let answered = Shells::builtins().completer(&shell).map(|completer| {
        completer.write_complete(&mut super::command(), words.to_vec(), cwd.as_deref(), &mut fitting)
    });
    // A shell that gets no answer completes nothing, which is all that can be said in the middle of a command line.
    let is_done =
        answered.is_some_and(|result| result.is_ok() && std::io::stdout().write_all(&fitting).is_ok());
    Some(if is_done { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The crates whose names begin with what was typed.
pub fn crates(typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let dir = crate::settings::load(std::env::current_dir().ok().as_deref())
        .ok()
        .and_then(|(settings, _)| Store::open_existing(settings.cache_dir().ok()?).ok());
    let names = crate_names(dir.as_ref()).into_iter();
    names.filter(|name| name.starts_with(&*typed)).map(CompletionCandidate::new).collect()
}

/// Names of the crates that the journal tells about, in order. Build scripts go by their package.
pub fn crate_names(store: Option<&Store>) -> Vec<String> {
    let Some(store) = store else { return Vec::new() };
    let name = |event: &kache_core::event::Glimpse<'_>| {
        let is_script = event.kind == "build-script" || event.crate_name == "?" || event.crate_name == "-";
        let name = if is_script { &event.package } else { &event.crate_name };
        (!name.is_empty()).then(|| name.clone().into_owned())
    };
    let mut names: BTreeSet<String> =
        store.index_journal(name).found.into_iter().map(|(name, _)| name).collect();
    names.retain(|name| !name.contains(char::is_control));
    names.into_iter().collect()
}
