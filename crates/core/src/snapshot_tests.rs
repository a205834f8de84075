use super::*;
use crate::cargo::layout::UnitDir;
use crate::record::Input;
use crate::seed_unit::{Content, Dependency, Made, SmallFile};
use crate::tree::{Node, NodeKind};

fn entry(name: &str) -> EntryKey {
    EntryKey(Digest::of(name.as_bytes()))
}

fn unit(dir: &str) -> SeedUnit {
    let made = Made::Compile { entry: entry(dir) };
    SeedUnit {
        hash: format!("{:016x}", dir.len()),
        deps: vec![Dependency { hash: "0".repeat(16), pins: vec![("debug/z-9".into(), entry("z"))] }],
        package: "p 1.0.0".into(),
        locked: "registry+x 0123".into(),
        package_dir: format!("/home/registry/src/{dir}"),
        files: vec![SmallFile { name: "dep-lib-p".into(), content: Content::hex(&[1, 0, 255]), mtime_ns: 5 }],
        inputs: vec![(Input::File("/usr/lib/libc.so.6".into()), "absent".into())],
        took_ms: 7,
        seen_s: 1000,
        ..SeedUnit::new("debug", UnitDir::parse(&format!("{dir}{:015}", 0)).expect("a unit"), "lib-p", made)
    }
}

fn run(dir: &str, path: &str) -> SeedUnit {
    let kind = NodeKind::File { blob: Digest::of(b"x"), mode: 0o644, mtime_ns: 1, tokens: true };
    let folder = path.split_once('/').map(|(folder, _)| folder.to_owned());
    let folder = folder.map(|path| Node { path, kind: NodeKind::Dir { mode: 0o755 } });
    let made = Made::Run {
        entry: entry(dir),
        output_ns: 1,
        invoked_ns: 2,
        ended_ns: 9,
        asked: vec![("X".into(), None)],
        tree: folder.into_iter().chain([Node { path: path.into(), kind }]).collect(),
    };
    SeedUnit { made, ..unit(dir) }
}

fn snapshot(units: Vec<SeedUnit>) -> Snapshot {
    let mut header = Header::new(Digest::of(b"context"), Digest::of(b"lock"));
    header.recorded_s = 1000;
    header.packages.insert("p 1.0.0".into());
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
    let spoils: [(&str, Spoil); 3] = [
        ("profile", |unit, path| unit.profile = path.to_owned()),
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
        let good = String::from_utf8(snapshot(vec![unit("p-1")]).encode()).expect("UTF-8");
        for dir in [path.to_owned(), format!("{path}/{:016}", 1), format!("{path}-{:015}", 1)] {
            let bad = good.replace(&unit("p-1").dir.name(), &dir.replace('\0', "\\u0000"));
            assert!(Snapshot::decode(bad.as_bytes()).is_err(), "dir {dir:?}");
        }
    }
}

/// Whatever a snapshot says, nothing is written outside `OUT_DIR`.
#[test]
fn nothing_lies_below_a_link_or_in_two_places() {
    let file = |path: &str| Node {
        path: path.into(),
        kind: NodeKind::File { blob: Digest::of(b"x"), mode: 0o644, mtime_ns: 1, tokens: false },
    };
    let link = |path: &str| Node { path: path.into(), kind: NodeKind::Link { to: "/etc".into() } };
    let dir = |path: &str| Node { path: path.into(), kind: NodeKind::Dir { mode: 0o755 } };
    let is_refused = |nodes: Vec<Node>| {
        let mut unit = run("p-1", "x");
        if let Made::Run { tree, .. } = &mut unit.made {
            *tree = nodes;
        }
        matches!(Snapshot::decode(&snapshot(vec![unit]).encode()), Err(SnapshotError::UnsafePath(_)))
    };
    assert!(!is_refused(vec![dir("a"), file("a/b"), link("l"), dir("a/c"), file("a/c/d")]));
    for nodes in [
        vec![link("a"), file("a/b")],
        vec![link("a"), file("a")],
        vec![link("a"), dir("a"), file("a/b")],
        vec![dir("a"), link("a"), file("a/b")],
        vec![file("a/b")],
        vec![file("a"), file("a/b")],
    ] {
        assert!(is_refused(nodes.clone()), "{nodes:?}");
    }
}

#[test]
fn the_newest_time_is_that_of_any_file() {
    assert_eq!(unit("p-1").newest_ns(), 5);
    assert_eq!(run("p-1", "x").newest_ns(), 9);
    let mut unit = run("p-1", "x");
    if let Made::Run { tree, .. } = &mut unit.made {
        tree[0].kind = NodeKind::File { blob: Digest::of(b"x"), mode: 0, mtime_ns: 77, tokens: false };
    }
    assert_eq!(unit.newest_ns(), 77);
}

#[test]
fn another_version_is_not_understood() {
    let text = String::from_utf8(snapshot(Vec::new()).encode()).expect("JSON");
    for other in [VERSION - 1, VERSION + 1] {
        let text = text.replacen(&format!("\"version\":{VERSION}"), &format!("\"version\":{other}"), 1);
        assert!(
            matches!(Snapshot::decode(text.as_bytes()), Err(SnapshotError::Version(found)) if found == other)
        );
    }
    assert!(matches!(Snapshot::decode(b"{\"version\":1}\n"), Err(SnapshotError::Version(1))));
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
    let own_hash = now.units[0].hash.clone();
    now.absorb(earlier);
    let places = now.units.iter().map(SeedUnit::place).collect::<Vec<_>>();
    assert_eq!(places, ["debug/p-1", "debug/q-2", "debug/r-4"].map(|place| format!("{place}{:015}", 0)));
    assert_eq!(now.units[0].hash, own_hash);
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
