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
