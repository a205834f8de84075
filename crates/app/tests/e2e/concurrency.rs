//! Several Cargos at once: one compile for each unit, no mix-ups, killed processes leave nothing that lasts.

use std::process::Command;

use kache_testkit::{Cargo, Project, wait_for};

use crate::fixtures::{ALL_KINDS, macro_world};
use crate::support::{Outcomes, lab, lean_lab};

/// B31: build and check, and two builds, at once on a cold store; then everything is there.
#[test]
fn b31_cold_store_and_many_cargos() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let (two, three) = (one.checkout("two"), one.checkout("three"));
    let running = [(&one, "build"), (&two, "build"), (&three, "check --all-targets")]
        .map(|(p, args)| (p, args, p.cargo(args).spawn()));
    for (p, args, running) in running {
        let run = running.wait(p);
        assert!(run.status.success(), "{args}: {run}");
    }
    three.nothing_to_do("check --all-targets");
    for p in [&one, &two] {
        p.nothing_to_do("build");
        assert_eq!(p.cargo("run -q").ok().stdout, "14\n");
    }
    let four = one.checkout("four");
    four.cargo("run").same().all_hit();
}

/// Cargo's locks for single units (`-Zfine-grain-locking`): two Cargos work in one target directory at once. What either has
/// made stays fresh for both, an edit reaches what the other one made, and another checkout gets everything.
#[test]
fn two_cargos_in_one_target_directory() {
    let lab = lean_lab();
    let p = macro_world(&lab, "w", "mac::gate!()");
    let source = p.read("mac/src/lib.rs");
    fn fine<'p>(p: &'p Project<'_>, args: &str) -> Cargo<'p> {
        p.cargo(args).envs(&[
            ("RUSTC_BOOTSTRAP", "1"),
            ("CARGO_UNSTABLE_FINE_GRAIN_LOCKING", "true"),
            ("CARGO_UNSTABLE_BUILD_DIR_NEW_LAYOUT", "true"),
        ])
    }
    for text in ["passed", "through", "passed"] {
        p.write("mac/src/lib.rs", source.replace("passed", text));
        // Cargo 1.95 to 1.97 have one of them wait where both need a unit, and let them go on side by side elsewhere.
        let running = ["build -p user", "check", "build -p mac"].map(|args| fine(&p, args).spawn());
        for running in running {
            let run = running.wait(&p);
            assert!(run.status.success(), "{run}");
        }
        fine(&p, "run").same();
        fine(&p, "build").nothing_to_do();
        fine(&p, "check").nothing_to_do();
    }
    let second = p.checkout("second");
    fine(&second, "run").same();
    second.wipe();
    fine(&second, "run").same().all_hit();
}

/// A build that gets nowhere, stopped with Ctrl-Z or asleep in a macro, while it compiles what another checkout needs: the
/// other one compiles that itself.
#[test]
fn a_build_that_gets_nowhere_is_not_waited_for() {
    let lab = lean_lab();
    let one = macro_world(&lab, "one", "mac::word!()");
    one.write(
        "mac/src/lib.rs",
        r#"use proc_macro::TokenStream;
#[proc_macro]
pub fn word(_: TokenStream) -> TokenStream {
    let wanted = std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../hang");
    while wanted.exists() {
        std::fs::write(&wanted, "here").unwrap();
        std::thread::sleep(std::time::Duration::from_secs(3600));
    }
    "\"word\"".parse().unwrap()
}
"#,
    );
    let two = one.checkout("two");
    for signal in [Some("STOP"), None] {
        one.wipe();
        two.wipe();
        lab.clear_cache();
        one.write("hang", "wanted");
        let running = one.cargo("build").spawn();
        wait_for("the macro hangs", || one.read("hang") == "here");
        if let Some(name) = signal {
            running.signal(name);
        }
        let run = two.cargo("run").same();
        assert!(run.one("user").number("times/wait_us") > 0, "it met the other one: {run}");
        assert_eq!(run.one("user").outcome, "miss", "{run}");
        assert!(!running.has_ended());
        running.signal("KILL");
        running.wait(&one);
        two.nothing_to_do("build");
    }
}

/// B6: executables that were just restored run at once, many at a time.
#[test]
fn b6_restored_executables_run_at_once() {
    let lab = lean_lab();
    let members: Vec<String> = (0..8).map(|i| format!("p{i}")).collect();
    let p = lab
        .project("w", &[("Cargo.toml", &format!("[workspace]\nresolver = \"3\"\nmembers = {members:?}\n"))]);
    for name in &members {
        let manifest = format!("[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
        p.write(&format!("{name}/Cargo.toml"), manifest);
        p.write(
            &format!("{name}/build.rs"),
            "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }\n",
        );
        p.write(&format!("{name}/src/lib.rs"), format!("pub const NAME: &str = {name:?};\n"));
    }
    p.cargo("build").ok();
    for _ in 0..4 {
        p.wipe();
        p.cargo("build -j8").ok().all_hit();
    }
}

/// D5, R18: Cargo, kache and compilers are killed at arbitrary moments, again and again; what is left is sound, and a
/// build from it is right.
#[test]
fn d5_killed_again_and_again() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("two");
    // The moments differ from run to run; what is asserted holds for all of them.
    for moment in 1..12u64 {
        for p in [&one, &two] {
            if moment % 3 == 0 {
                p.wipe();
            }
            p.write("gen/number.txt", format!("{}\n", moment % 4));
        }
        let running = [&one, &two].map(|p| (p, p.cargo("test --no-run").spawn()));
        std::thread::sleep(std::time::Duration::from_millis(37 * moment));
        for (p, running) in running {
            running.signal("KILL");
            running.wait(p);
        }
        lab.assert_store_is_sound();
    }
    for p in [&one, &two] {
        p.cargo("run").same();
        p.cargo("test -q").same();
        p.nothing_to_do("test --no-run");
        p.wipe();
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// D9, C19: garbage is collected all the time while builds go on.
#[test]
fn d9_collection_during_builds() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("two");
    lab.set_env("KACHE_MAX_SIZE", "2MiB");
    let mut collector = Command::new("/bin/sh");
    let done = lab.root().join("done");
    let script =
        format!("while [ ! -e {} ]; do \"$0\" gc --max-age 0s >/dev/null 2>&1; done", done.display());
    let environment = lab.command("true");
    collector.args(["-c", &script]).arg(lab.wrapper()).env_clear();
    collector.envs(environment.get_envs().filter_map(|(n, v)| v.map(|v| (n, v))));
    let mut collector = collector.spawn().expect("start a shell");
    for _ in 0..4 {
        for p in [&one, &two] {
            p.wipe();
            assert_eq!(p.cargo("run -q").ok().stdout, "14\n");
        }
    }
    lab.write("done", "");
    assert!(collector.wait().expect("wait").success());
    one.cargo("run").same();
    one.nothing_to_do("build");
}
