use super::*;
use crate::cargo::layout::UnitDir;
use crate::key::EntryKey;
use crate::seed_unit::Made;
use crate::snapshot::Header;

fn about() -> About {
    About {
        manifest_key: "host".parse().expect("a label"),
        lockfile: Digest::of(b"lock"),
        compiler: Digest::of(b"compiler"),
        cargo_home: "/home/c/.cargo".to_owned(),
    }
}

fn snapshot(context: &str, recorded_s: u64, units: &[(&str, &str)]) -> Snapshot {
    let mut header = Header::new(Digest::of(context.as_bytes()), about().lockfile);
    header.compiler = Some(about().compiler);
    header.cargo_home = about().cargo_home;
    header.recorded_s = recorded_s;
    let unit = |(dir, entry): &(&str, &str)| {
        let made = Made::Compile { entry: EntryKey(Digest::of(entry.as_bytes())) };
        SeedUnit {
            seen_s: recorded_s,
            ..SeedUnit::new(
                "debug",
                UnitDir::parse(&format!("{dir}{:015}", 0)).expect("a unit"),
                "lib-x",
                made,
            )
        }
    };
    Snapshot { header, units: units.iter().map(unit).collect() }
}

/// The object of these snapshots, not compressed: this module doesn't know how they are.
fn object(snapshots: &[Snapshot], change: impl FnOnce(&mut Head)) -> Vec<u8> {
    let (bytes, parts) = payload(snapshots).expect("it fits");
    let size = bytes.len() as u64;
    let pack = Pack { digest: Digest::of(&bytes), size, unpacked_size: size };
    let mut head = Head::new(&about(), pack, parts);
    change(&mut head);
    head.encode(&bytes)
}

fn read(bytes: &[u8]) -> Result<Vec<Snapshot>, FormError> {
    let (head, payload) = Head::decode(bytes, &about())?;
    head.split(payload, &about(), 1000)
}

#[test]
fn snapshots_come_back_and_their_name_needs_no_listing() {
    let both = [snapshot("a", 10, &[("x-1", "x"), ("y-1", "y")]), snapshot("b", 5, &[("x-1", "x")])];
    assert_eq!(read(&object(&both, |_| {})).expect("own output"), both);
    assert_eq!(read(&object(&[], |_| {})).expect("own output"), []);
    let change: [fn(&mut About); 4] = [
        |about| about.manifest_key = "other".parse().expect("a label"),
        |about| about.lockfile = Digest::of(b"other"),
        |about| about.compiler = Digest::of(b"other"),
        |about| about.cargo_home.push('2'),
    ];
    for change in change {
        let mut other = about();
        change(&mut other);
        assert_ne!(other.hash(), about().hash());
        let decoded = Head::decode(&object(&both, |_| {}), &other).map(drop);
        assert!(matches!(decoded, Err(FormError::OtherBuild(_))), "{decoded:?}");
    }
}

#[test]
fn what_is_not_what_it_says_is_refused() {
    let both = [snapshot("a", 10, &[("x-1", "x")]), snapshot("b", 5, &[])];
    type Change = fn(&mut Head);
    let changes: [(Change, &str); 11] = [
        (|head| head.version = VERSION + 1, "newer"),
        (|head| head.about = Digest::of(b"x"), "another"),
        (|head| head.pack.digest = Digest::of(b"x"), "is not the one"),
        (|head| head.pack.size += 1, "is not the one"),
        (|head| head.pack.size = OBJECT_BYTES_MAX + 1, "impossible size"),
        (|head| head.pack.unpacked_size = PAYLOAD_BYTES_MAX + 1, "more than is accepted"),
        (|head| head.parts[0].size = u64::MAX, "make the whole"),
        (|head| head.parts.truncate(1), "make the whole"),
        (|head| head.parts[1].context = head.parts[0].context, "twice"),
        (|head| head.parts.swap(0, 1), "holds"),
        (
            |head| {
                let none = Signature { key: String::new(), signature: String::new() };
                head.signatures = vec![none; SIGNATURES_MAX + 1];
            },
            "too many signatures",
        ),
    ];
    for (i, (change, why)) in changes.into_iter().enumerate() {
        let said = read(&object(&both, change)).expect_err("refused").to_string();
        assert!(said.contains(why) || said.contains("of another"), "{i}: {said}");
        assert!(said.contains(why) || i == 9, "{i}: {said}");
    }
    for other in [Snapshot { header: Header::new(Digest::of(b"a"), about().lockfile), units: Vec::new() }, {
        let mut other = snapshot("a", 10, &[]);
        other.header.lock = Digest::of(b"other");
        other
    }] {
        assert!(matches!(read(&object(&[other], |_| {})), Err(FormError::OtherBuild(_))));
    }
    let mut astray = snapshot("a", 10, &[("x-1", "x")]);
    astray.units[0].profile = "../x".to_owned();
    let said = read(&object(&[astray], |_| {})).expect_err("refused").to_string();
    assert!(said.contains("unsafe path"), "{said}");
    for bytes in [&b""[..], b"\n", b"{}\n", b"{}"] {
        assert!(Head::decode(bytes, &about()).is_err(), "{bytes:?}");
    }
    let long = vec![b' '; HEAD_BYTES_MAX + 9];
    assert!(matches!(Head::decode(&long, &about()), Err(FormError::Absurd(..))));
}

#[test]
fn nothing_comes_from_the_future() {
    let read = read(&object(&[snapshot("a", 2000, &[("x-1", "x")])], |_| {})).expect("readable");
    assert_eq!((read[0].header.recorded_s, read[0].units[0].seen_s), (1000, 1000));
}

#[test]
fn a_signature_covers_all_but_the_signatures() {
    let (bytes, parts) = payload(&[snapshot("a", 1, &[("x-1", "x")])]).expect("it fits");
    let pack = Pack { digest: Digest::of(&bytes), size: 9, unpacked_size: 9 };
    let base = Head::new(&about(), pack, parts);
    let mut signed = base.clone();
    signed.signatures.push(Signature { key: "k".into(), signature: "s".into() });
    assert_eq!(base.signed_bytes(), signed.signed_bytes());
    type Change = fn(&mut Head);
    let changes: [Change; 4] = [
        |head| head.about = Digest::of(b"x"),
        |head| head.pack.digest = Digest::of(b"x"),
        |head| head.parts[0].context = Digest::of(b"x"),
        |head| head.parts.clear(),
    ];
    for (i, change) in changes.iter().enumerate() {
        let mut changed = base.clone();
        change(&mut changed);
        assert_ne!(changed.signed_bytes(), base.signed_bytes(), "{i}");
    }
}

#[test]
fn machines_join_what_they_know() {
    let theirs = vec![snapshot("a", 5, &[("x-1", "old"), ("z-1", "z")]), snapshot("c", 5, &[("x-1", "x")])];
    let mine = vec![snapshot("b", 9, &[]), snapshot("a", 9, &[("x-1", "new"), ("y-1", "y")])];
    assert!(!covers(&theirs, &mine) && !has_places(&theirs, &mine));
    let joined = join(mine.clone(), theirs.clone());
    let contexts: Vec<_> = joined.iter().map(|snapshot| snapshot.header.context).collect();
    assert_eq!(contexts, ["b", "a", "c"].map(|context| Digest::of(context.as_bytes())));
    let dirs: BTreeSet<_> =
        joined[1].units.iter().map(|unit| (unit.dir.package.as_str(), unit.entry())).collect();
    let expected = [("x", "new"), ("y", "y"), ("z", "z")];
    let expected = expected.map(|(dir, entry)| (dir, EntryKey(Digest::of(entry.as_bytes()))));
    assert_eq!(dirs, BTreeSet::from(expected));
    assert!(covers(&joined, &mine) && has_places(&joined, &mine));
    // Made again somewhere else: nothing is missing, but it isn't what this machine has.
    let other = vec![snapshot("a", 9, &[("x-1", "other"), ("y-1", "y")])];
    assert!(!covers(&joined, &other) && has_places(&joined, &other));
    // Seen later, or made faster, is no news; for a day.
    let seen = |recorded_s| vec![snapshot("a", recorded_s, &[("x-1", "new"), ("y-1", "y")])];
    assert!(covers(&joined, &seen(RENEW_S)) && !covers(&joined, &seen(RENEW_S + 9)));
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = read(&bytes);
        let _ = read(&object(&[], |head| head.pack.size = bytes.len() as u64));
    }
}
