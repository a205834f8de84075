//! Local root directories and the placeholders that stand for them in keys, records and stored texts.
//!
//! A path below the workspace, the target directory or (where wanted) `CARGO_HOME` means the same in every
//! checkout, although its first components differ. Names replace the root by `{ws}`, `{target}`, `{home}`; texts
//! replace every mention of it by an unambiguous token. This module does not know whether such a replacement is
//! *safe* for an output: [`crate::scan`] proves that afterwards.

use serde::{Deserialize, Serialize};

/// A directory whose place differs between checkouts or machines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    Target,
    /// The working directory of a workspace member's compile, else the directory that holds the target directory.
    Workspace,
    /// `CARGO_HOME`; a root unless `cache.portable_paths` is off.
    CargoHome,
    /// The toolchain's sysroot; a root unless `cache.portable_paths` is off.
    Sysroot,
}

impl Root {
    /// Every root, in the order in which keys mention them.
    pub const ALL: [Root; 4] = [Root::Target, Root::Workspace, Root::CargoHome, Root::Sysroot];

    /// The placeholder that starts a normalised name. No absolute path starts like this.
    pub const fn name_prefix(self) -> &'static str {
        match self {
            Root::Target => "{target}",
            Root::Workspace => "{ws}",
            Root::CargoHome => "{home}",
            Root::Sysroot => "{sysroot}",
        }
    }

    /// The token that stands for the root inside stored texts. Control characters occur neither in rustc's JSON
    /// (they are escaped there) nor in paths that the cache accepts.
    pub const fn text_token(self) -> &'static str {
        match self {
            Root::Target => "\u{1}T\u{2}",
            Root::Workspace => "\u{1}W\u{2}",
            Root::CargoHome => "\u{1}H\u{2}",
            Root::Sysroot => "\u{1}S\u{2}",
        }
    }

    /// What the compiler is told to write instead of the root (`--remap-path-prefix`). Workspace and target are
    /// relative, so that a debugger started in the workspace finds the files; the doubled `./.` is never written
    /// by a person, so that compiler messages can be turned back into real paths.
    pub const fn remap_target(self) -> &'static str {
        match self {
            Root::Target => "././target",
            Root::Workspace => "././.",
            Root::CargoHome => "/kache/cargo-home",
            Root::Sysroot => "/kache/sysroot",
        }
    }
}

/// The local roots of one invocation: absolute, without trailing slash, longest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roots {
    list: Vec<(Root, String)>,
}

impl Roots {
    /// Roots from absolute directories. Empty paths, `/` and relative paths are left out; of two roots at the same
    /// place the one earlier in [`Root::ALL`] wins.
    pub fn new(candidates: impl IntoIterator<Item = (Root, String)>) -> Self {
        let mut list: Vec<(Root, String)> = Vec::new();
        for (root, path) in candidates {
            let path = path.trim_end_matches('/').to_owned();
            if path.starts_with('/') && !path.contains(['\u{1}', '\u{2}']) {
                list.push((root, path));
            }
        }
        list.sort_by(|a, b| b.1.len().cmp(&a.1.len()).then(a.0.cmp(&b.0)));
        list.dedup_by(|later, earlier| later.1 == earlier.1);
        Self { list }
    }

    /// The roots and where they are, longest path first.
    pub fn iter(&self) -> impl Iterator<Item = (Root, &str)> {
        self.list.iter().map(|(root, path)| (*root, path.as_str()))
    }

    /// Where `root` is here.
    pub fn get(&self, root: Root) -> Option<&str> {
        self.iter().find(|(r, _)| *r == root).map(|(_, path)| path)
    }

    /// The portable name of an absolute path: the longest root that contains it replaced by its prefix.
    pub fn name_of(&self, path: &str) -> String {
        for (root, dir) in self.iter() {
            if let Some(rest) = strip_dir(path, dir) {
                return format!("{}{rest}", root.name_prefix());
            }
        }
        path.to_owned()
    }

    /// The local path of a name made by [`Roots::name_of`], here or in another checkout. `None` when it names a
    /// root that this invocation doesn't have.
    pub fn path_of(&self, name: &str) -> Option<String> {
        if !name.starts_with('{') {
            return Some(name.to_owned());
        }
        for root in Root::ALL {
            if let Some(rest) = name.strip_prefix(root.name_prefix()) {
                return self.get(root).map(|dir| format!("{dir}{rest}"));
            }
        }
        None
    }

    /// A text with every mention of a root replaced by its token; `None` when the text already holds a token
    /// character, so that the replacement could not be undone.
    pub fn tokenize(&self, text: &str) -> Option<String> {
        if text.contains(['\u{1}', '\u{2}']) {
            return None;
        }
        Some(self.replace(text, |root| root.text_token().to_owned()))
    }

    /// The inverse of [`Roots::tokenize`] in another place. `None` when the text mentions a root that this
    /// invocation doesn't have.
    pub fn detokenize(&self, text: &str) -> Option<String> {
        let mut out = text.to_owned();
        for root in Root::ALL {
            if out.contains(root.text_token()) {
                out = out.replace(root.text_token(), self.get(root)?);
            }
        }
        Some(out)
    }

    /// Replaces each mention of a root that ends at a path boundary.
    fn replace(&self, text: &str, with: impl Fn(Root) -> String) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        'scan: while !rest.is_empty() {
            let Some(at) = self.first_mention(rest) else {
                out.push_str(rest);
                break;
            };
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            for (root, dir) in self.iter() {
                if let Some(tail) = rest.strip_prefix(dir)
                    && !tail.starts_with(is_name_char)
                {
                    out.push_str(&with(root));
                    rest = tail;
                    continue 'scan;
                }
            }
            let step = rest.chars().next().map_or(1, char::len_utf8);
            out.push_str(&rest[..step]);
            rest = &rest[step..];
        }
        out
    }

    fn first_mention(&self, text: &str) -> Option<usize> {
        self.list.iter().filter_map(|(_, dir)| text.find(dir.as_str())).min()
    }
}

/// Whether `c` right after a root means that the root was only the beginning of a longer file name
/// (`/w/project` in `/w/project-old`).
fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | '+' | '@' | '~')
}

/// `path` below `dir`: the rest, empty or starting with a slash.
fn strip_dir<'a>(path: &'a str, dir: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(dir)?;
    (rest.is_empty() || rest.starts_with('/')).then_some(rest)
}

/// An absolute path from a possibly relative one, with `.` and empty components removed. `..` is kept: through a
/// symlink it means something that only the file system knows.
pub fn absolute(cwd: &str, path: &str) -> String {
    let joined = if path.starts_with('/') { path.to_owned() } else { format!("{cwd}/{path}") };
    let mut out = String::with_capacity(joined.len());
    for part in joined.split('/').filter(|part| !part.is_empty() && *part != ".") {
        out.push('/');
        out.push_str(part);
    }
    if out.is_empty() { "/".to_owned() } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> Roots {
        Roots::new([
            (Root::Workspace, "/w/project".to_owned()),
            (Root::Target, "/w/project/target/".to_owned()),
            (Root::CargoHome, "/root/.cargo".to_owned()),
        ])
    }

    #[test]
    fn names_use_the_longest_root_and_path_boundaries() {
        for (path, name) in [
            ("/w/project/src/lib.rs", "{ws}/src/lib.rs"),
            ("/w/project/target/debug/x", "{target}/debug/x"),
            ("/w/project", "{ws}"),
            ("/w/project-old/src", "/w/project-old/src"),
            ("/root/.cargo/registry/src/a", "{home}/registry/src/a"),
            ("/usr/lib/crt1.o", "/usr/lib/crt1.o"),
        ] {
            assert_eq!(roots().name_of(path), name);
            assert_eq!(roots().path_of(name).as_deref(), Some(path));
        }
        assert_eq!(roots().path_of("{sysroot}/lib"), None);
        assert_eq!(roots().path_of("{nonsense}/lib"), None);
    }

    #[test]
    fn texts_round_trip_into_another_checkout() {
        let here = roots();
        let there = Roots::new([
            (Root::Workspace, "/elsewhere".to_owned()),
            (Root::Target, "/tmp/t".to_owned()),
            (Root::CargoHome, "/h".to_owned()),
        ]);
        let text = "a /w/project/target/debug:/w/project/src b /w/project. /w/project-x /w/project";
        let tokens = here.tokenize(text).expect("no tokens in the text");
        assert!(!tokens.contains("/w/project/"));
        assert_eq!(here.detokenize(&tokens).as_deref(), Some(text));
        assert_eq!(
            there.detokenize(&tokens).as_deref(),
            Some("a /tmp/t/debug:/elsewhere/src b /w/project. /w/project-x /elsewhere")
        );
        assert_eq!(here.tokenize("\u{1}"), None);
    }

    #[test]
    fn absolute_paths_are_lexically_clean() {
        for (path, want) in
            [("src/lib.rs", "/c/src/lib.rs"), ("./a//b/.", "/c/a/b"), ("/x/../y", "/x/../y"), ("/", "/")]
        {
            assert_eq!(absolute("/c", path), want);
        }
    }

    proptest::proptest! {
        #[test]
        fn tokenize_is_undone_by_detokenize(text in "(/w/project(/target)?|[a-z/ .-]|/root/\\.cargo){0,12}") {
            let tokens = roots().tokenize(&text).expect("no token characters");
            proptest::prop_assert_eq!(roots().detokenize(&tokens), Some(text));
        }
    }
}
