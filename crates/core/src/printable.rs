//! Text that may go to a terminal. Names of crates, files and variables come from other people's projects and from
//! other machines, and a terminal obeys what is hidden in them: it moves the cursor, sets its title, turns text around.
//! Knows nothing about where text is written.

use std::borrow::Cow;

/// Stands where a character was that isn't shown.
const REPLACEMENT: char = '\u{fffd}';

/// Whether a terminal would act on a character in place of showing it, or show others out of their order.
fn is_hidden(c: char) -> bool {
    let turns_text_around =
        matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    c.is_control() || turns_text_around
}

/// A text that is to be one line or a part of one: where it has several, a blank stands between them.
pub fn line(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hidden) {
        return text.into();
    }
    let parts = text.split(['\n', '\r']).map(str::trim_ascii).filter(|part| !part.is_empty());
    let joined = parts.collect::<Vec<_>>().join(" ").replace('\t', " ");
    joined.replace(is_hidden, "\u{fffd}").into()
}

/// A text of several lines. The escape sequences in `own` stay: they are whoever shows it's.
pub fn page<'a>(text: &'a str, own: &[&str]) -> Cow<'a, str> {
    let is_layout = |c: char| matches!(c, '\n' | '\t');
    if !text.contains(|c| is_hidden(c) && !is_layout(c)) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let sequence = own.iter().find(|sequence| rest.starts_with(**sequence));
        let taken = match sequence {
            Some(sequence) => {
                shown.push_str(sequence);
                sequence.len()
            }
            // Files edited elsewhere end their lines this way.
            None if rest.starts_with("\r\n") => 1,
            None => {
                shown.push(if is_hidden(c) && !is_layout(c) { REPLACEMENT } else { c });
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    shown.into()
}

/// A JSON document, without a change to what it says: such characters are in strings only, where they can be escaped.
pub fn json(text: &str) -> Cow<'_, str> {
    if !text.contains(|c| is_hidden(c) && c != '\n') {
        return text.into();
    }
    let escaped = text.chars().map(|c| match c {
        '\n' => Cow::from("\n"),
        c if is_hidden(c) => format!("\\u{:04x}", u32::from(c)).into(),
        c => c.to_string().into(),
    });
    escaped.collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_one_and_says_nothing_to_the_terminal() {
        for (text, shown) in [
            ("serde 1.0 – größe_✓", "serde 1.0 – größe_✓"),
            ("a\u{1b}[2Jb", "a\u{fffd}[2Jb"),
            ("a\nerror: b\r", "a error: b"),
            ("linker failed:\r\n  cc:\tno\n", "linker failed: cc: no"),
            ("\u{9b}31m", "\u{fffd}31m"),
            ("x\u{202e}yz\u{2066}", "x\u{fffd}yz\u{fffd}"),
            ("\u{7f}\0", "\u{fffd}\u{fffd}"),
        ] {
            assert_eq!(line(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_page_keeps_its_lines_and_its_own_colours() {
        let own = ["\u{1b}[1m", "\u{1b}[0m"];
        for (text, shown) in [
            ("\u{1b}[1mhead\u{1b}[0m\n\tx\n", "\u{1b}[1mhead\u{1b}[0m\n\tx\n"),
            ("\u{1b}[8mhidden\u{1b}[0m", "\u{fffd}[8mhidden\u{1b}[0m"),
            ("\u{1b}]0;title\u{7}", "\u{fffd}]0;title\u{fffd}"),
            ("a\r\nb\rc", "a\nb\u{fffd}c"),
        ] {
            assert_eq!(page(text, &own), shown, "{text:?}");
        }
    }

    #[test]
    fn json_says_the_same_without_them() {
        let value = serde_json::json!({ "name": "\u{1b}[2J\u{9b}x\u{202e}\u{7f}", "plain": "ü" });
        let text = format!("{value:#}\n");
        let shown = json(&text);
        assert!(!shown.contains(|c| is_hidden(c) && c != '\n'), "{shown:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("JSON"), value);
        assert!(matches!(json("{}\n"), Cow::Borrowed(_)));
    }
}
