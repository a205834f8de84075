//! Proves that an output doesn't contain a local path: looks for every local root in its bytes, whole or in pieces.
//! Does not know what the output is or who asked.
//!
//! Whole paths are found wherever a string constant was kept as it is. Optimised code may not keep it: copying a
//! short constant becomes stores of 8-byte immediates and loads of 16- or 32-byte constants, whose pieces start at
//! multiples of eight from the beginning of the string. So two 8-byte pieces of a root at such offsets, near each
//! other, count as a mention too, unless another well-known directory (`CARGO_HOME`, the toolchain, another root) has
//! the same pieces. One alone is found by chance: `/project` is in many a program. A root with only one piece of its
//! own is mentioned by that. What this can't see: a path that was taken apart, hashed, measured or compressed at compile time.

use std::collections::BTreeSet;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::paths::{Root, Roots};

/// Length of the pieces, in bytes.
const PIECE: usize = 8;
/// How many different pieces of a root make a mention of it.
const PIECES_MIN: usize = 2;
/// Pieces of one constant are at most this far apart, in bytes: a function stores them one after the other.
const APART_MAX: usize = 4096;

/// Looks for roots in bytes.
pub struct Scanner {
    automaton: Option<AhoCorasick>,
    /// For each pattern, its root, and how many patterns of that root have to be found.
    owners: Vec<(Root, usize)>,
    overlap_bytes: usize,
}

impl Scanner {
    /// A scanner for `roots`. `others` are directories that may be mentioned freely.
    pub fn new(roots: &Roots, others: &[&str]) -> Self {
        let mut patterns: Vec<Vec<u8>> = Vec::new();
        let mut owners = Vec::new();
        for (root, path) in roots.iter() {
            patterns.push(path.as_bytes().to_vec());
            owners.push((root, 1));
            let is_own = |piece: &&[u8]| {
                let elsewhere =
                    others.iter().copied().chain(roots.iter().filter(|(r, _)| *r != root).map(|(_, p)| p));
                let mut elsewhere = elsewhere.filter(|other| !other.starts_with(path));
                !elsewhere.any(|other| memchr::memmem::find(other.as_bytes(), piece).is_some())
            };
            let pieces: BTreeSet<&[u8]> = path.as_bytes().chunks_exact(PIECE).filter(is_own).collect();
            let needed = pieces.len().min(PIECES_MIN);
            for piece in pieces {
                patterns.push(piece.to_vec());
                owners.push((root, needed));
            }
        }
        // Of several patterns that begin at one place the longest counts; later ones inside it are skipped, which
        // is right for a root below another root and harmless for pieces.
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok();
        let overlap_bytes = patterns.iter().map(Vec::len).max().unwrap_or(1).max(APART_MAX) - 1;
        Self { automaton: automaton.filter(|_| !patterns.is_empty()), owners, overlap_bytes }
    }

    /// How much of one piece of a file has to be looked at again together with the next, in bytes.
    pub fn overlap_bytes(&self) -> usize {
        self.overlap_bytes
    }

    /// The roots that `bytes` mention, in key order.
    pub fn mentions(&self, bytes: &[u8]) -> Vec<Root> {
        let Some(automaton) = &self.automaton else { return Vec::new() };
        let mut found: Vec<Root> = Vec::new();
        let mut pieces: Vec<(Root, &[u8])> = Vec::new();
        for hit in automaton.find_iter(bytes) {
            let (root, needed) = self.owners[hit.pattern().as_usize()];
            if found.contains(&root) {
                continue;
            }
            let piece = (root, &bytes[hit.range()]);
            if needed > 1 && !pieces.contains(&piece) {
                pieces.push(piece);
            }
            if needed == 1 || pieces.iter().filter(|(of, _)| *of == root).count() >= needed {
                found.push(root);
            }
        }
        found.sort_unstable();
        found
    }
}

/// Whether all that a source does with the variable `name` is to locate a file for an `include!`: each mention is
/// `include…!(concat!(env!("name")`. A source that doesn't mention it says nothing: `None`.
pub fn only_locates(source: &str, name: &str) -> Option<bool> {
    let mut mentions = source.match_indices(name).peekable();
    mentions.peek()?;
    Some(mentions.all(|(at, _)| is_in_include(&source[..at])))
}

/// Whether the text before a variable's name ends with the beginning of such an `include!`.
fn is_in_include(before: &str) -> bool {
    let mut rest = before;
    for part in ["\"", "(", "!", "env", "(", "!", "concat", "(", "!"] {
        match rest.trim_end().strip_suffix(part) {
            Some(shorter) => rest = shorter,
            None => return false,
        }
    }
    let rest = rest.trim_end();
    ["include", "include_str", "include_bytes"].iter().any(|name| {
        rest.strip_suffix(name).is_some_and(|head| !head.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mentions(text: &str) -> Vec<Root> {
        let roots = Roots::new([
            (Root::Workspace, "/home/user/projects/demo".to_owned()),
            (Root::Target, "/home/user/projects/demo/target".to_owned()),
        ]);
        Scanner::new(&roots, &["/home/user/.cargo", "/home/user/.rustup/toolchains/stable"])
            .mentions(text.as_bytes())
    }

    #[test]
    fn finds_whole_roots_and_pieces_but_not_shared_ones() {
        for (text, want) in [
            ("nothing here", &[][..]),
            ("..\0/home/user/projects/demo/src\0", &[Root::Workspace]),
            ("/home/user/projects/demo/target/debug", &[Root::Target]),
            ("/home/user/.cargo/registry", &[]),
            ("mov er/proje,x", &[]),
            ("mov er/proje,x; mov er/proje,x", &[]),
            ("mov er/proje,x; mov cts/demo,y", &[Root::Workspace]),
            ("/home/us er/.carg", &[]),
            ("/home/user/projects/demo /home/user/projects/demo/target", &[Root::Target, Root::Workspace]),
        ] {
            assert_eq!(mentions(text), want, "{text}");
        }
        assert!(Scanner::new(&Roots::default(), &[]).mentions(b"x").is_empty());
    }

    #[test]
    fn variables_that_only_locate() {
        for (source, want) in [
            ("fn main() {}", None),
            ("include!(concat!(env!(\"V\"), \"/g.rs\"));", Some(true)),
            ("x = include_str! ( concat!(\n env!( \"V\" ), \"/a\"))", Some(true)),
            ("include!(concat!(env!(\"V\"), \"/g.rs\")); const D: &str = env!(\"V\");", Some(false)),
            ("my_include!(concat!(env!(\"V\"), \"/g.rs\"));", Some(false)),
            ("// V", Some(false)),
        ] {
            assert_eq!(only_locates(source, "V"), want, "{source}");
        }
    }
}
