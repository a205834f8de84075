//! Moves a set-up to kache: sets the wrapper as `kache init` does, and removes what sccache has stored where that is
//! asked for.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kache_core::config::env;

use super::super::init;
use crate::cargo_config::find_program;
use crate::error::{CliError, Outcome, Status};
use crate::ui::Ui;

/// Whether what sccache has stored goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purging {
    /// It stays.
    Keep,
    /// It is removed.
    Remove,
}

/// Sets what `kache init` sets.
pub fn fix(purging: Purging, ui: &Ui) -> Outcome {
    init::run(&init::Args::unasked(), ui)?;
    if purging == Purging::Remove {
        purge_sccache(ui)?;
    }
    Ok(Status::Done)
}

fn purge_sccache(ui: &Ui) -> Result<(), CliError> {
    let path = std::env::var_os(env::PATH);
    if let Some(program) = find_program(OsStr::new("sccache"), path.as_deref()) {
        // A server that isn't running is as good as one that was stopped.
        let _ =
            Command::new(program).arg("--stop-server").stdout(Stdio::null()).stderr(Stdio::null()).status();
    }
    let Some(dir) = cache_dir(|name| std::env::var_os(name)) else { return Ok(()) };
    match removable(&dir) {
        Ok(false) => ui.status(&format!("sccache has stored nothing in {}.", dir.display())),
        Ok(true) => {
            std::fs::remove_dir_all(&dir).map_err(|error| CliError::file("remove", &dir, &error))?;
            ui.status(&format!("Removed {}.", dir.display()));
        }
        Err(error) => {
            return Err(
                CliError::file("remove", &dir, &error).hint("have a look at it, and remove it yourself")
            );
        }
    }
    Ok(())
}

/// Where sccache keeps its local store.
fn cache_dir(env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = || set(env::HOME);
    set(env::SCCACHE_DIR).or_else(|| match cfg!(target_os = "macos") {
        true => Some(home()?.join("Library/Caches/Mozilla.sccache")),
        false => Some(set(env::XDG_CACHE_HOME).or_else(|| Some(home()?.join(".cache")))?.join("sccache")),
    })
}

/// Whether there is a store of sccache: nothing but folders named by one hexadecimal digit, and its preprocessor's. A
/// directory that has anything else in it isn't touched.
fn removable(dir: &Path) -> io::Result<bool> {
    match std::fs::symlink_metadata(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
        Ok(meta) if !meta.is_dir() => return Err(io::Error::other("it is not a directory")),
        Ok(_) => {}
    }
    for item in std::fs::read_dir(dir)? {
        let item = item?;
        let name = item.file_name();
        let is_digit = name.len() == 1 && name.as_encoded_bytes()[0].is_ascii_hexdigit();
        if !item.file_type()?.is_dir() || !(is_digit || name == "preprocessor") {
            return Err(io::Error::other(format!("{} is nothing that sccache stores", name.display())));
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_looks_like_a_store_of_sccache_is_removed() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let cache = dir.path().join("sccache");
        assert!(!removable(&cache).expect("nothing there"));
        std::fs::create_dir_all(cache.join("a/b/c")).expect("directories");
        std::fs::create_dir_all(cache.join("preprocessor")).expect("directories");
        assert!(removable(&cache).expect("a store"));
        std::fs::write(cache.join("thesis.tex"), "").expect("file");
        assert!(removable(&cache).is_err_and(|error| error.to_string().contains("thesis.tex")));
        std::os::unix::fs::symlink(dir.path(), dir.path().join("link")).expect("link");
        assert!(removable(&dir.path().join("link")).is_err());
    }

    #[test]
    fn the_store_is_where_sccache_has_it() {
        let of = |name: &'static str, value: &'static str| {
            cache_dir(move |asked| (asked == name).then(|| OsString::from(value)))
        };
        assert_eq!(of(env::SCCACHE_DIR, "/s"), Some("/s".into()));
        assert_eq!(of("NOTHING", ""), None);
        if cfg!(target_os = "linux") {
            assert_eq!(of(env::XDG_CACHE_HOME, "/x"), Some("/x/sccache".into()));
            assert_eq!(of(env::HOME, "/h"), Some("/h/.cache/sccache".into()));
        }
    }
}
