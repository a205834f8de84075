use super::*;
use crate::served::Served;

fn event(name: &str, outcome: Outcome, at_ms: u64, session: &str) -> Event {
    let mut event = Event::new(name, outcome);
    event.at_ms = at_ms;
    event.session = session.to_owned();
    event.project = format!("/p/{session}");
    event.times.total_us = 1000;
    match outcome {
        Outcome::Hit => {
            event.source = Some(Source::Local);
            event.saved_ms = 500;
            event.moved.linked_bytes = 10;
        }
        Outcome::Miss => {
            event.times.compile_us = 700;
            event.times.wait_us = 100;
            event.reason = Some("unit-unknown".into());
            event.not_stored = Some("incremental: the crate is being edited".into());
        }
        _ => {
            event.reason = Some("stdin".into());
            event.detail = Some("from standard input".into());
        }
    }
    event
}

fn sample() -> Vec<Event> {
    vec![
        event("a", Outcome::Hit, 10, "1"),
        event("a", Outcome::Miss, 20, "1"),
        event("b", Outcome::Hit, 30, "2"),
        event("b", Outcome::Passthrough, 5, "2"),
        event("c", Outcome::Error, 40, "2"),
    ]
}

#[test]
fn compiles_that_could_not_be_observed_are_worth_knowing() {
    let mut event = event("a", Outcome::Miss, 20, "1");
    event.unobserved = true;
    let tally = Tally::of(&[event]);
    assert_eq!(tally.notes["unobserved"].count, 1);
}

#[test]
fn sums() {
    let tally = Tally::of(&sample());
    let Part { outcomes, times, first_ms, last_ms, .. } = &tally.all;
    assert_eq!(*outcomes, Outcomes { hit: 2, dup: 0, miss: 1, passthrough: 1, error: 1 });
    assert_eq!((outcomes.total(), outcomes.hit_rate()), (5, Some(2.0 / 3.0)));
    assert_eq!((times.saved_us, times.compile_us, times.hit_us), (1_000_000, 700, 2000));
    assert_eq!((times.miss_overhead_us, times.wait_us), (1200, 100));
    assert_eq!((*first_ms, *last_ms), (5, 40));
    assert_eq!((tally.sources.local, tally.moved.linked_bytes), (2, 20));
    assert_eq!(tally.misses["unit-unknown"], ReasonCount { count: 1, example: "a".into() });
    assert_eq!(tally.passthroughs["stdin"].example, "b: from standard input");
    assert_eq!((tally.not_stored["incremental"].count, tally.notes["stdin"].count), (1, 1));
    assert_eq!(tally.not_stored["incremental"].example, "a: the crate is being edited");
    assert_eq!(tally.crates["b"].outcomes.total(), 2);
    assert_eq!(tally.build_count(), 2);
    assert_eq!((tally.builds["2"].project.as_str(), tally.builds["2"].part.first_ms), ("/p/2", 5));
}

/// A build that calls no compiler since everything is in place is the latest build nevertheless.
#[test]
fn what_was_in_place_makes_a_build() {
    let seeding = |units: u64| {
        let mut event = event("-", Outcome::Passthrough, 50, "3");
        event.seeding = Some(crate::event::Seeding { units, ..Default::default() });
        event
    };
    let tally = Tally::of(&[seeding(0)]);
    assert_eq!(tally.build_count(), 0);
    let mut tally = Tally::of(&sample());
    tally.merge(Tally::of(&[seeding(4)]));
    assert_eq!((tally.build_count(), tally.builds["3"].seeded, tally.builds["3"].part.last_ms), (3, 4, 50));
    assert_eq!((tally.builds["3"].project.as_str(), tally.all.outcomes.total()), ("/p/3", 5));
}

#[test]
fn parts_of_a_journal_sum_to_the_whole() {
    let events = sample();
    for cut in 0..=events.len() {
        let mut first = Tally::of(&events[..cut]);
        first.merge(Tally::of(&events[cut..]));
        assert_eq!(first, Tally::of(&events), "cut at {cut}");
    }
}

#[test]
fn nothing_looked_up_has_no_hit_rate() {
    assert_eq!(Tally::default().all.outcomes.hit_rate(), None);
    assert_eq!(Tally::of(&[event("x", Outcome::Passthrough, 1, "s")]).build_count(), 0);
}

/// What this build asked for counts, whoever spared it the work; what scripts try out doesn't.
#[test]
fn the_headline_counts_what_was_in_place_and_what_was_passed_through() {
    let mut probe = event("probe", Outcome::Passthrough, 3, "1");
    probe.reason = Some("probe".into());
    let mut passed = event("odd", Outcome::Passthrough, 4, "1");
    passed.reason = Some("unknown-flag".into());
    let mut script = event("build_script_build", Outcome::Hit, 5, "1");
    script.kind = "build-script".into();
    let mut seeding = event("-", Outcome::Passthrough, 1, "1");
    seeding.times.restore_us = 100_000;
    seeding.times.remote_us = 7;
    let asked = crate::event::Asked { units: 40, runs: 8, runs_left: 1, saved_ms: 40_000 };
    seeding.seeding = Some(crate::event::Seeding { units: 90, runs: 20, asked, ..Default::default() });
    let mut events = sample();
    let waited_us = Tally::of(&events).all.times.remote_us;
    events.extend([probe, passed, script, seeding]);
    assert_eq!(Tally::of(&events).all.times.remote_us, waited_us + 7, "waiting for a snapshot is waiting");
    let served = Served::of(&Tally::of(&events));
    let expected = Served {
        compiles: 43,
        compiles_of: 45,
        build_scripts: 8,
        build_scripts_of: 10,
        saved_us: 41_500_000,
        cost_us: 103_000,
    };
    assert_eq!((served, served.share()), (expected, Some(51.0 / 55.0)));
    let text = "Served 43 of 45 compiles and 8 of 10 build scripts, saved about 41.5s for 0.1s";
    assert_eq!(served.sentence(), text);
    assert_eq!(Served::of(&Tally::default()).sentence(), "Nothing was asked for");
    assert_eq!(Served { compiles_of: 2, ..Served::default() }.sentence(), "Served 0 of 2 compiles");
}

/// A build in which everything was passed through is a build; a script that asks something is none.
#[test]
fn a_build_is_what_has_compiles() {
    let mut passed = event("odd", Outcome::Passthrough, 4, "1");
    passed.reason = Some("unknown-flag".into());
    assert!(Tally::of(&[passed]).builds["1"].has_compiles());
    assert!(!Tally::of(&[event("probe", Outcome::Passthrough, 4, "1")]).builds["1"].has_compiles());
}
