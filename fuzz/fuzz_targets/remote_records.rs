//! Input records of the bucket, and their way to the store's own.

#![no_main]

use kache_core::record::{RECORDS_MAX, RecordSet};
use kache_core::remote::records::{decode, is_acceptable, merge};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(theirs) = decode(data) else { return };
    let mut mine = RecordSet::default();
    merge(&mut mine, &theirs);
    assert!(mine.records.len() <= RECORDS_MAX && mine.records.iter().all(is_acceptable));
    let before = mine.clone();
    merge(&mut mine, &theirs);
    assert_eq!(mine.records, before.records, "a second time there is nothing new");
    let again = RecordSet::decode(&mine.encode()).expect("what is encoded can be decoded");
    assert_eq!(again.records, mine.records);
});
