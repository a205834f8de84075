//! The oracle: the same Cargo command once with the wrapper and once as a clean build without it, at the very same
//! path, and what has to agree. Knows which of Cargo's lines tell progress rather than results.
//!
//! The clean build takes the real target directory's place: that one is renamed aside and put back afterwards
//! (renaming changes no modification time inside), so that no path has to be normalised away in a comparison.

use std::collections::HashMap;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::cargo::{Cargo, Run};
use crate::files::{remove_tree, settle};
use crate::project::Project;

/// Results of clean builds, by everything they can depend on inside the sandbox.
pub(crate) type Memo = HashMap<u64, Run>;

/// Files up to this size count with their content in the memo's key, not only with size, inode and time.
const CONTENT_BYTES_MAX: u64 = 256 << 10;

/// What Cargo says while it works; no part of the result.
const PROGRESS: &[&str] = &[
    "Adding",
    "Blocking",
    "Building",
    "Checking",
    "Compiling",
    "Created",
    "Dirty",
    "Doc-tests",
    "Documenting",
    "Executable",
    "Finished",
    "Fresh",
    "Fixed",
    "Generated",
    "Locking",
    "Removed",
    "Running",
    "Updating",
];

impl Cargo<'_> {
    /// Runs with the wrapper, then as a clean build without it; panics unless both succeed with the same standard
    /// output and messages. Returns the run with the wrapper.
    pub fn same(&self) -> Run {
        let cached = self.same_outcome();
        assert!(cached.status.success(), "{cached}\nexpected success");
        cached
    }

    /// [`Cargo::same`] for a build that fails.
    pub fn same_failure(&self) -> Run {
        let cached = self.same_outcome();
        assert!(!cached.status.success(), "{cached}\nexpected failure");
        cached
    }

    /// [`Cargo::same`] for a build that may succeed or fail, as long as both do.
    pub fn same_outcome(&self) -> Run {
        let cached = self.run();
        let clean = self.clean();
        assert_eq!(
            cached.status.code(),
            clean.status.code(),
            "exit codes differ\n=== with the cache\n{cached}\n=== clean build without it\n{clean}"
        );
        for (what, left, right) in [
            ("standard output", cached.results(), clean.results()),
            ("messages", cached.messages(), clean.messages()),
        ] {
            assert!(
                left == right,
                "{what} differ\n=== with the cache\n{left}\n=== clean build without it\n{right}\n=== in full\n{cached}"
            );
        }
        cached
    }

    /// What a clean build without the wrapper gives. Nothing in the sandbox has changed since the last time: the
    /// result of that time.
    pub fn clean(&self) -> Run {
        let memo = self.project().sandbox().memo();
        let key = self.state();
        if let Some(known) = memo.borrow().get(&key) {
            return known.clone();
        }
        let run = self.clean_build();
        memo.borrow_mut().insert(key, run.clone());
        run
    }

    /// Everything in the sandbox and the project that a build can see, and the command itself.
    fn state(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let command = self.clone().plain().command();
        format!("{command:?}").hash(&mut hasher);
        let sandbox = self.project().sandbox();
        let hidden = [self.project().target(), sandbox.cache_dir(), &sandbox.root().join("tmp")];
        hash_tree(&sandbox.root(), &hidden, &mut hasher);
        let project = self.project().dir();
        if !project.starts_with(sandbox.root()) {
            hash_tree(project, &hidden, &mut hasher);
        }
        hasher.finish()
    }

    fn clean_build(&self) -> Run {
        let target = self.project().target();
        let mut aside = target.as_os_str().to_owned();
        aside.push(".aside");
        let was_there = target.symlink_metadata().is_ok();
        if was_there {
            fs::rename(target, &aside).expect("move the target directory aside");
        }
        let run = self.clone().plain().run();
        remove_tree(target);
        if was_there {
            fs::rename(&aside, target).expect("put the target directory back");
        }
        settle();
        run
    }
}

impl Project<'_> {
    /// Panics unless Cargo finds every unit fresh: no compiler, no build script, no call of the wrapper. `args` as for
    /// [`Project::cargo`]; only commands that build (`build`, `check`, `clippy`, `test --no-run`).
    pub fn nothing_to_do(&self, args: &str) {
        nothing_to_do(&self.cargo(args));
    }
}

/// See [`Project::nothing_to_do`].
pub fn nothing_to_do(cargo: &Cargo<'_>) {
    let run = cargo.clone().arg("-v").ok();
    let busy = run.stderr.lines().any(|line| {
        let verb = line.split_whitespace().next().unwrap_or_default();
        line.starts_with(' ') && ["Compiling", "Checking", "Dirty", "Running"].contains(&verb)
    });
    assert!(!busy && run.events.is_empty(), "{run}\nexpected every unit to be fresh");
}

impl Cargo<'_> {
    /// See [`Project::nothing_to_do`]; for commands with an environment of their own.
    pub fn nothing_to_do(&self) {
        nothing_to_do(self);
    }
}

fn hash_tree(dir: &Path, hidden: &[&Path], hasher: &mut DefaultHasher) {
    let mut names: Vec<_> = fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.path()).collect();
    names.sort();
    for path in names {
        let Ok(data) = path.symlink_metadata() else { continue };
        if hidden.contains(&path.as_path()) || path.file_name().is_some_and(|n| n == "target") {
            continue;
        }
        (&path, data.mode()).hash(hasher);
        if data.is_symlink() {
            fs::read_link(&path).ok().hash(hasher);
        } else if data.is_dir() {
            hash_tree(&path, hidden, hasher);
        } else {
            (data.len(), data.ino(), data.mtime(), data.mtime_nsec()).hash(hasher);
            if data.len() <= CONTENT_BYTES_MAX {
                fs::read(&path).unwrap_or_default().hash(hasher);
            }
        }
    }
}

/// Standard output without what differs between two runs of the same tests.
pub(crate) fn results(stdout: &str) -> String {
    let line = |line: &str| match line.split_once("; finished in ") {
        Some((result, _)) => result.to_owned(),
        None => line.to_owned(),
    };
    stdout.lines().map(line).collect::<Vec<_>>().join("\n")
}

/// The messages in Cargo's standard error: blocks that start at a `warning` or `error`, in sorted order, because
/// independent units report in any order.
pub(crate) fn messages(stderr: &str) -> String {
    let mut blocks: Vec<String> = Vec::new();
    let mut in_block = false;
    for coloured in stderr.lines() {
        let line = &without_colours(coloured);
        let verb = line.split_whitespace().next().unwrap_or_default();
        let indent = line.len() - line.trim_start().len();
        if indent > 0 && indent + verb.len() == 12 && PROGRESS.contains(&verb) {
            in_block = false;
            continue;
        }
        // The linker's command line names a random temporary directory, and the cache may add to it. Which of two
        // units a warning is counted for when both give it is chance.
        let summary = line.starts_with("warning: `") && line.contains(" generated ");
        let waiting = line.starts_with("warning: build failed, waiting");
        if summary || waiting || line.trim_start().starts_with("= note:  \"") {
            continue;
        }
        let starts = ["warning", "error", "note", "help"].iter().any(|word| line.starts_with(word));
        if line.is_empty() {
            in_block = false;
        } else if starts || !in_block || blocks.is_empty() {
            blocks.push(coloured.to_owned());
            in_block = true;
        } else if let Some(block) = blocks.last_mut() {
            block.push('\n');
            block.push_str(coloured);
        }
    }
    blocks.sort();
    blocks.join("\n\n")
}

/// The text without terminal control sequences (`ESC [ … letter`).
fn without_colours(text: &str) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c == '\u{1b}' {
            chars.by_ref().find(char::is_ascii_alphabetic);
        } else {
            plain.push(c);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_and_order_do_not_matter() {
        let one = "   Compiling a v0.1.0 (/x/a)\nwarning: unused\n --> a.rs:1\n\nwarning: `a` (lib) generated 1 warning\n\
                   error: bad\n\n    Finished `dev` profile in 0.1s\n";
        let two = "error: bad\n\nwarning: `a` (lib) generated 1 warning\nwarning: unused\n --> a.rs:1\n\n     Running `x`\n";
        assert_eq!(messages(one), messages(two));
        assert_ne!(messages(one), messages("error: bad\n"));
    }

    #[test]
    fn test_times_do_not_matter() {
        assert_eq!(results("ok. 1 passed; finished in 0.01s"), results("ok. 1 passed; finished in 0.02s"));
    }
}
