//! See `kache_fuzz::shared`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::shared(data));
