//! Entries.

#![no_main]

use kache_core::entry::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(entry) = Entry::decode(data) {
        assert_eq!(Entry::decode(&entry.encode()).expect("what is encoded can be decoded"), entry);
    }
});
