//! What seeding and recording both look at before anything else: the calling Cargo's compiler, lockfile and
//! directories, and the identity under which snapshots are kept. Decides nothing about units.

use std::fs;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::invocation::{Env, Invocation};
use kache_core::key::KeyWriter;
use kache_core::paths::{Root, Roots};
use kache_store::Store;
use kache_store::hashing::DigestMemo;

use super::configuration;
use super::parent::{Directories, Parent};
use crate::link_inputs::LINKER_ENV;
use crate::toolchain::{self, Toolchain};

/// Longest lockfile that is read, in bytes.
const LOCK_BYTES_MAX: u64 = 32 << 20;

pub struct Surroundings {
    /// Compiler, Cargo with what decides about its units, `CARGO_HOME`, key salt.
    pub context: Digest,
    /// The compiler, as Cargo names it.
    pub compiler: String,
    pub toolchain: Digest,
    pub lockfile: String,
    pub dirs: Directories,
    pub roots: Roots,
    /// The roots that keys are made with.
    pub key_roots: Roots,
    pub cargo_home: String,
}

/// The identity of compiler, Cargo and settings; and the compiler. `None` when one of them can't be told.
pub fn context(
    store: &Store,
    settings: &Settings,
    parent: &Parent,
    compiler: &str,
) -> Option<(Digest, Toolchain)> {
    // Dependencies are compiled by rustc itself, also where clippy-driver compiles the workspace.
    let call = Invocation {
        compiler: compiler.to_owned(),
        cwd: "/".to_owned(),
        env: Env::default(),
        ..Invocation::default()
    };
    let toolchain = toolchain::identify(&call, store, None).ok()?;
    let cargo = DigestMemo::new(store).digest(&parent.exe).ok()??;
    let configuration = configuration::of(parent);
    let portable = if settings.portable_paths.value { "portable" } else { "real" };
    let mut key = KeyWriter::new("snapshot");
    key.digest("compiler", toolchain.id);
    key.text("sysroot", toolchain.sysroot.to_str()?);
    key.text("compiler path", call.compiler);
    key.digest("cargo", cargo);
    key.text("cargo home", parent.cargo_home()?);
    key.text("cargo path", parent.exe.to_str()?);
    key.text("key salt", settings.key_salt.as_ref().map_or("", |salt| salt.value.as_str()));
    key.text("paths", portable);
    key.text("configuration", &configuration.decisive);
    for feature in parent.features() {
        key.text("feature", feature);
    }
    // What decides about compiles, and Cargo doesn't know.
    for name in ["RUSTC_BOOTSTRAP"].iter().chain(LINKER_ENV) {
        key.text(*name, parent.seen.get(name).map_or("-".into(), |value| format!("={}", value.display())));
    }
    Some((key.finish().0, toolchain))
}

/// The text of a workspace's lockfile.
pub fn lockfile(workspace: &std::path::Path) -> Option<String> {
    let lock = workspace.join("Cargo.lock");
    let is_short = fs::metadata(&lock).is_ok_and(|meta| meta.len() <= LOCK_BYTES_MAX);
    fs::read_to_string(&lock).ok().filter(|_| is_short)
}

impl Surroundings {
    /// Puts together what is known; `Err` says in words what is missing.
    pub fn new(
        settings: &Settings,
        parent: &Parent,
        compiler: &str,
        (context, toolchain): (Digest, &Toolchain),
        dirs: Directories,
    ) -> Result<Self, String> {
        let lockfile = lockfile(&dirs.workspace);
        let lockfile =
            lockfile.ok_or_else(|| format!("{}'s lockfile can't be read", dirs.workspace.display()))?;
        let text = |path: &std::path::Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| format!("{} is not UTF-8", path.display()))
        };
        let (build, workspace) = (text(&dirs.build)?, text(&dirs.workspace)?);
        let cargo_home = parent.cargo_home().ok_or("Cargo's home is unknown")?;
        if dirs.workspace.starts_with(&cargo_home) {
            return Err(
                "the workspace lies in Cargo's home, where members look like packages from elsewhere"
                    .to_owned(),
            );
        }
        // As a wrapper sees it that compiles a package from elsewhere.
        let beside = dirs.build.parent().filter(|dir| dir.join("Cargo.toml").is_file());
        let beside = beside.map(text).transpose()?.map(|dir| (Root::Workspace, dir));
        let key_local: Vec<_> = [(Root::Target, build.clone())].into_iter().chain(beside).collect();
        let local = [(Root::Target, build), (Root::Workspace, workspace)];
        let shared = [(Root::CargoHome, cargo_home.clone()), (Root::Sysroot, text(&toolchain.sysroot)?)];
        let roots = Roots::new(local.iter().chain(&shared).cloned());
        let portable = shared.iter().filter(|_| settings.portable_paths.value);
        let key_roots = Roots::new(key_local.iter().chain(portable).cloned());
        let compiler = compiler.to_owned();
        let toolchain = toolchain.id;
        Ok(Self { context, compiler, toolchain, lockfile, dirs, roots, key_roots, cargo_home })
    }

    pub fn lock(&self) -> Digest {
        Digest::of(self.lockfile.as_bytes())
    }
}
