//! See `kache_fuzz::depinfo`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::depinfo(data));
