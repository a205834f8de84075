//! What a clean build without kache gives, for any state and command. Results are remembered: the same files, variables
//! and arguments give the same answer in every worktree, once the worktree's own path is taken out.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use kache_testkit::{Cargo, Project, Run};

use super::model::{Home, Kind, State, Workspace};
use super::render;
use super::steps::Build;

/// What can be seen of a build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Cargo's exit code.
    pub code: Option<i32>,
    /// Warnings and errors, in a fixed order.
    pub messages: String,
    /// What tests print.
    pub stdout: String,
    /// What each program prints, where the build made all of them.
    pub programs: BTreeMap<String, String>,
}

/// Builds in a worktree of its own.
pub struct Oracle<'s> {
    project: Project<'s>,
    known: RefCell<HashMap<Question, Verdict>>,
    builds: Cell<usize>,
}

/// Files, variables, command.
type Question = (BTreeMap<String, String>, Vec<(&'static str, String)>, String);

impl<'s> Oracle<'s> {
    /// An oracle that builds in `project`.
    pub fn new(project: Project<'s>) -> Self {
        Self { project, known: RefCell::default(), builds: Cell::new(0) }
    }

    /// Real builds so far.
    pub fn builds(&self) -> usize {
        self.builds.get()
    }

    /// What `build` must give in `state`.
    pub fn ask(&self, workspace: &Workspace, state: &State, build: &Build) -> Verdict {
        let files = render::files(workspace, state);
        let args = build.args(workspace, !state.fails());
        let question = (files, state.env_values().collect(), args);
        if let Some(known) = self.known.borrow().get(&question) {
            return known.clone();
        }
        self.builds.set(self.builds.get() + 1);
        let before = kache_testkit::tree(self.project.dir(), &["target", "Cargo.lock"]);
        for (name, text) in question.0.iter().filter(|(name, _)| !name.starts_with("../")) {
            if before.get(Path::new(name)).is_none_or(|bytes| bytes != text.as_bytes()) {
                self.project.write_now(name, text);
            }
        }
        self.project.wipe();
        let cargo =
            command(&self.project, workspace, state, &question.2).plain().env("CARGO_INCREMENTAL", "0");
        let run = cargo.run();
        let verdict = Verdict::of(&run, &self.project, workspace, build);
        self.known.borrow_mut().insert(question, verdict.clone());
        verdict
    }
}

/// Cargo in a worktree with the variables of its state.
pub fn command<'p>(project: &'p Project<'p>, workspace: &Workspace, state: &State, args: &str) -> Cargo<'p> {
    let cargo = project.cargo(args).env("CARGO_INCREMENTAL", workspace.incremental);
    state.env_values().fold(cargo, |cargo, (name, value)| cargo.env(name, value))
}

impl Verdict {
    /// What can be seen of a run in `project`.
    pub fn of(run: &Run, project: &Project<'_>, workspace: &Workspace, build: &Build) -> Self {
        let dir = project.dir().display().to_string();
        let portable = |text: String| text.replace(&dir, "<tree>");
        let mut programs = BTreeMap::new();
        if run.status.success() && build.makes_programs() {
            for package in workspace.packages.iter().filter(|package| package.kind == Kind::Program) {
                assert_eq!(package.home, Home::Member, "programs are in the worktree");
                let path = project.target().join(build.profile_dir()).join(&package.name);
                let output = project.sandbox().command(&path).output();
                let output = output.unwrap_or_else(|e| panic!("{run}\nstart {}: {e}", path.display()));
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                programs.insert(package.name.clone(), portable(format!("{} {text}", output.status)));
            }
        }
        Self {
            code: run.status.code(),
            messages: portable(run.messages()),
            stdout: portable(run.results()),
            programs,
        }
    }
}
