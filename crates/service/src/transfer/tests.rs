//! Tests of transfers between machines that share a bucket in memory.

use std::sync::Arc;
use std::time::Duration;

use kache_core::digest::Digest;
use kache_core::record::{Input, InputRecord, Observed, RecordSet};
use kache_core::remote::build::{Build, BuildUnit};
use kache_core::remote::records::Grown;

use super::*;
use crate::remote::memory::{Memory, Mischief, Request};
use crate::testing::{Machine, Stored, Warnings};

pub(super) fn bucket() -> Arc<Memory> {
    Arc::new(Memory::new())
}

pub(super) fn machine(bucket: &Arc<Memory>) -> Machine {
    Machine::new(bucket, Policy::default())
}

pub(super) async fn pushed(bucket: &Arc<Memory>) -> (Machine, Stored) {
    let here = machine(bucket);
    let stored = here.compile("demo", b"object code", b"warning", &["X"]);
    let done = here.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(done, Pushed::Uploaded(_)));
    (here, stored)
}

#[tokio::test]
async fn what_one_machine_pushes_another_fetches() {
    let bucket = bucket();
    let (here, stored) = pushed(&bucket).await;
    let (dir, key, unit) = (&stored.dir, stored.key, stored.unit);
    let names = [
        format!("artifacts/v3/inputs/demo/{unit}.json"),
        format!("artifacts/v3/manifests/demo/{key}.json"),
        format!("artifacts/v3/packs/demo/{key}.tar.zst"),
    ];
    assert_eq!(bucket.names(), names);
    assert_eq!(here.transfer.push_entry(key).await.expect("pushed"), Pushed::Present);

    let there = machine(&bucket);
    assert_eq!(there.transfer.fetch_inputs(dir, unit).await.expect("fetched"), Grown::Yes);
    assert_eq!(there.transfer.fetch_inputs(dir, unit).await.expect("fetched"), Grown::No);
    let fetched = there.transfer.fetch_entry(dir, &key).await.expect("fetched");
    assert!(matches!(fetched, Fetched::Imported { new_bytes: 18, .. }), "{fetched:?}");
    assert_eq!(there.transfer.fetch_entry(dir, &key).await.expect("fetched"), Fetched::Known);
    assert!(there.store().entry(&key).expect("readable").is_some());

    let nothing = EntryKey(Digest::of(b"nothing"));
    assert_eq!(there.transfer.fetch_entry(dir, &nothing).await.expect("a miss"), Fetched::Absent);
}

#[tokio::test]
async fn a_manifest_is_written_after_its_pack_and_an_orphaned_pack_is_replaced() {
    let bucket = bucket();
    let here = machine(&bucket);
    let stored = here.compile("demo", &b"object code ".repeat(1000), b"warning", &[]);
    let keys = Keys::new("artifacts");
    let pack_name = keys.pack(&stored.dir, &stored.key);
    bucket.arrange(Request::Put, "/manifests/", 1, Mischief::Fail(Fault::Denied));
    here.transfer.push_entry(stored.key).await.expect_err("denied");
    assert_eq!(bucket.names(), std::slice::from_ref(&pack_name));
    let orphan = bucket.object(&pack_name).expect("there");
    // Of the same entry, another machine makes another pack.
    let another = Machine::new(&bucket, Policy { compression_level: 19, ..Policy::default() });
    another.compile("demo", &b"object code ".repeat(1000), b"warning", &[]);
    let done = another.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(done, Pushed::Uploaded(_)));
    assert_ne!(bucket.object(&pack_name), Some(orphan));
    let fetched = machine(&bucket).transfer.fetch_entry(&stored.dir, &stored.key).await;
    assert!(matches!(fetched, Ok(Fetched::Imported { .. })), "{fetched:?}");
}

#[tokio::test(start_paused = true)]
async fn passing_trouble_is_waited_out_and_lasting_trouble_is_not() {
    let bucket = bucket();
    let (_here, stored) = pushed(&bucket).await;
    for (request, part) in [(Request::Get, "/manifests/"), (Request::Get, "/packs/")] {
        for fault in [Fault::Throttled, Fault::Unavailable, Fault::Protocol] {
            let there = machine(&bucket);
            bucket.arrange(request, part, 2, Mischief::Fail(fault));
            let fetched = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("in the end");
            assert!(matches!(fetched, Fetched::Imported { .. }));
        }
        let there = machine(&bucket);
        bucket.arrange(request, part, 1, Mischief::Fail(Fault::Credentials));
        let error = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect_err("refused");
        assert_eq!(error.fault(), Some(Fault::Credentials));
    }
    // A pause that the server asks for is granted.
    let (there, begun) = (machine(&bucket), tokio::time::Instant::now());
    bucket.arrange(Request::Get, "/manifests/", 1, Mischief::Throttle(Duration::from_secs(20)));
    there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("in the end");
    assert!(begun.elapsed() >= Duration::from_secs(20));
    // A body that ends early is fetched again.
    let there = machine(&bucket);
    bucket.arrange(Request::Get, "/packs/", 1, Mischief::Truncate(10));
    there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("in the end");
}

#[tokio::test]
async fn denied_counts_as_a_miss_once_reading_is_all_that_is_allowed() {
    let bucket = bucket();
    let (_here, stored) = pushed(&bucket).await;
    let there = machine(&bucket);
    assert!(!there.transfer.is_blind());
    bucket.arrange(Request::Get, "/manifests/", 2, Mischief::Fail(Fault::Denied));
    let warnings = Warnings::default();
    let _guard = tracing::subscriber::set_default(warnings.clone());
    for _ in 0..2 {
        let fetched = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("a miss");
        assert_eq!(fetched, Fetched::Absent);
        assert!(there.transfer.is_blind());
        assert_eq!(warnings.count(), 1, "said once");
    }
    // A pack that is gone is denied, too.
    bucket.remove_object(&Keys::new("artifacts").pack(&stored.dir, &stored.key));
    bucket.arrange(Request::Get, "/packs/", 1, Mischief::Fail(Fault::Denied));
    let error = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect_err("no pack");
    assert!(matches!(error, TransferError::Refused { refusal: Refusal::NoPack, .. }), "{error}");
}

#[tokio::test]
async fn a_fresh_machine_learns_the_latest_result() {
    let bucket = bucket();
    let (here, first) = pushed(&bucket).await;
    let second = here.compile("demo", b"edited code", b"warning", &["X"]);
    assert_eq!(second.unit, first.unit);
    here.transfer.push_entry(second.key).await.expect("pushed");
    let there = machine(&bucket);
    there.transfer.fetch_inputs(&first.dir, first.unit).await.expect("fetched");
    let records = there.store().records(&first.unit).expect("readable").records;
    assert_eq!(records.iter().map(|record| record.last).collect::<Vec<_>>(), [Some(second.key)]);
    let writes = bucket.count(Request::Put);
    here.transfer.push_entry(second.key).await.expect("pushed");
    assert_eq!(bucket.count(Request::Put), writes, "nothing new to say");
}

#[tokio::test]
async fn what_depends_on_a_credential_stays_here() {
    let bucket = bucket();
    let policy = Policy { secret_env: vec!["LICENCE_*".to_owned()], ..Policy::default() };
    let here = Machine::new(&bucket, policy);
    for variable in ["REGISTRY_TOKEN", "LICENCE_FILE"] {
        let stored = here.compile("demo", variable.as_bytes(), b"", &[variable]);
        let done = here.transfer.push_entry(stored.key).await.expect("considered");
        assert_eq!(done, Pushed::Kept(Kept::Secret(variable.to_owned())));
    }
    // Where it isn't set there is nothing to keep. Of the unit's other results not even the keys are told.
    let unset = here.compile_with("demo", b"unset", b"", &[("REGISTRY_TOKEN", Observed::Absent)]);
    let done = here.transfer.push_entry(unset.key).await.expect("pushed");
    assert!(matches!(done, Pushed::Uploaded(_)), "{done:?}");
    let inputs = bucket.object(&Keys::new("artifacts").inputs(&unset.dir, &unset.unit)).expect("there");
    let told = RecordSet::decode(&inputs).expect("records").records;
    let told: Vec<_> = told.iter().filter_map(|record| record.last).collect();
    assert_eq!(told, [unset.key]);
    let there = machine(&bucket);
    let fetched = there.transfer.fetch_entry(&unset.dir, &unset.key).await.expect("fetched");
    assert!(matches!(fetched, Fetched::Imported { .. }), "{fetched:?}");
    let names = bucket.names();
    let macros = here.compile("macros", b"code", b"", &[]);
    let mut evidence = here.store().evidence(&macros.key).expect("readable").expect("kept");
    evidence.macro_variables = vec!["DB_PASSWORD".to_owned()];
    here.store().publish(&macros.key, &macros.entry, &evidence).expect("published");
    let done = here.transfer.push_entry(macros.key).await.expect("considered");
    assert_eq!(done, Pushed::Kept(Kept::Secret("DB_PASSWORD".to_owned())));
    assert_eq!(bucket.names(), names);
}

/// Only the entry's own form says that it is of a newer kache; one whose evidence is gone is of no use to anybody.
#[tokio::test]
async fn what_a_newer_kache_wrote_is_told_from_what_is_gone() {
    let bucket = bucket();
    let here = machine(&bucket);
    let (newer, bare) = (here.compile("newer", b"a", b"", &[]), here.compile("bare", b"b", b"", &[]));
    let path = here.store().entry_path(&newer.key);
    let text = std::fs::read_to_string(&path).expect("an entry");
    std::fs::write(&path, text.replacen("\"version\":1", "\"version\":99", 1)).expect("written");
    std::fs::remove_file(here.store().evidence_path(&bare.key)).expect("removed");
    for (key, kept) in [(newer.key, Kept::Newer), (bare.key, Kept::Gone)] {
        assert_eq!(here.transfer.push_entry(key).await.expect("considered"), Pushed::Kept(kept));
    }
    assert!(bucket.names().is_empty());
}

#[tokio::test]
async fn two_machines_publish_their_records_and_none_is_lost() {
    let bucket = bucket();
    let (a, b) = (machine(&bucket), machine(&bucket));
    let record =
        |name: &str| InputRecord { inputs: vec![Input::Env(name.to_owned())], ..InputRecord::default() };
    let stored = a.compile("demo", b"a", b"", &[]);
    a.store().add_record(&stored.unit, record("A")).expect("added");
    b.store().add_record(&stored.unit, record("B")).expect("added");
    for machine in [&a, &b, &a] {
        let mine = machine.transfer.publishable(stored.unit, stored.key).await.expect("readable");
        let mine = (mine, stored.key);
        machine.transfer.publish_inputs(&stored.dir, stored.unit, mine, None).await.expect("published");
    }
    let bytes = bucket.object(&Keys::new("artifacts").inputs(&stored.dir, &stored.unit)).expect("there");
    let set = RecordSet::decode(&bytes).expect("records");
    assert_eq!(set.records.len(), 3);
    // What a newer kache wrote is left alone.
    let newer = br#"{"version":99,"records":[]}"#.to_vec();
    let name = Keys::new("artifacts").inputs(&stored.dir, &stored.unit);
    bucket.set_object(&name, newer.clone());
    let mine = a.transfer.publishable(stored.unit, stored.key).await.expect("readable");
    let mine = (mine, stored.key);
    a.transfer.publish_inputs(&stored.dir, stored.unit, mine, None).await.expect("left alone");
    assert_eq!(bucket.object(&name), Some(newer));
}

/// Only who knows that a server heeds conditions need not read back what it wrote.
#[tokio::test]
async fn a_new_entry_takes_few_requests() {
    let kinds = [Request::Put, Request::Get, Request::Head];
    for (bucket, expected) in [(Memory::new(), [3, 1, 0]), (Memory::new().that_overwrites(), [3, 3, 0])] {
        let bucket = Arc::new(bucket);
        let here = machine(&bucket);
        for (i, name) in ["first", "second"].iter().enumerate() {
            let stored = here.compile(name, name.as_bytes(), b"", &[]);
            let before = kinds.map(|kind| bucket.count(kind));
            here.transfer.push_entry(stored.key).await.expect("pushed");
            let mut requests = kinds.map(|kind| bucket.count(kind));
            requests.iter_mut().zip(before).for_each(|(count, before)| *count -= before);
            // The first one finds out.
            assert!(i == 0 || requests == expected, "{requests:?}");
            let pushed = here.transfer.push_entry(stored.key).await.expect("pushed");
            assert_eq!(pushed, Pushed::Present);
        }
        assert_eq!(bucket.count(Request::Head), 4, "two for each that is there");
    }
}

#[tokio::test]
async fn listings_are_paged_filtered_and_end() {
    let bucket = Arc::new(Memory::new().with_pages_of(2));
    let here = machine(&bucket);
    let mut keys = Vec::new();
    for i in 0..5u8 {
        let stored = here.compile("demo", &[i], b"", &[]);
        here.transfer.push_entry(stored.key).await.expect("pushed");
        keys.push((stored.dir, stored.key));
    }
    let other = here.compile("other", b"o", b"", &[]);
    here.transfer.push_entry(other.key).await.expect("pushed");
    bucket.set_object("artifacts/v3/manifests/demo/README.txt", Vec::new());
    keys.sort();
    let dir = &keys[0].0;
    let listed = here.transfer.list_manifests(Some(dir)).await.expect("listed");
    let listed: Vec<_> = listed.into_iter().map(|item| (item.dir, item.key)).collect();
    assert_eq!(listed, keys);
    assert_eq!(here.transfer.list_manifests(None).await.expect("listed").len(), 6);
}

fn unit_of(stored: &Stored, slot: &str) -> BuildUnit {
    BuildUnit {
        crate_name: "demo".into(),
        package: "demo".into(),
        package_version: "1.0.0".into(),
        unit_key: stored.unit,
        entry_key: stored.key,
        kind: None,
        slot: slot.into(),
    }
}

fn place() -> BuildPlace {
    BuildPlace { manifest_key: "x86_64".parse().expect("a label"), namespace: None }
}

#[tokio::test]
async fn builds_are_found_by_lockfile_and_toolchain_without_listing() {
    let bucket = bucket();
    let here = machine(&bucket);
    let stored = here.compile("demo", b"code", b"", &[]);
    let (lockfile, toolchain) = (Digest::of(b"lock"), Digest::of(b"rustc"));
    let build = Build { lockfile, toolchain, saved_s: 1, units: vec![unit_of(&stored, "x")] };
    let plain = place();
    let spaced = BuildPlace { namespace: Some("main".parse().expect("a label")), ..plain.clone() };
    let names = here.transfer.save_build(&plain, &build).await.expect("saved");
    assert_eq!(names, ["artifacts/_manifests/x86_64.json"]);
    let other = Build { lockfile: Digest::of(b"other"), ..build.clone() };
    let names = here.transfer.save_build(&spaced, &other).await.expect("saved");
    assert!(names[1].starts_with("artifacts/_manifests/v3/main/shards/"), "{names:?}");
    for (place, lockfile, expected) in [
        (&plain, lockfile, true),
        (&plain, other.lockfile, true),
        (&spaced, lockfile, true),
        (&spaced, other.lockfile, true),
        (&plain, Digest::of(b"unknown"), false),
    ] {
        let found = here.transfer.find_build(place, &lockfile, &toolchain).await.expect("looked");
        assert_eq!(found.is_some(), expected);
    }
    assert_eq!(bucket.count(Request::List), 0);
    let key = &plain.manifest_key;
    for (lockfile, expected) in [(other.lockfile, true), (lockfile, false)] {
        let found = here.transfer.find_shard(key, &lockfile, &toolchain).await.expect("looked");
        assert_eq!(found.is_some(), expected, "without knowing the namespace");
    }
    let found = here.transfer.find_build(&plain, &lockfile, &Digest::of(b"nightly")).await.expect("looked");
    assert_eq!(found, None);
}

#[tokio::test]
async fn jobs_that_save_builds_of_one_lockfile_lose_none_of_each_other() {
    let bucket = bucket();
    let here = machine(&bucket);
    let stored = here.compile("demo", b"code", b"", &[]);
    let build = |slot: &str| Build {
        lockfile: Digest::of(b"lock"),
        toolchain: Digest::of(b"rustc"),
        saved_s: 1,
        units: vec![unit_of(&stored, slot)],
    };
    let spaced = BuildPlace { namespace: Some("main".parse().expect("a label")), ..place() };
    let slots = async |place: &BuildPlace| {
        let found = here.transfer.find_build(place, &Digest::of(b"lock"), &Digest::of(b"rustc")).await;
        let found = found.expect("looked").expect("found");
        found.units.into_iter().map(|unit| unit.slot).collect::<Vec<_>>()
    };
    for slot in ["debug", "release", "clippy"] {
        here.transfer.save_build(&spaced, &build(slot)).await.expect("saved");
    }
    assert_eq!(slots(&place()).await, ["clippy", "release", "debug"]);
    assert_eq!(slots(&spaced).await, ["clippy", "release", "debug"], "the shard joins, too");
    // Read back, it is what another machine wrote that had read the object before this one wrote.
    let name = "artifacts/_manifests/x86_64.json";
    let before = bucket.object(name).expect("there");
    bucket.arrange(Request::Get, name, 1, Mischief::Replace(before.clone()));
    bucket.arrange(Request::Get, name, 1, Mischief::Replace(before));
    here.transfer.save_build(&place(), &build("doc")).await.expect("saved");
    assert_eq!(bucket.count(Request::Put), 6 + 2, "written again");
    assert_eq!(slots(&place()).await, ["doc", "clippy", "release", "debug"]);
    // Saved once more there is nothing to write.
    here.transfer.save_build(&place(), &build("doc")).await.expect("saved");
    assert_eq!(bucket.count(Request::Put), 6 + 2);
    // What nobody can use is replaced, what a newer kache wrote isn't.
    bucket.set_object(name, vec![b' '; 17 << 20]);
    here.transfer.save_build(&place(), &build("doc")).await.expect("saved");
    assert_eq!(slots(&place()).await, ["doc"]);
    bucket.set_object(name, br#"{"version":2,"builds":[]}"#.to_vec());
    here.transfer.save_build(&place(), &build("doc")).await.expect_err("left alone");
}

const REQUESTS: [Request; 4] = [Request::Put, Request::Get, Request::Head, Request::List];

/// What a run of a build script left has no input records, and isn't sent again to find out that it is there.
#[tokio::test]
async fn an_entry_without_records_is_uploaded_once() {
    let bucket = bucket();
    let here = machine(&bucket);
    let stored = here.compile("demo", b"out", b"", &[]);
    std::fs::remove_dir_all(here.dir.path().join("v1/units")).expect("removed");
    let pushed = here.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(pushed, Pushed::Uploaded(_)), "{pushed:?}");
    let before = REQUESTS.map(|kind| bucket.count(kind));
    assert_eq!(here.transfer.push_entry(stored.key).await.expect("considered"), Pushed::Present);
    let after = REQUESTS.map(|kind| bucket.count(kind));
    assert_eq!(after, [before[0], before[1], before[2] + 2, before[3]], "two looks, no write");
}

/// One request for each hundred entries that are there already, whether this machine saw them there or not; and an emptied
/// bucket gets all of them.
#[tokio::test]
async fn a_push_of_nothing_new_takes_few_requests() {
    use crate::sync::{Pushing, push};
    let bucket = Arc::new(Memory::new().with_pages_of(1000));
    let policy = |name: &[u8]| Policy { remote: Some(Digest::of(name)), ..Policy::default() };
    let here = Machine::new(&bucket, policy(b"r"));
    let keys: Vec<EntryKey> = (0..250).map(|i| here.compile(&format!("c{i}"), &[i], b"", &[]).key).collect();
    let uploaded = async |machine: &Machine| {
        let before: u64 = REQUESTS.iter().map(|kind| bucket.count(*kind)).sum();
        let ended = push(&machine.transfer, keys.clone(), 8, Pushing::Really, |_| {}).await;
        let all = ended.iter().filter(|(_, result)| matches!(result, Some(Ok(Pushed::Uploaded(_))))).count();
        let there = ended.iter().filter(|(_, result)| matches!(result, Some(Ok(Pushed::Present)))).count();
        let after: u64 = REQUESTS.iter().map(|kind| bucket.count(*kind)).sum();
        (all, there, after - before)
    };
    assert_eq!(uploaded(&here).await.0, 250);
    assert_eq!(uploaded(&here).await, (0, 250, 3), "one of each hundred is looked at");
    let other = here.rekeyed(&bucket, policy(b"seen from elsewhere"));
    assert_eq!(uploaded(&other).await, (0, 250, 1), "all of them in one listing");
    // One that has lost its pack is told from the others.
    bucket.remove_object(&bucket.names().into_iter().find(|name| name.contains("/packs/")).expect("a pack"));
    let third = here.rekeyed(&bucket, policy(b"later"));
    let (new, there, _) = uploaded(&third).await;
    assert_eq!((new, there), (1, 249));
    bucket.clear();
    assert_eq!(uploaded(&here).await.0, 250, "what is remembered is not believed blindly");
}
