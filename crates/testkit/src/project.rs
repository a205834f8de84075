//! A project's files: writing, editing, copying, wiping its target directory. Doesn't know how it is built.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::cargo::Cargo;
use crate::files::{Artifacts, copy_tree, inode, remove_tree, settle, walk};
use crate::layout::is_compiled;
use crate::sandbox::Sandbox;

/// A package or workspace inside a [`Sandbox`].
#[derive(Clone)]
pub struct Project<'s> {
    sandbox: &'s Sandbox,
    dir: PathBuf,
    target: PathBuf,
}

impl<'s> Project<'s> {
    /// The project at `dir`, whose target directory is `target` in it.
    pub fn new(sandbox: &'s Sandbox, dir: PathBuf) -> Self {
        fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("create {}: {e}", dir.display()));
        let target = dir.join("target");
        Self { sandbox, dir, target }
    }

    /// The same project, told that Cargo was configured to put its output at `target`.
    pub fn with_target(mut self, target: impl Into<PathBuf>) -> Self {
        self.target = target.into();
        self
    }

    /// The world around it.
    pub fn sandbox(&self) -> &'s Sandbox {
        self.sandbox
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where Cargo puts its output.
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// A file of the project.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Runs Cargo in it; `args` are separated by white space.
    pub fn cargo(&self, args: &str) -> Cargo<'_> {
        Cargo::new(self, args)
    }

    /// Copies the sources (not the target directory) to `name` below the sandbox's root.
    pub fn checkout(&self, name: &str) -> Project<'s> {
        let copy = Project::new(self.sandbox, self.sandbox.root().join(name));
        copy_tree(&self.dir, &copy.dir, &["target"]);
        settle();
        copy
    }

    /// Writes a file as an editor does: later than everything before, with a newer modification time.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        settle();
        self.write_now(name, content);
    }

    /// Writes a file without waiting for the clock: for who waits by other means, or builds from nothing.
    pub fn write_now(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
    }

    /// Writes several files.
    pub fn write_all(&self, files: &[(&str, &str)]) {
        for (name, content) in files {
            self.write(name, content);
        }
    }

    /// Replaces `old` by `new` in a file that contains it.
    pub fn edit(&self, name: &str, old: &str, new: &str) {
        let text = self.read(name);
        assert!(text.contains(old), "{name} doesn't contain {old:?}:\n{text}");
        self.write(name, text.replace(old, new));
    }

    /// Content of a file.
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()))
    }

    /// Removes a file or directory.
    pub fn remove(&self, name: &str) {
        settle();
        remove_tree(&self.path(name));
    }

    /// Renames a file or directory.
    pub fn rename(&self, from: &str, to: &str) {
        settle();
        fs::rename(self.path(from), self.path(to)).unwrap_or_else(|e| panic!("rename {from} to {to}: {e}"));
    }

    /// Gives a file a new modification time and leaves its content.
    pub fn touch(&self, name: &str) {
        settle();
        self.set_mtime(name, SystemTime::now());
    }

    /// Moves a file's modification time by `seconds` from now.
    pub fn shift_mtime(&self, name: &str, seconds: i64) {
        let by = Duration::from_secs(seconds.unsigned_abs());
        let now = SystemTime::now();
        self.set_mtime(name, if seconds < 0 { now - by } else { now + by });
    }

    /// Sets a file's modification time.
    pub fn set_mtime(&self, name: &str, time: SystemTime) {
        let path = self.path(name);
        let file = fs::File::open(&path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
        file.set_modified(time).unwrap_or_else(|e| panic!("set the time of {}: {e}", path.display()));
    }

    /// A file's modification time.
    pub fn mtime(&self, name: &str) -> SystemTime {
        let data = fs::metadata(self.path(name)).unwrap_or_else(|e| panic!("look at {name}: {e}"));
        data.modified().expect("modification time")
    }

    /// `rm -rf target`.
    pub fn wipe(&self) {
        remove_tree(&self.target);
        settle();
    }

    /// What the compilers left in the target directory.
    pub fn artifacts(&self) -> Artifacts {
        Artifacts::of(&self.target)
    }

    /// Files in the target directory whose name satisfies `wanted`.
    pub fn outputs(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        walk(&self.target).into_iter().filter(|path| wanted(&name(path))).collect()
    }

    /// Outputs of compilers in the target directory whose name satisfies `wanted`: what Cargo copies to other places isn't
    /// among them.
    pub fn compiled(&self, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
        let mut found = self.outputs(wanted);
        found
            .retain(|path| is_compiled(&self.target, path.strip_prefix(&self.target).expect("below target")));
        found
    }

    /// Inode number and link count of a file of the project.
    pub fn inode(&self, name: &str) -> (u64, u64) {
        inode(&self.path(name))
    }
}
