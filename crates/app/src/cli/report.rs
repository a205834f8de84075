//! `kache report`: what the builds of a period were like, in a form for people, scripts, pull requests, trace viewers
//! or browsers. Here the events are gathered; each format is a module that makes text from a [`Report`].

mod html;
mod json;
mod markdown;
mod perfetto;
mod text;

use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use kache_core::event::Event;
use kache_core::printable;
use kache_core::quantity::{format_duration, format_moment};
use kache_core::served::Served;
use kache_core::tally::Tally;
use kache_core::timeline::{self, CrateCost, Session};

use super::sums::{Period, chosen, last_build, this_job};
use super::{ms_ago, now_ms, open_store, settings, since_moment};
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// What is reported when nothing says what.
const SINCE: Duration = Duration::from_secs(86_400);

/// Report builds: outcomes per crate, time saved, what was costly and why
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache report                                      the builds of the last day
  kache report --since 7d --top 30                  a week, thirty crates
  kache report --format html --output build.html    with a timeline, for a browser
  kache report --format perfetto --output t.json    for a trace viewer
  kache report --format github >> summary.md        for a job summary
  kache report --format json | jq .served.share     for scripts; the schema is docs/schema/report-v1.json")]
pub struct Args {
    /// Form of the report
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Only what happened since this long ago (30m, 24h, 7d, or bare hours); in a CI job the job, else 24h
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    since: Option<Duration>,
    /// Only what happened since this moment, as `date +%s` prints it: for jobs that note when they began
    #[arg(long, value_name = "SECONDS", value_parser = super::moment, conflicts_with_all = ["since", "last_build"])]
    from: Option<u64>,
    /// Only the latest build
    #[arg(long, conflicts_with = "since")]
    last_build: bool,
    /// Only this CI job; in one that kache knows, and with KACHE_JOB, that is the default
    #[arg(long, conflicts_with_all = ["since", "from", "last_build"])]
    job: bool,
    /// File to write, in place of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// How many crates are listed, the costliest first; JSON has all
    #[arg(long, value_name = "N", default_value_t = 15)]
    top: usize,
}

/// Form of a report.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For terminals
    #[default]
    Text,
    /// For scripts, with a published schema
    Json,
    /// Markdown tables
    Markdown,
    /// Markdown with foldable parts, for job summaries and comments
    Github,
    /// Trace events for trace viewers
    Perfetto,
    /// One file for browsers
    Html,
}

struct Report {
    title: String,
    /// The period, in milliseconds since 1970.
    from_ms: u64,
    until_ms: u64,
    tally: Tally,
    /// Builds, the latest last.
    sessions: Vec<Session>,
    /// Crates, the costliest first.
    crates: Vec<CrateCost>,
    top: usize,
}

impl Report {
    fn new(events: Vec<Event>, (from_ms, until_ms): (u64, u64), top: usize) -> Self {
        let tally = Tally::of(&events);
        // What was put into place before a build is in the sums; it is no call of a compiler.
        let events: Vec<Event> = events.into_iter().filter(|event| event.seeding.is_none()).collect();
        let crates = timeline::costs(&events);
        let period = format_duration(Duration::from_millis(until_ms.saturating_sub(from_ms)));
        let title = format!("Builds of the last {period}, until {}", format_moment(until_ms));
        Self { title, from_ms, until_ms, tally, crates, sessions: timeline::sessions(events), top }
    }

    /// Sessions that looked something up: others only asked the compiler something.
    fn builds(&self) -> impl DoubleEndedIterator<Item = &Session> {
        let looked_up =
            |session: &&Session| self.tally.builds.get(&session.id).is_none_or(|build| build.has_compiles());
        self.sessions.iter().filter(looked_up)
    }

    /// Whether nothing was called, nor in place before.
    fn is_empty(&self) -> bool {
        self.tally.all.outcomes.total() == 0 && Served::of(&self.tally).share().is_none()
    }

    fn costliest(&self) -> &[CrateCost] {
        &self.crates[..self.top.min(self.crates.len())]
    }
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = open_store(&settings, ui)?;
    let until_ms = now_ms();
    let period = chosen(since_moment(args.from).or(args.since), args.last_build, args.job)?;
    let since = if let Period::Since(since) = period { since } else { SINCE };
    let events: Vec<Event> = match (&store, period) {
        (None, _) => Vec::new(),
        (Some(store), Period::LastBuild) => last_build(store),
        (Some(store), Period::Job) => this_job(store),
        (Some(store), _) => store.events(Some(ms_ago(since))).collect(),
    };
    let from_ms = match period {
        Period::LastBuild | Period::Job => events.iter().map(|event| event.at_ms).min().unwrap_or(until_ms),
        _ => ms_ago(since),
    };
    let mut report = Report::new(events, (from_ms, until_ms), args.top);
    match period {
        Period::LastBuild => report.title = format!("The latest build, of {}", format_moment(from_ms)),
        Period::Job => report.title = format!("This job, until {}", format_moment(until_ms)),
        _ => {}
    }
    let plain = Ui::without_colour();
    let text = match args.format {
        Format::Text => text::render(&report, if args.output.is_some() { &plain } else { ui }),
        Format::Json => printable::json(&json::render(&report)).into_owned(),
        Format::Markdown => markdown::render(&report, markdown::Folding::Flat),
        Format::Github => markdown::render(&report, markdown::Folding::Details),
        Format::Perfetto => printable::json(&perfetto::render(&report)).into_owned(),
        Format::Html => html::render(&report),
    };
    match &args.output {
        None => ui.print(&text)?,
        Some(path) => {
            std::fs::write(path, printable::page(&text, &[]).as_ref())
                .map_err(|error| CliError::file("write", path, &error))?;
            ui.status(&format!("Wrote {}.", path.display()));
        }
    }
    Ok(Status::Done)
}

/// What every form of the report tells of a crate in columns: hit, dup, miss, other, compiled, saved.
fn columns(cost: &CrateCost) -> [String; 6] {
    let (outcomes, times) = (&cost.part.outcomes, &cost.part.times);
    let us = |us: u64| format_duration(Duration::from_micros(us));
    [
        outcomes.hit.to_string(),
        outcomes.dup.to_string(),
        outcomes.miss.to_string(),
        (outcomes.passthrough + outcomes.error).to_string(),
        us(times.compile_us),
        us(times.saved_us),
    ]
}

/// A share in percent, or a dash.
fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::event::{Outcome as EventOutcome, Source};

    /// Two builds: a cold one with two calls side by side, and a warm one.
    pub(super) fn sample() -> Report {
        let event = |name: &str, session: &str, outcome, end_ms: u64, total_ms: u64| {
            let mut event = Event::new(name, outcome);
            (event.session, event.project) = (session.to_owned(), "/home/me/p".to_owned());
            (event.package, event.package_version) = (name.to_owned(), "1.0.0".to_owned());
            (event.kind, event.mode) = ("lib".to_owned(), "build".to_owned());
            event.at_ms = 1_700_000_000_000 + end_ms;
            event.times.total_us = total_ms * 1000;
            match outcome {
                EventOutcome::Hit => {
                    (event.source, event.saved_ms) = (Some(Source::Local), 2000);
                    event.times.restore_us = total_ms * 800;
                    event.moved.linked_bytes = 3 << 20;
                }
                EventOutcome::Passthrough => {
                    event.reason = Some("unknown-flag".into());
                    event.detail = Some("unknown compiler flag \"-Z<x>\"".into());
                }
                _ => {
                    event.times.wait_us = total_ms * 50;
                    event.times.remote_us = total_ms * 10;
                    event.times.compile_us = total_ms * 900;
                    event.times.store_us = total_ms * 20;
                    event.reason = Some("unit-unknown".into());
                    event.detail = Some("first compile".into());
                    event.moved.stored_bytes = 5 << 20;
                }
            }
            event
        };
        let events = vec![
            event("serde", "10-1", EventOutcome::Miss, 2000, 2000),
            event("app & co", "10-1", EventOutcome::Miss, 2500, 1500),
            event("odd", "10-1", EventOutcome::Passthrough, 2600, 100),
            event("serde", "11-5", EventOutcome::Hit, 60_000, 2),
            event("app & co", "11-5", EventOutcome::Hit, 60_004, 4),
        ];
        Report::new(events, (1_700_000_000_000, 1_700_000_100_000), 10)
    }

    #[test]
    fn what_was_in_place_before_is_told_and_is_no_call() {
        let mut event = Event::new("-", EventOutcome::Passthrough);
        (event.session, event.saved_ms) = ("11-5".to_owned(), 90_000);
        event.seeding = Some(kache_core::event::Seeding { units: 4, runs: 1, ..Default::default() });
        let report = Report::new(vec![event], (0, 1), 5);
        let figures = text::figures(&report);
        let told = figures.iter().find(|(label, _)| *label == "in place before").expect("told");
        assert_eq!(told.1, "4 compiles and 1 build-script runs, which had taken 1m 30s");
        assert_eq!((report.sessions.len(), report.crates.len()), (0, 0));
    }
}
