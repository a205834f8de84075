//! The freshness stories on file systems that link, clone or copy: store and target directory on the same one, or on
//! two. Each story is told on each pair, compares with clean builds, and leaves a sound store.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

use kache_testkit::FileSystem::{Btrfs, Tmpfs, Xfs};
use kache_testkit::{FileSystem, Project, Run, Volume, settle, wait_for};

use crate::fixtures::{ALL_KINDS, c_build_script, macro_world};
use crate::seeding::{LIB, SCRIPT, Upstream, fetch, recorded, seeded};
use crate::support::{Lab, Outcomes, lean_lab_on};

/// Where the projects are, and where the store is when it is elsewhere.
#[derive(Clone, Copy)]
struct Pair {
    projects: Option<FileSystem>,
    store: Option<FileSystem>,
}

/// Both on one file system.
const fn same(file_system: FileSystem) -> Pair {
    Pair { projects: Some(file_system), store: None }
}

/// How bytes may get from a store to a target directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Clone,
    Link,
    Copy,
}

impl Pair {
    fn way(self) -> Way {
        match self {
            Pair { projects: Some(one), store: None } if one.reflinks() => Way::Clone,
            Pair { store: None, .. } => Way::Link,
            _ => Way::Copy,
        }
    }
}

/// Where a story takes place.
struct Scene<'s> {
    lab: &'s Lab,
    way: Way,
    /// A repository of which the program uses a package: those worktrees are seeded.
    upstream: Option<Upstream<'s>>,
}

impl<'s> Scene<'s> {
    /// A workspace whose program uses the fetched package, if there is one.
    fn with_fetched(&self, p: Project<'s>) -> Project<'s> {
        if let Some(upstream) = &self.upstream {
            let url = upstream.project.dir().display();
            let manifest = p.read("app/Cargo.toml");
            p.write("app/Cargo.toml", format!("{manifest}top = {{ git = \"file://{url}\" }}\n"));
            let main = p.read("app/src/main.rs");
            p.write(
                "app/src/main.rs",
                main.replace("fn main() {\n", "fn main() {\n    println!(\"{}\", top::top());\n"),
            );
            fetch(&p);
        }
        p
    }

    fn workspace(&self, name: &str) -> Project<'s> {
        self.with_fetched(workspace(self.lab, name))
    }

    /// The first worktree is built.
    fn build_first(&self, p: &Project<'_>) {
        p.cargo("run").same();
        if self.upstream.is_some() {
            // The comparison took the target directory away while the recorder wanted to look.
            p.wipe();
            recorded(&p.cargo("run"));
        }
    }

    /// Another worktree is built, and nothing is compiled.
    fn build_another(&self, p: &Project<'_>) -> Run {
        let run = p.cargo("run").same();
        run.all_hit();
        assert_eq!(seeded(&run), if self.upstream.is_some() { (4, 1) } else { (0, 0) }, "{run}");
        run
    }
}

/// Tells a story on a pair of file systems; not at all where they can't be had.
fn on(pair: Pair, story: impl Fn(&Lab, Way)) {
    let mount = |wanted: Option<FileSystem>| match wanted {
        Some(file_system) => Volume::mount(file_system).map(Some),
        None => Some(None),
    };
    let Some(projects) = mount(pair.projects) else { return };
    let Some(store) = mount(pair.store) else { return };
    let parent = projects.as_ref().map_or_else(std::env::temp_dir, Volume::root);
    let mut lab = lean_lab_on(&parent);
    if let Some(store) = &store {
        lab = lab.cache_at(store.root().join("cache"));
    }
    story(&lab, pair.way());
    lab.assert_doctor_is_content();
}

/// Tells a story on a pair of file systems, without fetched packages.
fn tell(pair: Pair, story: fn(&Scene<'_>)) {
    on(pair, |lab, way| story(&Scene { lab, way, upstream: None }));
}

/// The same with fetched packages, so that worktrees are seeded.
fn tell_seeded(pair: Pair, story: fn(&Scene<'_>)) {
    on(pair, |lab, way| {
        let upstream = Upstream::new(lab, SCRIPT, LIB);
        // The workspaces have a package of this name.
        upstream.project.edit("mac/Cargo.toml", "name = \"mac\"", "name = \"fetched-mac\"");
        upstream.project.edit("top/Cargo.toml", "mac = {", "mac = { package = \"fetched-mac\",");
        upstream.commit();
        story(&Scene { lab, way, upstream: Some(upstream) });
    });
}

/// Every kind of unit, and a library that compiles C.
fn workspace<'s>(lab: &'s Lab, name: &str) -> Project<'s> {
    let p = lab.project(name, ALL_KINDS);
    p.write_all(&[
        (
            "nat/Cargo.toml",
            "[package]\nname = \"nat\"\nversion = \"0.1.0\"\nedition = \"2024\"\nlinks = \"foo\"\n",
        ),
        ("nat/build.rs", &c_build_script("println!(\"cargo:rustc-link-lib=static=foo\");")),
        ("nat/foo.c", "int foo(void) { return 1; }\n"),
        (
            "nat/src/lib.rs",
            "unsafe extern \"C\" { safe fn foo() -> i32; }\npub fn value() -> i32 { foo() }\n",
        ),
        ("app/src/main.rs", "fn main() {\n    println!(\"{} {}\", mid::value(), nat::value());\n}\n"),
    ]);
    p.edit("Cargo.toml", "\"gen\"", "\"nat\", \"gen\"");
    p.edit("app/Cargo.toml", "[dependencies]\n", "[dependencies]\nnat = { path = \"../nat\" }\n");
    p
}

/// Bytes went only the way that these file systems have.
pub fn assert_way(run: &Run, way: Way) {
    let sum = |what: &str| run.events.iter().map(|event| event.number(what)).sum::<u64>();
    let (cloned, linked, copied) =
        (sum("moved/reflinked_bytes"), sum("moved/linked_bytes"), sum("moved/copied_bytes"));
    let is_right = match way {
        Way::Clone => cloned > 0 && linked == 0 && copied == 0,
        Way::Link => cloned == 0 && linked > 0,
        Way::Copy => cloned == 0 && linked == 0 && copied > 0,
    };
    assert!(is_right, "{run}\ncloned {cloned}, linked {linked}, copied {copied} bytes");
}

/// Three worktrees are built; then there is nothing to do in any of them, in every order.
fn three_worktrees(scene: &Scene<'_>) {
    let one = scene.workspace("one");
    scene.build_first(&one);
    let (two, three) = (one.checkout("two"), one.checkout("a/third"));
    for p in [&two, &three] {
        assert_way(&scene.build_another(p), scene.way);
    }
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        order.iter().for_each(|index| [&one, &two, &three][*index].nothing_to_do("build"));
    }
    // Tests and checks in between, in one of them only.
    two.cargo("test -q").same();
    two.cargo("check").same();
    [&three, &two, &one].iter().for_each(|p| p.nothing_to_do("build"));
    two.nothing_to_do("check");
    two.nothing_to_do("test --no-run");
}

/// Edits in the second of two worktrees, built in parts; reverts; the first one stays as it is.
fn edits_and_reverts(scene: &Scene<'_>) {
    let one = scene.workspace("one");
    scene.build_first(&one);
    let two = one.checkout("two");
    scene.build_another(&two);
    for (file, package, old, new) in [
        ("gen/number.txt", "gen", "7", "8"),
        ("nat/foo.c", "nat", "1", "2"),
        ("mac/src/lib.rs", "mac", "2 *", "5 *"),
        ("mid/src/lib.rs", "mid", "twice!(gen::NUMBER)", "twice!(gen::NUMBER + 1)"),
    ] {
        for (from, to) in [(old, new), (new, old)] {
            two.edit(file, from, to);
            two.cargo(&format!("build -p {package}")).ok();
            two.cargo("run").same();
            two.nothing_to_do("build");
            one.nothing_to_do("build");
        }
        two.touch(file);
        two.cargo("run").same();
        two.nothing_to_do("build");
    }
    two.cargo("clean -p mid -p nat").plain().ok();
    two.edit("nat/foo.c", "1", "3");
    two.cargo("build -p nat").ok();
    two.cargo("run").same();
    two.nothing_to_do("build");
    one.cargo("run").same();
}

/// Builds are killed between a dependency and its dependents.
fn interruptions(scene: &Scene<'_>) {
    let one =
        macro_world(scene.lab, "one", "concat!(mac::gate!(), include_str!(\"data.txt\"), dep::VALUE!())");
    one.write("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    one.write("dep/src/lib.rs", "#[macro_export]\nmacro_rules! VALUE { () => { \"1\" } }\n");
    one.write("user/src/data.txt", "data");
    one.edit("Cargo.toml", "\"mac\"", "\"dep\", \"mac\"");
    one.edit("user/Cargo.toml", "[dependencies]\n", "[dependencies]\ndep = { path = \"../dep\" }\n");
    let one = scene.with_fetched(one);
    scene.build_first(&one);
    let two = one.checkout("two");
    for (signal, old, new) in
        [("KILL", "\"1\"", "\"2\""), ("INT", "\"2\"", "\"1\""), ("KILL", "\"1\"", "\"2\"")]
    {
        two.edit("dep/src/lib.rs", old, new);
        // A file that no compile has seen yet, so that the next one is not served.
        two.write("user/src/data.txt", format!("{signal} {new}"));
        two.write("user/gate", "");
        let running = two.cargo("build").spawn();
        wait_for("the compile of user", || two.path("user/reached").exists());
        running.signal(signal);
        running.wait(&two);
        two.remove("user/gate");
        two.remove("user/reached");
        two.cargo("run").same();
        two.nothing_to_do("build");
        one.nothing_to_do("build");
    }
}

/// What else happens to a worktree: another branch and back, builds without kache, a variable that has a build script run
/// again, checks in between, and a second project that has a part of the first one's packages.
fn everyday(scene: &Scene<'_>) {
    let one = scene.workspace("one");
    one.edit(
        "gen/build.rs",
        "fn main() {\n",
        "fn main() {\n    println!(\"cargo:rerun-if-env-changed=FLIP\");\n",
    );
    scene.build_first(&one);
    let two = one.checkout("two");
    scene.build_another(&two);
    let branch = |number: &str, native: &str, factor: &str| {
        two.write("gen/number.txt", number);
        two.write("nat/foo.c", format!("int foo(void) {{ return {native}; }}\n"));
        two.write("mac/src/lib.rs", one.read("mac/src/lib.rs").replace("2 *", &format!("{factor} *")));
    };
    for (number, native, factor) in [("8", "2", "5"), ("7", "1", "2"), ("8", "1", "2"), ("7", "1", "2")] {
        branch(number, native, factor);
        two.cargo("check").same();
        two.cargo("run").same();
        two.nothing_to_do("build");
        two.nothing_to_do("check");
        branch("6", native, factor);
        two.cargo("build -p gen").plain().ok();
        two.cargo("run").env("KACHE_DISABLED", "1").ok();
        branch(number, native, factor);
        two.cargo("build -p gen").ok();
        two.cargo("run").same();
        two.nothing_to_do("build");
    }
    for flip in ["a", "b", "a"] {
        two.cargo("run").env("FLIP", flip).same();
        two.cargo("build").env("FLIP", flip).nothing_to_do();
    }
    let part = one.checkout("part");
    part.edit("Cargo.toml", "\"nat\", ", "");
    part.edit("app/Cargo.toml", "nat = { path = \"../nat\" }\n", "");
    part.write("app/src/main.rs", "fn main() {\n    println!(\"{}\", mid::value());\n}\n");
    part.cargo("run").same().outcome("gen", "hit");
    [&part, &one].iter().for_each(|p| p.nothing_to_do("build"));
}

/// Programs and tests share no inode with the store or with each other: writing to them in place reaches nobody else.
fn executables_are_private(scene: &Scene<'_>) {
    let Scene { lab, .. } = scene;
    let one = scene.workspace("one");
    one.cargo("test -q").same();
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("test -q").same().all_hit();
    two.cargo("run").same();
    let stores: Vec<(u64, u64)> = lab.blobs().iter().map(|blob| identity(blob)).collect();
    let is_program =
        |name: &str| (name.starts_with("app-") || name.starts_with("it-")) && !name.contains('.');
    for p in [&one, &two] {
        let programs = p.compiled(is_program);
        assert!(programs.len() >= 2, "{programs:?}");
        for program in &programs {
            assert!(!stores.contains(&identity(program)), "{} is the store's own file", program.display());
            let mut file = fs::File::options().append(true).open(program).expect("open a program");
            file.write_all(b"written in place").expect("write to a program");
        }
    }
    settle();
    lab.assert_doctor_is_content();
    two.wipe();
    two.cargo("run").same().all_hit();
    two.nothing_to_do("build");
}

fn identity(path: &std::path::Path) -> (u64, u64) {
    let data = fs::metadata(path).unwrap_or_else(|e| panic!("look at {}: {e}", path.display()));
    (data.dev(), data.ino())
}

/// One test for each story on each pair.
macro_rules! stories {
    ($($name:ident: $pair:expr;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn three_worktrees() {
                tell($pair, super::three_worktrees);
            }

            #[test]
            fn edits_and_reverts() {
                tell($pair, super::edits_and_reverts);
            }

            #[test]
            fn interruptions() {
                tell($pair, super::interruptions);
            }

            #[test]
            fn executables_are_private() {
                tell($pair, super::executables_are_private);
            }

            #[test]
            fn worktrees_that_are_seeded() {
                on($pair, crate::seeding_stories::worktrees_that_are_seeded);
            }
        }
    )*};
}

stories! {
    xfs: same(Xfs);
    btrfs: same(Btrfs);
    tmpfs: same(Tmpfs);
    store_on_xfs_target_elsewhere: Pair { projects: None, store: Some(Xfs) };
    store_on_btrfs_target_on_xfs: Pair { projects: Some(Xfs), store: Some(Btrfs) };
    store_in_memory_target_on_btrfs: Pair { projects: Some(Btrfs), store: Some(Tmpfs) };
}

/// Where nothing was mounted.
const AT_HAND: Pair = Pair { projects: None, store: None };

/// One test for each of these stories where files are cloned, and where they are linked.
macro_rules! two_ways {
    ($($name:ident: $tell:ident $story:ident;)*) => {$(
        mod $name {
            use super::*;

            #[test]
            fn with_clones() {
                $tell(same(Xfs), $story);
            }

            #[test]
            fn with_links() {
                $tell(AT_HAND, $story);
            }
        }
    )*};
}

two_ways! {
    everyday_life: tell everyday;
    three_seeded_worktrees: tell_seeded three_worktrees;
    seeded_edits_and_reverts: tell_seeded edits_and_reverts;
    seeded_interruptions: tell_seeded interruptions;
    seeded_everyday_life: tell_seeded everyday;
    seeded_executables: tell_seeded executables_are_private;
}
