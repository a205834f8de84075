//! Reads one unit out of a build directory, with everything that Cargo doesn't look at when it judges the unit. A
//! reason why it can't be seeded stays with it, so that people can be told. Knows nothing about other units.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, OutputKind};
use kache_core::entry_key::input_field;
use kache_core::invocation::Env;
use kache_core::key::EntryKey;
use kache_core::paths::{Root, Roots};
use kache_core::record::Input;
use kache_core::scan::Scanner;
use kache_core::seeding::Unseeded;
use kache_core::snapshot::{Content, Made, SeedUnit, SmallFile};
use kache_store::Store;
use kache_store::hashing::DigestMemo;
use kache_store::ledger::Ledger;

use super::fingerprints::{Fingerprint, Kind};
use super::mentions;
use super::runs::{Package, store_run};
use super::surroundings::Surroundings;
use super::times::mtime_ns;
use crate::inputs::Observer;
use crate::macro_env;

/// Largest file of a fingerprint directory that is kept, in bytes.
const SMALL_BYTES_MAX: u64 = 4 << 20;

/// A fingerprint directory and whose it is.
pub struct Case {
    /// Profile directory.
    pub profile: String,
    /// Fingerprint directory.
    pub dir: String,
    /// What is in it.
    pub fingerprint: Fingerprint,
    /// What kache knows about the profile directory.
    pub ledger: Ledger,
}

/// A unit, and what else is known about it for the moment.
pub struct Found {
    /// The unit.
    pub unit: SeedUnit,
    /// Why it can't be seeded.
    pub unfit: Option<Unseeded>,
    /// The newest time of its outputs.
    pub newest_ns: i64,
    /// The time of its metadata, which is all that a library needs of a library.
    pub metadata_ns: i64,
    /// Whether its dependencies' metadata is all that it needs.
    pub needs_metadata_only: bool,
    /// What a build script watches.
    pub watched: Vec<PathBuf>,
    /// Digests of its outputs.
    pub outputs: Vec<Digest>,
    /// What its key says it was compiled with.
    pub externs: Vec<(String, Digest)>,
}

/// Reads units of one build directory.
pub struct Reader<'a> {
    /// The store.
    pub store: &'a Store,
    /// The build directory and its roots.
    pub around: &'a Surroundings,
    /// Cargo's environment.
    pub env: &'a Env,
    /// What an earlier snapshot knew, by place.
    pub known: &'a HashMap<String, &'a SeedUnit>,
}

impl Reader<'_> {
    /// A compile; `None` for what belongs to the workspace, or was never seen by kache.
    pub fn compile(&self, case: &Case) -> Option<Found> {
        let stem = case.fingerprint.stem(&case.dir)?;
        let origin = case.ledger.origin_of(&stem)?;
        let package_dir = origin.package_dir?;
        let out_dir = match case.fingerprint.kind {
            Kind::Script => format!("build/{}", case.dir),
            Kind::Library | Kind::Run => "deps".to_owned(),
        };
        let made = Made::Compile { entry: origin.entry, out_dir: out_dir.clone() };
        let mut found = self.blank(case, package_dir, made);
        let dir = self.around.dirs.build.join(&case.profile).join(out_dir);
        if let Err(why) = self.fill_compile(case, &mut found, &origin.entry, &stem, &dir) {
            found.unfit = Some(why);
        }
        Some(found)
    }

    fn fill_compile(
        &self,
        case: &Case,
        found: &mut Found,
        key: &EntryKey,
        stem: &str,
        dir: &Path,
    ) -> Result<(), Unseeded> {
        let gone = |_| Unseeded::EntryGone;
        let entry = self.store.peek_entry(key).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        let evidence = self.store.evidence(key).map_err(gone)?.ok_or(Unseeded::EntryGone)?;
        found.unit.package = format!("{} {}", entry.package, entry.package_version);
        found.unit.took_ms = entry.compile_ms;
        let judged = entry.outputs.iter().filter(|output| output.kind != OutputKind::Debug);
        let paths: Vec<PathBuf> = judged.map(|output| dir.join(&output.name)).collect();
        let times = output_times(&paths).ok_or_else(|| Unseeded::Stale("an output is missing".to_owned()))?;
        (found.newest_ns, found.metadata_ns) = times;
        let links = |kind: &OutputKind| {
            matches!(kind, OutputKind::ProcMacro | OutputKind::BuildScript | OutputKind::Linked)
        };
        found.needs_metadata_only = !entry.outputs.iter().any(|output| links(&output.kind));
        self.check_outputs(&entry, stem, dir)?;
        found.outputs = entry.outputs.iter().map(|output| output.digest).collect();
        found.externs = externs(&evidence);
        if let Some(known) = self.unchanged(case) {
            found.unit = SeedUnit { took_ms: found.unit.took_ms, ..known };
            return Ok(());
        }
        found.unit.bound_to = self.binding(&evidence, &entry, dir)?;
        found.unit.inputs = self.inputs(&evidence, &found.unit.package_dir);
        found.unit.macros = self.macros(&evidence);
        let cpu = evidence.unit_fields.iter().find(|field| field.name == "cpu");
        found.unit.cpu = cpu.and_then(|field| field.value.parse().ok());
        self.small_files(case, &mut found.unit)
    }

    /// A build script's run.
    pub fn run(&self, case: &Case, package_dir: &str, package: &str) -> Found {
        let key = EntryKey(Digest::of(b"none"));
        let mut found =
            self.blank(case, package_dir.to_owned(), Made::Compile { entry: key, out_dir: "deps".into() });
        package.clone_into(&mut found.unit.package);
        let run_dir = self.run_dir(case);
        found.newest_ns = mtime_ns(&run_dir.join("output")).unwrap_or(i64::MIN);
        found.metadata_ns = found.newest_ns;
        found.watched.clone_from(&case.fingerprint.watched);
        if let Some(known) = self.unchanged(case) {
            found.unit = known;
            return found;
        }
        let (name, version) = package.split_once(' ').unwrap_or((package, ""));
        let package = Package { name, version, dir: package_dir };
        let roots = (&self.around.roots_without_home(), self.around.cargo_home.as_str());
        let stored = store_run(self.store, &run_dir, &package, roots);
        let filled = stored.and_then(|(made, took_ms)| {
            found.unit.made = made;
            found.unit.took_ms = took_ms;
            self.small_files(case, &mut found.unit)
        });
        found.unfit = filled.err();
        found
    }

    fn run_dir(&self, case: &Case) -> PathBuf {
        self.around.dirs.build.join(&case.profile).join("build").join(&case.dir)
    }

    fn fingerprint_dir(&self, case: &Case) -> PathBuf {
        self.around.dirs.build.join(&case.profile).join(".fingerprint").join(&case.dir)
    }

    fn unchanged(&self, case: &Case) -> Option<SeedUnit> {
        let known = self.known.get(&format!("{}/{}", case.profile, case.dir))?;
        let is_same = is_unchanged(known, case, &self.fingerprint_dir(case), &self.run_dir(case))
            && match (&known.made, case.fingerprint.stem(&case.dir)) {
                (Made::Compile { entry, .. }, Some(stem)) => {
                    case.ledger.origin_of(&stem).is_some_and(|origin| origin.entry == *entry)
                }
                (Made::Run { entry, .. }, None) => self.store.entry_path(entry).exists(),
                _ => false,
            };
        is_same.then(|| SeedUnit::clone(known))
    }

    fn blank(&self, case: &Case, package_dir: String, made: Made) -> Found {
        Found {
            unit: SeedUnit {
                hash: case.fingerprint.hash.clone(),
                deps: case.fingerprint.deps.clone(),
                package_dir,
                ..SeedUnit::new(&case.profile, &case.dir, &case.fingerprint.name, made)
            },
            unfit: None,
            newest_ns: i64::MIN,
            metadata_ns: i64::MIN,
            needs_metadata_only: false,
            watched: Vec::new(),
            outputs: Vec::new(),
            externs: Vec::new(),
        }
    }

    /// What lies there must be what the entry says, under names that no other unit uses.
    fn check_outputs(&self, entry: &Entry, stem: &str, dir: &Path) -> Result<(), Unseeded> {
        let memo = DigestMemo::new(self.store);
        for output in &entry.outputs {
            let unknown = || Unseeded::Unknown(output.name.clone());
            let digest = memo.digest(&dir.join(&output.name)).map_err(|_| unknown())?;
            if !output.name.contains(stem) || digest != Some(output.digest) {
                return Err(unknown());
            }
        }
        Ok(())
    }

    /// The directory that the outputs can't leave: one that they name, unless only debug information does.
    fn binding(&self, evidence: &Evidence, entry: &Entry, dir: &Path) -> Result<Option<String>, Unseeded> {
        let local = [Root::Target, Root::Workspace];
        let baked = |roots: &[Root]| roots.iter().any(|root| local.contains(root));
        if !baked(&evidence.record.baked) {
            return Ok(None);
        }
        let bound = || self.around.roots.get(Root::Target).map(str::to_owned);
        // Something may have been made of the path that no search finds.
        if evidence.derived.as_deref().is_none_or(baked) {
            return Ok(bound());
        }
        let roots = local.map(|root| (root, self.around.roots.get(root).unwrap_or_default().to_owned()));
        let scanner = Scanner::new(&Roots::new(roots), &[&self.around.cargo_home]);
        for output in &entry.outputs {
            let bytes =
                fs::read(dir.join(&output.name)).map_err(|_| Unseeded::Unknown(output.name.clone()))?;
            if !mentions::only_in_debug_sections(&bytes, &scanner) {
                return Ok(bound());
            }
        }
        Ok(None)
    }

    /// What went in from outside the package, the toolchain and the build directory, as it was. Of variables those
    /// that Cargo's own environment decides; what Cargo sets for each unit follows from the unit.
    fn inputs(&self, evidence: &Evidence, package_dir: &str) -> Vec<(Input, String)> {
        let observer = Observer::new(self.store, self.env, &self.around.key_roots);
        let own =
            [Some(package_dir), self.around.roots.get(Root::Target), self.around.roots.get(Root::Sysroot)];
        let is_own = |name: &str| {
            let path = self.around.roots.path_of(name).unwrap_or_default();
            own.iter().flatten().any(|dir| Path::new(&path).starts_with(dir))
        };
        let inputs = evidence.record.inputs.iter().filter_map(|input| {
            let field = input_field(input);
            let value = evidence.entry_fields.iter().find(|known| known.name == field)?.value.clone();
            let counts = match input {
                Input::File(name) | Input::Dir(name) | Input::Link(name) => !is_own(name),
                Input::Env(_) => observer.observe(input).is_some_and(|now| now.to_string() == value),
                Input::MacroEnv(_) | Input::PortableMacroEnv(_) => false,
            };
            counts.then(|| (input.clone(), value))
        });
        inputs.collect()
    }

    /// Proc macros that took part, with a digest of what they could see in Cargo's environment.
    fn macros(&self, evidence: &Evidence) -> Vec<(Digest, Digest)> {
        let memo = DigestMemo::new(self.store);
        let libraries = evidence.record.inputs.iter().filter_map(|input| match input {
            Input::MacroEnv(name) | Input::PortableMacroEnv(name) => self.around.roots.path_of(name),
            _ => None,
        });
        let seen = libraries.filter_map(|path| {
            let digest = memo.digest(Path::new(&path)).ok()??;
            Some((digest, macro_env::digest(self.store, self.env, Path::new(&path), &digest)?))
        });
        seen.collect()
    }

    /// The fingerprint directory's files, but for the hash, which comes last when the unit is placed.
    fn small_files(&self, case: &Case, unit: &mut SeedUnit) -> Result<(), Unseeded> {
        let dir = self.fingerprint_dir(case);
        let unreadable =
            |name: &str| Unseeded::Stale(format!("{name} in its fingerprint directory can't be kept"));
        let entries = fs::read_dir(&dir).map_err(|_| unreadable("nothing"))?.flatten();
        let mut names: Vec<String> =
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.retain(|name| *name != unit.name);
        names.sort();
        for name in names {
            let path = dir.join(&name);
            let meta = fs::metadata(&path).map_err(|_| unreadable(&name))?;
            let mtime_ns = mtime_ns(&path).ok_or_else(|| unreadable(&name))?;
            if !meta.is_file() || meta.len() > SMALL_BYTES_MAX {
                return Err(unreadable(&name));
            }
            let bytes = fs::read(&path).map_err(|_| unreadable(&name))?;
            let text = String::from_utf8(bytes.clone()).ok().filter(|_| !name.starts_with("dep-"));
            let content = match text.and_then(|text| self.around.roots.tokenize(&text)) {
                Some(tokens) if tokens.contains(Root::Workspace.text_token()) => {
                    return Err(unreadable(&name));
                }
                Some(tokens) => Content::Text(tokens),
                None if self.names_local(&bytes) => {
                    unit.bound_to = self.around.roots.get(Root::Target).map(str::to_owned);
                    Content::hex(&bytes)
                }
                None => Content::hex(&bytes),
            };
            unit.files.push(SmallFile { name, content, mtime_ns });
        }
        Ok(())
    }

    fn names_local(&self, bytes: &[u8]) -> bool {
        let dirs = [Root::Target, Root::Workspace].map(|root| self.around.roots.get(root));
        dirs.into_iter().flatten().any(|dir| memchr::memmem::find(bytes, dir.as_bytes()).is_some())
    }
}

/// Files that the unit was compiled with, by the fields of its key.
fn externs(evidence: &Evidence) -> Vec<(String, Digest)> {
    let fields = evidence.unit_fields.iter().filter(|field| field.name.starts_with("extern "));
    let digests = fields.filter_map(|field| {
        let (_, digest) = field.value.rsplit_once(' ')?;
        Some((field.name.trim_start_matches("extern ").to_owned(), digest.parse().ok()?))
    });
    digests.collect()
}

/// Files of a compile that Cargo looks at, with their times: the newest, and that of the metadata.
fn output_times(paths: &[PathBuf]) -> Option<(i64, i64)> {
    let mut newest = i64::MIN;
    let mut metadata = None;
    for path in paths {
        let ns = mtime_ns(path)?;
        newest = newest.max(ns);
        if path.extension().is_some_and(|extension| extension == "rmeta") {
            metadata = Some(ns);
        }
    }
    (newest != i64::MIN).then(|| (newest, metadata.unwrap_or(newest)))
}

/// Whether what is on record about a unit still describes it.
fn is_unchanged(known: &SeedUnit, case: &Case, fingerprint_dir: &Path, run_dir: &Path) -> bool {
    let same_hash = known.hash == case.fingerprint.hash && known.name == case.fingerprint.name;
    same_hash
        && match &known.made {
            Made::Compile { .. } => known.files.iter().all(|file| {
                !file.name.starts_with("dep-")
                    || mtime_ns(&fingerprint_dir.join(&file.name)) == Some(file.mtime_ns)
            }),
            Made::Run { output_ns, invoked_ns, .. } => {
                mtime_ns(&run_dir.join("output")) == Some(*output_ns)
                    && mtime_ns(&run_dir.join("invoked.timestamp")) == Some(*invoked_ns)
            }
        }
}
