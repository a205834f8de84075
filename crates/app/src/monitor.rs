//! The live dashboard behind `kache monitor`: what it knows is in `model` and `daemon`, how it looks in `view`; here it
//! follows the journal and the store, and in `watch` the daemon.

mod daemon;
mod fold;
mod model;
mod view;
mod watch;

use std::time::Duration;

use kache_core::config::Settings;
use kache_store::Store;
use kache_store::journal::Follower;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;

use crate::clock::{ms_ago, now_ms};
use crate::error::CliError;
use crate::terminal::{self, Next, Screen};
use model::{Model, StoreFacts};
use watch::Watch;

/// How far back it looks unless asked for more.
pub const SINCE: Duration = Duration::from_secs(86_400);
/// Ticks between two looks at the store's folders; the journal is followed at every tick.
const STORE_TICKS: u32 = 10;
/// The latest events that a first poll may bring again.
const OVERLAP: usize = 64;

/// Shows the dashboard until the user has seen enough.
pub fn run(store: &Store, settings: &Settings, since: Duration) -> Result<(), CliError> {
    let mut monitor = Monitor::new(store, settings, since)?;
    terminal::run(&mut monitor)
}

struct Monitor<'a> {
    store: &'a Store,
    bytes_max: u64,
    since: Duration,
    follower: Follower,
    watch: Watch,
    model: Model,
    ticks: u32,
}

impl<'a> Monitor<'a> {
    fn new(store: &'a Store, settings: &Settings, since: Duration) -> Result<Self, CliError> {
        let bytes_max = *settings.local_size_bytes_max;
        let remote = settings.remote().map(|remote| remote.identity());
        let mut monitor = Self {
            store,
            bytes_max,
            since,
            follower: Follower::at_end(store),
            watch: Watch::begin(Store::open_existing(store.root())?),
            model: Model::default(),
            ticks: 0,
        };
        monitor.model.remote = remote;
        monitor.reload()?;
        Ok(monitor)
    }

    /// Reads everything again. The follower starts first, so that nothing is missed in between.
    fn reload(&mut self) -> Result<(), CliError> {
        self.follower = Follower::at_end(self.store);
        self.model.load(self.store.events(Some(ms_ago(self.since))).collect(), now_ms());
        self.look_at_store();
        Ok(())
    }

    fn look_at_store(&mut self) {
        let facts = StoreFacts {
            dir: self.store.root().to_owned(),
            bytes: self.store.usage_estimate().unwrap_or_default().bytes,
            bytes_max: self.bytes_max,
            entries: self.store.entry_count().unwrap_or_default(),
            uploads_waiting: std::fs::read_dir(self.store.queue_dir()).into_iter().flatten().count() as u64,
        };
        self.model.set_store(facts);
    }
}

impl Screen for Monitor<'_> {
    const TICK: Duration = Duration::from_millis(250);

    fn draw(&mut self, frame: &mut Frame<'_>) {
        view::draw(&mut self.model, frame);
    }

    fn press(&mut self, key: KeyCode) -> Next {
        match self.model.press(key) {
            model::Candidate::Go => Next::Go,
            model::Candidate::Quit => Next::Quit,
            model::Candidate::Reload => {
                if let Err(error) = self.reload() {
                    self.model.complain(error.to_string());
                }
                Next::Go
            }
        }
    }

    fn tick(&mut self) -> Next {
        match self.follower.poll() {
            Ok(events) => self.model.append(events, OVERLAP),
            Err(error) => self.model.complain(error.to_string()),
        }
        self.model.daemon = self.watch.latest();
        self.model.set_now(now_ms());
        self.ticks += 1;
        if self.ticks.is_multiple_of(STORE_TICKS) {
            self.look_at_store();
        }
        Next::Go
    }
}
