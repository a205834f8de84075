//! `kache init`: makes kache the compiler wrapper in the user's Cargo configuration. Shows the change, asks, writes;
//! what the change is, is decided in `edit`.

mod completions;
mod edit;

use std::ffi::OsStr;
use std::io::{self, IsTerminal, Write as _};
use std::path::{Path, PathBuf};

use clap_complete::Shell;

use super::{current_dir, diff};
use crate::cargo_config::{CargoConfig, WrapperPlace, WrapperSetting, is_me, is_named};
use crate::error::{CliError, Outcome, Status};
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
    /// Also install completions, for the shell in use or the one that is named
    #[arg(long, value_name = "SHELL", num_args = 0..=1, require_equals = true)]
    completions: Option<Option<Shell>>,
}

impl Args {
    /// Making the change without asking, and nothing else.
    pub fn unasked() -> Self {
        Self { yes: true, no_service: true, check: false, completions: None }
    }
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let wrapper = set_wrapper(args, ui)?;
    let touching = if args.check { Touching::Check } else { Touching::Write };
    let completions = match args.completions {
        Some(shell) => completions::install(shell, touching, ui)?,
        None => Status::Done,
    };
    // Without a clear yes to the wrapper there is no yes to the service.
    if !args.no_service && wrapper != Wrapper::Declined {
        service(args, ui)?;
    }
    Ok(if wrapper == Wrapper::ToDo { Status::Found } else { completions })
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

/// Replaces a file as a whole, following a symbolic link (the real file may live among somebody's dotfiles) and
/// keeping its permissions.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let target: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let tmp = dir.join(format!(".config.toml.kache-{}", std::process::id()));
    let written = write_new(&tmp, &target, text).and_then(|()| std::fs::rename(&tmp, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    written
}

fn write_new(tmp: &Path, like: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create_new(tmp)?;
    if let Ok(meta) = std::fs::metadata(like) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
