//! Rules about size: files and functions stay readable in one sitting. Tests are not counted in files.

use crate::none;
use crate::repository::{Source, sources};

/// A file's product code is comfortable up to here.
const FILE_LINES_MAX: usize = 400;
/// No exemption goes beyond this.
const FILE_LINES_LIMIT: usize = 600;
/// A file of tests may be longer: it is a list.
const TEST_LINES_MAX: usize = 700;
/// A function fits a screen or two.
const FUNCTION_LINES_MAX: usize = 70;

/// Files over the limit, with their lines. Each is one uniform table or one thing that can't be told in parts.
const LONG_FILES: &[(&str, usize)] = &[];
/// Functions over the limit, with their lines.
const LONG_FUNCTIONS: &[(&str, usize)] = &[];
/// Lines of product code that a crate may have; raising one is a decision for docs/design/0012-a-smaller-house.md.
const CRATE_LINES_MAX: &[(&str, usize)] =
    &[("app", 11_900), ("core", 11_100), ("engine", 10_600), ("service", 11_700), ("store", 8_000)];
/// Names that several types have, in one crate or in several. May only shrink.
const SHARED_NAMES_MAX: usize = 75;
/// How far below its figure an exemption may be before it has to be lowered.
const SLACK: usize = 5;

#[test]
fn files_are_short() {
    let mut violations = Vec::new();
    for source in sources() {
        let lines = source.text[..source.tests_from].lines().count();
        violations.extend(judge(&source.path, lines, FILE_LINES_MAX, LONG_FILES));
        if lines > FILE_LINES_LIMIT {
            violations.push(format!(
                "{}: {lines} lines; no exemption helps beyond {FILE_LINES_LIMIT}",
                source.path
            ));
        }
        let test_lines = source.text[source.tests_from..].lines().count();
        if test_lines > TEST_LINES_MAX {
            violations
                .push(format!("{}: {test_lines} lines of tests, at most {TEST_LINES_MAX}", source.path));
        }
    }
    let exists = |path: &str| sources().iter().any(|source| source.path == path);
    violations.extend(
        LONG_FILES.iter().filter(|(path, _)| !exists(path)).map(|(path, _)| format!("{path}: is gone")),
    );
    none("files are at most 400 lines", violations);
}

#[test]
fn functions_are_short() {
    let mut violations = Vec::new();
    let mut seen = Vec::new();
    for source in sources() {
        for (name, at, lines) in functions(source) {
            let id = format!("{}::{name}", source.path);
            if let Some(violation) = judge(&id, lines, FUNCTION_LINES_MAX, LONG_FUNCTIONS) {
                violations.push(format!("{}: {violation}", source.place(at)));
            }
            seen.push(id);
        }
    }
    let is_gone = |id: &&str| !seen.iter().any(|seen| seen == id);
    let gone = LONG_FUNCTIONS.iter().map(|(id, _)| *id).filter(is_gone);
    violations.extend(gone.map(|id| format!("{id}: is gone")));
    none("functions are at most 70 lines", violations);
}

#[test]
fn crates_do_not_grow() {
    let mut violations = Vec::new();
    for (krate, max) in CRATE_LINES_MAX {
        let files =
            sources().iter().filter(|source| source.path.starts_with(&format!("crates/{krate}/src/")));
        let lines: usize = files.map(|source| source.text[..source.tests_from].lines().count()).sum();
        if lines > *max {
            violations.push(format!("{krate}: {lines} lines, at most {max}"));
        }
    }
    none("a crate keeps to its lines", violations);
}

#[test]
fn few_types_share_a_name() {
    let mut names: Vec<&str> = Vec::new();
    for source in sources().iter().filter(|source| source.path.contains("/src/") && source.tests_from > 0) {
        let starts = source.product_code().lines().map(str::trim_start);
        let types = starts.filter_map(|line| {
            let line = line.strip_prefix("pub ").or(line.strip_prefix("pub(crate) ")).unwrap_or(line);
            let name = ["struct ", "enum ", "trait "].iter().find_map(|word| line.strip_prefix(word))?;
            // A macro's types have no name here.
            name.split(|c: char| !c.is_alphanumeric()).next().filter(|name| !name.is_empty())
        });
        names.extend(types);
    }
    names.sort_unstable();
    let groups: Vec<&[&str]> = names.chunk_by(|a, b| a == b).filter(|group| group.len() > 1).collect();
    let shown: Vec<&str> = groups.iter().map(|group| group[0]).collect();
    assert!(groups.len() <= SHARED_NAMES_MAX, "{} names of several types: {shown:?}", groups.len());
    assert!(groups.len() + SLACK > SHARED_NAMES_MAX, "lower the ceiling to {}", groups.len());
}

/// Compares a size with its limit or its exemption, which may not be looser than it has to be.
fn judge(id: &str, lines: usize, max: usize, exemptions: &[(&str, usize)]) -> Option<String> {
    match exemptions.iter().find(|(exempt, _)| *exempt == id) {
        None if lines > max => Some(format!("{id}: {lines} lines")),
        Some(_) if lines <= max => Some(format!("{id}: {lines} lines, so it needs no exemption any more")),
        Some((_, granted)) if lines > *granted => {
            Some(format!("{id}: {lines} lines, {granted} were granted"))
        }
        Some((_, granted)) if lines + SLACK < *granted => {
            Some(format!("{id}: {lines} lines, lower its exemption of {granted}"))
        }
        _ => None,
    }
}

/// Name, position and length of every function with a body.
fn functions(source: &Source) -> Vec<(String, usize, usize)> {
    let code = &source.lexed.code;
    let mut found = Vec::new();
    for (at, _) in code.match_indices("fn ") {
        let is_keyword =
            at == 0 || !code.as_bytes()[at - 1].is_ascii_alphanumeric() && code.as_bytes()[at - 1] != b'_';
        let name: String =
            code[at + 3..].chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
        if is_keyword
            && !name.is_empty()
            && let Some(end) = body_end(code, at)
        {
            found.push((name, at, code[at..end].lines().count()));
        }
    }
    found
}

/// The end of the body that follows a signature; `None` for a declaration without one.
fn body_end(code: &str, from: usize) -> Option<usize> {
    let (mut braces, mut brackets) = (0usize, 0usize);
    for (i, c) in code[from..].char_indices() {
        match c {
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' => braces += 1,
            '}' => {
                braces = braces.checked_sub(1)?;
                if braces == 0 {
                    return Some(from + i + 1);
                }
            }
            ';' if braces == 0 && brackets == 0 => return None,
            _ => {}
        }
    }
    None
}

#[test]
fn exemptions_only_shrink() {
    let exempt = [("a", 100)];
    assert_eq!(judge("a", 98, 70, &exempt), None);
    for (id, lines, part) in
        [("a", 101, "granted"), ("a", 90, "lower"), ("a", 70, "no exemption"), ("b", 71, "71 lines")]
    {
        assert!(judge(id, lines, 70, &exempt).is_some_and(|text| text.contains(part)), "{id} {lines}");
    }
}
