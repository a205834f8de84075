//! Settings files with an environment, and a crate's `kache.toml`.

#![no_main]

use kache_core::config::{CrateFile, Settings};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Behind an empty line: the environment.
    let (file, env) = text.split_once("\n\n#env\n").unwrap_or((text, ""));
    let env = |name: &str| {
        let value = env.lines().filter_map(|line| line.split_once('=')).find(|(n, _)| *n == name);
        value.map(|(_, value)| value.into())
    };
    if let Ok((settings, _)) = Settings::resolve(Some(("config.toml", file)), env) {
        let _ = settings.rows();
    }
    let _ = CrateFile::parse("kache.toml", file);
});
