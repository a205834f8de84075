//! Proofs that a result doesn't depend on where it was made: the compile that is done again, the place in which that is
//! done, the comparison, and what a proof came to. Pure; the compile itself is in `engine::proof`.
//!
//! A macro or `env!` may make anything of a path: its length, its depth, a hash, the name of a directory. No search of
//! the outputs finds that. So the same compile is done in a place that differs in all of these:
//!
//! | of a root | elsewhere |
//! | --- | --- |
//! | length, and number of directories | longer; the differences have no small divisor, so that remainders differ, too |
//! | names | the first directory's is another one; none below it occurs in the own path, nor does one begin or end with a letter that begins or ends one there, where letters are left |
//! | place of the target directory in the workspace | kept: below it where it was, as far down |
//!
//! What becomes of a job:
//!
//! ```text
//! Pending ──begin──► Pending, one attempt more ──settle──► Independent: served everywhere
//!    ▲  │                        │                         Depends: never tried again for this unit key
//!    │  └─ ATTEMPTS_MAX ─────────│───────────────────────► Unshown: it couldn't be tried
//!    └──────── killed ───────────┘                         (gone: the sources have changed, a new compile will ask)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::entry::{Entry, OutputKind};
use crate::invocation::Invocation;
use crate::key::{EntryKey, UnitKey};
use crate::paths::{Root, Roots};
use crate::record::{Input, InputRecord};
use crate::remote::secrets;
use crate::verify::{Deviation, deviations};

/// Version of the JSON form of a job; others are left alone.
pub const VERSION: u32 = 1;
/// How often a proof is begun.
pub const ATTEMPTS_MAX: u32 = 3;
/// Longest path of a root elsewhere.
const PATH_BYTES_MAX: usize = 1024;
/// Roots that are elsewhere in a proof.
pub const MOVED: [Root; 2] = [Root::Workspace, Root::Target];

/// Variables that a compile needs beside those that its record names.
const NEEDED: &[&str] =
    &["HOME", "LD_LIBRARY_PATH", "OUT_DIR", "PATH", "RUSTC", "RUSTC_BOOTSTRAP", "TMPDIR", "TZ"];
const NEEDED_PREFIXES: &[&str] = &["CARGO", "CLIPPY_", "LANG", "LC_", "RUSTUP_"];

/// A compile to be done again elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// See [`VERSION`].
    pub version: u32,
    pub crate_name: String,
    pub unit: UnitKey,
    /// The entry that was stored, valid in its own place only.
    pub entry: EntryKey,
    /// What the compile read, in its own place.
    pub record: InputRecord,
    /// Roots that the entry stays bound to.
    pub kept: Vec<Root>,
    /// The program and arguments of the compile, without the wrapper.
    pub argv: Vec<String>,
    pub cwd: String,
    pub env: BTreeMap<String, String>,
    pub roots: BTreeMap<Root, String>,
    pub profile_dir: String,
    /// Settings that are part of the unit key.
    pub portable_paths: bool,
    /// See `portable_paths`.
    pub key_salt: Option<String>,
    /// What the compile took, in milliseconds.
    pub compile_ms: u64,
    #[serde(default)]
    pub attempts: u32,
    /// The directory of the last attempt.
    #[serde(default)]
    pub scratch: Option<String>,
}

/// What is known about a result and its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Proof {
    Independent,
    /// It is another one elsewhere; in what it differs.
    Depends(String),
    /// Whether it is, couldn't be shown; why.
    Unshown(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attempt {
    /// Both results, in what they differ.
    Compared(Vec<String>),
    /// The inputs are no longer what they were, or the entry is gone.
    Outdated,
    Failed(String),
}

impl Job {
    /// Local roots of the place where it was compiled.
    pub fn own_roots(&self) -> Roots {
        Roots::new(self.roots.iter().map(|(root, path)| (*root, path.clone())))
    }

    /// Counts an attempt, in `scratch`; what the proof comes to if there were enough.
    pub fn begin(&mut self, scratch: &str) -> Option<Proof> {
        if self.attempts >= ATTEMPTS_MAX {
            return Some(Proof::Unshown(format!("it was begun {ATTEMPTS_MAX} times and never ended")));
        }
        self.attempts += 1;
        self.scratch = Some(scratch.to_owned());
        None
    }

    /// The record of the result where its place doesn't matter.
    pub fn portable_record(&self) -> InputRecord {
        portable(&self.record, &self.kept)
    }

    /// The job with the roots in `to` in place of its own, in arguments and environment.
    pub fn moved_to(&self, to: &Roots) -> Self {
        let own = self.own_roots();
        let moved = |text: &String| {
            own.tokenize(text).and_then(|text| to.detokenize(&text)).unwrap_or_else(|| text.clone())
        };
        Self {
            argv: self.argv.iter().map(moved).collect(),
            cwd: moved(&self.cwd),
            env: self.env.iter().map(|(name, value)| (name.clone(), moved(value))).collect(),
            roots: to.iter().map(|(root, path)| (root, path.to_owned())).collect(),
            profile_dir: moved(&self.profile_dir),
            ..self.clone()
        }
    }
}

/// The record without the local paths that may have been seen; `kept` are roots that the entry stays bound to.
pub fn portable(record: &InputRecord, kept: &[Root]) -> InputRecord {
    InputRecord { baked: kept.to_vec(), ..record.without_macro_paths() }
}

/// What an attempt makes of a pending proof; `None` when there is nothing to know any more.
pub fn settle(attempt: Attempt) -> Option<Proof> {
    match attempt {
        Attempt::Compared(differences) if differences.is_empty() => Some(Proof::Independent),
        Attempt::Compared(differences) => Some(Proof::Depends(differences.join("; "))),
        Attempt::Outdated => None,
        Attempt::Failed(why) => Some(Proof::Unshown(why)),
    }
}

/// In what the results of two compiles differ. An rlib that was compiled incrementally has members with random names
/// (rustc 1.95): there the metadata speaks for it, which holds a hash of the whole expanded crate.
pub fn differences(stored: &Entry, made: &Entry) -> Vec<String> {
    let has_metadata = stored.outputs.iter().any(|output| output.kind == OutputKind::Metadata);
    let is_random = |deviation: &Deviation| {
        let Deviation::Content { stored: output, .. } = deviation else { return false };
        stored.incremental && has_metadata && output.kind == OutputKind::Rlib
    };
    let found = deviations(stored, made).into_iter().filter(|deviation| !is_random(deviation));
    found.map(|deviation| deviation.to_string()).collect()
}

/// The variables that a compile needs to be done again. `named` are those that the unit's macros may read. `None` when
/// there is a credential among what counts, which isn't written down, or a value that is no text.
pub fn environment(
    call: &Invocation,
    record: &InputRecord,
    named: &BTreeSet<&str>,
    secret_env: &[String],
) -> Option<BTreeMap<String, String>> {
    let is_input = |name: &str| {
        named.contains(name) || record.inputs.iter().any(|input| *input == Input::Env(name.to_owned()))
    };
    let is_needed =
        |name: &str| NEEDED.contains(&name) || NEEDED_PREFIXES.iter().any(|prefix| name.starts_with(prefix));
    let mut env = BTreeMap::new();
    // Cargo's tokens for threads end with that Cargo.
    for (name, value) in call.env.iter().filter(|(name, _)| *name != "CARGO_MAKEFLAGS") {
        let is_secret = secrets::is_secret(name, secret_env);
        if is_input(name) {
            if is_secret {
                return None;
            }
            env.insert(name.to_owned(), value.to_str()?.to_owned());
        } else if is_needed(name) && !is_secret {
            env.extend(value.to_str().map(|value| (name.to_owned(), value.to_owned())));
        }
    }
    Some(env)
}

/// The roots with [`MOVED`] ones below `base`, unlike their own places in every respect of the module's table; `None`
/// where that can't be.
pub fn elsewhere(base: &str, roots: &Roots) -> Option<Roots> {
    let mut taken: BTreeSet<&str> = roots.iter().flat_map(|(_, path)| path.split('/')).collect();
    taken.remove("");
    let first = |path: &str| path.split('/').nth(1).map(str::to_owned);
    if roots.iter().any(|(root, path)| MOVED.contains(&root) && first(path) == first(base)) {
        return None;
    }
    let mut moved: Vec<(Root, String, String)> = Vec::new();
    let mut list: Vec<(Root, &str)> = roots.iter().collect();
    // A root above another one first.
    list.reverse();
    for (root, path) in list {
        if !MOVED.contains(&root) {
            continue;
        }
        let above = moved.iter().find_map(|(_, own, new)| {
            Some((new.as_str(), path.strip_prefix(own.as_str())?.strip_prefix('/')?))
        });
        let (start, depth) = match above {
            Some((new, rest)) => (new, count(new) + count(rest)),
            None => (base, unlike(count(path), count(base) + 1)),
        };
        let new = unlike_path(start, depth, path.len(), &taken, moved.len())?;
        moved.push((root, path.to_owned(), new));
    }
    let new_of = |root: Root| moved.iter().find(|(of, ..)| *of == root).map(|(.., new)| new.clone());
    Some(Roots::new(roots.iter().map(|(root, path)| (root, new_of(root).unwrap_or_else(|| path.to_owned())))))
}

/// Number of directories in a path.
fn count(path: &str) -> usize {
    path.split('/').filter(|name| !name.is_empty()).count()
}

/// The least number from `least` on that is greater than `own` by one that no small number divides.
fn unlike(own: usize, least: usize) -> usize {
    let divides = |difference: usize| [2, 3, 5, 7].iter().any(|small| difference.is_multiple_of(*small));
    let mut number = least.max(own + 1);
    while divides(number - own) {
        number += 1;
    }
    number
}

/// A path of `depth` directories below `start`, its length unlike `own_length`.
fn unlike_path(
    start: &str,
    depth: usize,
    own_length: usize,
    taken: &BTreeSet<&str>,
    salt: usize,
) -> Option<String> {
    let mut path = start.to_owned();
    let unused = |is_used: &dyn Fn(&str, char) -> bool| {
        ('a'..='z').find(|letter| !taken.iter().any(|name| is_used(name, *letter))).unwrap_or('q')
    };
    let first = unused(&|name, letter| name.starts_with([letter, letter.to_ascii_uppercase()]));
    let last = unused(&|name, letter| name.ends_with([letter, letter.to_ascii_uppercase()]));
    let mut names = (0..)
        .map(|number| format!("{first}{salt}{}{last}", radix(number)))
        .filter(|name| !taken.contains(name.as_str()));
    for _ in count(start)..depth {
        path.push('/');
        path.push_str(&names.next()?);
    }
    let length = unlike(own_length, path.len() + 1);
    while path.len() < length {
        path.push(last);
    }
    let is_good = path.rsplit('/').next().is_some_and(|name| name.len() <= 255 && !taken.contains(name));
    (is_good && path.len() <= PATH_BYTES_MAX).then_some(path)
}

fn radix(number: usize) -> String {
    let letter = |digit: usize| char::from(b'a' + u8::try_from(digit % 26).unwrap_or_default());
    if number < 26 {
        letter(number).to_string()
    } else {
        radix(number / 26 - 1) + &letter(number).to_string()
    }
}

#[cfg(test)]
#[path = "proof_tests.rs"]
mod tests;
