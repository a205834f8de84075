//! The repository's files, read once: Rust sources with their code told from the rest, and documents.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use crate::lexer::{Lexed, lex};

/// A Rust source file.
pub struct Source {
    /// Path from the repository's root, with `/`.
    pub path: String,
    /// The whole text.
    pub text: String,
    /// The text taken apart.
    pub lexed: Lexed,
    /// Bytes from here on are tests.
    pub tests_from: usize,
}

impl Source {
    /// Name of the crate.
    pub fn krate(&self) -> &str {
        self.path.split('/').nth(1).unwrap_or_default()
    }

    /// Code that is compiled into the product: no comments, literals or tests.
    pub fn product_code(&self) -> &str {
        &self.lexed.code[..self.tests_from]
    }

    /// String literals of the product.
    pub fn product_strings(&self) -> impl Iterator<Item = (usize, &str)> {
        let product = self.lexed.strings.iter().filter(|(at, _)| *at < self.tests_from);
        product.map(|(at, string)| (*at, string.as_str()))
    }

    /// The line of a byte position, from 1.
    pub fn line_of(&self, at: usize) -> usize {
        self.text[..at].bytes().filter(|byte| *byte == b'\n').count() + 1
    }

    /// A place in the file, for messages.
    pub fn place(&self, at: usize) -> String {
        format!("{}:{}", self.path, self.line_of(at))
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
        manifest.ancestors().nth(2).expect("the crate is two levels below the root").to_owned()
    });
    &ROOT
}

/// All Rust sources of the crates.
pub fn sources() -> &'static [Source] {
    static SOURCES: LazyLock<Vec<Source>> =
        LazyLock::new(|| files("crates", "rs").into_iter().map(source).collect());
    &SOURCES
}

fn source((path, text): (String, String)) -> Source {
    let lexed = lex(&text);
    let is_test = path.starts_with("crates/testkit/")
        || path.contains("/tests/")
        || path.ends_with("tests.rs")
        || path.ends_with("/testing.rs");
    let tests_from = if is_test { 0 } else { inline_tests(&lexed.code) };
    Source { path, text, lexed, tests_from }
}

/// Where the test module at a file's end begins.
fn inline_tests(code: &str) -> usize {
    let opens = |at: &usize| {
        code[*at..].lines().nth(1).is_some_and(|line| line.starts_with("mod ") && line.ends_with('{'))
    };
    code.match_indices("#[cfg(test)]\n").map(|(at, _)| at).find(opens).unwrap_or(code.len())
}

/// The documents: Markdown files and the like, with their paths.
pub fn documents() -> &'static [(String, String)] {
    static DOCUMENTS: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
        let mut found = files("docs", "md");
        found.extend(files("bench", "md"));
        for name in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
            found.push((name.to_owned(), read(name)));
        }
        found
    });
    &DOCUMENTS
}

/// The text of a file that must exist.
pub fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Files below a directory with an extension.
fn files(dir: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut dirs = vec![root().join(dir)];
    while let Some(dir) = dirs.pop() {
        for item in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = item.path();
            let is_output = path.file_name().is_some_and(|name| name == "target" || name == "work");
            if path.is_dir() && !is_output {
                dirs.push(path);
            } else if path.extension().is_some_and(|it| it == extension) {
                let relative = path.strip_prefix(root()).expect("below the root");
                let relative = relative.to_string_lossy().replace('\\', "/");
                found.push((relative.clone(), read(&relative)));
            }
        }
    }
    found.sort();
    found
}
