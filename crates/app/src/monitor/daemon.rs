//! The daemon as the dashboard knows it, and that in a few lines. Asks nobody.

use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::protocol::Status;
use kache_core::quantity::{format_duration, format_size};

/// What is known of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Daemon {
    /// It wasn't asked yet.
    #[default]
    Unasked,
    Absent,
    /// One is running, and doesn't answer: why.
    Silent(String),
    Running(Box<Status>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weight {
    /// As any other.
    Plain,
    Alarm,
}

/// The daemon's state, its transfers and its queue, for people; `remote` is the one that builds here use.
pub fn lines(daemon: &Daemon, remote: Option<Digest>, now_ms: u64) -> Vec<(Weight, String)> {
    let status = match daemon {
        Daemon::Unasked => return vec![(Weight::Plain, "daemon    being asked".to_owned())],
        Daemon::Silent(why) => return vec![(Weight::Alarm, format!("daemon    doesn't answer: {why}"))],
        Daemon::Absent => {
            let why = match remote {
                Some(_) => "not running; a build starts it when it needs it",
                None => "not running; without a remote builds need none",
            };
            return vec![(Weight::Plain, format!("daemon    {why}"))];
        }
        Daemon::Running(status) => status,
    };
    let up = format_duration(Duration::from_millis(now_ms.saturating_sub(status.started_ms)));
    let mut lines = vec![
        (Weight::Plain, format!("daemon    process {}, version {}, for {up}", status.pid, status.version)),
        (Weight::Plain, format!("remote    {}", named(&status.remote))),
    ];
    if status.remote_id != remote {
        let what = "builds here use another one; `kache daemon restart` changes that";
        lines.push((Weight::Alarm, format!("          {what}")));
    }
    if let Some(why) = &status.sick {
        lines.push((Weight::Alarm, format!("          left alone: {why}")));
    }
    lines.push((Weight::Plain, numbers_of_demand(status)));
    lines.push((Weight::Plain, numbers_of_prefetch(status)));
    if status.snapshots.asked > 0 {
        lines.push((Weight::Plain, numbers_of_snapshots(status)));
    }
    lines.push((Weight::Plain, numbers_of_uploads(status)));
    if let Some(why) = &status.uploads.refused {
        lines.push((Weight::Alarm, format!("          wait, for the credentials may not write: {why}")));
    }
    if let Some(error) = &status.uploads.last_error {
        lines.push((Weight::Alarm, format!("          latest failure: {error}")));
    }
    lines
}

fn named(remote: &str) -> &str {
    if remote.is_empty() { "none" } else { remote }
}

fn numbers_of_demand(status: &Status) -> String {
    let demand = &status.demand;
    format!(
        "builds    {} asked, {} arrived, {} absent, {} not answered",
        demand.asked, demand.arrived, demand.absent, demand.unavailable
    )
}

fn numbers_of_prefetch(status: &Status) -> String {
    let prefetch = &status.prefetch;
    format!(
        "prefetch  {} entries ({}) for {} build(s), {} used so far",
        prefetch.entries,
        format_size(prefetch.bytes),
        prefetch.builds,
        prefetch.used
    )
}

fn numbers_of_snapshots(status: &Status) -> String {
    let snapshots = &status.snapshots;
    format!(
        "fresh     {} directories asked, {} snapshots taken over with {} entries",
        snapshots.asked, snapshots.taken, snapshots.entries
    )
}

fn numbers_of_uploads(status: &Status) -> String {
    let uploads = &status.uploads;
    let owed = match uploads.owed {
        0 => "none owed".to_owned(),
        owed => {
            let oldest = format_duration(Duration::from_secs(uploads.oldest_s));
            format!("{owed} owed ({}, for {oldest})", format_size(uploads.owed_bytes))
        }
    };
    format!(
        "uploads   {owed}, {} done, {} failed, {} stay local",
        uploads.done, uploads.failed, uploads.dropped
    )
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use kache_core::protocol::{Demand, Prefetch, Uploads};

    /// A daemon with all kinds of numbers.
    pub fn sample(started_ms: u64) -> Daemon {
        let uploads = Uploads {
            owed: 3,
            owed_bytes: 5 << 20,
            oldest_s: 40,
            done: 12,
            known: 2,
            failed: 4,
            dropped: 1,
            last_error: Some("can't write artifacts/v3/packs/syn: connection refused".into()),
            refused: None,
        };
        Daemon::Running(Box::new(Status {
            version: "1.2.3".into(),
            pid: 4711,
            started_ms,
            remote: "s3://build-cache/artifacts at eu-west-1".into(),
            sick: Some("three failures in a row".into()),
            uploads,
            demand: Demand { asked: 9, arrived: 5, absent: 3, unavailable: 1, ..Demand::default() },
            prefetch: Prefetch { builds: 2, entries: 30, bytes: 70 << 20, used: 21, used_bytes: 50 << 20 },
            ..Status::default()
        }))
    }

    #[test]
    fn every_state_is_told() {
        let text = |daemon: &Daemon, remote| lines(daemon, remote, 60_000)[0].1.clone();
        assert!(text(&Daemon::Unasked, None).contains("being asked"));
        assert!(text(&Daemon::Absent, None).contains("without a remote"));
        assert!(text(&Daemon::Absent, Some(Digest::of(b"r"))).contains("a build starts it"));
        assert_eq!(
            lines(&Daemon::Silent("it gave no sign of life".into()), None, 0),
            [(Weight::Alarm, "daemon    doesn't answer: it gave no sign of life".to_owned())]
        );
        let running = lines(&sample(0), None, 60_000);
        assert_eq!(running.iter().filter(|(weight, _)| *weight == Weight::Alarm).count(), 2);
        assert!(running.iter().all(|(_, line)| line.chars().count() <= 80), "{running:#?}");
        let other = lines(&sample(0), Some(Digest::of(b"r")), 0);
        assert!(other[2].1.contains("use another one"), "{other:#?}");
        let Daemon::Running(mut well) = sample(0) else { return };
        well.uploads.refused = Some("403 (tried again in 3600 s)".into());
        let refused = lines(&Daemon::Running(well.clone()), None, 0);
        let alarm =
            (Weight::Alarm, "          wait, for the credentials may not write: 403 (tried again in 3600 s)");
        assert!(refused.iter().any(|(weight, line)| (*weight, line.as_str()) == alarm), "{refused:#?}");
        well.uploads.refused = None;
        (well.sick, well.uploads.last_error, well.uploads.owed) = (None, None, 0);
        let well = lines(&Daemon::Running(well), None, 0);
        assert!(well.iter().all(|(weight, _)| *weight == Weight::Plain) && well[4].1.contains("none owed"));
    }
}
