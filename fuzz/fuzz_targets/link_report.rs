//! The linker's report.

#![no_main]

use kache_core::link_report;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for file in link_report::parse(text, "/w").into_iter().flatten() {
        assert!(file.starts_with('/'), "{file:?} is not absolute");
    }
});
