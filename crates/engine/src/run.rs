//! The story of one invocation, top to bottom. Each step is a module of its own; this one knows only their order and
//! the single place where the cache fails open.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::entry::Entry;
use kache_core::event::{Event, Outcome, Source};
use kache_core::invocation::Invocation;
use kache_core::key::{EntryKey, Field, UnitKey};
use kache_core::paths::Roots;
use kache_core::reason::{Bypass, Miss, NotStored};
use kache_core::record::InputRecord;
use kache_core::remap;
use kache_core::unit::Unit;
use kache_core::unit_key;
use kache_store::Store;
use kache_store::fault::{self, Point};
use kache_store::lock::Lock;

use crate::compile::Compiled;
use crate::daemon_client::{self, Answer, Daemon, Names};
use crate::finished::Finished;
use crate::incremental::{self, Effort};
use crate::ingest::{Ingested, ingest};
use crate::inputs::Observer;
use crate::lookup::{Found, lookup};
pub use crate::pass::{End, refuse, without_settings};
use crate::placement::Standing;
use crate::restore::{self, RestoreError};
use crate::toolchain::{self, Toolchain};
pub use crate::world::session;
use crate::world::{self, Session, TargetLayout};
use crate::{
    census, cleaning, compile, evidence, facts, outputs, pass, proof, reads, report, room, script,
    script_hook, seed, sight, turn, verify,
};

/// The remote has nothing that serves the unit.
struct NotThere;

/// Serves the invocation `argv` (compiler first) from the cache, or has the compiler do it. Returns only when this
/// process has to end by itself; what is not for the cache becomes the compiler.
pub fn run(argv: &[OsString], settings: &Settings, session: &Session) -> End {
    let started = Instant::now();
    if let Some(program) = script_hook::asked(argv) {
        return script::run(program, settings, session, started);
    }
    match serve(argv, settings, session, started) {
        Ok(end) => end,
        Err(bypass) => {
            if bypass == Bypass::Query {
                seed::before_cargo(argv, settings, session);
            }
            pass::pass_through(argv, settings, session, &bypass, started)
        }
    }
}

fn serve(argv: &[OsString], settings: &Settings, session: &Session, started: Instant) -> Result<End, Bypass> {
    if settings.disabled.value {
        return Err(Bypass::Disabled);
    }
    let call = world::invocation(argv)?;
    let unit = Unit::parse(&call)?;
    let mut case = Case::open(&call, &unit, settings, session)?;
    case.event.times.key_us = report::micros(started.elapsed());

    let mut why = match case.try_cache() {
        Ok(()) => return Ok(case.close(started, End::Code(0))),
        Err(why) => why,
    };
    let effort = case.effort();
    let _lock: Option<Lock>;
    if effort != Effort::Edit {
        let (lock, waited) = turn::take(&case.store, &case.key, &mut case.event);
        _lock = lock;
        if waited && case.try_cache().map_err(|again| why = again).is_ok() {
            return Ok(case.close(started, End::Code(0)));
        }
        if case.verified.is_none() && case.try_remote().is_ok() {
            return Ok(case.close(started, End::Code(0)));
        }
    }
    case.event.reason = Some(why.code().to_owned());
    case.event.detail = Some(why.to_string());
    let end = case.compile(effort).map_err(|error| Bypass::Toolchain(error.to_string()))?;
    Ok(case.close(started, end))
}

/// Everything about the unit at hand.
struct Case<'a> {
    call: &'a Invocation,
    unit: &'a Unit,
    settings: &'a Settings,
    store: Store,
    roots: Roots,
    toolchain: Toolchain,
    standing: Standing,
    place: TargetLayout,
    key: UnitKey,
    fields: Vec<Field>,
    externs: Vec<Option<Digest>>,
    session: &'a Session,
    /// Keys under which the store has nothing, although records of the unit lead there.
    wanted: Vec<EntryKey>,
    /// What the last look-up compared, when it found nothing.
    seen: Option<(InputRecord, Vec<Field>)>,
    /// The entry that is there, when it is to be verified.
    verified: Option<(EntryKey, Box<Entry>)>,
    event: Event,
}

impl<'a> Case<'a> {
    /// Looks at the surroundings and derives the unit key.
    fn open(
        call: &'a Invocation,
        unit: &'a Unit,
        settings: &'a Settings,
        session: &'a Session,
    ) -> Result<Self, Bypass> {
        if unit.is_executable() && !settings.cache_executables.value {
            return Err(Bypass::Executable);
        }
        world::check_excluded(call, unit, settings)?;
        let layout = world::target_layout(unit)?;
        let store = room::open_store(settings)?;
        let toolchain = toolchain::identify(call, &store, unit.target.as_deref())?;
        let portable = settings.portable_paths.value.then_some(toolchain.sysroot.as_path());
        let roots = world::roots(call, (&layout.target_dir, &call.cwd), portable)?;
        let inputs = facts::gather(call, unit, settings, &store, (&layout, &roots, &toolchain))?;
        let standing = Standing::observe(call, unit, &layout, &session.id);
        let (key, fields) = unit_key::derive(unit, &inputs);
        let mut event = report::about(call, unit, session);
        event.unit_key = Some(key);
        let externs = inputs.externs;
        Ok(Self {
            call,
            unit,
            settings,
            store,
            roots,
            toolchain,
            standing,
            place: layout,
            key,
            fields,
            externs,
            session,
            wanted: Vec::new(),
            seen: None,
            verified: None,
            event,
        })
    }

    /// Serves the unit from the store, or says why not.
    fn try_cache(&mut self) -> Result<(), Miss> {
        let clock = Instant::now();
        let observer = Observer::new(&self.store, &self.call.env, &self.roots);
        let secret_env = self.settings.remote().map_or(&[][..], |remote| &remote.secret_env.value);
        let found = lookup(
            &self.store,
            &self.unit.rendering,
            &self.key,
            &observer,
            (secret_env, &self.call.compiler),
        );
        self.event.times.lookup_us += report::micros(clock.elapsed());
        match found {
            // Two incremental compiles never make the same object files: rustc gives them names of chance.
            Ok(Found::Hit(key, entry))
                if !entry.incremental && self.settings.verify.takes(&key, &self.event.session) =>
            {
                self.verified = Some((key, entry));
                Err(Miss::Verify("it could not be compared".to_owned()))
            }
            Ok(Found::Hit(key, entry)) => self.restore(key, &entry),
            Ok(Found::Miss(missed)) => {
                self.wanted = missed.wanted;
                self.seen = missed.seen;
                Err(missed.why)
            }
            Err(error) => Err(Miss::Broken(error.to_string())),
        }
    }

    fn restore(&mut self, key: EntryKey, entry: &Entry) -> Result<(), Miss> {
        let clock = Instant::now();
        let outcome = restore::check(&self.store, entry, &self.roots).and_then(|texts| {
            let moved = restore::apply(&self.store, (&key, entry), self.unit, &texts, &self.standing)?;
            restore::replay(&texts);
            fault::point(Point::Replayed);
            Ok(moved)
        });
        match outcome {
            Ok(moved) => {
                self.event.outcome = Outcome::Hit;
                let is_ahead = !entry.prefetched_for.is_empty() && entry.prefetched_for == self.event.session;
                self.event.source = Some(if is_ahead { Source::Prefetch } else { Source::Local });
                self.event.entry_key = Some(key);
                self.event.moved = moved;
                self.event.saved_ms = entry.compile_ms;
                self.event.times.restore_us = report::micros(clock.elapsed());
                Ok(())
            }
            Err(error) => {
                if matches!(error, RestoreError::Broken(_))
                    && let Err(error) = self.store.drop_entry(&key)
                {
                    tracing::warn!(%error, "a broken entry stays");
                }
                Err(Miss::Broken(error.to_string()))
            }
        }
    }

    /// How the unit is compiled: to verify an entry without state, as it was made.
    fn effort(&self) -> Effort {
        match &self.verified {
            Some(_) => Effort::Plain,
            None => Effort::choose(self.unit, &self.standing),
        }
    }

    /// Has the daemon look at the remote, for records of the unit first and then for the entry that they lead to, and
    /// serves the unit from what has arrived.
    fn try_remote(&mut self) -> Result<(), NotThere> {
        let mut build = None;
        for _ in 0..daemon_client::REMOTE_ROUNDS_MAX {
            let Some(daemon) = Daemon::of(&self.store, self.settings) else { break };
            let build = build.get_or_insert_with(|| {
                let target = self.unit.target.as_deref();
                let host = toolchain::of_host(self.call, &self.store, (&self.toolchain, target));
                world::build(self.unit, self.session, &self.roots, (&self.toolchain, &host), &self.fields)
            });
            let clock = Instant::now();
            let names = Names { crate_name: &self.unit.crate_name, package: &self.event.package };
            let answer = daemon.find(self.key, names, &self.wanted, build);
            self.event.times.remote_us += report::micros(clock.elapsed());
            // Also when nothing new has come for this question: a prefetch may have brought it meanwhile, or records
            // that lead to something else to ask for.
            let asked = self.wanted.clone();
            if self.try_cache().is_ok() {
                let came_now = self.event.source != Some(Source::Prefetch);
                self.event.source = Some(if came_now { Source::Remote } else { Source::Prefetch });
                return Ok(());
            }
            if answer == Answer::Nothing && self.wanted == asked {
                break;
            }
        }
        Err(NotThere)
    }

    /// Runs the compiler; once more where it found no room and the store could make some.
    fn run_compiler(&self, effort: Effort) -> std::io::Result<Compiled> {
        let editing = effort == Effort::Edit;
        outputs::clear(self.unit);
        self.standing.mark();
        let mut job = compile::Job {
            call: self.call,
            out_dir: Path::new(&self.unit.out_dir),
            roots: &self.roots,
            remapped: remap::remapped_roots(self.unit, &self.roots, &self.call.cwd),
            keeps_incremental: effort.keeps_incremental(),
            wants_link_report: self.unit.runs_linker() && !editing,
            observed_scope: (!editing).then(|| reads::unobserved_dirs(&self.toolchain.sysroot)),
            preloaded: if editing { None } else { sight::preloaded(&self.store, &self.call.compiler) },
            script_hook: script_hook::path(&self.store, self.unit, &self.toolchain),
            announced: Vec::new(),
        };
        let (store, standing) = (&self.store, &self.standing);
        let on_artifact = |path: &Path, emit: &str| {
            if emit == "metadata" && effort.keeps_incremental() {
                incremental::date_metadata(path);
            }
            if emit == "metadata" && !editing {
                standing.announce(store, self.unit, path);
            }
        };
        let mut compiled = compile::run(&job, on_artifact)?;
        // Compiles that run at the same time may take what was freed.
        for _ in 0..room::ATTEMPTS {
            if !compiled.lacked_room() || !room::make(store, job.out_dir) {
                break;
            }
            job.announced = std::mem::take(&mut compiled.artifacts);
            compiled = compile::run(&job, on_artifact)?;
        }
        compiled.release();
        Ok(compiled)
    }

    /// Has the unit compiled, and stores the result unless someone is editing the crate.
    fn compile(&mut self, effort: Effort) -> std::io::Result<End> {
        let compiled = self.run_compiler(effort)?;
        self.event.times.compile_us = report::micros(compiled.elapsed);
        self.event.exit_code = compiled.status.code();
        self.event.unobserved = compiled.observation.is_none() && effort != Effort::Edit;
        let clock = Instant::now();
        let done = Finished {
            real_target: world::real_target(&self.roots),
            call: self.call,
            unit: self.unit,
            key: (self.key, &self.fields),
            externs: &self.externs,
            roots: &self.roots,
            toolchain: &self.toolchain,
            standing: &self.standing,
            place: &self.place,
        };
        let stored = if !compiled.status.success() {
            self.event.outcome = Outcome::Error;
            Err(NotStored::Failed)
        } else if effort == Effort::Edit {
            Err(NotStored::Incremental)
        } else {
            ingest(&self.store, &done, &compiled)
        };
        if let Some((key, entry)) = self.verified.take() {
            let made = stored.as_ref().map(|stored| &stored.entry);
            let verdict = verify::judge(&self.store, self.unit, (&key, &entry), made);
            self.event.reason = Some(verdict.code().to_owned());
            self.event.detail = Some(verdict.to_string());
        } else if stored.is_err() {
            let (record, fields) = self.seen.take().unwrap_or_default();
            let evidence =
                evidence::collect(&self.store, &done, compiled.observation.as_ref(), &record, fields);
            if let Err(error) = self.store.note_miss(&self.key, &evidence) {
                tracing::warn!(%error, "nothing will explain this miss");
            }
        }
        match stored {
            Ok(stored) => {
                self.event.entry_key = Some(stored.key);
                self.event.moved.stored_bytes = stored.new_bytes;
                self.event.outcome = if stored.new_bytes == 0 { Outcome::Dup } else { Outcome::Miss };
                proof::file(&self.store, self.settings, &done, (&stored.question, stored.key, &stored.entry));
                self.follow_up(&stored);
            }
            Err(why) => {
                if let NotStored::Full(_) = why {
                    room::sweep_if_due(&self.store, self.settings);
                }
                self.event.not_stored = Some(format!("{}: {why}", why.code()));
            }
        }
        self.event.times.store_us = report::micros(clock.elapsed());
        Ok(compiled.status.into())
    }

    /// What a new entry entails, here and for others.
    fn follow_up(&self, stored: &Ingested) {
        let blob_s = stored.entry.oldest_mtime_s().unwrap_or_default();
        // Without it the unit is in no snapshot; nothing else depends on it.
        let _ = self.standing.note_origin(&stored.key, blob_s);
        daemon_client::queue_upload(&self.store, self.settings, &stored.key);
        room::sweep_if_due(&self.store, self.settings);
    }

    fn close(self, started: Instant, end: End) -> End {
        if !world::is_foreign(self.call) {
            seed::record_before_end(&self.store, self.settings, self.session, self.call, &self.place);
        } else if self.event.entry_key.is_some() {
            seed::watch(&self.store, self.settings, self.session, self.call, &self.place);
        }
        proof::start_if_due(&self.store, self.settings, self.session, &self.place);
        census::note(&self.store, &self.place, &self.roots, &self.toolchain);
        cleaning::start_if_due(&self.store, self.settings, self.session);
        report::emit(self.event, started, Some(&self.store), self.settings);
        end
    }
}
