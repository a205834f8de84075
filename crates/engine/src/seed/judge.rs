//! Whether a unit of a snapshot is what Cargo would get here if it made it: everything that Cargo takes for granted, and
//! what would have Cargo run a script in a directory that isn't empty. Each thing is looked at once. Places nothing.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::entry::{Entry, OutputKind};
use kache_core::entry_key::input_field;
use kache_core::invocation::{Env, Invocation};
use kache_core::seed_unit::{Made, SeedUnit};
use kache_core::seeding::{self, Unseeded};
use kache_core::snapshot::Snapshot;
use kache_store::Store;
use kache_store::entries::Settled;

use super::stamps::Tree;
use super::surroundings::Surroundings;
use crate::facts::cpu_identity;
use crate::inputs::Observer;
use crate::times::now_ns;
use crate::{macro_env, toolchain};

/// Judges units by what Cargo doesn't look at.
pub struct Judge<'a> {
    store: &'a Store,
    around: &'a Surroundings,
    settings: &'a Settings,
    exclude: Option<globset::GlobSet>,
    session: &'a str,
    locked: BTreeMap<String, String>,
    /// What the packages' files look like.
    pub sources: BTreeMap<String, Tree>,
    observer: Observer<'a>,
    env: &'a Env,
    cpu: Option<Digest>,
    now_ns: i64,
    compilers: HashMap<String, Option<String>>,
    macros: HashMap<Digest, Option<Digest>>,
    /// Entries of the units that were found fit, by place.
    pub entries: HashMap<String, Entry>,
}

impl<'a> Judge<'a> {
    /// Somebody who judges the units of `snapshot` for the Cargo of `session`. `env` is what its compilers see.
    pub fn new(
        store: &'a Store,
        around: &'a Surroundings,
        (settings, env): (&'a Settings, &'a Env),
        session: &'a str,
        snapshot: &'a Snapshot,
    ) -> Self {
        let locked = seeding::locked_packages(&around.lockfile);
        let has_cpu = snapshot.units.iter().any(|unit| unit.cpu.is_some());
        Self {
            store,
            around,
            settings,
            exclude: excluded(settings),
            session,
            locked,
            sources: BTreeMap::new(),
            observer: Observer::new(store, env, &around.key_roots),
            env,
            cpu: if has_cpu { cpu_identity() } else { None },
            now_ns: now_ns(),
            compilers: HashMap::new(),
            macros: HashMap::new(),
            entries: HashMap::new(),
        }
    }

    /// Why a unit isn't fit; `None` when it is.
    pub fn judge(&mut self, unit: &SeedUnit) -> Option<Unseeded> {
        self.ground(unit)
            .and_then(|()| self.run(unit))
            .and_then(|()| self.circumstances(unit))
            .and_then(|()| self.entry(unit))
            .err()
    }

    fn ground(&self, unit: &SeedUnit) -> Result<(), Unseeded> {
        if unit.locked.is_empty() || self.locked.get(&unit.package) != Some(&unit.locked) {
            return Err(Unseeded::Package);
        }
        let dir = &unit.package_dir;
        if self.sources.get(dir).is_none_or(|tree| tree.stamp != unit.sources) {
            return Err(Unseeded::Sources(dir.clone()));
        }
        if let Some(bound) = &unit.bound_to
            && Path::new(bound) != self.around.dirs.build
        {
            return Err(Unseeded::PathInOutput(bound.clone()));
        }
        // What comes from the future would look older than files that are changed from now on.
        if unit.newest_ns() > self.now_ns {
            return Err(Unseeded::Stale("it is dated in the future".to_owned()));
        }
        let is_excluded = |exclude: &globset::GlobSet| exclude.is_match(&unit.source);
        if self.exclude.as_ref().is_some_and(is_excluded) {
            return Err(Unseeded::Refused("cache.exclude names it".to_owned()));
        }
        Ok(())
    }

    /// Compiler, processor, other files, programs, environment.
    fn circumstances(&mut self, unit: &SeedUnit) -> Result<(), Unseeded> {
        if let Some((target, compiler)) = &unit.compiler
            && self.compiler_for(target).as_ref() != Some(compiler)
        {
            return Err(Unseeded::Input(format!("the compiler for {target}")));
        }
        if unit.cpu.is_some() && unit.cpu != self.cpu {
            return Err(Unseeded::Cpu);
        }
        for (input, value) in &unit.inputs {
            if self.observer.observe(input).is_none_or(|now| now.to_string() != *value) {
                return Err(Unseeded::Input(input_field(input)));
            }
        }
        if unit.macros.iter().any(|(library, seen)| self.macro_environment(library) != Some(*seen)) {
            return Err(Unseeded::Environment);
        }
        Ok(())
    }

    /// What would have Cargo run a script again.
    fn run(&self, unit: &SeedUnit) -> Result<(), Unseeded> {
        let Made::Run { asked, .. } = &unit.made else { return Ok(()) };
        for (name, value) in asked {
            // As Cargo reads it: what isn't UTF-8 counts as not there.
            let now = self.env.get(name).and_then(|value| value.to_str());
            if now.map(|value| Digest::of(value.as_bytes())) != *value {
                return Err(Unseeded::Variable(name.clone()));
            }
        }
        Ok(())
    }

    /// The entry: there, whole, and to be served.
    fn entry(&mut self, unit: &SeedUnit) -> Result<(), Unseeded> {
        let key = unit.entry();
        if self.settings.verify.takes(&key, self.session) {
            return Err(Unseeded::Refused("KACHE_VERIFY has it compiled".to_owned()));
        }
        let entry = self.store.entry(&key).ok().flatten();
        let trusted = entry.filter(|entry| matches!(self.store.settle(&key, entry), Ok(Settled::Trusted)));
        let entry = trusted.ok_or(Unseeded::EntryGone)?;
        let links = |kind: OutputKind| matches!(kind, OutputKind::BuildScript | OutputKind::Linked);
        if !self.settings.cache_executables.value && entry.outputs.iter().any(|output| links(output.kind)) {
            return Err(Unseeded::Refused("cache.cache_executables is off".to_owned()));
        }
        let blobs: BTreeSet<Digest> = entry.blobs().collect();
        if !unit.blobs().all(|blob| blobs.contains(&blob)) {
            return Err(Unseeded::Refused("its OUT_DIR holds what its entry doesn't".to_owned()));
        }
        self.entries.insert(unit.place(), entry);
        Ok(())
    }

    fn compiler_for(&mut self, target: &str) -> Option<String> {
        let (store, compiler) = (self.store, &self.around.compiler);
        let identify = || {
            let call =
                Invocation { compiler: compiler.clone(), cwd: "/".to_owned(), ..Invocation::default() };
            let target = Some(target).filter(|target| !target.is_empty());
            toolchain::identify(&call, store, target).ok().map(|toolchain| toolchain.id.to_string())
        };
        self.compilers.entry(target.to_owned()).or_insert_with(identify).clone()
    }

    fn macro_environment(&mut self, library: &Digest) -> Option<Digest> {
        let (store, env) = (self.store, self.env);
        let look = || macro_env::digest(store, env, &store.blob_path(library), library);
        *self.macros.entry(*library).or_insert_with(look)
    }
}

/// `cache.exclude`; where one of its patterns isn't understood, everything is excluded.
fn excluded(settings: &Settings) -> Option<globset::GlobSet> {
    if settings.exclude.value.is_empty() {
        return None;
    }
    let mut globs = globset::GlobSetBuilder::new();
    for pattern in &settings.exclude.value {
        globs.add(kache_core::config::source_glob(pattern).or_else(|_| globset::Glob::new("**")).ok()?);
    }
    globs.build().ok()
}
