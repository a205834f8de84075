//! Works on pending jobs, one after the other: compiles in a replica, through the wrapper and with a store of its own, so
//! that what is compared was made and taken over in the same way. Bounded by processor time; a process that is killed leaves
//! the job pending.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kache_core::arg_file;
use kache_core::config::{Settings, env};
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence};
use kache_core::invocation::{Env, Invocation};
use kache_core::key::{EntryKey, Field};
use kache_core::paths::Roots;
use kache_core::proof::{self, Attempt, Job, Proof};
use kache_core::record::InputRecord;
use kache_core::unit::Unit;
use kache_store::Store;
use kache_store::fault::{self, Point};
use kache_store::lock::Locking;
use kache_store::sys;
use rustix::process::{Pid, Resource, Rlimit, Signal};

use super::PENDING;
use crate::daemon_client::Daemon;
use crate::inputs::Observer;
use crate::seed;
use crate::world::Session;

/// Where places for proofs are looked for.
const PARENTS: [&str; 4] = ["/var/tmp", "/tmp", "/dev/shm", "/run"];
const PREFIX: &str = "kache-";
/// Processor time of one process of a compile: this, and so many times what the compile took.
const CPU_SECONDS: u64 = 20;
const CPU_TIMES: u64 = 4;
/// Longest time for one compile, however little of it the processor gave.
const WAIT_MAX: Duration = Duration::from_secs(3600);
/// How often is looked whether it has ended.
const LOOK: Duration = Duration::from_millis(20);

/// What work on pending jobs came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proven {
    /// Crates whose results are the same everywhere.
    pub independent: Vec<String>,
    /// Crates whose results aren't, and in what they differ.
    pub dependent: Vec<(String, String)>,
    /// Crates of which that couldn't be shown, and why.
    pub unshown: Vec<(String, String)>,
}

/// Waits for the Cargo of `session` to end, and works on what is pending then, in the background.
pub fn prove_after(store: &Store, settings: &Settings, session: &str) {
    sys::idle_priority();
    seed::wait_for(&Session { id: session.to_owned(), ..Session::default() });
    prove(store, settings, Duration::ZERO);
}

/// Works on pending jobs; `None` when another process does for longer than `patience`.
pub fn prove(store: &Store, settings: &Settings, patience: Duration) -> Option<Proven> {
    let Ok(Locking::Locked(_lock)) = store.lock_proofs(patience) else { return None };
    let mut proven = Proven::default();
    let mut tried = Vec::new();
    while let Some(key) = store.memo_keys(PENDING).into_iter().find(|key| !tried.contains(key)) {
        tried.push(key);
        // Of another version, or damaged; its age is its end.
        let Some(mut job) = super::job(store, &key) else { continue };
        let proof = work(store, settings, &key, &mut job);
        match &proof {
            Some(Proof::Independent) => proven.independent.push(job.crate_name),
            Some(Proof::Depends(why)) => {
                super::note(store, &job.unit.0, &Proof::Depends(why.clone()));
                proven.dependent.push((job.crate_name, why.clone()));
            }
            Some(Proof::Unshown(why)) => {
                super::note(store, &key, &Proof::Unshown(why.clone()));
                proven.unshown.push((job.crate_name, why.clone()));
            }
            None => {}
        }
        store.memo_drop(PENDING, &key);
    }
    Some(proven)
}

fn work(store: &Store, settings: &Settings, key: &Digest, job: &mut Job) -> Option<Proof> {
    if let Some(left) = &job.scratch {
        remove_left(Path::new(left));
    }
    let roots = job.own_roots();
    let places = PARENTS.into_iter().filter(|parent| may_execute_in(parent)).filter_map(|parent| {
        let dir = tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).ok()?;
        let to = proof::elsewhere(dir.path().to_str()?, &roots)?;
        Some((dir, to))
    });
    let Some((scratch, to)) = places.into_iter().next() else {
        return Some(Proof::Unshown("no directory is unlike the first one".to_owned()));
    };
    if let Some(proof) = job.begin(&scratch.path().to_string_lossy()) {
        return Some(proof);
    }
    // Who is killed from here on leaves a job that counts this attempt.
    store.memo_put(PENDING, key, &serde_json::to_vec(job).ok()?).ok()?;
    fault::point(Point::ProofBegun);
    let attempt = attempt(store, settings, EntryKey(*key), job, scratch.path(), &to);
    fault::point(Point::ProofCompared);
    proof::settle(attempt)
}

/// Removes what an interrupted attempt has left, if it is ours.
fn remove_left(dir: &Path) {
    let is_ours = dir.parent().is_some_and(|parent| PARENTS.iter().any(|known| parent == Path::new(known)))
        && dir.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(PREFIX.as_bytes()))
        && fs::symlink_metadata(dir)
            .is_ok_and(|meta| meta.is_dir() && meta.uid() == rustix::process::geteuid().as_raw());
    if is_ours {
        let _ = fs::remove_dir_all(dir);
    }
}

/// Macros are libraries that are loaded from there.
fn may_execute_in(dir: &str) -> bool {
    rustix::fs::statvfs(dir).is_ok_and(|fs| !fs.f_flag.contains(rustix::fs::StatVfsMountFlags::NOEXEC))
}

/// A compile as it was, seen again.
struct Original {
    env: Env,
    unit: Unit,
    roots: Roots,
}

impl Original {
    fn of(job: &Job) -> Option<Self> {
        let env = Env::new(job.env.iter().map(|(name, value)| (name.into(), value.into())));
        let argv: Vec<_> = job.argv.iter().map(Into::into).collect();
        let call = Invocation::split(&argv, job.cwd.as_ref(), env).ok()?;
        let unit = Unit::parse(&call).ok()?;
        Some(Self { env: call.env, unit, roots: job.own_roots() })
    }

    /// The key that a record leads to now.
    fn key_of(&self, store: &Store, job: &Job, record: &InputRecord) -> Option<(EntryKey, Vec<Field>)> {
        let observer = Observer::new(store, &self.env, &self.roots);
        observer.entry_key(&job.unit, record, &self.unit.rendering).ok()
    }

    /// Whether everything that the compile has read is as it was.
    fn is_current(&self, store: &Store, job: &Job) -> bool {
        self.key_of(store, job, &job.record).is_some_and(|(key, _)| key == job.entry)
    }
}

/// `portable` is the key that the result has everywhere.
fn attempt(
    store: &Store,
    settings: &Settings,
    portable: EntryKey,
    job: &Job,
    scratch: &Path,
    to: &Roots,
) -> Attempt {
    let Some(original) = Original::of(job) else { return Attempt::Outdated };
    let Ok(Some(entry)) = store.entry(&job.entry) else { return Attempt::Outdated };
    if !original.is_current(store, job) {
        return Attempt::Outdated;
    }
    if let Err(error) = super::replica::build(job, to, &original.unit.stem()) {
        return Attempt::Failed(format!("its files can't be copied to {}: {error}", scratch.display()));
    }
    if !original.is_current(store, job) {
        return Attempt::Outdated;
    }
    let made = match compile(&job.moved_to(to), scratch) {
        Ok(status) => result_of(scratch, job).map_err(|why| format!("{why} ({status})")),
        Err(error) => Err(format!("the compile can't be started: {error}")),
    };
    let differences = match made {
        // The replica has links to what arguments name.
        _ if !original.is_current(store, job) => return Attempt::Outdated,
        Ok(made) => proof::differences(&entry, &made),
        Err(why) => return Attempt::Failed(why),
    };
    if !differences.is_empty() {
        return Attempt::Compared(differences);
    }
    match publish(store, settings, portable, job, &original, &entry) {
        Ok(true) => Attempt::Compared(differences),
        Ok(false) => Attempt::Outdated,
        Err(why) => Attempt::Failed(why),
    }
}

/// Compiles elsewhere, as Cargo would have the wrapper do it.
fn compile(moved: &Job, scratch: &Path) -> io::Result<ExitStatus> {
    let no_settings = scratch.join("settings.toml");
    fs::write(&no_settings, "")?;
    let mut command = Command::new(std::env::current_exe()?);
    let (program, args) = moved.argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    command.arg(program);
    match arg_file::render(args).filter(|_| !arg_file::fits(args)) {
        None => command.args(args),
        Some(text) => {
            let file = scratch.join("arguments");
            fs::write(&file, text)?;
            command.arg(format!("@{}", file.display()))
        }
    };
    command.current_dir(&moved.cwd).env_clear();
    command.envs(moved.env.iter().filter(|(name, _)| !name.starts_with("KACHE_")));
    let switch = |on: bool| if on { "1" } else { "0" };
    command
        .env(env::KACHE_CACHE_DIR, scratch.join("store"))
        .env(env::KACHE_CONFIG, no_settings)
        .env(env::KACHE_LOCAL_ONLY, "1")
        .env(env::KACHE_SEED, "0")
        .env(env::KACHE_PROVE, "0")
        .env(env::KACHE_PORTABLE_PATHS, switch(moved.portable_paths))
        .envs(moved.key_salt.iter().map(|salt| (env::KACHE_KEY_SALT, salt)));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    sys::bind_to_us(&mut command);
    let mut child = command.spawn()?;
    fault::point(Point::ProofCompiling);
    let group = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let seconds = CPU_SECONDS + CPU_TIMES * moved.compile_ms.div_ceil(1000);
    #[cfg(target_os = "linux")]
    // Whoever refuses has no limit but the one below.
    let _ = rustix::process::prlimit(
        group,
        Resource::Cpu,
        Rlimit { current: Some(seconds), maximum: Some(seconds + 1) },
    );
    wait(&mut child, group)
}

fn wait(child: &mut Child, group: Option<Pid>) -> io::Result<ExitStatus> {
    let started = Instant::now();
    while started.elapsed() < WAIT_MAX {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(LOOK);
    }
    let _ = group.map(|group| rustix::process::kill_process_group(group, Signal::KILL));
    child.wait()
}

/// What the compile elsewhere has stored; in words why there is nothing.
fn result_of(scratch: &Path, job: &Job) -> Result<Entry, String> {
    let store = Store::open_existing(&scratch.join("store")).map_err(|error| error.to_string())?;
    let records = store.records(&job.unit).map_err(|error| error.to_string())?.records;
    let key = records.first().and_then(|record| record.last);
    if let Some(entry) = key.and_then(|key| store.entry(&key).ok().flatten()) {
        return Ok(entry);
    }
    let event = store.events(None).last().ok_or("the compile elsewhere didn't end")?;
    let why = event.not_stored.or(event.detail).unwrap_or_default();
    Err(format!("no result elsewhere: {}: {why}", event.outcome.word()))
}

/// Publishes the entry once more, under the key that leads to it from everywhere: the one of the files that the first compile
/// has read. Returns false where they have changed since.
fn publish(
    store: &Store,
    settings: &Settings,
    portable: EntryKey,
    job: &Job,
    original: &Original,
    entry: &Entry,
) -> Result<bool, String> {
    let words = |error: kache_store::Error| error.to_string();
    let record = job.portable_record();
    let (key, entry_fields) =
        original.key_of(store, job, &record).ok_or("an input can't be looked at any more")?;
    if key != portable {
        return Ok(false);
    }
    let own = store.evidence(&job.entry).map_err(words)?.ok_or("nothing is known of the first compile")?;
    let evidence = Evidence { entry_fields, record: record.clone(), derived: Some(job.kept.clone()), ..own };
    store.publish(&key, entry, &evidence).map_err(words)?;
    fault::point(Point::ProofPublished);
    store.add_record(&job.unit, InputRecord { last: Some(key), ..record }).map_err(words)?;
    super::note(store, &key.0, &Proof::Independent);
    if let Some(daemon) = Daemon::of(store, settings).filter(Daemon::uploads) {
        store.owe_upload(&key, daemon.remote()).map_err(words)?;
    }
    Ok(true)
}
