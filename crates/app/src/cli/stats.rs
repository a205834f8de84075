//! `kache stats`: what the journal says, summed up. Gathering, the text and the JSON are apart, so that the text can
//! be tested without a store.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use kache_core::quantity::{format_duration, format_size};
use kache_core::served::Served;
use kache_core::tally::{Reasons, Tally};
use kache_engine::proof::{Counts, counts};
use kache_store::Store;
use serde_json::json;

use super::sums::{Period, chosen, tally};
use super::{open_store, settings};
use crate::error::{Outcome, Status};
use crate::ui::{Style, Ui};

/// Version of the JSON form; rises when a field changes its meaning.
const JSON_VERSION: u32 = 1;
const REASONS_MAX: usize = 8;

/// Show what came from the cache, what didn't and why
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache stats                  everything the journal remembers
  kache stats --since 24h      the last day (30m, 24h, 7d, or bare hours)
  kache stats --last-build     the latest `cargo` run only
  kache stats --job            this CI job, which is the default in one
  kache stats --json           for scripts

A hit was served from the cache, a dup was compiled and turned out to be known, a miss was compiled, a passthrough \
went to the compiler without a look-up. The first line counts what the builds asked for: \
hits and what was in place before Cargo looked are served, everything else that compiled is not. The hit rate is hits \
per look-up.")]
pub struct Args {
    /// Only what happened since this long ago
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    since: Option<Duration>,
    /// Only what happened since this moment, as `date +%s` prints it
    #[arg(long, value_name = "SECONDS", value_parser = super::moment, conflicts_with_all = ["since", "last_build"])]
    from: Option<u64>,
    /// Only the latest build
    #[arg(long, conflicts_with = "since")]
    last_build: bool,
    /// Only this CI job; in one that kache knows, and with KACHE_JOB, that is the default
    #[arg(long, conflicts_with_all = ["since", "from", "last_build"])]
    job: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

struct View {
    tally: Tally,
    period: Period,
    store: StoreView,
}

struct StoreView {
    dir: PathBuf,
    bytes: u64,
    bytes_max: u64,
    entries: u64,
    proofs: Counts,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let settings = settings(ui)?;
    let store = open_store(&settings, ui)?;
    let period = chosen(args.since.or(super::since_moment(args.from)), args.last_build, args.job)?;
    let view = View {
        tally: store.as_ref().map(|store| tally(store, period)).unwrap_or_default(),
        period,
        store: StoreView {
            dir: settings.cache_dir()?.to_owned(),
            bytes: store.as_ref().and_then(|store| store.usage_estimate().ok()).unwrap_or_default().bytes,
            bytes_max: *settings.local_size_bytes_max,
            entries: store.as_ref().map_or(Ok(0), Store::entry_count)?,
            proofs: store.as_ref().map(counts).unwrap_or_default(),
        },
    };
    ui.print_as(args.json, || view.json(), || view.text(ui, super::now_ms()))?;
    super::warn_of_denied(&store.as_ref().map(Store::denied).unwrap_or_default(), ui);
    Ok(Status::Done)
}

impl View {
    fn json(&self) -> String {
        let outcomes = &self.tally.all.outcomes;
        let value = json!({
            "version": JSON_VERSION,
            "kache": env!("CARGO_PKG_VERSION"),
            "period": self.period.word(),
            "served": served_json(&self.tally),
            "hit_rate": outcomes.hit_rate(),
            "total": outcomes.total(),
            "tally": self.tally,
            "store": {
                "dir": self.store.dir,
                "bytes_estimate": self.store.bytes,
                "bytes_max": self.store.bytes_max,
                "entries": self.store.entries,
                "proofs": {
                    "pending": self.store.proofs.pending,
                    "made": self.store.proofs.made,
                    "failed": self.store.proofs.failed,
                },
            },
        });
        format!("{value:#}\n")
    }

    fn text(&self, ui: &Ui, now_ms: u64) -> String {
        let mut text = String::new();
        self.outcomes(&mut text, ui, now_ms);
        self.savings(&mut text);
        self.seeding(&mut text, ui);
        self.disk(&mut text, ui);
        reasons(&mut text, ui, "Why there was no hit", &self.tally.misses);
        reasons(&mut text, ui, "Why the compiler was called without a look-up", &self.tally.passthroughs);
        reasons(&mut text, ui, "Why results were not stored", &self.tally.not_stored);
        reasons(&mut text, ui, "Worth knowing", &self.tally.notes);
        text
    }

    fn outcomes(&self, text: &mut String, ui: &Ui, now_ms: u64) {
        let all = &self.tally.all;
        let total = all.outcomes.total();
        let served = Served::of(&self.tally);
        let heading = match self.period {
            Period::LastBuild => "The latest build".to_owned(),
            Period::Job => "This job".to_owned(),
            Period::Since(duration) => format!("The last {}", format_duration(duration)),
            Period::All => "Everything on record".to_owned(),
        };
        let _ = writeln!(text, "{}", ui.out(Style::Bold, &heading));
        if served.share().is_some() {
            let _ = writeln!(text, "{}", ui.out(Style::Good, &format!("{}.", served.sentence())));
        }
        if total == 0 {
            let _ = writeln!(text, "  no compiler calls");
            return;
        }
        let ago = format_duration(Duration::from_millis(now_ms.saturating_sub(all.first_ms)));
        let builds = self.tally.build_count();
        let _ = writeln!(
            text,
            "  {:<22}{total:>9}   in {builds} build(s), the first call {ago} ago",
            "compiler calls"
        );
        for (outcome, count) in all.outcomes.iter().filter(|(_, count)| *count > 0) {
            let percent = count as f64 * 100.0 / total as f64;
            let _ = writeln!(text, "    {:<20}{count:>9}   {percent:.1} %", outcome.word());
        }
        if let Some(rate) = all.outcomes.hit_rate() {
            let rate = format!("{:.1} %", rate * 100.0);
            let _ =
                writeln!(text, "  {:<22}{rate:>9}   of look-ups; what was in place needed none", "hit rate");
        }
    }

    fn savings(&self, text: &mut String) {
        let Tally { all, sources, .. } = &self.tally;
        let hits = all.outcomes.hit;
        if hits > 0 {
            let saved = format_duration(all.times.saved());
            let per_hit_ms = all.times.hit_us as f64 / 1000.0 / hits as f64;
            let _ = writeln!(
                text,
                "  {:<22}{saved:>9}   by hits, which cost {per_hit_ms:.1} ms each",
                "compile time saved"
            );
        }
        if sources.prefetch + sources.remote > 0 {
            let (local, fetched) = (sources.local, sources.prefetch);
            let _ = writeln!(
                text,
                "  {:<22}{local} local, {fetched} prefetched, {} remote",
                "hits from", sources.remote
            );
        }
        if all.times.compile_us > 0 {
            let spent = format_duration(all.times.compile());
            let _ = writeln!(text, "  {:<22}{spent:>9}", "compile time spent");
        }
        if all.times.wait_us > 0 {
            let waited = format_duration(Duration::from_micros(all.times.wait_us));
            let _ = writeln!(
                text,
                "  {:<22}{waited:>9}   for processes that compile the same or record the last build",
                "waited"
            );
        }
        if all.times.remote_us > 0 {
            let waited = format_duration(Duration::from_micros(all.times.remote_us));
            let _ = writeln!(text, "  {:<22}{waited:>9}   for the remote, all processes together", "waited");
        }
    }

    fn seeding(&self, text: &mut String, ui: &Ui) {
        let sums = &self.tally.seeding;
        if sums.builds == 0 && sums.declined.is_empty() {
            return;
        }
        let _ = writeln!(text, "{}", ui.out(Style::Bold, "In place before Cargo looked"));
        if sums.builds > 0 {
            let (builds, runs) = (sums.builds, sums.runs);
            let saved = format_duration(Duration::from_micros(sums.saved_us));
            let spent = format_duration(Duration::from_micros(sums.spent_us));
            let _ = writeln!(
                text,
                "  {:<22}{:>9}   and {runs} build-script runs, in {builds} build(s)",
                "compiles", sums.units
            );
            let _ = writeln!(text, "  {:<22}{saved:>9}   cost {spent} in all", "time saved");
            let spare = (sums.units + sums.runs).saturating_sub(sums.asked.units + sums.asked.runs);
            if spare > 0 {
                let _ =
                    writeln!(text, "  {:<22}{spare:>9}   of these are of other profiles", "not asked for");
            }
        }
        for (code, count) in &sums.reasons {
            let meaning = kache_core::seeding::meaning(code);
            let _ = writeln!(
                text,
                "  {code:<22}{count:>9}   {}",
                ui.out(Style::Dim, &format!("left to Cargo: {meaning}"))
            );
        }
        for (why, count) in &sums.declined {
            let _ = writeln!(text, "  {:<22}{count:>9}   {}", "not tried", ui.out(Style::Dim, why));
        }
    }

    fn disk(&self, text: &mut String, ui: &Ui) {
        let moved = &self.tally.moved;
        let _ = writeln!(text, "{}", ui.out(Style::Bold, "Disk"));
        for (label, bytes, meaning) in [
            ("hard-linked", moved.linked_bytes, "no bytes used"),
            ("cloned", moved.reflinked_bytes, "no bytes used until changed"),
            ("copied", moved.copied_bytes, ""),
            ("left in place", moved.kept_bytes, "the very file was there"),
            ("added to the store", moved.stored_bytes, ""),
        ] {
            if bytes > 0 {
                let line = format!("  {label:<22}{:>9}   {meaning}", format_size(bytes));
                let _ = writeln!(text, "{}", line.trim_end());
            }
        }
        let StoreView { dir, bytes, bytes_max, entries, proofs } = &self.store;
        let (bytes, bytes_max) = (format_size(*bytes), format_size(*bytes_max));
        let _ = writeln!(
            text,
            "  {:<22}{bytes:>9}   of its own at most, limit {bytes_max}; {entries} entries in {}",
            "store",
            dir.display()
        );
        let Counts { pending, made, failed } = *proofs;
        if pending + made + failed > 0 {
            let _ = writeln!(
                text,
                "  {:<22}{made:>9}   results fit every place; {failed} don't or can't be shown to, {pending} pending",
                "proofs"
            );
        }
    }
}

pub fn served_json(tally: &Tally) -> serde_json::Value {
    let served = Served::of(tally);
    let mut value = json!(served);
    value["share"] = json!(served.share());
    value["text"] = json!(served.sentence());
    value
}

/// A group of reasons, the most frequent first.
fn reasons(text: &mut String, ui: &Ui, heading: &str, reasons: &Reasons) {
    if reasons.is_empty() {
        return;
    }
    let mut sorted: Vec<_> = reasons.iter().collect();
    sorted.sort_by(|a, b| b.1.count.cmp(&a.1.count).then(a.0.cmp(b.0)));
    let _ = writeln!(text, "{}", ui.out(Style::Bold, heading));
    for (code, reason) in sorted.iter().take(REASONS_MAX) {
        let example = ui.out(Style::Dim, &format!("last: {}", reason.example));
        let _ = writeln!(text, "  {code:<22}{:>9}   {example}", reason.count);
    }
    if sorted.len() > REASONS_MAX {
        let _ = writeln!(text, "  and {} more, in `kache stats --json`", sorted.len() - REASONS_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kache_core::event::{Event, Outcome, Source};

    fn view(period: Period) -> View {
        let mut hit = Event::new("serde", Outcome::Hit);
        hit.at_ms = 1_000_000;
        hit.session = "1".into();
        hit.source = Some(Source::Local);
        hit.saved_ms = 12_300;
        hit.times.total_us = 900;
        hit.moved.linked_bytes = 10 << 20;
        let mut miss = Event::new("app", Outcome::Miss);
        miss.at_ms = 1_060_000;
        miss.session = "1".into();
        miss.times.total_us = 2_010_000;
        miss.times.compile_us = 2_000_000;
        miss.reason = Some("inputs-changed".into());
        miss.detail = Some("file {ws}/src/main.rs".into());
        miss.not_stored = Some("incremental".into());
        let store = StoreView {
            dir: "/cache".into(),
            bytes: 3 << 30,
            bytes_max: 50 << 30,
            entries: 42,
            proofs: Counts::default(),
        };
        View { tally: Tally::of(&[hit, miss]), period, store }
    }

    #[test]
    fn the_text_has_outcomes_savings_disk_and_reasons() {
        let text = view(Period::Since(Duration::from_secs(7 * 86_400))).text(&Ui::plain(), 1_120_000);
        let expected = "\
The last 7d
Served 1 of 2 compiles, saved about 12.3s for 0ms.
  compiler calls                2   in 1 build(s), the first call 2m 00s ago
    hit                         1   50.0 %
    miss                        1   50.0 %
  hit rate                 50.0 %   of look-ups; what was in place needed none
  compile time saved        12.3s   by hits, which cost 0.9 ms each
  compile time spent         2.0s
Disk
  hard-linked            10.0 MiB   no bytes used
  store                  3.00 GiB   of its own at most, limit 50.0 GiB; 42 entries in /cache
Why there was no hit
  inputs-changed                1   last: app: file {ws}/src/main.rs
Why results were not stored
  incremental                   1   last: app
";
        assert_eq!(text, expected);
    }

    #[test]
    fn an_empty_period_says_so() {
        let mut view = view(Period::LastBuild);
        view.tally = Tally::default();
        assert!(view.text(&Ui::plain(), 0).starts_with("The latest build\n  no compiler calls\nDisk\n"));
    }

    #[test]
    fn the_json_form_is_versioned_and_carries_the_sums() {
        let value: serde_json::Value = serde_json::from_str(&view(Period::All).json()).expect("JSON");
        assert_eq!(value["version"], 1);
        assert_eq!(value["period"], "all");
        assert_eq!(value["hit_rate"], 0.5);
        assert_eq!((&value["served"]["share"], &value["served"]["compiles_of"]), (&0.5.into(), &2.into()));
        assert_eq!(value["tally"]["all"]["outcomes"]["hit"], 1);
        assert_eq!(value["tally"]["misses"]["inputs-changed"]["count"], 1);
        assert_eq!(value["store"]["entries"], 42);
    }
}
