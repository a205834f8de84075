//! What one invocation sees of its surroundings, looked at once: where it runs, which directories are roots, who
//! called it. Knows nothing about keys or the store.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use kache_core::arg_file;
use kache_core::cargo::layout::{self, Layout, OutputDir, UnitDir};
use kache_core::config::{Settings, ci};
use kache_core::digest::Digest;
use kache_core::invocation::{Env, Invocation};
use kache_core::key::Field;
use kache_core::paths::{Root, Roots, absolute};
use kache_core::process_stat::ProcessStat;
use kache_core::protocol::Build;
use kache_core::reason::Bypass;
use kache_core::remote::manifest::profile_of;
use kache_core::unit::Unit;

use crate::toolchain::Toolchain;

/// A unit's place in Cargo's build directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetLayout {
    pub target_dir: PathBuf,
    /// The profile directory: `target/debug`, `target/<triple>/release`, …: one build lock, one ledger.
    pub profile_dir: PathBuf,
    /// The unit among those of the profile directory: its mark in the ledger.
    pub unit_id: String,
    pub layout: Layout,
}

impl TargetLayout {
    /// Profile directories that Cargo works in for this unit: its own, and for a cross build the one of the host.
    pub fn profile_dirs(&self) -> Vec<PathBuf> {
        let host = self.profile_dir.file_name().map(|profile| self.target_dir.join(profile));
        let other = host.filter(|host| *host != self.profile_dir);
        std::iter::once(self.profile_dir.clone()).chain(other).collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Session {
    /// Process id and start time: one build.
    pub id: String,
    /// The directory it was started in.
    pub project: Option<PathBuf>,
    /// The Cargo around it: see [`kache_core::event::Event::within`].
    pub within: Option<String>,
    /// Mark of the CI job.
    pub job: Option<String>,
}

/// Processes that are looked at to find the Cargo behind another wrapper (a script, cargo-llvm-cov), or around a build script.
const CALLERS_MAX: usize = 8;

/// The calling Cargo, or the calling process. Its start time and directory are known on Linux only; elsewhere a session is
/// a process id. The number is the one in `/proc`, which counts otherwise where it shows the processes of an outer namespace.
///
/// What a build script calls is a session of its own: the script, or a Cargo that it has started.
pub fn session() -> Session {
    let job = ci::job(|name| std::env::var(name).ok());
    let parent = callers("self").nth(1);
    let called = || Some(rustix::process::getppid()?.as_raw_pid().to_string());
    let Some(parent) = parent.or_else(called) else { return Session { job, ..Session::default() } };
    // Cargo tells scripts these and compilers neither; a Cargo of a script's hands them on.
    let is_scripts = ["NUM_JOBS", "HOST"].iter().all(|name| std::env::var_os(name).is_some());
    let cargo = callers(&parent).find(|pid| is_cargo(pid)).filter(|_| !is_scripts);
    let caller = cargo.unwrap_or(parent);
    let around = |caller: &str| callers(caller).skip_while(|pid| !is_script(pid)).find(|pid| is_cargo(pid));
    let within = if is_scripts { around(&caller) } else { None }.map(|pid| session_of(&pid));
    Session {
        id: session_of(&caller),
        project: fs::read_link(format!("/proc/{caller}/cwd")).ok(),
        within,
        job,
    }
}

fn session_of(pid: &str) -> String {
    let stat = read_at_once(&format!("/proc/{pid}/stat")).unwrap_or_default();
    format!("{pid}-{}", ProcessStat::parse(&stat).map_or("0", |stat| stat.start))
}

/// A process (a number, or `self`), its parent and so on. Each is looked at only when the next one is asked for: most calls
/// ask for no more than the first.
pub fn callers(pid: &str) -> impl Iterator<Item = String> {
    let parent = |pid: &String| {
        let stat = read_at_once(&format!("/proc/{pid}/stat"))?;
        ProcessStat::parse(&stat).map(|stat| stat.parent.to_owned()).filter(|parent| parent != "0")
    };
    let first = pid.to_owned();
    let mut last: Option<String> = None;
    std::iter::from_fn(move || {
        last = Some(last.as_ref().map_or_else(|| Some(first.clone()), parent)?);
        last.clone()
    })
    .take(CALLERS_MAX)
}

/// Whether the process is a Cargo: it is called like one, or is the one that tells its children where it is.
fn is_cargo(pid: &str) -> bool {
    let is_told =
        |program: &Path| std::env::var_os("CARGO").is_some_and(|cargo| program == Path::new(&cargo));
    program(pid).is_some_and(|program| program.ends_with("cargo") || is_told(&program))
}

fn is_script(pid: &str) -> bool {
    let program = program(pid);
    let name = program.as_deref().and_then(Path::file_name).and_then(OsStr::to_str);
    name.is_some_and(|name| ["build-script-", "build_script_"].iter().any(|start| name.starts_with(start)))
}

fn program(pid: &str) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// A short file of the kernel's, which has no size to go by.
fn read_at_once(path: &str) -> Option<String> {
    let mut bytes = vec![0; 2 << 10];
    let count = fs::File::open(path).ok()?.read(&mut bytes).ok()?;
    bytes.truncate(count);
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The invocation from the process's own arguments (without the program's name), working directory and environment,
/// with response files expanded (`@path`; Cargo retries like this when the kernel refuses the argument list,
/// `crates/cargo-util/src/process_builder.rs`, 1.95).
pub fn invocation(argv: &[OsString]) -> Result<Invocation, Bypass> {
    let cwd = std::env::current_dir().map_err(|_| Bypass::NotUtf8)?;
    let mut call = Invocation::split(argv, cwd.as_os_str(), Env::new(std::env::vars_os()))?;
    if call.args.iter().any(|arg| arg_file::named_by(arg).is_some()) {
        let mut args = Vec::new();
        for arg in &call.args {
            match arg_file::named_by(arg) {
                Some(path) => args.extend(response_file(path)?),
                None => args.push(arg.clone()),
            }
        }
        call.args = args;
    }
    Ok(call)
}

fn response_file(path: &str) -> Result<Vec<String>, Bypass> {
    let refused = || Bypass::ResponseFile(path.to_owned());
    if arg_file::is_for_shell(path) {
        return Err(refused());
    }
    fs::read_to_string(path).map(|text| arg_file::args(&text).collect()).map_err(|_| refused())
}

/// Where the unit's outputs lie. `Cargo` leaves its lock in a profile directory, or where it takes none (on a network
/// file system) the unit's fingerprint directory: without either one the directory isn't Cargo's.
pub fn target_layout(call: &Invocation, unit: &Unit) -> Result<TargetLayout, Bypass> {
    let outputs = outputs_of(call, Path::new(&unit.out_dir)).ok_or(Bypass::TargetDir)?;
    let target_dir = outputs.build_dir(unit.target.as_deref()).ok_or(Bypass::TargetDir)?.to_owned();
    let unit_id = outputs.unit_id(&unit.stem());
    Ok(TargetLayout { target_dir, profile_dir: outputs.profile_dir, unit_id, layout: outputs.layout })
}

/// The directory of outputs that a Cargo has prepared at `out_dir`. The `OUT_DIR` that the call sees is none, although it looks
/// like one where each unit has a directory of its own: what a build script compiles there is no unit of Cargo's. Below it may be
/// the target directory of a Cargo that the script starts.
pub fn outputs_of(call: &Invocation, out_dir: &Path) -> Option<OutputDir> {
    let is_scratch = call.env.get("OUT_DIR").is_some_and(|scratch| Path::new(scratch) == out_dir);
    OutputDir::of(out_dir).filter(|outputs| !is_scratch && is_cargos(outputs))
}

/// Whether a Cargo has prepared the directory of outputs.
fn is_cargos(outputs: &OutputDir) -> bool {
    let own = outputs.unit.as_ref().map(UnitDir::fingerprint);
    let signs = layout::LOCKS.into_iter().chain([layout::FINGERPRINTS]).chain(own.as_deref());
    signs.into_iter().any(|name| fs::symlink_metadata(outputs.profile_dir.join(name)).is_ok())
}

/// The target directory with symbolic links resolved, where that differs.
pub fn real_target(roots: &Roots) -> Option<String> {
    let target = roots.get(Root::Target)?;
    let real = fs::canonicalize(target).ok()?.into_os_string().into_string().ok()?;
    (real != target).then_some(real)
}

/// Cargo's home, as Cargo finds it.
pub fn cargo_home(env: &Env) -> Option<String> {
    let home = env.text("CARGO_HOME").map(str::to_owned);
    home.or_else(|| env.text("HOME").map(|home| format!("{home}/.cargo")))
}

/// Whether the unit comes from a registry or a git checkout.
pub fn is_foreign(call: &Invocation) -> bool {
    foreign_package(call).is_some()
}

/// The directory of its package, if the unit comes from a registry or a git checkout. As Cargo writes it: the working
/// directory, which is the same, has its symbolic links resolved.
pub fn foreign_package(call: &Invocation) -> Option<&str> {
    let home = cargo_home(&call.env)?;
    let dir = call.env.text("CARGO_MANIFEST_DIR").unwrap_or(&call.cwd);
    ["registry", "git"].iter().any(|name| Path::new(dir).starts_with(format!("{home}/{name}"))).then_some(dir)
}

/// The workspace that a package's directory lies in as a vendored copy: Cargo compiles it there.
fn vendored_in(package_dir: &Path) -> Option<&Path> {
    let is_vendored = package_dir.join(".cargo-checksum.json").is_file();
    let mut above = package_dir.ancestors().skip(1).filter(|_| is_vendored);
    above.find(|dir| dir.join("Cargo.lock").is_file())
}

/// The local roots. Members and path dependencies belong to the workspace that is given; for others it is taken to be where
/// the target directory lies.
pub fn roots(
    call: &Invocation,
    (target_dir, workspace): (&Path, &str),
    portable: Option<&Path>,
) -> Result<Roots, Bypass> {
    let text = |path: &Path| path.to_str().map(str::to_owned).ok_or(Bypass::NotUtf8);
    let mut list = vec![(Root::Target, text(target_dir)?)];
    if let Some(workspace) = vendored_in(Path::new(&call.cwd)) {
        list.push((Root::Workspace, text(workspace)?));
    } else if !is_foreign(call) {
        list.push((Root::Workspace, workspace.to_owned()));
    } else if let Some(parent) = target_dir.parent()
        && parent.join("Cargo.toml").is_file()
    {
        list.push((Root::Workspace, text(parent)?));
    }
    if let Some(sysroot) = portable {
        list.extend(cargo_home(&call.env).map(|home| (Root::CargoHome, home)));
        list.push((Root::Sysroot, text(sysroot)?));
    }
    Ok(Roots::new(list))
}

/// `cache.exclude`: globs over the absolute path of the crate root.
pub fn check_excluded(call: &Invocation, unit: &Unit, settings: &Settings) -> Result<(), Bypass> {
    if settings.exclude.value.is_empty() {
        return Ok(());
    }
    let source = absolute(&call.cwd, &unit.source);
    for pattern in &settings.exclude.value {
        let glob =
            kache_core::config::source_glob(pattern).map_err(|error| Bypass::Config(error.to_string()))?;
        if glob.compile_matcher().is_match(Path::new(&source)) {
            return Err(Bypass::Excluded(pattern.clone()));
        }
    }
    Ok(())
}

/// What the daemon is told about the build, so that it can guess what comes next. `host` is the compiler without
/// another one around it, for the host.
pub fn build(
    unit: &Unit,
    session: &Session,
    roots: &Roots,
    (toolchain, host): (&Toolchain, &Toolchain),
    fields: &[Field],
) -> Build {
    let text = |path: &Path| path.to_str().unwrap_or_default().to_owned();
    let project = || session.project.as_deref().map(text);
    Build {
        session: session.id.clone(),
        dir: roots.get(Root::Workspace).map(str::to_owned).or_else(project).unwrap_or_default(),
        host: host.host.clone(),
        host_toolchain: host.id.to_string(),
        toolchain: toolchain.id.to_string(),
        target: unit.target.clone().unwrap_or_default(),
        mode: unit.mode.word().to_owned(),
        profile: profile_of(fields),
    }
}

/// Digest of a variable's value, with local roots replaced so that it is the same in every checkout.
pub fn value_digest(value: &OsStr, roots: &Roots) -> Digest {
    match value.to_str().and_then(|text| roots.tokenize(text)) {
        Some(portable) => Digest::of(portable.as_bytes()),
        None => Digest::of(value.as_encoded_bytes()),
    }
}
