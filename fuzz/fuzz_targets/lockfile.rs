//! Lockfiles.

#![no_main]

use kache_core::lockfile::Lockfile;
use kache_core::seeding::locked_packages;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let _ = locked_packages(text);
    if let Ok(lockfile) = Lockfile::parse(text) {
        let names: Vec<&str> = lockfile.names().collect();
        for (name, version) in lockfile.dependencies_first() {
            assert!(lockfile.has(name, version) && names.contains(&name));
        }
    }
});
