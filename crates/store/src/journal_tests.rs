use super::*;
use kache_core::event::Outcome;

fn event(name: &str, at_ms: u64) -> Event {
    Event { at_ms, ..Event::new(name, Outcome::Hit) }
}

fn names(events: impl Iterator<Item = Event>) -> String {
    events.map(|event| event.crate_name).collect::<Vec<_>>().join(" ")
}

#[test]
fn events_come_back_in_order_across_rotated_files() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    assert_eq!(names(store.events(None)), "");
    for i in 0..80u64 {
        store.append_rotating_at(&event(&i.to_string(), i), 600).expect("append");
    }
    let all = names(store.events(None));
    assert!(all.ends_with("78 79") && all.split(' ').count() > 10, "{all}");
    let numbers: Vec<u64> = all.split(' ').map(|name| name.parse().expect("number")).collect();
    assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{all}");
    assert_eq!(store.full_journals().len(), KEPT_FILES);
    assert_eq!(names(store.events(Some(78))), "78 79");
}

#[test]
fn whole_files_older_than_asked_for_are_not_opened() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    let write = |name: &str, events: &[Event]| {
        let lines: Vec<u8> = events.iter().flat_map(Event::encode).collect();
        fs::write(store.journal_dir().join(name), lines).expect("write");
    };
    // An event that claims to be late proves that its file was skipped.
    write("0000000100000.jsonl", &[event("old", 99_000), event("lie", 999_000)]);
    write("0000000200000.jsonl", &[event("mid", 190_000), event("straggler", 230_000)]);
    write("current.jsonl", &[event("new", 300_000)]);
    write("notes.txt", &[event("alien", 300_000)]);
    assert_eq!(names(store.events(None)), "old lie mid straggler new");
    assert_eq!(names(store.events(Some(195_000))), "straggler new");
    assert_eq!(names(store.events(Some(290_000))), "new");
}

#[test]
fn torn_lines_are_skipped_and_what_follows_them_is_found() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    let line = event("torn", 1).encode();
    let mut bytes = event("a", 1).encode();
    bytes.extend(&line[..line.len() / 2]);
    bytes.extend(event("b", 2).encode());
    bytes.extend([0; 100]);
    bytes.extend(event("c", 3).encode());
    bytes.extend(vec![b'x'; 1 << 20]);
    bytes.push(b'\n');
    bytes.extend(event("d", 4).encode());
    bytes.extend(&line[..10]);
    fs::write(store.current_journal(), bytes).expect("write");
    assert_eq!(names(store.events(None)), "a b c d");
}

#[test]
fn concurrent_appends_with_rotation_lose_nothing() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for i in 0..100 {
                    store.append_rotating_at(&event(&format!("{thread}-{i}"), 1), 20_000).expect("append");
                }
            });
        }
    });
    assert_eq!(store.events(None).count(), 400);
}

#[test]
fn a_follower_sees_each_event_once_also_over_a_rotation() {
    let dir = tempfile::tempdir().expect("temp dir");
    let store = Store::open(dir.path()).expect("open");
    let mut early = Follower::at_end(&store);
    store.append(&event("a", 1)).expect("append");
    let mut follower = Follower::at_end(&store);
    let polled = |follower: &mut Follower| names(follower.poll().expect("readable").into_iter());
    assert_eq!(polled(&mut early), "a");
    assert_eq!(polled(&mut follower), "");
    let torn = event("b", 2).encode();
    let mut file = open_append(&store.current_journal()).expect("open");
    file.write_all(&torn[..9]).expect("write");
    assert_eq!(polled(&mut follower), "");
    file.write_all(&torn[9..]).expect("write");
    assert_eq!(polled(&mut follower), "b");
    store.append_rotating_at(&event("c", 3), 1).expect("append");
    store.append(&event("d", 4)).expect("append");
    assert_eq!(polled(&mut follower), "c d");
    assert_eq!(polled(&mut follower), "");
}
