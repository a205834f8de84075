//! Durations and sizes.

#![no_main]

use kache_core::quantity;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = quantity::parse_duration(text);
    let _ = quantity::parse_size(text);
});
