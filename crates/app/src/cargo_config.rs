//! Which compiler wrapper Cargo uses here, and what decides that: variables, configuration files from the working
//! directory upwards, the user's own. Looks, changes nothing.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use kache_core::config::env;

use crate::error::CliError;

/// What Cargo's configuration says about the wrapper.
#[derive(Debug)]
pub struct CargoConfig {
    /// The user's configuration file: where `kache init` writes. It needn't exist.
    pub user_file: PathBuf,
    /// Its text; empty when there is none.
    pub user_text: String,
    /// Every setting of the wrapper, the one that counts first.
    pub wrappers: Vec<WrapperSetting>,
    /// The same for the wrapper that Cargo puts between that one and the compiler, for members of the workspace.
    pub workspace_wrappers: Vec<WrapperSetting>,
}

/// One place that sets the wrapper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrapperSetting {
    /// The wrapper; empty means none.
    pub value: OsString,
    pub place: WrapperPlace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrapperPlace {
    Variable(&'static str),
    /// A configuration file of a directory above the working directory.
    Project(PathBuf),
    User(PathBuf),
}

impl WrapperSetting {
    /// Whether it is kache, by its name or because it is this very program.
    pub fn is_kache(&self) -> bool {
        is_named(&self.value, "kache") || is_me(&self.value)
    }

    /// Whether it is sccache, by its name.
    pub fn is_sccache(&self) -> bool {
        is_named(&self.value, "sccache")
    }
}

/// Whether a program's name or path leads to this program, by `PATH` where it has no directory.
pub fn is_me(program: &OsStr) -> bool {
    let path = std::env::var_os(env::PATH);
    let found = find_program(program, path.as_deref()).and_then(|file| file.canonicalize().ok());
    found.is_some() && found == std::env::current_exe().and_then(|me| me.canonicalize()).ok()
}

/// Whether a program's file name without extension is `name`.
pub fn is_named(program: &OsStr, name: &str) -> bool {
    Path::new(program).file_stem().is_some_and(|stem| stem == name)
}

impl std::fmt::Display for WrapperPlace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            WrapperPlace::Variable(name) => write!(f, "the environment variable {name}"),
            WrapperPlace::Project(path) | WrapperPlace::User(path) => path.display().fmt(f),
        }
    }
}

impl CargoConfig {
    /// Looks at everything that decides about the wrapper for builds started in `cwd`.
    pub fn observe(cwd: &Path, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, CliError> {
        let home = cargo_home(cwd, &env).ok_or_else(|| {
            CliError::failure("Cargo's home directory is unknown")
                .hint("set CARGO_HOME or HOME to an absolute path")
        })?;
        let user_file = config_file(&home);
        let user_text = read(&user_file)?.unwrap_or_default();
        let mut texts = Vec::new();
        for dir in cwd.ancestors().map(|dir| dir.join(".cargo")).filter(|dir| *dir != home) {
            let file = config_file(&dir);
            if let Some(text) = read(&file)? {
                texts.push((WrapperPlace::Project(file), text));
            }
        }
        texts.push((WrapperPlace::User(user_file.clone()), user_text.clone()));
        let settings = |variables: [&'static str; 2], key: &str| {
            let set = variables.into_iter().filter_map(|name| {
                Some(WrapperSetting { value: env(name)?, place: WrapperPlace::Variable(name) })
            });
            let filed = texts.iter().filter_map(|(place, text)| {
                Some(WrapperSetting { value: build_setting(text, key)?.into(), place: place.clone() })
            });
            set.chain(filed).collect()
        };
        let wrappers = settings([env::RUSTC_WRAPPER, env::CARGO_BUILD_RUSTC_WRAPPER], "rustc-wrapper");
        let variables = [env::RUSTC_WORKSPACE_WRAPPER, env::CARGO_BUILD_RUSTC_WORKSPACE_WRAPPER];
        let workspace_wrappers = settings(variables, "rustc-workspace-wrapper");
        Ok(Self { user_file, user_text, wrappers, workspace_wrappers })
    }
}

/// A setting of the table `build` in a configuration file. A file that can't be parsed sets nothing; Cargo will complain.
fn build_setting(text: &str, key: &str) -> Option<String> {
    let document = text.parse::<toml_edit::DocumentMut>().ok()?;
    Some(document.get("build")?.as_table_like()?.get(key)?.as_str()?.to_owned())
}

/// `$CARGO_HOME`, relative to the working directory as Cargo has it, else `~/.cargo`.
fn cargo_home(cwd: &Path, env: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| env(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set(env::CARGO_HOME).map(|home| cwd.join(home)).or_else(|| Some(set(env::HOME)?.join(".cargo")))
}

/// The configuration file of a `.cargo` directory: the old name without extension wins where it exists.
fn config_file(dir: &Path) -> PathBuf {
    let old = dir.join("config");
    if old.is_file() { old } else { dir.join("config.toml") }
}

fn read(path: &Path) -> Result<Option<String>, CliError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            Ok(None)
        }
        Err(error) => Err(CliError::file("read", path, &error)),
    }
}

/// Where a program without separators in its name is found.
pub fn find_program(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    if name.as_encoded_bytes().contains(&b'/') {
        return Path::new(name).is_file().then(|| PathBuf::from(name));
    }
    std::env::split_paths(path?).map(|dir| dir.join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_setting_counts_and_the_users_file_is_last() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::create_dir_all(path.parent().expect("parent")).expect("directory");
            std::fs::write(path, text).expect("file");
        };
        write("home/.cargo/config.toml", "[build]\nrustc-wrapper = \"kache\"\n");
        write("home/p/.cargo/config", "build = { rustc-wrapper = \"sccache\" }");
        write("home/p/q/.cargo/config.toml", "not toml [");
        let home = dir.path().join("home");
        let observe = |wrapper: Option<&str>| {
            CargoConfig::observe(&home.join("p/q"), |name| match name {
                env::HOME => Some(home.clone().into_os_string()),
                env::RUSTC_WRAPPER => wrapper.map(OsString::from),
                _ => None,
            })
            .expect("readable")
        };
        let config = observe(None);
        assert_eq!(config.user_file, home.join(".cargo/config.toml"));
        assert!(config.wrappers[0].is_sccache() && config.wrappers[1].is_kache());
        assert_eq!(config.wrappers[0].place, WrapperPlace::Project(home.join("p/.cargo/config")));
        assert_eq!(config.wrappers[1].place, WrapperPlace::User(home.join(".cargo/config.toml")));
        let config = observe(Some(""));
        assert_eq!(config.wrappers[0].place, WrapperPlace::Variable("RUSTC_WRAPPER"));
        assert_eq!(config.wrappers[0].value, "");
    }
}
