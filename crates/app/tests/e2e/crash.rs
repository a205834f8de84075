//! A process dies by SIGKILL at each step that changes something on a disk or in a bucket, in the story in which it gets
//! there. Afterwards the store holds nothing that is wrong, and the next builds are what clean builds without kache are.
//!
//! The steps are `kache_store::fault::Point`; a step that no story reaches fails here. A release build has none, so this
//! module is there with debug assertions only.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use kache_store::fault::Point::{self, *};
use kache_testkit::{Cargo, Project, S3, wait_for};

use crate::daemon::Machine;
use crate::fixtures::PAIR;
use crate::remote::{command as kache, machine, moved_with, ok as kache_ok};
use crate::seeding;
use crate::support::{Lab, Outcomes, lean_lab};

/// A build into an empty target directory from an empty store.
const FIRST_BUILD: &[Point] = &[
    TmpWritten,
    TmpRenamed,
    BlobMade,
    BlobFinished,
    BlobAdmitted,
    EvidencePublished,
    EntryPublished,
    RecordsLocked,
    RecordsPublished,
    JournalOpened,
    JournalAppended,
    LedgerMade,
    LedgerBorn,
    MarkOpened,
    MarkWritten,
    OutputsCleared,
    CompilerStarted,
    OutputReady,
    CompilerEnded,
    OutputsTaken,
    EntryStored,
];
/// A build that is served from the store.
const SERVED: &[Point] = &[
    RestoreChecked,
    PlaceMade,
    Placed,
    TextMade,
    OutputPlaced,
    OutputsPlaced,
    Replayed,
    MarkOpened,
    MarkWritten,
    JournalOpened,
];
/// A build after an edit, in a directory that shares files with the store.
const EDITED: &[Point] = &[
    MarkOpened,
    MarkWritten,
    OutputsCleared,
    CompilerStarted,
    OutputReady,
    CompilerEnded,
    BlobMade,
    BlobAdmitted,
    OutputsTaken,
    EntryStored,
];
/// A build that finds blobs damaged.
const DAMAGED: &[Point] = &[BlobRemoved, EntryDropped];
/// A build that finds entries of an earlier boot.
const REBOOTED: &[Point] = &[EntrySettled];
/// A build that finds the journal full.
const FULL_JOURNAL: &[Point] = &[JournalRotated];
/// `kache purge`: a sweep without a period of grace.
const SWEPT: &[Point] = &[SweepPlanned, EntryEvicted, EntryDropped, BlobSwept, Swept];
/// `kache doctor --repair`.
const REPAIRED: &[Point] = &[RepairBegun, EntryDropped, BlobRemoved];
/// `kache sync --push`.
const PUSHED: &[Point] = &[PackUploaded, ManifestUploaded];
/// `kache sync --pull`.
const PULLED: &[Point] = &[PackDownloaded, BlobReceived, PackUnpacked, PackPublished];
/// A build with a daemon that uploads behind it.
const SHARED: &[Point] = &[UploadOwed, DaemonBound, UploadDone];
/// What records dependencies behind a build.
const RECORDED: &[Point] = &[SnapshotReady];
/// What puts them into an empty directory.
const SEEDED: &[Point] = &[SeedPlaced, SeedUnproven, Seeded];

/// A proof, told in `proofs`.
const PROVEN: &[Point] = &[ProofBegun, ProofCompiling, ProofPublished, ProofCompared];
/// `kache clean`, told in `disk`.
const CLEANED: &[Point] = &[UnitDisowned, UnitEmptied];

/// Every step is in a story.
#[test]
fn no_step_is_left_out() {
    let stories = [
        FIRST_BUILD,
        SERVED,
        EDITED,
        DAMAGED,
        REBOOTED,
        FULL_JOURNAL,
        SWEPT,
        REPAIRED,
        PUSHED,
        PULLED,
        SHARED,
        RECORDED,
        SEEDED,
        PROVEN,
        CLEANED,
    ];
    let told: BTreeSet<Point> = stories.into_iter().flatten().copied().collect();
    let left_out: Vec<_> = Point::ALL.iter().filter(|point| !told.contains(point)).collect();
    assert!(left_out.is_empty(), "no story gets to {left_out:?}");
}

/// A death that waits for the first process that gets to a point.
struct Trap {
    point: Point,
    file: PathBuf,
}

impl Trap {
    fn set(lab: &Lab, point: Point) -> Self {
        // Nothing that a build can see.
        Self { point, file: lab.write("tmp/trap", "") }
    }

    /// The value of the variable.
    fn order(&self) -> String {
        format!("{}:{}", self.point.name(), self.file.display())
    }

    fn is_sprung(&self) -> bool {
        !self.file.exists()
    }

    /// Runs Cargo, some process of which dies.
    #[track_caller]
    fn spring(&self, cargo: Cargo<'_>) {
        let run = cargo.env("KACHE_FAULT", self.order()).run();
        assert!(self.is_sprung(), "{run}\nno process got to {:?}", self.point);
    }

    /// Runs a command of kache, which dies.
    #[track_caller]
    fn spring_command(&self, project: &Project<'_>, args: &str) {
        let output = kache(project, args).env("KACHE_FAULT", self.order()).output().expect("kache runs");
        assert!(!output.status.success() && self.is_sprung(), "{:?}: {args}: {output:?}", self.point);
    }
}

/// Builds in this directory as it is, and in an empty one, are what clean ones are.
#[track_caller]
fn recovers(lab: &Lab, project: &Project<'_>) {
    for _ in 0..2 {
        project.cargo("run").same();
        project.nothing_to_do("build");
        lab.assert_doctor_is_content();
        project.wipe();
    }
}

#[test]
fn in_a_first_build() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    for point in FIRST_BUILD {
        lab.clear_cache();
        one.wipe();
        Trap::set(&lab, *point).spring(one.cargo("run"));
        recovers(&lab, &one);
    }
}

#[test]
fn in_a_build_that_is_served() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").ok();
    let two = one.checkout("two");
    for point in SERVED {
        Trap::set(&lab, *point).spring(two.cargo("run"));
        lab.assert_doctor_is_content();
        recovers(&lab, &two);
        one.nothing_to_do("build");
    }
}

#[test]
fn in_a_build_after_an_edit() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").ok();
    let two = one.checkout("two");
    for (n, point) in EDITED.iter().enumerate() {
        two.wipe();
        two.cargo("run").ok().all_hit();
        let (old, new) = ("    1\n".to_owned(), format!("    {}\n", 100 + n));
        two.edit("dep/src/lib.rs", &old, &new);
        Trap::set(&lab, *point).spring(two.cargo("run"));
        lab.assert_doctor_is_content();
        two.cargo("run").same();
        two.nothing_to_do("build");
        two.edit("dep/src/lib.rs", &new, &old);
        recovers(&lab, &two);
        one.nothing_to_do("build");
    }
}

#[test]
fn in_a_build_that_finds_damage() {
    let lab = lean_lab().spoil();
    let one = lab.project("one", PAIR);
    for point in DAMAGED {
        one.cargo("run").ok();
        one.wipe();
        damage_blobs(&lab);
        Trap::set(&lab, *point).spring(one.cargo("run"));
        recovers(&lab, &one);
    }
}

fn damage_blobs(lab: &Lab) {
    for blob in lab.blobs() {
        let bytes = fs::read(&blob).expect("read a blob");
        fs::write(&blob, &bytes[..bytes.len() / 2]).expect("cut a blob");
    }
}

#[test]
fn in_a_build_after_a_reboot() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").ok();
    for point in REBOOTED {
        lab.pretend_that_entries_are_of_an_earlier_boot();
        one.wipe();
        Trap::set(&lab, *point).spring(one.cargo("run"));
        recovers(&lab, &one);
    }
}

#[test]
fn in_a_build_that_fills_the_journal() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    for point in FULL_JOURNAL {
        lab.write("cache/journal/current.jsonl", "\n".repeat(5 << 20));
        Trap::set(&lab, *point).spring(one.cargo("run"));
        recovers(&lab, &one);
        assert!(lab.cli(&["stats"]).status.success());
    }
}

#[test]
fn in_a_sweep() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    for point in SWEPT {
        one.cargo("run").ok();
        Trap::set(&lab, *point).spring_command(&one, "purge -y");
        lab.assert_doctor_is_content();
        one.nothing_to_do("build");
        recovers(&lab, &one);
    }
}

#[test]
fn in_a_repair() {
    let lab = lean_lab().spoil();
    let one = lab.project("one", PAIR);
    for point in REPAIRED {
        one.cargo("run").ok();
        one.wipe();
        damage_blobs(&lab);
        Trap::set(&lab, *point).spring_command(&one, "doctor --repair --checksums");
        one.cargo("run").same();
        kache(&one, "doctor --repair --checksums").output().expect("kache runs");
        recovers(&lab, &one);
    }
}

/// The bucket serves a machine that has never built anything.
fn serves_another(server: &S3, project: &Project<'_>) {
    let there = machine(server);
    let two = moved_with(&there, project, PAIR);
    kache_ok(&two, "sync --pull --all");
    two.cargo("run").same().all_hit();
    recovers(&there, &two);
}

#[test]
fn in_a_push() {
    for point in PUSHED {
        let server = S3::start();
        let here = machine(&server);
        let one = here.project("one", PAIR);
        one.cargo("run").ok();
        Trap::set(&here, *point).spring_command(&one, "sync --push");
        kache_ok(&one, "sync --push");
        here.assert_doctor_is_content();
        serves_another(&server, &one);
    }
}

#[test]
fn in_a_pull() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", PAIR);
    one.cargo("run").ok();
    kache_ok(&one, "sync --push");
    for point in PULLED {
        let there = machine(&server);
        let two = moved_with(&there, &one, PAIR);
        Trap::set(&there, *point).spring_command(&two, "sync --pull --all");
        there.assert_doctor_is_content();
        recovers(&there, &two);
        kache_ok(&two, "sync --pull --all");
        two.cargo("run").same().all_hit();
        recovers(&there, &two);
    }
}

#[test]
fn in_a_build_with_a_daemon() {
    for point in SHARED {
        let server = S3::start();
        let here = Machine::new(&server);
        let one = here.project("one", PAIR);
        let trap = Trap::set(&here, *point);
        one.cargo("run").env("KACHE_FAULT", trap.order()).run();
        wait_for("the daemon's or a wrapper's death", || trap.is_sprung());
        recovers(&here, &one);
        // Whatever was said about the daemon that died; what is owed is still known.
        here.daemon("start");
        here.finish_uploads();
        serves_another(&server, &one);
    }
}

#[test]
fn in_the_recording_of_dependencies() {
    for point in RECORDED {
        let lab = crate::support::lean_lab();
        let upstream = seeding::Upstream::new(&lab, seeding::SCRIPT, seeding::LIB);
        let one = upstream.user(&lab);
        let trap = Trap::set(&lab, *point);
        one.cargo("run").env("KACHE_FAULT", trap.order()).ok();
        wait_for("the recorder's death", || trap.is_sprung());
        let two = one.checkout("two");
        two.cargo("run").same();
        recovers(&lab, &two);
        one.nothing_to_do("build");
    }
}

#[test]
fn in_seeding() {
    let lab = crate::support::lean_lab();
    let (_upstream, one) = seeding::built(&lab, seeding::SCRIPT, seeding::LIB, "run");
    let two = one.checkout("elsewhere/two");
    for point in SEEDED {
        two.wipe();
        let trap = Trap::set(&lab, *point);
        // What dies is no process that Cargo waits for.
        two.cargo("run").env("KACHE_FAULT", trap.order()).same();
        assert!(trap.is_sprung(), "no process got to {point:?}");
        recovers(&lab, &two);
        one.nothing_to_do("build");
    }
}
