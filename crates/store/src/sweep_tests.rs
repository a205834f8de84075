use super::*;
use crate::evict::{Purge, Why};
use crate::link::set_mtime_of;
use crate::testing::Bench;
use kache_core::key::EntryKey;
use kache_core::record::InputRecord;
use std::path::Path;

const AT_ONCE: Duration = Duration::ZERO;

fn limit(limit_bytes: u64) -> SweepOptions {
    SweepOptions { limit_bytes: Some(limit_bytes), grace: AT_ONCE, ..SweepOptions::default() }
}

fn sweep(bench: &Bench, options: &SweepOptions) -> SweepReport {
    match bench.store.sweep(options).expect("swept") {
        Sweeping::Done(report) => *report,
        Sweeping::Busy => panic!("nobody else sweeps"),
    }
}

/// Three entries of 1000 bytes each, `a` used longest ago.
fn three(bench: &Bench) -> [EntryKey; 3] {
    let now_s = FileTime::now_coarse().seconds();
    [("a", 9000), ("b", 8000), ("c", 7000)].map(|(name, ago_s)| {
        let (key, entry) = bench.publish(name, &[name.as_bytes()[0]; 1000]);
        bench.store.add_record(&entry.unit, InputRecord::default()).expect("added");
        set_mtime_of(&bench.store.entry_path(&key), now_s - ago_s).expect("utimes");
        key
    })
}

fn there(bench: &Bench, keys: &[EntryKey]) -> Vec<bool> {
    let entry = |key| bench.store.peek_entry(key).expect("readable");
    keys.iter()
        .map(|key| {
            let entry = entry(key);
            assert_eq!(entry.is_some(), bench.store.evidence_path(key).exists(), "evidence goes along");
            entry.is_some_and(|entry| bench.store.blob_path(&entry.outputs[0].digest).exists())
        })
        .collect()
}

fn count(dir: &Path) -> usize {
    let items = fs::read_dir(dir).expect("list").map(|item| item.expect("entry"));
    items.map(|item| if item.path().is_dir() { count(&item.path()) } else { 1 }).sum()
}

#[test]
fn the_least_recently_used_go_with_their_blobs() {
    for bench in Bench::everywhere() {
        let keys = three(&bench);
        assert_eq!(sweep(&bench, &limit(1 << 30)).entries, 0);
        let total = bench.store.usage_estimate().expect("readable").bytes;
        assert!(total > 3000, "files count too: {total}");
        let report = sweep(&bench, &limit(total - 1));
        assert_eq!((report.entries, report.blobs, report.freed_bytes), (1, 1, 1000));
        assert!(report.errors.is_empty());
        assert_eq!(there(&bench, &keys), [false, true, true]);
        assert_eq!(report.plan.entries[0].why, Why::OverLimit);
        let usage = bench.store.usage_estimate().expect("readable");
        assert_eq!(usage.bytes, total - 1000);
        assert!(usage.counted_s > 0);
    }
}

#[test]
fn a_plan_changes_nothing() {
    let bench = Bench::new();
    let keys = three(&bench);
    let plan = bench.store.plan_sweep(&limit(0)).expect("planned");
    assert_eq!((plan.entries.len(), plan.freed_bytes()), (3, 3000));
    assert_eq!(there(&bench, &keys), [true; 3]);
}

#[test]
fn a_purge_of_everything_leaves_no_entry_blob_or_record() {
    let bench = Bench::new();
    three(&bench);
    bench.store.ingest_bytes(b"a text").expect("ingest");
    let everything = SweepOptions { purge: Purge::Everything, grace: AT_ONCE, ..SweepOptions::default() };
    let report = sweep(&bench, &everything);
    assert_eq!((report.entries, report.blobs), (3, 4));
    for dir in ["blobs", "entries", "evidence", "units"] {
        assert_eq!(count(&bench.store.root().join("v1").join(dir)), 0, "{dir}");
    }
    assert_eq!(report.plan.after, crate::survey::Sizes::default());
}

#[test]
fn what_was_used_since_the_survey_stays() {
    let bench = Bench::new();
    let keys = three(&bench);
    let plan = bench.store.plan_sweep(&limit(0)).expect("planned");
    bench.store.entry(&keys[0]).expect("readable").expect("a hit");
    // A compile found `b`'s content again and is about to publish.
    let (_, entry) = bench.publish("again", &[b'b'; 1000]);
    let report = bench.store.apply_sweep(plan);
    assert_eq!((report.entries, report.blobs, report.freed_bytes), (2, 1, 1000));
    assert_eq!(there(&bench, &keys), [true, false, false]);
    assert!(bench.store.blob_path(&entry.outputs[0].digest).exists());
}

#[test]
fn blobs_in_a_target_directory_are_not_worth_evicting() {
    let bench = Bench::new();
    let keys = three(&bench);
    let entry = bench.store.peek_entry(&keys[0]).expect("readable").expect("there");
    fs::hard_link(bench.store.blob_path(&entry.outputs[0].digest), bench.path("target")).expect("link");
    let survey = bench.store.survey().expect("surveyed");
    assert_eq!(survey.sizes().held_bytes, 1000);
    let report = sweep(&bench, &limit(survey.sizes().counted_bytes() - 1));
    assert_eq!((report.freed_bytes, report.held_bytes), (1000, 0));
    assert_eq!(there(&bench, &keys), [true, false, true]);
}

#[test]
fn leftovers_of_killed_processes_go_once_they_are_old() {
    let bench = Bench::new();
    let keys = three(&bench);
    // Killed before the rename, between blob and entry, and between entry and nothing.
    bench.store.new_tmp().map(|(tmp, _)| std::mem::forget(tmp)).expect("created");
    bench.store.ingest_bytes(b"orphan").expect("ingest");
    let entry = bench.store.peek_entry(&keys[2]).expect("readable").expect("there");
    bench.store.drop_damaged(&entry.outputs[0].digest).expect("a hole");
    let report = sweep(&bench, &SweepOptions::default());
    assert_eq!(there(&bench, &keys), [true, true, false], "a hole goes at once");
    assert_eq!((report.entries, report.blobs, bench.leftovers()), (1, 0, 1), "the young stay");
    // Change times can't be set back, so the clock of the survey is put forward instead.
    let mut survey = bench.store.survey().expect("surveyed");
    survey.now = FileTime::from_parts(survey.now.seconds() + 4000, 0);
    let report = bench.store.apply_sweep(plan(&survey, &SweepOptions::default()));
    assert_eq!((report.entries, report.blobs, bench.leftovers()), (0, 1, 0));
    assert_eq!(there(&bench, &keys), [true, true, false]);
}

#[test]
fn one_sweep_at_a_time() {
    let bench = Bench::new();
    let Ok(Locking::Locked(_lock)) = bench.store.lock("sweep", AT_ONCE) else { panic!("free") };
    assert!(matches!(bench.store.sweep(&SweepOptions::default()), Ok(Sweeping::Busy)));
}

/// What a CI job saves has no target directory beside it, and all of it was used in the job.
#[test]
fn a_store_that_is_copied_is_bounded_as_a_whole() {
    let bench = Bench::new();
    for name in ["a", "b", "c"] {
        let (_, entry) = bench.publish(name, &vec![name.as_bytes()[0]; 4 << 20]);
        fs::hard_link(bench.store.blob_path(&entry.outputs[0].digest), bench.path(name)).expect("link");
    }
    fs::create_dir_all(bench.store.root().join("journal")).expect("mkdir");
    fs::write(bench.store.root().join("journal/today.jsonl"), vec![b'x'; 2 << 20]).expect("write");
    let disk_bytes =
        || Footprint::of(bench.store.root(), &BlobIndex::default()).expect("readable").disk_bytes();
    let limit_bytes = disk_bytes() - (5 << 20);
    let as_ever = SweepOptions::keeping(limit_bytes, None);
    assert_eq!(sweep(&bench, &as_ever).entries, 0, "links don't count, and all is new");
    let report = sweep(&bench, &as_ever.of_copy());
    assert!((1..=2).contains(&report.entries), "{}", report.entries);
    assert!(disk_bytes() <= limit_bytes, "{} of {limit_bytes}", disk_bytes());
    assert!(["a", "b", "c"].iter().all(|name| bench.path(name).exists()), "target directories keep theirs");
}
