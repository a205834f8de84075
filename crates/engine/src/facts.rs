//! Gathers what the unit key needs to know about the world: contents of dependencies, compiler, linker, CPU,
//! configuration. Does not look at sources. No process is started once the memos are warm.

use std::fs;
use std::path::{Path, PathBuf};

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::key::{Field, field};
use kache_core::paths::{Roots, absolute};
use kache_core::reason::Bypass;
use kache_core::unit::{Mode, Unit};
use kache_core::unit_key::KeyInputs;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;

use crate::toolchain::Toolchain;
use crate::world::{self, TargetLayout};
use crate::{link_inputs, native, script_hook};

/// Everything that goes into the unit key beside the command line.
pub fn gather(
    call: &Invocation,
    unit: &Unit,
    settings: &Settings,
    store: &Store,
    place: (&TargetLayout, &Roots, &Toolchain),
) -> Result<KeyInputs, Bypass> {
    let (layout, roots, toolchain) = place;
    let mut facts = Facts { call, memo: DigestMemo::new(store), roots, fields: Vec::new() };
    facts.settings(settings);
    facts.environment();
    facts.target_spec(unit)?;
    facts.cpu(unit)?;
    facts.codegen_backend(unit, toolchain)?;
    facts.archives(unit, &layout.target_dir)?;
    if unit.mode == Mode::Clippy {
        facts.clippy_config();
    }
    if !world::is_foreign(call) {
        facts.extra_inputs()?;
    }
    facts.fields.extend(script_hook::field(unit, toolchain));
    if unit.runs_linker() {
        let linker = link_inputs::identify(call, unit, &toolchain.host, store)?;
        facts.fields.extend(linker);
    }
    let externs = facts.externs(unit)?;
    Ok(KeyInputs {
        roots: roots.clone(),
        cwd: call.cwd.clone(),
        portable_paths: settings.portable_paths.value,
        toolchain: Some(toolchain.id),
        externs,
        facts: facts.fields,
    })
}

struct Facts<'a> {
    call: &'a Invocation,
    memo: DigestMemo<'a>,
    roots: &'a Roots,
    fields: Vec<Field>,
}

impl Facts<'_> {
    fn add(&mut self, name: impl Into<String>, value: impl Into<String>) {
        self.fields.push(Field { name: name.into(), value: value.into() });
    }

    fn settings(&mut self, settings: &Settings) {
        if let Some(salt) = &settings.key_salt {
            self.add(field::KEY_SALT, salt.value.clone());
        }
    }

    fn environment(&mut self) {
        // It decides whether `#![feature]` compiles, and is not an env-dep.
        if let Some(value) = self.call.env.get("RUSTC_BOOTSTRAP") {
            self.add("env RUSTC_BOOTSTRAP", String::from_utf8_lossy(value.as_encoded_bytes()).into_owned());
        }
    }

    /// Content of a file that a flag names.
    fn named_file(&mut self, what: &str, path: &str) -> Result<(), Bypass> {
        let path = absolute(&self.call.cwd, path);
        match self.memo.digest(Path::new(&path)) {
            Ok(Some(digest)) => self.add(what, digest.to_string()),
            _ => return Err(Bypass::UncacheableFlag(format!("{what} {path}"))),
        }
        Ok(())
    }

    fn target_spec(&mut self, unit: &Unit) -> Result<(), Bypass> {
        match &unit.target {
            Some(target) if target.ends_with(".json") => self.named_file("target specification", target),
            _ => Ok(()),
        }
    }

    /// `target-cpu=native` means this CPU.
    fn cpu(&mut self, unit: &Unit) -> Result<(), Bypass> {
        if unit.native_cpu {
            let identity =
                cpu_identity().ok_or_else(|| Bypass::UncacheableFlag("-C target-cpu=native".to_owned()))?;
            self.add(field::CPU, identity.to_string());
        }
        Ok(())
    }

    fn codegen_backend(&mut self, unit: &Unit, toolchain: &Toolchain) -> Result<(), Bypass> {
        let Some(backend) = &unit.codegen_backend else { return Ok(()) };
        self.add("flag -Z codegen-backend", file_name(backend));
        if backend.contains('/') {
            return self.named_file("codegen backend", backend);
        }
        let dir = toolchain.sysroot.join("lib/rustlib").join(&toolchain.host).join("codegen-backends");
        let mut files: Vec<PathBuf> =
            fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        files.sort();
        for file in files {
            self.named_file("codegen backend", &file.to_string_lossy())?;
        }
        Ok(())
    }

    fn archives(&mut self, unit: &Unit, target_dir: &Path) -> Result<(), Bypass> {
        for path in native::candidates(unit, Path::new(&self.call.cwd), target_dir) {
            let name = path.to_str().map(|path| self.roots.name_of(path)).ok_or(Bypass::NotUtf8)?;
            let digest = self.memo.digest(&path).map_err(|error| Bypass::Linker(error.to_string()))?;
            self.add(format!("native archive {name}"), digest.map_or("absent".to_owned(), |d| d.to_string()));
        }
        Ok(())
    }

    /// The configuration file that clippy will find: the first one above the package, or in `CLIPPY_CONF_DIR`
    /// (`clippy_config/src/conf.rs`). A nearer one that appears later changes this field.
    fn clippy_config(&mut self) {
        let start = self.call.env.text("CLIPPY_CONF_DIR").or(self.call.env.text("CARGO_MANIFEST_DIR"));
        let start = absolute(&self.call.cwd, start.unwrap_or("."));
        let mut digest = "none".to_owned();
        'search: for dir in Path::new(&start).ancestors() {
            for file in [".clippy.toml", "clippy.toml"] {
                if let Ok(Some(found)) = self.memo.digest(&dir.join(file)) {
                    digest = found.to_string();
                    break 'search;
                }
            }
        }
        self.add("clippy configuration", digest);
        for name in ["CLIPPY_ARGS", "CLIPPY_CONF_DIR"] {
            if let Some(value) = self.call.env.text(name) {
                self.add(format!("env {name}"), self.roots.tokenize(value).unwrap_or_default());
            }
        }
    }

    /// Files declared in the package's `kache.toml`.
    fn extra_inputs(&mut self) -> Result<(), Bypass> {
        for path in extra_input_files(self.call)? {
            let digest = self.memo.digest(Path::new(&path)).ok().flatten();
            let digest = digest.map_or("absent".to_owned(), |digest| digest.to_string());
            self.add(format!("extra input {}", self.roots.name_of(&path)), digest);
        }
        Ok(())
    }

    fn externs(&mut self, unit: &Unit) -> Result<Vec<Option<Digest>>, Bypass> {
        let digest_of = |path: &str| match self.memo.digest(Path::new(&absolute(&self.call.cwd, path))) {
            Ok(Some(digest)) => Ok(digest),
            _ => Err(Bypass::Store(format!("can't read dependency {path}"))),
        };
        unit.externs.iter().map(|dependency| dependency.path.as_deref().map(digest_of).transpose()).collect()
    }
}

/// The files that the package's `kache.toml` declares as inputs, sorted; empty without such a file.
pub fn extra_input_files(call: &Invocation) -> Result<Vec<String>, Bypass> {
    let Some(dir) = call.env.text("CARGO_MANIFEST_DIR") else { return Ok(Vec::new()) };
    let file = Path::new(dir).join("kache.toml");
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Bypass::Config(format!("can't read {}: {error}", file.display()))),
    };
    let declared = kache_core::config::CrateFile::parse(&file.to_string_lossy(), &text)
        .map_err(|error| Bypass::Config(error.to_string()))?;
    let mut globs = globset::GlobSetBuilder::new();
    for pattern in &declared.extra_inputs {
        let glob = globset::GlobBuilder::new(pattern).literal_separator(true).build();
        globs.add(glob.map_err(|error| Bypass::Config(format!("{}: {error}", file.display())))?);
    }
    let globs = globs.build().map_err(|error| Bypass::Config(error.to_string()))?;
    let walk = walkdir::WalkDir::new(dir).follow_links(true).into_iter();
    let walk = walk.filter_entry(|entry| !matches!(entry.file_name().to_str(), Some("target" | ".git")));
    let mut files: Vec<String> = walk
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .filter(|entry| entry.path().strip_prefix(dir).is_ok_and(|relative| globs.is_match(relative)))
        .filter_map(|entry| entry.path().to_str().map(str::to_owned))
        .collect();
    files.sort();
    Ok(files)
}

/// What decides which instructions `native` means: the first processor's model and features.
/// What this CPU is.
pub fn cpu_identity() -> Option<Digest> {
    let text = fs::read_to_string("/proc/cpuinfo").ok()?;
    let processor = text.split("\n\n").next()?;
    let stable = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        matches!(
            name,
            "vendor_id" | "cpu family" | "model" | "model name" | "stepping" | "flags" | "Features"
        ) || name.starts_with("CPU ")
    };
    let lines: Vec<&str> = processor.lines().filter(stable).collect();
    (!lines.is_empty()).then(|| Digest::of(lines.join("\n").as_bytes()))
}

fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
