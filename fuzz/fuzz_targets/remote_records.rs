//! See `kache_fuzz::remote_records`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::remote_records(data));
