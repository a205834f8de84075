//! `[clean]`: what kache removes from target directories by itself, after a build.

use std::time::Duration;

use super::layers::Layers;
use super::{ConfigError, Setting, rows};
use crate::quantity::{parse_duration, parse_size};

const DAY_S: u64 = 86_400;

/// The rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clean {
    /// `clean.auto`: whether anything is removed.
    pub auto: Setting<bool>,
    /// `clean.orphaned_after`: how long a target directory is kept after the last use when its project is gone.
    pub orphaned_after: Setting<Duration>,
    /// `clean.unused_for`: how long a unit is kept that no build uses.
    pub unused_for: Setting<Duration>,
    /// `clean.min_free_space`: where less is free on a target directory's disk, what was used least recently goes first, in
    /// bytes.
    pub free_bytes_min: Option<Setting<u64>>,
}

impl Clean {
    /// Nothing is removed.
    pub(super) const OFF: Clean = Clean {
        auto: Setting::default_of(false),
        orphaned_after: Setting::default_of(Duration::from_secs(DAY_S)),
        unused_for: Setting::default_of(Duration::from_secs(30 * DAY_S)),
        free_bytes_min: None,
    };

    /// A rule that can't be used is a problem, and nothing is removed then.
    pub(super) fn resolve(layers: &Layers<'_>, problems: &mut Vec<ConfigError>) -> Self {
        Self::read(layers).unwrap_or_else(|error| {
            problems.push(error);
            Self::OFF
        })
    }

    fn read(layers: &Layers<'_>) -> Result<Self, ConfigError> {
        let age = |name| layers.text(name, |text| Ok(parse_duration(text)?));
        Ok(Self {
            auto: layers.switch(&rows::CLEAN_AUTO)?.unwrap_or(Self::OFF.auto),
            orphaned_after: age(&rows::ORPHANED_AFTER)?.unwrap_or(Self::OFF.orphaned_after),
            unused_for: age(&rows::UNUSED_FOR)?.unwrap_or(Self::OFF.unused_for),
            free_bytes_min: layers.text(&rows::CLEAN_MIN_FREE, |text| Ok(parse_size(text)?))?,
        })
    }
}
