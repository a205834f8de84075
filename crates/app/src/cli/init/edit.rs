//! The change to Cargo's configuration, as text to text. Keeps comments, order and formatting; knows no files.

use toml_edit::{DocumentMut, Item, TableLike, value};

/// What setting the wrapper does to a configuration.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit {
    /// The new text; `None` when nothing changes.
    pub text: Option<String>,
    /// The wrapper that was set before.
    pub previous: Option<String>,
}

/// Why a configuration can't be edited.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Not TOML.
    #[error("not valid TOML: {0}")]
    Syntax(#[from] toml_edit::TomlError),
    /// `build` or the wrapper is something else than Cargo expects.
    #[error("`{0}` is not {1}")]
    Shape(&'static str, &'static str),
}

/// Sets `build.rustc-wrapper`.
pub fn set_wrapper(text: &str, wanted: &str) -> Result<Edit, EditError> {
    let mut document: DocumentMut = text.parse()?;
    let is_new = !document.contains_key("build");
    let build = document.entry("build").or_insert_with(toml_edit::table);
    if is_new
        && !text.trim().is_empty()
        && let Some(table) = build.as_table_mut()
    {
        table.decor_mut().set_prefix("\n");
    }
    let build = build.as_table_like_mut().ok_or(EditError::Shape("build", "a section"))?;
    let previous = match build.get("rustc-wrapper") {
        None => None,
        Some(item) => {
            Some(item.as_str().ok_or(EditError::Shape("build.rustc-wrapper", "a string"))?.to_owned())
        }
    };
    if previous.as_deref() == Some(wanted) {
        return Ok(Edit { text: None, previous });
    }
    put(build, wanted);
    let mut new_text = document.to_string();
    if text.contains("\r\n") {
        new_text = new_text.replace("\r\n", "\n").replace('\n', "\r\n");
    }
    Ok(Edit { text: Some(new_text), previous })
}

/// Puts the value in, keeping what stands around the old one (a comment at the end of its line).
fn put(build: &mut dyn TableLike, wanted: &str) {
    let mut new = value(wanted);
    match build.get_mut("rustc-wrapper") {
        Some(Item::Value(old)) => {
            if let Item::Value(new) = &mut new {
                *new.decor_mut() = old.decor().clone();
            }
            *old = match new {
                Item::Value(new) => new,
                _ => return,
            };
        }
        _ => {
            build.insert("rustc-wrapper", new);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wrapper_changes() {
        for (old, new) in [
            ("", "[build]\nrustc-wrapper = \"kache\"\n"),
            (
                "# mine\n[build]\njobs = 4 # few\n\n[net]\nretry = 2\n",
                "# mine\n[build]\njobs = 4 # few\nrustc-wrapper = \"kache\"\n\n[net]\nretry = 2\n",
            ),
            ("[net]\nretry = 2\n", "[net]\nretry = 2\n\n[build]\nrustc-wrapper = \"kache\"\n"),
            ("build.jobs = 4\n", "build.jobs = 4\nbuild.rustc-wrapper = \"kache\"\n"),
            ("build = { jobs = 4 }\n", "build = { jobs = 4 , rustc-wrapper = \"kache\" }\n"),
            (
                "[build]\nrustc-wrapper = \"sccache\" # why\njobs = 1\n",
                "[build]\nrustc-wrapper = \"kache\" # why\njobs = 1\n",
            ),
            ("[build]\r\njobs = 1\r\n", "[build]\r\njobs = 1\r\nrustc-wrapper = \"kache\"\r\n"),
        ] {
            let edit = set_wrapper(old, "kache").expect("editable");
            assert_eq!(edit.text.as_deref(), Some(new), "{old}");
            let again = set_wrapper(new, "kache").expect("editable");
            assert_eq!(again, Edit { text: None, previous: Some("kache".into()) });
        }
    }

    #[test]
    fn the_previous_wrapper_is_known() {
        let edit = set_wrapper("[build]\nrustc-wrapper = '/opt/sccache'", "kache").expect("editable");
        assert_eq!(edit.previous.as_deref(), Some("/opt/sccache"));
    }

    #[test]
    fn what_is_not_cargo_configuration_is_refused() {
        for (text, want) in [
            ("build = 3", "`build` is not a section"),
            ("[build]\nrustc-wrapper = 3", "`build.rustc-wrapper` is not a string"),
            ("[build", "not valid TOML"),
        ] {
            let error = set_wrapper(text, "kache").expect_err("refused").to_string();
            assert!(error.starts_with(want), "{error}");
        }
    }
}
