//! The `.d` file that rustc writes: its exact grammar, both ways. Does not know where the files are.
//!
//! Grammar (`compiler/rustc_interface/src/passes.rs`, `write_out_deps`, 1.95), one line each:
//! ```text
//! TARGET: INPUT INPUT …        spaces inside an input are written `\ `, nothing else is escaped, the target not at all
//! INPUT:                       an empty rule for each input
//! # env-dep:NAME[=VALUE]       without `=` the variable was unset; `\\`, `\n`, `\r` are escaped
//! # checksum:ALGORITHM=HEX file_len:BYTES INPUT      with `-Z checksum-hash-algorithm`, of inputs that could be read
//! ```
//! and blank lines between. Anything else is refused. Cargo reads the inputs of the first rule only
//! (`src/cargo/core/compiler/fingerprint/dep_info.rs`, 1.95), and takes the path of a checksum as it stands there: one
//! with a space is never fresh, without kache either.

use std::fmt::Write as _;

/// Longest `.d` text that is accepted, in bytes.
pub const DEP_INFO_BYTES_MAX: u64 = 32 << 20;

/// A parsed `.d` file; rendering it gives the same bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DepInfo {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Line {
    Blank,
    Rule { target: String, inputs: Vec<String> },
    Empty { input: String },
    Env { name: String, value: Option<String> },
    Checksum { sum: String, bytes: u64, input: String },
}

impl DepInfo {
    /// Parses; `Err` names what is not in the grammar.
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix('\n').unwrap_or(text);
        let info = Self { lines: body.split('\n').map(parse_line).collect::<Result<_, _>>()? };
        if info.render() != text {
            return Err("not in the form that rustc writes".to_owned());
        }
        if info.inputs().is_empty() {
            return Err("no inputs".to_owned());
        }
        Ok(info)
    }

    pub fn render(&self) -> String {
        let mut out = String::new();
        for line in &self.lines {
            match line {
                Line::Blank => {}
                Line::Rule { target, inputs } => {
                    out.push_str(target);
                    out.push(':');
                    for input in inputs {
                        out.push(' ');
                        out.push_str(&escape_path(input));
                    }
                }
                Line::Empty { input } => {
                    out.push_str(&escape_path(input));
                    out.push(':');
                }
                Line::Env { name, value: None } => {
                    let _ = write!(out, "# env-dep:{}", escape_env(name));
                }
                Line::Env { name, value: Some(value) } => {
                    let _ = write!(out, "# env-dep:{}={}", escape_env(name), escape_env(value));
                }
                Line::Checksum { sum, bytes, input } => {
                    let _ = write!(out, "# checksum:{sum} file_len:{bytes} {}", escape_path(input));
                }
            }
            out.push('\n');
        }
        out
    }

    /// The input files, as rustc names them.
    pub fn inputs(&self) -> &[String] {
        let first = self.lines.iter().find_map(|line| match line {
            Line::Rule { inputs, .. } => Some(inputs.as_slice()),
            _ => None,
        });
        first.unwrap_or_default()
    }

    /// The environment variables that the compile looked at, with the value that it saw.
    pub fn env(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.lines.iter().filter_map(|line| match line {
            Line::Env { name, value } => Some((name.as_str(), value.as_deref())),
            _ => None,
        })
    }

    /// The same with every path and value changed by `change`; `None` as soon as `change` gives up.
    pub fn map(&self, change: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let map_line = |line: &Line| {
            Some(match line {
                Line::Blank => Line::Blank,
                Line::Rule { target, inputs } => Line::Rule {
                    target: change(target)?,
                    inputs: inputs.iter().map(|input| change(input)).collect::<Option<_>>()?,
                },
                Line::Empty { input } => Line::Empty { input: change(input)? },
                Line::Checksum { sum, bytes, input } => {
                    Line::Checksum { sum: sum.clone(), bytes: *bytes, input: change(input)? }
                }
                Line::Env { name, value } => Line::Env {
                    name: name.clone(),
                    value: match value {
                        Some(value) => Some(change(value)?),
                        None => None,
                    },
                },
            })
        };
        Some(Self { lines: self.lines.iter().map(map_line).collect::<Option<_>>()? })
    }

    /// Adds inputs to every rule, so that Cargo watches them too.
    pub fn add_inputs(&mut self, extra: &[String]) {
        for line in &mut self.lines {
            if let Line::Rule { inputs, .. } = line {
                for path in extra {
                    if !inputs.contains(path) {
                        inputs.push(path.clone());
                    }
                }
            }
        }
    }

    /// Whether inputs come with checksums of this algorithm.
    pub fn has_checksums(&self, algorithm: &str) -> bool {
        let sums = self.lines.iter().filter_map(|line| match line {
            Line::Checksum { sum, .. } => sum.split_once('='),
            _ => None,
        });
        sums.map(|(name, _)| name).any(|name| name == algorithm)
    }

    /// Adds the checksum of an input, unless there is one: Cargo takes an input without for changed.
    pub fn add_checksum(&mut self, algorithm: &str, hex: &str, bytes: u64, path: &str) {
        let is_it = |line: &Line| matches!(line, Line::Checksum { input, .. } if input == path);
        if !self.lines.iter().any(is_it) {
            let (sum, input) = (format!("{algorithm}={hex}"), path.to_owned());
            self.lines.push(Line::Checksum { sum, bytes, input });
        }
    }
}

fn parse_line(line: &str) -> Result<Line, String> {
    if line.is_empty() {
        return Ok(Line::Blank);
    }
    if let Some(rest) = line.strip_prefix("# env-dep:") {
        let (name, value) = match rest.split_once('=') {
            Some((name, value)) => (name, Some(unescape_env(value)?)),
            None => (rest, None),
        };
        return Ok(Line::Env { name: unescape_env(name)?, value });
    }
    if let Some(checksum) = line.strip_prefix("# checksum:").and_then(parse_checksum) {
        return Ok(checksum);
    }
    if line.starts_with('#') {
        return Err(format!("unknown line {line:?}"));
    }
    if let Some((target, inputs)) = line.split_once(": ") {
        return Ok(Line::Rule { target: target.to_owned(), inputs: split_paths(inputs) });
    }
    match line.strip_suffix(':').map(split_paths).as_deref() {
        Some([input]) => Ok(Line::Empty { input: input.clone() }),
        _ => Err(format!("not a rule: {line:?}")),
    }
}

fn parse_checksum(rest: &str) -> Option<Line> {
    let (sum, rest) = rest.split_once(' ')?;
    let (bytes, path) = rest.strip_prefix("file_len:")?.split_once(' ')?;
    sum.split_once('=')?;
    let [input] = <[String; 1]>::try_from(split_paths(path)).ok()?;
    Some(Line::Checksum { sum: sum.to_owned(), bytes: bytes.parse().ok()?, input })
}

/// Splits at spaces that are not escaped, and unescapes.
fn split_paths(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for (i, piece) in line.split(' ').enumerate() {
        let escaped_before = i > 0 && words.last().is_some_and(|word| word.ends_with('\\'));
        if let Some(word) = words.last_mut().filter(|_| escaped_before) {
            word.pop();
            word.push(' ');
            word.push_str(piece);
        } else if i == 0 {
            words[0].push_str(piece);
        } else {
            words.push(piece.to_owned());
        }
    }
    words
}

fn escape_path(path: &str) -> String {
    path.replace(' ', "\\ ")
}

fn escape_env(text: &str) -> String {
    text.replace('\\', "\\\\").replace('\n', "\\n").replace('\r', "\\r")
}

fn unescape_env(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (c, false) => out.push(c),
            _ => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('r') => out.push('\r'),
                other => return Err(format!("unknown escape {other:?}")),
            },
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "/t/o ut/a-1.d: src/lib.rs /t/a\\ dir$x/g\\ h.rs\n\n/t/liba-1.rmeta: src/lib.rs /t/a\\ dir$x/g\\ h.rs\n\n\
        src/lib.rs:\n/t/a\\ dir$x/g\\ h.rs:\n\n# env-dep:EMPTY=\n# env-dep:MULTI=a\\\\nb\\nc\n# env-dep:UNSET\n";

    #[test]
    fn reads_what_rustc_writes() {
        let info = DepInfo::parse(SAMPLE).expect("valid");
        assert_eq!(info.inputs(), ["src/lib.rs", "/t/a dir$x/g h.rs"]);
        let env: Vec<_> = info.env().collect();
        assert_eq!(env, [("EMPTY", Some("")), ("MULTI", Some("a\\nb\nc")), ("UNSET", None)]);
        assert_eq!(info.render(), SAMPLE);
    }

    #[test]
    fn maps_and_adds() {
        let info = DepInfo::parse(SAMPLE).expect("valid");
        let moved = info.map(|text| Some(text.replace("/t/", "/other place/"))).expect("total");
        assert!(
            moved
                .render()
                .starts_with("/other place/o ut/a-1.d: src/lib.rs /other\\ place/a\\ dir$x/g\\ h.rs\n")
        );
        let mut more = info.clone();
        more.add_inputs(&["x.sql".to_owned(), "src/lib.rs".to_owned()]);
        assert_eq!(more.inputs(), ["src/lib.rs", "/t/a dir$x/g h.rs", "x.sql"]);
        assert_eq!(info.map(|_| None), None);
    }

    /// Lines of rustc 1.95, a path with a space among them.
    #[test]
    fn checksums_move_with_their_inputs() {
        let text = "/t/liba-1.rmeta: src/lib.rs /t/w\\ s/g.rs\n\nsrc/lib.rs:\n/t/w\\ s/g.rs:\n\n# env-dep:X\n\
                    # checksum:blake3=37eb file_len:57 src/lib.rs\n# checksum:blake3=3fcf file_len:0 /t/w\\ s/g.rs\n";
        let mut info = DepInfo::parse(text).expect("valid");
        assert_eq!(info.inputs(), ["src/lib.rs", "/t/w s/g.rs"]);
        let moved = info.map(|text| Some(text.replace("/t/w s", "/u v/w"))).expect("total").render();
        assert_eq!(moved, text.replace("/t/w\\ s", "/u\\ v/w"));
        assert!(
            info.has_checksums("blake3") && !info.has_checksums("sha256") && !info.has_checksums("blake")
        );
        info.add_checksum("blake3", "0", 1, "src/lib.rs");
        assert_eq!(info.render(), text);
        info.add_checksum("blake3", "aa", 2, "x y");
        assert_eq!(info.render(), format!("{text}# checksum:blake3=aa file_len:2 x\\ y\n"));
        assert!(!DepInfo::parse(SAMPLE).expect("valid").has_checksums("blake3"));
    }

    #[test]
    fn refuses_what_it_would_not_write_back() {
        for bad in [
            "",
            "\n",
            "a b\n",
            "# checksum:blake3=1 file_len:1 x\n",
            "# checksum:blake3=1 file_len:01 x\na: b\n",
            "# checksum:blake3=1 file_len:1 x y\na: b\n",
            "# checksum:blake3 file_len:1 x\na: b\n",
            "a: b",
            "a:\n",
            "# env-dep:X=\\q\na: b\n",
            "a:  b\n",
        ] {
            let outcome = DepInfo::parse(bad);
            assert!(outcome.is_err() || outcome.is_ok_and(|info| info.render() == bad), "{bad:?}");
        }
        assert!(DepInfo::parse("a: b").is_err());
        assert!(DepInfo::parse("# checksum:x\na: b\n").is_err());
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_text_round_trips_or_is_refused(text in "([ab:\\\\ #=\n]|# env-dep:|# checksum:a=1 file_len:7){0,40}") {
            if let Ok(info) = DepInfo::parse(&text) {
                proptest::prop_assert_eq!(info.render(), text);
            }
        }

        #[test]
        fn any_paths_and_values_survive(paths in proptest::collection::vec("[a-z][a-z $#/]{0,8}[a-z]", 1..4), value in "[ -~\n\r]{0,12}") {
            let mut info = DepInfo { lines: vec![
                Line::Rule { target: "t".into(), inputs: paths.clone() },
                Line::Env { name: "X".into(), value: Some(value.clone()) },
            ] };
            let back = DepInfo::parse(&info.render()).expect("own output");
            proptest::prop_assert_eq!(&back, &info);
            info.add_inputs(&[]);
            proptest::prop_assert_eq!(back.env().next(), Some(("X", Some(value.as_str()))));
        }
    }
}
