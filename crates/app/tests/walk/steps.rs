//! What can happen in a walk, as data. A walk is a list of steps that is fixed before the first one is taken, so any
//! part of it can be taken again.

use super::model::{Slot, Workspace};

/// One step: something happens in one worktree, or to the cache.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// The worktree.
    pub tree: usize,
    /// What happens.
    pub act: Act,
}

/// What happens.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// A file gets the content of a variant.
    Edit(Slot, u8),
    /// A file gets a new time and keeps its content.
    Touch(Slot),
    /// A variable changes, or goes.
    Env(&'static str, Option<u8>),
    /// All sources become those of another worktree, as after a switch to its branch.
    Become(usize),
    /// A build with kache.
    Build(Build),
    /// The same in this and another worktree at once.
    BuildBoth(usize, Build),
    /// A build without kache.
    BuildWithout(Absence, Build),
    /// A build that ends early.
    Kill(Blow, usize, Build),
    /// `cargo clean -p`.
    Clean(usize),
    /// The target directory goes.
    Wipe,
    /// The target directory goes, and everything is built.
    Fresh(Build),
    /// A program is written to in place, as `strip` does.
    Strip,
    /// `kache gc`, down to nothing.
    Collect,
    /// Every second entry goes.
    LoseEntries,
    /// Every second blob goes.
    LoseBlobs,
    /// The whole cache goes.
    LoseCache,
}

/// A Cargo command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Build {
    /// Which command.
    pub verb: Verb,
    /// Which profile.
    pub profile: Profile,
    /// Which package; all without one.
    pub package: Option<usize>,
}

/// Cargo's commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// `cargo build`.
    Build,
    /// `cargo check`.
    Check,
    /// `cargo test`, or without a run where sources don't compile.
    Test,
    /// `cargo build --examples`.
    Examples,
}

/// Cargo's profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// The default one.
    Dev,
    /// `--release`.
    Release,
}

/// How kache is not there.
#[derive(Debug, Clone, Copy)]
pub enum Absence {
    /// No wrapper.
    NoWrapper,
    /// Switched off by its variable.
    Disabled,
}

/// How a build ends early.
#[derive(Debug, Clone, Copy)]
pub enum Blow {
    /// Ctrl-C: SIGINT to the whole process group.
    Interrupt,
    /// SIGKILL to the whole process group.
    Kill,
    /// SIGKILL to Cargo alone; what it started goes on by itself.
    KillCargo,
}

impl Build {
    /// The arguments for Cargo. `works` tells whether the sources compile.
    pub fn args(&self, workspace: &Workspace, works: bool) -> String {
        let package = match self.package {
            Some(index) => format!("-p {}", workspace.packages[index].name),
            None => "--workspace".to_owned(),
        };
        let profile = if self.profile == Profile::Release { " --release" } else { "" };
        match self.verb {
            Verb::Build => format!("build --keep-going {package}{profile}"),
            Verb::Check => format!("check --keep-going {package}{profile}"),
            Verb::Examples => format!("build --keep-going --examples {package}{profile}"),
            Verb::Test if works => format!("test -q --tests {package}{profile} -- --nocapture"),
            Verb::Test => format!("build --keep-going --tests {package}{profile}"),
        }
    }

    /// The same arguments for a build that has nothing left to do.
    pub fn args_of_noop(&self, workspace: &Workspace) -> String {
        self.args(workspace, true).replace(" -- --nocapture", "").replace("test -q", "test --no-run")
    }

    /// Whether it leaves the programs in their place.
    pub fn makes_programs(&self) -> bool {
        self.verb == Verb::Build && self.package.is_none()
    }

    /// Where its programs are, below the target directory.
    pub fn profile_dir(&self) -> &'static str {
        if self.profile == Profile::Release { "release" } else { "debug" }
    }
}

impl Step {
    /// The step in words, for reports.
    pub fn describe(&self, workspace: &Workspace) -> String {
        let tree = char::from(b'a' + u8::try_from(self.tree).expect("few trees"));
        let file = |slot: Slot| {
            let package = &workspace.packages[slot.package];
            format!("{}/{}", package.name, package.path_of(slot.file))
        };
        let args = |build: &Build| build.args(workspace, true);
        let text = match &self.act {
            Act::Edit(slot, variant) => format!("edit {} to variant {variant}", file(*slot)),
            Act::Touch(slot) => format!("touch {}", file(*slot)),
            Act::Env(name, Some(variant)) => format!("set {name} to variant {variant}"),
            Act::Env(name, None) => format!("unset {name}"),
            Act::Become(other) => format!("switch to the sources of tree {other}"),
            Act::Build(build) => format!("cargo {}", args(build)),
            Act::Fresh(build) => format!("wipe, then cargo {}", args(build)),
            Act::BuildBoth(other, build) => format!("at once with tree {other}: cargo {}", args(build)),
            Act::BuildWithout(absence, build) => format!("{absence:?}: cargo {}", args(build)),
            Act::Kill(blow, after, build) => format!("{blow:?} after {after} units: cargo {}", args(build)),
            Act::Clean(package) => format!("cargo clean -p {}", workspace.packages[*package].name),
            act => format!("{act:?}"),
        };
        format!("tree {tree}: {text}")
    }
}
