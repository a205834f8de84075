//! A workspace as a walk sees it: packages made of parts, and slots, the places whose content a walk changes. A state
//! says which variant is in each slot. Knows nothing about disks; `render` turns package and state into text.

use std::collections::BTreeMap;

/// Number of worktrees of a walk.
pub const TREES: usize = 3;

/// Variants of any slot. Few, so that states come back, as reverts do, and the oracle knows them.
pub const VARIANTS: u8 = 2;
/// The variant of a source that earns a warning.
pub const WARNS: u8 = 2;
/// The variant of a source that doesn't compile.
pub const FAILS: u8 = 3;

/// A workspace.
#[derive(Debug)]
pub struct Workspace {
    /// Dependencies come before their dependents.
    pub packages: Vec<Package>,
    /// `CARGO_INCREMENTAL`.
    pub incremental: &'static str,
    /// Where the repository of the packages that are fetched is, once it is anywhere.
    pub upstream: String,
}

/// A package.
#[derive(Debug)]
pub struct Package {
    /// Its name, which is its directory's too.
    pub name: String,
    /// What it makes.
    pub kind: Kind,
    /// Where it lies.
    pub home: Home,
    /// Indices of the packages that it depends on.
    pub deps: Vec<usize>,
    /// What it is made of.
    pub parts: Vec<Part>,
    /// Its build script.
    pub script: Option<Script>,
}

/// What a package makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A library.
    Library,
    /// Procedural macros.
    Macros,
    /// A program with an integration test and an example.
    Program,
}

/// Where a package lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// In each worktree.
    Member,
    /// Beside the worktrees, the same for all.
    Outside,
    /// In a repository that Cargo fetches from; each state is a commit of its own.
    Upstream,
}

/// Whether there are packages that Cargo fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// None.
    Nothing,
    /// Some: those may be in place before Cargo looks.
    Some,
}

/// What a library's value is put together from, beside its own number and its dependencies' values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// A module in a file of its own.
    Module,
    /// A file that is included as text.
    Included,
    /// A variable that the compiler reads and reports.
    Variable,
    /// Where the sources are.
    Location,
    /// A feature that programs switch on.
    Feature,
    /// Code that is generated in the dependents.
    Generic,
    /// A file that a macro reads and nobody reports.
    HiddenFile,
    /// A variable that a macro reads and nobody reports.
    HiddenVariable,
}

/// A build script.
#[derive(Debug, Clone, Copy)]
pub struct Script {
    /// What it tells Cargo about its inputs.
    pub watch: Watch,
    /// What it makes beside Rust code.
    pub product: Product,
    /// Index of a library that the script itself uses.
    pub uses: Option<usize>,
}

/// What a build script tells Cargo about its inputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// Each file that it reads.
    Files,
    /// A variable, and no file is read.
    Variable,
    /// Nothing: Cargo watches the whole package.
    Package,
    /// Itself only, though it reads a file.
    Itself,
}

/// What a build script makes beside Rust code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Product {
    /// Nothing.
    Nothing,
    /// A static library from C.
    Native,
    /// Metadata for the scripts of dependents.
    Metadata,
}

/// A place whose content changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// Index of the package.
    pub package: usize,
    /// Which of its files.
    pub file: File,
}

/// The files of a package that change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum File {
    /// The crate root.
    Source,
    /// The module of [`Part::Module`].
    Module,
    /// The text of [`Part::Included`].
    Included,
    /// The file of [`Part::HiddenFile`].
    Hidden,
    /// The build script.
    Script,
    /// What the build script reads.
    ScriptInput,
    /// Cargo.toml: which features a program asks for.
    Manifest,
}

/// What a worktree and its shell look like.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct State {
    /// Variants other than 0.
    pub slots: BTreeMap<Slot, u8>,
    /// Variables that are set.
    pub env: BTreeMap<&'static str, u8>,
}

/// Variables that walks change.
pub const VARIABLES: &[&str] = &["WALK_ENV", "WALK_SCRIPT", "WALK_HIDDEN", "RUSTFLAGS"];

impl State {
    pub fn variant(&self, slot: Slot) -> u8 {
        self.slots.get(&slot).copied().unwrap_or(0)
    }

    /// The environment as it is set for Cargo.
    pub fn env_values(&self) -> impl Iterator<Item = (&'static str, String)> {
        self.env.iter().map(|(name, variant)| match *name {
            "RUSTFLAGS" => {
                (*name, format!("-C debug-assertions={}", ["on", "off"][usize::from(variant % 2)]))
            }
            name => (name, format!("e{variant}")),
        })
    }

    /// Whether a source doesn't compile.
    pub fn fails(&self) -> bool {
        self.slots.iter().any(|(slot, variant)| slot.file == File::Source && *variant == FAILS)
    }
}

impl Package {
    /// Whether it has a part.
    pub fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Path of a file below the package.
    pub fn path_of(&self, file: File) -> &'static str {
        match file {
            File::Source if self.kind == Kind::Program => "src/main.rs",
            File::Source => "src/lib.rs",
            File::Module => "src/m.rs",
            File::Included => "src/data.txt",
            File::Hidden => "hidden.txt",
            File::Script => "build.rs",
            File::ScriptInput if self.script.is_some_and(|s| s.product == Product::Native) => "foo.c",
            File::ScriptInput => "number.txt",
            File::Manifest => "Cargo.toml",
        }
    }

    /// The files that change.
    pub fn files(&self) -> Vec<File> {
        let mut files = vec![File::Source];
        files.extend(self.has(Part::Module).then_some(File::Module));
        files.extend(self.has(Part::Included).then_some(File::Included));
        files.extend(self.has(Part::HiddenFile).then_some(File::Hidden));
        if let Some(script) = self.script {
            files.push(File::Script);
            files.extend((script.watch != Watch::Variable).then_some(File::ScriptInput));
        }
        files.extend((self.kind == Kind::Program).then_some(File::Manifest));
        files
    }

    /// The file that has to look changed for Cargo to notice a change of `file`, where nobody reports that one.
    pub fn witness(&self, file: File) -> Option<File> {
        let sneaky = self.script.is_some_and(|script| script.watch == Watch::Itself);
        match file {
            File::Hidden => Some(File::Source),
            File::ScriptInput if sneaky => Some(File::Script),
            _ => None,
        }
    }
}

impl Workspace {
    /// Whether a package is fetched.
    pub fn is_fetched(&self, package: usize) -> bool {
        self.packages[package].home == Home::Upstream
    }

    /// Whether any is.
    pub fn fetches(&self) -> bool {
        self.packages.iter().any(|package| package.home == Home::Upstream)
    }

    /// The name of the commit in which what is fetched has its state.
    pub fn tag(&self, state: &State) -> String {
        let slots = self.slots().into_iter().filter(|slot| self.is_fetched(slot.package));
        let digits = slots.map(|slot| char::from(b'0' + state.variant(slot)));
        std::iter::once('u').chain(digits).collect()
    }

    /// Every slot.
    pub fn slots(&self) -> Vec<Slot> {
        let of = |(package, p): (usize, &Package)| {
            p.files().into_iter().map(|file| Slot { package, file }).collect::<Vec<_>>()
        };
        self.packages.iter().enumerate().flat_map(of).collect()
    }
}
