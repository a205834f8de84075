//! The wrapper's entry: settings and log, then the engine. Knows nothing about what the engine does.

use std::ffi::OsString;
use std::fs::OpenOptions;
use std::process::ExitCode;

use kache_core::config::Settings;
use kache_core::reason::Bypass;
use kache_engine::run::{self, End};

use crate::settings;

/// Runs the compiler call `argv` (compiler first) through the cache and ends like the compiler.
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let session = run::session();
    let end = match settings::load(session.project.as_deref()) {
        Ok((settings, warnings)) => {
            start_log(&settings);
            for warning in warnings {
                tracing::warn!("{warning}");
            }
            run::run(&argv, &settings, &session)
        }
        // Without settings that can be read the build goes on, uncached; `kache doctor` says the same aloud.
        Err(error) => match Settings::resolve(None, |name| std::env::var_os(name)) {
            Ok((settings, _)) => run::refuse(&argv, &settings, &session, &Bypass::Config(error.to_string())),
            Err(_) => run::without_settings(&argv),
        },
    };
    exit(end)
}

/// Runs a compiler of another language, or the wrapper that is configured for what kache passes through.
pub fn run_other(argv: Vec<OsString>) -> ExitCode {
    let session = run::session();
    exit(match settings::load(session.project.as_deref()) {
        Ok((settings, _)) => run::refuse(&argv, &settings, &session, &Bypass::OtherLanguage),
        Err(_) => run::without_settings(&argv),
    })
}

fn exit(end: End) -> ExitCode {
    match end {
        End::Code(code) => ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)),
        End::Signal(signal) => {
            if let Some(signal) = rustix::process::Signal::from_named_raw(signal) {
                // What the signal doesn't end, the conventional code does.
                let _ = rustix::process::kill_process(rustix::process::getpid(), signal);
            }
            ExitCode::from(u8::try_from(128 + signal).unwrap_or(255))
        }
    }
}

/// The log goes to a file, never to standard error: Cargo keeps what it reads there and shows it again and again.
fn start_log(settings: &Settings) {
    let Some(filter) = &settings.log else { return };
    let file = match &settings.log_file {
        Some(file) => file.value.clone(),
        None => match settings.cache_dir() {
            Ok(dir) => dir.join("wrapper.log"),
            Err(_) => return,
        },
    };
    let Ok(file) = OpenOptions::new().create(true).append(true).open(file) else { return };
    crate::log::start(&filter.value, "error", file);
}
