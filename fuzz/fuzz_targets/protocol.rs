//! See `kache_fuzz::protocol`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::protocol(data));
