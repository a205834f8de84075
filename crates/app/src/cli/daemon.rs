//! `kache daemon`: runs, starts, stops and shows the background process. What it does is in the service crate, where it
//! is registered with the system in `unit`.

mod show;
pub(super) mod unit;

use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Subcommand;
use kache_core::config::{Settings, Warning};
use kache_core::protocol::{Reply, Request, Status as Health};
use kache_engine::daemon_client;
use kache_service::daemon::{BindError, End, ServeError, serve};
use kache_store::Store;
use kache_store::rendezvous::RotatingLog;

use super::{current_dir, settings};
use crate::error::{CliError, Outcome, Status};
use crate::health::{self, PATIENCE};
use crate::ui::Ui;

/// Longest time until a daemon that was started answers.
const START_MAX: Duration = Duration::from_secs(10);
/// How long uploads may go on after the daemon was told to end, and how much longer it may take until it has.
const DRAIN: Duration = Duration::from_secs(30);
const END_MAX: Duration = Duration::from_secs(10);
/// A log that is longer is put aside, in bytes.
const LOG_BYTES_MAX: u64 = 8 << 20;

/// Run, start, stop or look at the background process that transfers to and from the remote
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache daemon                 how it is, as `kache daemon status`
  kache daemon start           start it in the background
  kache daemon install         have the system start it at every login
  kache daemon log -f          watch what it does

Builds start the daemon by themselves where a remote is configured, so none of this is needed. It ends when nobody has
asked it anything for a while (KACHE_DAEMON_IDLE_TIMEOUT).")]
pub struct Args {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Subcommand)]
enum Action {
    /// Run it in the foreground
    Run,
    /// Start it in the background; returns when it answers
    Start,
    /// End it; uploads get up to 30 seconds, the rest stays in the queue
    Stop,
    /// End it and start it again
    Restart,
    /// Show how it is; exit code 3 when it isn't running
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have the system start it at every login
    Install,
    /// Undo `install`
    Uninstall,
    /// Show its log
    Log {
        /// Lines to show
        #[arg(short = 'n', long, default_value_t = 100)]
        lines: usize,
        /// Go on as the log grows
        #[arg(short, long)]
        follow: bool,
    },
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let action = args.action.as_ref().unwrap_or(&Action::Status { json: false });
    let (settings, warnings) = match action {
        // Whoever has a build start it uses what can be used of the settings, as the build does.
        Action::Run => crate::settings::load(Some(&current_dir()?))?,
        _ => (settings(ui)?, Vec::new()),
    };
    let store = Store::open(settings.cache_dir()?)?;
    let store = store.leaving_free(settings.free_bytes_min.as_deref().copied());
    store.make_daemon_dir()?;
    match action {
        Action::Run => run_here(store, &settings, &warnings, ui),
        Action::Start => start(&store, &settings, ui),
        Action::Stop => stop(&store, ui),
        Action::Restart => {
            stop(&store, ui)?;
            start(&store, &settings, ui)
        }
        Action::Status { json } => status(&store, &settings, *json, ui),
        Action::Install => unit::install(&store, &settings, ui),
        Action::Uninstall => unit::uninstall(ui),
        Action::Log { lines, follow } => log(&store.daemon_log(), *lines, *follow, ui),
    }
}

fn run_here(store: Store, settings: &Settings, warnings: &[Warning], ui: &Ui) -> Outcome {
    let program = std::env::current_exe()
        .map_err(|error| CliError::failure("this program's own path is unknown").because(&error))?;
    start_log(&store, settings)?;
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    for problem in &settings.problems {
        tracing::error!("{problem}");
    }
    let socket = store.socket_path();
    let ready = || ui.status(&format!("Serving at {}.", socket.display()));
    match serve(store, settings, &program, env!("CARGO_PKG_VERSION"), ready) {
        Ok(End::Replaced) => {
            let error = Command::new(&program).args(["daemon", "run"]).exec();
            Err(CliError::file("run", &program, &error))
        }
        Ok(End::Idle | End::Stopped | End::Orphaned | End::Outdated) => Ok(Status::Done),
        Err(ServeError::Bind(BindError::Taken)) => {
            ui.status("A daemon is running for this store already.");
            Ok(Status::Done)
        }
        Err(error) => {
            tracing::error!(%error, "can't serve");
            Err(CliError::failure("the daemon can't serve").because(&error))
        }
    }
}

/// The log goes to a file: whoever starts a daemon in the background has nobody to read it.
fn start_log(store: &Store, settings: &Settings) -> Result<(), CliError> {
    let path = store.daemon_log();
    let file =
        RotatingLog::open(&path, LOG_BYTES_MAX).map_err(|error| CliError::file("write", &path, &error))?;
    let filter = settings.log.as_ref().map_or("info", |filter| filter.value.as_str());
    crate::log::start(filter, "info", file);
    // Nobody reads what a daemon says otherwise. It goes on: what panicked is one request or one task.
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    Ok(())
}

fn start(store: &Store, settings: &Settings, ui: &Ui) -> Outcome {
    if let Ok(Some(health)) = health::of_daemon(store) {
        ui.status(&format!("The daemon is running already (process {}).", health.pid));
        return Ok(Status::Done);
    }
    let program = std::env::current_exe()
        .map_err(|error| CliError::failure("this program's own path is unknown").because(&error))?;
    daemon_client::start(&program, store, settings)
        .map_err(|error| CliError::file("run", &program, &error))?;
    let health = until_healthy(store)
        .map_err(|error| error.hint("`kache daemon log` may say why; `kache daemon run` shows it at once"))?;
    ui.status(&format!("The daemon is running (process {}).", health.pid));
    Ok(Status::Done)
}

/// Waits until a daemon that was started answers.
fn until_healthy(store: &Store) -> Result<Health, CliError> {
    let begun = Instant::now();
    loop {
        match health::of_daemon(store) {
            Ok(Some(health)) => return Ok(health),
            _ if begun.elapsed() < START_MAX => sleep(Duration::from_millis(20)),
            result => {
                let error = CliError::failure("the daemon doesn't answer");
                return Err(match &result {
                    Err(trouble) => error.because(trouble),
                    Ok(_) => error,
                });
            }
        }
    }
}

fn stop(store: &Store, ui: &Ui) -> Outcome {
    let Some(pid) = store.daemon_pid()? else {
        ui.status("No daemon is running.");
        return Ok(Status::Done);
    };
    let drain_ms = u64::try_from(DRAIN.as_millis()).unwrap_or(u64::MAX);
    // Another answer, or none: it may be of another version, hung, or just about to end.
    if let Ok(Reply::Stopping { owed }) = daemon_client::ask(store, &Request::Stop { drain_ms }, PATIENCE) {
        if owed > 0 {
            ui.status(&format!("Finishing {owed} upload(s); what isn't done in 30 s stays in the queue."));
        }
        if has_ended(store, DRAIN + END_MAX)? {
            ui.status("The daemon has ended.");
            return Ok(Status::Done);
        }
    }
    ui.warn("the daemon doesn't answer; it is ended by signal");
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        // Only the process that holds the lock is the daemon.
        if store.daemon_pid()? == Some(pid)
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
        {
            let _ = rustix::process::kill_process(pid, signal);
        }
        if has_ended(store, END_MAX / 2)? {
            ui.status("The daemon has ended.");
            return Ok(Status::Done);
        }
    }
    Err(CliError::failure(format!("process {pid} doesn't end")))
}

fn has_ended(store: &Store, patience: Duration) -> Result<bool, CliError> {
    let begun = Instant::now();
    while store.daemon_pid()?.is_some() {
        if begun.elapsed() >= patience {
            return Ok(false);
        }
        sleep(Duration::from_millis(20));
    }
    Ok(true)
}

fn status(store: &Store, settings: &Settings, as_json: bool, ui: &Ui) -> Outcome {
    let health = health::of_daemon(store).map_err(|trouble| {
        CliError::failure("the daemon doesn't answer").because(&trouble).hint("`kache daemon restart`")
    })?;
    let backlog = store.backlog(None)?;
    let view = show::View { health: health.as_ref(), backlog, settings, now_ms: super::now_ms() };
    ui.print_as(as_json, || view.json(), || view.text(ui))?;
    Ok(if health.is_some() { Status::Done } else { Status::Found })
}

fn log(path: &Path, lines: usize, follow: bool, ui: &Ui) -> Outcome {
    let failed = |error| CliError::file("read", path, &error);
    let mut file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            ui.status("There is no log yet.");
            return Ok(Status::Done);
        }
        Err(error) => return Err(failed(error)),
    };
    let mut text = Vec::new();
    file.read_to_end(&mut text).map_err(failed)?;
    ui.print(show::last_lines(&String::from_utf8_lossy(&text), lines))?;
    if !follow {
        return Ok(Status::Done);
    }
    loop {
        sleep(Duration::from_millis(500));
        let end = std::fs::metadata(path).map_or(0, |meta| meta.len());
        if end < file.stream_position().map_err(failed)? {
            file = std::fs::File::open(path).map_err(failed)?;
            file.seek(SeekFrom::Start(0)).map_err(failed)?;
        }
        text.clear();
        file.read_to_end(&mut text).map_err(failed)?;
        ui.print(&String::from_utf8_lossy(&text))?;
    }
}
