//! Tests of what is found in a bucket that others write to, too: tampered, foreign, newer, too long, signed or not.

use kache_core::digest::Digest;
use kache_core::remote::manifest::Manifest;
use kache_core::remote::records::Grown;

use super::tests::{bucket, machine, pushed};
use super::*;
use crate::pack::UnpackError;
use crate::remote::memory::Request;
use crate::testing::Machine;

pub(super) const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI";
pub(super) const OTHER_PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEIAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEB";
pub(super) const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";

pub(super) const OTHER_PUBLIC: &str = "MCowBQYDK2VwAyEAiojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w=";

/// Of a machine that signs with this key and believes those.
pub(super) fn policy(signing: Option<&str>, trusted: &[&str]) -> Policy {
    let trusted: Vec<_> = trusted.iter().map(|key| (*key).to_owned()).collect();
    Policy { trust: Trust::new(signing, &trusted).expect("keys"), ..Policy::default() }
}

#[tokio::test(start_paused = true)]
async fn what_was_tampered_with_is_refused_and_replaced_by_the_next_push() {
    let bucket = bucket();
    let (_here, stored) = pushed(&bucket).await;
    let keys = Keys::new("artifacts");
    let manifest_name = keys.manifest(&stored.dir, &stored.key);
    let pack_name = keys.pack(&stored.dir, &stored.key);
    let (manifest, pack) =
        (bucket.object(&manifest_name).expect("there"), bucket.object(&pack_name).expect("there"));
    let mut longer = pack.clone();
    longer.push(0);
    let mut flipped = pack.clone();
    flipped[20] ^= 1;
    let other_key = String::from_utf8(manifest.clone()).expect("JSON");
    let other_key = other_key.replace(&stored.key.to_string(), &Digest::of(b"other").to_string());
    let cases: [(&str, Vec<u8>); 7] = [
        (&pack_name, longer),
        (&pack_name, flipped),
        (&pack_name, pack[..pack.len() - 1].to_vec()),
        (&pack_name, Vec::new()),
        (&manifest_name, b"{}".to_vec()),
        (&manifest_name, other_key.into_bytes()),
        (&manifest_name, vec![b' '; 2 << 20]),
    ];
    for (i, (name, bytes)) in cases.into_iter().enumerate() {
        bucket.set_object(name, bytes);
        let there = machine(&bucket);
        let error = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect_err("refused");
        let said = error.to_string();
        assert!(said.contains(&stored.key.to_string()), "{i}: {said}");
        assert_eq!(there.store().entry_count().expect("counted"), 0, "{i}");
        // This machine compiles it then, and its push repairs the bucket.
        let again = there.compile("demo", b"object code", b"warning", &["X"]);
        assert_eq!(again.key, stored.key);
        let done = there.transfer.push_entry(stored.key).await.expect("pushed");
        assert!(matches!(done, Pushed::Uploaded(_)), "{i}");
        let fetched = machine(&bucket).transfer.fetch_entry(&stored.dir, &stored.key).await;
        assert!(matches!(fetched, Ok(Fetched::Imported { .. })), "{i}: {fetched:?}");
        bucket.set_object(&manifest_name, manifest.clone());
        bucket.set_object(&pack_name, pack.clone());
    }
    bucket.remove_object(&pack_name);
    let error = machine(&bucket).transfer.fetch_entry(&stored.dir, &stored.key).await.expect_err("no pack");
    assert!(matches!(error, TransferError::Refused { refusal: Refusal::NoPack, .. }));
    let another = machine(&bucket);
    another.compile("demo", b"object code", b"warning", &["X"]);
    let done = another.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(done, Pushed::Uploaded(_)));
}

#[tokio::test]
async fn an_entry_under_another_key_is_refused_even_with_a_fitting_manifest() {
    let bucket = bucket();
    let (here, stored) = pushed(&bucket).await;
    let victim = here.compile("victim", b"good code", b"", &[]);
    let keys = Keys::new("artifacts");
    let manifest = bucket.object(&keys.manifest(&stored.dir, &stored.key)).expect("there");
    let mut poison = Manifest::decode(&manifest, &stored.key).expect("a manifest");
    poison.key = victim.key;
    bucket.set_object(&keys.manifest(&victim.dir, &victim.key), poison.encode());
    let pack = bucket.object(&keys.pack(&stored.dir, &stored.key)).expect("there");
    bucket.set_object(&keys.pack(&victim.dir, &victim.key), pack);
    let error = machine(&bucket).transfer.fetch_entry(&victim.dir, &victim.key).await.expect_err("refused");
    let refusal = |error| match error {
        TransferError::Refused { refusal: Refusal::Pack(UnpackError::Mismatch(why)), .. } => Some(why),
        _ => None,
    };
    assert_eq!(refusal(error), Some(kache_core::remote::origin::Mismatch::Entry));
}

#[tokio::test]
async fn with_trusted_keys_only_signed_entries_are_used() {
    let bucket = bucket();
    let (_pull_request, stored) = pushed(&bucket).await;
    let release = Machine::new(&bucket, policy(None, &[PUBLIC]));
    let error = release.transfer.fetch_entry(&stored.dir, &stored.key).await.expect_err("refused");
    assert!(error.to_string().contains("not signed"), "{error}");
    assert_eq!(release.store().entry_count().expect("counted"), 0);
    // A machine that signs doesn't leave an unsigned entry in its place.
    let signer = Machine::new(&bucket, policy(Some(PRIVATE), &[PUBLIC]));
    signer.compile("demo", b"object code", b"warning", &["X"]);
    let done = signer.transfer.push_entry(stored.key).await.expect("pushed");
    assert!(matches!(done, Pushed::Uploaded(_)));
    assert_eq!(signer.transfer.push_entry(stored.key).await.expect("pushed"), Pushed::Present);
    let fetched = release.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("fetched");
    assert!(matches!(fetched, Fetched::Imported { .. }));
    // Who trusts keys and has none writes nothing that nobody would use.
    let before = bucket.count(Request::Put);
    let mute = release.compile("mute", b"mute", b"", &[]);
    let done = release.transfer.push_entry(mute.key).await.expect("considered");
    assert_eq!(done, Pushed::Kept(Kept::Unsigned));
    // Another signer leaves what is signed by somebody it trusts.
    let second = Machine::new(&bucket, policy(Some(OTHER_PRIVATE), &[PUBLIC]));
    second.compile("demo", b"object code", b"warning", &["X"]);
    assert_eq!(second.transfer.push_entry(stored.key).await.expect("pushed"), Pushed::Present);
    assert_eq!(bucket.count(Request::Put), before);
}

#[tokio::test]
async fn what_a_newer_kache_wrote_is_neither_used_nor_replaced() {
    for trust in [Trust::default(), Trust::new(Some(PRIVATE), &[]).expect("a key")] {
        let bucket = bucket();
        let (here, stored) = pushed(&bucket).await;
        let name = Keys::new("artifacts").manifest(&stored.dir, &stored.key);
        let newer = br#"{"version":2,"entry":{"other":"form"}}"#.to_vec();
        bucket.set_object(&name, newer.clone());
        let there = Machine::new(&bucket, Policy { trust, ..Policy::default() });
        let fetched = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("a miss");
        assert_eq!(fetched, Fetched::Absent);
        there.compile("demo", b"object code", b"warning", &["X"]);
        for machine in [&there, &here] {
            assert_eq!(machine.transfer.push_entry(stored.key).await.expect("pushed"), Pushed::Present);
        }
        assert_eq!(bucket.object(&name), Some(newer));
    }
}

#[tokio::test]
async fn objects_that_are_too_long_are_no_obstacle() {
    for trust in [Trust::default(), Trust::new(Some(PRIVATE), &[]).expect("a key")] {
        let bucket = bucket();
        let here = Machine::new(&bucket, Policy { trust, ..Policy::default() });
        let stored = here.compile("demo", b"object code", b"warning", &["X"]);
        let keys = Keys::new("artifacts");
        bucket.set_object(&keys.manifest(&stored.dir, &stored.key), vec![b' '; 2 << 20]);
        bucket.set_object(&keys.inputs(&stored.dir, &stored.unit), vec![b' '; 5 << 20]);
        let done = here.transfer.push_entry(stored.key).await.expect("pushed");
        assert!(matches!(done, Pushed::Uploaded(_)));
        let there = machine(&bucket);
        let grown = there.transfer.fetch_inputs(&stored.dir, stored.unit).await.expect("fetched");
        assert_eq!(grown, Grown::Yes);
        let fetched = there.transfer.fetch_entry(&stored.dir, &stored.key).await.expect("fetched");
        assert!(matches!(fetched, Fetched::Imported { .. }));
    }
}
