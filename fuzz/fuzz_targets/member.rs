//! Names of a pack's members.

#![no_main]

use kache_core::remote::member::Member;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some(member) = Member::parse(data) {
        assert_eq!(member.to_string().as_bytes(), data, "a name has one form");
        assert!(!data.starts_with(b"/") && !data.windows(2).any(|pair| pair == b".."));
    }
});
