//! The report for terminals.

use std::fmt::Write as _;
use std::time::Duration;

use kache_core::quantity::{format_duration, format_size};
use kache_core::served::Served;
use kache_core::tally::Reasons;

use super::{Report, columns, percent};
use crate::ui::{Align, Style, Table, Ui};

const BUILDS_MAX: usize = 10;

pub fn render(report: &Report, ui: &Ui) -> String {
    let mut text = String::new();
    summary(&mut text, report, ui);
    builds(&mut text, report, ui);
    crates(&mut text, report, ui);
    for (heading, reasons) in groups(report) {
        list(&mut text, ui, heading, reasons);
    }
    text
}

/// The groups of reasons that have any.
pub fn groups(report: &Report) -> impl Iterator<Item = (&'static str, &Reasons)> {
    let tally = &report.tally;
    [
        ("Why there was no hit", &tally.misses),
        ("Why the compiler was called without a look-up", &tally.passthroughs),
        ("Why results were not stored", &tally.not_stored),
        ("Worth knowing", &tally.notes),
    ]
    .into_iter()
    .filter(|(_, reasons)| !reasons.is_empty())
}

/// Reasons, the most frequent first.
pub fn by_count(reasons: &Reasons) -> Vec<(&str, u64, &str)> {
    let mut sorted: Vec<_> =
        reasons.iter().map(|(code, reason)| (code.as_str(), reason.count, reason.example.as_str())).collect();
    sorted.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
    sorted
}

/// The figures that matter, with their labels.
pub fn figures(report: &Report) -> Vec<(&'static str, String)> {
    let (all, moved) = (&report.tally.all, &report.tally.moved);
    let us = |us: u64| format_duration(Duration::from_micros(us));
    let counts: Vec<String> = all
        .outcomes
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(outcome, count)| format!("{count} {}", outcome.word()))
        .collect();
    let mut figures = vec![
        ("compiler calls", all.outcomes.total().to_string()),
        ("outcomes", counts.join(", ")),
        ("hit rate of look-ups", percent(all.outcomes.hit_rate())),
        ("saved by hits", us(all.times.saved_us)),
        ("compile time spent", us(all.times.compile_us)),
    ];
    let seeding = &report.tally.seeding;
    if seeding.builds > 0 {
        let (compiles, runs) = (seeding.units, seeding.runs);
        let saved = us(seeding.saved_us);
        figures.push((
            "in place before",
            format!("{compiles} compiles and {runs} build-script runs, which had taken {saved}"),
        ));
    }
    let sources = &report.tally.sources;
    if sources.prefetch + sources.remote > 0 {
        let text =
            format!("{} local, {} prefetched, {} remote", sources.local, sources.prefetch, sources.remote);
        figures.push(("hits from", text));
    }
    if all.times.wait_us > 0 {
        figures.push(("waited for others", us(all.times.wait_us)));
    }
    if all.times.remote_us > 0 {
        figures.push(("waited for remote", us(all.times.remote_us)));
    }
    for (label, bytes) in [
        ("hard-linked", moved.linked_bytes),
        ("cloned", moved.reflinked_bytes),
        ("copied", moved.copied_bytes),
        ("added to the store", moved.stored_bytes),
    ] {
        if bytes > 0 {
            figures.push((label, format_size(bytes)));
        }
    }
    figures
}

fn summary(text: &mut String, report: &Report, ui: &Ui) {
    let _ = writeln!(text, "{}", ui.out(Style::Bold, &report.title));
    let served = Served::of(&report.tally);
    if served.share().is_some() {
        let _ = writeln!(text, "{}", ui.out(Style::Good, &format!("{}.", served.sentence())));
    }
    if report.is_empty() {
        let _ = writeln!(text, "  no compiler calls");
        return;
    }
    for (label, value) in figures(report) {
        let _ = writeln!(text, "  {label:<20} {value}");
    }
}

fn builds(text: &mut String, report: &Report, ui: &Ui) {
    let mut table = Table::new(&[
        ("build", Align::Left),
        ("ago", Align::Right),
        ("wall", Align::Right),
        ("calls", Align::Right),
        ("hit rate", Align::Right),
        ("saved", Align::Right),
        ("compiled", Align::Right),
        ("project", Align::Left),
    ]);
    let count = report.builds().count();
    for session in report.builds().rev().take(BUILDS_MAX) {
        let part = session.part();
        let ago_us = (report.until_ms * 1000).saturating_sub(session.end_us);
        let us = |us: u64| format_duration(Duration::from_micros(us));
        table.row([
            session.id.clone(),
            us(ago_us),
            us(session.wall_us()),
            session.calls.len().to_string(),
            percent(part.outcomes.hit_rate()),
            us(part.times.saved_us),
            us(part.times.compile_us),
            session.project.clone(),
        ]);
    }
    if count > 0 {
        let _ = writeln!(
            text,
            "{}\n{}",
            ui.out(Style::Bold, "Builds, the latest first"),
            table.render(ui).trim_end()
        );
    }
    if count > BUILDS_MAX {
        let _ = writeln!(text, "and {} more, in `kache report --format json`", count - BUILDS_MAX);
    }
}

fn crates(text: &mut String, report: &Report, ui: &Ui) {
    if report.costliest().is_empty() {
        return;
    }
    let mut table = Table::new(&[
        ("crate", Align::Left),
        ("hit", Align::Right),
        ("dup", Align::Right),
        ("miss", Align::Right),
        ("other", Align::Right),
        ("compiled", Align::Right),
        ("saved", Align::Right),
        ("latest reason", Align::Left),
    ]);
    for cost in report.costliest() {
        let [hit, dup, miss, other, compiled, saved] = columns(cost);
        let reason = cost.reason.clone().unwrap_or_default();
        table.row([cost.name.clone(), hit, dup, miss, other, compiled, saved, reason]);
    }
    let _ = writeln!(
        text,
        "{}\n{}",
        ui.out(Style::Bold, "Crates, the costliest first"),
        table.render(ui).trim_end()
    );
}

fn list(text: &mut String, ui: &Ui, heading: &str, reasons: &Reasons) {
    let _ = writeln!(text, "{}", ui.out(Style::Bold, heading));
    for (code, count, example) in by_count(reasons) {
        let _ =
            writeln!(text, "  {code:<22}{count:>7}   {}", ui.out(Style::Dim, &format!("last: {example}")));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_text_has_builds_crates_and_reasons() {
        crate::snapshot::check("report.txt", &render(&sample(), &Ui::plain()));
        let empty = Report::new(Vec::new(), (0, 3_600_000), 5);
        assert_eq!(
            render(&empty, &Ui::plain()),
            "Builds of the last 1h 00m, until 1970-01-01 01:00 UTC\n  no compiler calls\n"
        );
    }
}
