//! See `kache_fuzz::link_report`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::link_report(data));
