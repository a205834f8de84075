//! One run of a build script, from the call by the object that kache has linked into the script (`store::sys::script`) to
//! its end: look, put back or run, store, report. Cargo decides when a script runs; this module, whether that takes the
//! program. Every doubt is a reason to run it.

mod inputs;
mod key;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use kache_core::cargo::layout::{OutputDir, UnitDir};
use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::entry::{Entry, Evidence, Text};
use kache_core::entry_key::Rendering;
use kache_core::event::{Event, Moved, Outcome, SCRIPT_RUN};
use kache_core::invocation::{Env, Invocation};
use kache_core::key::EntryKey;
use kache_core::moment::Moment;
use kache_core::paths::Root;
use kache_core::protocol::Build;
use kache_core::provenance::Provenance;
use kache_core::reason::{Bypass, Miss, NotStored};
use kache_core::record::{InputRecord, Sight};
use kache_store::clock::{FileTime, boot_id};
use kache_store::hashing::DigestMemo;
use kache_store::ledger::{Ledger, Origin};
use kache_store::sys::{self, AccessKind, Observation, ObservedAccess, Probes, Scope, Writes};

use crate::ingest::{refused, text_of};
use crate::inputs::Observer;
use crate::inquiry::{Inquiry, Servable};
use crate::out_dir::{self, Dated, Texts};
use crate::pass::End;
use crate::times::now_s;
use crate::world::{self, Session};
use crate::{compile, daemon_client, reads, report, restore, room, seed, sight, toolchain, variables};

/// Kind of the memo that says that a program starts a Cargo. The kernel lets one process observe a tree: what is compiled below an
/// observed script isn't observed itself, so such a script is left alone from its second run on.
const STARTS_CARGO_MEMO: &str = "starts-cargo";

/// Runs a build script, or puts back what it made in an earlier run. Returns only when this process has to end by itself.
pub fn run(program: &OsStr, settings: &Settings, session: &Session, started: Instant) -> End {
    let is_wanted = settings.build_scripts.value && !settings.disabled.value && !is_traced();
    match is_wanted.then(|| Run::open(Path::new(program), settings, session)).flatten() {
        Some(run) => run.serve(started),
        None => plain(program),
    }
}

fn plain(program: &OsStr) -> End {
    let error = Command::new(program).exec();
    eprintln!("kache: run {}: {error}", program.to_string_lossy());
    End::Code(127)
}

/// Whether a debugger watches this process: it wants to see the script.
fn is_traced() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().any(|line| line.strip_prefix("TracerPid:").is_some_and(|pid| pid.trim() != "0"))
}

struct Run<'a> {
    program: &'a Path,
    content: Digest,
    /// With rustc in place of the program: what a script asks about compiling depends on it.
    call: Invocation,
    inquiry: Inquiry<'a>,
    out_dir: PathBuf,
    /// What is known of the profile directory, and the run's mark there.
    ledger: Ledger,
    mark: String,
}

impl<'a> Servable<'a> for Run<'a> {
    fn inquiry(&mut self) -> &mut Inquiry<'a> {
        &mut self.inquiry
    }

    fn build(&self) -> Build {
        let Inquiry { toolchain, event, roots, .. } = &self.inquiry;
        Build {
            session: event.session.clone(),
            dir: roots.get(Root::Workspace).unwrap_or(&event.project).to_owned(),
            host: toolchain.host.clone(),
            host_toolchain: toolchain.id.to_string(),
            toolchain: toolchain.id.to_string(),
            target: String::new(),
            mode: "build".to_owned(),
            profile: self.call.env.text("PROFILE").unwrap_or_default().to_owned(),
        }
    }

    fn try_cache(&mut self) -> Result<(), Miss> {
        let (key, entry) = self.inquiry.look_up(&self.call, &Rendering::default())?;
        let clock = Instant::now();
        let moved = self.restore(&entry).map_err(Miss::Broken)?;
        self.note_origin(&key);
        self.inquiry.hit(key, &entry, moved, clock);
        Ok(())
    }
}

/// What came of running the program.
struct Ran {
    status: ExitStatus,
    stdout: Option<Vec<u8>>,
    stderr: Option<Vec<u8>>,
    observation: Option<Observation>,
    preloaded: Option<PathBuf>,
    /// By the clock, and by the stamps of the file system of `OUT_DIR`.
    started: (FileTime, FileTime),
    started_s: i64,
    elapsed: Duration,
    /// What lay in `OUT_DIR` before.
    before: BTreeSet<PathBuf>,
}

impl<'a> Run<'a> {
    /// Looks at the surroundings; `None` where a run can't be told from others.
    fn open(program: &'a Path, settings: &'a Settings, session: &Session) -> Option<Self> {
        let env = Env::new(std::env::vars_os());
        let cwd = std::env::current_dir().ok()?.into_os_string().into_string().ok()?;
        let compiler = env.text("RUSTC").unwrap_or("rustc").to_owned();
        let call = Invocation { compiler, driver: None, args: Vec::new(), cwd, env };
        let out_dir = PathBuf::from(call.env.text("OUT_DIR")?);
        let (unit, profile_dir) = UnitDir::of_out_dir(&out_dir)?;
        let ledger = Ledger::open(profile_dir, &session.id);
        let mark = seed::run_mark(&unit);
        let place = OutputDir {
            layout: unit.layout,
            profile_dir: profile_dir.to_owned(),
            unit: Some(unit),
            artifact: None,
        };
        let build_dir = place.build_dir(call.env.text("TARGET"))?.to_str()?.to_owned();
        let store = room::open_store(settings).ok()?;
        let toolchain = toolchain::identify(&call, &store, None).ok()?;
        let portable = settings.portable_paths.value.then_some(toolchain.sysroot.as_path());
        let workspace = key::workspace(&call.cwd);
        let roots = world::roots(&call, (Path::new(&build_dir), workspace), portable).ok()?;
        let salt = settings.key_salt.as_ref().map(|salt| salt.value.as_str());
        let content = DigestMemo::new(&store).digest(program).ok()??;
        let (key, fields) = key::derive(&call, content, (&roots, &toolchain, salt))?;
        let mut event = Event::new(seed::RUN_CRATE_NAME, Outcome::Miss);
        SCRIPT_RUN.clone_into(&mut event.kind);
        report::fill(&mut event, &call, session);
        let inquiry = Inquiry::new(settings, store, (toolchain, roots), (key, fields), event);
        Some(Self { program, content, call, inquiry, out_dir, ledger, mark })
    }

    fn serve(mut self, started: Instant) -> End {
        self.inquiry.event.times.key_us = report::micros(started.elapsed());
        if self.inquiry.store.memo_get(STARTS_CARGO_MEMO, &self.content).is_some() {
            self.inquiry.event.outcome = Outcome::Passthrough;
            self.inquiry.event.reason = Some(Bypass::StartsCargo.code().to_owned());
            self.inquiry.event.detail = Some(Bypass::StartsCargo.to_string());
            report::emit(self.inquiry.event, started, Some(&self.inquiry.store), self.inquiry.settings);
            return plain(self.program.as_os_str());
        }
        let end = match self.try_cache() {
            Ok(()) => End::Code(0),
            Err(why) => self.run_or_wait(why),
        };
        report::emit(self.inquiry.event, started, Some(&self.inquiry.store), self.inquiry.settings);
        end
    }

    fn run_or_wait(&mut self, mut why: Miss) -> End {
        let (_lock, waited) = self.inquiry.take_turn();
        if waited && self.try_cache().map_err(|again| why = again).is_ok() {
            return End::Code(0);
        }
        if self.try_remote() {
            return End::Code(0);
        }
        self.inquiry.missed(&why);
        match self.execute() {
            Ok(ran) => {
                self.finish(&ran);
                ran.status.into()
            }
            Err(_) => plain(self.program.as_os_str()),
        }
    }

    fn restore(&self, entry: &Entry) -> Result<Moved, String> {
        let text = |text: &Text| restore::local_text(&self.inquiry.store, text, &self.inquiry.roots);
        restore::check_outputs(&self.inquiry.store, entry).map_err(|error| error.to_string())?;
        let (stdout, stderr) = text(&entry.stdout)
            .and_then(|stdout| Ok((stdout, text(&entry.stderr)?)))
            .map_err(|error| error.to_string())?;
        let mut moved = Moved::default();
        out_dir::prune(&self.out_dir, &entry.tree)
            .map_err(|error| format!("clear {}: {error}", self.out_dir.display()))?;
        let tree = (entry.tree.as_slice(), self.out_dir.as_path());
        out_dir::place(&self.inquiry.store, &self.inquiry.roots, tree, Dated::Now, &mut moved)
            .map_err(|error| format!("fill {}: {error}", self.out_dir.display()))?;
        restore::tell(&stdout, &stderr);
        Ok(moved)
    }

    /// Runs the program, observed where that is possible.
    fn execute(&self) -> io::Result<Ran> {
        let before = walkdir::WalkDir::new(&self.out_dir).min_depth(1).into_iter();
        let before = before.map(|entry| entry.map(walkdir::DirEntry::into_path)).collect::<Result<_, _>>()?;
        let mut ignored = reads::unobserved_dirs(&self.inquiry.toolchain.sysroot);
        // The `cc` crate calls kache for its compilers, and a nested Cargo does for its own.
        ignored.push(self.inquiry.store.root().to_owned());
        let preloaded = sight::preloaded(&self.inquiry.store, &self.call.compiler);
        let mut command = Command::new(self.program);
        if let Some(library) = &preloaded {
            sight::preload(&mut command, library, |name| self.call.env.get(name).map(ToOwned::to_owned));
        }
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::bind_to_us(&mut command);
        // What lies in `OUT_DIR` is no entry's from now on.
        let _ = self.ledger.mark(&self.mark, 0);
        let above = self.out_dir.parent().unwrap_or(&self.out_dir);
        let coarse = FileTime::now_coarse();
        let started = (coarse, compile::stamp_now(above).unwrap_or(coarse));
        let started_s = now_s();
        let clock = Instant::now();
        let scope = Scope { ignored, probes: Probes::Existence, writes: Writes::Observe };
        let (mut child, observer) = sys::spawn_observed(command, scope)?;
        let stdout = child.stdout.take().map(|from| compile::tee(from, io::stdout()));
        let stderr = child.stderr.take().map(|from| compile::tee(from, io::stderr()));
        let status = child.wait()?;
        // A process that it left behind may hold the streams: Cargo waits for them, too.
        let kept =
            |stream: Option<std::thread::JoinHandle<_>>| stream.and_then(|reader| reader.join().ok())?;
        let (stdout, stderr) = (kept(stdout), kept(stderr));
        let observation = observer.and_then(sys::Observer::finish);
        let elapsed = clock.elapsed();
        Ok(Ran { status, stdout, stderr, observation, preloaded, started, started_s, elapsed, before })
    }

    /// Stores a run that succeeded, and notes what came of that.
    fn finish(&mut self, ran: &Ran) {
        self.inquiry.event.times.compile_us = report::micros(ran.elapsed);
        self.inquiry.event.exit_code = ran.status.code();
        self.inquiry.event.unobserved = ran.observation.is_none();
        let clock = Instant::now();
        let is_cargo = |access: &ObservedAccess| {
            access.kind == AccessKind::Exec && access.path.file_name().is_some_and(|name| name == "cargo")
        };
        if ran.observation.as_ref().is_some_and(|seen| seen.accesses.iter().any(is_cargo)) {
            // Without it, the compiles of that Cargo stay unobserved once more.
            let _ = self.inquiry.store.memo_put(STARTS_CARGO_MEMO, &self.content, b"");
        }
        let stored = if ran.status.success() {
            self.store_run(ran)
        } else {
            self.inquiry.event.outcome = Outcome::Error;
            Err(NotStored::Failed)
        };
        match stored {
            Ok(key) => {
                self.inquiry.event.entry_key = Some(key);
                daemon_client::queue_upload(&self.inquiry.store, self.inquiry.settings, &key);
                room::sweep_if_due(&self.inquiry.store, self.inquiry.settings);
            }
            Err(why) => self.inquiry.not_stored(&why),
        }
        self.inquiry.event.times.store_us = report::micros(clock.elapsed());
    }

    fn store_run(&mut self, ran: &Ran) -> Result<EntryKey, NotStored> {
        let seen = ran.observation.as_ref().zip(ran.preloaded.as_ref());
        let (seen, library) = seen.ok_or_else(|| NotStored::Run("it can't be observed here".to_owned()))?;
        let real_out_dir = fs::canonicalize(&self.out_dir).unwrap_or_default();
        let inputs = inputs::of(self, seen, (library, &real_out_dir), ran.started)?;
        let leftovers = inputs::leftovers(self, seen, &real_out_dir, &ran.before)?;
        let record = InputRecord { inputs, observed: Sight::Variables, ..InputRecord::default() };
        let observer = Observer::new(&self.inquiry.store, &self.call.env, &self.inquiry.roots);
        let (key, entry_fields) = observer
            .entry_key(&self.inquiry.key, &record, &Rendering::default())
            .map_err(|input| NotStored::InputChanged(format!("{input:?}")))?;
        reads::check_inputs(&self.inquiry.roots, &record, ran.started, |_| false)?;
        let moment = Moment::new(ran.started_s, now_s());
        let home = world::cargo_home(&self.call.env).unwrap_or_default();
        let (roots, moment, dated) = (&self.inquiry.roots, &moment, RefCell::default());
        let texts = Texts { roots, cargo_home: &home, moment, dated };
        let unkept = |why: out_dir::Unkept| NotStored::Run(why.to_string());
        let stream = |bytes: &Option<Vec<u8>>, name: &str| -> Result<Text, NotStored> {
            let text = bytes.as_deref().and_then(|bytes| std::str::from_utf8(bytes).ok());
            let text = texts.portable(text.ok_or(NotStored::Text)?, name).map_err(unkept)?;
            text_of(&self.inquiry.store, text)
        };
        let mut entry = Entry::new(self.inquiry.key, seed::RUN_CRATE_NAME);
        entry.stdout = stream(&ran.stdout, "its output")?;
        entry.stderr = stream(&ran.stderr, "what it said")?;
        let leaves_out = |path: &Path| leftovers.contains(path);
        let kept = out_dir::keep(&self.inquiry.store, &self.out_dir, &texts, &leaves_out).map_err(unkept)?;
        (entry.outputs, entry.tree) = kept;
        entry.package.clone_from(&self.inquiry.event.package);
        entry.package_version.clone_from(&self.inquiry.event.package_version);
        "output".clone_into(&mut entry.dep_info_name);
        entry.compile_ms = u64::try_from(ran.elapsed.as_millis()).unwrap_or(u64::MAX);
        entry.created_s = u64::try_from(now_s()).unwrap_or_default();
        entry.boot = boot_id();
        let evidence = Evidence {
            crate_name: entry.crate_name.clone(),
            unit_fields: self.inquiry.fields.clone(),
            entry_fields,
            record: record.clone(),
            readers: variables::readers(seen),
            ..Evidence::default()
        };
        let publish = |key: &EntryKey| {
            self.inquiry.store.publish(key, &entry, &evidence).map_err(refused)?;
            self.note_origin(key);
            Ok(())
        };
        // It may be put into a fresh target directory, as a directory that was never removed has it; nowhere else.
        if let Some(name) = texts.dated.take() {
            publish(&EntryKey(Digest::of(format!("dated {key}").as_bytes())))?;
            return Err(NotStored::Run(format!("{name} shows when it was made")));
        }
        publish(&key)?;
        self.inquiry
            .store
            .add_record(&self.inquiry.key, InputRecord { last: Some(key), ..record })
            .map_err(refused)?;
        Ok(key)
    }

    /// Puts on record which entry lies in `OUT_DIR`. Without it the run is in no snapshot.
    fn note_origin(&self, key: &EntryKey) {
        let package_dir = world::is_foreign(&self.call).then(|| self.call.cwd.clone());
        let origin = Origin { entry: *key, package_dir, provenance: Provenance::Here };
        let _ = self.ledger.mark_with(&self.mark, 0, &origin);
    }
}
