use super::*;

fn unit(dir: &str) -> SeedUnit {
    let made = Made::Compile { entry: EntryKey(Digest::of(dir.as_bytes())), out_dir: "deps".into() };
    SeedUnit {
        hash: format!("{:016x}", dir.len()),
        package: "p 1.0.0".into(),
        package_dir: format!("/home/registry/src/{dir}"),
        files: vec![SmallFile { name: "dep-lib-p".into(), content: Content::hex(&[1, 0, 255]), mtime_ns: 5 }],
        inputs: vec![(Input::File("/usr/lib/libc.so.6".into()), "absent".into())],
        took_ms: 7,
        seen_s: 1000,
        ..SeedUnit::new("debug", dir, "lib-p", made)
    }
}

fn run(dir: &str, path: &str) -> SeedUnit {
    let kind = NodeKind::File { blob: Digest::of(b"x"), mode: 0o644, mtime_ns: 1, tokens: true };
    let made = Made::Run {
        entry: EntryKey(Digest::of(dir.as_bytes())),
        output_ns: 1,
        invoked_ns: 2,
        tree: vec![Node { path: path.into(), kind }],
        witnesses: BTreeMap::new(),
    };
    SeedUnit { made, ..unit(dir) }
}

fn snapshot(units: Vec<SeedUnit>) -> Snapshot {
    let mut header = Header::new(Digest::of(b"context"), Digest::of(b"lock"));
    header.recorded_s = 1000;
    header.packages.insert("p 1.0.0".into());
    header.sources = units.iter().map(|unit| (unit.package_dir.clone(), Digest::of(b"s"))).collect();
    Snapshot { header, units }
}

#[test]
fn the_form_round_trips_and_the_header_can_be_read_alone() {
    let snapshot = snapshot(vec![unit("p-1"), run("q-2", "gen/a.rs")]);
    let bytes = snapshot.encode();
    assert_eq!(Snapshot::decode(&bytes).expect("own form"), snapshot);
    assert_eq!(Header::decode(&bytes).expect("own form"), snapshot.header);
    assert_eq!(snapshot.entries().len(), 2);
    assert_eq!(Content::bytes_of_hex("0100ff"), Some(vec![1, 0, 255]));
    for bad in ["0", "0g", "é"] {
        assert_eq!(Content::bytes_of_hex(bad), None);
    }
}

#[test]
fn paths_that_leave_their_directory_are_refused() {
    type Spoil = fn(&mut SeedUnit, &str);
    let spoils: [(&str, Spoil); 4] = [
        ("profile", |unit, path| unit.profile = path.to_owned()),
        ("dir", |unit, path| unit.dir = path.to_owned()),
        ("name", |unit, path| unit.name = path.to_owned()),
        ("file", |unit, path| unit.files[0].name = path.to_owned()),
    ];
    for path in ["", "..", "/etc", "a/../b", "a//b", "./a", "a\0b"] {
        for (what, spoil) in spoils {
            let mut bad = unit("p-1");
            spoil(&mut bad, path);
            let refused = Snapshot::decode(&snapshot(vec![bad]).encode());
            assert!(matches!(refused, Err(SnapshotError::UnsafePath(_))), "{what} {path:?}");
        }
        let refused = Snapshot::decode(&snapshot(vec![run("p-1", path)]).encode());
        assert!(matches!(refused, Err(SnapshotError::UnsafePath(_))), "tree {path:?}");
        let mut bad = unit("p-1");
        bad.made = Made::Compile { entry: bad.entry(), out_dir: path.to_owned() };
        assert!(Snapshot::decode(&snapshot(vec![bad]).encode()).is_err(), "out_dir {path:?}");
    }
}

#[test]
fn a_newer_version_is_not_understood() {
    let text = String::from_utf8(snapshot(Vec::new()).encode()).expect("JSON");
    let newer = text.replacen("\"version\":1", "\"version\":2", 1);
    assert!(matches!(Snapshot::decode(newer.as_bytes()), Err(SnapshotError::Newer(2))));
    assert!(matches!(Snapshot::decode(b""), Err(SnapshotError::Empty)));
}

#[test]
fn units_of_other_commands_are_kept_and_old_or_superseded_ones_are_not() {
    let mut earlier = snapshot(vec![unit("p-1"), unit("q-2"), unit("old-3"), run("r-4", "a")]);
    earlier.units[0].hash = "superseded".into();
    earlier.units[2].seen_s = 0;
    let mut now = snapshot(vec![unit("p-1")]);
    now.header.recorded_s = UNIT_AGE_S + 500;
    now.units[0].seen_s = UNIT_AGE_S + 500;
    let mut same_tools = now.clone();
    same_tools.absorb(earlier.clone());
    let places = |snapshot: &Snapshot| snapshot.units.iter().map(SeedUnit::place).collect::<Vec<_>>();
    assert_eq!(places(&same_tools), ["debug/p-1", "debug/q-2", "debug/r-4"]);
    assert_eq!(same_tools.units[0].hash, now.units[0].hash);
    assert_eq!(same_tools.header.sources.len(), 3);
    // What a script made of another compiler is no use beside what is there now.
    now.header.tools.insert("cc".into(), "newer".into());
    now.absorb(earlier);
    assert_eq!(places(&now), ["debug/p-1", "debug/q-2"]);
}

#[test]
fn a_unit_whose_package_has_changed_since_is_not_kept() {
    let earlier = snapshot(vec![unit("q-2")]);
    let mut now = snapshot(vec![unit("p-1")]);
    now.header.sources.insert("/home/registry/src/q-2".into(), Digest::of(b"edited"));
    now.absorb(earlier);
    assert_eq!(now.units.len(), 1);
}

proptest::proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300)) {
        let _ = Snapshot::decode(&bytes);
        let _ = Header::decode(&bytes);
    }

    #[test]
    fn a_damaged_snapshot_never_panics(at in 0usize..2000, byte in proptest::prelude::any::<u8>()) {
        let mut bytes = snapshot(vec![unit("p-1"), run("q-2", "gen/a.rs")]).encode();
        let at = at % bytes.len();
        bytes[at] = byte;
        let _ = Snapshot::decode(&bytes);
    }
}
