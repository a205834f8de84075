//! Environment variables that a proc macro may read behind the compiler's back: those whose names occur in its
//! library; all, where it lists them. Counts where reads can't be observed. Which names occur is remembered for each library's content. Knows nothing about keys.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::invocation::Env;
use kache_core::key::KeyWriter;
use kache_core::paths::Roots;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;
use serde::{Deserialize, Serialize};

use crate::variables;
use crate::world::value_digest;

/// Variables of the session, not of the build: they differ from shell to shell, the standard library itself names
/// some of them, and a macro whose expansion depends on them is broken anyway.
const IGNORED: &[&str] = &[
    "CARGO_MAKEFLAGS",
    "CI",
    "COLORTERM",
    "COLUMNS",
    "DISPLAY",
    "HOME",
    "HOSTNAME",
    "LANG",
    "LD_LIBRARY_PATH",
    "LINES",
    "LOGNAME",
    "LS_COLORS",
    "MAKEFLAGS",
    "NUM_JOBS",
    "OLDPWD",
    "PATH",
    "PWD",
    "RUSTC",
    "RUSTC_WRAPPER",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "RUST_MIN_STACK",
    "RUST_RECURSION_COUNT",
    "SHELL",
    "SHLVL",
    "TERM",
    "TMPDIR",
    "TZ",
    "USER",
    "_",
];
const IGNORED_PREFIXES: &[&str] =
    &["KACHE_", "LC_", "SSH_", "XDG_", "DBUS_", "TMUX", "VSCODE_", "GPG_", "WAYLAND_"];

#[derive(Default, Serialize, Deserialize)]
struct Names {
    lists_all: Option<bool>,
    tested: BTreeSet<String>,
    found: BTreeSet<String>,
}

/// Digest over the variables (names and values as they are) that the library may read. `library` is
/// its path, `digest` its content. `None` when the library can't be read.
pub fn digest(store: &Store, env: &Env, library: &Path, digest: &Digest) -> Option<Digest> {
    variables(store, env, library, digest).map(|variables| digest_of(&variables))
}

/// As [`variables()`], of the library of that portable name.
pub fn variables_of<'e>(
    store: &Store,
    env: &'e Env,
    roots: &Roots,
    library: &str,
) -> Option<Vec<(&'e str, &'e OsStr)>> {
    let path = roots.path_of(library)?;
    let digest = DigestMemo::new(store).digest(Path::new(&path)).ok()??;
    variables(store, env, Path::new(&path), &digest)
}

/// Digest over variables as they are.
pub fn digest_of(variables: &[(&str, &OsStr)]) -> Digest {
    let mut key = KeyWriter::new("macro environment");
    for (name, value) in variables {
        key.digest(*name, Digest::of(value.as_encoded_bytes()));
    }
    key.finish().0
}

/// Digest over variables, with tokens in place of local roots.
pub fn portable_digest_of(variables: &[(&str, &OsStr)], roots: &Roots) -> Digest {
    let mut key = KeyWriter::new("portable macro environment");
    for (name, value) in variables {
        key.digest(*name, value_digest(value, roots));
    }
    key.finish().0
}

/// The variables that the library may read, with their values. What a macro makes of a path can't be seen, so a value
/// counts as it is until [`crate::proof`] has shown that its paths don't matter.
pub fn variables<'e>(
    store: &Store,
    env: &'e Env,
    library: &Path,
    digest: &Digest,
) -> Option<Vec<(&'e str, &'e OsStr)>> {
    let relevant: Vec<_> = env.iter().filter(|(name, _)| !is_ignored(name)).collect();
    let names = names(store, library, digest, relevant.iter().map(|(name, _)| *name))?;
    let is_named = |name: &str| names.lists_all == Some(true) || names.found.contains(name);
    Some(relevant.into_iter().filter(|(name, _)| is_named(name)).collect())
}

/// Whether the library of that portable name may list all variables; also where it can't be read.
pub fn lists_all(store: &Store, roots: &Roots, library: &str) -> bool {
    let names = roots.path_of(library).and_then(|path| {
        let path = Path::new(&path);
        let digest = DigestMemo::new(store).digest(path).ok()??;
        names(store, path, &digest, std::iter::empty())
    });
    names.is_none_or(|names| names.lists_all == Some(true))
}

/// What is known about a library, which is read only for what was never asked before. `None` when it can't be read.
fn names<'n>(
    store: &Store,
    library: &Path,
    digest: &Digest,
    asked: impl Iterator<Item = &'n str> + Clone,
) -> Option<Names> {
    let mut names: Names = store
        .memo_get("macro-env", digest)
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    if names.lists_all.is_none() || asked.clone().any(|name| !names.tested.contains(name)) {
        let bytes = std::fs::read(library).ok()?;
        names.lists_all = Some(names.lists_all.unwrap_or_else(|| variables::lists_all(&bytes)));
        for name in asked {
            if names.tested.insert(name.to_owned()) && occurs(&bytes, name) {
                names.found.insert(name.to_owned());
            }
        }
        if let Ok(memo) = serde_json::to_vec(&names) {
            // Losing the memo means searching again.
            let _ = store.memo_put("macro-env", digest, &memo);
        }
    }
    Some(names)
}

/// Names of variables that a source may hand to its macros: words in the form that variables' names have, quoted or
/// bare. Which ones a file has depends on nothing but its content.
pub fn names_in(source: &str) -> impl Iterator<Item = &str> {
    let is_name = |text: &&str| {
        (3..=64).contains(&text.len())
            && text.starts_with(|c: char| c.is_ascii_uppercase() || c == '_')
            && text.bytes().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_')
    };
    let words = source.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(is_name).filter(|name| !is_ignored(name))
}

fn is_ignored(name: &str) -> bool {
    IGNORED.contains(&name) || IGNORED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Constants of a Rust library are not delimited, so any occurrence counts.
fn occurs(library: &[u8], name: &str) -> bool {
    memchr::memmem::find(library, name.as_bytes()).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_source() {
        let source = r#"m!("BUILD_ID"); let x = "lower"; env("PATH"); concat!("A", "_B1", "C D", "E=F"); v!(BARE_NAME);"#;
        assert_eq!(names_in(source).collect::<Vec<_>>(), ["BUILD_ID", "_B1", "BARE_NAME"]);
    }
}
