use super::*;
use crate::survey::SurveyedBlob;

const NOW_S: i64 = 1_800_000_000;
const HOUR_S: i64 = 3600;

fn ago(seconds: i64) -> FileTime {
    FileTime::from_parts(NOW_S - seconds, 0)
}

fn digest(name: &str) -> Digest {
    Digest::of(name.as_bytes())
}

fn key(name: &str) -> EntryKey {
    EntryKey(digest(name))
}

fn empty() -> Survey {
    Survey {
        now: ago(0),
        denied: vec![],
        entries: vec![],
        blobs: HashMap::new(),
        units: vec![],
        evidence: vec![],
        snapshots: vec![],
        tmp: vec![],
        memos: vec![],
        served: vec![],
        gone_compilers: BTreeSet::new(),
    }
}

/// A survey of entries `(name, last used seconds ago, blobs)` and blobs `(name, size, held)`, all old.
fn survey(entries: &[(&str, i64, &[&str])], blobs: &[(&str, u64, Holding)]) -> Survey {
    let entries = entries.iter().map(|(name, used_s, blobs)| SurveyedEntry {
        key: key(name),
        content: EntryContent::Entry {
            crate_name: (*name).to_owned(),
            package: format!("{name}-package"),
            unit: UnitKey(digest(&format!("unit {name}"))),
            compiler: Some(digest(name)),
        },
        used: ago(*used_s),
        file_bytes: 0,
        blobs: blobs.iter().map(|blob| digest(blob)).collect(),
    });
    let blobs = blobs.iter().map(|(name, size, holding)| {
        (digest(name), SurveyedBlob { size: *size, changed: ago(HOUR_S), holding: *holding })
    });
    Survey { entries: entries.collect(), blobs: blobs.collect(), ..empty() }
}

/// What an entry out of sight may need stays, and what an entry in sight needs out of sight is no hole.
#[test]
fn a_part_of_a_store_shows_neither_holes_nor_orphans() {
    let whole = survey(
        &[("kept", 0, &["a", "gone"]), ("old", 9 * HOUR_S, &["b"])],
        &[("a", 1, Holding::StoreOnly), ("b", 1, Holding::StoreOnly), ("alone", 1, Holding::StoreOnly)],
    );
    let part = Survey { denied: vec!["/c/v1/entries/00".into()], ..whole.clone() };
    let options = SweepOptions { age_max: Some(Duration::from_secs(3600)), ..SweepOptions::default() };
    let plan_whole = plan(&whole, &options);
    assert_eq!(evicted(&plan_whole), [("old", Why::TooOld), ("kept", Why::Hole)]);
    assert!(removes(&plan_whole, "alone") && removes(&plan_whole, "b"));
    let plan_part = plan(&part, &options);
    assert_eq!(evicted(&plan_part), [("old", Why::TooOld)]);
    assert!(removes(&plan_part, "b") && !removes(&plan_part, "alone") && !removes(&plan_part, "a"));
    assert_eq!(plan_part.denied, part.denied);
}

/// Over the limit, what gone compilers have made goes before what was used longer ago; under it, nothing goes.
#[test]
fn entries_of_gone_compilers_go_first() {
    let hours = |hours: i64| hours * HOUR_S;
    let mut survey = survey(
        &[
            ("oldest", hours(90), &["a"]),
            ("gone", hours(30), &["b"]),
            ("gone-in-use", hours(23), &["c"]),
            ("old", hours(60), &["d"]),
        ],
        &["a", "b", "c", "d"].map(|blob| (blob, 100, Holding::StoreOnly)),
    );
    let first = |survey: &Survey, limit_bytes| {
        evicted(&plan(survey, &limit(limit_bytes)))
            .into_iter()
            .map(|(name, why)| (name.to_owned(), why))
            .collect::<Vec<_>>()
    };
    let expect = |names: &[(&str, Why)]| names.iter().map(|(n, w)| ((*n).to_owned(), *w)).collect::<Vec<_>>();
    assert_eq!(first(&survey, 350), expect(&[("oldest", Why::OverLimit)]));
    survey.gone_compilers = BTreeSet::from([digest("gone"), digest("gone-in-use")]);
    assert_eq!(first(&survey, 400), expect(&[]), "under the limit");
    assert_eq!(first(&survey, 350), expect(&[("gone", Why::CompilerGone)]));
    assert_eq!(
        first(&survey, 250),
        expect(&[("oldest", Why::OverLimit), ("gone", Why::CompilerGone)]),
        "one that is in use, by another container, waits its turn"
    );
}

fn limit(limit_bytes: u64) -> SweepOptions {
    SweepOptions { limit_bytes: Some(limit_bytes), ..SweepOptions::default() }
}

fn evicted(plan: &EvictPlan) -> Vec<(&str, Why)> {
    plan.entries.iter().map(|eviction| (eviction.crate_name.as_str(), eviction.why)).collect()
}

fn removes(plan: &EvictPlan, blob: &str) -> bool {
    plan.blobs.iter().any(|removal| removal.digest == digest(blob))
}

use Holding::{Shared, StoreOnly};

#[test]
fn over_the_limit_the_least_recently_used_go_down_to_nine_tenths() {
    let survey = survey(
        &[("b", 2 * HOUR_S, &["2"]), ("a", 3 * HOUR_S, &["1"]), ("c", HOUR_S, &["3"])],
        &[("1", 100, StoreOnly), ("2", 100, StoreOnly), ("3", 100, StoreOnly)],
    );
    let over = |names: &[&'static str]| names.iter().map(|name| (*name, Why::OverLimit)).collect::<Vec<_>>();
    let cases =
        [(300, over(&[])), (299, over(&["a"])), (220, over(&["a", "b"])), (100, over(&["a", "b", "c"]))];
    for (limit_bytes, expected) in cases {
        let plan = plan(&survey, &limit(limit_bytes));
        assert_eq!(evicted(&plan), expected, "{limit_bytes}");
        assert_eq!(plan.blobs.len(), expected.len());
        assert_eq!(plan.freed_bytes(), 100 * expected.len() as u64);
        assert_eq!(plan.after.counted_bytes(), 300 - plan.freed_bytes());
        assert_eq!((plan.before.entries, plan.after.entries), (3, 3 - expected.len() as u64));
    }
}

#[test]
fn where_others_need_room_so_much_is_freed_whatever_the_limit() {
    let survey = survey(
        &[("b", 2 * HOUR_S, &["2"]), ("a", 3 * HOUR_S, &["1"]), ("c", HOUR_S, &["3", "h"])],
        &[("1", 100, StoreOnly), ("2", 100, StoreOnly), ("3", 100, StoreOnly), ("h", 100, Shared)],
    );
    for (room_bytes, expected) in [(0, 0), (1, 1), (100, 1), (101, 2), (300, 3), (u64::MAX, 3)] {
        let plan = plan(&survey, &SweepOptions { room_bytes, ..limit(1000) });
        assert_eq!(plan.entries.len(), expected, "{room_bytes}");
        assert!(plan.freed_bytes() >= room_bytes.min(300));
    }
}

#[test]
fn what_was_used_within_the_period_of_grace_stays() {
    let survey =
        survey(&[("a", 60, &["1"]), ("b", -500, &["2"])], &[("1", 100, StoreOnly), ("2", 1, StoreOnly)]);
    assert_eq!(evicted(&plan(&survey, &limit(10))), []);
    let now = SweepOptions { grace: Duration::ZERO, ..limit(10) };
    assert_eq!(evicted(&plan(&survey, &now)), [("a", Why::OverLimit)]);
}

#[test]
fn held_blobs_neither_count_nor_make_an_entry_go() {
    let survey = survey(
        &[("held", 9 * HOUR_S, &["1"]), ("own", 8 * HOUR_S, &["2"])],
        &[("1", 1000, Shared), ("2", 100, StoreOnly)],
    );
    assert_eq!(survey.sizes().counted_bytes(), 100);
    assert_eq!(evicted(&plan(&survey, &limit(100))), []);
    let plan = plan(&survey, &limit(50));
    assert_eq!(evicted(&plan), [("own", Why::OverLimit)]);
    assert_eq!((plan.before.held_bytes, plan.after.held_bytes, plan.freed_bytes()), (1000, 1000, 100));
}

#[test]
fn an_entry_whose_blobs_all_stay_anyway_is_not_sacrificed() {
    // Evicting `old` alone would free nothing: `new` needs the same blob.
    let survey = survey(
        &[("old", 9 * HOUR_S, &["1"]), ("mid", 5 * HOUR_S, &["2"]), ("new", 2 * HOUR_S, &["1"])],
        &[("1", 100, StoreOnly), ("2", 100, StoreOnly)],
    );
    assert_eq!(evicted(&plan(&survey, &limit(150))), [("mid", Why::OverLimit)]);
    // But where the blob itself has to go, all that need it do.
    let plan = plan(&survey, &limit(50));
    let names: Vec<&str> = evicted(&plan).iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["old", "mid", "new"]);
    assert_eq!(plan.after.counted_bytes(), 0);
}

/// A use is noted up to a minute too early: an entry goes when it certainly wasn't used for the time.
#[test]
fn what_was_used_within_the_age_stays() {
    for (age_s, used_s, goes) in [
        (1800, 1800, false),
        (1800, 1859, false),
        (1800, 1861, true),
        (1, 60, false),
        (1, 62, true),
        (0, 1, true),
    ] {
        let survey = survey(&[("one", used_s, &["1"])], &[("1", 1, StoreOnly)]);
        let options = SweepOptions { age_max: Some(Duration::from_secs(age_s)), ..SweepOptions::default() };
        assert_eq!(plan(&survey, &options).entries.len(), usize::from(goes), "{age_s} {used_s}");
    }
}

#[test]
fn age_and_purges_do_not_ask_for_the_size() {
    let survey = survey(
        &[("my_crate", 50 * HOUR_S, &["1", "2"]), ("other", 10 * HOUR_S, &["2"]), ("fresh", 0, &["3"])],
        &[("1", 1, StoreOnly), ("2", 1, StoreOnly), ("3", 1, StoreOnly)],
    );
    let old = SweepOptions { age_max: Some(Duration::from_secs(86_400)), ..SweepOptions::default() };
    let purge = |purge| SweepOptions { purge, ..SweepOptions::default() };
    let of = |name: &str| purge(Purge::Crate(name.to_owned()));
    let mine = vec![("my_crate", Why::Purged)];
    let all = vec![("my_crate", Why::Purged), ("other", Why::Purged), ("fresh", Why::Purged)];
    let cases = [
        (SweepOptions::default(), vec![]),
        (old, vec![("my_crate", Why::TooOld)]),
        (of("my_crate"), mine.clone()),
        (of("my-crate"), mine.clone()),
        (of("my-crate-package"), mine),
        (of("crate"), vec![]),
        (purge(Purge::Everything), all),
    ];
    for (options, expected) in cases {
        let plan = plan(&survey, &options);
        assert_eq!(evicted(&plan), expected, "{options:?}");
        let kept_two = expected.len() < 2;
        assert_eq!(removes(&plan, "1"), !expected.is_empty(), "{options:?}");
        assert_eq!(removes(&plan, "2"), !kept_two, "{options:?}: needed by another");
    }
}

#[test]
fn holes_and_malformed_entries_always_go() {
    let mut survey = survey(&[("hole", 0, &["1", "gone"]), ("whole", 0, &["1"])], &[("1", 1, StoreOnly)]);
    let malformed = SurveyedEntry {
        key: key("bad"),
        content: EntryContent::Malformed,
        used: ago(5),
        file_bytes: 7,
        blobs: BTreeSet::new(),
    };
    survey.entries.push(malformed);
    let plan = plan(&survey, &SweepOptions::default());
    assert_eq!(evicted(&plan), [("", Why::Malformed), ("hole", Why::Hole)]);
    assert_eq!(plan.blobs, []);
    assert_eq!((plan.before.meta_bytes, plan.after.meta_bytes), (7, 0));
}

#[test]
fn an_entry_of_a_newer_kache_keeps_whatever_it_may_need() {
    let mut survey = survey(&[], &[("1", 1, StoreOnly), ("2", 1, StoreOnly)]);
    survey.entries.push(SurveyedEntry {
        key: key("newer"),
        content: EntryContent::Newer,
        used: ago(5 * HOUR_S),
        file_bytes: 1,
        blobs: BTreeSet::from([digest("1"), digest("unit"), digest("not a blob")]),
    });
    let file = SurveyedFile { path: "u".into(), size: 1, changed: ago(99 * 86_400) };
    survey.units.push((UnitKey(digest("unit")), file));
    let plan = plan(&survey, &SweepOptions::default());
    assert_eq!(evicted(&plan), []);
    assert!(!removes(&plan, "1") && removes(&plan, "2"));
    assert_eq!(plan.strays, Vec::<PathBuf>::new());
}

#[test]
fn orphans_go_after_the_period_of_grace() {
    let mut survey = survey(&[], &[("old", 5, StoreOnly), ("new", 5, StoreOnly)]);
    if let Some(blob) = survey.blobs.get_mut(&digest("new")) {
        blob.changed = ago(599);
    }
    let plan = plan(&survey, &SweepOptions::default());
    assert!(removes(&plan, "old") && !removes(&plan, "new"));
}

#[test]
fn what_is_about_to_be_free_is_not_freed_again() {
    // Blobs change when a target directory that held them goes, so they may be younger than their entries' last use.
    let young = |mut survey: Survey| {
        survey.blobs.values_mut().for_each(|blob| blob.changed = ago(30));
        survey
    };
    let blobs = [("1", 100, StoreOnly), ("2", 100, StoreOnly), ("3", 100, StoreOnly)];
    let entries: [(&str, i64, &[&str]); 3] =
        [("a", 3 * HOUR_S, &["1"]), ("b", 2 * HOUR_S, &["2"]), ("c", HOUR_S, &["3"])];
    let first = plan(&young(survey(&entries, &blobs)), &limit(250));
    assert_eq!((evicted(&first), first.blobs.len()), (vec![("a", Why::OverLimit)], 0));
    let second = plan(&young(survey(&entries[1..], &blobs)), &limit(250));
    assert_eq!((evicted(&second), second.blobs.len()), (vec![], 0));
}

#[test]
fn strays_go_by_their_age() {
    let file = |path: &str, age_s| SurveyedFile { path: path.into(), size: 1, changed: ago(age_s) };
    let mut survey = survey(&[("kept", 0, &[])], &[]);
    survey.tmp = vec![file("tmp new", 3599), file("tmp old", 3600)];
    survey.memos = vec![file("memo new", 29 * 86_400), file("memo old", 31 * 86_400)];
    let unit = |name: &str| UnitKey(digest(name));
    survey.units = vec![
        (unit("unit kept"), file("unit kept", 99 * 86_400)),
        (unit("x"), file("unit new", 80_000)),
        (unit("y"), file("unit old", 90_000)),
    ];
    survey.evidence = vec![
        (key("kept"), file("evidence kept", 99 * 86_400)),
        (key("x"), file("evidence new", 599)),
        (key("y"), file("evidence old", 600)),
    ];
    let plan = plan(&survey, &SweepOptions::default());
    let strays: BTreeSet<&str> = plan.strays.iter().filter_map(|path| path.to_str()).collect();
    assert_eq!(strays, BTreeSet::from(["tmp old", "memo old", "unit old", "evidence old"]));
    assert_eq!((plan.before.meta_bytes, plan.after.meta_bytes), (6, 4));
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn any_survey()(
            blobs in proptest::collection::vec((0..1000u64, any::<bool>(), 0..2 * HOUR_S), 1..12),
            entries in proptest::collection::vec(
                (0..10 * HOUR_S, proptest::collection::btree_set(0..14usize, 0..5), 0..50u64), 0..12),
        ) -> Survey {
            let name = |i: usize| digest(&i.to_string());
            let blobs = blobs.into_iter().enumerate().map(|(i, (size, held, age_s))| {
                let holding = if held { Shared } else { StoreOnly };
                (name(i), SurveyedBlob { size, changed: ago(age_s), holding })
            });
            let entries = entries.into_iter().enumerate().map(|(i, (used_s, blobs, file_bytes))| {
                SurveyedEntry {
                    key: key(&i.to_string()),
                    content: EntryContent::Entry {
                        crate_name: i.to_string(),
                        package: String::new(),
                        unit: UnitKey(name(i)),
                        compiler: None,
                    },
                    used: ago(used_s),
                    file_bytes,
                    blobs: blobs.into_iter().map(name).collect(),
                }
            });
            Survey { blobs: blobs.collect(), entries: entries.collect(), ..empty() }
        }
    }

    proptest! {
        #[test]
        fn no_entry_that_stays_loses_a_blob_and_sizes_add_up(
            survey in any_survey(),
            limit_bytes in proptest::option::of(0..4000u64),
            grace_s in 0..3600u64,
        ) {
            let options =
                SweepOptions { limit_bytes, grace: Duration::from_secs(grace_s), ..SweepOptions::default() };
            let plan = plan(&survey, &options);
            let gone: HashSet<EntryKey> = plan.entries.iter().map(|eviction| eviction.key).collect();
            let removed: HashSet<Digest> = plan.blobs.iter().map(|blob| blob.digest).collect();
            let kept: Vec<_> = survey.entries.iter().filter(|entry| !gone.contains(&entry.key)).collect();
            for entry in &kept {
                prop_assert!(entry.blobs.iter().all(|blob| !removed.contains(blob)));
                prop_assert!(entry.blobs.iter().all(|blob| survey.blobs.contains_key(blob)), "a hole stays");
            }
            let mut after = survey.clone();
            after.entries.retain(|entry| !gone.contains(&entry.key));
            after.blobs.retain(|digest, _| !removed.contains(digest));
            prop_assert_eq!(after.sizes(), plan.after);
            if let Some(limit_bytes) = limit_bytes && grace_s == 0 {
                // Only what frees nothing and the files of entries may stay beyond it.
                let files: u64 = kept.iter().map(|entry| entry.file_bytes).sum();
                prop_assert!(plan.after.counted_bytes() - files <= limit_bytes);
            }
        }
    }
}
