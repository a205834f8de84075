//! Entries.

#![no_main]

use kache_core::entry::Entry;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    // Blind bytes would never get past the checksum.
    let sealed = [data, format!("\n{:08x}\n", crc32fast::hash(data)).as_bytes()].concat();
    for data in [data, &sealed] {
        if let Ok(entry) = Entry::decode(data) {
            assert_eq!(Entry::decode(&entry.encode()).expect("what is encoded can be decoded"), entry);
        }
    }
});
