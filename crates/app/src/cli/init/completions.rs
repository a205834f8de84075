//! Puts the completion script where the user's shell looks for it.

use std::ffi::OsString;
use std::path::PathBuf;

use clap_complete::Shell;
use kache_core::config::env;

use super::super::completions::script;
use crate::error::{CliError, Status};
use crate::ui::Ui;

/// Whether the script may be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touching {
    /// It is written where it isn't there as it should be.
    Write,
    /// It is only said what would be written.
    Check,
}

/// Installs the script for a shell, by default the user's.
pub fn install(shell: Option<Shell>, touching: Touching, ui: &Ui) -> Result<Status, CliError> {
    let env = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let shell = shell.or_else(Shell::from_env).ok_or_else(|| {
        CliError::usage("it isn't known which shell you use").hint("name it: `kache init --completions=bash`")
    })?;
    let path = place(shell, env).ok_or_else(|| {
        CliError::usage(format!("{shell} has no directory for completion scripts"))
            .hint(format!("`kache completions {shell}` prints the script"))
    })?;
    let script = script(shell)?;
    if std::fs::read(&path).is_ok_and(|present| present == script) {
        ui.status(&format!("The completions for {shell} are in place ({}).", path.display()));
        return Ok(Status::Done);
    }
    if touching == Touching::Check {
        ui.status(&format!("The completions for {shell} would be written to {}.", path.display()));
        return Ok(Status::Found);
    }
    crate::replace::replace_file(&path, &String::from_utf8_lossy(&script))
        .map_err(|error| CliError::file("write", &path, &error))?;
    ui.status(&format!("Wrote the completions for {shell} to {}.", path.display()));
    if shell == Shell::Zsh {
        ui.status("zsh looks there with `fpath+=~/.zfunc` before `compinit` in ~/.zshrc.");
    }
    Ok(Status::Done)
}

/// Where a shell looks for the script of this user.
fn place(shell: Shell, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let home = || env(env::HOME).map(PathBuf::from);
    let base = |name: &str, below: &str| env(name).map(PathBuf::from).or_else(|| Some(home()?.join(below)));
    match shell {
        Shell::Bash => {
            Some(base(env::XDG_DATA_HOME, ".local/share")?.join("bash-completion/completions/kache"))
        }
        Shell::Fish => Some(base(env::XDG_CONFIG_HOME, ".config")?.join("fish/completions/kache.fish")),
        Shell::Zsh => Some(home()?.join(".zfunc/_kache")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_shell_has_its_place() {
        let place = |shell, config: Option<&str>| {
            place(shell, |name| match name {
                env::HOME => Some("/h".into()),
                env::XDG_CONFIG_HOME => config.map(OsString::from),
                _ => None,
            })
        };
        let path = |text: &str| Some(PathBuf::from(text));
        assert_eq!(place(Shell::Bash, None), path("/h/.local/share/bash-completion/completions/kache"));
        assert_eq!(place(Shell::Fish, Some("/c")), path("/c/fish/completions/kache.fish"));
        assert_eq!(place(Shell::Zsh, None), path("/h/.zfunc/_kache"));
        assert_eq!(place(Shell::PowerShell, None), None);
    }
}
