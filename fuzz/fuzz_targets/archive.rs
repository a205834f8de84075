//! Archives.

#![no_main]

use std::io::Cursor;

use kache_core::archive;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = archive::foreign_member(Cursor::new(data));
});
