//! `.d` files.

#![no_main]

use kache_core::depinfo::DepInfo;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(info) = DepInfo::parse(text) {
        let again = DepInfo::parse(&info.render()).expect("what is rendered can be parsed");
        assert_eq!(again.render(), info.render());
    }
});
