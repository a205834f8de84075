//! What a call asks of the cache, the same for a compile and for the run of a build script: look in the store, wait for
//! others, have the daemon look at the remote, and say in the event what came of it. Knows neither what is made nor how a
//! result is put into place.

use std::time::{Duration, Instant};

use kache_core::config::Settings;
use kache_core::entry::Entry;
use kache_core::entry_key::Rendering;
use kache_core::event::{Event, Moved, Outcome, Source};
use kache_core::invocation::Invocation;
use kache_core::key::{EntryKey, Field, UnitKey};
use kache_core::paths::Roots;
use kache_core::protocol::Build;
use kache_core::reason::{Miss, NotStored};
use kache_core::record::InputRecord;
use kache_store::Store;
use kache_store::lock::{Lock, Locking};

use crate::daemon_client::{Answer, Daemon, Names, REMOTE_ROUNDS_MAX};
use crate::inputs::Observer;
use crate::lookup::{Found, lookup};
use crate::report;
use crate::toolchain::Toolchain;

/// Longest wait for another process that makes the same; then both do.
const WAIT_MAX: Duration = Duration::from_secs(600);

pub struct Inquiry<'a> {
    pub settings: &'a Settings,
    pub store: Store,
    pub toolchain: Toolchain,
    pub roots: Roots,
    pub key: UnitKey,
    pub fields: Vec<Field>,
    /// Keys under which the store has nothing, although records of the unit lead there.
    pub wanted: Vec<EntryKey>,
    /// What the last look-up compared, when it found nothing.
    pub seen: Option<(InputRecord, Vec<Field>)>,
    pub event: Event,
}

impl<'a> Inquiry<'a> {
    pub fn new(
        settings: &'a Settings,
        store: Store,
        (toolchain, roots): (Toolchain, Roots),
        (key, fields): (UnitKey, Vec<Field>),
        mut event: Event,
    ) -> Self {
        event.unit_key = Some(key);
        Self { settings, store, toolchain, roots, key, fields, wanted: Vec::new(), seen: None, event }
    }

    /// The entry that serves the call, or why there is none.
    pub fn look_up(
        &mut self,
        call: &Invocation,
        rendering: &Rendering,
    ) -> Result<(EntryKey, Box<Entry>), Miss> {
        let clock = Instant::now();
        let observer = Observer::new(&self.store, &call.env, &self.roots);
        let secret_env = self.settings.remote().map_or(&[][..], |remote| &remote.secret_env.value);
        let found = lookup(&self.store, rendering, &self.key, &observer, (secret_env, &call.compiler));
        self.event.times.lookup_us += report::micros(clock.elapsed());
        match found {
            Ok(Found::Hit(key, entry)) => Ok((key, entry)),
            Ok(Found::Miss(missed)) => {
                (self.wanted, self.seen) = (missed.wanted, missed.seen);
                Err(missed.why)
            }
            Err(error) => Err(Miss::Broken(error.to_string())),
        }
    }

    /// Takes the right to make the result; `true` when another process had it meanwhile, so that another look pays.
    pub fn take_turn(&mut self) -> (Option<Lock>, bool) {
        if let Ok(Locking::Locked(lock)) = self.store.lock_unit(&self.key, Duration::ZERO) {
            return (Some(lock), false);
        }
        let clock = Instant::now();
        let lock = self.store.lock_unit(&self.key, WAIT_MAX);
        self.event.times.wait_us = report::micros(clock.elapsed());
        (if let Ok(Locking::Locked(lock)) = lock { Some(lock) } else { None }, true)
    }

    /// Notes that an entry was put into place, since `clock`.
    pub fn hit(&mut self, key: EntryKey, entry: &Entry, moved: Moved, clock: Instant) {
        let event = &mut self.event;
        let is_ahead = !entry.prefetched_for.is_empty() && entry.prefetched_for == event.session;
        event.outcome = Outcome::Hit;
        event.source = Some(if is_ahead { Source::Prefetch } else { Source::Local });
        event.entry_key = Some(key);
        event.moved = moved;
        event.saved_ms = entry.compile_ms;
        event.times.restore_us = report::micros(clock.elapsed());
    }

    pub fn missed(&mut self, why: &Miss) {
        self.event.reason = Some(why.code().to_owned());
        self.event.detail = Some(why.to_string());
    }

    pub fn not_stored(&mut self, why: &NotStored) {
        self.event.not_stored = Some(format!("{}: {why}", why.code()));
    }
}

/// A call that can be served with what a remote has.
pub trait Servable<'a> {
    fn inquiry(&mut self) -> &mut Inquiry<'a>;

    /// The build that it belongs to.
    fn build(&self) -> Build;

    /// Serves the call from the store, or says why not.
    fn try_cache(&mut self) -> Result<(), Miss>;

    /// Has the daemon look at the remote, for records first and then for the entry that they lead to, and serves the call
    /// from what has arrived; whether that was possible.
    fn try_remote(&mut self) -> bool {
        let mut build = None;
        for _ in 0..REMOTE_ROUNDS_MAX {
            if !Daemon::is_used(self.inquiry().settings) {
                return false;
            }
            let build = build.get_or_insert_with(|| self.build());
            let inquiry = self.inquiry();
            let Some(daemon) = Daemon::of(&inquiry.store, inquiry.settings) else { return false };
            let clock = Instant::now();
            let names = Names { crate_name: &inquiry.event.crate_name, package: &inquiry.event.package };
            let answer = daemon.find(inquiry.key, names, &inquiry.wanted, build);
            inquiry.event.times.remote_us += report::micros(clock.elapsed());
            // Also when nothing new has come for this question: a prefetch may have brought it meanwhile, or records
            // that lead to something else to ask for.
            let wanted = inquiry.wanted.clone();
            if self.try_cache().is_ok() {
                let source = &mut self.inquiry().event.source;
                let came_now = *source != Some(Source::Prefetch);
                *source = Some(if came_now { Source::Remote } else { Source::Prefetch });
                return true;
            }
            if answer == Answer::Nothing && self.inquiry().wanted == wanted {
                return false;
            }
        }
        false
    }
}
