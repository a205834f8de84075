//! Just enough of Rust's lexical grammar to tell code from comments and literals. Knows no syntax beyond that.

/// A source text with everything that isn't code blanked out, and the string literals that were in it. Line
/// structure and byte positions stay.
pub struct Lexed {
    /// Code; comments and the contents of literals are blanks.
    pub code: String,
    /// String literals with the byte position of their content.
    pub strings: Vec<(usize, String)>,
}

/// Separates code from comments and literals.
pub fn lex(text: &str) -> Lexed {
    let bytes = text.as_bytes();
    let mut lexed = Lexed { code: String::new(), strings: Vec::new() };
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let (end, string) = piece(bytes, at);
        if let Some((start, stop)) = string {
            lexed.strings.push((start, String::from_utf8_lossy(&bytes[start..stop]).into_owned()));
        }
        if end > at + 1 || string.is_some() {
            blank(&mut code[at..end]);
        }
        at = end;
    }
    lexed.code = String::from_utf8_lossy(&code).into_owned();
    lexed
}

/// The end of the comment, literal or single byte of code at `at`, and the range of a string literal's content.
fn piece(bytes: &[u8], at: usize) -> (usize, Option<(usize, usize)>) {
    let rest = &bytes[at..];
    let starts_word = at == 0 || !is_word(bytes[at - 1]);
    if rest.starts_with(b"//") {
        (at + rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len()), None)
    } else if rest.starts_with(b"/*") {
        (at + block_comment(rest), None)
    } else if starts_word && let Some(hashes) = raw_string_start(rest) {
        let (start, stop, end) = raw_string(rest, hashes);
        (at + end, Some((at + start, at + stop)))
    } else if rest[0] == b'"' {
        let stop = string_end(rest);
        (at + (stop + 1).min(rest.len()), Some((at + 1, at + stop)))
    } else if rest[0] == b'\'' {
        (at + char_literal(rest), None)
    } else {
        (at + 1, None)
    }
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < rest.len() {
        match &rest[i..] {
            [b'/', b'*', ..] => (depth, i) = (depth + 1, i + 2),
            [b'*', b'/', ..] if depth == 1 => return i + 2,
            [b'*', b'/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
    }
    rest.len()
}

/// Length of `r##"` and the like, up to and with the quote.
fn raw_string_start(rest: &[u8]) -> Option<usize> {
    let prefix = [&b"br"[..], b"cr", b"r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].iter().take_while(|b| **b == b'#').count();
    (rest.get(prefix.len() + hashes) == Some(&b'"')).then_some(prefix.len() + hashes + 1)
}

fn raw_string(rest: &[u8], start: usize) -> (usize, usize, usize) {
    let hashes = rest[..start].iter().filter(|b| **b == b'#').count();
    let close: Vec<u8> = std::iter::once(b'"').chain(std::iter::repeat_n(b'#', hashes)).collect();
    let found = rest[start..].windows(close.len()).position(|window| window == close);
    let stop = found.map_or(rest.len(), |i| start + i);
    (start, stop, (stop + close.len()).min(rest.len()))
}

fn string_end(rest: &[u8]) -> usize {
    let mut i = 1;
    while i < rest.len() {
        match rest[i] {
            b'\\' => i += 2,
            b'"' => return i,
            _ => i += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; 1 for the quote of a lifetime.
fn char_literal(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let close = rest.iter().skip(3).position(|b| *b == b'\'');
        return close.map_or(1, |i| i + 4);
    }
    // A character of up to four bytes, then the closing quote.
    let close = rest.iter().take(6).skip(2).position(|b| *b == b'\'');
    match close {
        Some(i) if std::str::from_utf8(&rest[1..i + 2]).is_ok_and(|text| text.chars().count() == 1) => i + 3,
        _ => 1,
    }
}

#[test]
fn code_is_told_from_comments_and_literals() {
    for (text, code, strings) in [
        ("a // b\nc", "a     \nc", vec![]),
        ("a /* b /* c */ d */ e", "a                   e", vec![]),
        ("f(\"x\\\"y\")", "f(      )", vec!["x\\\"y"]),
        ("r#\"a\"b\"# c", "         c", vec!["a\"b"]),
        ("for<'a> 'x' '\\'' 'ü' b", "for<'a>               b", vec![]),
        ("var\"\"", "var  ", vec![""]),
    ] {
        let lexed = lex(text);
        assert_eq!(lexed.code.trim_end(), code.trim_end(), "{text}");
        assert_eq!(lexed.strings.iter().map(|(_, s)| s.as_str()).collect::<Vec<_>>(), strings, "{text}");
    }
}
