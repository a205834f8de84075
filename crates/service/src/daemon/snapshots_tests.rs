use kache_core::cargo::layout::UnitDir;
use kache_core::key::EntryKey;
use kache_core::remote::shared::About;
use kache_core::seed_unit::{Made, SeedUnit};
use kache_core::snapshot::Header;
use tokio::sync::Semaphore;

use super::super::backend::Fetched;
use super::super::scripted::{Fate, Scripted, key};
use super::*;

/// Snapshots of a daemon whose backend is scripted, and its store.
struct World {
    _dir: tempfile::TempDir,
    backend: Arc<Scripted>,
    snapshots: Arc<Snapshots<Scripted>>,
}

impl World {
    fn new(backend: Arc<Scripted>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Arc::new(Store::open(dir.path()).expect("open"));
        let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
        let snapshots = Snapshots::new(store, Arc::clone(&backend), dispatcher);
        Self { _dir: dir, backend, snapshots }
    }

    /// Has the remote a snapshot with a unit of each name, and entries for them.
    fn saved(&self, names: &[&str]) {
        let mut snapshot = Snapshot { header: Header::new(wanted().context, lockfile()), units: Vec::new() };
        for name in names {
            let made = Made::Compile { entry: key(name) };
            let unit = SeedUnit::new(
                "debug",
                UnitDir::parse(&format!("{name}-{:016}", 1)).expect("a unit"),
                &format!("lib-{name}"),
                made,
            );
            snapshot.units.push(SeedUnit { package: format!("{name} 1.0.0"), ..unit });
            self.backend.arrange(entry(name), Fate::Fetched(Fetched::New { bytes: 1 }));
        }
        *self.backend.snapshot.lock().expect("lock") = Some(snapshot);
    }

    async fn ask(&self) -> Reply {
        self.ask_as("1-1").await
    }

    async fn ask_as(&self, session: &str) -> Reply {
        self.snapshots.bring(&Seed { session: session.to_owned(), ..wanted() }).await
    }

    /// Asks for one build after the other, until it is no longer on its way.
    async fn outcome(&self) -> Reply {
        for build in 2.. {
            match self.ask_as(&format!("{build}-1")).await {
                LATE => {}
                reply => return reply,
            }
        }
        unreachable!("builds without end")
    }

    fn looked_for(&self) -> usize {
        self.backend.snapshots_looked_for.load(std::sync::atomic::Ordering::SeqCst)
    }

    fn taken(&self) -> usize {
        self.backend.taken.lock().expect("lock").len()
    }
}

fn lockfile() -> Digest {
    Digest::of(b"lock")
}

fn entry(name: &str) -> Subject {
    Subject::Entry(EntryKey(key(name).0))
}

fn wanted() -> Seed {
    let about = About {
        manifest_key: "host".parse().expect("a label"),
        lockfile: lockfile(),
        compiler: Digest::of(b"compiler"),
        cargo_home: "/cargo".to_owned(),
    };
    Seed {
        remote: Digest::of(b"remote"),
        about,
        context: Digest::of(b"context"),
        dir: "/w".to_owned(),
        session: String::new(),
        patience_ms: 60_000,
        ambient: None,
    }
}

const LATE: Reply = Reply::Unavailable(Unavailable::Late);

#[tokio::test(start_paused = true)]
async fn the_first_question_begins_and_the_second_waits() {
    let world = World::new(Scripted::slow(Duration::from_secs(2)));
    world.saved(&["a", "b"]);
    let begun = tokio::time::Instant::now();
    assert_eq!(world.ask().await, LATE);
    assert!(begun.elapsed().is_zero());
    assert_eq!(world.ask().await, Reply::Arrived);
    assert_eq!((begun.elapsed().as_secs(), world.looked_for(), world.taken()), (4, 1, 1));
    assert_eq!(world.snapshots.numbers(), Numbers { asked: 2, taken: 1, entries: 2 });
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_that_is_in_the_store_is_not_asked_for() {
    let world = World::new(Scripted::new());
    let header = Header::new(wanted().context, lockfile());
    world.snapshots.store.put_snapshot(&Snapshot { header, units: Vec::new() }).expect("put");
    assert_eq!((world.ask().await, world.looked_for()), (Reply::Arrived, 0));
}

#[tokio::test(start_paused = true)]
async fn what_nobody_saved_is_asked_for_once_in_a_while() {
    let world = World::new(Scripted::new());
    assert_eq!(world.ask().await, LATE);
    for _ in 0..5 {
        assert_eq!((world.outcome().await, world.looked_for()), (Reply::Absent, 1));
    }
    tokio::time::advance(super::super::single_flight::ABSENT).await;
    assert_eq!(world.ask().await, LATE);
    assert_eq!((world.outcome().await, world.looked_for()), (Reply::Absent, 2));
}

/// Nobody knows yet whether there is one: no longer than for any small object. There is one: as long as for an entry.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_long() {
    for (found, waited) in [(0, SMALL_MAX), (1, Subject::ENTRY_MAX)] {
        let world = World::new(Scripted::gated(found));
        world.saved(&["a"]);
        assert_eq!(world.ask().await, LATE);
        let begun = tokio::time::Instant::now();
        assert_eq!(world.ask().await, LATE);
        assert_eq!(begun.elapsed().as_secs(), waited.as_secs());
        assert_eq!(world.ask().await, LATE, "no build waits twice");
        let hasty = Seed { patience_ms: 0, session: "0-0".to_owned(), ..wanted() };
        assert_eq!(world.snapshots.bring(&hasty).await, LATE);
        assert_eq!(begun.elapsed().as_secs(), waited.as_secs(), "not at all");
        world.backend.gate.add_permits(Semaphore::MAX_PERMITS >> 1);
        assert_eq!(world.outcome().await, Reply::Arrived, "it goes on nevertheless");
    }
}

/// What the remote has lost isn't in it; while it fails nobody knows, and the next question begins with the rest.
#[tokio::test(start_paused = true)]
async fn it_is_taken_over_when_all_that_there_is_has_come() {
    for (fate, reply) in [
        (Fate::Fetched(Fetched::Absent), Reply::Arrived),
        (Fate::Trouble(Blame::Object), Reply::Arrived),
        (Fate::Trouble(Blame::Remote), Reply::Unavailable(Unavailable::Sick)),
        (Fate::Trouble(Blame::Local), Reply::Unavailable(Unavailable::Sick)),
        (Fate::Panic, Reply::Unavailable(Unavailable::Sick)),
    ] {
        let world = World::new(Scripted::slow(Duration::from_millis(10)));
        world.saved(&["a", "b", "c"]);
        world.backend.arrange(entry("b"), fate.clone());
        assert_eq!(world.ask().await, LATE);
        assert_eq!(world.outcome().await, reply, "{fate:?}");
        assert_eq!(world.taken(), usize::from(reply == Reply::Arrived), "{fate:?}");
        world.backend.arrange(entry("b"), Fate::Fetched(Fetched::New { bytes: 1 }));
        assert_eq!(world.ask().await, LATE);
        assert_eq!(world.outcome().await, Reply::Arrived, "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_sick_remote_is_left_alone() {
    let world = World::new(Scripted::new());
    world.saved(&["a"]);
    for name in ["x", "y", "z"] {
        world.backend.arrange(entry(name), Fate::Trouble(Blame::Remote));
        let names = super::super::scripted::names();
        world.snapshots.dispatcher.bring(entry(name), &names, Urgency::Demand, "").await;
    }
    assert_eq!(world.ask().await, Reply::Unavailable(Unavailable::Sick));
    assert_eq!(world.looked_for(), 0);
}
