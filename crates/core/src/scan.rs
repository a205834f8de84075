//! Proves that an output doesn't contain a local path: looks for every local root in its bytes, whole or in pieces.
//! Does not know what the output is or who asked.
//!
//! Whole paths are found wherever a string constant was kept as it is. Optimised code may not keep it: copying a
//! short constant becomes stores of 8-byte immediates and loads of 16- or 32-byte constants, whose pieces start at
//! multiples of eight from the beginning of the string. So two 8-byte pieces of a root at such offsets, near each
//! other, count as a mention too. One of the two must be in no other root and in no other well-known directory (`CARGO_HOME`, the
//! toolchain). One alone is found by chance: `project/` is in every program that LLD has linked.
//! A root that has no second piece is mentioned by the one. What this can't see: a path that was taken apart, hashed,
//! measured or compressed at compile time.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};

use crate::paths::{Root, Roots};

/// Length of the pieces, in bytes.
const PIECE: usize = 8;
/// Pieces of one constant are at most this far apart, in bytes: a function stores them one after the other.
const APART_MAX: usize = 4096;

/// Looks for roots in bytes.
pub struct Scanner {
    wholes: Option<AhoCorasick>,
    /// The root that each of them is.
    roots: Vec<Root>,
    pieces: Option<AhoCorasick>,
    /// What each piece says.
    signs: Vec<Vec<Sign>>,
    overlap_bytes: usize,
}

/// What a piece says about a root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sign {
    root: Root,
    kind: SignKind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SignKind {
    /// The only one that the root has.
    Only,
    /// A piece of it, and of no other root that isn't below it.
    Own,
    /// A piece of it and of others, or of a directory that may be mentioned.
    Shared,
}

impl Scanner {
    /// A scanner for `roots`. `others` are directories that may be mentioned freely.
    pub fn new(roots: &Roots, others: &[&str]) -> Self {
        let mut wholes: BTreeMap<&[u8], Root> = BTreeMap::new();
        let mut patterns: BTreeMap<&[u8], Vec<Sign>> = BTreeMap::new();
        for (root, path) in roots.iter() {
            wholes.insert(path.as_bytes(), root);
            let is_in = |other: &str, piece: &[u8]| {
                !other.starts_with(path) && memchr::memmem::find(other.as_bytes(), piece).is_some()
            };
            let mut pieces: Vec<&[u8]> = path.as_bytes().chunks_exact(PIECE).collect();
            pieces.sort_unstable();
            pieces.dedup();
            for piece in &pieces {
                let is_own = !roots.iter().any(|(other, path)| other != root && is_in(path, piece))
                    && !others.iter().any(|other| is_in(other, piece));
                let kind = match (is_own, pieces.len()) {
                    (true, 1) => SignKind::Only,
                    (true, _) => SignKind::Own,
                    (false, _) => SignKind::Shared,
                };
                patterns.entry(piece).or_default().push(Sign { root, kind });
            }
        }
        let longest = wholes.keys().map(|path| path.len()).max().unwrap_or(1);
        // Of several roots that begin at one place the longest counts: one may be below another.
        let automaton = |patterns: Vec<&[u8]>| {
            AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(patterns).ok()
        };
        Self {
            pieces: automaton(patterns.keys().copied().collect()).filter(|_| !patterns.is_empty()),
            signs: patterns.into_values().collect(),
            wholes: automaton(wholes.keys().copied().collect()).filter(|_| !wholes.is_empty()),
            roots: wholes.into_values().collect(),
            overlap_bytes: longest.max(APART_MAX) - 1,
        }
    }

    /// How much of one piece of a file has to be looked at again together with the next, in bytes.
    pub fn overlap_bytes(&self) -> usize {
        self.overlap_bytes
    }

    /// The roots that `bytes` mention, in key order.
    pub fn mentions(&self, bytes: &[u8]) -> Vec<Root> {
        self.mentions_where(bytes, |_| true)
    }

    /// As [`Scanner::mentions`], but a piece of a root only counts at offsets that `may_be_split` accepts: nothing takes
    /// a path apart in debug information, so there pieces are those of other paths, of another checkout for instance.
    pub fn mentions_where(&self, bytes: &[u8], may_be_split: impl Fn(usize) -> bool) -> Vec<Root> {
        let mut found: Vec<Root> = Vec::new();
        let whole: Vec<_> = self.wholes.iter().flat_map(|automaton| automaton.find_iter(bytes)).collect();
        for hit in &whole {
            let root = self.roots[hit.pattern().as_usize()];
            if !found.contains(&root) {
                found.push(root);
            }
        }
        // Of each piece of a root the place where it was last.
        let mut pieces: Vec<(Sign, usize, usize)> = Vec::new();
        let mut whole = whole.iter().peekable();
        for hit in self.pieces.iter().flat_map(|automaton| automaton.find_iter(bytes)) {
            let (pattern, at) = (hit.pattern().as_usize(), hit.start());
            while whole.next_if(|root| root.end() <= at).is_some() {}
            // What a root that is mentioned as a whole consists of says nothing about those above and below it.
            if whole.peek().is_some_and(|root| root.start() <= at) || !may_be_split(at) {
                continue;
            }
            for sign in &self.signs[pattern] {
                if found.contains(&sign.root) {
                    continue;
                }
                let completes = |(other, of, there): &(Sign, usize, usize)| {
                    let is_own = sign.kind == SignKind::Own || other.kind == SignKind::Own;
                    other.root == sign.root && *of != pattern && is_own && at - there <= APART_MAX
                };
                if sign.kind == SignKind::Only || pieces.iter().any(completes) {
                    found.push(sign.root);
                    continue;
                }
                match pieces.iter_mut().find(|(known, of, _)| (known, *of) == (sign, pattern)) {
                    Some((.., last)) => *last = at,
                    None => pieces.push((*sign, pattern, at)),
                }
            }
        }
        found.sort_unstable();
        found
    }
}

/// Whether all that a source does with the variable `name` is to locate a file for an `include!`: each mention is
/// `include…!(env!("name")` or `include…!(concat!(env!("name")`. A source that doesn't mention it says nothing: `None`.
pub fn only_locates(source: &str, name: &str) -> Option<bool> {
    let mut mentions = source.match_indices(name).peekable();
    mentions.peek()?;
    Some(mentions.all(|(at, _)| is_in_include(&source[..at])))
}

/// Whether the text before a variable's name ends with the beginning of such an `include!`.
fn is_in_include(before: &str) -> bool {
    let Some(inside) = without(before, &["\"", "(", "!", "env"]) else { return false };
    let inside = without(inside, &["(", "!", "concat"]).unwrap_or(inside);
    let Some(rest) = without(inside, &["(", "!"]) else { return false };
    let rest = rest.trim_end();
    ["include", "include_str", "include_bytes"].iter().any(|name| {
        rest.strip_suffix(name).is_some_and(|head| !head.ends_with(|c: char| c.is_alphanumeric() || c == '_'))
    })
}

/// A text without these words at its end, the last one first; between them may be white space.
fn without<'t>(text: &'t str, words: &[&str]) -> Option<&'t str> {
    words.iter().try_fold(text, |rest, word| rest.trim_end().strip_suffix(word))
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
            (&format!("mov er/proje,x{}mov cts/demo,y", "-".repeat(8000)), &[]),
            ("/home/us er/.carg", &[]),
            ("/home/user/projects/demo /home/user/projects/demo/target", &[Root::Target, Root::Workspace]),
        ] {
            assert_eq!(mentions(text), want, "{text}");
        }
        // The only piece that the target directory has for itself is `project/`.
        let roots = Roots::new([
            (Root::Workspace, "/srv/ci/builds/0017/some/team/a/project".to_owned()),
            (Root::Target, "/srv/ci/builds/0017/some/team/a/project/target".to_owned()),
        ]);
        let scanner = Scanner::new(&roots, &[]);
        assert_eq!(scanner.mentions(b"the project/ of others"), []);
        assert_eq!(scanner.mentions(b"mov 017/some,x; mov project/,y"), [Root::Target]);
        assert!(Scanner::new(&Roots::default(), &[]).mentions(b"x").is_empty());
        // Where no path is taken apart, only whole ones count.
        let pieces = b"mov 017/some,x; mov project/,y";
        assert_eq!(scanner.mentions_where(pieces, |at| at < 20), []);
        let whole = b"/srv/ci/builds/0017/some/team/a/project/target/debug";
        assert_eq!(scanner.mentions_where(whole, |_| false), [Root::Target]);
        // Of two pieces, the other one is in Cargo's home, too.
        let roots = Roots::new([(Root::Target, "/home/u/project/target".to_owned())]);
        let scanner = Scanner::new(&roots, &["/home/u/.cargo"]);
        assert_eq!(scanner.mentions(b"Linker: LLD (/checkout/src/llvm-project/llvm)"), []);
        assert_eq!(scanner.mentions(b"mov /home/u/,x"), []);
        assert_eq!(scanner.mentions(b"mov /home/u/,x; mov project/,y"), [Root::Target]);
    }

    #[test]
    fn variables_that_only_locate() {
        for (source, want) in [
            ("fn main() {}", None),
            ("include!(concat!(env!(\"V\"), \"/g.rs\"));", Some(true)),
            ("x = include_str! ( concat!(\n env!( \"V\" ), \"/a\"))", Some(true)),
            ("const A: &str = include_str!(env!(\"V\"));", Some(true)),
            ("x(env!(\"V\"))", Some(false)),
            ("x!(concat!(env!(\"V\")))", Some(false)),
            ("include!(concat!(env!(\"V\"), \"/g.rs\")); const D: &str = env!(\"V\");", Some(false)),
            ("my_include!(concat!(env!(\"V\"), \"/g.rs\"));", Some(false)),
            ("// V", Some(false)),
        ] {
            assert_eq!(only_locates(source, "V"), want, "{source}");
        }
    }
}
