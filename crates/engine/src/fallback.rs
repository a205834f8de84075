//! The wrapper that the user named for what kache passes through: which program that is, and why it can't be used.

use std::fs::{self, File, Metadata};
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kache_core::config::{Settings, env};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    #[error("there is no program {0}")]
    Missing(String),
    #[error("{0} is kache itself")]
    Own(String),
    #[error("{0} {AGAIN}")]
    Cycle(String),
    #[error("{0} can't be run: {1}")]
    Refused(String, String),
}

const AGAIN: &str = "calls kache again";

/// The program of `cache.fallback`, by `PATH` where the setting has no separator; `None` where nothing is set.
pub fn find(settings: &Settings) -> Option<Result<PathBuf, Unusable>> {
    let name = settings.fallback.as_ref()?.value.clone();
    let path = std::env::var_os(env::PATH).unwrap_or_default();
    let places: Vec<PathBuf> = match name.contains('/') {
        true => vec![PathBuf::from(&name)],
        false => std::env::split_paths(&path).map(|dir| dir.join(&name)).collect(),
    };
    let found = places.into_iter().find_map(|place| executable(&place).map(|meta| (place, meta)));
    let Some((program, meta)) = found else { return Some(Err(Unusable::Missing(name))) };
    if is_self(&meta) {
        return Some(Err(Unusable::Own(name)));
    }
    if std::env::var_os(env::KACHE_IN_FALLBACK).is_some() {
        return Some(Err(Unusable::Cycle(name)));
    }
    Some(Ok(program))
}

/// What a path leads to, where that is a file that this user may execute.
fn executable(path: &Path) -> Option<Metadata> {
    let meta = fs::metadata(path).ok().filter(Metadata::is_file)?;
    rustix::fs::access(path, rustix::fs::Access::EXEC_OK).ok().map(|()| meta)
}

/// A link of any kind to this program.
fn is_self(meta: &Metadata) -> bool {
    let own = std::env::current_exe().and_then(fs::metadata);
    own.is_ok_and(|own| (own.dev(), own.ino()) == (meta.dev(), meta.ino()))
}

/// Value of `KACHE_IN_FALLBACK` with which a script is tried: kache below it says so on standard error.
const PROBE: &str = "probe";

/// Runs a script around the compiler's answer to `-V`, to see whether it runs and calls kache; `None` for a program that
/// isn't a script.
pub fn try_script(program: &Path, compiler: &str) -> Option<Result<(), Unusable>> {
    let name = program.display().to_string();
    let mut start = [0; 2];
    File::open(program).and_then(|mut file| file.read_exact(&mut start)).ok().filter(|()| start == *b"#!")?;
    let ran = Command::new(program).args([compiler, "-V"]).env(env::KACHE_IN_FALLBACK, PROBE).output();
    Some(match ran {
        Err(error) => Err(Unusable::Refused(name, error.to_string())),
        Ok(output) if String::from_utf8_lossy(&output.stderr).contains(AGAIN) => Err(Unusable::Cycle(name)),
        Ok(output) if !output.status.success() => Err(Unusable::Refused(name, output.status.to_string())),
        Ok(_) => Ok(()),
    })
}

/// Says that the wrapper called kache, where that is being tried.
pub fn answer_probe(why: &Unusable) {
    if std::env::var_os(env::KACHE_IN_FALLBACK).is_some_and(|value| value == PROBE) {
        eprintln!("kache: {why}");
    }
}
