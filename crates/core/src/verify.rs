//! Verification of entries by compiling again: which hits are chosen, and in what two results of one compile differ.
//! Knows nothing about where the bytes are.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::entry::{Entry, Output, OutputKind};
use crate::key::EntryKey;

/// The share of hits that are verified, in percent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sample(u8);

impl Sample {
    pub const NONE: Self = Self(0);
    pub const ALL: Self = Self(100);

    /// Reads `10%`, or a switch.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        match text.as_str() {
            "1" | "true" | "yes" | "on" => Some(Self::ALL),
            "0" | "false" | "no" | "off" => Some(Self::NONE),
            text => {
                let percent = text.strip_suffix('%')?.trim().parse().ok()?;
                (percent <= 100).then_some(Self(percent))
            }
        }
    }

    /// Whether a hit is chosen. Each session chooses others, so that in time all have their turn.
    pub fn takes(self, key: &EntryKey, session: &str) -> bool {
        if self.0 == 0 {
            return false;
        }
        let lot = Digest::of(format!("{key} {session}").as_bytes());
        let number = u32::from(lot.as_bytes()[0]) << 8 | u32::from(lot.as_bytes()[1]);
        number * 100 / 0x1_0000 < u32::from(self.0)
    }
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// One thing in which a compile's result is not what the entry says.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Deviation {
    #[error("{}", in_content(.stored, .made))]
    Content { stored: Output, made: Output },
    #[error("{0}: in the entry, and not made now")]
    OnlyStored(String),
    #[error("{0}: made now, and not in the entry")]
    OnlyMade(String),
    /// Messages, printed text or dep-info.
    #[error("{0} differs")]
    Text(&'static str),
    #[error("the compiler fails now, and the entry is of a success")]
    Fails,
}

fn in_content(stored: &Output, made: &Output) -> String {
    if stored.digest == made.digest {
        return format!("{}: other permissions", stored.name);
    }
    let about = |output: &Output| format!("{} bytes {}", output.size, output.digest.short());
    format!("{}: other content ({} stored, {} now)", stored.name, about(stored), about(made))
}

/// Everything in which two results of one compile differ. Times are no part of a result.
pub fn deviations(stored: &Entry, made: &Entry) -> Vec<Deviation> {
    let mut found = Vec::new();
    for output in &stored.outputs {
        match made.outputs.iter().find(|other| other.name == output.name) {
            None => found.push(Deviation::OnlyStored(output.name.clone())),
            Some(other) if (other.digest, other.executable) != (output.digest, output.executable) => {
                found.push(Deviation::Content { stored: output.clone(), made: other.clone() });
            }
            Some(_) => {}
        }
    }
    let is_new = |output: &&Output| !stored.outputs.iter().any(|other| other.name == output.name);
    found.extend(made.outputs.iter().filter(is_new).map(|output| Deviation::OnlyMade(output.name.clone())));
    for (which, stored, made) in [
        ("the dep-info", &stored.dep_info, &made.dep_info),
        ("what the compiler said", &stored.stderr, &made.stderr),
        ("what macros printed", &stored.stdout, &made.stdout),
    ] {
        if stored != made {
            found.push(Deviation::Text(which));
        }
    }
    let kinds = |entry: &Entry| -> BTreeMap<String, OutputKind> {
        entry.outputs.iter().map(|output| (output.name.clone(), output.kind)).collect()
    };
    let about = |entry: &Entry| {
        [&entry.crate_name, &entry.package, &entry.package_version, &entry.target, &entry.dep_info_name]
            .map(Clone::clone)
    };
    if found.is_empty() && (about(stored) != about(made) || kinds(stored) != kinds(made)) {
        found.push(Deviation::Text("what the entry says of itself"));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::{OutputKind, Text};
    use crate::key::UnitKey;

    fn entry(outputs: &[(&str, &[u8])]) -> Entry {
        let mut entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        entry.outputs = outputs
            .iter()
            .map(|(name, content)| Output {
                name: (*name).to_owned(),
                kind: OutputKind::Rlib,
                digest: Digest::of(content),
                size: content.len() as u64,
                mtime_s: 1,
                executable: false,
            })
            .collect();
        entry
    }

    #[test]
    fn samples() {
        let key = |n: u32| EntryKey(Digest::of(&n.to_le_bytes()));
        let taken =
            |sample: Sample, session: &str| (0..10_000).filter(|n| sample.takes(&key(*n), session)).count();
        for (text, low, high) in [
            ("0", 0, 0),
            ("off", 0, 0),
            ("0%", 0, 0),
            ("1", 10_000, 10_000),
            ("100%", 10_000, 10_000),
            ("10%", 900, 1100),
        ] {
            let sample = Sample::parse(text).expect(text);
            assert!((low..=high).contains(&taken(sample, "s")), "{text}: {}", taken(sample, "s"));
        }
        for bad in ["", "ten", "101%", "-1%", "10", "%", "1.5%"] {
            assert_eq!(Sample::parse(bad), None, "{bad}");
        }
        let tenth = Sample::parse("10%").expect("a sample");
        assert!((0..10_000).any(|n| tenth.takes(&key(n), "s") != tenth.takes(&key(n), "t")));
    }

    #[test]
    fn only_what_a_build_can_notice_is_compared() {
        let stored = entry(&[("a", b"1"), ("b", b"2")]);
        let mut same = stored.clone();
        (same.compile_ms, same.created_s, same.outputs[0].mtime_s) = (9, 9, 9);
        assert_eq!(deviations(&stored, &same), []);
        same.outputs[0].kind = OutputKind::ProcMacro;
        assert_eq!(deviations(&stored, &same), [Deviation::Text("what the entry says of itself")]);
        let mut other = entry(&[("a", b"1"), ("b", b"x"), ("c", b"3")]);
        other.stderr = Text::Inline("warning".into());
        let shown: Vec<String> = deviations(&stored, &other).iter().map(ToString::to_string).collect();
        assert!(shown[0].starts_with("b: other content (1 bytes "), "{shown:?}");
        assert_eq!(shown[1..], ["c: made now, and not in the entry", "what the compiler said differs"]);
        assert_eq!(deviations(&other, &entry(&[("a", b"1"), ("b", b"x")])).len(), 2);
    }
}
