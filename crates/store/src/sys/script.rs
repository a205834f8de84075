//! Owns the object that kache links into build scripts, and the variable by which they ask for a run. Knows nothing about
//! what a run is.

/// The object file; empty where it could not be built. See `script/hook.rs`.
pub const HOOK: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hook.o"));

/// Whether a linker for `target` takes the object: it is for the architecture that kache runs on.
#[must_use]
pub fn is_for(target: &str) -> bool {
    !HOOK.is_empty() && target.starts_with(std::env::consts::ARCH) && target.contains("-linux-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn the_object_is_there_for_this_architecture_alone() {
        assert!(HOOK.starts_with(b"\x7fELF"), "{} bytes", HOOK.len());
        let (here, other) =
            if cfg!(target_arch = "x86_64") { ("x86_64", "aarch64") } else { ("aarch64", "x86_64") };
        for (target, expected) in [
            (format!("{here}-unknown-linux-gnu"), true),
            (format!("{here}-unknown-linux-musl"), true),
            (format!("{other}-unknown-linux-gnu"), false),
            (format!("{here}-apple-darwin"), false),
        ] {
            assert_eq!(is_for(&target), expected, "{target}");
        }
    }
}
