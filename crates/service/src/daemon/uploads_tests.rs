use kache_core::entry::Evidence;

use super::super::scripted::{Scripted, key};
use super::*;

struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    depot: Arc<Scripted>,
    remote: Digest,
}

impl World {
    fn new(depot: Arc<Scripted>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Arc::new(Store::open(dir.path()).expect("open"));
        Self { _dir: dir, store, depot, remote: Digest::of(b"r") }
    }

    fn owe(&self, names: &[&str]) {
        for name in names {
            self.store.owe_upload(&key(name), &self.remote).expect("queued");
        }
    }

    fn owed(&self) -> usize {
        self.store.owed_uploads(None).expect("listed").len()
    }

    fn uploads(&self) -> Arc<Uploads<Scripted>> {
        Uploads::new(Arc::clone(&self.store), Arc::clone(&self.depot), self.remote, 4)
    }
}

/// Works until nothing is owed, or for as long as `patience`.
async fn work(uploads: &Arc<Uploads<Scripted>>, patience: Duration) {
    let work = tokio::spawn(Arc::clone(uploads).run());
    let _ = tokio::time::timeout(patience, async {
        loop {
            uploads.drained().await;
            if uploads.numbers().owed == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    })
    .await;
    work.abort();
}

#[tokio::test(start_paused = true)]
async fn everything_owed_is_uploaded_once_a_few_at_a_time() {
    let world = World::new(Scripted::new());
    let names: Vec<String> = (0..50).map(|i| i.to_string()).collect();
    world.owe(&names.iter().map(String::as_str).collect::<Vec<_>>());
    world.store.owe_upload(&key("0"), &Digest::of(b"another remote")).expect("queued");
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(60)).await;
    assert_eq!(world.owed(), 1, "what another remote is owed stays");
    assert_eq!(world.depot.pushed.lock().expect("lock").len(), 50);
    assert!(world.depot.under_way_max.load(std::sync::atomic::Ordering::SeqCst) <= 4);
    let numbers = uploads.numbers();
    assert_eq!((numbers.done, numbers.failed, numbers.owed), (50, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_away_costs_nothing_and_gets_everything_later() {
    let world = World::new(Scripted::new());
    world.owe(&["a", "b", "c", "d", "e", "f"]);
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.depot.pushes.lock().expect("lock").insert(key(name), Err(Blame::Remote));
    }
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(3 * 3600)).await;
    assert_eq!(world.owed(), 6, "nothing is given up in three hours");
    let attempts = world.depot.pushed.lock().expect("lock").len();
    assert!((10..60).contains(&attempts), "{attempts} attempts in three hours");
    assert!(uploads.sickness().is_some() && uploads.numbers().failed as usize == attempts);
    world.depot.pushes.lock().expect("lock").clear();
    work(&uploads, Duration::from_secs(3600)).await;
    assert_eq!(world.owed(), 0);
    assert!(uploads.sickness().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_stays_local_is_struck_and_what_is_broken_here_is_dropped_in_the_end() {
    let world = World::new(Scripted::new());
    world.owe(&["secret", "broken", "fine", "known"]);
    {
        let mut pushes = world.depot.pushes.lock().expect("lock");
        pushes.insert(key("secret"), Ok(Pushed::Dropped("looks like a credential".to_owned())));
        pushes.insert(key("broken"), Err(Blame::Local));
        pushes.insert(key("known"), Ok(Pushed::Known));
    }
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(3600)).await;
    assert_eq!(world.owed(), 0);
    let numbers = uploads.numbers();
    assert_eq!((numbers.done, numbers.known, numbers.dropped), (2, 1, 2));
    assert!(uploads.sickness().is_none(), "none of it was the remote's fault");
}

/// The daemon may be killed at any moment: between the upload and the strike it uploads once more after the next
/// start, which changes nothing at the remote; otherwise nothing happens twice and nothing is lost.
#[tokio::test(start_paused = true)]
async fn killed_at_any_moment_nothing_is_lost() {
    let world = World::new(Scripted::gated(0));
    let names = ["a", "b", "c", "d", "e", "f", "g"];
    world.owe(&names);
    for permits in 0..names.len() {
        let work = tokio::spawn(world.uploads().run());
        world.depot.gate.add_permits(1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        work.abort();
        let _ = work.await;
        assert!(world.owed() >= names.len() - permits - 1, "one more is done at most");
    }
    world.depot.gate.add_permits(100);
    work(&world.uploads(), Duration::from_secs(60)).await;
    assert_eq!(world.owed(), 0);
    let pushed: std::collections::HashSet<_> =
        world.depot.pushed.lock().expect("lock").iter().copied().collect();
    assert_eq!(pushed.len(), names.len());
}

#[tokio::test(start_paused = true)]
async fn the_size_and_age_of_the_queue_are_known() {
    let world = World::new(Scripted::gated(0));
    let mut entry = kache_core::entry::Entry::new(kache_core::key::UnitKey(Digest::of(b"u")), "demo");
    entry.dep_info_name = "demo.d".into();
    world.store.publish(&key("a"), &entry, &Evidence::default()).expect("published");
    world.owe(&["a", "b"]);
    let numbers = world.uploads().numbers();
    assert_eq!((numbers.owed, numbers.owed_bytes), (2, 0));
}
