//! The linker's own list of the files that it read (`--dependency-file` of GNU ld, gold, lld and mold). Does not ask for
//! it and doesn't look at the files.

use crate::paths::absolute;

/// The files of a report, absolute: Makefile rules, spaces escaped by a backslash, lines continued by one, `$` doubled.
pub fn parse(text: &str, cwd: &str) -> Option<Vec<String>> {
    let joined = text.replace("\\\n", " ");
    let rule = joined.lines().next()?;
    let mut words = Vec::new();
    let mut word = String::new();
    let mut chars = rule.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if chars.peek().is_some_and(|next| matches!(next, ' ' | '#' | '\\')) => {
                word.extend(chars.next())
            }
            '$' if chars.peek() == Some(&'$') => word.extend(chars.next()),
            ' ' | '\t' => words.extend((!word.is_empty()).then(|| std::mem::take(&mut word))),
            c => word.push(c),
        }
    }
    words.extend((!word.is_empty()).then_some(word));
    let colon = words.iter().position(|word| word.ends_with(':'))?;
    Some(words[colon + 1..].iter().map(|word| absolute(cwd, word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let text = "out\\ put: \\\n /usr/lib/crt1.o \\\n  a\\ b.o /c$$d.o\n\n/usr/lib/crt1.o:\n";
        let files = parse(text, "/w").expect("a rule");
        assert_eq!(files, ["/usr/lib/crt1.o", "/w/a b.o", "/c$d.o"]);
        assert_eq!(parse("nothing", "/w"), None);
    }
}
