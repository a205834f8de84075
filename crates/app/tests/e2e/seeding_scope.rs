//! What is placed is what this call of Cargo's can use: its profile, target, packages, and units that Cargo won't find
//! dirty. Whatever else was recorded is judged when a build wants it.

use kache_testkit::{Project, Run};

use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, built, recorded, seeded};
use crate::support::lean_lab;

fn starts_with(project: &Project<'_>, args: &str, expected: (u64, u64)) -> Run {
    let run = project.cargo(args).same();
    assert_eq!(seeded(&run), expected, "{run}");
    run
}

/// Libraries of this crate name in a profile directory.
fn libraries(project: &Project<'_>, profile: &str, name: &str) -> usize {
    let dir = project.target().join(profile);
    let start = format!("lib{name}-");
    let is_one = |file: &str| file.starts_with(&start) && file.ends_with(".rmeta");
    project.compiled(is_one).iter().filter(|path| path.starts_with(&dir)).count()
}

/// A variable changes between a debug build and the first release build: the script of the release profile would be
/// stale if it had been placed with the debug profile's.
#[test]
fn another_profile_is_judged_when_it_is_built() {
    let lab = lean_lab();
    let script = r#"    println!("cargo:rerun-if-changed=build.rs");
    let found = std::env::var("UNDECLARED").unwrap_or("none".into());
    std::fs::write(out.join("g.rs"), format!("pub const FLAVOUR: &str = {found:?};\n")).unwrap();
"#;
    let (_, one) = built(&lab, script, LIB, "build");
    recorded(&one.cargo("build --release"));
    let two = one.checkout("two");
    assert_fresh(&starts_with(&two, "run", (4, 1)));
    assert!(!two.target().join("release").exists(), "nothing of another profile");
    let run = two.cargo("run --release").env("UNDECLARED", "sour").same();
    assert!(run.stdout.contains("sour"), "{run}");
}

#[test]
fn targets_are_those_that_are_built_for() {
    let lab = lean_lab();
    let host = kache_testkit::toolchain().host.clone();
    let (_, one) = built(&lab, SCRIPT, LIB, "build");
    let for_host = format!("build --target {host}");
    recorded(&one.cargo(&for_host));
    let profile = format!("{host}/debug");

    let two = one.checkout("two");
    assert_fresh(&starts_with(&two, "build", (4, 1)));
    assert!(!two.target().join(&host).exists(), "no target was named");
    assert_eq!((libraries(&two, "debug", "low"), libraries(&two, "debug", "top")), (1, 1));

    let set: [&dyn Fn(&Project<'_>) -> Run; 4] = [
        &|three| three.cargo(&for_host).same(),
        &|three| three.cargo("build").env("CARGO_BUILD_TARGET", &host).same(),
        &|three| three.cargo(&format!("build --config build.target=\"{host}\"")).same(),
        &|three| {
            three.write(".cargo/config.toml", format!("[build]\ntarget = [\"{host}\"]\n"));
            three.cargo("build").same()
        },
    ];
    for build in set {
        let three = one.checkout("three");
        let run = build(&three);
        assert!(seeded(&run).1 == 1 && libraries(&three, &profile, "top") == 1, "{run}");
        assert_fresh(&run);
        lab.remove(&three);
    }
}

/// `beside` needs nothing from elsewhere; `tests` needs it for its tests only.
#[test]
fn packages_are_those_that_are_built() {
    let lab = lean_lab();
    let upstream = Upstream::new(&lab, SCRIPT, LIB);
    let one = upstream.user(&lab);
    one.edit("Cargo.toml", "members = [\"beside\"]", "members = [\"beside\", \"tests\"]");
    let url = upstream.project.dir().display();
    let manifest = format!(
        "[package]\nname = \"tests\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dev-dependencies]\n\
         top = {{ git = \"file://{url}\" }}\n"
    );
    one.write("tests/Cargo.toml", manifest);
    one.write("tests/src/lib.rs", "#[test]\nfn t() { assert!(top::top().len() > 1); }\n");
    crate::seeding::fetch(&one);
    recorded(&one.cargo("test --workspace"));
    for (args, dir, expected) in [
        ("build -p beside", "", (0, 0)),
        ("build", "beside", (0, 0)),
        ("build --manifest-path ../beside/Cargo.toml", "src", (0, 0)),
        ("build -p tests", "", (0, 0)),
        ("test -p tests", "", (4, 1)),
        ("build", "src", (4, 1)),
        ("build -p low", "", (2, 1)),
        ("build --workspace --exclude app", "", (4, 1)),
    ] {
        let two = one.checkout("two");
        let run = two.cargo(args).subdir(dir).same();
        assert_eq!(seeded(&run), expected, "{run}");
        assert_fresh(&run);
        // What was left out is served.
        let run = two.cargo("test --workspace").same();
        let events = ["low", "mac", "top"].into_iter().flat_map(|name| run.of(name));
        assert!(events.into_iter().all(|event| event.outcome == "hit"), "{run}");
        lab.remove(&two);
    }
}

/// A check needs other libraries than a build; tools that search `deps` must not find two of one name.
#[test]
fn checks_and_builds_get_their_own_libraries() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "build");
    recorded(&one.cargo("check"));
    for args in ["build", "check", "test", "clippy"] {
        let two = one.checkout("two");
        assert_fresh(&starts_with(&two, args, (4, 1)));
        assert_eq!(libraries(&two, "debug", "low"), 1, "{args}");
        assert_idle(&two.cargo(args));
        lab.remove(&two);
    }
}

/// What configuration decides is in Cargo's fingerprints: with another one, every unit would be found dirty, and scripts
/// would run in directories that aren't empty.
#[test]
fn another_configuration_starts_from_nothing() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    let count = std::fs::read_dir(&out).unwrap().count();\n    assert_eq!(count, 1, \"a used OUT_DIR\");\n"
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    let host = kache_testkit::toolchain().host.clone();
    let linker = lab.write_program("linker/cc", "#!/bin/sh\nexec /usr/bin/cc \"$@\"\n");
    let flags: [(&str, String); 4] = [
        (".cargo/config.toml", format!("[target.{host}]\nlinker = {linker:?}\n")),
        (".cargo/config.toml", "[profile.dev]\nopt-level = 1\n".to_owned()),
        (".cargo/config", "[target.'cfg(unix)']\nrustflags = [\"-Copt-level=1\"]\n".to_owned()),
        ("Cargo.toml", one.read("Cargo.toml") + "[profile.dev]\nopt-level = 1\n"),
    ];
    for (file, text) in &flags {
        let two = one.checkout("two");
        two.write(file, text);
        let run = starts_with(&two, "run", (0, 0));
        assert!(!run.of("low").is_empty(), "{run}");
        assert_eq!(libraries(&two, "debug", "low"), 1, "nothing but what was built");
        lab.remove(&two);
    }
    // What has no say doesn't matter, and what was recorded with the same configuration is found.
    let (file, text) = &flags[0];
    let two = one.checkout("two");
    two.write(file, format!("{text}[build]\njobs = 2\n[net]\nretry = 3\n"));
    recorded(&two.cargo("run"));
    let three = two.checkout("three");
    three.write(file, text);
    assert_fresh(&starts_with(&three, "run", (4, 1)));
    assert_fresh(&starts_with(&one.checkout("four"), "run", (4, 1)));
}
