use kache_core::entry::{Entry, Evidence, Output, OutputKind};

use super::super::scripted::{Scripted, key};
use super::*;

struct World {
    _dir: tempfile::TempDir,
    store: Arc<Store>,
    backend: Arc<Scripted>,
    remote: Digest,
}

impl World {
    fn new(backend: Arc<Scripted>) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Arc::new(Store::open(dir.path()).expect("open"));
        Self { _dir: dir, store, backend, remote: Digest::of(b"r") }
    }

    fn owe(&self, names: &[&str]) {
        for name in names {
            self.store.owe_upload(&key(name), &self.remote).expect("queued");
        }
    }

    fn owed(&self) -> usize {
        self.store.owed_uploads(None).expect("listed").len()
    }

    /// How often an upload was begun.
    fn attempts(&self, name: &str) -> usize {
        self.backend.pushed.lock().expect("lock").iter().filter(|pushed| **pushed == key(name)).count()
    }

    fn uploads(&self) -> Arc<Uploads<Scripted>> {
        Uploads::new(Arc::clone(&self.store), Arc::clone(&self.backend), self.remote, 4)
    }
}

/// Works until nothing is owed, or for as long as `patience`.
async fn work(uploads: &Arc<Uploads<Scripted>>, patience: Duration) {
    let work = tokio::spawn(Arc::clone(uploads).run());
    let _ = tokio::time::timeout(patience, async {
        loop {
            uploads.drained().await;
            if uploads.numbers().await.owed == 0 {
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
    assert_eq!(world.backend.pushed.lock().expect("lock").len(), 50);
    assert!(world.backend.under_way_max.load(std::sync::atomic::Ordering::SeqCst) <= 4);
    let numbers = uploads.numbers().await;
    assert_eq!((numbers.done, numbers.failed, numbers.owed), (50, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_remote_that_is_away_costs_nothing_and_gets_everything_later() {
    let world = World::new(Scripted::new());
    world.owe(&["a", "b", "c", "d", "e", "f"]);
    for name in ["a", "b", "c", "d", "e", "f"] {
        world.backend.pushes.lock().expect("lock").insert(key(name), Err(Blame::Remote));
    }
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(3 * 3600)).await;
    assert_eq!(world.owed(), 6, "nothing is given up in three hours");
    let attempts = world.backend.pushed.lock().expect("lock").len();
    assert!((10..60).contains(&attempts), "{attempts} attempts in three hours");
    assert!(uploads.sickness().is_some() && uploads.numbers().await.failed as usize == attempts);
    world.backend.pushes.lock().expect("lock").clear();
    work(&uploads, Duration::from_secs(3600)).await;
    assert_eq!(world.owed(), 0);
    assert!(uploads.sickness().is_none());
}

#[tokio::test(start_paused = true)]
async fn what_stays_local_is_struck_and_so_is_what_stands_in_the_way_in_the_end() {
    let world = World::new(Scripted::new());
    world.owe(&["secret", "blocked", "fine", "known"]);
    {
        let mut pushes = world.backend.pushes.lock().expect("lock");
        pushes.insert(key("secret"), Ok(Pushed::Dropped("looks like a credential".to_owned())));
        pushes.insert(key("blocked"), Err(Blame::Object));
        pushes.insert(key("known"), Ok(Pushed::Known));
    }
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(3600)).await;
    assert_eq!(world.owed(), 0);
    let numbers = uploads.numbers().await;
    assert_eq!((numbers.done, numbers.known, numbers.dropped), (2, 1, 2));
    assert_eq!(world.attempts("blocked"), OBJECTIONS_MAX as usize + 1);
    assert!(uploads.sickness().is_none(), "none of it was the remote's fault");
}

/// A full disk hits every upload in each round, for an hour here: all are still owed, few attempts were made, and they
/// are done as soon as there is room. An outage before it makes no difference.
#[tokio::test(start_paused = true)]
async fn trouble_of_this_machine_costs_no_upload() {
    let world = World::new(Scripted::new());
    let names: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    world.owe(&names.iter().map(String::as_str).collect::<Vec<_>>());
    let uploads = world.uploads();
    for blame in [Blame::Remote, Blame::Local] {
        *world.backend.all_pushes.lock().expect("lock") = Err(blame);
        work(&uploads, Duration::from_secs(3600)).await;
        assert_eq!(world.owed(), 40, "{blame:?}");
        assert!(uploads.sickness().is_some());
    }
    let attempts = world.backend.pushed.lock().expect("lock").len();
    assert!(attempts < 60, "{attempts} attempts in two hours");
    *world.backend.all_pushes.lock().expect("lock") = Ok(Pushed::Done);
    work(&uploads, Duration::from_secs(3600)).await;
    let numbers = uploads.numbers().await;
    assert_eq!((world.owed(), numbers.done, numbers.dropped), (0, 40, 0));
}

/// Credentials that may only read: a few attempts show it, then one now and then, whatever is queued; others may have
/// been given more rights meanwhile.
#[tokio::test(start_paused = true)]
async fn a_machine_that_may_only_read_stops_trying() {
    let world = World::new(Scripted::new());
    let names: Vec<String> = (0..40).map(|i| i.to_string()).collect();
    world.owe(&names.iter().map(String::as_str).collect::<Vec<_>>());
    *world.backend.all_pushes.lock().expect("lock") = Err(Blame::Denied);
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(6 * 3600)).await;
    let attempts = world.backend.pushed.lock().expect("lock").len();
    assert!(attempts <= 8, "{attempts} attempts in six hours");
    assert_eq!(world.owed(), 40, "nothing is lost should the rights be given");
    assert!(uploads.sickness().is_none(), "the remote is well");
    assert!(uploads.numbers().await.refused.is_some_and(|why| why.contains("arranged")));
    *world.backend.all_pushes.lock().expect("lock") = Ok(Pushed::Done);
    work(&uploads, Duration::from_secs(6 * 3600)).await;
    assert_eq!((world.owed(), uploads.numbers().await.refused), (0, None));
}

/// What is queued while something large is on its way doesn't wait for that.
#[tokio::test(start_paused = true)]
async fn a_slow_upload_holds_up_no_other() {
    let world = World::new(Scripted::gated(0));
    world.owe(&["large"]);
    let uploads = world.uploads();
    let work = tokio::spawn(Arc::clone(&uploads).run());
    while world.attempts("large") == 0 {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    for name in ["b", "c", "d"] {
        world.owe(&[name]);
        for _ in 0..5 {
            tokio::time::sleep(LOOK).await;
        }
        assert_eq!(world.attempts(name), 1, "{name} was begun although the large one goes on");
    }
    assert!(uploads.is_busy());
    work.abort();
}

/// An entry that only a newer kache understands is left for the daemon of that.
#[tokio::test(start_paused = true)]
async fn what_another_daemon_has_to_upload_stays_in_the_queue() {
    let world = World::new(Scripted::new());
    world.owe(&["newer", "fine"]);
    let left = Ok(Pushed::Left("newer".to_owned()));
    world.backend.pushes.lock().expect("lock").insert(key("newer"), left);
    let uploads = world.uploads();
    work(&uploads, Duration::from_secs(3600)).await;
    let numbers = uploads.numbers().await;
    assert_eq!((world.owed(), numbers.done, numbers.dropped, numbers.failed), (1, 1, 0, 0));
    assert!(world.attempts("newer") <= 8, "{}", world.attempts("newer"));
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
        world.backend.gate.add_permits(1);
        tokio::time::sleep(Duration::from_secs(3)).await;
        work.abort();
        let _ = work.await;
        assert!(world.owed() >= names.len() - permits - 1, "one more is done at most");
    }
    world.backend.gate.add_permits(100);
    work(&world.uploads(), Duration::from_secs(60)).await;
    assert_eq!(world.owed(), 0);
    for name in names {
        // Once for each life in which it was under way and cut off, and once more.
        assert!((1..=names.len() + 1).contains(&world.attempts(name)), "{name}: {}", world.attempts(name));
    }
    // Another life finds nothing to do.
    let attempts = world.backend.pushed.lock().expect("lock").len();
    work(&world.uploads(), Duration::from_secs(60)).await;
    assert_eq!(world.backend.pushed.lock().expect("lock").len(), attempts);
}

#[tokio::test(start_paused = true)]
async fn the_size_and_age_of_the_queue_are_known() {
    let world = World::new(Scripted::gated(0));
    let mut entry = Entry::new(kache_core::key::UnitKey(Digest::of(b"u")), "demo");
    entry.dep_info_name = "demo.d".into();
    entry.outputs.push(Output {
        name: "libdemo.rlib".into(),
        kind: OutputKind::Rlib,
        digest: Digest::of(b"x"),
        size: 1234,
        mtime_s: 1,
        executable: false,
    });
    world.store.publish(&key("a"), &entry, &Evidence::default()).expect("published");
    world.owe(&["a", "b"]);
    for item in std::fs::read_dir(world.store.queue_dir()).expect("a queue").flatten() {
        let file = std::fs::File::options().write(true).open(item.path()).expect("open");
        let is_b = item.file_name().to_string_lossy().starts_with(&key("b").to_string());
        let age = Duration::from_secs(if is_b { 500 } else { 100 });
        file.set_modified(std::time::SystemTime::now() - age).expect("dated");
    }
    let uploads = world.uploads();
    for _ in 0..2 {
        let numbers = uploads.numbers().await;
        assert_eq!((numbers.owed, numbers.owed_bytes), (2, 1234));
        assert!((500..560).contains(&numbers.oldest_s), "{numbers:?}");
    }
    uploads.store.strike_upload(&uploads.owed().await.expect("listed")[1]).expect("struck");
    assert_eq!(uploads.numbers().await.owed_bytes, 0, "the size goes with its item");
}
