//! The command line: what can be typed, with its help. What each command does is in the module of its name.

mod census;
mod clean;
mod completions;
mod config;
mod daemon;
mod diff;
mod disk;
mod doctor;
mod gc;
mod init;
mod inputs;
mod list;
mod man;
mod monitor;
mod prove;
mod purge;
mod report;
mod save_manifest;
mod seeds;
mod serve;
mod snapshot;
mod stats;
mod sums;
mod sync;
mod transfers;
mod verify;
mod version;
mod why_miss;
mod workspace;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use kache_core::config::Settings;
use kache_core::quantity::{QuantityError, parse_duration};
use kache_store::Store;

use crate::clock::{ms_ago, now_ms};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{ColorChoice, Ui};

/// Exit code of a check that found something to do; errors have theirs in `error`.
const EXIT_FOUND: u8 = 3;

/// Build cache for Rust: compiles once, then puts the outputs into any target directory
#[derive(Parser)]
#[command(
    name = "kache",
    bin_name = "kache",
    version,
    subcommand_required = true,
    after_help = "\
Getting started:
  kache init            use kache for every build of this user
  cargo build           build as always
  kache stats           see what came from the cache
  kache why-miss CRATE  see what changed when something didn't

For one build only, without `kache init`:
  RUSTC_WRAPPER=kache cargo build

Exit codes: 0 done, 1 failed, 2 wrong usage or settings, 3 a check found something to do"
)]
struct Cli {
    /// When to use colour: auto (on terminals, unless NO_COLOR is set), always or never
    #[arg(
        long,
        global = true,
        value_enum,
        value_name = "WHEN",
        default_value_t,
        hide_possible_values = true
    )]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::Args),
    Stats(stats::Args),
    List(list::Args),
    WhyMiss(why_miss::Args),
    Inputs(inputs::Args),
    Monitor(monitor::Args),
    Report(report::Args),
    Verify(verify::Args),
    Prove(prove::Args),
    Gc(gc::Args),
    Purge(purge::Args),
    Sync(sync::Args),
    SaveManifest(save_manifest::Args),
    Serve(serve::Args),
    Disk(disk::Args),
    Clean(clean::Args),
    Doctor(doctor::Args),
    Config(config::Args),
    Daemon(daemon::Args),
    Completions(completions::Args),
    Man(man::Args),
    Version(version::Args),
    Snapshot(snapshot::Args),
}

/// Runs the command line `args`, without the program's name; the exit code to end with.
pub fn run(args: Vec<OsString>) -> ExitCode {
    if let Some(asked) = completions::answer(&args) {
        return asked;
    }
    let color = color_of(&args);
    if args.is_empty() {
        let _ = command().print_help();
        return ExitCode::SUCCESS;
    }
    let typed = std::iter::once(OsString::from("kache")).chain(args);
    let parsed = command().color(color.into()).try_get_matches_from(typed);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are errors to clap; a reader that went away is nothing to tell anybody about.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let ui = Ui::new(cli.color);
    match dispatch(cli.command, &ui) {
        Ok(Status::Done) => ExitCode::SUCCESS,
        Ok(Status::Found) => ExitCode::from(EXIT_FOUND),
        Err(error) => error.present(&ui),
    }
}

fn dispatch(command: Command, ui: &Ui) -> Outcome {
    match command {
        Command::Init(args) => init::run(&args, ui),
        Command::Stats(args) => stats::run(&args, ui),
        Command::List(args) => list::run(&args, ui),
        Command::WhyMiss(args) => why_miss::run(&args, ui),
        Command::Inputs(args) => inputs::run(&args, ui),
        Command::Report(args) => report::run(&args, ui),
        Command::Monitor(args) => monitor::run(&args, ui),
        Command::Verify(args) => verify::run(&args, ui),
        Command::Prove(args) => prove::run(&args, ui),
        Command::Gc(args) => gc::run(&args, ui),
        Command::Purge(args) => purge::run(&args, ui),
        Command::Sync(args) => sync::run(&args, ui),
        Command::SaveManifest(args) => save_manifest::run(&args, ui),
        Command::Serve(args) => serve::run(&args, ui),
        Command::Disk(args) => disk::run(&args, ui),
        Command::Clean(args) => clean::run(&args, ui),
        Command::Doctor(args) => doctor::run(&args, ui),
        Command::Config(args) => config::run(&args, ui),
        Command::Daemon(args) => daemon::run(&args, ui),
        Command::Completions(args) => completions::run(&args, ui),
        Command::Man(args) => man::run(&args, ui),
        Command::Version(args) => version::run(&args, ui),
        Command::Snapshot(args) => snapshot::run(&args, ui),
    }
}

/// The whole command line, for parsing and for completions.
fn command() -> clap::Command {
    let styles = Styles::styled()
        .header(AnsiColor::Green.on_default().bold())
        .usage(AnsiColor::Green.on_default().bold())
        .literal(AnsiColor::Cyan.on_default().bold())
        .placeholder(AnsiColor::Cyan.on_default());
    Cli::command().styles(styles)
}

/// The value of `--color`, needed before parsing because help and errors are coloured too.
fn color_of(args: &[OsString]) -> ColorChoice {
    let words: Vec<&str> = args.iter().filter_map(|arg| arg.to_str()).collect();
    let joined = words.iter().rev().find_map(|word| word.strip_prefix("--color="));
    let apart = words.windows(2).rev().find(|pair| pair[0] == "--color").map(|pair| pair[1]);
    match joined.or(apart) {
        Some("always") => ColorChoice::Always,
        Some("never") => ColorChoice::Never,
        _ => ColorChoice::Auto,
    }
}

impl From<ColorChoice> for clap::ColorChoice {
    fn from(choice: ColorChoice) -> Self {
        match choice {
            ColorChoice::Auto => Self::Auto,
            ColorChoice::Always => Self::Always,
            ColorChoice::Never => Self::Never,
        }
    }
}

/// The directory the user is in.
fn current_dir() -> Result<PathBuf, CliError> {
    std::env::current_dir()
        .map_err(|error| CliError::failure("there is no current directory").because(&error))
}

/// The settings that hold in the current directory. The command line insists that all of them can be used.
fn settings(ui: &Ui) -> Result<Settings, CliError> {
    let (settings, warnings) = crate::settings::load(Some(&current_dir()?))?;
    for warning in warnings {
        ui.warn(&warning.to_string());
    }
    Ok(settings.checked()?)
}

/// The store; when there is none yet, says so.
fn open_store(settings: &Settings, ui: &Ui) -> Result<Option<Store>, CliError> {
    let dir = settings.cache_dir()?;
    match Store::open_existing(dir) {
        Ok(store) => Ok(Some(store.leaving_free(settings.free_bytes_min.as_deref().copied()))),
        Err(error) if error.is_missing() && (dir.is_dir() || !dir.exists()) => {
            let how = "run a build with kache (`kache init` sets it up)";
            ui.status(&format!("Nothing is cached yet in {}; {how}.", dir.display()));
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says what was left out, because another user has made it and this one may not look at it.
fn warn_of_denied(denied: &[PathBuf], ui: &Ui) {
    if let Some(first) = denied.first() {
        ui.warn(&format!(
            "{} folders or entries belong to another user and were left out, among them {}; `kache doctor` says more",
            denied.len(),
            first.display()
        ));
    }
}

/// Whether a crate of a package is what somebody calls by `name`; Cargo's `-` and the compiler's `_` are the same here.
fn is_named(crate_name: &str, package: &str, name: &str) -> bool {
    let wanted = name.replace('-', "_");
    crate_name == wanted || package.replace('-', "_") == wanted
}

/// Reads the name of a crate or package.
fn crate_name(text: &str) -> Result<String, &'static str> {
    match text.trim() {
        "" => Err("a crate has a name"),
        name => Ok(name.to_owned()),
    }
}

/// The error of every command that is asked for a crate that isn't there; `place` is where it was looked for. Names
/// that contain the other are what was meant.
fn unknown_crate(store: Option<&Store>, name: &str, place: &str) -> CliError {
    let wanted = name.replace('-', "_");
    let mut similar = completions::crate_names(store);
    similar.retain(|other| {
        let other = other.replace('-', "_");
        other != wanted && (other.contains(&wanted) || wanted.contains(&other))
    });
    let error = CliError::usage(format!("{place} {name:?}"));
    match similar.as_slice() {
        [] => error
            .hint("`kache list` names the crates that the store has, `kache report` those that were built"),
        names => error.hint(format!("there is {}", names.join(", "))),
    }
}

/// Reads a moment as `date +%s` prints it; in milliseconds since 1970.
fn moment(text: &str) -> Result<u64, String> {
    let seconds = text.parse::<u64>().ok().and_then(|seconds| seconds.checked_mul(1000));
    seconds
        .ok_or_else(|| format!("{text:?} is no moment (write seconds since 1970, as `date +%s` prints them)"))
}

/// The time since a moment, where one is given.
fn since_moment(from_ms: Option<u64>) -> Option<Duration> {
    from_ms.map(|from_ms| Duration::from_millis(now_ms().saturating_sub(from_ms)))
}

fn duration(text: &str) -> Result<Duration, QuantityError> {
    parse_duration(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    /// A script that passes `"$CRATE"` without having set it names no crate, and not all of them.
    #[test]
    fn nothing_is_no_argument() {
        let mut tried = 0;
        for sub in command().get_subcommands().filter(|sub| !sub.is_hide_set()) {
            for arg in sub.get_arguments().filter(|arg| arg.get_action().takes_values()) {
                let mut words = vec!["kache".to_owned(), sub.get_name().to_owned()];
                match arg.get_long() {
                    Some(long) => words.push(format!("--{long}=")),
                    None if arg.is_last_set() => words.extend(["--".to_owned(), String::new()]),
                    None => words.push(String::new()),
                }
                let error = command().try_get_matches_from(&words).err().map(|error| error.kind());
                use clap::error::ErrorKind::{InvalidValue, ValueValidation};
                assert!(matches!(error, Some(InvalidValue | ValueValidation)), "{words:?}: {error:?}");
                tried += 1;
            }
        }
        assert!(tried > 15, "only {tried} were tried");
    }

    #[test]
    fn colour_is_known_before_parsing() {
        let choice = |words: &[&str]| color_of(&words.iter().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(choice(&["stats", "--color", "never"]), ColorChoice::Never);
        assert_eq!(choice(&["--color=always", "stats"]), ColorChoice::Always);
        assert_eq!(choice(&["stats"]), ColorChoice::Auto);
    }
}
