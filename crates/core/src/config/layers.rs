//! Typed look-up of one setting through its layers: the variable, then the file. Knows neither the list of
//! settings nor their defaults.

use std::ffi::OsString;

use toml::{Table, Value};

use super::error::{ConfigError, Place, Problem};
use super::rows::Name;
use super::spelling::nearest;
use super::{Origin, Setting};

/// The two layers above the defaults.
pub(super) struct Layers<'a> {
    pub env: &'a dyn Fn(&str) -> Option<OsString>,
    /// Path and content of the settings file.
    pub file: Option<(&'a str, Table)>,
}

pub(super) type Found<T> = Result<Option<Setting<T>>, ConfigError>;

impl<'a> Layers<'a> {
    pub fn new(
        file: Option<(&'a str, &str)>,
        env: &'a dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let file = match file {
            None => None,
            Some((path, text)) => Some((path, parse(path, text)?)),
        };
        Ok(Self { env, file })
    }

    /// A variable that is set and not empty.
    pub fn os_variable(&self, name: &str) -> Option<OsString> {
        (self.env)(name).filter(|value| !value.is_empty())
    }

    fn variable(&self, name: Option<&'static str>) -> Result<Option<String>, ConfigError> {
        let Some(name) = name else { return Ok(None) };
        match self.os_variable(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text)),
            Some(Err(_)) => Err(ConfigError { place: Place::Variable(name), problem: Problem::NotUtf8 }),
        }
    }

    /// The value at a dotted key of the file.
    pub(super) fn value(&self, key: Option<&str>) -> Option<(&Value, Place)> {
        let (file, table) = self.file.as_ref()?;
        let key = key?;
        let (sections, last) = key.rsplit_once('.').unwrap_or(("", key));
        let mut table = table;
        for section in sections.split('.').filter(|section| !section.is_empty()) {
            table = table.get(section)?.as_table()?;
        }
        let place = Place::Key { file: (*file).to_owned(), key: key.to_owned() };
        table.get(last).map(|value| (value, place))
    }

    /// Whether the file says something about a key.
    pub fn has(&self, key: &str) -> bool {
        self.value(Some(key)).is_some()
    }

    /// Looks a setting up: `from_text` reads the variable, `from_value` the file's value.
    fn find<T>(
        &self,
        name: &Name,
        from_text: impl Fn(&str) -> Result<T, Problem>,
        from_value: impl Fn(&Value) -> Result<T, Problem>,
    ) -> Found<T> {
        if let Some(text) = self.variable(name.variable)? {
            let place = Place::Variable(name.variable.unwrap_or_default());
            let value = from_text(&text).map_err(|problem| ConfigError { place, problem })?;
            return Ok(Some(Setting { value, origin: Origin::Environment }));
        }
        let Some((value, place)) = self.value(name.key) else { return Ok(None) };
        let value = from_value(value).map_err(|problem| ConfigError { place, problem })?;
        Ok(Some(Setting { value, origin: Origin::File }))
    }

    /// A setting whose text `read` understands; in the file it is a string.
    pub fn text<T>(&self, name: &Name, read: impl Fn(&str) -> Result<T, Problem>) -> Found<T> {
        self.find(name, &read, |value| read(value.as_str().ok_or_else(|| wrong_type(value, "a string"))?))
    }

    /// A switch: true or false in the file; 1, true, yes, on and their opposites in the environment.
    pub fn switch(&self, name: &Name) -> Found<bool> {
        let from_text = |text: &str| match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err(Problem::Value { value: text.to_owned(), why: "is neither 1/true nor 0/false" }),
        };
        self.find(name, from_text, |value| value.as_bool().ok_or_else(|| wrong_type(value, "true or false")))
    }

    /// A whole number that `check` accepts or changes.
    pub fn integer<T>(&self, name: &Name, check: impl Fn(i64) -> Result<T, Problem>) -> Found<T> {
        let from_text = |text: &str| {
            let not = || Problem::Value { value: text.to_owned(), why: "is not a whole number" };
            check(text.trim().parse().map_err(|_| not())?)
        };
        self.find(name, from_text, |value| {
            check(value.as_integer().ok_or_else(|| wrong_type(value, "a whole number"))?)
        })
    }

    /// A list of strings; in the environment they are separated by commas.
    pub fn list(&self, name: &Name) -> Found<Vec<String>> {
        let from_text = |text: &str| {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            Ok(items.map(str::to_owned).collect())
        };
        self.find(name, from_text, strings)
    }

    /// Whether the file is a project's own.
    pub fn is_of_project(&self) -> bool {
        let name = self.file.as_ref().and_then(|(file, _)| std::path::Path::new(file).file_name());
        name.is_some_and(|name| name == ".kache.toml")
    }

    /// A problem with the value of a key of the file.
    pub fn error_at(&self, name: &Name, problem: Problem) -> ConfigError {
        let file = self.file.as_ref().map_or("", |(file, _)| *file).to_owned();
        ConfigError { place: Place::Key { file, key: name.key.unwrap_or_default().to_owned() }, problem }
    }

    /// Every key of the file that is neither in `known` nor a section that holds one of them.
    pub fn unknown_keys(&self, known: &[&str]) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        if let Some((file, table)) = &self.file {
            collect_unknown(file, table, "", known, &mut errors);
        }
        errors
    }
}

/// The strings of an array; none may be empty.
pub(super) fn strings(value: &Value) -> Result<Vec<String>, Problem> {
    let items = value.as_array().ok_or_else(|| wrong_type(value, "a list of strings"))?;
    items
        .iter()
        .map(|item| match item.as_str() {
            Some("") => Err(Problem::Value { value: String::new(), why: "is an empty pattern" }),
            Some(text) => Ok(text.to_owned()),
            None => Err(wrong_type(item, "a list of strings")),
        })
        .collect()
}

pub(super) fn parse(path: &str, text: &str) -> Result<Table, ConfigError> {
    text.parse::<Table>().map_err(|error| ConfigError {
        place: Place::File(path.to_owned()),
        problem: Problem::Syntax(error.to_string().trim_end().to_owned()),
    })
}

pub(super) fn wrong_type(value: &Value, expected: &'static str) -> Problem {
    let found = match value {
        Value::String(_) => "a string",
        Value::Integer(_) => "a whole number",
        Value::Float(_) => "a decimal number",
        Value::Boolean(_) => "a switch",
        Value::Datetime(_) => "a date",
        Value::Array(_) => "a list",
        Value::Table(_) => "a section",
    };
    Problem::Type { value: value.to_string(), found, expected }
}

fn collect_unknown(file: &str, table: &Table, prefix: &str, known: &[&str], errors: &mut Vec<ConfigError>) {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let section = format!("{key}.");
        if known.contains(&key.as_str()) {
            continue;
        }
        let place = || Place::Key { file: file.to_owned(), key: key.clone() };
        match value {
            Value::Table(inner) if known.iter().any(|known| known.starts_with(&section)) => {
                collect_unknown(file, inner, &section, known, errors);
            }
            _ if known.iter().any(|known| known.starts_with(&section)) => {
                errors.push(ConfigError { place: place(), problem: wrong_type(value, "a section") });
            }
            _ => errors
                .push(ConfigError { place: place(), problem: Problem::UnknownKey(nearest(&key, known)) }),
        }
    }
}
