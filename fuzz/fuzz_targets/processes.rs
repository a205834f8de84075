//! See `kache_fuzz::processes`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::processes(data));
