//! Where outputs go: other target directories, profiles, triples, build directories, links, names that look like Cargo's
//! own. Each arrangement is built in one checkout, served in a second one, and needs nothing afterwards in either.

use kache_testkit::{Cargo, Project, Run, toolchain};

use crate::fixtures::ALL_KINDS;
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// Variables for one checkout.
type Env = Vec<(String, String)>;

/// Builds `args` in two checkouts; `lay_out` prepares each one and returns the variables for it.
fn in_two_checkouts(args: &str, lay_out: impl Fn(&Lab, &Project<'_>) -> Env) {
    in_two_places(&lab(), ["one", "another/and/longer/place"], args, lay_out).shared();
}

/// The same in checkouts of these names; returns the second one's build.
fn in_two_places(
    lab: &Lab,
    places: [&str; 2],
    args: &str,
    lay_out: impl Fn(&Lab, &Project<'_>) -> Env,
) -> Run {
    let one = lab.project(places[0], ALL_KINDS);
    let two = one.checkout(places[1]);
    let [first, second] = [&one, &two].map(|p| lay_out(lab, p));
    let run = |args: &str| {
        let program = with(&two, &args.replacen("build", "run -q", 1), &second).ok();
        assert_eq!(program.stdout, "14\n", "{program}");
    };
    with(&one, args, &first).ok();
    let served = with(&two, args, &second).ok();
    served.all_hit();
    for _ in 0..2 {
        with(&two, args, &second).nothing_to_do();
        with(&one, args, &first).nothing_to_do();
        run(args);
    }
    served
}

/// The name of a checkout's folder.
fn name_of(p: &Project<'_>) -> String {
    p.dir().file_name().expect("a name").to_string_lossy().into_owned()
}

/// Builds `p`, which was laid out just now, and a second checkout: that one gets everything from the store, and in neither
/// is there anything left to do. The arguments are for `cargo build` and all that follows.
fn served_in_a_second_checkout<'s>(one: &Project<'s>, args: &str) -> Project<'s> {
    let two = one.checkout("another/and/longer/place");
    let build = format!("build {args}");
    one.cargo(&build).same();
    two.cargo(&build).same().all_hit().shared();
    for p in [&two, one, &two] {
        p.nothing_to_do(&build);
    }
    two
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
        let name = format!("targets of {}", name_of(p));
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
        let name = format!("build-{}", name_of(p));
        vec![("CARGO_BUILD_BUILD_DIR".into(), lab.root().join(name).display().to_string())]
    });
}

/// B25: a build directory whose place depends on the workspace's.
#[test]
fn b25_build_directory_by_template() {
    for template in [
        "{workspace-root}/../for one build",
        "{cargo-cache-home}/build/{workspace-path-hash}",
        "{workspace-root}/out",
    ] {
        in_two_checkouts("build", |_, _| vec![("CARGO_BUILD_BUILD_DIR".into(), template.into())]);
    }
}

/// B25, B28: a build directory on another file system than checkout and store.
#[test]
fn b25_build_directory_on_another_file_system() {
    let memory =
        tempfile::Builder::new().prefix("kt-").tempdir_in("/dev/shm").expect("a directory in memory");
    in_two_places(&lab(), ["one", "two"], "build", |_, p| {
        vec![("CARGO_BUILD_BUILD_DIR".into(), memory.path().join(name_of(p)).display().to_string())]
    });
}

/// Folders of the words that Cargo uses, above the checkout: CMake's presets build below `out/build`.
#[test]
fn checkouts_below_folders_named_like_cargos() {
    for (one, two) in [
        ("out/build/x", "plain"),
        ("plain", "out/build/x"),
        ("build/x/out", "build/0123456789abcdef/out/y"),
        ("deps/build/x", "debug/build/x/fedcba9876543210/out"),
    ] {
        in_two_places(&lean_lab(), [one, two], "build", |_, _| Vec::new()).shared();
    }
}

/// The same words in the target directory's name.
#[test]
fn target_directories_named_like_cargos() {
    for folder in ["out/build/x/out", "build/x/0123456789abcdef/out", "web/build", "deps"] {
        in_two_checkouts("build", |lab, p| {
            let target = lab.root().join(format!("{}-{folder}", name_of(p)));
            vec![("CARGO_TARGET_DIR".into(), target.display().to_string())]
        });
    }
}

/// The target directory is the workspace itself.
#[test]
fn target_directory_that_is_the_workspace() {
    in_two_checkouts("build", |_, _| vec![("CARGO_TARGET_DIR".into(), ".".into())]);
}

/// The target directory is a package's folder.
#[test]
fn target_directory_that_is_a_package() {
    in_two_checkouts("build", |_, _| vec![("CARGO_TARGET_DIR".into(), "gen".into())]);
}

/// The target directory is a folder among the sources, called like one of Cargo's own.
#[test]
fn target_directory_among_the_sources() {
    for target in ["app/build", "gen/src/out", "build/deps"] {
        in_two_checkouts("build", |_, _| vec![("CARGO_TARGET_DIR".into(), target.into())]);
    }
}

/// A target directory that a Cargo with the other layout has built in: both lie side by side, and each Cargo goes on with
/// its own, also after an edit.
#[test]
fn both_layouts_in_one_directory() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("another/and/longer/place");
    let layouts = [lab.layout().other(), lab.layout()];
    for (p, is_warm) in [(&one, false), (&two, true)] {
        for layout in layouts {
            let run = p.cargo("build").layout(layout).ok();
            assert_eq!(run.tally().hits == run.tally().total() && run.tally().hits > 0, is_warm, "{run}");
        }
    }
    let nothing_to_do = || {
        for p in [&two, &one] {
            layouts.iter().for_each(|layout| p.cargo("build").layout(*layout).nothing_to_do());
        }
    };
    nothing_to_do();
    for (old, new, printed) in [("7", "8", "16\n"), ("8", "7", "14\n"), ("7", "9", "18\n")] {
        two.edit("gen/number.txt", old, new);
        for layout in layouts {
            assert_eq!(two.cargo("run -q").layout(layout).ok().stdout, printed);
        }
        for layout in layouts.iter().rev() {
            assert_eq!(two.cargo("run -q").layout(*layout).ok().stdout, printed);
            two.cargo("build").layout(*layout).nothing_to_do();
        }
    }
    two.edit("gen/number.txt", "9", "7");
    for layout in layouts {
        two.cargo("build").layout(layout).ok().all_hit();
    }
    nothing_to_do();
}

/// Packages of one name in two versions, and build scripts that are all called alike.
#[test]
fn units_of_one_name() {
    let lab = lab();
    let one = lab.project(
        "one",
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"app\", \"old\"]\nexclude = [\"new\"]\n"),
            ("old/Cargo.toml", "[package]\nname = \"twin\"\nversion = \"1.0.0\"\nedition = \"2024\"\n"),
            ("new/Cargo.toml", "[package]\nname = \"twin\"\nversion = \"2.0.0\"\nedition = \"2024\"\n"),
            (
                "app/Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[dependencies]\n\
                 old = { path = \"../old\", package = \"twin\" }\nnew = { path = \"../new\", package = \"twin\" }\n",
            ),
            ("app/src/main.rs", "fn main() {\n    println!(\"{} {}\", old::NUMBER, new::NUMBER);\n}\n"),
        ],
    );
    for (name, number) in [("old", 1), ("new", 2)] {
        let script = format!(
            "fn main() {{\n    println!(\"cargo::rerun-if-changed=build.rs\");\n    \
             let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n    \
             std::fs::write(out.join(\"g.rs\"), \"pub const NUMBER: u32 = {number};\").unwrap();\n}}\n"
        );
        one.write(&format!("{name}/build.rs"), script);
        one.write(&format!("{name}/src/lib.rs"), "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\n");
    }
    let two = served_in_a_second_checkout(&one, "");
    assert_eq!(two.cargo("run -q").same().stdout, "1 2\n");
    two.edit("new/build.rs", "= 2", "= 3");
    assert_eq!(two.cargo("run -q").same().stdout, "1 3\n");
    two.edit("new/build.rs", "= 3", "= 2");
    two.cargo("run -q").same().all_hit();
    [&two, &one].iter().for_each(|p| p.nothing_to_do("build"));
}

/// A program that a build script runs, as an artifact dependency. Unstable: the variable opens it in any Cargo.
#[test]
fn artifact_dependencies() {
    let lab = lab();
    lab.set_env("__CARGO_TEST_CHANNEL_OVERRIDE_DO_NOT_USE_THIS", "nightly");
    let one = lab.project(
        "one",
        &[
            ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"tool\", \"app\"]\n"),
            ("tool/Cargo.toml", "[package]\nname = \"tool\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ("tool/src/main.rs", "fn main() {\n    print!(\"7\");\n}\n"),
            (
                "app/Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\
                 [build-dependencies]\ntool = { path = \"../tool\", artifact = \"bin\" }\n",
            ),
            (
                "app/build.rs",
                r#"fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let tool = std::env::var_os("CARGO_BIN_FILE_TOOL").unwrap();
    let said = std::process::Command::new(tool).output().unwrap().stdout;
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").unwrap());
    std::fs::write(out.join("said"), said).unwrap();
}
"#,
            ),
            ("app/src/main.rs", "fn main() {\n    println!(\"{}\", include_str!(concat!(env!(\"OUT_DIR\"), \"/said\")));\n}\n"),
        ],
    );
    let two = served_in_a_second_checkout(&one, "-Zbindeps");
    assert_eq!(two.cargo("run -q -p app -Zbindeps").same().stdout, "7\n");
    for (old, new) in [("7", "8"), ("8", "7")] {
        two.edit("tool/src/main.rs", old, new);
        assert_eq!(two.cargo("run -q -p app -Zbindeps").same().stdout, format!("{new}\n"));
        [&two, &one].iter().for_each(|p| p.nothing_to_do("build -Zbindeps"));
    }
}

/// An integration test runs its package's program: it names the place, so it belongs to its checkout; all else is
/// served, and in its own place the test is, too.
#[test]
fn programs_that_integration_tests_run() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.write(
        "app/tests/it.rs",
        "#[test]\nfn it() {\n    let output = std::process::Command::new(env!(\"CARGO_BIN_EXE_app\")).output().unwrap();\n    \
         assert_eq!(output.stdout, b\"14\\n\");\n}\n",
    );
    let two = one.checkout("another/and/longer/place");
    one.cargo("test -q").same();
    let run = two.cargo("test -q").same();
    let others = run.events.iter().filter(|event| event.crate_name != "it");
    assert!(others.clone().count() > 0 && others.clone().all(|event| event.outcome == "hit"), "{run}");
    for p in [&two, &one] {
        p.nothing_to_do("test --no-run");
        p.wipe();
        p.cargo("test -q").same().all_hit();
        p.nothing_to_do("test --no-run");
    }
}

/// Libraries for other languages, a dynamic library of Rust's own, an example, a benchmark.
#[test]
fn every_kind_of_linked_output() {
    let lab = lab();
    let one = crate::linked::every_kind(&lab, "one");
    let two = served_in_a_second_checkout(&one, "--workspace --all-targets");
    for name in ["libkinds.so", "libkinds.a", "libdynlib.so", "examples/sample", "kinds"] {
        let [first, second] =
            [&one, &two].map(|p| std::fs::read(p.path("target/debug").join(name)).expect("read"));
        assert!(first == second, "{name}");
    }
    assert_eq!(two.cargo("run -q -p kinds --example sample").same().stdout, "example 7\n");
}

/// `cargo clean -p` takes a package's units away, in whichever directories they are; they come back from the store.
#[test]
fn a_package_that_is_cleaned() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let two = served_in_a_second_checkout(&one, "");
    for package in ["gen", "mid", "mac", "app"] {
        for p in [&two, &one] {
            p.cargo(&format!("clean -p {package}")).plain().ok();
            p.cargo("build").ok().all_hit();
            [&one, &two].iter().for_each(|p| p.nothing_to_do("build"));
        }
    }
    assert_eq!(two.cargo("run -q").same().stdout, "14\n");
}

/// Debug information beside the outputs.
#[test]
fn split_debug_information() {
    for split in ["packed", "unpacked"] {
        // Macros that have such files are copied, so nothing is said about links.
        in_two_places(&lab(), ["one", "another/and/longer/place"], "build", |_, p| {
            let manifest = p.read("Cargo.toml");
            p.write("Cargo.toml", format!("{manifest}[profile.dev]\nsplit-debuginfo = \"{split}\"\n"));
            Vec::new()
        });
    }
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
fn edits_in(args: &str, lay_out: impl Fn(&Lab, &Project<'_>) -> Env) {
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
        let name = format!("build-{}", name_of(p));
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
