//! `kache config`: an editor for the settings on the terminal. The change to the file is made in `edit`, what the keys
//! do and how it looks is in `screen`.

pub mod edit;
mod screen;

use std::io::{self, IsTerminal};
use std::path::Path;

use kache_core::config::{Origin, Settings};
use serde_json::json;

use super::current_dir;
use crate::error::{CliError, Outcome, Status};
use crate::terminal;
use crate::ui::{Align, Table, Ui};
use screen::Editor;

/// Edit the settings on the terminal
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache config           edit, every value checked as it is typed
  kache config --list    print every setting with its value and origin
  kache config --json    the same for scripts

The file is the one that counts here: $KACHE_CONFIG, else the nearest `.kache.toml`, else the user's own. Comments and \
everything kache doesn't know stay as they are. Values that the environment sets are shown and can't be edited.")]
pub struct Args {
    /// Print the settings, and edit nothing
    #[arg(long)]
    list: bool,
    /// Print them as JSON
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let cwd = current_dir()?;
    if args.list || args.json {
        let (settings, warnings) = crate::settings::load(Some(&cwd))?;
        for warning in warnings {
            ui.warn(&warning.to_string());
        }
        ui.print_as(args.json, || json(&settings), || text(&settings, ui))?;
        return Ok(Status::Done);
    }
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        return Err(CliError::usage("the editor needs a terminal")
            .hint("`kache config --list` prints the settings; the file can be edited with any editor"));
    }
    let (path, text) = crate::settings::editable(Some(&cwd))?.ok_or_else(|| {
        CliError::failure("there is no place for a settings file")
            .hint("set HOME, XDG_CONFIG_HOME or KACHE_CONFIG")
    })?;
    let mut editor = Editor::new(&path, &text, |name| std::env::var_os(name), &save)?;
    terminal::run(&mut editor)?;
    Ok(Status::Done)
}

/// Writes the file, making its directory where that is missing.
fn save(path: &Path, text: &str) -> io::Result<()> {
    crate::replace::replace_file(path, text)
}

/// Where a value comes from, in a word.
const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Environment => "environment",
        Origin::File => "file",
        Origin::Default => "default",
    }
}

fn text(settings: &Settings, ui: &Ui) -> String {
    let mut table = Table::new(&[
        ("setting", Align::Left),
        ("value", Align::Left),
        ("from", Align::Left),
        ("variable", Align::Left),
    ]);
    for row in settings.rows() {
        table.row([
            row.key.unwrap_or("–").to_owned(),
            row.value.unwrap_or_else(|| "–".to_owned()),
            origin(row.origin).to_owned(),
            row.variable.unwrap_or_default().to_owned(),
        ]);
    }
    let file = settings.file.as_deref().unwrap_or("none");
    format!("{}settings file: {file}\n", table.render(ui))
}

fn json(settings: &Settings) -> String {
    let row = |row: kache_core::config::Row| json!({ "key": row.key, "variable": row.variable, "value": row.value, "origin": origin(row.origin) });
    let rows: Vec<_> = settings.rows().into_iter().map(row).collect();
    format!("{:#}\n", json!({ "version": 1, "file": settings.file, "settings": rows }))
}
