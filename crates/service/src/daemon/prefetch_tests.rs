use kache_core::key::UnitKey;

use super::super::backend::{Blame, Fetched, Shape};
use super::super::scripted::{Fate, Scripted, key, names};
use super::*;

struct World {
    _dir: tempfile::TempDir,
    backend: Arc<Scripted>,
    prefetch: Arc<Prefetch<Scripted>>,
}

impl World {
    fn new(backend: Arc<Scripted>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Arc::new(Store::open(dir.path()).expect("open"));
        let dispatcher = Dispatcher::new(Arc::clone(&backend), 8);
        let prefetch = Prefetch::new(store, Arc::clone(&backend), dispatcher);
        Self { _dir: dir, backend, prefetch }
    }

    /// What the build will be told to need; each can be had.
    fn foresees(&self, candidates: Vec<Candidate>) {
        for candidate in &candidates {
            self.backend.arrange(Subject::Entry(candidate.entry), Fate::Fetched(Fetched::New { bytes: 1 }));
        }
        *self.backend.candidates.lock().expect("lock") = candidates;
    }

    /// Entries that were asked for, in order.
    fn asked(&self) -> Vec<Subject> {
        self.backend.asked.lock().expect("lock").clone()
    }
}

fn candidate(name: &str) -> Candidate {
    let unit = UnitKey(key(name).0);
    Candidate { names: names(), unit, entry: key(name), kind: None, bytes: 0 }
}

fn entries(names: &[&str]) -> Vec<Subject> {
    names.iter().map(|name| Subject::Entry(key(name))).collect()
}

/// A build whose session never ends.
fn build() -> Build {
    Build { session: "x".to_owned(), dir: "/w".to_owned(), ..Build::default() }
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_sick_for_a_while_costs_no_wish() {
    let world = World::new(Scripted::new());
    let all: Vec<String> = (0..30).map(|i| i.to_string()).collect();
    world.foresees(all.iter().map(|name| candidate(name)).collect());
    for name in &all {
        world.backend.arrange(Subject::Entry(key(name)), Fate::Trouble(Blame::Remote));
    }
    world.prefetch.heard_of(&build());
    pass(12).await;
    let attempts = world.asked().len();
    assert!((3..12).contains(&attempts), "{attempts} attempts at a sick remote");
    for name in &all {
        world.backend.arrange(Subject::Entry(key(name)), Fate::Fetched(Fetched::New { bytes: 1 }));
    }
    pass(300).await;
    let asked: HashSet<Subject> = world.asked().into_iter().collect();
    assert_eq!(asked.len(), all.len(), "all were brought in the end");
    assert!(world.prefetch.dispatcher.traffic().sickness().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_fails_is_tried_again_and_given_up_in_the_end() {
    let world = World::new(Scripted::new());
    world.foresees(vec![candidate("a"), candidate("b")]);
    world.backend.arrange(Subject::Entry(key("a")), Fate::Trouble(Blame::Local));
    world.prefetch.heard_of(&build());
    pass(100).await;
    let attempts =
        |name: &str| world.asked().iter().filter(|asked| **asked == Subject::Entry(key(name))).count();
    assert_eq!((attempts("a"), attempts("b")), (ATTEMPTS_MAX as usize, 1));
}

#[tokio::test(start_paused = true)]
async fn what_the_build_needs_is_looked_for_again() {
    let world = World::new(Scripted::new());
    world.foresees(vec![candidate("a")]);
    world.backend.foresight.lock().expect("lock").extend([Blame::Remote, Blame::Remote]);
    world.prefetch.heard_of(&build());
    pass(60).await;
    assert_eq!(world.asked(), entries(&["a"]));
}

#[tokio::test(start_paused = true)]
async fn kinds_come_when_they_are_asked_for() {
    let world = World::new(Scripted::new());
    let kind = |mode: &str| Kind {
        shape: Shape { mode: mode.to_owned(), profile: String::new() },
        ..Kind::default()
    };
    let of = |name: &str, mode: &str| Candidate { kind: Some(kind(mode)), ..candidate(name) };
    world.foresees(vec![of("a", "build"), of("b", "check"), of("c", "build")]);
    world.prefetch.heard_of(&Build { mode: "check".to_owned(), ..build() });
    pass(10).await;
    assert_eq!(world.asked(), entries(&["b"]));
    world.prefetch.heard_of(&Build { mode: "build".to_owned(), ..build() });
    pass(10).await;
    assert_eq!(world.asked(), entries(&["b", "a", "c"]));
}

#[tokio::test(start_paused = true)]
async fn no_more_is_fetched_than_a_build_may_cost() {
    let world = World::new(Scripted::new());
    let of = |name: &str, bytes| Candidate { bytes, ..candidate(name) };
    world.foresees(vec![of("a", BYTES_MAX - 10), of("b", 11), of("c", 10), of("d", 1), candidate("unknown")]);
    world.prefetch.heard_of(&build());
    pass(10).await;
    assert_eq!(world.asked(), entries(&["a", "c", "unknown"]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_begun_once_it_has_ended() {
    let world = World::new(Scripted::gated(0));
    world.foresees((0..20).map(|i| candidate(&i.to_string())).collect());
    world.prefetch.heard_of(&build());
    pass(2).await;
    let begun = world.asked().len();
    assert_eq!(begun, 6, "three quarters of the slots");
    world.prefetch.end();
    world.backend.gate.add_permits(1000);
    pass(60).await;
    assert_eq!(world.asked().len(), begun);
    world.prefetch.heard_of(&Build { session: "another".to_owned(), ..build() });
    pass(60).await;
    assert_eq!(world.asked().len(), begun);
}
