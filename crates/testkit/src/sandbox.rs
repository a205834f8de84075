//! A sealed world for one test: temporary directory, own `HOME`, `CARGO_HOME` and cache, nothing of the caller's
//! environment but `PATH`. Doesn't know what projects are built in it.

use std::cell::RefCell;
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::files::remove_tree;
use crate::journal::{Event, Mark, read_journal};
use crate::layout::Layout;
use crate::oracle::Memo;
use crate::project::Project;
use crate::toolchain::toolchain;

/// The world of one test; removed when dropped.
pub struct Sandbox {
    dir: TempDir,
    wrapper: PathBuf,
    path: OsString,
    layout: Layout,
    cache_dir: PathBuf,
    env: RefCell<Vec<(OsString, OsString)>>,
    memo: RefCell<Memo>,
}

impl Sandbox {
    /// A new world in which Cargo uses `wrapper` as its `RUSTC_WRAPPER`.
    pub fn new(wrapper: impl Into<PathBuf>) -> Self {
        Self::new_in(wrapper, &env::temp_dir())
    }

    /// A new world below `parent`: on the file system that this is on.
    pub fn new_in(wrapper: impl Into<PathBuf>, parent: &Path) -> Self {
        let dir = tempfile::Builder::new().prefix("kt-").tempdir_in(parent);
        let dir = dir.expect("make a temporary directory");
        let root = dir.path().canonicalize().expect("temporary directory");
        let mut paths = vec![toolchain().sysroot.join("bin")];
        paths.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let path = env::join_paths(paths).expect("PATH");
        let cache_dir = root.join("cache");
        let sandbox = Self {
            dir,
            wrapper: wrapper.into(),
            path,
            layout: Layout::of_this_process(),
            cache_dir,
            env: RefCell::default(),
            memo: RefCell::default(),
        };
        for name in ["home", "tmp"] {
            fs::create_dir(root.join(name)).expect("make a sandbox directory");
        }
        sandbox.make_cargo_home("cargo-home");
        sandbox
    }

    /// Where everything is, without symbolic links.
    pub fn root(&self) -> PathBuf {
        self.dir.path().canonicalize().expect("temporary directory")
    }

    /// Leaves everything in place at the end, for someone to look at.
    pub fn keep(&mut self) {
        self.dir.disable_cleanup(true);
    }

    /// The layout in which Cargo builds here.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The program that Cargo gets as `RUSTC_WRAPPER`.
    pub fn wrapper(&self) -> &Path {
        &self.wrapper
    }

    /// `KACHE_CACHE_DIR`.
    pub fn cache_dir(&self) -> &Path {
        &self.cache_dir
    }

    /// Moves the cache elsewhere for what follows.
    pub fn set_cache_dir(&mut self, dir: impl Into<PathBuf>) {
        self.cache_dir = dir.into();
    }

    /// Sets a variable for everything that runs in this world from now on, with and without the wrapper.
    pub fn set_env(&self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) {
        let mut env = self.env.borrow_mut();
        env.retain(|(n, _)| n != name.as_ref());
        env.push((name.as_ref().to_owned(), value.as_ref().to_owned()));
    }

    /// Makes another `CARGO_HOME` below the root and returns its path. It shares nothing but the registry with the
    /// user's; its config names the real compiler, goes nowhere near the network and builds with two jobs.
    pub fn make_cargo_home(&self, name: &str) -> PathBuf {
        self.make_cargo_home_for(name, self.layout)
    }

    /// A `CARGO_HOME` for building in `layout`.
    pub(crate) fn cargo_home_for(&self, layout: Layout) -> PathBuf {
        let home = self.root().join(layout.cargo_home());
        if home.is_dir() { home } else { self.make_cargo_home_for(layout.cargo_home(), layout) }
    }

    fn make_cargo_home_for(&self, name: &str, layout: Layout) -> PathBuf {
        let home = self.root().join(name);
        fs::create_dir_all(&home).expect("make CARGO_HOME");
        let users = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
        if let Some(registry) = users.map(|home| home.join("registry")).filter(|dir| dir.is_dir()) {
            std::os::unix::fs::symlink(registry, home.join("registry")).expect("share the registry");
        }
        let rustc = toolchain().rustc.display();
        let layout = layout.configuration();
        let text =
            format!("[build]\nrustc = {:?}\njobs = 2\n\n[net]\noffline = true\n{layout}", rustc.to_string());
        fs::write(home.join("config.toml"), text).expect("write Cargo's config");
        home
    }

    /// A command in this world: sealed environment, working directory at the root, no wrapper.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let root = self.root();
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("HOME", root.join("home"))
            .env("CARGO_HOME", root.join("cargo-home"))
            .env("TMPDIR", root.join("tmp"))
            .env("LANG", "C")
            .env("KACHE_CACHE_DIR", &self.cache_dir)
            // Background work that a test wants it asks for.
            .env("KACHE_PROVE", "0")
            .envs(self.layout.variables().into_iter().filter_map(|(name, value)| Some((name, value?))))
            .envs(self.env.borrow().iter().map(|(n, v)| (n, v)))
            .current_dir(root);
        command
    }

    /// Runs the wrapper's own command line (`kache stats`, …) and returns its output.
    pub fn cli(&self, args: &[&str]) -> std::process::Output {
        let mut command = self.command(&self.wrapper);
        command.args(args).output().unwrap_or_else(|e| panic!("start {}: {e}", self.wrapper.display()))
    }

    /// Runs git in a directory, as somebody; it must succeed.
    #[track_caller]
    pub fn git(&self, dir: &Path, args: &[&str]) {
        let name = ["-c", "user.name=t", "-c", "user.email=t@t", "-c", "commit.gpgsign=false"];
        let output = self.command("git").args(name).args(args).current_dir(dir).output().expect("git");
        assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// What `kache doctor --verify --checksums` says, and whether it found nothing wrong.
    pub fn doctor(&self) -> (bool, String) {
        let mut command = self.command(&self.wrapper);
        command.args(["doctor", "--verify", "--checksums"]).env("RUSTC_WRAPPER", &self.wrapper);
        let output = command.output().unwrap_or_else(|e| panic!("start {}: {e}", self.wrapper.display()));
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    }

    pub(crate) fn memo(&self) -> &RefCell<Memo> {
        &self.memo
    }

    /// Writes a project with `files` (path, content) at `name` below the root.
    pub fn project(&self, name: &str, files: &[(&str, &str)]) -> Project<'_> {
        let project = Project::new(self, self.root().join(name));
        for (path, content) in files {
            project.write(path, content);
        }
        project
    }

    /// Writes a file below the root and returns its path.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
        fs::write(&path, content).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
        path
    }

    /// Writes an executable file (a shell script, say) below the root and returns its path.
    pub fn write_program(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        use std::os::unix::fs::PermissionsExt;
        // A new inode each time: a running program can't be rewritten in place.
        remove_tree(&self.root().join(name));
        let path = self.write(name, content);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("make it executable");
        path
    }

    /// The journal's present end.
    pub fn mark(&self) -> Mark {
        Mark::of(&self.cache_dir)
    }

    /// Events since `mark`.
    pub fn events_since(&self, mark: &Mark) -> Vec<Event> {
        read_journal(&self.cache_dir, mark)
    }

    /// Forgets everything the cache knows.
    pub fn clear_cache(&self) {
        remove_tree(&self.cache_dir);
    }
}
