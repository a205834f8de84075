//! A model with everything in it, and what keys make of it.

use super::*;
use crate::monitor::daemon;
use kache_core::event::Source;

const NOW_MS: u64 = 1_700_000_000_000;

fn event(name: &str, session: &str, outcome: Outcome, ago_s: u64, total_ms: u64) -> Event {
    let mut event = Event::new(name, outcome);
    (event.session, event.project) = (session.to_owned(), format!("/home/me/project-{session}"));
    (event.package, event.package_version) = (name.to_owned(), "1.2.3".to_owned());
    (event.kind, event.mode) = ("lib".to_owned(), "build".to_owned());
    event.at_ms = NOW_MS - ago_s * 1000;
    event.times.total_us = total_ms * 1000;
    match outcome {
        Outcome::Hit => {
            (event.source, event.saved_ms) = (Some(Source::Local), 1500);
            event.moved.linked_bytes = 2 << 20;
        }
        Outcome::Passthrough => {
            event.reason = Some("unknown-flag".into());
            event.detail = Some("unknown compiler flag \"-Zx\"".into());
        }
        _ => {
            event.times.compile_us = total_ms * 1000;
            event.reason = Some("inputs-changed".into());
            event.detail = Some("inputs changed: file {ws}/src/lib.rs".into());
            event.moved.stored_bytes = 4 << 20;
        }
    }
    event
}

/// A model with two projects, a remote, and a passthrough.
pub fn sample() -> Model {
    let mut events = vec![
        event("serde", "a", Outcome::Miss, 7200, 4000),
        event("old-app", "a", Outcome::Miss, 7190, 900),
        event("serde", "b", Outcome::Hit, 12, 2),
        event("syn", "b", Outcome::Hit, 11, 3),
        event("odd", "b", Outcome::Passthrough, 9, 700),
        event("app", "b", Outcome::Miss, 2, 2500),
    ];
    events[3].source = Some(Source::Remote);
    let mut model = Model::default();
    model.load(events, NOW_MS);
    model.daemon = daemon::tests::sample(NOW_MS - 7_500_000);
    model.set_store(StoreFacts {
        dir: "/home/me/.cache/kache".into(),
        bytes: 12 << 30,
        bytes_max: 50 << 30,
        entries: 1234,
        uploads_waiting: 3,
    });
    model
}

#[test]
fn what_was_in_place_before_a_build_is_served_and_none_of_its_calls() {
    let mut model = sample();
    let latest = |model: &Model| {
        let (session, served, calls) = model.latest_build().expect("a build");
        (session.to_owned(), served.compiles, served.compiles_of, calls.len())
    };
    assert_eq!(latest(&model), ("b".to_owned(), 2, 4, 4));
    let mut seeding = Event::new("-", Outcome::Passthrough);
    (seeding.session, seeding.at_ms) = ("b".to_owned(), NOW_MS - 13_000);
    let asked = kache_core::event::Asked { units: 3, runs: 1, ..Default::default() };
    seeding.seeding = Some(kache_core::event::Seeding { units: 4, runs: 1, asked, ..Default::default() });
    let events = [vec![seeding], model.events.clone()].concat();
    model.load(events.clone(), NOW_MS);
    assert_eq!(latest(&model), ("b".to_owned(), 5, 7, 4));
    // The same figures as `kache stats` has.
    let b = events.iter().filter(|event| event.session == "b");
    assert_eq!(model.latest_build().map(|(_, served, _)| served), Some(Served::of(&Tally::of(b))));
}

/// What the help and the guide say about keys is what the bottom line and the code know.
#[test]
fn keys_are_documented() {
    let help = include_str!("../cli/monitor.rs");
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/commands.md"));
    let guide = guide.expect("guide").replace('`', "").replace('\n', " ");
    for (_, keys, what) in KEYS {
        assert!(help.contains(&format!("{keys} {what}")), "{keys}");
        assert!(guide.contains(&format!("{keys} {what}")), "{keys}");
    }
}

#[test]
fn keys_do_what_is_listed() {
    let mut model = sample();
    for (key, tab) in [
        (KeyCode::Tab, Tab::Projects),
        (KeyCode::Char('5'), Tab::Passthrough),
        (KeyCode::Tab, Tab::Build),
        (KeyCode::BackTab, Tab::Passthrough),
        (KeyCode::Char('1'), Tab::Build),
    ] {
        assert_eq!((model.press(key), model.tab), (Candidate::Go, tab));
    }
    let names = |model: &Model| model.calls().iter().map(|e| e.crate_name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&model), ["app", "odd", "syn", "serde"]);
    model.press(KeyCode::Char('s'));
    assert_eq!((model.order(), names(&model)[0].as_str()), ("slowest", "app"));
    model.press(KeyCode::Char('s'));
    assert_eq!(names(&model), ["app", "odd", "serde", "syn"]);
    for key in ['f', 'S', 'e', 'q'] {
        assert_eq!(model.press(KeyCode::Char(key)), Candidate::Go);
    }
    assert_eq!((model.filter.as_str(), names(&model).len()), ("Seq", 0));
    model.press(KeyCode::Backspace);
    model.press(KeyCode::Enter);
    assert_eq!(names(&model), ["serde"]);
    assert_eq!(model.press(KeyCode::Char('r')), Candidate::Reload);
    model.press(KeyCode::Char('c'));
    assert_eq!((names(&model).len(), model.tally.all.outcomes.total()), (0, 0));
    assert_eq!(model.press(KeyCode::Char('q')), Candidate::Quit);
}

#[test]
fn the_marked_line_stays_within_the_list() {
    let mut model = sample();
    assert_eq!(model.selected(0), None);
    for _ in 0..9 {
        model.press(KeyCode::Down);
    }
    assert_eq!(model.selected(4), Some(3));
    model.press(KeyCode::Up);
    assert_eq!(model.selected(4), Some(2));
}

#[test]
fn what_comes_twice_counts_once() {
    let mut model = sample();
    let again = model.events.last().expect("an event").clone();
    let new = event("new", "b", Outcome::Hit, 0, 1);
    model.append(vec![again, new], 10);
    assert_eq!(model.tally.all.outcomes.total(), 7);
    assert!(model.is_live() && model.projects().len() == 2);
}
