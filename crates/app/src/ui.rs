//! Terminal output: data to standard output, everything else to standard error, colour where it is wanted, and nothing
//! in it that a terminal obeys but that colour. Knows nothing about what is shown.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use clap::ValueEnum;
use kache_core::config::env;
use kache_core::printable;

/// When to use colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub enum ColorChoice {
    /// On terminals, unless NO_COLOR is set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The role of a piece of text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    Bold,
    Dim,
    Good,
    Warn,
    Bad,
    Accent,
}

impl Style {
    const fn code(self) -> &'static str {
        match self {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Good => "32",
            Style::Warn => "33",
            Style::Bad => "1;31",
            Style::Accent => "36",
        }
    }
}

/// The escape sequences that [`paint`] writes.
const OWN_SEQUENCES: &[&str] =
    &["\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m", "\x1b[36m"];

/// Standard output that can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write to standard output: {0}")]
pub struct Unwritable(pub io::Error);

/// Where to write, and whether in colour.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    color_out: bool,
    color_err: bool,
}

impl Ui {
    /// Output as the user chose it.
    pub fn new(choice: ColorChoice) -> Self {
        let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os(env::TERM).is_some_and(|term| term == "dumb");
        let wanted = |terminal: bool| match choice {
            ColorChoice::Always => true,
            ColorChoice::Never => false,
            ColorChoice::Auto if set(env::NO_COLOR) => false,
            ColorChoice::Auto => set(env::CLICOLOR_FORCE) || (terminal && !dumb),
        };
        Self { color_out: wanted(io::stdout().is_terminal()), color_err: wanted(io::stderr().is_terminal()) }
    }

    /// Output without colour.
    pub const fn without_colour() -> Self {
        Self { color_out: false, color_err: false }
    }

    /// The same, by the name that tests use.
    #[cfg(test)]
    pub const fn plain() -> Self {
        Self::without_colour()
    }

    /// A piece of text for standard output.
    pub fn out(&self, style: Style, text: &str) -> String {
        paint(self.color_out, style, text)
    }

    /// A piece of text for standard error.
    pub fn err(&self, style: Style, text: &str) -> String {
        paint(self.color_err, style, text)
    }

    pub fn print(&self, text: &str) -> Result<(), Unwritable> {
        write_stdout(&printable::page(text, OWN_SEQUENCES))
    }

    /// Writes a JSON document to standard output.
    pub fn print_json(&self, text: &str) -> Result<(), Unwritable> {
        write_stdout(&printable::json(text))
    }

    /// Writes a result to standard output, for programs or for people.
    pub fn print_as(
        &self,
        as_json: bool,
        json: impl FnOnce() -> String,
        text: impl FnOnce() -> String,
    ) -> Result<(), Unwritable> {
        if as_json { self.print_json(&json()) } else { self.print(&text()) }
    }

    /// Writes to standard error; nobody can be told when that fails.
    pub fn write_stderr(&self, text: &str) {
        let _ = io::stderr().lock().write_all(printable::page(text, OWN_SEQUENCES).as_bytes());
    }

    /// Says what happened, in a line on standard error.
    pub fn status(&self, text: &str) {
        self.write_stderr(&format!("{text}\n"));
    }

    /// Warns, in a line on standard error.
    pub fn warn(&self, text: &str) {
        self.write_stderr(&format!("{} {text}\n", self.err(Style::Warn, "warning:")));
    }

    /// Shows how far something has come, on a terminal only; the empty text takes the line away again.
    pub fn progress(&self, text: &str) {
        if io::stderr().is_terminal() {
            let _ = io::stderr().lock().write_all(format!("\r\x1b[K{}", printable::line(text)).as_bytes());
        }
    }

    /// Asks a question on standard error; only a clear yes is one.
    pub fn confirm(&self, question: &str) -> bool {
        self.write_stderr(&format!("{question} [y/N] "));
        let mut answer = String::new();
        let read = io::stdin().read_line(&mut answer);
        read.is_ok() && matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
    }
}

fn write_stdout(text: &str) -> Result<(), Unwritable> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(Unwritable)
}

/// What is painted is a line or a part of one.
fn paint(color: bool, style: Style, text: &str) -> String {
    let text = printable::line(text);
    if color && !text.is_empty() { format!("\x1b[{}m{text}\x1b[0m", style.code()) } else { text.into_owned() }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    Left,
    Right,
}

/// A table with a heading line; columns are as wide as their content and two blanks apart.
pub struct Table {
    columns: Vec<(&'static str, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(columns: &[(&'static str, Align)]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    /// Adds a row, one cell per column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| printable::line(&cell).into_owned()).collect());
    }

    /// The table as text for standard output.
    pub fn render(&self, ui: &Ui) -> String {
        let width = |i: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(i)).map(|cell| cell.chars().count());
            cells.chain([self.columns[i].0.chars().count()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.columns.len()).map(width).collect();
        let line = |cells: &[&str]| {
            let mut line = String::new();
            for ((cell, width), (_, align)) in cells.iter().zip(&widths).zip(&self.columns) {
                let _ = match align {
                    Align::Left => write!(line, "{cell:<width$}  "),
                    Align::Right => write!(line, "{cell:>width$}  "),
                };
            }
            line.trim_end().to_owned()
        };
        let heads: Vec<&str> = self.columns.iter().map(|(head, _)| *head).collect();
        let mut text = format!("{}\n", ui.out(Style::Dim, &line(&heads)));
        for row in &self.rows {
            let cells: Vec<&str> = row.iter().map(String::as_str).collect();
            text.push_str(&line(&cells));
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_align_and_leave_no_trailing_blanks() {
        let mut table = Table::new(&[("crate", Align::Left), ("hits", Align::Right), ("age", Align::Left)]);
        table.row(["serde".into(), "5".into(), "1h".into()]);
        table.row(["ü".into(), "12345".into(), String::new()]);
        assert_eq!(table.render(&Ui::plain()), "crate   hits  age\nserde      5  1h\nü      12345\n");
    }

    #[test]
    fn own_colours_pass_and_foreign_sequences_do_not() {
        for style in [Style::Bold, Style::Dim, Style::Good, Style::Warn, Style::Bad, Style::Accent] {
            let text = paint(true, style, "a\u{1b}[1mb\nc");
            assert_eq!(text, format!("\x1b[{}ma\u{fffd}[1mb c\x1b[0m", style.code()));
            assert_eq!(printable::page(&text, OWN_SEQUENCES), text);
        }
        let mut table = Table::new(&[("crate", Align::Left)]);
        table.row(["evil\u{1b}]0;x\u{7}\nfaked  9".into()]);
        assert_eq!(table.render(&Ui::plain()), "crate\nevil\u{fffd}]0;x\u{fffd} faked  9\n");
    }

    #[test]
    fn colour_is_only_added_where_it_is_on() {
        assert_eq!(paint(false, Style::Bad, "x"), "x");
        assert_eq!(paint(true, Style::Bad, "x"), "\x1b[1;31mx\x1b[0m");
    }
}
