//! Manifests of packs, read for whichever key they claim to be of.

#![no_main]

use kache_core::digest::Digest;
use kache_core::key::EntryKey;
use kache_core::remote::manifest::{BLOBS_MAX, Manifest, ManifestError};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let claimed = match Manifest::decode(data, &EntryKey(Digest::of(b"nobody's"))) {
        Err(ManifestError::OtherEntry(claimed)) => claimed,
        other => return drop(other),
    };
    if let Ok(manifest) = Manifest::decode(data, &claimed) {
        let bytes: u64 = manifest.blobs.iter().map(|blob| blob.size).sum();
        assert!(bytes <= manifest.pack.unpacked_size && manifest.blobs.len() <= BLOBS_MAX);
        let again = Manifest::decode(&manifest.encode(), &claimed).expect("what is encoded can be decoded");
        assert_eq!(again, manifest);
        assert_eq!(again.signed_bytes(), manifest.signed_bytes());
    }
});
