//! `kache init`: makes kache the compiler wrapper in the user's Cargo configuration. Shows the change, asks, writes;
//! what the change is, is decided in `edit`.

mod completions;
mod edit;

use std::ffi::OsStr;
use std::io::{self, IsTerminal};

use clap_complete::Shell;
use kache_core::config::{Kind, Origin};

use super::{current_dir, diff};
use crate::cargo_config::{CargoConfig, WrapperPlace, WrapperSetting, is_me, is_named};
use crate::error::{CliError, Outcome, Status};
use crate::replace::replace_file;
use crate::ui::{Style, Ui};
use completions::Touching;

/// Use kache for every build: sets `build.rustc-wrapper` in Cargo's configuration
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache init            show the change, ask, make it
  kache init -y         make it without asking
  kache init --check    only show it; exit code 3 when there is something to change
  kache init -y --completions=zsh
  kache init -y --clean

The file is `config.toml` in $CARGO_HOME (else ~/.cargo). Comments, order and formatting of the file are kept. \
Running it again changes nothing. To undo it, remove the line `rustc-wrapper`.")]
pub struct Args {
    /// Make the change without asking
    #[arg(short, long)]
    yes: bool,
    /// Only set up Cargo; install no background service
    ///
    /// The service transfers to and from the remote. Where no remote is configured none is installed anyway.
    #[arg(long)]
    no_service: bool,
    /// Show the change and touch nothing
    #[arg(long, conflicts_with = "yes")]
    check: bool,
    /// Also have target directories cleaned after builds (`clean.auto`), without asking
    #[arg(long, conflicts_with = "check")]
    clean: bool,
    /// Also install completions, for the shell in use or the one that is named
    #[arg(long, value_name = "SHELL", num_args = 0..=1, require_equals = true)]
    completions: Option<Option<Shell>>,
}

impl Args {
    /// Making the change without asking, and nothing else.
    pub fn unasked() -> Self {
        Self { yes: true, no_service: true, check: false, clean: false, completions: None }
    }
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let wrapper = set_wrapper(args, ui)?;
    let touching = if args.check { Touching::Check } else { Touching::Write };
    let completions = match args.completions {
        Some(shell) => completions::install(shell, touching, ui)?,
        None => Status::Done,
    };
    // Without a clear yes to the wrapper there is no yes to anything else.
    if wrapper != Wrapper::Declined {
        if !args.no_service {
            service(args, ui)?;
        }
        if !args.check {
            cleaning(args, ui)?;
        }
    }
    Ok(if wrapper == Wrapper::ToDo { Status::Found } else { completions })
}

/// Switches the cleaning of target directories on where the user wants it, and no setting says anything about it yet.
fn cleaning(args: &Args, ui: &Ui) -> Outcome {
    const QUESTION: &str = "Clean target directories after builds? What goes comes back without a compile: of projects \
                            that are gone, and what no build has used for 30 days.";
    let may_ask = !args.yes && io::stdin().is_terminal();
    if super::settings(ui)?.clean.auto.origin != Origin::Default
        || !(args.clean || (may_ask && ui.confirm(QUESTION)))
    {
        return Ok(Status::Done);
    }
    let Some((path, text)) = crate::settings::editable(None)? else { return Ok(Status::Done) };
    let broken = |error: &dyn std::error::Error| {
        CliError::usage(format!("{} can't be edited", path.display())).because(error)
    };
    let text = super::config::edit::set(&text, "clean.auto", Kind::Switch, Some("true"))
        .map_err(|error| broken(&error))?;
    replace_file(&path, &text).map_err(|error| CliError::file("write", &path, &error))?;
    ui.status(&format!(
        "{} has `clean.auto = true` now; `kache disk --log` shows what was removed.",
        path.display()
    ));
    Ok(Status::Done)
}

/// What became of the wrapper's setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wrapper {
    Set,
    /// It would have been, without `--check`.
    ToDo,
    /// The user didn't want it.
    Declined,
}

/// Installs the background service where there is a remote to serve.
fn service(args: &Args, ui: &Ui) -> Outcome {
    let settings = super::settings(ui)?;
    match settings.remote() {
        None => Ok(Status::Done),
        Some(remote) if args.check => {
            ui.status(&format!(
                "A background service for {} would be installed and started.",
                remote.describe()
            ));
            Ok(Status::Done)
        }
        Some(_) => {
            let store = kache_store::Store::open(settings.cache_dir()?)?;
            super::daemon::unit::install(&store, &settings, ui)
        }
    }
}

/// Sets the wrapper in Cargo's configuration.
fn set_wrapper(args: &Args, ui: &Ui) -> Result<Wrapper, CliError> {
    let config = CargoConfig::observe(&current_dir()?, |name| std::env::var_os(name))?;
    let wanted = wrapper_to_write(&config)?;
    let edit = edit::set_wrapper(&config.user_text, &wanted).map_err(|error| {
        CliError::usage(format!("{} can't be edited", config.user_file.display()))
            .because(&error)
            .hint("correct the file first; `cargo` itself can't read it either")
    })?;
    let Some(new_text) = edit.text else {
        ui.status(&format!("Cargo already uses kache ({}).", config.user_file.display()));
        return Ok(finish(&config, ui, Wrapper::Set));
    };
    ui.print(&format!("{}\n", ui.out(Style::Bold, &config.user_file.display().to_string())))?;
    ui.print(&diff::render(&config.user_text, &new_text, ui))?;
    if let Some(previous) = &edit.previous {
        ui.status(&replacing(previous));
    }
    if args.check {
        return Ok(finish(&config, ui, Wrapper::ToDo));
    }
    if !args.yes && !agreed(ui)? {
        ui.status("Nothing was changed.");
        return Ok(Wrapper::Declined);
    }
    replace_file(&config.user_file, &new_text)
        .map_err(|error| CliError::file("write", &config.user_file, &error))?;
    ui.status("Done. Build as always; `kache stats` shows what came from the cache.");
    Ok(finish(&config, ui, Wrapper::Set))
}

/// Warns of what would override the user's file.
fn finish(config: &CargoConfig, ui: &Ui, status: Wrapper) -> Wrapper {
    for setting in overriding(&config.wrappers) {
        ui.warn(&format!(
            "{} sets the wrapper to {:?}, which overrides the user's configuration here",
            setting.place,
            setting.value.display().to_string()
        ));
    }
    status
}

/// The settings of other wrappers, or of none, that come before the user's file.
fn overriding(wrappers: &[WrapperSetting]) -> impl Iterator<Item = &WrapperSetting> {
    let others = |setting: &&WrapperSetting| !matches!(setting.place, WrapperPlace::User(_));
    wrappers.iter().filter(others).take(1).filter(|setting| !setting.is_kache())
}

fn replacing(previous: &str) -> String {
    if is_named(OsStr::new(previous), "sccache") {
        "This moves from sccache to kache. What sccache has stored stays where it is; `kache doctor \
         --fix --purge-sccache` removes it."
            .to_owned()
    } else {
        format!("This replaces the wrapper {previous:?}.")
    }
}

fn agreed(ui: &Ui) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask: standard input is not a terminal")
            .hint("`kache init -y` makes the change, `kache init --check` only shows it"));
    }
    Ok(ui.confirm("Make this change?"))
}

/// The wrapper's name as Cargo should have it: what is there if it already leads to this program, plain `kache`
/// where that is found through PATH (it survives reinstallation), else the full path.
fn wrapper_to_write(config: &CargoConfig) -> Result<String, CliError> {
    let me = std::env::current_exe()
        .and_then(|me| me.canonicalize())
        .map_err(|error| CliError::failure("this program's own path is unknown").because(&error))?;
    let present = config.wrappers.iter().find(|setting| matches!(setting.place, WrapperPlace::User(_)));
    if let Some(present) = present.filter(|setting| is_me(&setting.value)) {
        return Ok(present.value.to_string_lossy().into_owned());
    }
    if is_me(OsStr::new("kache")) {
        return Ok("kache".to_owned());
    }
    let text = me.to_str().ok_or_else(|| CliError::failure("this program's own path is not UTF-8"))?;
    Ok(text.to_owned())
}
