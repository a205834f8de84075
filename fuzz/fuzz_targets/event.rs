//! The journal.

#![no_main]

use kache_core::event::Event;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for line in data.split(|byte| *byte == b'\n') {
        if let Some(event) = Event::decode(line) {
            let line = event.encode();
            let again = Event::decode(line.trim_ascii_end()).expect("what is encoded can be decoded");
            assert_eq!(again.encode(), line);
        }
    }
});
