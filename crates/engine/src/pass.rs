//! Becomes the compiler for calls that aren't served, and says so in the journal where that is of interest. Returns only
//! what can't be become. Decides nothing.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use kache_core::config::{Settings, env};
use kache_core::invocation::{Env, Invocation};
use kache_core::reason::Bypass;
use kache_store::Store;

use crate::fallback::{self, Unusable};
use crate::world::{self, Session};
use crate::{placement, report, script_hook};

/// How the process is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Code(i32),
    /// By this signal, like the compiler.
    Signal(i32),
}

impl From<ExitStatus> for End {
    fn from(status: ExitStatus) -> Self {
        status.code().map_or_else(|| End::Signal(status.signal().unwrap_or(9)), End::Code)
    }
}

/// Becomes the compiler, or the wrapper that the user named for this: same arguments, standard streams, environment
/// and process.
pub fn pass_through(
    argv: &[OsString],
    settings: &Settings,
    session: &Session,
    bypass: &Bypass,
    started: Instant,
) -> End {
    let count = |bypass: &Bypass| {
        if let Ok(call) = world::invocation(argv).or_else(|_| unexpanded(argv)) {
            placement::mark_bypassed(&call, &session.id);
            let event = report::passed(&call, session, bypass);
            let store = settings.cache_dir().ok().and_then(|dir| Store::open(dir).ok());
            report::emit(event, started, store.as_ref(), settings);
        }
    };
    // Another wrapper would take it for a compiler.
    if script_hook::asked(argv).is_some() {
        return without_settings(argv);
    }
    let skip = |why: Unusable| {
        fallback::answer_probe(&why);
        if !matches!(bypass, Bypass::Query | Bypass::Disabled) {
            count(&Bypass::Fallback(format!("{why}; passed through: {bypass}")));
        }
    };
    match fallback::find(settings) {
        None if bypass.is_counted() => count(bypass),
        None => {}
        Some(Err(why)) => skip(why),
        Some(Ok(program)) => {
            if bypass.is_counted() {
                count(bypass);
            }
            let error = Command::new(&program).args(argv).env(env::KACHE_IN_FALLBACK, "1").exec();
            skip(Unusable::Refused(program.display().to_string(), error.to_string()));
        }
    }
    without_settings(argv)
}

fn unexpanded(argv: &[OsString]) -> Result<Invocation, Bypass> {
    let text: Vec<OsString> = argv.iter().map(|arg| arg.to_string_lossy().into_owned().into()).collect();
    Invocation::split(&text, OsStr::new("/"), Env::default())
}

/// For callers that found a reason before the engine could: becomes the compiler, and the reason is counted.
pub fn refuse(argv: &[OsString], settings: &Settings, session: &Session, bypass: &Bypass) -> End {
    pass_through(argv, settings, session, bypass, Instant::now())
}

/// Becomes the program that `argv` names. For callers that have an invocation but no settings, too.
pub fn without_settings(argv: &[OsString]) -> End {
    let Some((program, args)) = argv.split_first() else { return End::Code(2) };
    let error = Command::new(program).args(args).exec();
    eprintln!("kache: can't run {}: {error}", program.to_string_lossy());
    End::Code(127)
}
