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
    let Some(build) = document.get_mut("build") else {
        return Ok(Edit { text: Some(append_section(text, wanted)), previous: None });
    };
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
    let new_text = document.to_string().replace("\r\n", "\n");
    let new_text = if text.contains("\r\n") { new_text.replace('\n', "\r\n") } else { new_text };
    Ok(Edit { text: Some(new_text), previous })
}

/// The text with the section at its end. Done by hand, because comments at the end of a file belong to nothing and
/// the editor would put the section above them.
fn append_section(text: &str, wanted: &str) -> String {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let mut new_text = text.to_owned();
    if !text.is_empty() {
        if !text.ends_with('\n') {
            new_text.push_str(newline);
        }
        new_text.push_str(newline);
    }
    new_text.push_str(&format!("[build]{newline}rustc-wrapper = {}{newline}", value(wanted)));
    new_text
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
            ("# only a comment", "# only a comment\n\n[build]\nrustc-wrapper = \"kache\"\n"),
            ("# windows\r\n", "# windows\r\n\r\n[build]\r\nrustc-wrapper = \"kache\"\r\n"),
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
