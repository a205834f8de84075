//! The report as one HTML file that needs nothing else: figures, a timeline of each build, the costliest crates and the
//! reasons. Drawn here as SVG, so there is no script in it.

use std::fmt::Write as _;
use std::time::Duration;

use kache_core::event::Outcome;
use kache_core::quantity::format_duration;
use kache_core::served::Served;
use kache_core::timeline::{Call, Session};

use super::text::{by_count, figures, groups};
use super::{Report, columns, percent};

/// Builds that are drawn, the latest.
const BUILDS_MAX: usize = 12;
/// Calls that are drawn of one build, the longest.
const CALLS_MAX: usize = 1500;
/// Width of a timeline, in its own units.
const WIDTH: f64 = 1000.0;
/// Height of a lane, and of a bar in it.
const LANE: f64 = 18.0;
const BAR: f64 = 15.0;

const STYLE: &str = "\
:root{color-scheme:light dark;--fg:#1c2026;--dim:#667;--bg:#fff;--line:#dde;--hit:#2e9e5b;--dup:#c79a1b;--miss:#d0652f;\
--passthrough:#8a8f99;--error:#c2262e}
@media(prefers-color-scheme:dark){:root{--fg:#e6e8ec;--dim:#9aa;--bg:#15181c;--line:#333a}}
body{font:15px/1.45 system-ui,sans-serif;color:var(--fg);background:var(--bg);max-width:1100px;margin:2rem auto;padding:0 1rem}
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2.2rem}
.figures{display:grid;grid-template-columns:repeat(auto-fill,minmax(190px,1fr));gap:.6rem}
.figures div{border:1px solid var(--line);border-radius:8px;padding:.5rem .8rem}
.figures b{display:block;font-size:1.15rem}.figures span,.dim{color:var(--dim)}
table{border-collapse:collapse;width:100%}td,th{padding:.25rem .6rem;border-bottom:1px solid var(--line);text-align:left}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}code{font-size:.9em}
.wide{overflow-x:auto}td:last-child{overflow-wrap:anywhere;min-width:16rem}td{vertical-align:top}.item{white-space:nowrap}\
svg{width:100%;min-width:640px;height:auto;display:block;margin:.4rem 0}svg text{font:10px system-ui,sans-serif;fill:#fff;pointer-events:none}
svg text.axis{fill:var(--dim)}rect.hit{fill:var(--hit)}rect.dup{fill:var(--dup)}rect.miss{fill:var(--miss)}
rect.passthrough{fill:var(--passthrough)}rect.error{fill:var(--error)}rect.wait{fill:#0006}line{stroke:var(--line)}
.waiting{background:linear-gradient(#0006,#0006),var(--miss)}.key{display:inline-block;width:.8em;height:.8em;border-radius:2px;margin:0 .3em 0 1em}
";

pub fn render(report: &Report) -> String {
    let mut html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta name=\"viewport\" \
         content=\"width=device-width\">\n<title>kache report</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>kache report</h1>\n"
    );
    let _ =
        writeln!(html, "<p class=\"dim\">{}, kache {}</p>", escape(&report.title), env!("CARGO_PKG_VERSION"));
    let _ = writeln!(html, "<p><strong>{}.</strong></p>", escape(&Served::of(&report.tally).sentence()));
    html.push_str("<div class=\"figures\">\n");
    for (label, value) in figures(report) {
        let _ = writeln!(html, "<div><span>{}</span><b>{}</b></div>", escape(label), escape(&value));
    }
    html.push_str("</div>\n");
    timelines(&mut html, report);
    crates(&mut html, report);
    for (heading, reasons) in groups(report) {
        let _ = writeln!(html, "<h2>{}</h2>\n<div class=\"wide\"><table>", escape(heading));
        html.push_str("<tr><th>reason</th><th class=\"n\">count</th><th>latest</th></tr>\n");
        for (code, count, example) in by_count(reasons) {
            let _ = writeln!(
                html,
                "<tr><td><code>{}</code></td><td class=\"n\">{count}</td><td>{}</td></tr>",
                escape(code),
                escape(example)
            );
        }
        html.push_str("</table></div>\n");
    }
    html.push_str("</body>\n</html>\n");
    html
}

fn timelines(html: &mut String, report: &Report) {
    html.push_str("<h2>Builds, the latest first</h2>\n<p>");
    for outcome in [Outcome::Hit, Outcome::Dup, Outcome::Miss, Outcome::Passthrough, Outcome::Error] {
        let word = outcome.word();
        let _ = write!(
            html,
            "<span class=\"item\"><span class=\"key\" style=\"background:var(--{word})\"></span>{word}</span> "
        );
    }
    html.push_str("<span class=\"item\"><span class=\"key waiting\"></span>waiting for others or the remote</span></p>\n");
    for session in report.builds().rev().take(BUILDS_MAX) {
        let part = session.part();
        let _ = writeln!(
            html,
            "<section><strong>{}</strong> <span class=\"dim\">{} ago, {} calls in {}, hit rate {}</span>",
            escape(&session.project),
            format_duration(Duration::from_micros((report.until_ms * 1000).saturating_sub(session.end_us))),
            session.calls.len(),
            format_duration(Duration::from_micros(session.wall_us())),
            percent(part.outcomes.hit_rate())
        );
        html.push_str("<div class=\"wide\">\n");
        timeline(html, session);
        html.push_str("</div>\n");
        html.push_str("</section>\n");
    }
}

fn timeline(html: &mut String, session: &Session) {
    let wall_us = session.wall_us().max(1) as f64;
    let height = session.lanes as f64 * LANE + 16.0;
    let _ = writeln!(html, "<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">");
    for quarter in 0..=4 {
        let x = WIDTH * f64::from(quarter) / 4.0;
        let at = format_duration(Duration::from_micros((wall_us * f64::from(quarter) / 4.0) as u64));
        let anchor = ["start", "middle", "middle", "middle", "end"][quarter as usize];
        let _ = writeln!(
            html,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"0\" y2=\"{}\"/><text class=\"axis\" x=\"{x}\" y=\"{}\" \
             text-anchor=\"{anchor}\">{at}</text>",
            height - 14.0,
            height - 3.0
        );
    }
    let mut calls: Vec<&Call> = session.calls.iter().collect();
    calls.sort_by_key(|call| std::cmp::Reverse(call.duration_us));
    for call in calls.into_iter().take(CALLS_MAX) {
        bar(html, session, call, WIDTH / wall_us);
    }
    html.push_str("</svg>\n");
}

fn bar(html: &mut String, session: &Session, call: &Call, per_us: f64) {
    let event = &call.event;
    let x = (call.start_us - session.start_us) as f64 * per_us;
    let width = (call.duration_us as f64 * per_us).max(1.0);
    let y = call.lane as f64 * LANE;
    let took = format_duration(Duration::from_micros(call.duration_us));
    let why = event.detail.as_deref().map(|detail| format!("\n{detail}")).unwrap_or_default();
    let title = format!(
        "{} {} ({}, {})\n{} in {took}{why}",
        event.label(),
        event.package_version,
        event.kind,
        event.mode,
        event.outcome.word()
    );
    let _ = write!(
        html,
        "<g><title>{}</title><rect class=\"{}\" x=\"{x:.2}\" y=\"{y}\" width=\"{width:.2}\" height=\"{BAR}\" rx=\"2\"/>",
        escape(&title),
        event.outcome.word()
    );
    let times = &event.times;
    let wait = (times.wait_us + times.remote_us) as f64 * per_us;
    if wait >= 1.0 {
        let before = ((times.key_us + times.lookup_us) as f64 * per_us).min(width);
        let (x, wait) = (x + before, wait.min(width - before));
        let _ = write!(
            html,
            "<rect class=\"wait\" x=\"{x:.2}\" y=\"{y}\" width=\"{wait:.2}\" height=\"{BAR}\"/>"
        );
    }
    // About six units a letter.
    if width > 6.0 * event.label().chars().count() as f64 + 8.0 {
        let _ =
            write!(html, "<text x=\"{:.2}\" y=\"{}\">{}</text>", x + 4.0, y + 11.0, escape(&event.label()));
    }
    html.push_str("</g>\n");
}

fn crates(html: &mut String, report: &Report) {
    html.push_str(
        "<h2>Crates, the costliest first</h2>\n<div class=\"wide\"><table>\n<tr><th>crate</th><th class=\"n\">hit</th><th \
         class=\"n\">dup</th><th class=\"n\">miss</th><th class=\"n\">other</th><th class=\"n\">compiled</th><th \
         class=\"n\">saved</th><th>latest reason</th></tr>\n",
    );
    for cost in report.costliest() {
        let _ = write!(html, "<tr><td>{}</td>", escape(&cost.name));
        for cell in columns(cost) {
            let _ = write!(html, "<td class=\"n\">{cell}</td>");
        }
        let reason = cost.detail.as_deref().or(cost.reason.as_deref()).unwrap_or_default();
        let _ = writeln!(html, "<td>{}</td></tr>", escape(reason));
    }
    html.push_str("</table></div>\n");
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
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
    fn one_file_with_a_bar_for_each_call() {
        let html = render(&sample());
        crate::snapshot::check("report.html", &html.replace(env!("CARGO_PKG_VERSION"), "VERSION"));
        assert_eq!(html.matches("<g><title>").count(), 5);
        for outside in ["http:", "https:", "src=", "href=", "<script", "@import", "url("] {
            assert!(!html.contains(outside), "{outside} in a file that should need nothing else");
        }
        assert!(!html.contains("-Z<x>") && html.contains("-Z&lt;x&gt;"));
        for tag in ["table", "svg", "section", "g", "tr", "html", "style", "div"] {
            let open = html.matches(&format!("<{tag}>")).count() + html.matches(&format!("<{tag} ")).count();
            assert_eq!(open, html.matches(&format!("</{tag}>")).count(), "{tag}");
        }
    }
}
