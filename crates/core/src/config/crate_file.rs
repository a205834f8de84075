//! `kache.toml`, which stands next to a crate's `Cargo.toml` and names inputs that no compiler reports. Knows
//! nothing about how its patterns are matched.

use super::error::{ConfigError, Place, Problem};
use super::layers::{parse, strings};
use super::spelling::nearest;

/// The content of a `kache.toml`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CrateFile {
    /// Globs over files, relative to the directory of the `kache.toml`.
    pub extra_inputs: Vec<String>,
}

impl CrateFile {
    /// Reads the text of the file at `path`.
    pub fn parse(path: &str, text: &str) -> Result<Self, ConfigError> {
        let mut read = Self::default();
        for (key, value) in &parse(path, text)? {
            let at = |problem| ConfigError {
                place: Place::Key { file: path.to_owned(), key: key.clone() },
                problem,
            };
            if key != "extra_inputs" {
                return Err(at(Problem::UnknownKey(nearest(key, &["extra_inputs"]))));
            }
            read.extra_inputs = strings(value).map_err(at)?;
        }
        Ok(read)
    }
}
