//! Two buckets in memory as levels: who is asked, who is filled, and what a level that is down or silent costs.

use kache_core::config::{Remote as RemoteSettings, Setting, Settings, env};

use super::*;
use crate::remote::Fault;
use crate::remote::memory::{Memory, Mischief, Request};
use crate::testing::{Machine, Stored};
use crate::transfer::{Policy, Transfer};

/// What a level is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Both,
    Reading,
    Writing,
}

fn policy() -> Policy {
    Policy { compression_level: 3, ..Policy::default() }
}

fn settings(is_for: Use) -> RemoteSettings {
    let read = |name: &str| (name == env::KACHE_REMOTE_PATH).then(|| "/none".into());
    let (settings, _) = Settings::resolve(None, read).expect("settings");
    let mut remote = settings.remote().expect("a remote").clone();
    remote.read_only = Setting::default_of(is_for == Use::Reading);
    remote.write_only = Setting::default_of(is_for == Use::Writing);
    remote
}

/// Two buckets, and what a machine has pushed into the second.
struct World {
    near: Arc<Memory>,
    far: Arc<Memory>,
    stored: Vec<Stored>,
    here: Machine,
}

impl World {
    async fn new() -> Self {
        let (near, far) = (Arc::new(Memory::new()), Arc::new(Memory::new()));
        let here = Machine::new(&far, policy());
        let stored: Vec<_> =
            ["one", "two", "six", "ten"].map(|name| here.compile(name, name.as_bytes(), b"", &[])).into();
        for stored in &stored {
            here.transfer.push_entry(stored.key).await.expect("pushed");
        }
        Self { near, far, stored, here }
    }

    /// The levels of another machine, whose store comes along.
    fn levels(&self, near: Use, far: Use) -> (Machine, Levels) {
        let there = Machine::new(&self.far, policy());
        let level = |bucket: &Arc<Memory>, is_for| {
            let store = Arc::clone(there.transfer.store());
            let transfer = Transfer::new(store, Arc::clone(bucket) as _, "artifacts", policy());
            setup::Level { remote: settings(is_for), transfer }
        };
        let levels = Levels::new(vec![level(&self.near, near), level(&self.far, far)], 4);
        (there, levels)
    }

    fn names(&self, i: usize) -> Names {
        let name = self.stored[i].entry.crate_name.clone();
        Names { crate_name: name.clone(), package: name }
    }

    async fn fetch(&self, levels: &Levels, i: usize) -> Result<Fetched, Trouble> {
        levels.fetch_entry(self.stored[i].key, &self.names(i), "").await
    }
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    for _ in 0..600 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{what}: not within 30 s");
}

fn is_new(fetched: &Result<Fetched, Trouble>) -> bool {
    matches!(fetched, Ok(Fetched::New { .. }))
}

#[tokio::test]
async fn what_comes_from_a_farther_level_fills_the_nearer() {
    let world = World::new().await;
    let (_one, levels) = world.levels(Use::Both, Use::Both);
    levels.fetch_records(world.stored[0].unit, &world.names(0)).await.expect("asked");
    assert!(is_new(&world.fetch(&levels, 0).await));
    // Pack, manifest and records, as in the other.
    until("filled", || world.near.names().len() == 3).await;
    assert!(world.near.names().iter().all(|name| world.far.object(name).is_some()));
    let asked = world.far.count(Request::Get);
    let (_two, levels) = world.levels(Use::Both, Use::Both);
    assert!(is_new(&world.fetch(&levels, 0).await));
    assert_eq!(world.far.count(Request::Get), asked, "the nearer has it");
    let absent = Stored {
        key: EntryKey(kache_core::digest::Digest::of(b"?")),
        ..world.here.compile("new", b"", b"", &[])
    };
    let names = Names { crate_name: "new".to_owned(), package: "new".to_owned() };
    assert_eq!(levels.fetch_entry(absent.key, &names, "").await, Ok(Fetched::Absent));
}

#[tokio::test]
async fn levels_are_read_and_written_as_they_are_meant() {
    let world = World::new().await;
    let (_one, levels) = world.levels(Use::Reading, Use::Both);
    assert!(is_new(&world.fetch(&levels, 0).await));
    assert_eq!(levels.push(world.stored[0].key).await, Ok(Pushed::Known));
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((world.near.count(Request::Put), world.near.names().len()), (0, 0));
    let asked = world.far.count(Request::Get);
    let (_two, levels) = world.levels(Use::Both, Use::Writing);
    assert_eq!(world.fetch(&levels, 1).await, Ok(Fetched::Absent));
    assert_eq!(world.far.count(Request::Get), asked);
    assert!(world.near.count(Request::Get) > 0);
}

#[tokio::test]
async fn a_level_that_is_down_or_lies_keeps_nobody_from_the_next() {
    let world = World::new().await;
    // Who lies is asked again: the next object may be good.
    let name = world.here.transfer.keys().manifest(&world.stored[0].dir, &world.stored[0].key);
    world.near.set_object(&name, b"{}".to_vec());
    let (_one, levels) = world.levels(Use::Reading, Use::Both);
    assert!(is_new(&world.fetch(&levels, 0).await));
    let (_two, levels) = world.levels(Use::Reading, Use::Both);
    for request in [Request::Get, Request::Put, Request::Head] {
        world.near.arrange(request, "", u32::MAX, Mischief::Fail(Fault::Credentials));
    }
    let asked = world.near.count(Request::Get);
    for i in 1..4 {
        assert!(is_new(&world.fetch(&levels, i).await), "{i}");
    }
    assert_eq!(world.near.count(Request::Get), asked + 1, "it is left alone after the first refusal");
    let records = levels.fetch_records(world.stored[0].unit, &world.names(0)).await;
    assert!(is_new(&records), "{records:?}");
    // An upload is the farthest level's business.
    let (there, levels) = world.levels(Use::Both, Use::Both);
    let own = there.compile("own", b"own", b"", &[]);
    assert_eq!(levels.push(own.key).await, Ok(Pushed::Done));
    assert!(world.far.names().iter().any(|name| name.contains(&own.key.to_string())));
    world.far.arrange(Request::Get, "", u32::MAX, Mischief::Fail(Fault::Credentials));
    let trouble = levels.push(there.compile("more", b"more", b"", &[]).key).await.expect_err("owed");
    assert_eq!(trouble.blame, Blame::Credentials);
    let (_none, levels) = world.levels(Use::Both, Use::Both);
    assert!(world.fetch(&levels, 0).await.is_err(), "what no level answers failed");
}

#[tokio::test]
async fn a_silent_level_is_passed_over_and_then_left_alone() {
    let world = World::new().await;
    world.near.arrange(Request::Get, "", u32::MAX, Mischief::Hang);
    world.near.arrange(Request::Head, "", u32::MAX, Mischief::Hang);
    let (_there, levels) = world.levels(Use::Reading, Use::Both);
    for i in 0..4 {
        assert!(is_new(&world.fetch(&levels, i).await), "{i}");
    }
    assert_eq!(world.near.count(Request::Get), 3);
}
