//! Input records.

#![no_main]

use kache_core::record::RecordSet;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(set) = RecordSet::decode(data) {
        let again = RecordSet::decode(&set.encode()).expect("what is encoded can be decoded");
        assert_eq!(again.records, set.records);
    }
});
