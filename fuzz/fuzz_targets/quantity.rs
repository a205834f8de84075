//! See `kache_fuzz::quantity`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| kache_fuzz::quantity(data));
