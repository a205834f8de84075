//! The workspace that a command is about: its lockfile, the compilers it is built with, and what its builds used. Knows
//! nothing about the remote.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use kache_core::config::env;
use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::lockfile::{LOCKFILE_BYTES_MAX, Lockfile};
use kache_core::remote::build::BuildUnit;
use kache_engine::toolchain::{self, Toolchain};
use kache_service::transfer::units_used;
use kache_store::Store;

use super::current_dir;
use crate::error::CliError;

pub struct Workspace {
    /// Where `Cargo.lock` is; without one, where `Cargo.toml` is.
    pub root: PathBuf,
    /// What is in the lockfile; `None` where there is none.
    pub lockfile: Option<Lockfile>,
}

impl Workspace {
    /// The nearest lockfile, else the nearest manifest, at or above a manifest or the current directory.
    pub fn find(manifest_path: Option<&Path>) -> Result<Self, CliError> {
        let cwd = current_dir()?;
        let start = match manifest_path {
            None => cwd,
            Some(path) => {
                let path = cwd.join(path);
                let meta =
                    std::fs::metadata(&path).map_err(|error| CliError::file("look at", &path, &error))?;
                let dir = if meta.is_dir() { Some(path.as_path()) } else { path.parent() };
                dir.unwrap_or(&cwd).to_owned()
            }
        };
        let start = start.canonicalize().unwrap_or(start);
        if let Some(path) = Lockfile::nearest(&start, Path::is_file) {
            let lockfile = read_lockfile(&path)?;
            let root = path.parent().unwrap_or(&start).to_owned();
            return Ok(Self { root, lockfile: Some(lockfile) });
        }
        let has_manifest = |dir: &&Path| dir.join("Cargo.toml").is_file();
        if let Some(root) = start.ancestors().find(has_manifest) {
            return Ok(Self { root: root.to_owned(), lockfile: None });
        }
        let what = format!("there is neither Cargo.lock nor Cargo.toml in {} or above it", start.display());
        Err(CliError::failure(what)
            .hint("`--manifest-path` names a workspace; `kache sync --all` needs none"))
    }

    /// What its builds are filed under: the digest of the lockfile, or of nothing.
    pub fn lock_digest(&self) -> Digest {
        self.lockfile.as_ref().map_or_else(|| Digest::of(b""), |lockfile| lockfile.digest)
    }

    /// Whether a package may be a part of it, as far as that is known.
    pub fn has_package(&self, package: &str, version: &str) -> bool {
        self.lockfile.as_ref().is_none_or(|lockfile| lockfile.has(package, version))
    }

    /// The latest entry of each unit that builds in the workspace used, as far as `accept` takes the compiler.
    pub fn used(&self, store: &Store, accept: impl Fn(&str, &str) -> bool) -> Vec<BuildUnit> {
        units_used(store, &self.root.to_string_lossy(), self.lockfile.as_ref(), accept)
    }
}

fn read_lockfile(path: &Path) -> Result<Lockfile, CliError> {
    let unreadable = |error| CliError::file("read", path, &error);
    if std::fs::metadata(path).map_err(unreadable)?.len() > LOCKFILE_BYTES_MAX {
        return Err(CliError::failure(format!("{} is too long", path.display())));
    }
    let text = std::fs::read_to_string(path).map_err(unreadable)?;
    Lockfile::parse(&text)
        .map_err(|error| CliError::failure(format!("can't use {}", path.display())).because(&error))
}

/// The compilers that builds here use: the one for the host, and those for targets and lints as they turn up.
pub struct Compilers<'s> {
    store: &'s Store,
    rustc: String,
    host: Toolchain,
    known: RefCell<BTreeMap<String, Vec<String>>>,
}

impl<'s> Compilers<'s> {
    /// Identifies the compiler that Cargo would use in the directory `dir`, and goes there: which compiler that is can
    /// depend on it.
    pub fn identify(store: &'s Store, dir: &Path) -> Result<Self, CliError> {
        std::env::set_current_dir(dir).map_err(|error| CliError::file("go to", dir, &error))?;
        let rustc = std::env::var(env::RUSTC).ok().filter(|path| !path.is_empty());
        let rustc = rustc.unwrap_or_else(|| "rustc".to_owned());
        let call = Invocation { compiler: rustc.clone(), ..Invocation::default() };
        let host = toolchain::identify(&call, store, None).map_err(|bypass| {
            CliError::failure(format!("can't tell which compiler `{rustc}` is"))
                .hint(format!("{bypass}; entries of other compilers are of no use, so it has to be known"))
        })?;
        Ok(Self { store, rustc, host, known: RefCell::default() })
    }

    pub fn host(&self) -> &str {
        &self.host.host
    }

    /// Identity of the compiler for the host.
    pub fn id(&self) -> Digest {
        self.host.id
    }

    /// Whether an entry for `target` (empty for the host) by the compiler of this identity can be used here.
    pub fn accept(&self, target: &str, identity: &str) -> bool {
        let mut known = self.known.borrow_mut();
        let ids = known.entry(target.to_owned()).or_insert_with(|| self.identities(target));
        ids.iter().any(|id| id == identity)
    }

    /// rustc and clippy for a target.
    fn identities(&self, target: &str) -> Vec<String> {
        let target = Some(target).filter(|target| !target.is_empty());
        let clippy = self.host.sysroot.join("bin/clippy-driver");
        let clippy = clippy.is_file().then(|| clippy.to_string_lossy().into_owned());
        let drivers = [Some(None), clippy.map(Some)];
        let identify = |driver| {
            let compiler = self.rustc.clone();
            let call = Invocation { compiler, driver, ..Invocation::default() };
            Some(toolchain::identify(&call, self.store, target).ok()?.id.to_string())
        };
        drivers.into_iter().flatten().filter_map(identify).collect()
    }
}
