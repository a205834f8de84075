//! See `kache_fuzz::lockfile`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::lockfile(data));
