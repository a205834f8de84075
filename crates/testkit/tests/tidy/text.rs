//! Rules about what stands in the files: module docs, lint attributes, unsafe code, names of environment variables,
//! and what documents may mention.

use crate::none;
use crate::repository::{documents, read, root, sources};

/// The only place for unsafe code.
const UNSAFE_HOME: &str = "crates/store/src/sys/";
/// The only place that spells environment variables of kache as literals.
const ENV_TABLE: &str = "crates/core/src/config/env.rs";

#[test]
fn every_module_says_first_what_it_is() {
    let starts_with_docs = |text: &str| text.lines().next().is_some_and(|line| line.starts_with("//! "));
    let modules = sources().iter().filter(|source| !source.path.ends_with("tests.rs"));
    let violations = modules.filter(|source| !starts_with_docs(&source.text));
    none(
        "the first line of a module is its documentation",
        violations.map(|source| source.path.clone()).collect(),
    );
}

#[test]
fn doc_comments_say_more_than_the_name() {
    let mut violations = Vec::new();
    for source in sources() {
        let lines: Vec<&str> = source.text.lines().map(str::trim_start).collect();
        for (number, lines) in lines.windows(3).enumerate() {
            let (Some(doc), item) = (lines[1].strip_prefix("/// "), lines[2]) else { continue };
            if !lines[0].starts_with("///") && repeats(doc, item) {
                violations.push(format!("{}:{}: {doc}", source.path, number + 2));
            }
        }
    }
    none("a doc comment says more than the name", violations);
}

/// Whether every word of a comment is in the line that follows it.
fn repeats(doc: &str, item: &str) -> bool {
    const FILLERS: &[&str] =
        &["a", "all", "an", "and", "at", "for", "in", "it", "its", "of", "s", "the", "this", "to"];
    let lower = item.to_lowercase();
    let mut said =
        doc.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(str::to_lowercase);
    let is_item = ["pub", "fn ", "struct ", "enum ", "const ", "static ", "type ", "trait "];
    // What is quoted is the name that users know, not the one in the code.
    !doc.contains('`')
        && is_item.iter().any(|start| item.starts_with(start))
        && said.all(|word| FILLERS.contains(&word.as_str()) || lower.contains(&word))
}

#[test]
fn what_only_repeats_a_name_is_recognised() {
    assert!(repeats("The store.", "pub fn store(&self) -> &Arc<Store> {"));
    assert!(repeats("Longest value in bytes.", "const LONGEST_VALUE_BYTES: u64 = 1;"));
    assert!(!repeats("The store, locked.", "pub fn store(&self) -> &Arc<Store> {"));
    assert!(!repeats("Seconds since 1970.", "At(i64),"));
    assert!(!repeats("`--test`.", "pub is_test: bool,"));
}

#[test]
fn unsafe_code_is_in_one_module() {
    let outside = sources().iter().filter(|source| !source.path.starts_with(UNSAFE_HOME));
    let violations = outside.flat_map(|source| {
        words(&source.lexed.code).filter(|(_, word)| *word == "unsafe").map(|(at, _)| source.place(at))
    });
    none("unsafe code is in store::sys only", violations.collect());
}

#[test]
fn lints_are_expected_with_a_reason_and_never_allowed() {
    let mut violations = Vec::new();
    for source in sources() {
        let code = &source.lexed.code;
        for (at, _) in code.match_indices("[allow(") {
            violations.push(format!("{}: `allow`; use `expect` with a reason", source.place(at)));
        }
        for (at, _) in code.match_indices("[expect(") {
            let attribute = code[at..].split(']').next().unwrap_or_default();
            if !attribute.contains("reason") {
                violations.push(format!("{}: `expect` without a reason", source.place(at)));
            }
        }
    }
    none("lints are silenced by `expect` with a reason", violations);
}

#[test]
fn variables_of_kache_are_spelled_in_one_table() {
    let mut violations = Vec::new();
    for source in sources().iter().filter(|source| source.path != ENV_TABLE) {
        for (at, string) in source.product_strings() {
            if string.starts_with("KACHE_") && string.len() > 6 && string.bytes().all(is_name_byte) {
                violations.push(format!("{}: {string:?}; use core::config::env", source.place(at)));
            }
        }
    }
    none("environment variables of kache are literals in core::config::env only", violations);
}

#[test]
fn every_variable_that_is_mentioned_exists_and_is_documented() {
    let table = read(ENV_TABLE);
    let exists = |name: &str| table.contains(&format!("    {name}, \""));
    let sources = sources().iter().filter(|source| source.tests_from > 0);
    let texts = sources.map(|source| (source.path.as_str(), &source.text[..source.tests_from]));
    let texts: Vec<(&str, &str)> =
        texts.chain(documents().iter().map(|(path, text)| (path.as_str(), text.as_str()))).collect();
    let mut violations = Vec::new();
    for (path, text) in &texts {
        for (_, word) in words(text).filter(|(_, word)| word.starts_with("KACHE_") && word.len() > 6) {
            // `KACHE_S3_*` stands for a family.
            if !exists(word) && !word.ends_with('_') {
                violations.push(format!("{path}: {word} is in no table"));
            }
        }
    }
    let guide = read("docs/guide/settings.md");
    for (_, word) in words(&table).filter(|(_, word)| word.starts_with("KACHE_") && word.len() > 6) {
        if !guide.contains(&format!("`{word}`")) {
            violations.push(format!("docs/guide/settings.md: {word} is missing"));
        }
    }
    none("variables are documented and documented ones exist", violations);
}

#[test]
fn documents_name_no_hosts_and_no_private_paths() {
    let mut violations = Vec::new();
    for (path, text) in documents() {
        for (number, line) in text.lines().enumerate() {
            let tokens = line.split(|c: char| c.is_whitespace() || "`'\"()<>[]|,=".contains(c));
            let bad = tokens.filter(|token| names_host(token) || is_private_path(token));
            violations.extend(bad.map(|token| format!("{path}:{}: {token}", number + 1)));
        }
    }
    none("documents name example hosts and generic paths only", violations);
}

/// Whether a word is, or has in it, the name of a host that isn't made for examples.
fn names_host(token: &str) -> bool {
    const EXAMPLES: &[&str] =
        &["example.com", "example.org", "r2.cloudflarestorage.com", "apache.org", "storage.googleapis.com"];
    const TOP_LEVEL: &[&str] = &["com", "org", "net", "io", "dev", "app", "cloud"];
    let host = token.split_once("://").map_or(token, |(_, rest)| rest);
    let host = host.split(['/', ':']).next().unwrap_or_default().trim_end_matches('.');
    let is_name =
        |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let parts: Vec<&str> = host.split('.').collect();
    let looks_like_one = parts.len() > 1 && parts.iter().all(|part| is_name(part));
    looks_like_one
        && parts.last().is_some_and(|last| TOP_LEVEL.contains(last))
        && !EXAMPLES.iter().any(|example| host == *example || host.ends_with(&format!(".{example}")))
}

/// Whether a word is an absolute path outside the places that every system has.
fn is_private_path(token: &str) -> bool {
    const PUBLIC: &[&str] = &[
        "bin", "cache", "dev", "etc", "home", "kache", "mnt", "nix", "opt", "path", "proc", "run", "src",
        "sys", "tmp", "usr", "var",
    ];
    let Some(rest) = token.strip_prefix('/') else { return false };
    let mut parts = rest.split('/');
    let first = parts.next().unwrap_or_default();
    let is_word = !first.is_empty() && first.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    is_word && parts.next().is_some() && !PUBLIC.contains(&first)
}

#[test]
fn documents_stay_short_enough_to_be_read() {
    let mut violations = Vec::new();
    let lines = read("docs/architecture.md").lines().count();
    if lines > 300 {
        violations.push(format!("docs/architecture.md: {lines} lines, at most 300"));
    }
    let tenets = read("docs/tenets.md").lines().filter(|line| line.starts_with("## ")).count();
    if tenets > 15 {
        violations.push(format!("docs/tenets.md: {tenets} tenets, at most 15"));
    }
    none("documents stay short", violations);
}

#[test]
fn links_between_documents_lead_somewhere() {
    let mut violations = Vec::new();
    for (path, text) in documents() {
        let dir = root().join(path);
        let dir = dir.parent().expect("a file has a directory");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap_or_default();
            if !link.contains("://") && !file.is_empty() && !dir.join(file).exists() {
                violations.push(format!("{path}: {link}"));
            }
        }
    }
    none("links between documents lead somewhere", violations);
}

/// A document that says which test shows something names one that exists.
#[test]
fn tests_that_documents_name_exist() {
    let code: String = sources().iter().map(|source| source.lexed.code.as_str()).collect();
    let mut violations = Vec::new();
    let mut named = 0;
    for (path, text) in documents() {
        let spans = text.split('`').skip(1).step_by(2).filter_map(|span| span.rsplit_once("::"));
        // A test's name is a sentence; a module's is a word or two.
        for (_, name) in spans.filter(|(_, name)| name.matches('_').count() > 1) {
            named += 1;
            if !code.contains(&format!("fn {name}(")) {
                violations.push(format!("{path}: {name}"));
            }
        }
    }
    assert!(named > 50, "only {named} tests are named");
    none("tests that documents name exist", violations);
}

#[test]
fn ci_runs_the_test_command_that_the_readme_gives() {
    let command = "cargo test --workspace --locked";
    for path in ["README.md", ".ci/run"] {
        assert!(read(path).contains(command), "{path} doesn't have `{command}`");
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_'
}

/// Words of letters, digits and underscores, with their positions.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    text.split(move |c| !is_word(c)).filter(|word| !word.is_empty()).map(move |word| {
        let at = word.as_ptr() as usize - text.as_ptr() as usize;
        (at, word)
    })
}

#[test]
fn hosts_and_paths_are_recognised() {
    for host in ["registry.io", "https://some.where.org/x", "a.dev:80"] {
        assert!(names_host(host), "{host}");
    }
    for other in
        ["main.rs", "s3.example.com", "https://x.example.com/y", "1.5", "config.toml", "a.b/c.com.x", "etc."]
    {
        assert!(!names_host(other), "{other}");
    }
    for path in ["/srv/x", "/private/y/z"] {
        assert!(is_private_path(path), "{path}");
    }
    for other in ["/usr/lib", "/tmp/x", "/", "/{prefix}/v3", "a/b", "/stats"] {
        assert!(!is_private_path(other), "{other}");
    }
}
