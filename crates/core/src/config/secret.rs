//! Credentials in the environment: read without what files and secrets of CI add to them, and never shown.

use std::fmt;

use super::error::{ConfigError, Warning};
use super::layers::Layers;
use super::place::value;
use super::rows::Name;

/// A text that must not be shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

/// A credential of the environment, without the white space and line feeds that come with it out of files and secrets of
/// CI; nothing where nothing else is left.
pub(super) fn half(
    layers: &Layers<'_>,
    name: &'static str,
    warnings: &mut Vec<Warning>,
) -> Result<Option<String>, ConfigError> {
    let read = |text: &str| {
        let key = text.trim();
        if key.chars().any(|c| c.is_whitespace() || c.is_control()) {
            // It may be a secret, so it isn't shown.
            return Err(value("…", "has white space or a control character in the middle"));
        }
        Ok((key.to_owned(), key.len() < text.len()))
    };
    let Some((key, is_trimmed)) = layers.text(&Name::secret(name), read)?.map(|setting| setting.value) else {
        return Ok(None);
    };
    if is_trimmed {
        warnings.push(Warning::Trimmed(name));
    }
    Ok(Some(key).filter(|key| !key.is_empty()))
}
