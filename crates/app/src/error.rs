//! What goes wrong on the command line, and the one place where it is shown. Library errors arrive here typed; here
//! they get their hint and their exit code.
//!
//! | exit code | meaning |
//! | --- | --- |
//! | 0 | done |
//! | 1 | failed: something couldn't be read, written or reached |
//! | 2 | not understood: wrong usage, or settings that can't be used |
//! | 3 | a check found something to do (`kache init --check`, `kache doctor`) |

use std::error::Error;
use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use kache_core::config::ConfigError;

use crate::ui::{Style, Ui, Unwritable};

/// How a command ended when nothing went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Done,
    /// A check found something to do.
    Found,
}

/// What kind of error it is; decides the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something couldn't be done.
    Failure,
    /// The request makes no sense as given.
    Usage,
    /// Nobody reads the output any more. Not an error to tell anybody about.
    Quiet,
}

/// An error with everything that its presentation needs.
#[derive(Debug)]
pub struct CliError {
    kind: Kind,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

pub type Outcome = Result<Status, CliError>;

impl CliError {
    /// Something that couldn't be done.
    pub fn failure(message: impl Into<String>) -> Self {
        Self { kind: Kind::Failure, message: message.into(), causes: Vec::new(), hint: None }
    }

    /// A request that makes no sense as given.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { kind: Kind::Usage, ..Self::failure(message) }
    }

    /// Adds an error and what caused it.
    pub fn because(mut self, error: &dyn Error) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            let text = error.to_string();
            // Many errors end with the text of their source.
            if !self.causes.last().is_some_and(|cause| cause.ends_with(&text)) {
                self.causes.push(text);
            }
            next = error.source();
        }
        self
    }

    /// Adds what the user can do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// An act on a file that failed.
    pub fn file(act: &str, path: &Path, error: &io::Error) -> Self {
        Self::failure(format!("can't {act} {}", path.display())).because(error)
    }

    /// Shows the error; the exit code to end with.
    pub fn present(&self, ui: &Ui) -> ExitCode {
        if self.kind != Kind::Quiet {
            ui.write_stderr(&self.render(ui));
        }
        match self.kind {
            Kind::Failure => ExitCode::from(1),
            Kind::Usage => ExitCode::from(2),
            Kind::Quiet => ExitCode::SUCCESS,
        }
    }

    fn render(&self, ui: &Ui) -> String {
        let mut text = format!("{} {}\n", ui.err(Style::Bad, "error:"), self.message);
        for cause in &self.causes {
            text.push_str(&format!("  {} {cause}\n", ui.err(Style::Dim, "cause:")));
        }
        if let Some(hint) = &self.hint {
            text.push_str(&format!("  {} {hint}\n", ui.err(Style::Accent, "hint:")));
        }
        text
    }
}

impl fmt::Display for CliError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConfigError> for CliError {
    fn from(error: ConfigError) -> Self {
        Self::usage("the settings can't be used")
            .because(&error)
            .hint("`kache doctor` shows every setting and its origin")
    }
}

impl From<Unwritable> for CliError {
    fn from(error: Unwritable) -> Self {
        let kind = if error.0.kind() == io::ErrorKind::BrokenPipe { Kind::Quiet } else { Kind::Failure };
        Self { kind, ..Self::failure(error.to_string()) }
    }
}

impl From<kache_store::Error> for CliError {
    fn from(error: kache_store::Error) -> Self {
        Self::failure("the store can't be used").because(&error).hint("`kache doctor` looks for the cause")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_chain_and_the_hint_are_shown_once_each() {
        let io = io::Error::other("disk on fire");
        let error = CliError::file("read", Path::new("/x"), &io).hint("call the fire brigade");
        let text = error.render(&Ui::plain());
        assert_eq!(text, "error: can't read /x\n  cause: disk on fire\n  hint: call the fire brigade\n");
    }

    #[test]
    fn a_reader_that_went_away_is_no_error() {
        let kind = |kind: io::ErrorKind| CliError::from(Unwritable(kind.into())).kind;
        assert_eq!(kind(io::ErrorKind::BrokenPipe), Kind::Quiet);
        assert_eq!(kind(io::ErrorKind::StorageFull), Kind::Failure);
    }
}
