//! The story of one invocation, top to bottom. Each step is a module of its own; this one knows only their order and
//! the single place where the cache fails open.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use kache_core::config::Settings;
use kache_core::digest::Digest;
use kache_core::entry::Entry;
use kache_core::event::Outcome;
use kache_core::invocation::Invocation;
use kache_core::key::EntryKey;
use kache_core::protocol::Build;
use kache_core::reason::{Bypass, Miss, NotStored};
use kache_core::remap;
use kache_core::unit::Unit;
use kache_core::unit_key;
use kache_store::fault::{self, Point};
use kache_store::lock::Lock;

use crate::compile::Compiled;
use crate::finished::Finished;
use crate::incremental::{self, Effort};
use crate::ingest::{Ingested, ingest};
use crate::inquiry::{Inquiry, Servable};
pub use crate::pass::{End, refuse, without_settings};
use crate::placement::Standing;
use crate::restore::{self, RestoreError};
pub use crate::world::session;
use crate::world::{self, Session, TargetLayout};
use crate::{
    census, cleaning, compile, daemon_client, evidence, facts, outputs, pass, proof, reads, report, room,
    script, script_hook, seed, sight, toolchain, verify,
};

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
    case.inquiry.event.times.key_us = report::micros(started.elapsed());

    let mut why = match case.try_cache() {
        Ok(()) => return Ok(case.close(started, End::Code(0))),
        Err(why) => why,
    };
    let effort = case.effort();
    let _lock: Option<Lock>;
    if effort != Effort::Edit {
        let (lock, waited) = case.inquiry.take_turn();
        _lock = lock;
        if waited && case.try_cache().map_err(|again| why = again).is_ok() {
            return Ok(case.close(started, End::Code(0)));
        }
        if case.verified.is_none() && case.try_remote() {
            return Ok(case.close(started, End::Code(0)));
        }
    }
    case.inquiry.missed(&why);
    let end = case.compile(effort).map_err(|error| Bypass::Toolchain(error.to_string()))?;
    Ok(case.close(started, end))
}

/// Everything about the unit at hand.
struct Case<'a> {
    call: &'a Invocation,
    unit: &'a Unit,
    session: &'a Session,
    inquiry: Inquiry<'a>,
    standing: Standing,
    place: TargetLayout,
    externs: Vec<Option<Digest>>,
    /// The entry that is there, when it is to be verified.
    verified: Option<(EntryKey, Box<Entry>)>,
}

impl<'a> Servable<'a> for Case<'a> {
    fn inquiry(&mut self) -> &mut Inquiry<'a> {
        &mut self.inquiry
    }

    fn build(&self) -> Build {
        let inquiry = &self.inquiry;
        let toolchain = &inquiry.toolchain;
        let host = toolchain::of_host(self.call, &inquiry.store, (toolchain, self.unit.target.as_deref()));
        world::build(self.unit, self.session, &inquiry.roots, (toolchain, &host), &inquiry.fields)
    }

    fn try_cache(&mut self) -> Result<(), Miss> {
        let (key, entry) = self.inquiry.look_up(self.call, &self.unit.rendering)?;
        // Two incremental compiles never make the same object files: rustc gives them names of chance.
        if !entry.incremental && self.inquiry.settings.verify.takes(&key, &self.session.id) {
            self.verified = Some((key, entry));
            return Err(Miss::Verify("it could not be compared".to_owned()));
        }
        self.restore(key, &entry)
    }
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
        let layout = world::target_layout(call, unit)?;
        let store = room::open_store(settings)?;
        let toolchain = toolchain::identify(call, &store, unit.target.as_deref())?;
        let portable = settings.portable_paths.value.then_some(toolchain.sysroot.as_path());
        let roots = world::roots(call, (&layout.target_dir, &call.cwd), portable)?;
        let inputs = facts::gather(call, unit, settings, &store, (&layout, &roots, &toolchain))?;
        let standing = Standing::observe(call, unit, &layout, &session.id);
        let (key, fields) = unit_key::derive(unit, &inputs);
        let event = report::about(call, unit, session);
        let inquiry = Inquiry::new(settings, store, (toolchain, roots), (key, fields), event);
        let externs = inputs.externs;
        Ok(Self { call, unit, session, inquiry, standing, place: layout, externs, verified: None })
    }

    fn restore(&mut self, key: EntryKey, entry: &Entry) -> Result<(), Miss> {
        let clock = Instant::now();
        let outcome = restore::check(&self.inquiry.store, entry, &self.inquiry.roots).and_then(|texts| {
            let moved =
                restore::apply(&self.inquiry.store, (&key, entry), self.unit, &texts, &self.standing)?;
            restore::replay(&texts);
            fault::point(Point::Replayed);
            Ok(moved)
        });
        match outcome {
            Ok(moved) => {
                self.inquiry.hit(key, entry, moved, clock);
                Ok(())
            }
            Err(error) => {
                if matches!(error, RestoreError::Broken(_))
                    && let Err(error) = self.inquiry.store.drop_entry(&key)
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

    /// Runs the compiler; once more where it found no room and the store could make some.
    fn run_compiler(&self, effort: Effort) -> std::io::Result<Compiled> {
        let editing = effort == Effort::Edit;
        outputs::clear(self.unit);
        self.standing.mark();
        let mut job = compile::Job {
            call: self.call,
            out_dir: Path::new(&self.unit.out_dir),
            roots: &self.inquiry.roots,
            remapped: remap::remapped_roots(self.unit, &self.inquiry.roots, &self.call.cwd),
            keeps_incremental: effort.keeps_incremental(),
            wants_link_report: self.unit.runs_linker() && !editing,
            observed_scope: (!editing).then(|| reads::unobserved_dirs(&self.inquiry.toolchain.sysroot)),
            preloaded: if editing {
                None
            } else {
                sight::preloaded(&self.inquiry.store, &self.call.compiler)
            },
            script_hook: script_hook::path(&self.inquiry.store, self.unit, &self.inquiry.toolchain),
            announced: Vec::new(),
        };
        let (store, standing) = (&self.inquiry.store, &self.standing);
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
        self.inquiry.event.times.compile_us = report::micros(compiled.elapsed);
        self.inquiry.event.exit_code = compiled.status.code();
        self.inquiry.event.unobserved = compiled.observation.is_none() && effort != Effort::Edit;
        let clock = Instant::now();
        let done = Finished {
            real_target: world::real_target(&self.inquiry.roots),
            call: self.call,
            unit: self.unit,
            key: (self.inquiry.key, &self.inquiry.fields),
            externs: &self.externs,
            roots: &self.inquiry.roots,
            toolchain: &self.inquiry.toolchain,
            standing: &self.standing,
            place: &self.place,
        };
        let stored = if !compiled.status.success() {
            self.inquiry.event.outcome = Outcome::Error;
            Err(NotStored::Failed)
        } else if effort == Effort::Edit {
            Err(NotStored::Incremental)
        } else {
            ingest(&self.inquiry.store, &done, &compiled)
        };
        if let Some((key, entry)) = self.verified.take() {
            let made = stored.as_ref().map(|stored| &stored.entry);
            let verdict = verify::judge(&self.inquiry.store, self.unit, (&key, &entry), made);
            self.inquiry.event.reason = Some(verdict.code().to_owned());
            self.inquiry.event.detail = Some(verdict.to_string());
        } else if stored.is_err() {
            let (record, fields) = self.inquiry.seen.take().unwrap_or_default();
            let evidence =
                evidence::collect(&self.inquiry.store, &done, compiled.observation.as_ref(), &record, fields);
            if let Err(error) = self.inquiry.store.note_miss(&self.inquiry.key, &evidence) {
                tracing::warn!(%error, "nothing will explain this miss");
            }
        }
        match stored {
            Ok(stored) => {
                self.inquiry.event.entry_key = Some(stored.key);
                self.inquiry.event.moved.stored_bytes = stored.new_bytes;
                self.inquiry.event.outcome = if stored.new_bytes == 0 { Outcome::Dup } else { Outcome::Miss };
                proof::file(
                    &self.inquiry.store,
                    self.inquiry.settings,
                    &done,
                    (&stored.question, stored.key, &stored.entry),
                );
                self.follow_up(&stored);
            }
            Err(why) => {
                if let NotStored::Full(_) = why {
                    room::sweep_if_due(&self.inquiry.store, self.inquiry.settings);
                }
                self.inquiry.not_stored(&why);
            }
        }
        self.inquiry.event.times.store_us = report::micros(clock.elapsed());
        Ok(compiled.status.into())
    }

    /// What a new entry entails, here and for others.
    fn follow_up(&self, stored: &Ingested) {
        let blob_s = stored.entry.oldest_mtime_s().unwrap_or_default();
        // Without it the unit is in no snapshot; nothing else depends on it.
        let _ = self.standing.note_origin(&stored.key, blob_s);
        daemon_client::queue_upload(&self.inquiry.store, self.inquiry.settings, &stored.key);
        room::sweep_if_due(&self.inquiry.store, self.inquiry.settings);
    }

    fn close(self, started: Instant, end: End) -> End {
        if !world::is_foreign(self.call) {
            seed::record_before_end(
                &self.inquiry.store,
                self.inquiry.settings,
                self.session,
                self.call,
                &self.place,
            );
        } else if self.inquiry.event.entry_key.is_some() {
            seed::watch(&self.inquiry.store, self.inquiry.settings, self.session, self.call, &self.place);
        }
        proof::start_if_due(&self.inquiry.store, self.inquiry.settings, self.session, &self.place);
        census::note(&self.inquiry.store, &self.place, &self.inquiry.roots, &self.inquiry.toolchain);
        cleaning::start_if_due(&self.inquiry.store, self.inquiry.settings, self.session);
        report::emit(self.inquiry.event, started, Some(&self.inquiry.store), self.inquiry.settings);
        end
    }
}
