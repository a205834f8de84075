//! Takes the steps of a walk in real worktrees with the real Cargo, and compares every build with the oracle's.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kache_testkit::{Cargo, Project, Run, Sandbox, remove_tree, settle, wait_for, walk};

use super::model::{FAILS, File, Home, Kind, Part, Slot, State, TREES, Workspace};
use super::oracle::{Oracle, Verdict, command};
use super::render;
use super::steps::{Absence, Act, Blow, Build, Profile, Step, Verb};

/// Steps between two checks of the whole store.
const STORE_CHECK_STEPS: usize = 25;

/// A walk under way.
pub struct Walker<'s> {
    sandbox: &'s Sandbox,
    workspace: &'s Workspace,
    oracle: Oracle<'s>,
    trees: Vec<Project<'s>>,
    states: Vec<State>,
    on_disk: BTreeMap<PathBuf, String>,
    builds: usize,
    /// Commits of the repository that Cargo fetches from.
    tags: BTreeSet<String>,
    /// Blobs were taken from the store: entries that need them are left.
    has_lost_blobs: bool,
}

impl<'s> Walker<'s> {
    /// Lays out the worktrees.
    pub fn new(sandbox: &'s Sandbox, workspace: &'s Workspace) -> Self {
        // Names of one length: messages are wrapped and aligned by columns.
        let project = |name: char| Project::new(sandbox, sandbox.root().join(format!("tree-{name}")));
        let mut walker = Self {
            sandbox,
            workspace,
            oracle: Oracle::new(project('o')),
            trees: ('a'..).take(TREES).map(project).collect(),
            states: vec![State::default(); TREES],
            on_disk: BTreeMap::new(),
            builds: 0,
            tags: BTreeSet::new(),
            has_lost_blobs: false,
        };
        (0..TREES).for_each(|tree| walker.write_out(tree));
        walker
    }

    /// Builds with kache so far, and builds of the oracle.
    pub fn builds(&self) -> (usize, usize) {
        (self.builds, self.oracle.builds())
    }

    /// Takes a step, and judges what came of it.
    pub fn take(&mut self, number: usize, step: &Step) {
        let tree = step.tree;
        // Now and then a recorder is still at work while the next thing happens.
        if !number.is_multiple_of(4) {
            self.wait_for_recorders();
        }
        match step.act {
            Act::Edit(slot, variant) => self.edit(tree, slot, variant),
            Act::Touch(slot) => self.touch(tree, slot),
            Act::Env(name, value) => self.set_env(tree, name, value),
            Act::Become(other) => {
                self.states[tree].slots = self.states[other].slots.clone();
                self.states[tree].slots.retain(|_, variant| *variant != FAILS);
                self.share_outside(tree);
                self.write_out(tree);
            }
            Act::Build(build) => self.build(tree, &build),
            Act::BuildBoth(other, build) => self.build_both(tree, other, &build),
            Act::BuildWithout(absence, build) => self.build_without(tree, absence, &build),
            Act::Kill(blow, after, build) => self.kill(tree, blow, after, &build),
            Act::Clean(package) => {
                let name = &self.workspace.packages[package].name;
                let run = self.trees[tree].cargo(&format!("clean -p {name}")).plain().run();
                // What is fetched and nobody depends on is not known here.
                let is_known = !run.stderr.contains("did not match any packages");
                assert_eq!(run.status.success(), is_known, "{run}");
            }
            Act::Wipe => self.trees[tree].wipe(),
            Act::Fresh(build) => {
                self.trees[tree].wipe();
                self.build(tree, &build);
            }
            Act::Strip => self.strip(tree),
            Act::Collect => {
                let output = self.sandbox.cli(&["gc", "--max-age", "0h"]);
                assert!(output.status.success(), "kache gc: {output:?}");
            }
            Act::LoseEntries => self.lose_half("v1/entries"),
            Act::LoseBlobs => {
                self.has_lost_blobs = true;
                self.lose_half("v1/blobs");
            }
            Act::LoseCache => self.sandbox.clear_cache(),
        }
        if number.is_multiple_of(STORE_CHECK_STEPS) {
            self.check_store();
        }
    }

    /// Builds everything everywhere, then goes back to each worktree in every order: nothing is left to do.
    pub fn finish(&mut self) {
        let build = Build { verb: Verb::Build, profile: Profile::Dev, package: None };
        (0..TREES).for_each(|tree| self.build(tree, &build));
        for tree in [1, 0, 2, 1, 2, 0] {
            self.expect_nothing_to_do(tree, &build);
        }
        self.wait_for_recorders();
        self.check_store();
    }

    /// Waits until nobody records what a build has left. A recorder that was killed leaves a note for ever.
    pub fn wait_for_recorders(&self) {
        let until = Instant::now() + Duration::from_secs(3);
        let is_open = |note: &PathBuf| {
            note.ends_with(".kache/recorder")
                && fs::read_to_string(note).is_ok_and(|text| text.lines().count() == 1)
        };
        while self.workspace.fetches()
            && self.trees.iter().any(|tree| walk(tree.target()).iter().any(is_open))
            && Instant::now() < until
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn cargo<'a>(&'a self, tree: usize, args: &str) -> Cargo<'a> {
        command(&self.trees[tree], self.workspace, &self.states[tree], args)
    }

    fn build(&mut self, tree: usize, build: &Build) {
        self.builds += 1;
        let args = build.args(self.workspace, !self.states[tree].fails());
        let run = self.cargo(tree, &args).run();
        self.judge(tree, build, &run);
        self.expect_nothing_to_do(tree, build);
    }

    fn judge(&self, tree: usize, build: &Build, run: &Run) {
        let expected = self.oracle.ask(self.workspace, &self.states[tree], build);
        let found = Verdict::of(run, &self.trees[tree], self.workspace, build);
        assert!(
            found == expected,
            "{run}\nnot as a clean build\n=== found {found:#?}\n=== expected {expected:#?}"
        );
    }

    /// Nothing is compiled or run again; where sources don't compile there is always something to do.
    fn expect_nothing_to_do(&self, tree: usize, build: &Build) {
        if !self.states[tree].fails() {
            self.cargo(tree, &build.args_of_noop(self.workspace)).nothing_to_do();
        }
    }

    fn build_both(&mut self, tree: usize, other: usize, build: &Build) {
        self.builds += 2;
        let start =
            |tree: usize| self.cargo(tree, &build.args(self.workspace, !self.states[tree].fails())).spawn();
        let (one, two) = (start(tree), start(other));
        for (tree, running) in [(tree, one), (other, two)] {
            let run = running.wait(&self.trees[tree]);
            self.judge(tree, build, &run);
        }
        self.expect_nothing_to_do(tree, build);
        self.expect_nothing_to_do(other, build);
    }

    fn build_without(&mut self, tree: usize, absence: Absence, build: &Build) {
        let args = build.args(self.workspace, !self.states[tree].fails());
        let cargo = self.cargo(tree, &args);
        let run = match absence {
            Absence::NoWrapper => cargo.plain().run(),
            Absence::Disabled => cargo.env("KACHE_DISABLED", "1").run(),
        };
        self.judge(tree, build, &run);
        self.expect_nothing_to_do(tree, build);
    }

    fn kill(&mut self, tree: usize, blow: Blow, after: usize, build: &Build) {
        let args = build.args(self.workspace, !self.states[tree].fails());
        let mark = self.sandbox.mark();
        let running = self.cargo(tree, &args).spawn();
        wait_for("a build to get on", || {
            running.has_ended() || self.sandbox.events_since(&mark).len() >= after
        });
        match blow {
            Blow::Interrupt => running.signal("INT"),
            Blow::Kill => running.signal("KILL"),
            Blow::KillCargo => running.signal_cargo("KILL"),
        }
        let group = running.group();
        running.wait(&self.trees[tree]);
        wait_for("the last of a killed build to end", || group.is_gone());
    }

    fn edit(&mut self, tree: usize, slot: Slot, variant: u8) {
        self.states[tree].slots.insert(slot, variant);
        self.share_outside(tree);
        self.write_out(tree);
    }

    fn touch(&self, tree: usize, slot: Slot) {
        if self.workspace.is_fetched(slot.package) {
            return;
        }
        let package = &self.workspace.packages[slot.package];
        self.trees[tree].touch(&format!("{}/{}", render::dir_of(package), package.path_of(slot.file)));
    }

    fn set_env(&mut self, tree: usize, name: &'static str, value: Option<u8>) {
        let env = &mut self.states[tree].env;
        match value {
            Some(value) => env.insert(name, value),
            None => env.remove(name),
        };
        if name == "WALK_HIDDEN" {
            let packages = self.workspace.packages.iter().enumerate();
            let readers = packages.filter(|(_, package)| package.has(Part::HiddenVariable));
            readers.for_each(|(package, _)| self.touch(tree, Slot { package, file: File::Source }));
        }
    }

    /// What lies outside is the same in every state.
    fn share_outside(&mut self, tree: usize) {
        let is_outside = |slot: &Slot| self.workspace.packages[slot.package].home == Home::Outside;
        let slots = self.states[tree].slots.iter().filter(|(slot, _)| is_outside(slot));
        let shared: Vec<(Slot, u8)> = slots.map(|(slot, variant)| (*slot, *variant)).collect();
        for state in &mut self.states {
            state.slots.extend(shared.iter().copied());
        }
    }

    /// Writes what differs from what is there, as an editor or a switch of branches does. Where nobody would tell Cargo
    /// of a change, something else looks changed too.
    fn write_out(&mut self, tree: usize) {
        settle();
        self.commit(tree);
        let (mut witnesses, mut has_new_manifest) = (Vec::new(), false);
        for (name, text) in render::files(self.workspace, &self.states[tree]) {
            let path = match name.strip_prefix("../") {
                Some(outside) => self.sandbox.root().join(outside),
                None => self.trees[tree].path(&name),
            };
            if self.on_disk.get(&path) != Some(&text) {
                fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
                fs::write(&path, &text).unwrap_or_else(|e| panic!("write {}: {e}", path.display()));
                self.on_disk.insert(path, text);
                has_new_manifest |= name.ends_with("Cargo.toml");
                witnesses.extend(self.witness_of(&name));
            }
        }
        witnesses.into_iter().for_each(|slot| self.touch(tree, slot));
        if has_new_manifest && self.workspace.fetches() {
            self.trees[tree].cargo("fetch").plain().env("CARGO_NET_OFFLINE", "false").ok();
        }
        settle();
    }

    /// Makes the commit that a worktree's state needs.
    fn commit(&mut self, tree: usize) {
        let tag = self.workspace.tag(&self.states[tree]);
        if !self.workspace.fetches() || !self.tags.insert(tag.clone()) {
            return;
        }
        let dir = PathBuf::from(self.workspace.upstream.trim_start_matches("file://"));
        for (name, text) in render::upstream(self.workspace, &self.states[tree]) {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("make a directory");
            fs::write(path, text).expect("write");
        }
        let git = |args: &[&str]| self.sandbox.git(&dir, args);
        if self.tags.len() == 1 {
            git(&["init", "-q", "-b", "main"]);
        }
        git(&["add", "-A"]);
        git(&["commit", "-q", "--allow-empty", "-m", &tag]);
        git(&["tag", &tag]);
    }

    fn witness_of(&self, name: &str) -> Option<Slot> {
        let slots = self.workspace.slots().into_iter();
        let is_it = |slot: &Slot| {
            let package = &self.workspace.packages[slot.package];
            name == format!("{}/{}", render::dir_of(package), package.path_of(slot.file))
        };
        let slot = slots.filter(is_it).find(|slot| slot.file != File::Manifest)?;
        let witness = self.workspace.packages[slot.package].witness(slot.file)?;
        Some(Slot { file: witness, ..slot })
    }

    /// Writes to the programs in place: they stay as good as they are, and nothing else may change with them. They keep
    /// their time: a program that looks newer than libraries that were built after it would be fresh to any Cargo.
    fn strip(&self, tree: usize) {
        for package in self.workspace.packages.iter().filter(|package| package.kind == Kind::Program) {
            let path = self.trees[tree].target().join("debug").join(&package.name);
            if let Ok(mut file) = fs::File::options().append(true).open(path) {
                let time = file.metadata().and_then(|meta| meta.modified()).expect("the time of a program");
                file.write_all(b"\n").expect("write to a program");
                file.set_modified(time).expect("date a program");
            }
        }
        settle();
    }

    fn lose_half(&self, dir: &str) {
        for file in walk(&self.sandbox.cache_dir().join(dir)).iter().step_by(2) {
            remove_tree(file);
        }
    }

    /// The store is sound. Where blobs were taken away, entries may miss them; contents are right all the same.
    fn check_store(&self) {
        let (is_content, text) = self.sandbox.doctor();
        let is_damaged = text.contains("has other content");
        assert!(!is_damaged && (is_content || self.has_lost_blobs), "kache doctor:\n{text}");
    }
}
