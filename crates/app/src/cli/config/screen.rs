//! The settings editor's model and view. Every change is tried on a copy of the file first: what the settings can't
//! be read with isn't taken over.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::config::{ConfigError, Kind, Origin, Place, Row, Settings, env};
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row as Shown, Table, TableState, Wrap};

use super::edit;
use crate::terminal::{Next, Screen};

type Saving<'a> = &'a dyn Fn(&Path, &str) -> io::Result<()>;

/// What keys mean at the moment.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Mode {
    Browse,
    /// They are text of the new value.
    Typing(String),
    /// Whether to leave without saving.
    Leaving,
}

pub struct Editor<'a, E> {
    path: PathBuf,
    saved: String,
    text: String,
    env: E,
    saving: Saving<'a>,
    rows: Vec<Row>,
    selected: usize,
    mode: Mode,
    message: String,
}

impl<'a, E: Fn(&str) -> Option<OsString>> Editor<'a, E> {
    /// An editor of a file with this text.
    pub fn new(path: &Path, text: &str, env: E, saving: Saving<'a>) -> Result<Self, ConfigError> {
        let mut editor = Self {
            path: path.to_owned(),
            saved: text.to_owned(),
            text: text.to_owned(),
            env,
            saving,
            rows: Vec::new(),
            selected: 0,
            mode: Mode::Browse,
            message: String::new(),
        };
        let settings = editor.resolve(text)?;
        editor.take(&settings);
        Ok(editor)
    }

    fn resolve(&self, text: &str) -> Result<Settings, ConfigError> {
        Settings::resolve(Some((&self.path.to_string_lossy(), text)), &self.env).map(|(settings, _)| settings)
    }

    /// Shows these settings, of which those without a key in the file can't be edited here.
    fn take(&mut self, settings: &Settings) {
        self.rows = settings.rows();
        self.message = settings.problems.first().map(ToString::to_string).unwrap_or_default();
    }

    fn row(&self) -> &Row {
        &self.rows[self.selected]
    }

    /// Why the marked setting can't be edited.
    fn fixed(&self) -> Option<String> {
        let row = self.row();
        match (row.key, row.variable, row.origin) {
            (_, Some(variable), Origin::Environment) => Some(format!(
                "the environment variable {variable} sets this; unset it to edit the file's value"
            )),
            (None, Some(variable), _) => Some(format!("only the environment variable {variable} sets this")),
            _ => None,
        }
    }

    /// Tries a change of the marked setting, and takes it over when the settings can be read with it.
    fn change(&mut self, typed: Option<&str>) {
        let Some(key) = self.row().key else { return };
        let kind = self.row().kind;
        let text = match edit::set(&self.text, key, kind, typed) {
            Ok(text) => text,
            Err(error) => return self.message = format!("{key}: {error}"),
        };
        match self.resolve(&text) {
            Err(error) => self.message = error.problem.to_string(),
            Ok(settings) => {
                let about =
                    |error: &&ConfigError| matches!(&error.place, Place::Key { key: at, .. } if at == key);
                match settings.problems.iter().find(about).filter(|_| typed.is_some()) {
                    Some(error) => self.message = error.problem.to_string(),
                    None => {
                        self.text = text;
                        self.take(&settings);
                    }
                }
            }
        }
    }

    fn save(&mut self) {
        match (self.saving)(&self.path, &self.text) {
            Ok(()) => {
                self.saved.clone_from(&self.text);
                self.message = format!("saved {}", self.path.display());
            }
            Err(error) => self.message = format!("can't write {}: {error}", self.path.display()),
        }
    }

    fn is_changed(&self) -> bool {
        self.text != self.saved
    }

    fn browse(&mut self, key: KeyCode) -> Next {
        let last = self.rows.len().saturating_sub(1);
        match key {
            KeyCode::Char('q') | KeyCode::Esc if self.is_changed() => self.mode = Mode::Leaving,
            KeyCode::Char('q') | KeyCode::Esc => return Next::Quit,
            KeyCode::Char('w' | 's') => self.save(),
            KeyCode::Down | KeyCode::Char('j') => self.move_to((self.selected + 1).min(last)),
            KeyCode::Up | KeyCode::Char('k') => self.move_to(self.selected.saturating_sub(1)),
            KeyCode::Home => self.move_to(0),
            KeyCode::End => self.move_to(last),
            KeyCode::Enter | KeyCode::Char(' ' | 'e') => match (self.fixed(), self.row().kind) {
                (Some(why), _) => self.message = why,
                (None, Kind::Switch) => {
                    let now = self.row().value.as_deref() == Some("true");
                    self.change(Some(if now { "false" } else { "true" }));
                }
                (None, _) => self.mode = Mode::Typing(self.row().value.clone().unwrap_or_default()),
            },
            KeyCode::Char('d') | KeyCode::Delete => match self.fixed() {
                Some(why) => self.message = why,
                None => self.change(None),
            },
            _ => {}
        }
        Next::Go
    }

    fn move_to(&mut self, at: usize) {
        self.selected = at;
        self.message.clear();
    }

    fn meaning(&self) -> &'static str {
        let row = self.row();
        let of_variable =
            |name| env::ALL.iter().find(|variable| variable.name == name).map(|variable| variable.meaning);
        match (row.variable, row.key) {
            (Some(name), _) => of_variable(name).unwrap_or_default(),
            (None, Some("cache.exclude")) => {
                "patterns over source paths; such crates go straight to the compiler"
            }
            (None, Some("cache.remote.type")) => "kind of the remote",
            _ => "",
        }
    }
}

impl<E: Fn(&str) -> Option<OsString>> Screen for Editor<'_, E> {
    const TICK: Duration = Duration::from_secs(3600);

    fn press(&mut self, key: KeyCode) -> Next {
        match (std::mem::replace(&mut self.mode, Mode::Browse), key) {
            (Mode::Browse, key) => return self.browse(key),
            (Mode::Leaving, KeyCode::Char('y' | 'Y')) => return Next::Quit,
            (Mode::Leaving, KeyCode::Char('w')) => {
                self.save();
                return if self.is_changed() { Next::Go } else { Next::Quit };
            }
            (Mode::Leaving, _) | (Mode::Typing(_), KeyCode::Esc) => {}
            (Mode::Typing(typed), KeyCode::Enter) if self.row().value.as_ref() == Some(&typed) => {}
            (Mode::Typing(typed), KeyCode::Enter) => {
                let before = self.text.clone();
                self.change(Some(&typed));
                // A value that was refused can be corrected.
                if self.text == before && !self.message.is_empty() {
                    self.mode = Mode::Typing(typed);
                }
            }
            (Mode::Typing(mut typed), key) => {
                match key {
                    KeyCode::Char(c) => typed.push(c),
                    KeyCode::Backspace => drop(typed.pop()),
                    KeyCode::Delete => typed.clear(),
                    _ => {}
                }
                self.mode = Mode::Typing(typed);
            }
        }
        Next::Go
    }

    fn draw(&mut self, frame: &mut Frame<'_>) {
        let bold = Style::new().add_modifier(Modifier::BOLD);
        let dim = Style::new().fg(Color::DarkGray);
        let areas = Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(5)]);
        let [head, body, foot] = areas.areas(frame.area());
        let star = if self.is_changed() { " (changed)" } else { "" };
        let title = Line::styled(format!("Settings in {}{star}", self.path.display()), bold);
        frame.render_widget(Paragraph::new(title), head);
        let rows = self.rows.iter().map(|row| {
            let style =
                if row.origin == Origin::Environment || row.key.is_none() { dim } else { Style::new() };
            Shown::new([
                Cell::from(row.key.or(row.variable).unwrap_or_default()),
                Cell::from(row.value.clone().unwrap_or_else(|| "–".to_owned())),
                Cell::from(super::origin(row.origin)),
            ])
            .style(style)
        });
        let widths = [Constraint::Length(32), Constraint::Fill(1), Constraint::Length(11)];
        let table = Table::new(rows, widths)
            .header(Shown::new(["setting", "value", "from"]).style(dim))
            .row_highlight_style(Style::new().add_modifier(Modifier::REVERSED));
        let mut state = TableState::default().with_selected(Some(self.selected));
        frame.render_stateful_widget(table, body, &mut state);
        let (line, keys) = match &self.mode {
            Mode::Browse => (String::new(), "↑↓ move  enter edit  d back to default  w save  q quit"),
            Mode::Typing(typed) => (format!("new value: {typed}_"), "enter take over  esc leave as it was"),
            Mode::Leaving => {
                ("There are changes that aren't saved.".to_owned(), "w save and quit  y quit without saving")
            }
        };
        let lines = vec![
            Line::styled(self.meaning(), dim),
            Line::styled(line, bold),
            Line::styled(self.message.clone(), Style::new().fg(Color::Yellow)),
            Line::styled(keys, dim),
        ];
        frame.render_widget(Paragraph::new(lines).wrap(Wrap { trim: false }), foot);
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::terminal::frame;

    const FILE: &str = "# mine\n[cache]\nlocal_max_size = \"20GiB\" # enough\n\n[tool.other]\nx = 1\n";

    fn env(name: &str) -> Option<OsString> {
        match name {
            env::HOME => Some("/home/me".into()),
            env::KACHE_KEY_SALT => Some("team".into()),
            _ => None,
        }
    }

    fn press(editor: &mut impl Screen, keys: &str) -> Next {
        let mut next = Next::Go;
        for key in keys.chars() {
            next = editor.press(match key {
                '\n' => KeyCode::Enter,
                '\u{8}' => KeyCode::Backspace,
                '\u{1b}' => KeyCode::Esc,
                '\u{7f}' => KeyCode::Delete,
                key => KeyCode::Char(key),
            });
        }
        next
    }

    #[test]
    fn a_value_is_checked_before_it_is_taken_over_and_everything_else_stays() {
        let written = RefCell::new(String::new());
        let save = |_: &Path, text: &str| {
            text.clone_into(&mut written.borrow_mut());
            Ok(())
        };
        let mut editor = Editor::new(Path::new("/c/config.toml"), FILE, env, &save).expect("readable");
        press(&mut editor, "j\n\u{7f}a lot\n");
        assert!(editor.message.contains("is not a size") && !editor.is_changed(), "{}", editor.message);
        press(&mut editor, "\u{7f}30GiB\n");
        assert!(editor.is_changed() && editor.mode == Mode::Browse, "{}", editor.message);
        press(&mut editor, "jj\nw");
        let expected = FILE.replace("20GiB\" # enough\n", "30GiB\" # enough\ncache_executables = false\n");
        assert_eq!(*written.borrow(), expected);
        press(&mut editor, "dw");
        assert_eq!(*written.borrow(), FILE.replace("20GiB", "30GiB"));
        press(&mut editor, "jj\n");
        assert!(editor.message.contains("KACHE_KEY_SALT") && editor.mode == Mode::Browse);
        assert_eq!(press(&mut editor, "q"), Next::Quit);
    }

    #[test]
    fn changes_are_not_lost_by_accident() {
        let save = |_: &Path, _: &str| Err(io::Error::other("read-only"));
        let mut editor = Editor::new(Path::new("/c/config.toml"), "", env, &save).expect("readable");
        assert_eq!(press(&mut editor, "jjj\nq"), Next::Go);
        assert_eq!(editor.mode, Mode::Leaving);
        assert_eq!(press(&mut editor, "w"), Next::Go);
        assert!(editor.message.contains("can't write /c/config.toml: read-only"));
        assert_eq!(press(&mut editor, "qn"), Next::Go);
        assert_eq!(press(&mut editor, "qy"), Next::Quit);
    }

    #[test]
    fn trouble_with_the_remote_is_refused_at_its_own_setting() {
        let save = |_: &Path, _: &str| Ok(());
        let mut editor = Editor::new(Path::new("/c/config.toml"), "", env, &save).expect("readable");
        let at = |editor: &Editor<'_, _>, key: &str| {
            editor.rows.iter().position(|row| row.key == Some(key)).expect("a row")
        };
        editor.selected = at(&editor, "cache.remote.bucket");
        press(&mut editor, "\nhttps://x\n\u{1b}");
        assert!(!editor.is_changed(), "{}", editor.text);
        press(&mut editor, "\nmy-bucket\n");
        assert!(editor.text.contains("[cache.remote]\nbucket = \"my-bucket\""), "{}", editor.text);
        editor.selected = at(&editor, "cache.remote.endpoint");
        press(&mut editor, "\nnot an address\n");
        assert!(!editor.text.contains("endpoint") && editor.message.contains("is not an address"));
    }

    #[test]
    fn the_screen() {
        let save = |_: &Path, _: &str| Ok(());
        let mut editor =
            Editor::new(Path::new("/home/me/.config/kache/config.toml"), FILE, env, &save).expect("readable");
        press(&mut editor, "j\n");
        crate::snapshot::check("config-80x24.txt", &frame(&mut editor, 80, 24));
        press(&mut editor, "\u{1b}");
        crate::snapshot::check("config-200x50.txt", &frame(&mut editor, 200, 50));
        frame(&mut editor, 5, 3);
    }
}
