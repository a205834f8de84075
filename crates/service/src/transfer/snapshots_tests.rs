//! Tests of snapshots that machines share through a bucket in memory.

use std::collections::BTreeSet;
use std::sync::Arc;

use kache_core::cargo::layout::UnitDir;
use kache_core::digest::Digest;
use kache_core::lockfile::Lockfile;
use kache_core::provenance::Provenance;
use kache_core::remote::manifest::Pack;
use kache_core::remote::shared::{About, Head, OBJECT_BYTES_MAX, Part};
use kache_core::seed_unit::{Dependency, Made, SeedUnit};
use kache_core::snapshot::{Header, Snapshot};

use super::foreign_tests::{OTHER_PRIVATE, PRIVATE, PUBLIC, policy};
use super::tests::{bucket, machine};
use super::*;
use crate::remote::memory::{Memory, Request};
use crate::testing::Machine;

fn about() -> About {
    About {
        manifest_key: "host".parse().expect("a label"),
        lockfile: Digest::of(b"lock"),
        compiler: Digest::of(b"compiler"),
        cargo_home: "/cargo".to_owned(),
    }
}

/// A snapshot with a unit of each name, in the order of their dependence.
fn snapshot(machine: &Machine, names: &[&str], variables: &[&str]) -> Snapshot {
    let mut header = Header::new(Digest::of(b"context"), about().lockfile);
    header.compiler = Some(about().compiler);
    header.cargo_home = about().cargo_home;
    let mut units: Vec<SeedUnit> = Vec::new();
    for name in names {
        let entry = machine.compile(name, name.as_bytes(), b"", variables).key;
        let made = Made::Compile { entry };
        let dep = units
            .last()
            .map(|unit| Dependency { hash: unit.hash.clone(), pins: vec![(unit.place(), unit.entry())] });
        let mut unit = SeedUnit::new(
            "debug",
            UnitDir::parse(&format!("{name}-{:016}", 1)).expect("a unit"),
            &format!("lib-{name}"),
            made,
        );
        unit.hash = Digest::of(name.as_bytes()).to_string()[..16].to_owned();
        unit.deps.extend(dep);
        unit.package = format!("{name} 1.0.0");
        units.push(unit);
    }
    Snapshot { header, units }
}

fn name() -> String {
    Keys::new("artifacts").snapshots(&about().hash())
}

async fn saved(machine: &Machine, names: &[&str]) -> Saved {
    let snapshot = snapshot(machine, names, &[]);
    machine.transfer.save_snapshots(&about(), vec![snapshot]).await.expect("saved")
}

/// Directories of the units that a machine finds.
async fn found(machine: &Machine) -> Result<BTreeSet<String>, TransferError> {
    let found = machine.transfer.find_snapshots(&about()).await?;
    Ok(found.into_iter().flat_map(|snapshot| snapshot.units).map(|unit| unit.dir.name()).collect())
}

fn dirs(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| format!("{name}-{:016}", 1)).collect()
}

#[tokio::test]
async fn what_machines_save_of_one_lockfile_is_joined_and_written_once() {
    let bucket = bucket();
    let (one, two) = (machine(&bucket), machine(&bucket));
    assert_eq!(found(&one).await.expect("nothing"), dirs(&[]));
    assert_eq!(saved(&one, &["a", "b"]).await, Saved::Here(name()));
    assert_eq!(saved(&two, &["c"]).await, Saved::Here(name()));
    assert_eq!(found(&one).await.expect("found"), dirs(&["a", "b", "c"]));
    let before = bucket.count(Request::Put);
    assert_eq!(saved(&one, &["a", "b"]).await, Saved::Here(name()));
    assert_eq!(bucket.count(Request::Put), before, "there is nothing new");
    assert_eq!(bucket.count(Request::List), 0);
    // Taken over with what is there.
    let snapshots = two.transfer.find_snapshots(&about()).await.expect("found");
    assert_eq!(missing_entries(machine(&bucket).store(), &snapshots).len(), 3);
    assert_eq!(missing_entries(two.store(), &snapshots).len(), 2);
    for snapshot in snapshots {
        assert_eq!(two.transfer.take_snapshot(snapshot).await.expect("taken").units.len(), 3);
    }
    assert_eq!(two.store().snapshots_of(&about().lockfile).len(), 1);
}

/// Whoever wrote an object may name what he likes in it, and has entries of the lockfile's packages fetched at most.
#[tokio::test]
async fn what_is_of_other_packages_is_left_out() {
    let bucket = bucket();
    let here = machine(&bucket);
    saved(&here, &["a", "b"]).await;
    let lockfile = Lockfile::parse("[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n").expect("a lockfile");
    let found = here.transfer.find_snapshots_for(&about(), &lockfile).await.expect("found");
    let units: Vec<String> =
        found.iter().flat_map(|found| &found.units).map(|unit| unit.dir.name()).collect();
    assert_eq!(units, ["b-0000000000000001"]);
}

#[tokio::test]
async fn what_depends_on_a_credential_stays_here_with_all_that_rests_on_it() {
    let bucket = bucket();
    let here = machine(&bucket);
    let plain = snapshot(&here, &["plain"], &[]);
    let mut mixed = snapshot(&here, &["secret"], &["DEPLOY_TOKEN"]);
    let pins = vec![(mixed.units[0].place(), mixed.units[0].entry())];
    let mut above = snapshot(&here, &["above"], &[]).units.remove(0);
    above.deps.push(Dependency { hash: mixed.units[0].hash.clone(), pins });
    mixed.units.extend([above, plain.units[0].clone()]);
    let mut asked = snapshot(&here, &["asked"], &[]).units.remove(0);
    let entry = asked.entry();
    let asks = vec![("API_TOKEN".to_owned(), Some(Digest::of(b"swordfish")))];
    asked.made = Made::Run { entry, output_ns: 0, invoked_ns: 0, ended_ns: 0, asked: asks, tree: Vec::new() };
    mixed.units.push(asked);
    let shareable = here.transfer.shareable(mixed).await.expect("readable");
    let places = |units: &[SeedUnit]| units.iter().map(SeedUnit::place).collect::<Vec<_>>();
    assert_eq!(places(&shareable.units), places(&plain.units));
    assert!(shareable.units.iter().all(|unit| unit.provenance.is_unknown()), "the note stays");
    // Whose entries nobody would believe has nothing to share.
    let mute = Machine::new(&bucket, policy(None, &[PUBLIC]));
    let mutes = snapshot(&mute, &["a"], &[]);
    assert_eq!(mute.transfer.shareable(mutes).await.expect("readable").units, []);
}

#[tokio::test]
async fn with_trusted_keys_only_signed_snapshots_are_used() {
    let bucket = bucket();
    let stranger = machine(&bucket);
    saved(&stranger, &["poison"]).await;
    let release = Machine::new(&bucket, policy(None, &[PUBLIC]));
    let error = found(&release).await.expect_err("refused").to_string();
    assert!(error.contains("not signed") && error.contains(&name()), "{error}");
    // A signer doesn't vouch for what strangers wrote.
    let signer = Machine::new(&bucket, policy(Some(PRIVATE), &[PUBLIC]));
    assert_eq!(saved(&signer, &["good"]).await, Saved::Here(name()));
    assert_eq!(found(&release).await.expect("signed"), dirs(&["good"]));
    // Another that is trusted adds to it.
    let second = Machine::new(&bucket, policy(Some(OTHER_PRIVATE), &[PUBLIC]));
    saved(&second, &["more"]).await;
    assert!(found(&release).await.is_err(), "the second one's key is not trusted there");
    saved(&signer, &["good"]).await;
    assert_eq!(found(&release).await.expect("signed"), dirs(&["good"]));
    // Who can't sign leaves it.
    assert_eq!(saved(&stranger, &["poison"]).await, Saved::Signed);
    assert_eq!(found(&release).await.expect("signed"), dirs(&["good"]));
    // Any bit that is turned is noticed.
    let object = bucket.object(&name()).expect("there");
    for at in [40, object.len() / 2, object.len() - 3] {
        let mut turned = object.clone();
        turned[at] ^= 1;
        bucket.set_object(&name(), turned);
        found(&release).await.expect_err("refused");
    }
}

/// A row of the poisoning table: what a stranger saved, and a machine took before it had keys, is not signed by it.
#[tokio::test]
async fn units_of_strangers_are_not_signed() {
    let bucket = bucket();
    let stranger = machine(&bucket);
    saved(&stranger, &["poison"]).await;
    let before = machine(&bucket);
    // It has the entry from its own compiler, but not the fingerprint.
    let own = snapshot(&before, &["poison", "own"], &[]).units.remove(1);
    for mut snapshot in before.transfer.find_snapshots(&about()).await.expect("found") {
        assert!(snapshot.units.iter().all(|unit| unit.provenance == Provenance::Unsigned));
        snapshot.units.push(SeedUnit { deps: Vec::new(), ..own.clone() });
        before.transfer.take_snapshot(snapshot).await.expect("taken");
    }
    bucket.clear();
    let signer = before.rekeyed(&bucket, policy(Some(PRIVATE), &[]));
    let held = signer.store().snapshots_of(&about().lockfile).remove(0);
    assert_eq!(held.units.len(), 2);
    let sent = signer.transfer.shareable(held).await.expect("readable");
    assert_eq!(
        signer.transfer.save_snapshots(&about(), vec![sent]).await.expect("saved"),
        Saved::Here(name())
    );
    let release = Machine::new(&bucket, policy(None, &[PUBLIC]));
    assert_eq!(found(&release).await.expect("signed"), dirs(&["own"]));
}

/// Puts an object there whose payload compresses to what `head` is made of.
fn plant(bucket: &Arc<Memory>, payload: &[u8], parts: Vec<Part>, change: impl FnOnce(&mut Head)) {
    let compressed = zstd::stream::encode_all(payload, 3).expect("compressed");
    let (size, unpacked_size) = (compressed.len() as u64, payload.len() as u64);
    let pack = Pack { digest: Digest::of(&compressed), size, unpacked_size };
    let mut head = Head::new(&about(), pack, parts);
    change(&mut head);
    bucket.set_object(&name(), head.encode(&compressed));
}

#[tokio::test]
async fn hostile_objects_are_refused_and_replaced_by_the_next_save() {
    let bucket = bucket();
    let here = machine(&bucket);
    let context = Digest::of(b"context");
    let part = |size| vec![Part { context, size }];
    let mut astray = snapshot(&here, &["a"], &[]);
    astray.units[0].profile = "../../outside".to_owned();
    let astray = astray.encode();
    let bomb = vec![b'\n'; 8 << 20];
    type Plant<'a> = Box<dyn Fn(&Arc<Memory>) + 'a>;
    let cases: [Plant<'_>; 7] = [
        Box::new(|bucket| bucket.set_object(&name(), b"{}".to_vec())),
        Box::new(|bucket| {
            bucket.set_object(&name(), vec![b' '; usize::try_from(OBJECT_BYTES_MAX).expect("fits") + 1])
        }),
        Box::new(|bucket| plant(bucket, b"nothing of the kind\n", part(20), |_| {})),
        Box::new(|bucket| plant(bucket, &astray, part(astray.len() as u64), |_| {})),
        // More than was announced, much more than compression makes, and cut off.
        Box::new(|bucket| {
            plant(bucket, &bomb, part(9), |head| head.pack.unpacked_size = 9);
        }),
        Box::new(|bucket| plant(bucket, &bomb, part(bomb.len() as u64), |_| {})),
        Box::new(|bucket| {
            plant(bucket, &bomb, part(9 << 20), |head| head.pack.unpacked_size = 9 << 20);
        }),
    ];
    for (i, plant) in cases.iter().enumerate() {
        plant(&bucket);
        let there = machine(&bucket);
        assert!(found(&there).await.is_err(), "{i}");
        assert!(there.store().snapshots_of(&about().lockfile).is_empty(), "{i}");
        assert_eq!(saved(&here, &["a"]).await, Saved::Here(name()), "{i}");
        assert_eq!(found(&there).await.expect("repaired"), dirs(&["a"]), "{i}");
    }
    let newer = br#"{"version":2,"other":"form"}"#;
    let newer = [newer.as_slice(), b"\n"].concat();
    bucket.set_object(&name(), newer.clone());
    assert_eq!(found(&here).await.expect("not used"), dirs(&[]));
    assert_eq!(saved(&here, &["a"]).await, Saved::Newer);
    assert_eq!(bucket.object(&name()), Some(newer));
}
