//! From a seed to a workspace and a list of steps. Pure: the same seed gives the same walk everywhere.

use std::collections::{BTreeMap, VecDeque};

use super::model::{
    FAILS, Fetched, File, Home, Kind, Package, Part, Product, Script, Slot, TREES, VARIABLES, VARIANTS,
    WARNS, Watch, Workspace,
};
use super::random::Random;
use super::steps::{Absence, Act, Blow, Build, Profile, Step, Verb};

const PARTS: &[Part] = &[
    Part::Module,
    Part::Included,
    Part::Variable,
    Part::Location,
    Part::Feature,
    Part::Generic,
    Part::HiddenFile,
    Part::HiddenVariable,
];

/// The workspace of a seed.
pub fn workspace(random: &mut Random, fetched: Fetched) -> Workspace {
    let libraries = 2 + random.below(3);
    let mut packages: Vec<Package> = Vec::new();
    let macros_at = random.below(2);
    for index in 0..libraries {
        if index == macros_at {
            packages.push(macros(random, &packages, fetched));
        }
        let name = format!("p{index}");
        let package = library(random, name, &packages, fetched);
        packages.push(package);
    }
    for name in ["app", "tool"].iter().take(random.pick(&[1, 1, 2])) {
        let mut deps = choose_deps(random, &packages, Home::Member);
        let last = packages.iter().rposition(|package| package.kind == Kind::Library).expect("a library");
        if !deps.contains(&last) {
            deps.push(last);
        }
        packages.push(Package {
            name: (*name).to_owned(),
            kind: Kind::Program,
            home: Home::Member,
            deps,
            parts: Vec::new(),
            script: None,
        });
    }
    Workspace { packages, incremental: random.pick(&["0", "1"]), upstream: String::new() }
}

fn macros(random: &mut Random, before: &[Package], fetched: Fetched) -> Package {
    let uses = before.iter().position(|package| package.kind == Kind::Library).filter(|_| random.chance(50));
    let alone = if fetched == Fetched::Some && before.is_empty() { Home::Upstream } else { Home::Member };
    let home = uses.map_or(alone, |index| before[index].home);
    let deps = uses.into_iter().collect();
    Package { name: "mac".to_owned(), kind: Kind::Macros, home, deps, parts: Vec::new(), script: None }
}

fn library(random: &mut Random, name: String, before: &[Package], fetched: Fetched) -> Package {
    let only = |home: Home| before.iter().all(|package| package.home == home);
    let home = match fetched {
        Fetched::Some if before.iter().all(|package| package.kind == Kind::Macros) => Home::Upstream,
        Fetched::Some if only(Home::Upstream) && random.chance(60) => Home::Upstream,
        Fetched::Nothing if only(Home::Outside) && random.chance(40) => Home::Outside,
        Fetched::Some | Fetched::Nothing => Home::Member,
    };
    let mut deps = choose_deps(random, before, home);
    let mut parts: Vec<Part> = PARTS.iter().copied().filter(|_| random.chance(30)).collect();
    if home != Home::Member {
        // What every worktree shares can't follow the variables of one.
        parts.retain(|part| *part != Part::HiddenVariable);
    }
    let needs_macros = parts.iter().any(|part| matches!(part, Part::HiddenFile | Part::HiddenVariable));
    let may_use = |package: &Package| home == Home::Member || package.home == home;
    match before.iter().position(|package| package.kind == Kind::Macros && may_use(package)) {
        Some(macros) if needs_macros && !deps.contains(&macros) => deps.push(macros),
        Some(_) => {}
        None => parts.retain(|part| !matches!(part, Part::HiddenFile | Part::HiddenVariable)),
    }
    let script = random.chance(55).then(|| Script {
        watch: random.pick(&[Watch::Files, Watch::Variable, Watch::Package, Watch::Itself]),
        product: random.pick(&[Product::Nothing, Product::Native, Product::Metadata]),
        uses: before
            .iter()
            .position(|package| package.kind == Kind::Library && may_use(package))
            .filter(|_| random.chance(25)),
    });
    Package { name, kind: Kind::Library, home, deps, parts, script }
}

/// Some of the packages so far; what lies outside can't depend on what lies inside.
fn choose_deps(random: &mut Random, before: &[Package], home: Home) -> Vec<usize> {
    let may =
        |package: &Package| package.kind != Kind::Program && (home == Home::Member || package.home == home);
    (0..before.len()).filter(|index| may(&before[*index]) && random.chance(45)).collect()
}

/// Chooses steps; remembers what it needs to make the next ones meaningful.
struct Chooser<'a> {
    random: &'a mut Random,
    workspace: &'a Workspace,
    weights: Vec<usize>,
    slots: Vec<Slot>,
    /// Where most edits happen, so that states come back.
    hot: Vec<Slot>,
    /// What is in the slots, as far as that can be told beforehand.
    variants: BTreeMap<(usize, Slot), u8>,
    /// A source that doesn't compile, by worktree, and how long it may stay so.
    broken: [Option<(Slot, usize)>; TREES],
    tree: usize,
    /// What comes next, before anything else is chosen.
    row: VecDeque<Act>,
}

/// How often each kind of step comes, in the order of [`Chooser::act`].
const WEIGHTS: &[usize] = &[26, 3, 4, 3, 24, 9, 4, 5, 8, 5, 3, 2, 2, 2, 2, 1];

/// The steps of a walk.
pub fn steps(random: &mut Random, workspace: &Workspace, count: usize) -> Vec<Step> {
    // Each walk has its own character: some things happen often in it, others never.
    let weights = WEIGHTS.iter().map(|weight| weight * random.pick(&[0, 1, 1, 1, 2, 3])).collect::<Vec<_>>();
    let mut chooser = Chooser {
        random,
        workspace,
        weights,
        slots: workspace.slots(),
        hot: Vec::new(),
        variants: BTreeMap::new(),
        broken: [None; TREES],
        tree: 0,
        row: VecDeque::new(),
    };
    chooser.hot = (0..5).map(|_| chooser.random.pick(&chooser.slots)).collect();
    if workspace.fetches() {
        // Only an empty target directory can be seeded.
        chooser.weights[11] = chooser.weights[11].max(16);
    }
    // Edits and builds of everything are part of any walk.
    chooser.weights[0] = chooser.weights[0].max(26);
    chooser.weights[4] = chooser.weights[4].max(24);
    (0..count).map(|_| chooser.step()).collect()
}

impl Chooser<'_> {
    fn step(&mut self) -> Step {
        if let Some(act) = self.row.pop_front() {
            return Step { tree: self.tree, act };
        }
        if self.random.chance(25) {
            self.tree = self.random.below(TREES);
        }
        let tree = self.tree;
        if let Some((slot, left)) = self.broken[tree] {
            self.broken[tree] = left.checked_sub(1).map(|left| (slot, left));
            if left == 0 {
                return Step { tree, act: Act::Edit(slot, 0) };
            }
        }
        let kind = self.random.weighted(&self.weights);
        Step { tree, act: self.act(kind) }
    }

    fn slot(&mut self) -> Slot {
        if self.random.chance(75) { self.random.pick(&self.hot) } else { self.random.pick(&self.slots) }
    }

    fn act(&mut self, kind: usize) -> Act {
        match kind {
            0 => self.edit(),
            1 => Act::Touch(self.slot()),
            2 => {
                let name = self.random.pick(VARIABLES);
                let value = self.random.pick(&[None, Some(0), Some(1)]);
                Act::Env(name, value)
            }
            3 => Act::Become(self.other_tree()),
            4 => Act::Build(self.whole(Verb::Build)),
            5 => Act::Build(self.partial()),
            6 => Act::Build(self.whole(Verb::Check)),
            7 => {
                let verb = self.random.pick(&[Verb::Test, Verb::Examples]);
                Act::Build(self.whole(verb))
            }
            8 => {
                let blow = self.random.pick(&[Blow::Interrupt, Blow::Kill, Blow::KillCargo]);
                let build = if self.random.chance(70) { self.whole(Verb::Build) } else { self.partial() };
                Act::Kill(blow, self.random.below(6), build)
            }
            9 => {
                let build = if self.random.chance(50) { self.whole(Verb::Build) } else { self.partial() };
                Act::BuildWithout(self.random.pick(&[Absence::NoWrapper, Absence::Disabled]), build)
            }
            10 => self.clean(),
            11 if self.workspace.fetches() => {
                let verb = self.random.pick(&[Verb::Build, Verb::Build, Verb::Check, Verb::Test]);
                Act::Fresh(if self.random.chance(80) { self.whole(verb) } else { self.partial() })
            }
            11 => Act::Wipe,
            12 => Act::BuildBoth(self.other_tree(), self.whole(Verb::Build)),
            13 => Act::Strip,
            14 => self.random.pick(&[Act::Collect, Act::LoseEntries, Act::LoseBlobs]),
            _ => Act::LoseCache,
        }
    }

    /// A package is cleaned. Often it alone is edited and built then, and what rests on it later: where times decide,
    /// that is when they are unlike what a build of everything leaves.
    fn clean(&mut self) -> Act {
        let index = self.random.below(self.workspace.packages.len());
        if self.random.chance(60) {
            let slots: Vec<Slot> = self.slots.iter().copied().filter(|slot| slot.package == index).collect();
            if !slots.is_empty() && self.random.chance(75) {
                let slot = self.random.pick(&slots);
                let edit = self.next_variant(slot);
                self.row.push_back(edit);
            }
            if self.workspace.packages[index].home == Home::Member {
                let verb = self.random.pick(&[Verb::Build, Verb::Build, Verb::Check]);
                self.row.push_back(Act::Build(Build { verb, profile: Profile::Dev, package: Some(index) }));
            }
            let verb = self.random.pick(&[Verb::Build, Verb::Build, Verb::Test, Verb::Check]);
            self.row.push_back(Act::Build(Build { verb, profile: Profile::Dev, package: None }));
        }
        Act::Clean(index)
    }

    fn edit(&mut self) -> Act {
        let slot = self.slot();
        if slot.file == File::Source && self.random.chance(12) {
            if self.random.chance(60) {
                return Act::Edit(slot, WARNS);
            }
            if self.broken[self.tree].is_none() {
                self.broken[self.tree] = Some((slot, self.random.below(4)));
                return Act::Edit(slot, FAILS);
            }
        }
        self.next_variant(slot)
    }

    fn next_variant(&mut self, slot: Slot) -> Act {
        let variant = self.variants.entry((self.tree, slot)).or_default();
        *variant = (*variant + 1) % VARIANTS;
        Act::Edit(slot, *variant)
    }

    fn other_tree(&mut self) -> usize {
        (self.tree + 1 + self.random.below(TREES - 1)) % TREES
    }

    fn profile(&mut self) -> Profile {
        if self.random.chance(12) { Profile::Release } else { Profile::Dev }
    }

    fn whole(&mut self, verb: Verb) -> Build {
        Build { verb, profile: self.profile(), package: None }
    }

    fn partial(&mut self) -> Build {
        let members = self.workspace.packages.iter().enumerate();
        let members: Vec<usize> =
            members.filter(|(_, package)| package.home == Home::Member).map(|(index, _)| index).collect();
        let verb = if self.random.chance(20) { Verb::Check } else { Verb::Build };
        Build { verb, profile: self.profile(), package: Some(self.random.pick(&members)) }
    }
}
