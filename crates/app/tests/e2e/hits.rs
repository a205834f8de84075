//! What must be found again: second checkouts, other surroundings that change nothing, everything that only looks
//! like a different input.

use kache_testkit::Audit;

use crate::fixtures::{ALL_KINDS, PAIR, user_world};
use crate::support::{Outcomes, lab, lean_lab};

/// C1, C8, C9, G1: a second checkout at another path, in Cargo's default profile: libraries, proc macros, build
/// scripts, programs, tests, checks. Afterwards there is nothing to do in either checkout, in any order.
#[test]
fn c1_second_checkout_gets_everything() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("another/and/longer/place");
    let commands = ["build", "test --no-run", "check --all-targets", "build --release"];
    for args in commands {
        one.cargo(args).ok();
        let run = two.cargo(args).ok();
        run.all_hit();
        if args.starts_with("build") {
            run.shared();
        }
    }
    two.cargo("run").same();
    two.cargo("test -q").same();
    for _ in 0..2 {
        for args in commands {
            one.nothing_to_do(args);
            two.nothing_to_do(args);
        }
    }
}

/// C1, B3: three checkouts, restored and rebuilt in turn; a restore in one never makes another stale.
#[test]
fn b3_checkouts_leave_each_other_alone() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("build").same();
    let (two, three) = (one.checkout("two"), one.checkout("three"));
    for p in [&two, &three] {
        p.cargo("build").ok().all_hit().shared();
    }
    for p in [&one, &three, &two, &one] {
        p.nothing_to_do("build");
    }
    one.wipe();
    one.cargo("run").same().all_hit();
    for p in [&three, &two, &one] {
        p.nothing_to_do("build");
    }
}

/// C2, C13, R20: variables that name places, credentials and job counts are no inputs.
#[test]
fn c2_surroundings_are_no_inputs() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").same();
    let other_home = lab.make_cargo_home("elsewhere/cargo-home");
    let tmp = lab.root().join("another tmp");
    std::fs::create_dir(&tmp).expect("make a directory");
    let table: &[&[(&str, &str)]] = &[
        &[("CARGO_HOME", other_home.to_str().expect("UTF-8"))],
        &[("TMPDIR", tmp.to_str().expect("UTF-8"))],
        &[("CARGO_BUILD_JOBS", "1"), ("CARGO_HTTP_CAINFO", "/x"), ("CARGO_REGISTRIES_MINE_TOKEN", "secret")],
        &[("CARGO_TERM_COLOR", "always"), ("TERM", "xterm-256color"), ("COLUMNS", "60")],
        &[("RUST_BACKTRACE", "1"), ("LC_ALL", "C.UTF-8"), ("SHELL", "/bin/false"), ("USER", "somebody")],
        &[("HOME", "/nonexistent")],
    ];
    for env in table {
        p.wipe();
        p.cargo("build").envs(env).ok().all_hit();
    }
}

/// C2: `CI` is set on build machines and nowhere else; crates with macros that don't look at it are shared all the
/// same.
#[test]
fn c2_ci_is_no_input() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").same();
    p.wipe();
    p.cargo("build").env("CI", "true").ok().all_hit();
}

/// C7, A51: the same flags, however they reach Cargo.
#[test]
fn c7_flags_by_other_ways() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> bool { cfg!(extra) }\n");
    p.cargo("run").rustflags("--cfg extra -C debug-assertions=on").same();
    p.wipe();
    p.cargo("run").rustflags("--cfg  extra   -C  debug-assertions=on ").same().all_hit();
    p.wipe();
    let encoded = "--cfg\u{1f}extra\u{1f}-C\u{1f}debug-assertions=on";
    p.cargo("run").env("CARGO_ENCODED_RUSTFLAGS", encoded).same().all_hit();
    p.wipe();
    p.write(
        ".cargo/config.toml",
        "[build]\nrustflags = [\"--cfg\", \"extra\", \"-C\", \"debug-assertions=on\"]\n",
    );
    p.cargo("run").same().all_hit();
}

/// C6: the terminal's width and colours matter to nobody as long as there is nothing to say.
#[test]
fn c6_width_and_colour_without_messages() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let call = Audit::new(&lab, "audit").record(&p.cargo("build -p dep")).remove(0);
    let outcome_of = |width: &str| {
        let mut call = call.clone();
        call.args.push(format!("--diagnostic-width={width}").into());
        let mark = lab.mark();
        let status = call.through(lab.wrapper()).status().expect("start kache");
        assert!(status.success());
        lab.events_since(&mark).remove(0).outcome
    };
    assert_eq!(["40", "200", "80"].map(outcome_of), ["miss", "hit", "hit"]);
    p.cargo("build --color always").ok();
    p.wipe();
    p.cargo("build --color never").ok().all_hit();
}

/// A41, C13, R9: so many features that Cargo has to retry with an argument file of a random name.
#[test]
fn a41_argument_files() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> bool { cfg!(feature = \"f7\") }\n");
    let features: String = (0..9000).map(|i| format!("a-feature-with-a-long-name-{i} = []\n")).collect();
    let manifest = |default: &str| {
        format!(
            "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[features]\ndefault = [{default}]\n\
             f7 = []\n{features}"
        )
    };
    p.write("user/Cargo.toml", manifest(""));
    p.cargo("run").same();
    p.nothing_to_do("build");
    let two = p.checkout("two");
    two.cargo("run").same().all_hit();
    two.write("user/Cargo.toml", manifest("\"f7\""));
    two.cargo("run").same().not_hit("user");
}

/// C20: cache and `CARGO_HOME` inside the workspace.
#[test]
fn c20_cache_inside_the_workspace() {
    let lab = lean_lab();
    let cache = lab.root().join("w/.cache/kache");
    let lab = lab.cache_at(cache);
    let home = lab.make_cargo_home("w/.cargo-home");
    lab.set_env("CARGO_HOME", home);
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").same();
    p.wipe();
    p.cargo("build").same().all_hit();
    p.nothing_to_do("build");
}

/// C22: the journal has one line for each compile that Cargo asked for, none for fresh units and questions; a
/// compile that gave known bytes is a `dup`.
#[test]
fn c22_journal_tells_the_truth() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let run = p.cargo("build").ok();
    let compiled = run.tally();
    assert_eq!((compiled.misses, compiled.total()), (5, 5), "{run}");
    assert_eq!(p.cargo("build").ok().events.len(), 0);
    let run = p.cargo("build").plain().ok();
    assert_eq!(run.events.len(), 0);
    p.wipe();
    p.write("gen/kache.toml", "extra_inputs = [\"number.txt\", \"unused.txt\"]\n");
    p.write("gen/unused.txt", "nobody reads this");
    let run = p.cargo("build").ok();
    run.outcome("gen", "dup").outcome("build_script_build", "dup");
    assert_eq!((run.tally().hits, run.tally().dups), (3, 2), "{run}");
    p.wipe();
    let run = p.cargo("build").env("KACHE_DISABLED", "1").ok();
    assert!(run.events.iter().all(|e| e.outcome == "passthrough" && e.reason == "disabled"), "{run}");
}

/// C19: a limit just below what is needed breaks nothing; what wasn't used lately goes first.
#[test]
fn c19_store_below_its_limit() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    lab.set_env("KACHE_MAX_SIZE", "3MiB");
    for _ in 0..3 {
        p.cargo("test -q").same();
        p.wipe();
    }
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    let entries = lab.entries();
    for entry in &entries {
        let file = std::fs::File::options().write(true).open(entry).expect("open an entry");
        file.set_modified(yesterday).expect("date it back");
    }
    let output = lab.cli(&["gc"]);
    assert!(output.status.success(), "{output:?}");
    assert!(lab.entries().len() < entries.len(), "nothing was evicted");
    p.cargo("test -q").same();
}

/// Who sets kache as the wrapper of workspace members, too, gets it once.
#[test]
fn kache_as_both_wrappers_serves_as_one() {
    let lab = lean_lab();
    let one = lab.project("one", ALL_KINDS);
    let two = one.checkout("two");
    let both = [("RUSTC_WORKSPACE_WRAPPER", lab.wrapper().to_str().expect("UTF-8"))];
    one.cargo("build").envs(&both).ok();
    two.cargo("build").envs(&both).ok().all_hit().shared();
    let text = std::fs::read_to_string(lab.cache_dir().join("journal/current.jsonl")).unwrap_or_default();
    assert!(!text.contains("unknown-driver"), "{text}");
}
