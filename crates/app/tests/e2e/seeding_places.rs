//! Where Cargo's home and the sources of packages lie: behind symbolic links and mounts, read-only, in the workspace, in a
//! vendored copy.

use std::fs;
use std::os::unix::fs::symlink;

use kache_testkit::{Project, Run, toolchain};

use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, recorded, seeded, wait_for_recorder};
use crate::support::{Lab, Outcomes, lean_lab};

fn hits(run: &Run, names: &[&str]) {
    for name in names {
        let events = run.of(name);
        assert!(!events.is_empty() && events.iter().all(|event| event.outcome == "hit"), "{run}\n{name}");
    }
}

#[test]
fn cargos_home_or_a_folder_of_it_is_a_symbolic_link() {
    for folder in ["", "git"] {
        let lab = lean_lab();
        let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
        let home = lab.root().join("cargo-home");
        let link = if folder.is_empty() { home } else { home.join(folder) };
        let real = lab.root().join("moved");
        fs::rename(&link, &real).expect("move");
        symlink(&real, &link).expect("link");
        recorded(&one.cargo("run"));
        let two = one.checkout("two");
        let run = two.cargo("run").same();
        assert_eq!(seeded(&run), (4, 1), "{folder:?}: {run}");
        assert_fresh(&run);
        assert_idle(&two.cargo("run"));
    }
}

/// Runs a shell script in a mount name space of its own; `$0` is Cargo, `$1` its home.
fn mounted(lab: &Lab, project: &Project<'_>, script: &str) {
    let mut command = lab.command("unshare");
    command.args(["-rm", "/bin/sh", "-ec", script]).arg(&toolchain().cargo);
    command.arg(lab.root().join("cargo-home")).env("RUSTC_WRAPPER", lab.wrapper());
    let output = command.current_dir(project.dir()).output().expect("start unshare");
    assert!(output.status.success(), "{output:?}");
}

/// A home that is a mount, and one that can't be written.
#[test]
fn cargos_home_is_a_mount_or_read_only() {
    for script in [
        "mkdir ../kept; mv \"$1\"/* ../kept; mount --bind ../kept \"$1\"; \"$0\" build -q",
        "mount --bind \"$1\" \"$1\"; mount -o remount,bind,ro \"$1\"; \"$0\" build -q --offline",
    ] {
        let lab = lean_lab();
        let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
        let (two, three) = (one.checkout("two"), one.checkout("three"));
        mounted(&lab, &one, script);
        wait_for_recorder(&one.cargo("build"));
        if script.contains("kept") {
            mounted(&lab, &two, "mount --bind ../kept \"$1\"; \"$0\" build -q");
            mounted(&lab, &two, "mv ../kept/* \"$1\"");
        } else {
            mounted(&lab, &two, script);
        }
        assert!(!lab.layout().fingerprints(&two.target().join("debug")).is_empty());
        let run = three.cargo("run").same();
        assert_eq!(seeded(&run), (4, 1), "{run}");
        assert_idle(&three.cargo("run"));
    }
}

/// Each workspace has a home of its own, in itself.
#[test]
fn cargos_home_is_in_the_workspace() {
    let lab = lean_lab();
    let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
    let home = lab.root().join("cargo-home");
    let build = |project: &Project<'_>| {
        let inner = project.dir().join(".cargo-home");
        fs::create_dir_all(&inner).expect("mkdir");
        let copy = std::process::Command::new("cp").arg("-rp").arg(home.join("git")).arg(&inner).status();
        assert!(copy.expect("cp").success());
        project.cargo("run").env("CARGO_HOME", inner).same()
    };
    let two = one.checkout("two");
    build(&one);
    hits(&build(&two), &["top", "low", "mac"]);
}

/// Sources that lie in the workspace, as `cargo vendor` puts them there.
#[test]
fn vendored_packages_are_shared() {
    let lab = lean_lab();
    let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
    let vendor = one.cargo("vendor").plain().env("CARGO_NET_OFFLINE", "false").ok();
    one.write(".cargo/config.toml", vendor.stdout);
    let two = one.checkout("elsewhere/two");
    one.cargo("run").same();
    let run = two.cargo("run").same();
    hits(&run, &["top", "low", "mac", "build_script_build"]);
    assert_idle(&two.cargo("run"));
    // A copy that is patched is another one, where the checksum is allowed to differ, and reaches no one else.
    let lib = "vendor/low/src/lib.rs";
    let before = two.read(lib);
    two.write_now(lib, before.replace("FLAVOUR.to_string()", "FLAVOUR.to_string() + \" patched\""));
    let sums = two.read("vendor/low/.cargo-checksum.json");
    let (_, package) = sums.rsplit_once("\"package\"").expect("a checksum of the package");
    two.write_now("vendor/low/.cargo-checksum.json", format!("{{\"files\":{{}},\"package\"{package}"));
    let three = two.checkout("elsewhere/three");
    for project in [&two, &three] {
        project.wipe();
        let run = project.cargo("run").same();
        assert!(run.stdout.contains("plain patched"), "{run}");
    }
    let run = one.checkout("elsewhere/four").cargo("run").same();
    assert!(!run.stdout.contains("patched"), "{run}");
    hits(&run, &["top", "low", "mac"]);
}

/// A build script that builds something with Cargo, in its `OUT_DIR` or beside it.
#[test]
fn a_cargo_that_a_build_script_starts() {
    let lab = lean_lab();
    let script = r#"fn main() {
    let out = std::env::var("OUT_DIR").unwrap();
    for (target, name) in [(format!("{out}/inner"), "a"), (format!("{out}/../inner"), "b")] {
        let status = std::process::Command::new(std::env::var("CARGO").unwrap())
            .args(["run", "-q", "--manifest-path", "nested/Cargo.toml", "--target-dir", &target])
            .env("SAYS", name).status().unwrap();
        assert!(status.success());
    }
    println!("cargo:rerun-if-changed=build.rs");
}
"#;
    let one = lab.project(
        "one",
        &[
            ("Cargo.toml", "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[workspace]\nexclude = [\"nested\"]\n"),
            ("src/main.rs", "fn main() { println!(\"app\"); }\n"),
            ("build.rs", script),
            ("nested/Cargo.toml", "[package]\nname = \"nested\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\ninner = { path = \"inner\" }\n"),
            ("nested/src/main.rs", "fn main() { assert_eq!(inner::two(), 2); }\n"),
            ("nested/inner/Cargo.toml", "[package]\nname = \"inner\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("nested/inner/src/lib.rs", "pub fn two() -> u32 { 2 }\n"),
        ],
    );
    let two = one.checkout("elsewhere/two");
    // The first run of the script is observed, and what is compiled below it can't be. From then on it is the other way round.
    one.cargo("run").same();
    two.cargo("run").same().script("app", &["passthrough"]);
    let run = one.checkout("three").cargo("run").same();
    run.script("app", &["passthrough"]);
    hits(&run, &["inner", "nested", "app"]);
    // All of that is one build.
    if cfg!(target_os = "linux") {
        let said = lab.cli(&["stats", "--last-build"]).stdout;
        let said = String::from_utf8_lossy(&said);
        assert!(
            said.contains(" in 1 build(s)") && said.contains(&format!(" of {} compiles", run.tally().hits)),
            "{said}"
        );
    }
}
