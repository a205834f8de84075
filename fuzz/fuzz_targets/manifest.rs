//! See `kache_fuzz::manifest`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::manifest(data));
