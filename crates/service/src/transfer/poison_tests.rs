//! The poisoning table: who writes what to the bucket, with which keys set, and what the victim does. One test a row.
//!
//! The stranger writes a made-up entry: same key as an honest one, other contents, evidence that fits. The launderer is an
//! honest machine that pulls and pushes. The victim runs what it takes.

use std::sync::Arc;

use kache_core::digest::Digest;
use kache_core::provenance::Provenance;
use kache_core::remote::records::Grown;

use super::foreign_tests::{OTHER_PRIVATE, OTHER_PUBLIC, PRIVATE, PUBLIC, policy};
use super::tests::{bucket, machine};
use super::*;
use crate::remote::memory::Memory;
use crate::testing::{Machine, Stored};

const SOURCE: &[u8] = b"fn main() {}";

/// A stranger's entry is in the bucket, under the key that honest machines ask for.
async fn poisoned(keys: Policy) -> (Arc<Memory>, Stored) {
    let bucket = bucket();
    let stranger = Machine::new(&bucket, keys);
    let stored = stranger.compile("demo", SOURCE, b"", &[]);
    stranger.transfer.push_entry(stored.key).await.expect("pushed");
    (bucket, stored)
}

/// What the victim takes of it, by the name of who made that.
async fn taken(victim: &Machine, stored: &Stored) -> Option<Provenance> {
    // Refused or absent is the same to a build.
    let _ = victim.transfer.fetch_entry(&stored.dir, &stored.key).await;
    victim.store().peek_entry(&stored.key).expect("readable").map(|entry| entry.provenance)
}

fn victim(bucket: &Arc<Memory>, signing: Option<&str>, trusted: &[&str]) -> Machine {
    Machine::new(bucket, policy(signing, trusted))
}

/// Nobody has keys: that works, as the guide says.
#[tokio::test]
async fn unsigned_without_keys_is_taken() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let got = taken(&victim(&bucket, None, &[]), &stored).await;
    assert_eq!(got, Some(Provenance::Unsigned));
}

#[tokio::test]
async fn unsigned_where_keys_are_trusted_is_refused() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    assert_eq!(taken(&victim(&bucket, None, &[PUBLIC]), &stored).await, None);
}

#[tokio::test]
async fn unsigned_where_only_a_signing_key_is_set_is_refused() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    assert_eq!(taken(&victim(&bucket, Some(PRIVATE), &[]), &stored).await, None);
}

#[tokio::test]
async fn a_strangers_signature_where_keys_are_trusted_is_refused() {
    let (bucket, stored) = poisoned(policy(Some(OTHER_PRIVATE), &[])).await;
    assert_eq!(taken(&victim(&bucket, None, &[PUBLIC]), &stored).await, None);
    assert_eq!(taken(&victim(&bucket, Some(PRIVATE), &[]), &stored).await, None);
}

#[tokio::test]
async fn the_own_signature_where_only_a_signing_key_is_set_is_taken() {
    let (bucket, stored) = poisoned(policy(Some(PRIVATE), &[])).await;
    let got = taken(&victim(&bucket, Some(PRIVATE), &[]), &stored).await;
    assert!(matches!(got, Some(Provenance::Signed(_))), "{got:?}");
}

/// Pulled without keys by a machine that has them later: `later` says which.
async fn laundered(later: Policy) -> (Arc<Memory>, Stored, Pushed) {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let before = machine(&bucket);
    assert_eq!(taken(&before, &stored).await, Some(Provenance::Unsigned));
    assert_eq!(before.transfer.fetch_inputs(&stored.dir, stored.unit).await.expect("fetched"), Grown::No);
    // Somebody empties the bucket, so that the launderer's push is not in anybody's way.
    bucket.clear();
    let pushed = before.rekeyed(&bucket, later).transfer.push_entry(stored.key).await.expect("considered");
    (bucket, stored, pushed)
}

#[tokio::test]
async fn pulled_before_a_signing_key_was_set_is_not_signed() {
    let (bucket, stored, pushed) = laundered(policy(Some(PRIVATE), &[])).await;
    assert_eq!(pushed, Pushed::Kept(Kept::Foreign(Provenance::Unsigned)));
    assert_eq!(taken(&victim(&bucket, None, &[PUBLIC]), &stored).await, None);
    assert!(bucket.names().is_empty(), "{:?}", bucket.names());
}

#[tokio::test]
async fn pulled_before_both_keys_were_set_is_not_signed() {
    let (bucket, stored, pushed) = laundered(policy(Some(PRIVATE), &[PUBLIC])).await;
    assert_eq!(pushed, Pushed::Kept(Kept::Foreign(Provenance::Unsigned)));
    assert_eq!(taken(&victim(&bucket, None, &[PUBLIC]), &stored).await, None);
}

#[tokio::test]
async fn pushed_on_by_a_machine_without_keys_is_refused_where_keys_are_trusted() {
    let (bucket, stored, pushed) = laundered(Policy::default()).await;
    assert!(matches!(pushed, Pushed::Uploaded(_)), "{pushed:?}");
    assert_eq!(taken(&victim(&bucket, None, &[PUBLIC]), &stored).await, None);
}

/// The stranger's signature is valid, and nobody named the key.
#[tokio::test]
async fn pulled_with_a_strangers_signature_is_not_signed_until_that_key_is_trusted() {
    let (bucket, stored) = poisoned(policy(Some(OTHER_PRIVATE), &[])).await;
    let before = machine(&bucket);
    let got = taken(&before, &stored).await.expect("taken");
    assert!(matches!(got, Provenance::Signed(_)), "{got:?}");
    bucket.clear();
    let signer = before.rekeyed(&bucket, policy(Some(PRIVATE), &[PUBLIC]));
    let pushed = signer.transfer.push_entry(stored.key).await.expect("considered");
    assert_eq!(pushed, Pushed::Kept(Kept::Foreign(got)));
    let signer = before.rekeyed(&bucket, policy(Some(PRIVATE), &[PUBLIC, OTHER_PUBLIC]));
    let pushed = signer.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(pushed, Pushed::Uploaded(_)), "{pushed:?}");
    let got = taken(&victim(&bucket, None, &[PUBLIC]), &stored).await;
    assert!(matches!(got, Some(Provenance::Signed(_))), "{got:?}");
}

/// The entry says of itself that the victim made it.
#[tokio::test]
async fn what_an_entry_says_of_its_origin_is_not_believed() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let victim = machine(&bucket);
    taken(&victim, &stored).await;
    let evidence = victim.store().evidence(&stored.key).expect("readable").expect("kept");
    assert_eq!(evidence.record.provenance, Provenance::Unsigned);
    let records = victim.store().records(&stored.unit).expect("readable").records;
    assert!(records.iter().all(|record| record.provenance == Provenance::Unsigned), "{records:?}");
    // Nor does the note leave the machine that has it.
    for name in bucket.names().iter().filter(|name| name.ends_with(".json")) {
        let object = String::from_utf8(bucket.object(name).expect("there")).expect("JSON");
        assert!(!object.contains("provenance"), "{name}: {object}");
    }
}

#[tokio::test]
async fn records_of_others_are_not_passed_on_by_a_machine_that_signs() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let signer = victim(&bucket, Some(PRIVATE), &[]);
    assert_eq!(signer.transfer.fetch_inputs(&stored.dir, stored.unit).await.expect("fetched"), Grown::Yes);
    bucket.clear();
    let own = signer.compile("demo", SOURCE, b"other", &["X"]);
    assert_eq!(own.unit, stored.unit);
    signer.transfer.push_entry(own.key).await.expect("pushed");
    let inputs = Keys::new("artifacts").inputs(&own.dir, &own.unit);
    let sent = kache_core::record::RecordSet::decode(&bucket.object(&inputs).expect("there")).expect("JSON");
    assert_eq!(sent.records.len(), 1);
    assert_eq!(sent.records[0].last, Some(own.key));
}

/// A store that an earlier kache filled doesn't say what was pulled.
#[tokio::test]
async fn what_has_no_note_is_not_signed() {
    let bucket = bucket();
    let signer = victim(&bucket, Some(PRIVATE), &[]);
    let stored = signer.compile("demo", SOURCE, b"", &[]);
    let mut entry = signer.store().peek_entry(&stored.key).expect("readable").expect("there");
    entry.provenance = Provenance::Unknown;
    let evidence = signer.store().evidence(&stored.key).expect("readable").expect("kept");
    signer.store().publish(&stored.key, &entry, &evidence).expect("published");
    let pushed = signer.transfer.push_entry(stored.key).await.expect("considered");
    assert_eq!(pushed, Pushed::Kept(Kept::Foreign(Provenance::Unknown)));
}

#[tokio::test]
async fn what_was_pulled_before_is_replaced_by_what_a_trusted_key_signed() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let before = machine(&bucket);
    assert_eq!(taken(&before, &stored).await, Some(Provenance::Unsigned));
    let honest = victim(&bucket, Some(PRIVATE), &[]);
    honest.compile("demo", SOURCE, b"", &[]);
    honest.transfer.push_entry(stored.key).await.expect("pushed");
    let now = before.rekeyed(&bucket, policy(None, &[PUBLIC]));
    let fetched = now.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("fetched");
    assert!(matches!(fetched, Fetched::Imported { .. }), "{fetched:?}");
    let fetched = now.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("fetched");
    assert_eq!(fetched, Fetched::Known);
}

/// The rows with `witnesses = 2`: A and B are trusted, what A pushed has A's signature.
fn witnessing(signing: Option<&str>) -> Policy {
    let Policy { trust, .. } = policy(signing, &[PUBLIC, OTHER_PUBLIC]);
    Policy { trust: trust.with_witnesses(2), ..Policy::default() }
}

async fn published() -> (Arc<Memory>, Stored) {
    let bucket = bucket();
    let a = Machine::new(&bucket, witnessing(Some(PRIVATE)));
    let stored = a.compile("demo", SOURCE, b"", &[]);
    a.transfer.push_entry(stored.key).await.expect("pushed");
    (bucket, stored)
}

fn witness(bucket: &Arc<Memory>, stderr: &[u8]) -> Machine {
    let b = Machine::new(bucket, witnessing(Some(OTHER_PRIVATE)));
    b.compile("demo", SOURCE, stderr, &[]);
    b
}

async fn victim_takes(bucket: &Arc<Memory>, stored: &Stored) -> Option<Provenance> {
    taken(&Machine::new(bucket, witnessing(None)), stored).await
}

#[tokio::test]
async fn one_of_two_witnesses_is_not_enough() {
    let (bucket, stored) = published().await;
    let victim = Machine::new(&bucket, witnessing(None));
    assert_eq!(taken(&victim, &stored).await, None);
    assert_eq!(victim.transfer.unwitnessed(), 1);
    // It isn't broken, either: A's stays, and becomes good with the next signature.
    let b = witness(&bucket, b"");
    assert_eq!(b.transfer.fetch_manifest(&stored.dir, &stored.key).await.expect("read"), None);
    assert_eq!(b.transfer.push_entry(stored.key).await.expect("pushed"), Pushed::Present);
    assert!(victim_takes(&bucket, &stored).await.is_some(), "a push signs what is the same");
}

#[tokio::test]
async fn two_of_two_witnesses_are_believed_and_an_earlier_kache_sees_what_it_knows() {
    let (bucket, stored) = published().await;
    let b = witness(&bucket, b"");
    for expected in [Attested::Signed, Attested::Already] {
        assert_eq!(b.transfer.attest(stored.key).await.expect("attested"), expected);
    }
    let Some(Provenance::Signed(keys)) = victim_takes(&bucket, &stored).await else { panic!("not taken") };
    assert_eq!(keys.split(',').count(), 2);
    let a = Machine::new(&bucket, witnessing(Some(PRIVATE)));
    a.compile("demo", SOURCE, b"", &[]);
    assert_eq!(a.transfer.attest(stored.key).await.expect("attested"), Attested::Already);
    // The manifest is as A wrote it: whoever knows of no witnesses is served as before, without another request.
    let plain = Machine::new(&bucket, policy(None, &[PUBLIC]));
    let gets = bucket.count(crate::remote::memory::Request::Get);
    assert!(matches!(taken(&plain, &stored).await, Some(Provenance::Signed(_))));
    assert_eq!(bucket.count(crate::remote::memory::Request::Get) - gets, 2);
}

#[tokio::test]
async fn two_signatures_by_one_key_count_once() {
    let (bucket, stored) = published().await;
    let keys = Keys::new("artifacts");
    let name = keys.manifest(&stored.dir, &stored.key);
    let bytes = bucket.object(&name).expect("there");
    let mut manifest = kache_core::remote::manifest::Manifest::decode(&bytes, &stored.key).expect("one");
    let own = manifest.signatures[0].clone();
    manifest.signatures.push(own.clone());
    bucket.set_object(&name, manifest.encode());
    // Beside it, under its own name and under the other key's.
    let b = Trust::new(Some(OTHER_PRIVATE), &[]).expect("a key").signature(&manifest).expect("signed").key;
    for signer in [&own.key, &b] {
        let beside = keys.signature(&stored.dir, &stored.key, signer);
        bucket.set_object(&beside, serde_json::to_vec(&own).expect("JSON"));
    }
    assert_eq!(victim_takes(&bucket, &stored).await, None);
}

#[tokio::test]
async fn signatures_over_different_digests_do_not_add_up() {
    let (bucket, stored) = published().await;
    // B has made something else of the same, and signed that.
    let elsewhere = super::tests::bucket();
    let b = witness(&elsewhere, b"another result");
    b.transfer.push_entry(stored.key).await.expect("pushed");
    let keys = Keys::new("artifacts");
    let name = keys.manifest(&stored.dir, &stored.key);
    let bytes = elsewhere.object(&name).expect("there");
    let other = kache_core::remote::manifest::Manifest::decode(&bytes, &stored.key).expect("one");
    let theirs = &other.signatures[0];
    let beside = keys.signature(&stored.dir, &stored.key, &theirs.key);
    bucket.set_object(&beside, serde_json::to_vec(theirs).expect("JSON"));
    assert_eq!(victim_takes(&bucket, &stored).await, None);
    // Asked to sign A's, it says what differs, and nothing of A's gets into its store.
    let b = b.rekeyed(&bucket, witnessing(Some(OTHER_PRIVATE)));
    let Ok(Attested::Differs(found)) = b.transfer.attest(stored.key).await else { panic!("signed") };
    assert_eq!(found, ["what the compiler said differs"]);
    assert_eq!(victim_takes(&bucket, &stored).await, None);
    let entry = b.store().peek_entry(&stored.key).expect("readable").expect("there");
    assert_ne!(entry.stderr, stored.entry.stderr);
}

/// What is damaged can't be compared; the witness that meets it puts its own in its place.
#[tokio::test]
async fn a_damaged_pack_is_replaced_by_the_witness_that_meets_it() {
    let (bucket, stored) = published().await;
    let name = Keys::new("artifacts").pack(&stored.dir, &stored.key);
    let mut pack = bucket.object(&name).expect("there");
    let middle = pack.len() / 2;
    pack[middle] ^= 1;
    bucket.set_object(&name, pack);
    let b = witness(&bucket, b"");
    let error = b.transfer.push_entry(stored.key).await.expect_err("damaged");
    assert!(error.to_string().contains("damaged or changed"), "{error}");
    let pushed = b.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(pushed, Pushed::Uploaded(_)), "{pushed:?}");
    assert_eq!(victim_takes(&bucket, &stored).await, None, "B's signature alone");
    let a = Machine::new(&bucket, witnessing(Some(PRIVATE)));
    a.compile("demo", SOURCE, b"", &[]);
    assert_eq!(a.transfer.attest(stored.key).await.expect("attested"), Attested::Signed);
    assert!(victim_takes(&bucket, &stored).await.is_some());
}

/// With witnesses a signature stands for a compile: who has only pulled an entry never signs it.
#[tokio::test]
async fn what_was_pulled_is_signed_by_no_witness() {
    let (bucket, stored) = published().await;
    let b = witness(&bucket, b"");
    b.transfer.attest(stored.key).await.expect("attested");
    let c = Machine::new(&bucket, witnessing(Some(OTHER_PRIVATE)));
    assert!(taken(&c, &stored).await.is_some());
    assert_eq!(c.transfer.attest(stored.key).await.expect("considered"), Attested::Absent);
    bucket.clear();
    let pushed = c.transfer.push_entry(stored.key).await.expect("considered");
    assert_eq!(pushed, Pushed::Kept(Kept::Unwitnessed));
}

/// Pulled under one key before two were asked for: it is fetched again once there are two.
#[tokio::test]
async fn what_one_key_signed_counts_no_longer_when_two_are_asked_for() {
    let (bucket, stored) = published().await;
    let before = Machine::new(&bucket, policy(None, &[PUBLIC, OTHER_PUBLIC]));
    assert!(taken(&before, &stored).await.is_some());
    let now = before.rekeyed(&bucket, witnessing(None));
    assert!(!now.transfer.has_here(stored.key).await.expect("looked"));
    witness(&bucket, b"").transfer.attest(stored.key).await.expect("attested");
    let fetched = now.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("fetched");
    assert!(matches!(fetched, Fetched::Imported { .. }), "{fetched:?}");
    assert!(now.transfer.has_here(stored.key).await.expect("looked"));
}

#[tokio::test]
async fn a_manifest_that_was_read_before_keys_were_known_is_judged_again() {
    let (bucket, stored) = poisoned(Policy::default()).await;
    let there = machine(&bucket);
    let read = there.transfer.fetch_manifest(&stored.dir, &stored.key).await.expect("read").expect("there");
    let strict = victim(&bucket, None, &[PUBLIC]);
    let error = strict.transfer.fetch_described(&stored.dir, read).await.expect_err("refused");
    assert!(error.to_string().contains("not signed"), "{error}");
    assert_ne!(Digest::of(SOURCE), stored.key.0);
}
