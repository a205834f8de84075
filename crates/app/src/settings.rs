//! Finds and reads the settings file and hands it, with the environment, to `core::config`. Knows where files may
//! be; what they mean is decided in core.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use kache_core::config::{ConfigError, Place, Problem, Settings, Warning, env};

/// Name of a project's settings file.
const PROJECT_FILE: &str = ".kache.toml";

/// The settings of this process. `start` is where the search for a project's file begins: the directory the user
/// works in, which for the wrapper is not its own working directory (Cargo runs it inside each package).
pub fn load(start: Option<&Path>) -> Result<(Settings, Vec<Warning>), ConfigError> {
    load_with(start, |name| std::env::var_os(name))
}

fn load_with(
    start: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(Settings, Vec<Warning>), ConfigError> {
    match discover(start, &env)? {
        None => Settings::resolve(None, env),
        Some((path, text)) => Settings::resolve(Some((&path.to_string_lossy(), &text)), env),
    }
}

/// The settings file to edit, with its text: the one that counts, else the user's own, which may have to be made.
pub fn editable(start: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let env = |name: &str| std::env::var_os(name);
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(discover(start, &env)?.or_else(|| user_file(set).map(|path| (path, String::new()))))
}

/// The settings file that counts, with its text: `$KACHE_CONFIG`, else the nearest `.kache.toml` upwards from
/// `start`, else the user's own.
fn discover(
    start: Option<&Path>,
    env: &impl Fn(&str) -> Option<OsString>,
) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(path) = set(env::KACHE_CONFIG) {
        let missing = || Problem::Value { value: path.display().to_string(), why: "does not exist" };
        let at = |problem| ConfigError { place: Place::Variable(env::KACHE_CONFIG), problem };
        let text = read(&path)?.ok_or_else(|| at(missing()))?;
        return Ok(Some((path, text)));
    }
    for dir in start.into_iter().flat_map(Path::ancestors) {
        let path = dir.join(PROJECT_FILE);
        if let Some(text) = read(&path)? {
            return Ok(Some((path, text)));
        }
    }
    Ok(match user_file(set) {
        Some(path) => read(&path)?.map(|text| (path, text)),
        None => None,
    })
}

/// `kache/config.toml` in the user's configuration directory.
fn user_file(set: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
    let base = absolute(env::XDG_CONFIG_HOME).or_else(|| Some(absolute(env::HOME)?.join(".config")))?;
    Some(base.join("kache").join("config.toml"))
}

/// A file's text; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(ConfigError {
            place: Place::File(path.display().to_string()),
            problem: Problem::Unreadable(error.to_string()),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_then_the_nearest_project_file_then_the_users_own() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = |name: &str| dir.path().join(name);
        let write = |name: &str, salt: &str| {
            std::fs::create_dir_all(path(name).parent().expect("parent")).expect("directory");
            std::fs::write(path(name), format!("cache.key_salt = '{salt}'")).expect("file");
        };
        std::fs::create_dir_all(path("a/b/c")).expect("directory");
        let salt = |config: Option<&str>| {
            let env = |name: &str| match name {
                env::HOME => Some(path("home").into_os_string()),
                env::KACHE_CONFIG => config.map(|name| path(name).into_os_string()),
                _ => None,
            };
            let (settings, _) = load_with(Some(&path("a/b/c")), env).map_err(|error| error.to_string())?;
            Ok::<_, String>(settings.key_salt.map(|salt| salt.value).unwrap_or_default())
        };
        assert_eq!(salt(None), Ok(String::new()));
        write("home/.config/kache/config.toml", "user");
        assert_eq!(salt(None), Ok("user".into()));
        write("a/.kache.toml", "project");
        assert_eq!(salt(None), Ok("project".into()));
        write("a/b/.kache.toml", "nearer");
        assert_eq!(salt(None), Ok("nearer".into()));
        write("elsewhere.toml", "variable");
        assert_eq!(salt(Some("elsewhere.toml")), Ok("variable".into()));
        assert!(
            salt(Some("missing.toml"))
                .is_err_and(|e| e.contains("KACHE_CONFIG") && e.contains("does not exist"))
        );
        std::fs::write(path("a/b/.kache.toml"), b"\xff").expect("file");
        assert!(salt(None).is_err_and(|e| e.contains(".kache.toml: can't be read")));
    }
}
