//! The change of one setting, as text to text. Keeps comments, order and what kache doesn't know.

use kache_core::config::Kind;
use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value, value};

/// Why a change can't be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file is not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    /// Something else is where a section should be.
    #[error("`{0}` is not a section")]
    NotASection(String),
    /// Not a value of this kind.
    #[error("{0:?} is not {1}")]
    NotAValue(String, &'static str),
}

/// Sets a dotted key to what was typed, or removes it.
pub fn set(text: &str, key: &str, kind: Kind, typed: Option<&str>) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let (sections, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut table: &mut dyn TableLike = document.as_table_mut();
    for section in sections.split('.').filter(|section| !section.is_empty()) {
        if typed.is_none() && !table.contains_key(section) {
            return Ok(text.to_owned());
        }
        let mut fresh = Table::new();
        // A section that only holds others needs no line of its own.
        fresh.set_implicit(true);
        let item = table.entry(section).or_insert(Item::Table(fresh));
        table = item.as_table_like_mut().ok_or_else(|| EditError::NotASection(section.to_owned()))?;
    }
    match typed {
        None => drop(table.remove(last)),
        Some(typed) => put(table, last, parse(kind, typed)?),
    }
    Ok(document.to_string())
}

/// Puts a value in, keeping the comment behind the old one.
fn put(table: &mut dyn TableLike, key: &str, mut new: Value) {
    match table.get_mut(key) {
        Some(Item::Value(old)) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        _ => drop(table.insert(key, value(new))),
    }
}

/// What was typed, as a value of its kind. A list is written as in TOML, or with commas.
fn parse(kind: Kind, typed: &str) -> Result<Value, EditError> {
    let typed = typed.trim();
    let not = |what| EditError::NotAValue(typed.to_owned(), what);
    match kind {
        Kind::Text => Ok(typed.into()),
        Kind::Switch => match typed.to_ascii_lowercase().as_str() {
            "true" | "on" | "yes" | "1" => Ok(true.into()),
            "false" | "off" | "no" | "0" => Ok(false.into()),
            _ => Err(not("true or false")),
        },
        Kind::Number => typed.parse::<i64>().map(Value::from).map_err(|_| not("a whole number")),
        Kind::List if typed.starts_with('[') => {
            let list: Option<Value> = typed.parse().ok();
            list.filter(Value::is_array).ok_or_else(|| not("a list"))
        }
        Kind::List => {
            let items = typed.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(Value::Array(items.collect::<Array>()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_setting_changes() {
        for (old, key, kind, typed, new) in [
            ("", "cache.seed", Kind::Switch, Some("no"), "[cache]\nseed = false\n"),
            ("", "cache.remote.bucket", Kind::Text, Some("b"), "[cache.remote]\nbucket = \"b\"\n"),
            (
                "# mine\n[cache]\nlocal_max_size = \"1GiB\" # small\n\n[other]\nx = 1\n",
                "cache.local_max_size",
                Kind::Text,
                Some("2GiB"),
                "# mine\n[cache]\nlocal_max_size = \"2GiB\" # small\n\n[other]\nx = 1\n",
            ),
            ("[cache]\na = 1\nseed = true\n", "cache.seed", Kind::Switch, None, "[cache]\na = 1\n"),
            ("x = 1\n", "cache.seed", Kind::Switch, None, "x = 1\n"),
            (
                "cache.s3_concurrency = 3\n",
                "cache.compression_level",
                Kind::Number,
                Some(" 9 "),
                "cache.s3_concurrency = 3\ncache.compression_level = 9\n",
            ),
            ("", "cache.exclude", Kind::List, Some("a/**, b"), "[cache]\nexclude = [\"a/**\", \"b\"]\n"),
            ("", "cache.exclude", Kind::List, Some("['a,b']"), "[cache]\nexclude = ['a,b']\n"),
        ] {
            assert_eq!(set(old, key, kind, typed).expect("a change"), new, "{key} in {old:?}");
        }
    }

    #[test]
    fn what_is_no_value_of_the_kind_is_refused() {
        for (text, kind, typed) in [
            ("", Kind::Switch, "perhaps"),
            ("", Kind::Number, "many"),
            ("", Kind::List, "[1"),
            ("cache = 3", Kind::Text, "x"),
            ("[cache", Kind::Text, "x"),
        ] {
            assert!(set(text, "cache.x", kind, Some(typed)).is_err(), "{text} {typed}");
        }
    }
}
