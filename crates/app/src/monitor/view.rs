//! How the dashboard looks: a page per tab, drawn from the model alone. Colour is never the only sign.

use std::time::Duration;

use kache_core::event::{Event, Outcome};
use kache_core::printable;
use kache_core::quantity::{format_duration, format_size};
use kache_core::served::Served;
use kache_core::tally::Part;
use kache_core::why::remedy_of_bypass;
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Gauge, Paragraph, Row, Table, TableState, Tabs};

use super::daemon::{self, Weight};
use super::fold::{fold, tail};
use super::model::{KEYS, Model, Tab, Typing, short};

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);
const DIM: Style = Style::new().fg(Color::DarkGray);

/// Below this there are fewer columns.
const WIDE: u16 = 60;

/// Draws the page that is open.
pub fn draw(model: &mut Model, frame: &mut Frame<'_>) {
    let below = fold(vec![status(model), Line::styled(keys(), DIM)], frame.area().width);
    let areas =
        Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(rows(&below))]);
    let [head, page, foot] = areas.areas(frame.area());
    tabs(model, frame, head);
    match model.tab {
        Tab::Build => build(model, frame, page),
        Tab::Projects => projects(model, frame, page),
        Tab::Store => store(model, frame, page),
        Tab::Transfer => transfer(model, frame, page),
        Tab::Passthrough => passthrough(model, frame, page),
    }
    frame.render_widget(Paragraph::new(below), foot);
}

fn rows(lines: &[Line<'_>]) -> u16 {
    u16::try_from(lines.len()).unwrap_or(u16::MAX)
}

fn is_wide(area: Rect) -> bool {
    area.width >= WIDE
}

/// The columns of a list with those that only a wide terminal has, and what is in them.
fn columns<T>(area: Rect, columns: impl IntoIterator<Item = (bool, T)>) -> Vec<T> {
    columns.into_iter().filter(|(is_extra, _)| is_wide(area) || !is_extra).map(|(_, column)| column).collect()
}

fn tabs(model: &Model, frame: &mut Frame<'_>, area: Rect) {
    let titles = Tab::ALL.iter().zip(1..).map(|(tab, n)| match *tab == model.tab {
        true => format!("[{n} {}]", tab.title()),
        false if is_wide(area) => format!(" {n} {} ", tab.title()),
        false => format!(" {n} "),
    });
    let open = Tab::ALL.iter().position(|tab| *tab == model.tab).unwrap_or(0);
    let tabs =
        Tabs::new(titles).select(open).highlight_style(BOLD.fg(Color::Cyan).add_modifier(Modifier::REVERSED));
    frame.render_widget(tabs.padding("", "").divider("│").block(Block::new().borders(Borders::BOTTOM)), area);
}

fn status(model: &Model) -> Line<'static> {
    match (&model.trouble, model.typing) {
        (Some(trouble), _) => {
            Line::styled(format!("trouble: {}", printable::line(trouble)), Style::new().fg(Color::Red))
        }
        (None, Typing::Filter) => {
            Line::styled(format!("filter: {}_  (enter keeps it, esc drops it)", model.filter), BOLD)
        }
        (None, Typing::Commands) if !model.filter.is_empty() => {
            Line::from(format!("filter: {}   sorted by {}", model.filter, model.order()))
        }
        (None, Typing::Commands) => Line::from(format!("sorted by {}", model.order())),
    }
}

/// What keys do, in a line.
fn keys() -> String {
    KEYS.iter().map(|(short, _, what)| format!("{short} {what}")).collect::<Vec<_>>().join("  ")
}

fn us(us: u64) -> String {
    format_duration(Duration::from_micros(us))
}

fn ago(model: &Model, then_ms: u64) -> String {
    format_duration(Duration::from_millis(model.now_ms.saturating_sub(then_ms)))
}

fn percent(share: Option<f64>) -> String {
    share.map_or_else(|| "–".to_owned(), |share| format!("{:.1} %", share * 100.0))
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

fn name(event: &Event) -> String {
    printable::line(&format!("{} {}", event.label(), event.package_version)).into_owned()
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
    let Some((session, served, calls)) = model.latest_build() else {
        let text = "No build yet. Start one in another terminal: it appears here call by call.";
        let lines = fold(vec![Line::from(text)], area.width);
        return frame.render_widget(Paragraph::new(lines), area);
    };
    let part = Part::of(calls.iter().copied());
    let project = model.project_of(session).to_owned();
    let state = if model.is_live() { "running" } else { "finished" };
    let at = model.tally.builds.get(session).map_or(part.last_ms, |build| build.part.last_ms);
    let line = format!("{}. Build {state}, the last call {} ago.", served.sentence(), ago(model, at));
    let title = Line::from(vec![
        Span::styled(tail(&project, area.width), BOLD),
        Span::styled(format!("  cargo {session}"), DIM),
    ]);
    let lines = fold(vec![title, Line::from(line), outcomes(&part)], area.width);
    let heights = [Constraint::Length(rows(&lines)), Constraint::Length(1), Constraint::Fill(1)];
    let [head, gauge, body] = Layout::vertical(heights).areas(area);
    frame.render_widget(Paragraph::new(lines), head);
    served_gauge(served, frame, gauge);
    let calls: Vec<Event> = model.calls().into_iter().cloned().collect();
    let rows = calls.iter().map(|event| {
        let why = event.detail.as_deref().or(event.not_stored.as_deref()).unwrap_or_default();
        Row::new(columns(
            area,
            [
                (false, Cell::from(short(event.outcome)).style(colour(event.outcome))),
                (false, Cell::from(name(event))),
                (true, Cell::from(event.kind.clone())),
                (false, right(us(event.times.total_us))),
                (true, Cell::from(printable::line(why).into_owned()).style(DIM)),
            ],
        ))
    });
    let widths = columns(
        area,
        [
            (false, Constraint::Length(5)),
            (false, Constraint::Fill(2)),
            (true, Constraint::Length(12)),
            (false, Constraint::Length(7)),
            (true, Constraint::Fill(3)),
        ],
    );
    let heads =
        columns(area, [(false, ""), (false, "crate"), (true, "kind"), (false, "   took"), (true, "why")]);
    let rows = rows.collect();
    list(model, frame, body, (&heads, &widths), rows);
}

fn served_gauge(served: Served, frame: &mut Frame<'_>, area: Rect) {
    let share = served.share();
    let label = format!("served {}", percent(share));
    let gauge = Gauge::default().ratio(share.unwrap_or(0.0).clamp(0.0, 1.0)).label(label);
    frame.render_widget(gauge.gauge_style(Style::new().fg(Color::Green).bg(Color::DarkGray)), area);
}

fn projects(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let projects = model.projects();
    let rows = projects.iter().map(|project| {
        let name =
            tail(&printable::line(&project.name), if is_wide(area) { area.width } else { area.width / 2 });
        Row::new(columns(
            area,
            [
                (false, Cell::from(name)),
                (true, right(project.builds.to_string())),
                (false, right(project.served.compiles_of.to_string())),
                (false, right(percent(project.served.share()))),
                (true, right(us(project.served.saved_us))),
                (true, right(ago(model, project.last_ms))),
            ],
        ))
    });
    let rows = rows.collect();
    let widths = columns(
        area,
        [
            (false, Constraint::Fill(1)),
            (true, Constraint::Length(6)),
            (false, Constraint::Length(8)),
            (false, Constraint::Length(8)),
            (true, Constraint::Length(8)),
            (true, Constraint::Length(8)),
        ],
    );
    let heads = columns(
        area,
        [
            (false, "project"),
            (true, "builds"),
            (false, "compiles"),
            (false, "  served"),
            (true, "   saved"),
            (true, "     ago"),
        ],
    );
    list(model, frame, area, (&heads, &widths), rows);
}

fn store(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let (facts, moved) = (&model.store, &model.tally.moved);
    let lines = vec![
        Line::styled(tail(&facts.dir.display().to_string(), area.width), BOLD),
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
    let lines = fold(lines, area.width);
    let heights = [Constraint::Length(rows(&lines)), Constraint::Length(2), Constraint::Fill(1)];
    let [head, gauge, body] = Layout::vertical(heights).areas(area);
    frame.render_widget(Paragraph::new(lines), head);
    let ratio = (facts.bytes as f64 / facts.bytes_max.max(1) as f64).clamp(0.0, 1.0);
    let full = Gauge::default().ratio(ratio).label(format!("{:.0} % full", ratio * 100.0));
    let [bar, _] = Layout::vertical([Constraint::Length(1), Constraint::Length(1)]).areas(gauge);
    frame.render_widget(full.gauge_style(Style::new().fg(Color::Cyan).bg(Color::DarkGray)), bar);
    let crates: Vec<(String, Part)> =
        model.crates().into_iter().map(|(name, part)| (name.to_owned(), part.clone())).collect();
    let rows = crates.iter().map(|(name, part)| {
        let outcomes = &part.outcomes;
        Row::new(columns(
            area,
            [
                (false, Cell::from(printable::line(name).into_owned())),
                (false, right(outcomes.hit.to_string())),
                (false, right((outcomes.dup + outcomes.miss).to_string())),
                (true, right(us(part.times.compile_us))),
                (false, right(us(part.times.saved_us))),
            ],
        ))
    });
    let widths = columns(
        area,
        [
            (false, Constraint::Fill(1)),
            (false, Constraint::Length(6)),
            (false, Constraint::Length(6)),
            (true, Constraint::Length(8)),
            (false, Constraint::Length(8)),
        ],
    );
    let heads = columns(
        area,
        [(false, "crate"), (false, "  hits"), (false, "misses"), (true, "compiled"), (false, "   saved")],
    );
    let rows = rows.collect();
    list(model, frame, body, (&heads, &widths), rows);
}

fn transfer(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let sources = &model.tally.sources;
    let mut lines: Vec<Line<'static>> = daemon::lines(&model.daemon, model.remote, model.now_ms)
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
    let lines = fold(lines, area.width);
    let heights = [Constraint::Length(rows(&lines) + 1), Constraint::Fill(1)];
    let [head, body] = Layout::vertical(heights).areas(area);
    frame.render_widget(Paragraph::new(lines), head);
    let transfers: Vec<Event> = model.transfers().into_iter().cloned().collect();
    let rows = transfers.iter().map(|event| {
        let from =
            if event.source == Some(kache_core::event::Source::Prefetch) { "prefetch" } else { "remote" };
        Row::new(columns(
            area,
            [
                (false, Cell::from(from)),
                (false, Cell::from(name(event))),
                (true, Cell::from(printable::line(&event.project).into_owned())),
                (false, right(us(event.times.total_us))),
                (true, right(ago(model, event.at_ms))),
            ],
        ))
    });
    let widths = columns(
        area,
        [
            (false, Constraint::Length(8)),
            (false, Constraint::Fill(1)),
            (true, Constraint::Fill(2)),
            (false, Constraint::Length(7)),
            (true, Constraint::Length(8)),
        ],
    );
    let heads = columns(
        area,
        [(false, "from"), (false, "crate"), (true, "project"), (false, "   took"), (true, "     ago")],
    );
    let rows = rows.collect();
    list(model, frame, body, (&heads, &widths), rows);
}

fn passthrough(model: &mut Model, frame: &mut Frame<'_>, area: Rect) {
    let reasons: Vec<(String, u64, String)> = model
        .passthroughs()
        .into_iter()
        .map(|(code, count, example)| (code.to_owned(), count, example.to_owned()))
        .collect();
    let marked = model.selected(reasons.len());
    let Some(marked) = marked else {
        let text = Line::from("Nothing went to the compiler without a look-up.");
        return frame.render_widget(Paragraph::new(fold(vec![text], area.width)), area);
    };
    // The whole reason of the marked line, however long it is and however many lines it has.
    let (code, _, example) = &reasons[marked];
    let mut lines: Vec<Line<'static>> =
        example.lines().map(|line| Line::from(printable::line(line).into_owned())).collect();
    lines.extend(remedy_of_bypass(code).map(|remedy| Line::from(format!("hint: {remedy}"))));
    let mut lines = fold(lines, area.width);
    lines.truncate(usize::from(area.height / 2));
    let heights = [Constraint::Fill(1), Constraint::Length(rows(&lines))];
    let [body, foot] = Layout::vertical(heights).areas(area);
    let items = reasons.iter().map(|(code, count, example)| {
        let example = Cell::from(printable::line(example).into_owned()).style(DIM);
        Row::new(columns(
            area,
            [(false, Cell::from(code.clone())), (false, right(count.to_string())), (true, example)],
        ))
    });
    let items = items.collect();
    let widths = columns(
        area,
        [(false, Constraint::Length(18)), (false, Constraint::Length(6)), (true, Constraint::Fill(1))],
    );
    let heads = columns(area, [(false, "reason"), (false, " count"), (true, "latest")]);
    list(model, frame, body, (&heads, &widths), items);
    frame.render_widget(Paragraph::new(lines), foot);
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
        for (width, height) in [(40, 16), (80, 24), (200, 50)] {
            let mut shown = Shown(sample());
            for (tab, key) in Tab::ALL.iter().zip('1'..) {
                shown.press(KeyCode::Char(key));
                let name = format!("monitor-{}-{width}x{height}.txt", tab.title().to_lowercase());
                crate::snapshot::check(&name, &frame(&mut shown, width, height));
            }
        }
    }

    #[test]
    fn a_reason_of_several_lines_is_readable() {
        let mut shown = Shown(Model::default());
        let mut event = Event::new("app", Outcome::Passthrough);
        (event.session, event.reason) = ("b".into(), Some("linker".into()));
        event.detail = Some("the linker said:\n  ld: no\r\n\tnever".into());
        shown.0.load(vec![event], 0);
        let build = frame(&mut shown, 120, 12);
        assert!(build.contains("the linker said: ld: no never"), "{build}");
        shown.press(KeyCode::Char('5'));
        let page = frame(&mut shown, 40, 16);
        assert!(page.contains("app: the linker said:\n  ld: no\n"), "{page}");
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
