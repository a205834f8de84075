//! Snapshots of dependencies.

#![no_main]

use kache_core::snapshot::Snapshot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(snapshot) = Snapshot::decode(data) {
        let bytes = snapshot.encode();
        let again = Snapshot::decode(&bytes).expect("what is encoded can be decoded");
        assert_eq!(again.encode(), bytes);
        let _ = snapshot.entries();
        let mut joined = again;
        joined.absorb(snapshot);
    }
});
