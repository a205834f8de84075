//! The list to choose target directories from: a model that keys change, and a view that draws it.

use std::time::Duration;

use kache_core::quantity::format_size;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{List, ListState, Paragraph};

use super::held;
use super::plan::{Removal, cost_text, sum};
use crate::cli::census::Cost;
use crate::error::CliError;
use crate::terminal::{self, Next, Screen};

/// Lets the user choose; positions of the chosen ones, or `None` when nothing is to be done.
pub fn choose(targets: &[Removal<'_>]) -> Result<Option<Vec<usize>>, CliError> {
    let mut picker = Picker::new(targets);
    terminal::run(&mut picker)?;
    Ok(picker.answer())
}

/// How far the user has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Choosing,
    /// The removal has to be confirmed.
    Asking,
    Agreed,
    Given,
}

struct Picker<'a> {
    targets: &'a [Removal<'a>],
    chosen: Vec<bool>,
    list: ListState,
    stage: Stage,
}

impl<'a> Picker<'a> {
    fn new(targets: &'a [Removal<'a>]) -> Self {
        let list = ListState::default().with_selected(Some(0));
        Self { targets, chosen: vec![false; targets.len()], list, stage: Stage::Choosing }
    }

    fn answer(&self) -> Option<Vec<usize>> {
        (self.stage == Stage::Agreed).then(|| self.positions())
    }

    fn positions(&self) -> Vec<usize> {
        (0..self.chosen.len()).filter(|at| self.chosen[*at]).collect()
    }

    /// What can be chosen: a directory in use can't.
    fn is_free(&self, at: usize) -> bool {
        self.targets[at].busy().is_none()
    }

    fn toggle(&mut self, at: usize) {
        self.chosen[at] = !self.chosen[at] && self.is_free(at);
    }

    fn toggle_all(&mut self) {
        let all = (0..self.chosen.len()).all(|at| self.chosen[at] || !self.is_free(at));
        for at in 0..self.chosen.len() {
            self.chosen[at] = !all && self.is_free(at);
        }
    }

    fn row(&self, at: usize, width: usize) -> String {
        let target = &self.targets[at];
        let mark = match (target.busy(), self.chosen[at]) {
            (Some(_), _) => " - ",
            (None, true) => "[x]",
            (None, false) => "[ ]",
        };
        let sizes = format!(
            "{mark} {:>9} {:>9} {:>8}  {:<10}  ",
            format_size(target.footprint.reclaimable_bytes()),
            format_size(target.footprint.disk_bytes()),
            held(&target.footprint),
            target.label()
        );
        let note = target.busy().map(|busy| format!(" ({busy})")).unwrap_or_default();
        let path = format!("{}{note}", target.path().display());
        let room = width.saturating_sub(sizes.chars().count());
        format!("{sizes}{}", end_of(&path, room))
    }
}

impl Screen for Picker<'_> {
    const TICK: Duration = Duration::from_secs(3600);

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let areas = Layout::vertical([Constraint::Length(2), Constraint::Fill(1), Constraint::Length(2)]);
        let [head, middle, foot] = areas.areas(frame.area());
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let title = Line::styled("Which target directories shall be removed?", bold);
        let columns = Line::from("      would free   on disk in store  what        target directory");
        frame.render_widget(Paragraph::new(vec![title, columns]), head);
        let width = usize::from(middle.width).saturating_sub(2);
        let rows: Vec<String> = (0..self.targets.len()).map(|at| self.row(at, width)).collect();
        let list = List::new(rows).highlight_symbol("> ").highlight_style(bold);
        frame.render_stateful_widget(list, middle, &mut self.list);
        let (footprint, cost) = sum(self.positions().into_iter().map(|at| &self.targets[at]));
        let freed = format_size(footprint.reclaimable_bytes());
        let first = format!("{} chosen; removing them frees {freed}", self.positions().len());
        let second = match self.stage {
            Stage::Asking if cost != Cost::default() => {
                format!("Remove them? y yes, any other key no. To have it back takes {}", cost_text(&cost))
            }
            Stage::Asking => "Remove them? y yes, any other key no".to_owned(),
            _ => "space choose  a all  enter remove  ↑↓ move  q quit".to_owned(),
        };
        frame.render_widget(Paragraph::new(vec![Line::styled(first, bold), Line::from(second)]), foot);
    }

    fn press(&mut self, key: KeyCode) -> Next {
        if self.stage == Stage::Asking {
            if matches!(key, KeyCode::Char('y' | 'Y')) {
                self.stage = Stage::Agreed;
                return Next::Quit;
            }
            self.stage = Stage::Choosing;
            return Next::Go;
        }
        match key {
            KeyCode::Char('q') | KeyCode::Esc => {
                self.stage = Stage::Given;
                return Next::Quit;
            }
            KeyCode::Up | KeyCode::Char('k') => self.list.select_previous(),
            KeyCode::Down | KeyCode::Char('j') => {
                let last = self.targets.len().saturating_sub(1);
                let at = self.list.selected().unwrap_or(0);
                self.list.select(Some((at + 1).min(last)));
            }
            KeyCode::Home => self.list.select_first(),
            KeyCode::End => self.list.select(Some(self.targets.len().saturating_sub(1))),
            KeyCode::Char(' ') => {
                if let Some(at) = self.list.selected() {
                    self.toggle(at);
                }
            }
            KeyCode::Char('a') => self.toggle_all(),
            KeyCode::Enter if self.chosen.contains(&true) => self.stage = Stage::Asking,
            _ => {}
        }
        Next::Go
    }
}

/// The end of a text that is too long: of a path that is the part that tells.
fn end_of(text: &str, room: usize) -> String {
    let length = text.chars().count();
    if length <= room {
        return text.to_owned();
    }
    let end: String = text.chars().skip(length + 1 - room.max(1)).collect();
    format!("…{end}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::census::Target;
    use crate::cli::census::find::Found;
    use crate::cli::clean::plan::What;
    use kache_store::footprint::Footprint;

    fn targets() -> Vec<Target> {
        let make = |name: &str, busy: Option<&str>| {
            let path = format!("/home/me/src/{name}/target").into();
            Target {
                found: Found { path, busy: busy.map(str::to_owned) },
                footprint: Footprint::default(),
                projects: Vec::new(),
                is_served: false,
                used_s: None,
                units: Vec::new(),
            }
        };
        vec![make("one", None), make("two", Some("a build is running in it")), make("three", None)]
    }

    fn removals(targets: &[Target]) -> Vec<Removal<'_>> {
        let make = |target| Removal {
            target,
            what: What::Whole,
            footprint: Footprint::default(),
            cost: Cost { served: 3, ..Cost::default() },
        };
        targets.iter().map(make).collect()
    }

    #[test]
    fn what_is_chosen_and_confirmed_is_the_answer() {
        let targets = targets();
        let targets = removals(&targets);
        let keys = |keys: &str| {
            let mut picker = Picker::new(&targets);
            for key in keys.chars() {
                let key = match key {
                    '\n' => KeyCode::Enter,
                    'v' => KeyCode::Down,
                    '^' => KeyCode::Up,
                    key => KeyCode::Char(key),
                };
                if picker.press(key) == Next::Quit {
                    return picker.answer();
                }
            }
            panic!("{keys:?} did not end it")
        };
        assert_eq!(keys(" \ny"), Some(vec![0]));
        assert_eq!(keys("a\ny"), Some(vec![0, 2]), "what is in use stays");
        assert_eq!(keys("aa \ny"), Some(vec![0]));
        assert_eq!(
            keys("v \nq"),
            None,
            "what is in use can't be chosen, and nothing chosen can't be removed"
        );
        assert_eq!(keys("vvvvv^^v \nnq"), None);
        assert_eq!(keys("q"), None);
    }

    #[test]
    fn the_list_fits_a_small_terminal() {
        let targets = targets();
        let targets = removals(&targets);
        let mut picker = Picker::new(&targets);
        picker.press(KeyCode::Char(' '));
        crate::snapshot::check("clean-80x24.txt", &terminal::frame(&mut picker, 80, 24));
        picker.press(KeyCode::Enter);
        assert!(terminal::frame(&mut picker, 40, 10).contains("Remove them?"));
        assert_eq!((end_of("abcdef", 4), end_of("abc", 3)), ("…def".into(), "abc".into()));
    }
}
