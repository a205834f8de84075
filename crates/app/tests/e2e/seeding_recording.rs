//! Recordings survive: the next build of a script is seeded at once, and so is what comes after a container in which
//! nothing outlives the build.

use kache_testkit::{Project, Run, toolchain};

use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, fetch};
use crate::support::{Lab, lean_lab};

/// What a build in a fresh checkout starts with.
fn assert_starts_seeded(project: &Project<'_>, args: &str) -> Run {
    let run = project.cargo(args).same();
    assert_eq!(asked(&run), (4, 1), "{run}");
    assert_fresh(&run);
    assert_idle(&project.cargo(args));
    run
}

/// Units and runs of the profile that is built.
fn asked(run: &Run) -> (u64, u64) {
    let seedings = run.events.iter().filter(|event| event.kind == "seeding");
    seedings.fold((0, 0), |(units, runs), event| {
        (units + event.number("seeding/asked/units"), runs + event.number("seeding/asked/runs"))
    })
}

/// Runs `script` in a process namespace of its own, whose processes end with it; `$0` is Cargo.
fn contained(lab: &Lab, project: &Project<'_>, options: &[&str], script: &str) {
    let mut command = lab.command("unshare");
    command.args(["--user", "--map-root-user", "--pid", "--fork"]).args(options);
    command.args(["/bin/sh", "-c", script]).arg(&toolchain().cargo);
    let output = command.env("RUSTC_WRAPPER", lab.wrapper()).current_dir(project.dir()).output();
    let output = output.expect("start unshare");
    assert!(output.status.success(), "{output:?}");
}

/// A script that builds one checkout after the other, each in a fresh directory.
#[test]
fn a_build_started_right_after_another_one_is_seeded() {
    let lab = lean_lab();
    let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
    let two = one.checkout("two");
    one.cargo("build").ok();
    assert_starts_seeded(&two, "build");
    // Another profile of what is recorded already.
    let three = one.checkout("three");
    one.cargo("build --release").ok();
    assert_starts_seeded(&three, "build --release");
}

/// Cargo is the first process there or one of its children.
#[test]
fn a_container_that_ends_with_the_build_leaves_a_snapshot() {
    for script in ["exec \"$0\" build", "\"$0\" build -j1; true", "\"$0\" test --no-run && exit 0"] {
        let lab = lean_lab();
        let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
        let two = one.checkout("two");
        contained(&lab, &one, &["--mount-proc"], script);
        assert_starts_seeded(&two, "build");
    }
}

/// As plain `unshare` leaves it, `/proc` shows the processes of the outer namespace, under their numbers there.
#[test]
fn process_numbers_of_an_outer_namespace() {
    let lab = lean_lab();
    let solo = lab.project(
        "solo",
        &[
            ("Cargo.toml", "[package]\nname = \"solo\"\nversion = \"1.0.0\"\nedition = \"2021\"\n"),
            ("src/lib.rs", "pub fn solo() -> u32 { 1 }\n"),
        ],
    );
    for args in [&["init", "-q", "-b", "main"][..], &["add", "-A"], &["commit", "-q", "-m", "state"]] {
        lab.git(solo.dir(), args);
    }
    let manifest = format!(
        "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
         solo = {{ git = \"file://{}\" }}\n",
        solo.dir().display()
    );
    let main = "fn main() { println!(\"{}\", solo::solo()); }\n";
    let one = lab.project("one", &[("Cargo.toml", &manifest), ("src/main.rs", main)]);
    fetch(&one);
    let two = one.checkout("two");
    contained(&lab, &one, &[], "exec \"$0\" build");
    let run = two.cargo("run").same();
    assert_eq!(asked(&run), (1, 0), "{run}");
}

/// The last command of a container fails, or builds what no program needs.
#[test]
fn what_a_contained_build_came_to_is_recorded_whatever_became_of_it() {
    let lab = lean_lab();
    let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
    let two = one.checkout("two");
    one.write("src/main.rs", "fn main() { nothing }\n");
    contained(&lab, &one, &["--mount-proc"], "\"$0\" build || true");
    assert_starts_seeded(&two, "run");

    // A second command in the same container adds to it.
    let three = two.checkout("three");
    lab.remove(&one);
    contained(&lab, &three, &["--mount-proc"], "\"$0\" build && \"$0\" build --release");
    let four = three.checkout("four");
    fetch(&four);
    assert_starts_seeded(&four, "build --release");
}
