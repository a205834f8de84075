//! The daemon's account of itself as text and JSON. Asks nobody.

use std::fmt::Write as _;
use std::time::Duration;

use kache_core::config::{Remote, Settings};
use kache_core::protocol::Status as Health;
use kache_core::quantity::{format_duration, format_size};
use kache_store::queue::Backlog;
use serde_json::json;

use crate::ui::{Style, Ui};

pub struct View<'a> {
    /// What the daemon says; `None` when none is running.
    pub health: Option<&'a Health>,
    /// The queue of uploads, for all remotes.
    pub backlog: Backlog,
    /// The settings here, which the daemon's may differ from.
    pub settings: &'a Settings,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
}

impl View<'_> {
    pub fn json(&self) -> String {
        let value = json!({
            "version": 1,
            "running": self.health.is_some(),
            "daemon": self.health,
            "queue": {
                "uploads": self.backlog.count,
                "bytes": self.backlog.bytes,
                "oldest_s": self.backlog.oldest_s,
            },
        });
        format!("{value:#}\n")
    }

    pub fn text(&self, ui: &Ui) -> String {
        let mut text = String::new();
        match self.health {
            None => {
                let _ = writeln!(text, "{}", ui.out(Style::Bold, "The daemon is not running"));
                let why = match self.settings.remote() {
                    Some(_) => "a build starts it when it needs it; `kache daemon start` starts it now",
                    None => "no remote is configured, so builds don't need it",
                };
                let _ = writeln!(text, "  {why}");
            }
            Some(health) => self.running(&mut text, ui, health),
        }
        self.queue(&mut text);
        text
    }

    fn running(&self, text: &mut String, ui: &Ui, health: &Health) {
        let up = format_duration(Duration::from_millis(self.now_ms.saturating_sub(health.started_ms)));
        let heading =
            format!("The daemon is running: process {}, version {}, for {up}", health.pid, health.version);
        let _ = writeln!(text, "{}", ui.out(Style::Bold, &heading));
        let remote = if health.remote.is_empty() { "none" } else { &health.remote };
        let _ = writeln!(text, "  {:<22}{remote}", "remote");
        if health.remote_id != self.settings.remote().map(|remote| remote.identity()) {
            let what = "builds here use another remote than the daemon; `kache daemon restart` changes that";
            let _ = writeln!(text, "  {} {what}", ui.out(Style::Warn, "warning:"));
        }
        if let Some(why) = self.settings.remote().and_then(Remote::why_read_only) {
            let _ = writeln!(text, "  {:<22}nothing: {why}", "builds here push");
        }
        if let Some(why) = &health.sick {
            let _ = writeln!(text, "  {:<22}{}", "left alone", ui.out(Style::Bad, why));
        }
        let demand = &health.demand;
        let _ = writeln!(
            text,
            "  {:<22}{} asked, {} arrived, {} absent, {} not answered",
            "builds", demand.asked, demand.arrived, demand.absent, demand.unavailable
        );
        let prefetch = &health.prefetch;
        let _ = writeln!(
            text,
            "  {:<22}{} entries ({}) for {} build(s); {} ({}) not used so far",
            "prefetched",
            prefetch.entries,
            format_size(prefetch.bytes),
            prefetch.builds,
            prefetch.entries.saturating_sub(prefetch.used),
            format_size(prefetch.bytes.saturating_sub(prefetch.used_bytes)),
        );
        let snapshots = &health.snapshots;
        let _ = writeln!(
            text,
            "  {:<22}{} asked, {} taken over with {} entries",
            "fresh directories", snapshots.asked, snapshots.taken, snapshots.entries
        );
        let uploads = &health.uploads;
        let _ = writeln!(
            text,
            "  {:<22}{} done, {} of them known there; {} stay local; {} attempts failed",
            "uploads", uploads.done, uploads.known, uploads.dropped, uploads.failed
        );
        if let Some(why) = &uploads.refused {
            let _ = writeln!(text, "  {:<22}the remote takes no writes: {why}", "uploads wait");
        }
        if let Some(error) = &uploads.last_error {
            let _ = writeln!(text, "  {:<22}{error}", "latest failure");
        }
    }

    fn queue(&self, text: &mut String) {
        let Backlog { count, bytes, oldest_s } = self.backlog;
        let line = match count {
            0 => "empty".to_owned(),
            _ => {
                let age = format_duration(Duration::from_secs(oldest_s));
                format!("{count} upload(s) owed, {}, the oldest for {age}", format_size(bytes))
            }
        };
        let _ = writeln!(text, "  {:<22}{line}", "queue");
    }
}

pub fn last_lines(text: &str, count: usize) -> &str {
    let mut ends = text.trim_end_matches('\n').rmatch_indices('\n').map(|(at, _)| at + 1);
    match count {
        0 => "",
        _ => &text[ends.nth(count - 1).unwrap_or(0)..],
    }
}

#[cfg(test)]
mod tests {
    use kache_core::protocol::{Demand, Prefetch, Snapshots, Uploads};

    use super::*;

    fn settings() -> Settings {
        Settings::resolve(None, |_| None).expect("settings").0
    }

    #[test]
    fn a_daemon_at_work() {
        let health = Health {
            version: "1.2.3".into(),
            pid: 42,
            started_ms: 1000,
            remote: "s3://bucket/artifacts at us-east-1".into(),
            sick: Some("timed out (tried again in 9 s)".into()),
            demand: Demand { asked: 5, arrived: 3, absent: 1, unavailable: 1, ..Demand::default() },
            prefetch: Prefetch { builds: 1, entries: 10, bytes: 10 << 20, used: 8, used_bytes: 9 << 20 },
            snapshots: Snapshots { asked: 3, taken: 1, entries: 220 },
            uploads: Uploads {
                done: 4,
                known: 1,
                failed: 2,
                last_error: Some("503".into()),
                refused: Some("403 (tried again in 3600 s)".into()),
                ..Uploads::default()
            },
            ..Health::default()
        };
        let backlog = Backlog { count: 7, bytes: 1 << 30, oldest_s: 90 };
        let settings = settings();
        let view = View { health: Some(&health), backlog, settings: &settings, now_ms: 61_000 };
        let expected = "\
The daemon is running: process 42, version 1.2.3, for 1m 00s
  remote                s3://bucket/artifacts at us-east-1
  left alone            timed out (tried again in 9 s)
  builds                5 asked, 3 arrived, 1 absent, 1 not answered
  prefetched            10 entries (10.0 MiB) for 1 build(s); 2 (1.00 MiB) not used so far
  fresh directories     3 asked, 1 taken over with 220 entries
  uploads               4 done, 1 of them known there; 0 stay local; 2 attempts failed
  uploads wait          the remote takes no writes: 403 (tried again in 3600 s)
  latest failure        503
  queue                 7 upload(s) owed, 1.00 GiB, the oldest for 1m 30s
";
        assert_eq!(view.text(&Ui::plain()), expected);
        let json: serde_json::Value = serde_json::from_str(&view.json()).expect("JSON");
        assert_eq!((&json["running"], &json["queue"]["uploads"]), (&json!(true), &json!(7)));
        assert_eq!(json["daemon"]["prefetch"]["used"], 8);
    }

    #[test]
    fn no_daemon() {
        let settings = settings();
        let view = View { health: None, backlog: Backlog::default(), settings: &settings, now_ms: 0 };
        let text = view.text(&Ui::plain());
        assert!(text.starts_with("The daemon is not running\n  no remote is configured"), "{text}");
        assert!(text.ends_with("queue                 empty\n"), "{text}");
    }

    #[test]
    fn last_lines_of_short_and_long_texts() {
        for (text, count, last) in [
            ("", 3, ""),
            ("a\nb\n", 3, "a\nb\n"),
            ("a\nb\nc\n", 2, "b\nc\n"),
            ("a\nb", 1, "b"),
            ("a\n", 0, ""),
        ] {
            assert_eq!(last_lines(text, count), last, "{text:?} {count}");
        }
    }
}
