//! See `kache_fuzz::argv`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::argv(data));
