//! How the dashboard looks: a page per tab, drawn from the model alone. Colour is never the only sign.

use std::time::Duration;

use kache_core::event::{Event, Outcome};
use kache_core::quantity::{format_duration, format_size};
use kache_core::tally::Part;
use kache_core::why::remedy_of_bypass;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table, TableState, Tabs};

use super::daemon::{self, Weight};
use super::model::{Model, Tab, Typing, short};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);

/// Draws the page that is open.
pub fn draw(model: &mut Model, frame: &mut Frame<'_>) {
    let areas = Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(2)]);
    let [head, page, foot] = areas.areas(frame.area());
    tabs(model, frame, head);
    match model.tab {
        Tab::Build => build(model, frame, page),
        Tab::Projects => projects(model, frame, page),
        Tab::Store => store(model, frame, page),
        Tab::Transfer => transfer(model, frame, page),
        Tab::Passthrough => passthrough(model, frame, page),
    }
    bottom(model, frame, foot);
}

fn tabs(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let titles = Tab::ALL.iter().zip(1..).map(|(tab, n)| match *tab == model.tab {
        true => format!("[{n} {}]", tab.title()),
        false => format!(" {n} {} ", tab.title()),
    });
    let open = Tab::ALL.iter().position(|tab| *tab == model.tab).unwrap_or(0);
    let tabs =
        Tabs::new(titles).select(open).highlight_style(BOLD.fg(Color::Cyan).add_modifier(Modifier::REVERSED));
    frame.render_widget(tabs.padding("", "").divider("│").block(Block::new().borders(Borders::BOTTOM)), area);
}

fn bottom(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let first = match (&model.trouble, model.typing) {
        (Some(trouble), _) => Line::styled(format!("trouble: {trouble}"), Style::new().fg(Color::Red)),
        (None, Typing::Filter) => {
            Line::styled(format!("filter: {}_  (enter keeps it, esc drops it)", model.filter), BOLD)
        }
        (None, Typing::Commands) if !model.filter.is_empty() => {
            Line::from(format!("filter: {}   sorted by {}", model.filter, model.order()))
        }
        (None, Typing::Commands) => Line::from(format!("sorted by {}", model.order())),
    };
    let keys = Line::styled("q quit  tab 1-5 page  ↑↓ move  f filter  s sort  c clear  r refresh", DIM);
    frame.render_widget(Paragraph::new(vec![first, keys]), area);
}

fn us(us: u64) -> String {
    format_duration(Duration::from_micros(us))
}

fn ago(model: &Model, then_ms: u64) -> String {
    format_duration(Duration::from_millis(model.now_ms.saturating_sub(then_ms)))
}

fn rate(part: &Part) -> String {
    part.outcomes.hit_rate().map_or_else(|| "–".to_owned(), |rate| format!("{:.1} %", rate * 100.0))
}

fn colour(outcome: Outcome) -> Style {
    Style::new().fg(match outcome {
        Outcome::Hit => Color::Green,
        Outcome::Dup => Color::Yellow,
        Outcome::Miss => Color::LightRed,
        Outcome::Passthrough => Color::Gray,
        Outcome::Error => Color::Red,
    })
}

/// A list with a heading, the marked line in view.
fn list(
    model: &mut Model,
    frame: &mut Frame<'_>,
    area: Rect,
    (heads, widths): (&[&str], &[Constraint]),
    rows: Vec<Row<'_>>,
) {
    let mut state = TableState::default().with_selected(model.selected(rows.len()));
    let table = Table::new(rows, widths.iter().copied())
        .header(Row::new(heads.iter().map(|head| (*head).to_owned())).style(DIM))
        .column_spacing(2)
        .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
    frame.render_stateful_widget(table, area, &mut state);
}

fn right(text: String) -> Cell<'static> {
    Cell::from(Line::from(text).right_aligned())
}

/// Outcomes as a line of words with counts.
fn outcomes(part: &Part) -> Line<'static> {
    let mut spans = Vec::new();
    for (outcome, count) in part.outcomes.iter() {
        spans.push(Span::styled(format!("{count} {}", outcome.word()), colour(outcome)));
        spans.push(Span::raw("  "));
    }
    Line::from(spans)
}

fn build(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let [head, gauge, body] =
        Layout::vertical([Constraint::Length(3), Constraint::Length(1), Constraint::Fill(1)]).areas(area);
    let Some((session, calls)) = model.latest_build() else {
        let text = "No build yet. Start one in another terminal: it appears here call by call.";
        return frame.render_widget(Paragraph::new(text), area);
    };
    let part = Part::of(calls.iter().copied());
    let project = calls.last().map(|event| event.project.clone()).unwrap_or_default();
    let state = if model.is_live() { "running" } else { "finished" };
    let placed = model.placed(session).map(|(compiles, runs)| {
        format!("; {compiles} compiles and {runs} build-script runs in place before")
    });
    let line = format!(
        "{} calls {state}, the last {} ago; {} saved, {} compiled{}",
        calls.len(),
        ago(model, part.last_ms),
        us(part.times.saved_us),
        us(part.times.compile_us),
        placed.unwrap_or_default()
    );
    let title =
        Line::from(vec![Span::styled(project, BOLD), Span::styled(format!("  cargo {session}"), DIM)]);
    frame.render_widget(Paragraph::new(vec![title, Line::from(line), outcomes(&part)]), head);
    hit_gauge(&part, frame, gauge);
    let calls: Vec<Event> = model.calls().into_iter().cloned().collect();
    let rows = calls.iter().map(|event| {
        let why = event.detail.as_deref().or(event.not_stored.as_deref()).unwrap_or_default();
        Row::new([
            Cell::from(short(event.outcome)).style(colour(event.outcome)),
            Cell::from(format!("{} {}", event.label(), event.package_version)),
            Cell::from(event.kind.clone()),
            right(us(event.times.total_us)),
            Cell::from(why.to_owned()).style(DIM),
        ])
    });
    let widths = [
        Constraint::Length(5),
        Constraint::Fill(2),
        Constraint::Length(12),
        Constraint::Length(7),
        Constraint::Fill(3),
    ];
    let rows = rows.collect();
    list(model, frame, body, (&["", "crate", "kind", "   took", "why"], &widths), rows);
}

fn hit_gauge(part: &Part, frame: &mut Frame<'_>, area: Rect) {
    let ratio = part.outcomes.hit_rate().unwrap_or(0.0).clamp(0.0, 1.0);
    let gauge = Gauge::default().ratio(ratio).label(format!("hit rate {}", rate(part)));
    frame.render_widget(gauge.gauge_style(Style::new().fg(Color::Green).bg(Color::DarkGray)), area);
}

fn projects(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let projects = model.projects();
    let rows = projects.iter().map(|project| {
        Row::new([
            Cell::from(project.name.clone()),
            right(project.builds.to_string()),
            right(project.part.outcomes.total().to_string()),
            right(rate(&project.part)),
            right(us(project.part.times.saved_us)),
            right(ago(model, project.part.last_ms)),
        ])
    });
    let rows = rows.collect();
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let heads = ["project", "builds", " calls", "hit rate", "   saved", "     ago"];
    list(model, frame, area, (&heads, &widths), rows);
}

fn store(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let [head, gauge, body] =
        Layout::vertical([Constraint::Length(4), Constraint::Length(2), Constraint::Fill(1)]).areas(area);
    let (facts, moved) = (&model.store, &model.tally.moved);
    let lines = vec![
        Line::styled(facts.dir.display().to_string(), BOLD),
        Line::from(format!(
            "{} entries, {} of {}",
            facts.entries,
            format_size(facts.bytes),
            format_size(facts.bytes_max)
        )),
        Line::from(format!(
            "put into target directories: {} linked, {} cloned, {} copied",
            format_size(moved.linked_bytes),
            format_size(moved.reflinked_bytes),
            format_size(moved.copied_bytes)
        )),
        Line::from(format!("added to the store: {}", format_size(moved.stored_bytes))),
    ];
    frame.render_widget(Paragraph::new(lines), head);
    let ratio = (facts.bytes as f64 / facts.bytes_max.max(1) as f64).clamp(0.0, 1.0);
    let full = Gauge::default().ratio(ratio).label(format!("{:.0} % full", ratio * 100.0));
    let [bar, _] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(gauge);
    frame.render_widget(full.gauge_style(Style::new().fg(Color::Cyan).bg(Color::DarkGray)), bar);
    let crates: Vec<(String, Part)> =
        model.crates().into_iter().map(|(name, part)| (name.to_owned(), part.clone())).collect();
    let rows = crates.iter().map(|(name, part)| {
        let outcomes = &part.outcomes;
        Row::new([
            Cell::from(name.clone()),
            right(outcomes.hit.to_string()),
            right((outcomes.dup + outcomes.miss).to_string()),
            right(us(part.times.compile_us)),
            right(us(part.times.saved_us)),
        ])
    });
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(6),
        Constraint::Length(6),
        Constraint::Length(8),
        Constraint::Length(8),
    ];
    let rows = rows.collect();
    list(model, frame, body, (&["crate", "  hits", "misses", "compiled", "   saved"], &widths), rows);
}

fn transfer(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let sources = &model.tally.sources;
    let mut lines: Vec<Line<'_>> = daemon::lines(&model.daemon, model.remote, model.now_ms)
        .into_iter()
        .map(|(weight, line)| match weight {
            Weight::Plain => Line::from(line),
            Weight::Alarm => Line::styled(line, Style::new().fg(Color::Red)),
        })
        .collect();
    lines.push(Line::from(format!("queue     {} upload(s) waiting", model.store.uploads_waiting)));
    lines.push(Line::from(format!(
        "hits      {} from the local store, {} prefetched, {} fetched on demand",
        sources.local, sources.prefetch, sources.remote
    )));
    let rows = u16::try_from(lines.len() + 1).unwrap_or(u16::MAX);
    let [head, body] = Layout::vertical([Constraint::Length(rows), Constraint::Fill(1)]).areas(area);
    frame.render_widget(Paragraph::new(lines), head);
    let transfers: Vec<Event> = model.transfers().into_iter().cloned().collect();
    let rows = transfers.iter().map(|event| {
        let from =
            if event.source == Some(kache_core::event::Source::Prefetch) { "prefetch" } else { "remote" };
        Row::new([
            Cell::from(from),
            Cell::from(format!("{} {}", event.label(), event.package_version)),
            Cell::from(event.project.clone()),
            right(us(event.times.total_us)),
            right(ago(model, event.at_ms)),
        ])
    });
    let widths = [
        Constraint::Length(8),
        Constraint::Fill(1),
        Constraint::Fill(2),
        Constraint::Length(7),
        Constraint::Length(8),
    ];
    let rows = rows.collect();
    list(model, frame, body, (&["from", "crate", "project", "   took", "     ago"], &widths), rows);
}

fn passthrough(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let reasons: Vec<(String, u64, String)> = model
        .passthroughs()
        .into_iter()
        .map(|(code, count, example)| (code.to_owned(), count, example.to_owned()))
        .collect();
    let marked = model.selected(reasons.len());
    let hint = marked.and_then(|at| remedy_of_bypass(&reasons[at].0)).map(|remedy| format!("hint: {remedy}"));
    let [body, foot] = Layout::vertical([Constraint::Fill(1), Constraint::Length(2)]).areas(area);
    if reasons.is_empty() {
        return frame.render_widget(Paragraph::new("Nothing went to the compiler without a look-up."), area);
    }
    let rows = reasons.iter().map(|(code, count, example)| {
        Row::new([Cell::from(code.clone()), right(count.to_string()), Cell::from(example.clone()).style(DIM)])
    });
    let rows = rows.collect();
    let widths = [Constraint::Length(18), Constraint::Length(6), Constraint::Fill(1)];
    list(model, frame, body, (&["reason", " count", "latest"], &widths), rows);
    frame.render_widget(Paragraph::new(hint.unwrap_or_default()), foot);
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::crossterm::event::KeyCode;

    use super::super::model::tests::sample;
    use super::*;
    use crate::terminal::{Next, Screen, frame};

    struct Shown(Model);

    impl Screen for Shown {
        const TICK: Duration = Duration::ZERO;

        fn draw(&mut self, frame: &mut Frame<'_>) {
            draw(&mut self.0, frame);
        }

        fn press(&mut self, key: KeyCode) -> Next {
            self.0.press(key);
            Next::Go
        }
    }

    #[test]
    fn every_page_in_a_small_and_in_a_large_terminal() {
        for (width, height) in [(80, 24), (200, 50)] {
            let mut shown = Shown(sample());
            for (tab, key) in Tab::ALL.iter().zip('1'..) {
                shown.press(KeyCode::Char(key));
                let name = format!("monitor-{}-{width}x{height}.txt", tab.title().to_lowercase());
                crate::snapshot::check(&name, &frame(&mut shown, width, height));
            }
        }
    }

    #[test]
    fn nothing_to_show_and_no_room_are_no_trouble() {
        let mut shown = Shown(Model::default());
        assert!(frame(&mut shown, 80, 24).contains("No build yet"));
        for key in '1'..='5' {
            shown.press(KeyCode::Char(key));
            for (width, height) in [(1, 1), (10, 3), (40, 8)] {
                frame(&mut shown, width, height);
            }
        }
        shown.0.complain("the disk is on fire".into());
        assert!(frame(&mut shown, 80, 24).contains("trouble: the disk is on fire"));
        shown.0.trouble = None;
        shown.press(KeyCode::Char('f'));
        shown.press(KeyCode::Char('x'));
        assert!(frame(&mut shown, 80, 24).contains("filter: x_"));
    }
}
