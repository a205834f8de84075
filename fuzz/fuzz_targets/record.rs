//! See `kache_fuzz::record`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::record(data));
