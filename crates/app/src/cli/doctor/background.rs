//! Checks of the daemon and of the queue it works off. Starts nothing.

use std::time::Duration;

use kache_core::config::Settings;
use kache_core::quantity::{format_duration, format_size};
use kache_store::Store;

use super::{Findings, Verdict};
use crate::health;

/// Uploads that are owed for longer than this deserve a warning, in seconds.
const OWED_S_MAX: u64 = 86_400;

/// Whether the daemon runs, serves this remote in this version, and gets its uploads done.
pub fn daemon(store: &Store, settings: &Settings, findings: &mut Findings) {
    findings.section = "Daemon";
    let wanted = settings.remote().map(|remote| remote.identity());
    match health::of_daemon(store) {
        Ok(None) if wanted.is_none() => findings.add(Verdict::Note, "not needed: no remote is configured"),
        Ok(None) => findings.add(Verdict::Note, "not running; a build starts it when it needs it"),
        Err(trouble) => findings.add_with_hint(
            Verdict::Bad,
            format!("the daemon doesn't answer: {trouble}"),
            "`kache daemon restart`; meanwhile builds do without it",
        ),
        Ok(Some(health)) => {
            findings
                .add(Verdict::Good, format!("running, process {}, version {}", health.pid, health.version));
            if health.version != env!("CARGO_PKG_VERSION") {
                let hint = "`kache daemon restart`";
                findings.add_with_hint(Verdict::Warning, "it is of another version than this program", hint);
            }
            if health.remote_id != wanted {
                let what = format!("it serves another remote ({})", health.remote);
                findings.add_with_hint(
                    Verdict::Warning,
                    what,
                    "`kache daemon restart` makes it serve this one",
                );
            }
            if let Some(why) = health.sick {
                findings.add(Verdict::Warning, format!("the remote is left alone for a while: {why}"));
            }
            if let Some(why) = health.uploads.refused {
                findings.add(Verdict::Note, format!("uploads wait, the credentials may not write: {why}"));
            }
        }
    }
    if let Some(why) = wanted.and_then(|remote| store.avoided_daemon(&remote)) {
        findings.add(Verdict::Warning, format!("builds do without the daemon for a minute: {why}"));
    }
    let Ok(backlog) = store.backlog(None) else { return };
    if backlog.count > 0 {
        let age = format_duration(Duration::from_secs(backlog.oldest_s));
        let what =
            format!("{} upload(s) owed, {}, the oldest for {age}", backlog.count, format_size(backlog.bytes));
        match backlog.oldest_s > OWED_S_MAX {
            true => findings.add_with_hint(Verdict::Warning, what, "`kache daemon log` may say why"),
            false => findings.add(Verdict::Note, what),
        }
    }
}
