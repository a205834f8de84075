//! Seeding on a machine that has never built anything, where nobody runs a command: its daemon brings what another machine
//! has saved of the dependencies.

use std::fs;
use std::time::{Duration, Instant};

use kache_testkit::{Mischief, Project, S3};

use crate::daemon::Machine;
use crate::remote::ok;
use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, recorded, seeded};
use crate::seeding_remote::{become_another, saved};
use crate::support::Outcomes as _;

const OBJECTS: &str = "/_manifests/snapshots/";

/// One machine has built the project and saved all of it; from now on the world is that of a fresh one with a daemon.
fn fresh_machine<'m>(server: &S3, machine: &'m Machine) -> Project<'m> {
    machine.set_env("KACHE_DAEMON", "0");
    let one = saved(machine, SCRIPT);
    become_another(machine, "b");
    machine.set_env("KACHE_DAEMON", "1");
    server.forget();
    one.checkout("two")
}

/// A build with nothing in place, all of it ordinary hits.
#[track_caller]
fn served_as_ever(project: &Project<'_>) {
    let run = project.cargo("run").same();
    assert_eq!(seeded(&run), (0, 0), "{run}");
    run.all_hit();
    assert_idle(&project.cargo("run"));
}

impl Machine {
    fn snapshots(&self) -> serde_json::Value {
        self.status()["daemon"]["snapshots"].clone()
    }

    /// Waits until the daemon has taken a snapshot over.
    fn until_taken(&self) {
        let until = Instant::now() + Duration::from_secs(60);
        while self.snapshots()["taken"] != 1 {
            assert!(Instant::now() < until, "{}", self.status());
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// Cargo asks for its compiler twice in a fresh directory: at the first question the daemon begins, at the second one all
/// has come.
#[test]
fn the_first_build_of_a_fresh_machine_starts_with_its_dependencies_in_place() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let two = fresh_machine(&server, &machine);
    let run = two.cargo("run").same();
    assert_eq!((seeded(&run), run.tally().misses), ((4, 1), 0), "{run}");
    assert_fresh(&run);
    assert_idle(&two.cargo("run"));
    assert_eq!(server.count("GET", OBJECTS), 1);
    assert_eq!(server.count("GET", "list-type=2"), 0);
    let snapshots = machine.snapshots();
    assert_eq!((&snapshots["taken"], &snapshots["entries"]), (&1.into(), &5.into()), "{snapshots}");
}

/// A remote that takes its time: the build doesn't wait for it, and the next fresh directory is served. What it is served
/// of the other profile can't be from this machine.
#[test]
fn what_comes_too_late_for_one_build_serves_the_next() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_DAEMON", "0");
    let one = Upstream::new(&machine, SCRIPT, LIB).user(&machine);
    recorded(&one.cargo("build"));
    recorded(&one.cargo("build --release"));
    ok(&one, "sync --push");
    ok(&one, "save-manifest");
    become_another(&machine, "b");
    machine.set_env("KACHE_DAEMON", "1");
    server.arrange("GET", OBJECTS, 1, Mischief::Delay(Duration::from_secs(8)));
    let two = one.checkout("two");
    let run = two.cargo("build").same();
    assert_eq!(seeded(&run), (0, 0), "{run}");
    // It waited for the snapshot, and says so, although nothing came of it.
    let waits = run.events.iter().filter(|event| event.json["kind"] == "seeding");
    let waited_us: u64 = waits.map(|event| event.number("times/remote_us")).sum();
    assert!(waited_us > 0, "{run}");
    let stats = machine.cli(&["stats", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&stats.stdout).expect("JSON");
    let told_us = stats["tally"]["all"]["times"]["remote_us"].as_u64();
    assert!(told_us >= Some(waited_us), "{stats:#}");
    assert_idle(&two.cargo("build"));
    machine.until_taken();
    let three = one.checkout("three");
    let run = three.cargo("build --release").same();
    assert_eq!((seeded(&run), run.tally().misses), ((4, 1), 0), "{run}");
    assert_fresh(&run);
    assert_idle(&three.cargo("build --release"));
}

/// What isn't what it should be changes nothing, and neither does what isn't there: ordinary hits, and one request
/// however often Cargo asks.
#[test]
fn a_snapshot_that_is_damaged_or_absent_is_asked_for_once_and_changes_nothing() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let two = fresh_machine(&server, &machine);
    let mut names = server.names().into_iter().filter(|name| name.contains(OBJECTS));
    let object = server.bucket_dir().join(names.next().expect("saved"));
    let mut bytes = fs::read(&object).expect("an object");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&object, bytes).expect("damaged");
    served_as_ever(&two);
    fs::remove_file(&object).expect("removed");
    become_another(&machine, "c");
    served_as_ever(&two.checkout("three"));
    let snapshots = machine.snapshots();
    assert!(snapshots["asked"].as_u64() >= Some(2) && snapshots["taken"] == 0, "{snapshots}");
    assert_eq!(server.count("GET", OBJECTS), 2, "once on each machine");
}

/// Of what others have saved with another key salt, nothing could be placed here.
#[test]
fn a_snapshot_of_another_context_stays_where_it_is() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let two = fresh_machine(&server, &machine);
    machine.set_env("KACHE_KEY_SALT", "another");
    let run = two.cargo("run").same();
    assert_eq!((seeded(&run), run.tally().hits), ((0, 0), 0), "{run}");
    let snapshots = machine.snapshots();
    assert_eq!((&snapshots["taken"], &snapshots["entries"]), (&0.into(), &0.into()), "{snapshots}");
    assert_eq!(server.count("GET", OBJECTS), 1);
}

#[test]
fn switched_off_nobody_asks() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let two = fresh_machine(&server, &machine);
    machine.set_env("KACHE_SEED", "0");
    served_as_ever(&two);
    assert_eq!((server.count("GET", OBJECTS), &machine.snapshots()["asked"]), (0, &0.into()));
    // Whoever leaves transfers to commands has no daemon that would bring anything.
    machine.daemon("stop");
    machine.set_env("KACHE_SEED", "1");
    machine.set_env("KACHE_DAEMON", "0");
    become_another(&machine, "c");
    server.forget();
    let run = two.checkout("three").cargo("run").same();
    assert_eq!((seeded(&run), server.count("GET", "")), ((0, 0), 0), "{run}");
}
