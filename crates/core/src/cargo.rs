//! What Cargo is and what it calls things. Everything that depends on a version of Cargo is decided here, from paths and
//! texts; nothing is read.

pub mod configuration;
pub mod layout;

/// Minor versions of Cargo 1 that kache is tested with, the oldest and the newest.
pub const TESTED_MINORS: std::ops::RangeInclusive<u32> = 91..=100;

/// The minor version in the first line of `cargo -V`: 95 of `cargo 1.95.0 (f2d3ce0bd 2026-03-21)`.
pub fn minor_version(line: &str) -> Option<u32> {
    let version = line.strip_prefix("cargo 1.")?;
    version.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (line, minor) in [
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", Some(95)),
            ("cargo 1.100.0", Some(100)),
            ("cargo 1.97.0-nightly (4d1f98451 2026-05-15)", Some(97)),
            ("cargo 2.0.0", None),
            ("rustc 1.95.0", None),
            ("cargo 1.", None),
        ] {
            assert_eq!(minor_version(line), minor, "{line}");
        }
    }
}
