//! The report as Markdown: flat, or with foldable parts for places where space is short.

use std::fmt::Write as _;
use std::time::Duration;

use kache_core::quantity::format_duration;
use kache_core::served::Served;

use super::text::{by_count, figures, groups};
use super::{Report, columns, percent};

const BUILDS_MAX: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folding {
    Flat,
    /// `<details>`, as GitHub shows them.
    Details,
}

impl Folding {
    fn part(self, text: &mut String, heading: &str, content: &str) {
        let _ = match self {
            Folding::Flat => write!(text, "\n### {heading}\n\n{content}"),
            Folding::Details => {
                write!(text, "\n<details><summary>{heading}</summary>\n\n{content}\n</details>\n")
            }
        };
    }
}

pub fn render(report: &Report, folding: Folding) -> String {
    let mut text = String::from("## kache\n\n");
    if report.is_empty() {
        let _ = writeln!(text, "No compiler calls.\n\n{}", report.title);
        return text;
    }
    let _ = writeln!(text, "**{}.**\n\n{}\n", Served::of(&report.tally).sentence(), report.title);
    text.push_str("| | |\n| --- | --- |\n");
    for (label, value) in figures(report) {
        let _ = writeln!(text, "| {label} | {value} |");
    }
    folding.part(&mut text, "Builds, the latest first", &builds(report));
    folding.part(&mut text, "Crates, the costliest first", &crates(report));
    for (heading, reasons) in groups(report) {
        let mut table = String::from("| reason | count | latest |\n| --- | ---: | --- |\n");
        for (code, count, example) in by_count(reasons) {
            let _ = writeln!(table, "| `{code}` | {count} | {} |", escape(example));
        }
        folding.part(&mut text, heading, &table);
    }
    text
}

fn builds(report: &Report) -> String {
    let mut table = String::from(
        "| project | wall | calls | hit rate | saved | compiled |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
    );
    for session in report.builds().rev().take(BUILDS_MAX) {
        let part = session.part();
        let us = |us: u64| format_duration(Duration::from_micros(us));
        let _ = writeln!(
            table,
            "| {} | {} | {} | {} | {} | {} |",
            escape(&session.project),
            us(session.wall_us()),
            session.calls.len(),
            percent(part.outcomes.hit_rate()),
            us(part.times.saved_us),
            us(part.times.compile_us)
        );
    }
    table
}

fn crates(report: &Report) -> String {
    let mut table = String::from(
        "| crate | hit | dup | miss | other | compiled | saved | latest reason |\n\
         | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |\n",
    );
    for cost in report.costliest() {
        let reason = cost.detail.as_deref().or(cost.reason.as_deref()).unwrap_or_default();
        let columns = columns(cost).join(" | ");
        let _ = writeln!(table, "| {} | {columns} | {} |", escape(&cost.name), escape(reason));
    }
    table
}

/// Text that is no markup and stays in its cell.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' => escaped.push(' '),
            '<' => escaped.push_str("&lt;"),
            '&' => escaped.push_str("&amp;"),
            '|' | '`' | '*' | '_' | '[' | ']' | '\\' | '#' => {
                escaped.push('\\');
                escaped.push(c);
            }
            c => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn both_forms() {
        crate::snapshot::check("report.md", &render(&sample(), Folding::Flat));
        crate::snapshot::check("report.github.md", &render(&sample(), Folding::Details));
        assert_eq!(escape("a|b\n<x> `y`"), "a\\|b &lt;x> \\`y\\`");
    }
}
