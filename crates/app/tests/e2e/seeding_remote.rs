//! Seeding on a machine that has never built anything: what another one has saved in the bucket is in place before Cargo
//! looks, where the same `CARGO_HOME` allows it; elsewhere it is ordinary hits.

use std::fs;
use std::time::SystemTime;

use kache_testkit::{Cargo, Project, Run, S3};

use crate::remote::{machine, ok};
use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, fetch, left_out, recorded, seeded};
use crate::support::{Lab, Outcomes as _};

/// From now on the world is that of another machine: nothing is in its store, its user has another home, and sources of
/// repositories have been checked out later. `CARGO_HOME` is where it is on the first one.
pub fn become_another(lab: &Lab, name: &str) {
    let home = lab.root().join(name);
    fs::create_dir(&home).expect("another home");
    fs::rename(lab.cache_dir(), home.join("store of the one before")).expect("another store");
    lab.set_env("HOME", &home);
    for path in kache_testkit::walk(&lab.root().join("cargo-home/git/checkouts")) {
        let file = fs::File::open(path).expect("a source");
        file.set_modified(SystemTime::now()).expect("another time");
    }
}

/// Builds a project whose dependency `low` has this build script, and saves all that is to be shared of it.
pub fn saved<'s>(lab: &'s Lab, script: &str) -> Project<'s> {
    let one = Upstream::new(lab, script, LIB).user(lab);
    recorded(&one.cargo("run"));
    ok(&one, "sync --push");
    ok(&one, "save-manifest");
    one
}

/// A build, and that there is nothing to do after it.
#[track_caller]
fn built(cargo: &Cargo<'_>) -> Run {
    let run = cargo.same();
    assert_idle(cargo);
    run
}

fn compiled(run: &Run) -> usize {
    run.events.iter().filter(|event| event.outcome == "miss").count()
}

#[test]
fn a_fresh_machine_starts_with_its_dependencies_in_place() {
    let server = S3::start();
    let lab = machine(&server);
    let one = saved(&lab, SCRIPT);
    become_another(&lab, "b");
    let two = one.checkout("elsewhere/two");
    server.forget();
    let dry = ok(&two, "sync --pull --dry-run");
    assert!(dry.contains("Would take over 5 units"), "{dry}");
    assert_eq!(server.count("GET", "/packs/"), 0);
    let said = ok(&two, "sync --pull");
    assert!(said.contains("5 units of dependencies in place"), "{said}");
    assert_eq!(server.count("GET", "list-type=2"), 0, "{said}");
    let run = built(&two.cargo("run"));
    assert_eq!((seeded(&run), compiled(&run)), ((4, 1), 0), "{run}");
    assert_fresh(&run);
    // What is known already is not written again.
    server.forget();
    ok(&two, "save-manifest");
    assert_eq!(server.count("PUT", "/_manifests/snapshots/"), 0);
    // A machine that was seeded has asked for no dependency, and saves all of them nevertheless.
    let manifests = server.names().into_iter().filter(|name| name.ends_with("-gnu.json"));
    manifests.for_each(|name| fs::remove_file(server.bucket_dir().join(name)).expect("removed"));
    ok(&two, "save-manifest");
    // Switched off, nothing of it is taken over, and everything is an ordinary hit.
    become_another(&lab, "c");
    lab.set_env("KACHE_SEED", "0");
    let three = one.checkout("three");
    let said = ok(&three, "sync --pull");
    assert!(said.contains("A saved build") && !said.contains("in place"), "{said}");
    built(&three.cargo("run")).all_hit();
}

/// Sources come with the build: Cargo asks for its compiler once before it fetches them, and once more after it.
#[test]
fn sources_that_come_with_the_build_are_in_time() {
    let server = S3::start();
    let lab = machine(&server);
    let one = saved(&lab, SCRIPT);
    become_another(&lab, "b");
    let two = one.checkout("two");
    fs::remove_dir_all(lab.root().join("cargo-home/git/checkouts")).expect("removed");
    let said = ok(&two, "sync --pull");
    assert!(said.contains("will have 0 units") && said.contains("5 more follow once"), "{said}");
    let run = built(&two.cargo("run"));
    assert_eq!((seeded(&run), left_out(&run, "sources-changed")), ((4, 1), 5), "{run}");
    assert_fresh(&run);
}

#[test]
fn with_another_cargo_home_the_units_are_ordinary_hits() {
    let server = S3::start();
    let lab = machine(&server);
    let one = saved(&lab, SCRIPT);
    become_another(&lab, "b");
    lab.set_env("CARGO_HOME", lab.make_cargo_home("other-cargo-home"));
    let two = one.checkout("two");
    fetch(&two);
    let said = ok(&two, "sync --pull");
    assert!(said.contains("Pulled ") && !said.contains("in place"), "{said}");
    let run = built(&two.cargo("run"));
    assert_eq!(seeded(&run), (0, 0), "{run}");
    run.all_hit();
}

/// Each job saves what it has built; whoever comes next has all of it in place.
#[test]
fn jobs_add_to_what_is_saved() {
    let server = S3::start();
    let lab = machine(&server);
    let one = saved(&lab, SCRIPT);
    become_another(&lab, "b");
    let job = one.checkout("job");
    recorded(&job.cargo("build --release"));
    ok(&job, "sync --push");
    ok(&job, "save-manifest");
    become_another(&lab, "c");
    let two = one.checkout("two");
    let said = ok(&two, "sync --pull");
    assert!(said.contains("10 units of dependencies in place"), "{said}");
    let three = two.checkout("three");
    for (project, args) in [(&two, "run"), (&three, "build --release")] {
        let run = built(&project.cargo(args));
        assert_eq!((seeded(&run), compiled(&run)), ((4, 1), 0), "{run}");
        assert_fresh(&run);
    }
}

/// A script that may have seen a credential: its run and what rests on it stay on their machine.
#[test]
fn a_run_that_may_have_read_a_credential_stays_here() {
    let script = "    println!(\"cargo:rerun-if-changed=build.rs\");\n    \
                  let token = std::env::var(\"DEPLOY_TOKEN\").unwrap_or_default();\n    \
                  std::fs::write(out.join(\"g.rs\"), format!(\"pub const FLAVOUR: &str = {:?};\\n\", token)).unwrap();\n";
    let server = S3::start();
    let lab = machine(&server);
    lab.set_env("DEPLOY_TOKEN", "swordfish-12345");
    let one = saved(&lab, script);
    let run = one.checkout("beside").cargo("run").ok();
    assert_eq!(seeded(&run), (4, 1), "at home it is as ever: {run}");
    become_another(&lab, "b");
    let two = one.checkout("two");
    let said = ok(&two, "sync --pull");
    assert!(said.contains("2 units of dependencies in place"), "the script and the macro: {said}");
    let run = built(&two.cargo("run"));
    assert_eq!(seeded(&run), (2, 0), "{run}");
    assert!(run.stdout.contains("swordfish"), "{run}");
}

/// What the bucket has lost isn't in place; Cargo makes it, the rest isn't disturbed, and it can be asked why.
#[test]
fn a_lost_result_is_made_again() {
    let server = S3::start();
    let lab = machine(&server);
    let one = saved(&lab, SCRIPT);
    let runs: Vec<String> = {
        let names = server.names().into_iter().filter(|name| name.contains("/manifests/low/"));
        names
            .filter(|name| {
                let bytes = fs::read_to_string(server.bucket_dir().join(name)).expect("a manifest");
                bytes.contains("build_script_run")
            })
            .collect()
    };
    assert_eq!(runs.len(), 1, "{runs:?}");
    fs::remove_file(server.bucket_dir().join(&runs[0])).expect("removed");
    become_another(&lab, "b");
    let two = one.checkout("two");
    let said = ok(&two, "sync --pull");
    assert!(said.contains("will have 2 units") && said.contains("3 stay out"), "{said}");
    let run = built(&two.cargo("run"));
    // The run, and no compile.
    assert_eq!((seeded(&run), left_out(&run, "entry-gone"), compiled(&run)), ((2, 0), 1, 1), "{run}");
    let why = crate::remote::command(&two, "why-miss low").output().expect("kache runs");
    let said = String::from_utf8_lossy(&why.stdout);
    assert!(said.contains("its entry is not in the store"), "{said}");
}
