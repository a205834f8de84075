//! `kache gc`: evicts what is too old or too much. What goes is decided by the store's plan; here it is asked for,
//! shown and counted.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use kache_core::quantity::{format_duration, format_size};
use kache_store::Store;
use kache_store::evict::{EvictPlan, SweepOptions, Why};
use kache_store::sweep::{SweepReport, Sweeping};
use serde_json::json;

use super::{open_store, settings};
use crate::error::{CliError, Outcome, Status};
use crate::ui::{Align, Style, Table, Ui};

/// Evict what hasn't been used for long, or is over the size limit
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache gc                     bring the store under its limit, remove what nothing needs
  kache gc --max-age 30d       also evict what wasn't used for thirty days
  kache gc --to-save           bring everything that a CI job saves under the limit
  kache gc --dry-run           show what would go and why, remove nothing

The limit is `cache.local_max_size` (KACHE_MAX_SIZE). It counts what only the store holds: a file that a target \
directory shares by hard link costs nothing and counts nothing. Where less is free on the disk than `cache.min_free_space` \
(KACHE_MIN_FREE_SPACE; by itself a twentieth, 1 GiB at most), more goes. The wrapper starts this by itself when the store is over its limit or the disk nearly full.")]
pub struct Args {
    /// Evict entries that weren't used for this long (30m, 24h, 7d, or bare hours)
    #[arg(long, value_name = "DURATION", value_parser = super::duration)]
    max_age: Option<Duration>,
    /// At the end of a CI job that saves the store: all of it counts, as `du` says, and nothing is spared for being new
    #[arg(long)]
    to_save: bool,
    /// Show what would go, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Say nothing, and do nothing while the store is under its limit: for the wrapper
    #[arg(long, hide = true, conflicts_with_all = ["max_age", "to_save", "dry_run", "json"])]
    auto: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    if args.auto {
        return auto();
    }
    let settings = settings(ui)?;
    let Some(store) = open_store(&settings, ui)? else { return Ok(Status::Done) };
    let limit_bytes = *settings.local_size_bytes_max;
    let options = SweepOptions { age_max: args.max_age, ..SweepOptions::keeping(limit_bytes, store.room()) };
    let options = if args.to_save { options.of_copy() } else { options };
    if args.dry_run {
        return show(&store.plan_sweep(&options)?, &options, args.json, ui);
    }
    sweep(&store, &options, args.json, ui)
}

/// Says what a sweep would do.
pub(super) fn show(plan: &EvictPlan, options: &SweepOptions, as_json: bool, ui: &Ui) -> Outcome {
    ui.print_as(as_json, || json(plan, None), || plan_text(plan, options, now_s(), ui))?;
    warn_if_over(plan, options, ui);
    super::warn_of_denied(&plan.denied, ui);
    Ok(Status::Done)
}

/// Carries out a sweep and says what it did.
pub(super) fn sweep(store: &Store, options: &SweepOptions, as_json: bool, ui: &Ui) -> Outcome {
    match store.sweep(options)? {
        Sweeping::Busy => {
            Err(CliError::failure("another process is evicting right now").hint("try again in a moment"))
        }
        Sweeping::Done(report) => {
            if as_json {
                ui.print_json(&json(&report.plan, Some(&report)))?;
            }
            ui.status(&report_text(&report));
            warn_if_over(&report.plan, options, ui);
            super::warn_of_denied(&report.plan.denied, ui);
            match report.errors.first() {
                None => Ok(Status::Done),
                Some(error) => {
                    Err(CliError::failure(format!("{} things couldn't be removed", report.errors.len()))
                        .because(error))
                }
            }
        }
    }
}

/// Started by the wrapper, detached: nobody reads what it would say. Which store and which limit are meant, the
/// wrapper says through KACHE_CACHE_DIR and KACHE_MAX_SIZE.
fn auto() -> Outcome {
    let (settings, _) = crate::settings::load(None)?;
    let limit_bytes = *settings.local_size_bytes_max;
    let store = Store::open_existing(settings.cache_dir()?)?;
    let store = store.leaving_free(settings.free_bytes_min.as_deref().copied());
    if store.is_room_low() || store.usage_estimate()?.bytes > limit_bytes {
        store.sweep(&SweepOptions::keeping(limit_bytes, store.room()))?;
    }
    Ok(Status::Done)
}

/// A store may stay over its limit when everything in it was used just now.
fn warn_if_over(plan: &EvictPlan, options: &SweepOptions, ui: &Ui) {
    let after_bytes = plan.after.counted_bytes();
    if !options.whole && options.limit_bytes.is_some_and(|limit_bytes| after_bytes > limit_bytes) {
        let minutes = options.grace.as_secs() / 60;
        let size = format_size(after_bytes);
        ui.warn(&format!(
            "{size} stay, over the limit: what was used in the last {minutes} minutes is not evicted"
        ));
    }
}

/// What would go and why, and what that would free.
fn plan_text(plan: &EvictPlan, options: &SweepOptions, now_s: u64, ui: &Ui) -> String {
    let mut text = state_text(plan, options);
    if plan.entries.is_empty() && plan.blobs.is_empty() {
        text.push_str("Nothing to evict.\n");
        return text;
    }
    if !plan.entries.is_empty() {
        let mut table = Table::new(&[
            ("crate", Align::Left),
            ("why", Align::Left),
            ("unused for", Align::Right),
            ("size", Align::Right),
            ("key", Align::Left),
        ]);
        for entry in &plan.entries {
            let name = if entry.crate_name.is_empty() { "?" } else { &entry.crate_name };
            let unused_s = now_s.saturating_sub(u64::try_from(entry.used.seconds()).unwrap_or(0));
            table.row([
                name.to_owned(),
                entry.why.word().to_owned(),
                format_duration(Duration::from_secs(unused_s)),
                format_size(entry.blob_bytes),
                entry.key.0.short(),
            ]);
        }
        text.push_str(&table.render(ui));
        for why in Why::ALL.into_iter().filter(|why| plan.entries.iter().any(|entry| entry.why == *why)) {
            let _ = writeln!(text, "{}: {}", ui.out(Style::Warn, why.word()), meaning(why, options));
        }
    }
    if !plan.blobs.is_empty() {
        let orphans = "blobs that no entry needs once these are gone";
        let _ = writeln!(text, "{} {orphans}, {}.", plan.blobs.len(), format_size(plan.freed_bytes()));
    }
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &plan.entries {
        *reasons.entry(entry.why.word()).or_default() += 1;
    }
    let reasons: Vec<String> = reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
    let reasons = if reasons.is_empty() { String::new() } else { format!(" ({})", reasons.join(", ")) };
    let summary = format!(
        "Would evict {} entries{reasons} and remove {} blobs, freeing {}; {} entries and {} would stay.",
        plan.entries.len(),
        plan.blobs.len(),
        format_size(plan.freed_bytes()),
        plan.after.entries,
        format_size(plan.after.counted_bytes()),
    );
    let _ = writeln!(text, "{}", ui.out(Style::Bold, &summary));
    text
}

/// How full the store is, and what counts.
fn state_text(plan: &EvictPlan, options: &SweepOptions) -> String {
    let before = &plan.before;
    let held = match before.held_bytes {
        0 => String::new(),
        bytes => {
            format!(" Another {} are shared with target directories and don't count.", format_size(bytes))
        }
    };
    let limit = match options.limit_bytes {
        Some(bytes) => format!(" of {}", format_size(bytes)),
        None => String::new(),
    };
    format!("{} entries, {}{limit}.{held}\n", before.entries, format_size(before.counted_bytes()))
}

/// Why entries with this reason go.
fn meaning(why: Why, options: &SweepOptions) -> String {
    match why {
        Why::Purged => "you asked for it".to_owned(),
        Why::Malformed => "the entry can't be understood, so it is of no use".to_owned(),
        Why::Hole => "files that the entry needs are gone, so it is of no use".to_owned(),
        Why::TooOld => {
            let age = format_duration(options.age_max.unwrap_or_default());
            format!("not used for more than {age} (`--max-age`)")
        }
        Why::CompilerGone => {
            "the compiler that made it is no longer installed; such entries go before all others".to_owned()
        }
        Why::OverLimit if options.room_bytes > 0 => {
            let lacking = format_size(options.room_bytes);
            format!("the disk is nearly full; least recently used entries go until {lacking} more are free")
        }
        Why::OverLimit => {
            let limit_bytes = options.limit_bytes.unwrap_or_default();
            let target = format_size(limit_bytes / 10 * 9);
            format!("the store is over its limit; least recently used entries go until {target} are left")
        }
    }
}

/// The time, in seconds since 1970.
fn now_s() -> u64 {
    super::now_ms() / 1000
}

fn report_text(report: &SweepReport) -> String {
    let mut text = format!(
        "Evicted {} entries and removed {} blobs: {} freed.",
        report.entries,
        report.blobs,
        format_size(report.freed_bytes)
    );
    if report.held_bytes > 0 {
        let _ = write!(
            text,
            " Another {} are free once target directories let go.",
            format_size(report.held_bytes)
        );
    }
    if report.spared > 0 {
        let _ = write!(text, " {} were used meanwhile and stay.", report.spared);
    }
    text
}

fn json(plan: &EvictPlan, report: Option<&SweepReport>) -> String {
    let entries: Vec<_> = plan
        .entries
        .iter()
        .map(|entry| {
            json!({
                "key": entry.key, "crate": entry.crate_name, "why": entry.why.word(),
                "size_bytes": entry.blob_bytes, "used_s": entry.used.seconds(),
            })
        })
        .collect();
    let value = json!({
        "version": 1,
        "dry_run": report.is_none(),
        "entries": entries,
        "entries_removed": report.map(|report| report.entries),
        "blobs": plan.blobs.len(),
        "freed_bytes": report.map_or(plan.freed_bytes(), |report| report.freed_bytes),
        "before_bytes": plan.before.counted_bytes(),
        "after_bytes": plan.after.counted_bytes(),
    });
    format!("{value:#}\n")
}
