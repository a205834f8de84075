//! JSON forms that carry their version: how to tell what a newer kache wrote, also where its form is another one.

use serde::Deserialize;

/// As much of such a form as all versions have.
#[derive(Deserialize)]
pub(crate) struct Versioned {
    pub version: u32,
}

/// The version that bytes claim to have, if it is above the one that is known here. For bytes that didn't parse.
pub(crate) fn newer_version(bytes: &[u8], known: u32) -> Option<u32> {
    let Versioned { version } = serde_json::from_slice(bytes).ok()?;
    Some(version).filter(|version| *version > known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_higher_version_is_newer() {
        for (text, expected) in [
            (r#"{"version":3,"other":[1]}"#, Some(3)),
            (r#"{"version":2}"#, None),
            (r#"{"version":-1}"#, None),
            (r#"{"v":3}"#, None),
            ("", None),
        ] {
            assert_eq!(newer_version(text.as_bytes(), 2), expected, "{text}");
        }
    }
}
