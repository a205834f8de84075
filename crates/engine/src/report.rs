//! Tells the journal, and on request the terminal, how an invocation ended. Never fails an invocation.

use std::time::{Duration, Instant};

use kache_core::config::{Progress, Settings};
use kache_core::event::{Event, Outcome};
use kache_core::invocation::Invocation;
use kache_core::printable;
use kache_core::reason::Bypass;
use kache_core::unit::Unit;
use kache_store::Store;
use kache_store::clock::since_1970;

use crate::world::Session;

pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// An event about a unit, with everything that is known at its start.
pub fn about(call: &Invocation, unit: &Unit, session: &Session) -> Event {
    let mut event = Event::new(&unit.crate_name, Outcome::Miss);
    unit.kind().clone_into(&mut event.kind);
    unit.mode.word().clone_into(&mut event.mode);
    fill(&mut event, call, session);
    event
}

/// An event about an invocation that goes straight to the compiler.
pub fn passed(call: &Invocation, session: &Session, bypass: &Bypass) -> Event {
    let mut args = call.args.iter();
    let name = args.find(|arg| *arg == "--crate-name").and_then(|_| args.next());
    let mut event = Event::new(name.map_or("?", String::as_str), Outcome::Passthrough);
    event.reason = Some(bypass.code().to_owned());
    event.detail = Some(bypass.to_string());
    fill(&mut event, call, session);
    event
}

/// Says in which session it happened.
pub fn sign(event: &mut Event, session: &Session) {
    event.session.clone_from(&session.id);
    event.within.clone_from(&session.within);
    event.job.clone_from(&session.job);
    event.project =
        session.project.as_ref().map(|dir| dir.to_string_lossy().into_owned()).unwrap_or_default();
}

/// Says who asked, and about which package.
pub fn fill(event: &mut Event, call: &Invocation, session: &Session) {
    let text = |name: &str| call.env.text(name).unwrap_or_default().to_owned();
    sign(event, session);
    event.package = text("CARGO_PKG_NAME");
    event.package_version = text("CARGO_PKG_VERSION");
}

/// Ends an event: stamps it, appends it, shows it where asked to.
pub fn emit(mut event: Event, started: Instant, store: Option<&Store>, settings: &Settings) {
    event.times.total_us = micros(started.elapsed());
    let now = since_1970();
    event.at_ms = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    show(&event, settings.progress.value);
    tracing::info!(
        crate_name = event.crate_name,
        outcome = event.outcome.word(),
        reason = event.reason,
        detail = event.detail,
        not_stored = event.not_stored,
        key = event.entry_key.map(|key| key.to_string()),
        us = event.times.total_us,
    );
    if let Some(store) = store
        && let Err(error) = store.append(&event)
    {
        tracing::warn!(%error, "no journal");
    }
}

/// One line on standard error, for those who asked. Cargo keeps what it reads there and shows it again for fresh
/// units, so nothing is ever written unasked.
fn show(event: &Event, progress: Progress) {
    let wanted = match progress {
        Progress::Off => false,
        Progress::Hits => event.outcome == Outcome::Hit,
        Progress::All => true,
    };
    if wanted {
        let detail = event.detail.as_deref().map(|detail| format!(" ({detail})")).unwrap_or_default();
        let line = format!(
            "kache: {:<11} {} {} {:.1} ms{detail}",
            event.outcome.word(),
            event.label(),
            event.kind,
            Duration::from_micros(event.times.total_us).as_secs_f64() * 1e3,
        );
        let shown = format!("{}\n", printable::line(&line));
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), shown.as_bytes());
    }
}
