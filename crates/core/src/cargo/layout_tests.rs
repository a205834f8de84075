use super::*;

const H: &str = "0123456789abcdef";

fn with_hash(text: &str) -> String {
    text.replace('#', H)
}

#[test]
fn output_directories_are_read_from_their_end() {
    use Layout::{Classic, PerUnit};
    for (dir, want) in [
        ("/w/target/debug/deps", Some((Classic, "/w/target/debug", "demo-#"))),
        ("/w/target/debug/examples", Some((Classic, "/w/target/debug", "demo-#"))),
        ("/w/target/t/debug/build/p-#", Some((Classic, "/w/target/t/debug", "demo-#"))),
        ("/w/target/debug/deps/artifact/p-#/bin", Some((Classic, "/w/target/debug", "p-#.bin"))),
        ("/w/target/debug/build/p/#/out", Some((PerUnit, "/w/target/debug", "p.#"))),
        ("/w/target/debug/build/p/#/artifact/cdylib", Some((PerUnit, "/w/target/debug", "p.#.cdylib"))),
        // Checkouts and target directories may be called anything.
        ("/out/build/x/debug/build/build/#/out", Some((PerUnit, "/out/build/x/debug", "build.#"))),
        ("/w/build/out/deps/deps/deps", Some((Classic, "/w/build/out/deps/deps", "demo-#"))),
        ("/w/out/build/x/out/debug/build/out/#/out", Some((PerUnit, "/w/out/build/x/out/debug", "out.#"))),
        ("/build/p/#/out", Some((PerUnit, "/", "p.#"))),
        ("/w/target/debug/build/p/#/run", None),
        ("/w/target/debug/build/p/x/out", None),
        ("/w/target/debug/build/p", None),
        ("/w/somewhere", None),
        ("/", None),
    ] {
        let found = OutputDir::of(Path::new(&with_hash(dir)));
        let found = found.map(|found| {
            (found.layout, found.profile_dir.display().to_string(), found.unit_id(&with_hash("demo-#")))
        });
        let want = want.map(|(layout, profile, id)| (layout, profile.to_owned(), with_hash(id)));
        assert_eq!(found, want, "{dir}");
    }
}

#[test]
fn the_build_directory_is_above_the_profile_and_its_triple() {
    let dir = |text: &str| OutputDir::of(Path::new(text)).expect(text);
    let host = dir("/w/target/debug/deps");
    assert_eq!(host.build_dir(None), Some(Path::new("/w/target")));
    assert_eq!(host.build_dir(Some("x86_64-unknown-linux-gnu")), Some(Path::new("/w/target")));
    let cross = dir(&with_hash("/w/target/wasm32/release/build/p/#/out"));
    assert_eq!(cross.build_dir(Some("wasm32")), Some(Path::new("/w/target")));
    assert_eq!(cross.build_dir(Some("/specs/wasm32.json")), Some(Path::new("/w/target")));
    assert_eq!(cross.build_dir(None), Some(Path::new("/w/target/wasm32")));
}

#[test]
fn a_unit_knows_where_its_parts_lie() {
    let unit = |name: &str| UnitDir::parse(&with_hash(name)).expect(name);
    let classic = unit("my-crate-#");
    let parts = |unit: &UnitDir| {
        [
            unit.fingerprint(),
            unit.outputs(false),
            unit.outputs(true),
            unit.run(),
            unit.stdout(),
            unit.out_dir(),
        ]
    };
    let want = [
        ".fingerprint/my-crate-#",
        "deps",
        "build/my-crate-#",
        "build/my-crate-#",
        "build/my-crate-#/output",
        "build/my-crate-#/out",
    ];
    assert_eq!(parts(&classic), want.map(with_hash));
    let per_unit = unit("my-crate/#");
    let want = ["fingerprint", "out", "out", "run", "run/stdout", "out"];
    assert_eq!(parts(&per_unit), want.map(|part| with_hash(&format!("build/my-crate/#/{part}"))));
    for unit in [classic, per_unit] {
        assert_eq!(UnitDir::parse(&unit.name()), Some(unit.clone()));
        let out_dir = Path::new("/w/out/build/t/debug").join(unit.out_dir());
        assert_eq!(UnitDir::of_out_dir(&out_dir), Some((unit, Path::new("/w/out/build/t/debug"))));
    }
    for other in ["", "p", "p-1", "p/1", "a/b/#", "/#", "-#"] {
        assert_eq!(UnitDir::parse(&with_hash(other)), None, "{other}");
    }
    for other in ["/w/out", "/w/build/p/out", "/w/debug/build/p-#/run", "/w/debug/build/p/#"] {
        assert_eq!(UnitDir::of_out_dir(Path::new(&with_hash(other))), None, "{other}");
    }
}

#[test]
fn places_in_a_profile_directory() {
    let unit = || Place::UnitOutput(UnitDir::parse(&with_hash("p/#")).expect("a unit"));
    for (rest, want) in [
        ("deps", Place::Output),
        ("deps/liba-#.rmeta", Place::Output),
        ("examples/x", Place::Output),
        ("incremental/x/y/z", Place::Bookkeeping),
        (".fingerprint/p-#/lib-p", Place::Bookkeeping),
        (".kache/units/p", Place::Bookkeeping),
        (".cargo-lock", Place::Bookkeeping),
        ("build", Place::Bookkeeping),
        ("build/p-#", Place::Output),
        ("build/p-#/build_script_build-#", Place::Output),
        ("build/p-#/out", Place::ScriptOutput),
        ("build/p-#/out/a/b", Place::ScriptOutput),
        ("build/p", Place::Output),
        ("build/p/#", Place::Bookkeeping),
        ("build/p/#/fingerprint/lib-p", Place::Bookkeeping),
        ("build/p/#/run/stdout", Place::Bookkeeping),
        ("build/p/#/.lock", Place::Bookkeeping),
        ("build/p/#/out", unit()),
        ("build/p/#/out/a/b", unit()),
        ("build/p/#/artifact/bin/p", Place::Output),
        ("build/p/#/data", Place::Other),
        ("build/x/y/z", Place::Other),
        ("app", Place::Other),
        ("data/deps/x", Place::Other),
        ("", Place::Other),
    ] {
        assert_eq!(place(&with_hash(rest)), want, "{rest}");
    }
}

#[test]
fn profile_directories_are_told_by_what_is_in_them() {
    for (names, want) in [
        (&["deps", ".fingerprint"][..], true),
        (&["build", ".cargo-build-lock"], true),
        (&["build", ".cargo-lock"], true),
        (&["build", "incremental"], true),
        (&["build", "index.html"], false),
        (&["app", ".cargo-lock", ".cargo-artifact-lock"], false),
        (&[], false),
    ] {
        assert_eq!(is_profile_dir(names.iter().copied()), want, "{names:?}");
    }
}

#[test]
fn names_of_outputs() {
    assert!(has_unit_hash(&with_hash("app-#")) && !has_unit_hash("app-1") && !has_unit_hash("app"));
    assert!(!is_unit_hash("0123456789ABCDEF"));
    for (name, is_of_unit) in [
        ("libapp-#.rlib", true),
        ("app-#", true),
        ("app-#.app.5e-cgu.0.rcgu.o", true),
        ("libapp-#.so.dwp", true),
        ("app", false),
        ("app-1.d", false),
        ("app.x-#", false),
    ] {
        let name = with_hash(name);
        assert_eq!(unit_hash_in(&name).is_some(), is_of_unit, "{name}");
    }
    assert_eq!(stem_of_artifact("libserde-1a2b.rlib"), Some("serde-1a2b"));
    assert_eq!(stem_of_artifact("serde-1a2b.d"), None);
    assert_eq!(stem_of_artifact("app"), None);
}
