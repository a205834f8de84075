//! See `kache_fuzz::member`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::member(data));
