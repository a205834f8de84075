//! See `kache_fuzz::build_manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::build_manifest(data));
