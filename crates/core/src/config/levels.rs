//! `[[cache.remotes]]`: several remotes, nearest first. Each table says what `[cache.remote]` would, and is read by the same
//! code. Knows nothing about single settings.
//!
//! A place that the environment names (`KACHE_REMOTE_TYPE`, `KACHE_REMOTE_PATH`, `KACHE_REMOTE_URL`, `KACHE_S3_BUCKET`,
//! `KACHE_GCS_BUCKET`, `KACHE_AZURE_CONTAINER`) replaces all levels, as it replaces the place of a single remote. Other variables hold for every level, but for those
//! that describe one place, and for credentials that could go to a server they aren't for.

use std::collections::BTreeSet;

use toml::{Table, Value};

use super::env;
use super::error::{ConfigError, Place, Problem, Warning};
use super::layers::{Layers, wrong_type};
use super::remote::{self, Remote};

const KEY: &str = "cache.remotes";
/// What the keys of a level are called where it is the only one.
const SINGLE: &str = "cache.remote";
const LEVELS_MAX: usize = 8;
const PLACES: [&str; 6] = [
    env::KACHE_REMOTE_TYPE,
    env::KACHE_REMOTE_PATH,
    env::KACHE_REMOTE_URL,
    env::KACHE_S3_BUCKET,
    env::KACHE_GCS_BUCKET,
    env::KACHE_AZURE_CONTAINER,
];
/// Variables that say more about one place.
const ABOUT_ONE: [&str; 7] = [
    env::KACHE_S3_ENDPOINT,
    env::KACHE_S3_REGION,
    env::KACHE_S3_PREFIX,
    env::KACHE_S3_PROFILE,
    env::KACHE_GCS_ENDPOINT,
    env::KACHE_AZURE_ACCOUNT,
    env::KACHE_AZURE_ENDPOINT,
];
const FOR_ONE_SERVER: [&str; 3] =
    [env::KACHE_REMOTE_TOKEN, env::KACHE_REMOTE_USER, env::KACHE_REMOTE_PASSWORD];

/// The remote that the layers configure, with those behind it. Unknown keys go to `problems`.
pub(super) fn resolve(
    layers: &Layers<'_>,
    known: &[&str],
    warnings: &mut Vec<Warning>,
    problems: &mut Vec<ConfigError>,
) -> Result<Option<Remote>, ConfigError> {
    let Some((value, place)) = layers.value(Some(KEY)) else { return remote::resolve(layers, warnings) };
    let wrong = |problem| ConfigError { place: place.clone(), problem };
    if layers.has(SINGLE) {
        return Err(wrong(Problem::Unfit(
            "can't be combined with `cache.remote`: make that one of the tables",
        )));
    }
    let tables = value.as_array().ok_or_else(|| wrong(wrong_type(value, "a list of sections")))?;
    if tables.len() > LEVELS_MAX {
        return Err(wrong(Problem::Unfit("has more than 8 levels")));
    }
    let is_set = |name: &&str| layers.os_variable(name).is_some();
    if PLACES.iter().any(is_set) {
        return remote::resolve(layers, warnings);
    }
    let is_server = |table: &&Value| table.get("url").is_some();
    let servers = tables.iter().filter(is_server).count();
    let withheld = FOR_ONE_SERVER.into_iter().filter(|_| servers > 1).filter(is_set);
    warnings.extend(withheld.map(Warning::ForWhichServer));
    let visible = |name: &str| {
        let is_hidden = ABOUT_ONE.contains(&name) || (servers > 1 && FOR_ONE_SERVER.contains(&name));
        if is_hidden { None } else { (layers.env)(name) }
    };
    let file = layers.file.as_ref().map_or("", |(file, _)| *file);
    let mut levels = Vec::new();
    for (i, table) in tables.iter().enumerate() {
        let base = format!("{KEY}[{i}]");
        let Value::Table(table) = table else { return Err(wrong(wrong_type(table, "a section"))) };
        let alone = Table::from_iter([("remote".to_owned(), Value::Table(table.clone()))]);
        let alone = Table::from_iter([("cache".to_owned(), Value::Table(alone))]);
        let alone = Layers { env: &visible, file: Some((file, alone)) };
        problems.extend(alone.unknown_keys(known).into_iter().map(|error| renamed(error, &base)));
        let level = remote::resolve(&alone, warnings).map_err(|error| renamed(error, &base))?;
        // Outside of a job that service isn't there, and the other levels are.
        if level.is_none() && table.get("type").and_then(Value::as_str) == Some("gha") {
            continue;
        }
        let nowhere = || ConfigError {
            place: Place::Key { file: file.to_owned(), key: base },
            problem: Problem::Missing("`bucket`, `container`, `path` or `url` has to say where it is"),
        };
        levels.push(level.ok_or_else(nowhere)?);
    }
    // What is a credential for one is one for all.
    let secrets: BTreeSet<String> = levels.iter().flat_map(|level| level.secret_env.value.clone()).collect();
    levels.iter_mut().for_each(|level| level.secret_env.value = secrets.iter().cloned().collect());
    let mut levels = levels.into_iter();
    Ok(levels.next().map(|nearest| Remote { further: levels.collect(), ..nearest }))
}

/// An error about a key of the level at `base`.
fn renamed(mut error: ConfigError, base: &str) -> ConfigError {
    if let Place::Key { key, .. } = &mut error.place
        && let Some(rest) = key.strip_prefix(SINGLE)
    {
        *key = format!("{base}{rest}");
    }
    error
}
