//! What builds needed, as the bucket has it.

#![no_main]

use kache_core::remote::build::BuildManifest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(manifest) = BuildManifest::decode(data) {
        let again = BuildManifest::decode(&manifest.encode()).expect("what is encoded can be decoded");
        assert_eq!(again.encode(), manifest.encode());
    }
});
