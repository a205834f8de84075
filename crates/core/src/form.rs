//! JSON forms that carry their version: how they are read, what can be wrong with them, and how to tell what a newer kache
//! wrote, also where its form is another one. Knows none of the forms.

use serde::Deserialize;

use crate::key::EntryKey;

/// Why bytes are not a form that can be used. Each variant begins with what the form is called.
#[derive(Debug, thiserror::Error)]
pub enum FormError {
    #[error("not a usable {0}: {1}")]
    Malformed(&'static str, serde_json::Error),
    /// Left alone.
    #[error("{0} of version {1}, newer than this kache")]
    Newer(&'static str, u32),
    /// A figure that can't be right.
    #[error("the {0} names {1}")]
    Absurd(&'static str, &'static str),
    /// The checksum doesn't fit, or what comes behind the form isn't what it describes.
    #[error("damaged {0}: {1}")]
    Damaged(&'static str, String),
    /// A file name that could leave the output directory.
    #[error("unsafe name in the {0}: {1:?}")]
    UnsafeName(&'static str, String),
    #[error("the {0} is of entry {1}")]
    OtherEntry(&'static str, EntryKey),
    #[error("the {0} are of another lockfile, compiler or CARGO_HOME")]
    OtherBuild(&'static str),
}

impl FormError {
    pub const fn is_newer(&self) -> bool {
        matches!(self, FormError::Newer(..))
    }
}

/// Reads a form of at most the `known` version.
pub(crate) fn decode<'b, T: Deserialize<'b>>(
    bytes: &'b [u8],
    (form, known): (&'static str, u32),
    version: impl Fn(&T) -> u32,
) -> Result<T, FormError> {
    let value: T = serde_json::from_slice(bytes).map_err(|error| match newer_version(bytes, known) {
        Some(version) => FormError::Newer(form, version),
        None => FormError::Malformed(form, error),
    })?;
    if version(&value) > known { Err(FormError::Newer(form, version(&value))) } else { Ok(value) }
}

/// An error for the first of these that is so.
pub(crate) fn refuse(form: &'static str, absurd: &[(bool, &'static str)]) -> Result<(), FormError> {
    match absurd.iter().find(|(is_so, _)| *is_so) {
        Some((_, what)) => Err(FormError::Absurd(form, what)),
        None => Ok(()),
    }
}

/// As much of such a form as all versions have.
#[derive(Deserialize)]
pub(crate) struct Versioned {
    pub version: u32,
}

/// The version that bytes claim to have, if it is above the one that is known here. For bytes that didn't parse.
fn newer_version(bytes: &[u8], known: u32) -> Option<u32> {
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
