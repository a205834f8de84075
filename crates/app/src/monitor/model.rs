//! What the dashboard knows and how keys change it. Draws nothing and reads nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kache_core::digest::Digest;
use kache_core::event::{Event, Outcome};
use kache_core::served::Served;
use kache_core::tally::{Part, Tally};
use ratatui::crossterm::event::KeyCode;

use super::daemon::Daemon;

/// Keys as the bottom line names them, all keys that do the same, and what they do.
pub const KEYS: &[(&str, &str, &str)] = &[
    ("q", "q or Esc", "quit"),
    ("tab 1-5", "Tab, ←→ or 1-5", "page"),
    ("↑↓", "↑↓, j k, PgUp PgDn or Home", "move"),
    ("f", "f or /", "filter"),
    ("s", "s", "sort"),
    ("c", "c", "clear"),
    ("r", "r", "refresh"),
];

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tab {
    /// The latest build, call by call.
    #[default]
    Build,
    Projects,
    Store,
    /// What came from and goes to the remote.
    Transfer,
    /// What went to the compiler without a look-up.
    Passthrough,
}

impl Tab {
    /// All of them, in order.
    pub const ALL: [Tab; 5] = [Tab::Build, Tab::Projects, Tab::Store, Tab::Transfer, Tab::Passthrough];

    pub const fn title(self) -> &'static str {
        match self {
            Tab::Build => "Build",
            Tab::Projects => "Projects",
            Tab::Store => "Store",
            Tab::Transfer => "Transfer",
            Tab::Passthrough => "Passthrough",
        }
    }

    /// What its list can be sorted by.
    pub const fn orders(self) -> &'static [&'static str] {
        match self {
            Tab::Build => &["latest", "slowest", "name"],
            Tab::Projects => &["latest", "compiles", "saved"],
            Tab::Store => &["compiled", "saved", "name"],
            Tab::Transfer => &["latest", "name"],
            Tab::Passthrough => &["count", "name"],
        }
    }

    fn position(self) -> usize {
        Self::ALL.iter().position(|tab| *tab == self).unwrap_or(0)
    }

    fn step(self, by: usize) -> Self {
        Self::ALL[(self.position() + by) % Self::ALL.len()]
    }
}

/// What a key asks of whoever runs the dashboard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Candidate {
    Go,
    Quit,
    /// To read everything again.
    Reload,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreFacts {
    pub dir: PathBuf,
    pub bytes: u64,
    pub bytes_max: u64,
    pub entries: u64,
    pub uploads_waiting: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Project {
    /// Directory in which Cargo was started.
    pub name: String,
    pub builds: usize,
    pub served: Served,
    /// When its last call ended, in milliseconds since 1970.
    pub last_ms: u64,
}

#[derive(Debug, Default)]
pub struct Model {
    pub tab: Tab,
    /// Only lines that contain this are listed.
    pub filter: String,
    /// Whether keys go into the filter.
    pub typing: Typing,
    /// The line that is marked, for each page.
    selected: [usize; 5],
    /// The order of the list, for each page.
    order: [usize; 5],
    events: Vec<Event>,
    pub tally: Tally,
    pub store: StoreFacts,
    pub daemon: Daemon,
    /// The remote that builds here use.
    pub remote: Option<Digest>,
    /// The time, in milliseconds since 1970.
    pub now_ms: u64,
    /// The last thing that went wrong.
    pub trouble: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Typing {
    #[default]
    Commands,
    /// They are text of the filter.
    Filter,
}

impl Model {
    /// Starts again with these events.
    pub fn load(&mut self, events: Vec<Event>, now_ms: u64) {
        self.tally = Tally::of(&events);
        self.events = events;
        self.now_ms = now_ms;
        self.trouble = None;
    }

    /// Adds what came since; of the last `overlap` events that are there already, none twice.
    pub fn append(&mut self, events: Vec<Event>, overlap: usize) {
        for event in events {
            let recent = &self.events[self.events.len().saturating_sub(overlap)..];
            if !recent.contains(&event) {
                self.tally.add(&event);
                self.events.push(event);
            }
        }
    }

    pub fn set_now(&mut self, now_ms: u64) {
        self.now_ms = now_ms;
    }

    /// Sets what is known of the store.
    pub fn set_store(&mut self, store: StoreFacts) {
        self.store = store;
    }

    /// Remembers what went wrong, for the bottom line.
    pub fn complain(&mut self, trouble: String) {
        self.trouble = Some(trouble);
    }

    pub fn press(&mut self, key: KeyCode) -> Candidate {
        if self.typing == Typing::Filter {
            match key {
                KeyCode::Esc => {
                    self.filter.clear();
                    self.typing = Typing::Commands;
                }
                KeyCode::Enter => self.typing = Typing::Commands,
                KeyCode::Backspace => drop(self.filter.pop()),
                KeyCode::Char(c) => self.filter.push(c),
                _ => {}
            }
            self.selected = [0; 5];
            return Candidate::Go;
        }
        let page = self.tab.position();
        match key {
            KeyCode::Char('q') | KeyCode::Esc => return Candidate::Quit,
            KeyCode::Char('r') => return Candidate::Reload,
            KeyCode::Tab | KeyCode::Right => self.tab = self.tab.step(1),
            KeyCode::BackTab | KeyCode::Left => self.tab = self.tab.step(Tab::ALL.len() - 1),
            KeyCode::Char(c @ '1'..='5') => self.tab = Tab::ALL[c as usize - '1' as usize],
            KeyCode::Down | KeyCode::Char('j') => self.selected[page] += 1,
            KeyCode::Up | KeyCode::Char('k') => self.selected[page] = self.selected[page].saturating_sub(1),
            KeyCode::PageDown => self.selected[page] += 10,
            KeyCode::PageUp => self.selected[page] = self.selected[page].saturating_sub(10),
            KeyCode::Home => self.selected[page] = 0,
            KeyCode::Char('f' | '/') => self.typing = Typing::Filter,
            KeyCode::Char('s') => self.order[page] = (self.order[page] + 1) % self.tab.orders().len(),
            KeyCode::Char('c') => self.load(Vec::new(), self.now_ms),
            _ => {}
        }
        Candidate::Go
    }

    /// The marked line of the page, which has `lines`.
    pub fn selected(&mut self, lines: usize) -> Option<usize> {
        let selected = &mut self.selected[self.tab.position()];
        *selected = (*selected).min(lines.saturating_sub(1));
        (lines > 0).then_some(*selected)
    }

    /// What the page's list is sorted by.
    pub fn order(&self) -> &'static str {
        self.tab.orders()[self.order[self.tab.position()]]
    }

    fn is_wanted(&self, texts: &[&str]) -> bool {
        let filter = self.filter.to_lowercase();
        filter.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&filter))
    }

    /// The latest build: its session, what it was spared, and its calls.
    pub fn latest_build(&self) -> Option<(&str, Served, Vec<&Event>)> {
        let last =
            self.tally.builds.iter().max_by_key(|(_, build)| (build.has_compiles(), build.part.last_ms));
        let (session, _) = last?;
        let events = self.events.iter().filter(|event| event.session == *session);
        let served = Served::of(&Tally::of(events.clone()));
        Some((session, served, events.filter(|event| event.seeding.is_none()).collect()))
    }

    /// Where the Cargo of a session was started.
    pub fn project_of(&self, session: &str) -> &str {
        self.tally.builds.get(session).map_or("", |build| &build.project)
    }

    /// The calls of the latest build that are listed, in order.
    pub fn calls(&self) -> Vec<&Event> {
        let mut calls = self.latest_build().map(|(_, _, calls)| calls).unwrap_or_default();
        calls.retain(|event| {
            let reason = event.reason.as_deref().unwrap_or_default();
            self.is_wanted(&[&event.crate_name, &event.package, event.outcome.word(), &event.kind, reason])
        });
        self.sort_events(&mut calls);
        calls
    }

    /// Events that have to do with the remote, in order.
    pub fn transfers(&self) -> Vec<&Event> {
        use kache_core::event::Source;
        let mut found: Vec<&Event> = self
            .events
            .iter()
            .filter(|event| matches!(event.source, Some(Source::Remote | Source::Prefetch)))
            .collect();
        found.retain(|event| self.is_wanted(&[&event.crate_name, &event.project]));
        self.sort_events(&mut found);
        found
    }

    fn sort_events(&self, events: &mut [&Event]) {
        match self.order() {
            "slowest" => events.sort_by_key(|event| std::cmp::Reverse(event.times.total_us)),
            "name" => events.sort_by(|a, b| a.crate_name.cmp(&b.crate_name).then(b.at_ms.cmp(&a.at_ms))),
            _ => events.sort_by_key(|event| std::cmp::Reverse(event.at_ms)),
        }
    }

    /// Projects, in order.
    pub fn projects(&self) -> Vec<Project> {
        let mut by_name: BTreeMap<&str, (usize, Vec<&Event>)> = BTreeMap::new();
        for build in self.tally.builds.values().filter(|build| build.has_compiles()) {
            by_name.entry(&build.project).or_default().0 += 1;
        }
        for event in &self.events {
            if let Some((_, events)) = by_name.get_mut(event.project.as_str()) {
                events.push(event);
            }
        }
        let mut projects: Vec<Project> = by_name
            .into_iter()
            .filter(|(name, _)| self.is_wanted(&[name]))
            .map(|(name, (builds, events))| {
                let last_ms = events.iter().map(|event| event.at_ms).max().unwrap_or_default();
                Project { name: name.to_owned(), builds, served: Served::of(&Tally::of(events)), last_ms }
            })
            .collect();
        projects.sort_by_key(|project| {
            std::cmp::Reverse(match self.order() {
                "compiles" => project.served.compiles_of,
                "saved" => project.served.saved_us,
                _ => project.last_ms,
            })
        });
        projects
    }

    /// Crates with their sums, in order.
    pub fn crates(&self) -> Vec<(&str, &Part)> {
        let mut crates: Vec<(&str, &Part)> = self
            .tally
            .crates
            .iter()
            .map(|(name, part)| (name.as_str(), part))
            .filter(|(name, _)| self.is_wanted(&[name]))
            .collect();
        match self.order() {
            "compiled" => crates.sort_by_key(|(_, part)| std::cmp::Reverse(part.times.compile_us)),
            "saved" => crates.sort_by_key(|(_, part)| std::cmp::Reverse(part.times.saved_us)),
            _ => {}
        }
        crates
    }

    /// Reasons why calls were handed on: code, count and latest example, in order.
    pub fn passthroughs(&self) -> Vec<(&str, u64, &str)> {
        let mut reasons: Vec<(&str, u64, &str)> = self
            .tally
            .passthroughs
            .iter()
            .map(|(code, reason)| (code.as_str(), reason.count, reason.example.as_str()))
            .filter(|(code, _, example)| self.is_wanted(&[code, example]))
            .collect();
        if self.order() == "count" {
            reasons.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
        }
        reasons
    }

    /// Whether the latest build may still be running: its last call ended just now.
    pub fn is_live(&self) -> bool {
        let latest = self.latest_build().and_then(|(session, ..)| self.tally.builds.get(session));
        latest.is_some_and(|build| self.now_ms.saturating_sub(build.part.last_ms) < 5000)
    }
}

/// A word for an outcome that fits a narrow column.
pub const fn short(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Passthrough => "pass",
        other => other.word(),
    }
}

#[cfg(test)]
#[path = "model_tests.rs"]
pub mod tests;
