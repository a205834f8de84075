//! `kache man`: manual pages, made from the command line's definition.

use std::io;
use std::path::PathBuf;

use clap::Command;
use clap::builder::StyledStr;

use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Print the manual page, or write one for each command
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  kache man | man -l -                         read it
  kache man --output ~/.local/share/man/man1   install kache(1), kache-stats(1) and the others")]
pub struct Args {
    /// Directory to write the pages of all commands to
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
}

pub fn run(args: &Args, ui: &Ui) -> Outcome {
    let mut command = super::command().disable_help_subcommand(true);
    command.build();
    let Some(dir) = &args.output else {
        let failed = |error| CliError::failure("can't make the manual page").because(&error);
        ui.print(&page(command).map_err(failed)?)?;
        return Ok(Status::Done);
    };
    std::fs::create_dir_all(dir).map_err(|error| CliError::file("create", dir, &error))?;
    let mut commands = vec![command];
    while let Some(command) = commands.pop() {
        commands.extend(command.get_subcommands().filter(|command| !command.is_hide_set()).cloned());
        let path = dir.join(clap_mangen::Man::new(command.clone()).get_filename());
        page(command)
            .and_then(|page| std::fs::write(&path, page))
            .map_err(|error| CliError::file("write", &path, &error))?;
    }
    ui.status(&format!("Wrote the manual pages to {}.", dir.display()));
    Ok(Status::Done)
}

/// The page of one command. What follows the options in its help is shown as it stands there.
fn page(mut command: Command) -> io::Result<String> {
    let usage = command.render_usage().to_string();
    let notes = command.get_after_help().map(StyledStr::to_string).unwrap_or_default();
    let command = command
        .override_usage(usage.trim_start_matches("Usage:").trim().to_owned())
        .after_help(StyledStr::new())
        .version(env!("CARGO_PKG_VERSION"));
    let source = concat!("kache ", env!("CARGO_PKG_VERSION"));
    let mut page = Vec::new();
    clap_mangen::Man::new(command).source(source).manual("kache manual").render(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).replace(".SH EXTRA\n\n", "").replace(".SH EXTRA\n", "");
    for block in notes.split("\n\n").filter(|block| !block.is_empty()) {
        page.push_str(&section(block));
    }
    // Formatters read ASCII unless they are told otherwise.
    let plain = |c: char| if c.is_ascii() { c.to_string() } else { format!("\\[u{:04X}]", u32::from(c)) };
    Ok(page.chars().map(plain).collect())
}

/// A heading with indented lines becomes a section of such lines, everything else a paragraph.
fn section(block: &str) -> String {
    let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
    match first.strip_suffix(':') {
        Some(heading) if rest.starts_with("  ") => {
            let lines: String = rest.lines().map(|line| format!("{}\n", escape(line))).collect();
            format!(".SH {}\n.nf\n{lines}.fi\n", escape(&heading.to_uppercase()))
        }
        _ => format!(".PP\n{}\n", block.lines().map(escape).collect::<Vec<_>>().join("\n")),
    }
}

/// A line of text: nothing in it is a request to the formatter.
fn escape(line: &str) -> String {
    let text = line.replace('\\', "\\e").replace('-', "\\-").replace('\'', "\\(aq");
    if text.starts_with('.') { format!("\\&{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_keep_their_lines_and_request_nothing() {
        let text = section("Examples:\n  kache a-b   # 'x'\n.so evil");
        assert_eq!(text, ".SH EXAMPLES\n.nf\n  kache a\\-b   # \\(aqx\\(aq\n\\&.so evil\n.fi\n");
        assert_eq!(section("Files\\x:\nthey stay"), ".PP\nFiles\\ex:\nthey stay\n");
    }
}
