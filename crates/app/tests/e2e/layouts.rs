//! Where outputs go: other target directories, profiles, triples, build directories, links. Each layout is built in one
//! checkout, served in a second one, and needs nothing afterwards.

use kache_testkit::{Cargo, Project, toolchain};

use crate::fixtures::ALL_KINDS;
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// Builds `args` in two checkouts; `lay_out` prepares each one and returns the variables for it.
fn in_two_checkouts(args: &str, lay_out: impl Fn(&Lab, &Project<'_>) -> Vec<(String, String)>) {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("another/and/longer/place");
    for (p, warm) in [(&one, false), (&two, true)] {
        let env = lay_out(&lab, p);
        let env: Vec<(&str, &str)> = env.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let run = p.cargo(args).envs(&env).ok();
        if warm {
            run.all_hit();
        }
        p.cargo(args).envs(&env).nothing_to_do();
        let program = p.cargo(&args.replacen("build", "run -q", 1)).envs(&env).ok();
        assert_eq!(program.stdout, "14\n", "{program}");
    }
}

/// B25: a target triple, which adds a directory.
#[test]
fn b25_target_triple() {
    in_two_checkouts(&format!("build --target {}", toolchain().host), |_, _| Vec::new());
}

/// B25: a profile of one's own.
#[test]
fn b25_custom_profile() {
    in_two_checkouts("build --profile fast", |_, p| {
        let manifest = p.read("Cargo.toml");
        p.write("Cargo.toml", format!("{manifest}[profile.fast]\ninherits = \"dev\"\nopt-level = 1\n"));
        Vec::new()
    });
}

/// B25: the target directory is somewhere else, by variable.
#[test]
fn b25_target_directory_elsewhere() {
    in_two_checkouts("build", |lab, p| {
        let name = format!("targets of {}", p.dir().file_name().expect("a name").to_string_lossy());
        vec![("CARGO_TARGET_DIR".into(), lab.root().join(name).display().to_string())]
    });
}

/// B25: the target directory is a symbolic link.
#[test]
fn b25_target_directory_behind_a_link() {
    in_two_checkouts("build", |lab, p| {
        let real = lab.root().join("big").join(p.dir().file_name().expect("a name"));
        std::fs::create_dir_all(&real).expect("make a directory");
        std::os::unix::fs::symlink(real, p.target()).expect("make a link");
        Vec::new()
    });
}

/// B25: intermediate files are kept apart from the final ones.
#[test]
fn b25_build_directory_apart() {
    in_two_checkouts("build", |lab, p| {
        let name = format!("build-{}", p.dir().file_name().expect("a name").to_string_lossy());
        vec![("CARGO_BUILD_BUILD_DIR".into(), lab.root().join(name).display().to_string())]
    });
}

/// B25: the checkout itself is reached through a link.
#[test]
fn b25_checkout_behind_a_link() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").same();
    std::os::unix::fs::symlink(one.checkout("real/two").dir(), lab.root().join("two")).expect("make a link");
    let two = Project::new(&lab, lab.root().join("two"));
    two.cargo("run").same().all_hit();
    two.nothing_to_do("build");
}

/// Started in a directory below the workspace; a package of its own below another one.
#[test]
fn started_in_a_member() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    // A package by itself has other profiles for its macros than the whole workspace.
    one.cargo("build").subdir("mid").ok();
    one.cargo("build").ok();
    let two = one.checkout("two");
    two.cargo("build").subdir("mid").ok().all_hit();
    two.cargo("build").ok().all_hit();
    two.nothing_to_do("build");
    two.cargo("run").same();
}

/// Edits in the second of two checkouts of one layout, built in parts, and reverts: the program is right each time,
/// and afterwards there is nothing to do in either. `args` are for every command.
fn edits_in(args: &str, lay_out: impl Fn(&Lab, &Project<'_>) -> Vec<(String, String)>) {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("two");
    let [first, second] = [&one, &two].map(|p| lay_out(&lab, p));
    let in_one = |what: &str| with(&one, &format!("{what} {args}"), &first);
    let in_two = |what: &str| with(&two, &format!("{what} {args}"), &second);
    in_one("run").ok();
    assert_eq!(in_two("run").ok().stdout, "14\n");
    for (old, new, printed) in
        [("7", "8", "16\n"), ("8", "7", "14\n"), ("7", "9", "18\n"), ("9", "7", "14\n")]
    {
        two.edit("gen/number.txt", old, new);
        in_two("build -p gen").ok();
        assert_eq!(in_two("run").ok().stdout, printed);
        in_two("build").nothing_to_do();
        in_one("build").nothing_to_do();
    }
    in_two("clean -p mid").plain().ok();
    two.edit("gen/number.txt", "7", "8");
    in_two("build -p gen").ok();
    assert_eq!(in_two("run").ok().stdout, "16\n");
    in_two("build").nothing_to_do();
}

fn with<'p>(p: &'p Project<'p>, args: &str, env: &[(String, String)]) -> Cargo<'p> {
    env.iter().fold(p.cargo(args), |cargo, (name, value)| cargo.env(name, value))
}

/// Edits where intermediate files are kept apart from the final ones.
#[test]
fn edits_with_the_build_directory_apart() {
    edits_in("", |lab, p| {
        let name = format!("build-{}", p.dir().file_name().expect("a name").to_string_lossy());
        vec![("CARGO_BUILD_BUILD_DIR".into(), lab.root().join(name).display().to_string())]
    });
}

/// Edits where the target directory is a symbolic link.
#[test]
fn edits_with_the_target_directory_behind_a_link() {
    edits_in("", |lab, p| {
        let real = lab.root().join("big").join(p.dir().file_name().expect("a name"));
        std::fs::create_dir_all(&real).expect("make a directory");
        std::os::unix::fs::symlink(real, p.target()).expect("make a link");
        Vec::new()
    });
}

/// Edits in Cargo's new layout, where each unit has a directory of its own. Unstable: the variable opens it in any
/// Cargo.
#[test]
fn edits_in_the_new_layout() {
    edits_in("-Zbuild-dir-new-layout", |_, _| vec![("RUSTC_BOOTSTRAP".into(), "1".into())]);
}

/// Two profiles take turns, and so do parts of them: what one of them has seen says nothing about the other.
#[test]
fn edits_between_two_profiles() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("two");
    for p in [&one, &two] {
        p.cargo("run").same();
        p.cargo("run --release").same();
        for (old, new) in [("7", "8"), ("8", "7"), ("7", "8"), ("8", "7")] {
            p.edit("gen/number.txt", old, new);
            p.cargo("build -p gen").ok();
            p.cargo("run --release").same();
            p.cargo("run").same();
            p.nothing_to_do("build --release");
            p.nothing_to_do("build");
        }
    }
    one.nothing_to_do("build");
    one.nothing_to_do("build --release");
}

/// B28: store and target directory on different file systems: everything is copied, everything works.
#[test]
fn b28_store_on_another_file_system() {
    let store = tempfile::Builder::new().prefix("kt-").tempdir_in("/dev/shm").expect("a directory in memory");
    let lab = lab().cache_at(store.path().join("cache"));
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").same();
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    run.all_hit();
    assert!(run.events.iter().all(|e| e.number("moved/linked_bytes") == 0), "{run}");
    two.nothing_to_do("build");
    one.nothing_to_do("build");
}

/// B28: a blob that can't take another link is copied. ext4 allows 65,000 links; elsewhere this only costs links.
#[test]
fn b28_too_many_links() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").same();
    let extra = lab.root().join("links");
    std::fs::create_dir(&extra).expect("make a directory");
    for (b, blob) in lab.blobs().into_iter().enumerate() {
        let is_library = std::fs::read(&blob).expect("read a blob").starts_with(b"!<arch>");
        let mut i = 0;
        while is_library && i < 66_000 && std::fs::hard_link(&blob, extra.join(format!("{b}-{i}"))).is_ok() {
            i += 1;
        }
    }
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    two.nothing_to_do("build");
    one.nothing_to_do("build");
}
