//! Finds and reads the settings file and hands it, with the environment, to `core::config`. Knows where files may
//! be; what they mean is decided in core.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use kache_core::config::{ConfigError, Place, Problem, Settings, Warning, env};

/// Name of a project's settings file.
const PROJECT_FILE: &str = ".kache.toml";
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The settings of this process. `start` is where the search for a project's file begins: the directory the user
/// works in, which for the wrapper is not its own working directory (Cargo runs it inside each package).
pub fn load(start: Option<&Path>) -> Result<(Settings, Vec<Warning>), ConfigError> {
    load_with(start, |name| std::env::var_os(name))
}

fn load_with(
    start: Option<&Path>,
    env: impl Fn(&str) -> Option<OsString>,
) -> Result<(Settings, Vec<Warning>), ConfigError> {
    let Found { file, mut warnings } = discover(start, &env)?;
    let (settings, more) = match file {
        None => Settings::resolve(None, env)?,
        Some((path, text)) => Settings::resolve(Some((&path.to_string_lossy(), &text)), env)?,
    };
    warnings.extend(more);
    Ok((settings, warnings))
}

/// The settings file to edit, with its text: the one that counts, else the user's own, which may have to be made.
pub fn editable(start: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let env = |name: &str| std::env::var_os(name);
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    Ok(discover(start, &env)?.file.or_else(|| user_file(set).map(|path| (path, String::new()))))
}

/// What the search for a settings file came to.
#[derive(Default)]
struct Found {
    /// The file that counts, with its text.
    file: Option<(PathBuf, String)>,
    warnings: Vec<Warning>,
}

/// The settings file that counts: `$KACHE_CONFIG`, else the nearest `.kache.toml` upwards from `start` that may be
/// believed, else the user's own.
fn discover(start: Option<&Path>, env: &impl Fn(&str) -> Option<OsString>) -> Result<Found, ConfigError> {
    let set = |name: &str| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let mut found = Found::default();
    if let Some(path) = set(env::KACHE_CONFIG) {
        let missing = || Problem::Value { value: path.display().to_string(), why: "does not exist" };
        let at = |problem| ConfigError { place: Place::Variable(env::KACHE_CONFIG), problem };
        let text = read(&path)?.ok_or_else(|| at(missing()))?;
        found.file = Some((path, text));
        return Ok(found);
    }
    for dir in start.into_iter().flat_map(Path::ancestors) {
        let path = dir.join(PROJECT_FILE);
        let Ok(link) = path.symlink_metadata() else { continue };
        if !is_believed(&path, &link, start) {
            found.warnings.push(Warning::Foreign(path.display().to_string()));
            continue;
        }
        if let Some(text) = read(&path)? {
            found.file = Some((path, text));
            return Ok(found);
        }
    }
    if let Some(path) = user_file(set) {
        found.file = read(&path)?.map(|text| (path, text));
    }
    Ok(found)
}

/// Whether a project's file may decide anything. The search goes up to directories that everybody may write to, such
/// as `/tmp`, and a settings file can name programs and servers: so it has to be of somebody who could have the user
/// run something anyway.
fn is_believed(path: &Path, link: &Metadata, start: Option<&Path>) -> bool {
    let me = rustix::process::geteuid().as_raw();
    // A link may lead to a file of the user's own that was never meant for this.
    let target = if link.is_symlink() { path.metadata().ok().map(|meta| meta.uid()) } else { None };
    let are_known =
        |start| is_known(link.uid(), me, start) && target.is_none_or(|owner| is_known(owner, me, start));
    // Every compiler call comes by here, and the file is the user's own as a rule.
    are_known(None) || are_known(start.and_then(|start| start.metadata().ok()).map(|meta| meta.uid()))
}

/// The user, root, and whoever owns the directory that is built: their code is about to run.
fn is_known(owner: u32, me: u32, start: Option<u32>) -> bool {
    owner == me || owner == 0 || start == Some(owner)
}

/// `kache/config.toml` in the user's configuration directory.
fn user_file(set: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
    let base = absolute(env::XDG_CONFIG_HOME).or_else(|| Some(absolute(env::HOME)?.join(".config")))?;
    Some(base.join("kache").join("config.toml"))
}

/// A file's text; `None` when there is no such file. Doesn't wait for what is no file, and reads no more than settings
/// can be.
fn read(path: &Path) -> Result<Option<String>, ConfigError> {
    let unreadable = |why: String| ConfigError {
        place: Place::File(path.display().to_string()),
        problem: Problem::Unreadable(why),
    };
    let nonblock = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let file = match File::options().read(true).custom_flags(nonblock).open(path) {
        Ok(file) => file,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(unreadable(error.to_string())),
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return Err(unreadable("it is not a file".to_owned()));
    }
    let mut text = String::new();
    match file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text) {
        Ok(length) if length as u64 > FILE_BYTES_MAX => Err(unreadable("it is too long".to_owned())),
        Ok(_) => Ok(Some(text)),
        Err(error) => Err(unreadable(error.to_string())),
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
    #[test]
    fn a_projects_file_counts_when_its_owner_could_run_code_here_anyway() {
        for (owner, me, start, known) in [
            (1000, 1000, Some(1000), true),
            (0, 1000, Some(1000), true),
            (1001, 1000, Some(1001), true),
            (1001, 1000, Some(1000), false),
            (1001, 1000, None, false),
            (1001, 0, Some(0), false),
            (1001, 0, Some(1001), true),
        ] {
            assert_eq!(is_known(owner, me, start), known, "{owner} {me} {start:?}");
        }
    }

    #[test]
    fn what_is_no_settings_file_is_not_waited_for() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let load = || load_with(Some(dir.path()), |_| None).map_err(|error| error.to_string());
        let path = dir.path().join(PROJECT_FILE);
        assert!(
            std::process::Command::new("mkfifo").arg(&path).status().is_ok_and(|status| status.success())
        );
        assert!(load().is_err_and(|error| error.contains("not a file")));
        std::fs::remove_file(&path).expect("removed");
        std::os::unix::fs::symlink("/dev/zero", &path).expect("a link");
        assert!(load().is_err_and(|error| error.contains("not a file")));
        std::fs::remove_file(&path).expect("removed");
        File::create(&path).and_then(|file| file.set_len(FILE_BYTES_MAX + 1)).expect("a long file");
        assert!(load().is_err_and(|error| error.contains("too long")));
    }
}
