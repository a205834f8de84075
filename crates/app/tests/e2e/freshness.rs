//! Cargo's own idea of fresh: what was restored needs nothing, what was changed is noticed, whatever happened in
//! between. Each story compares with a clean build after every step.

use std::time::{Duration, SystemTime};

use kache_testkit::{Project, settle, wait_for, walk};

use crate::fixtures::{ALL_KINDS, PAIR, macro_world, user_world};
use crate::support::{Outcomes, lab, lean_lab};

/// B1, B2, R16: after cold and warm builds there is nothing to do, twice, also with build scripts in between.
#[test]
fn b1_nothing_to_do_after_cold_and_warm_builds() {
    let lab = lab();
    let p = lab.project("w", ALL_KINDS);
    for _ in 0..2 {
        p.cargo("build").same();
        p.nothing_to_do("build");
        p.cargo("test --no-run").same();
        p.nothing_to_do("test --no-run");
        p.nothing_to_do("build");
        p.wipe();
    }
}

/// R16: two target directories of one checkout, in turns.
#[test]
fn two_target_directories_in_turns() {
    let lab = lab();
    let p = lab.project("w", ALL_KINDS);
    let other = p.clone().with_target(p.path("other-target"));
    let in_other = |args: &str| other.cargo(args).env("CARGO_TARGET_DIR", other.target()).ok();
    p.cargo("build").ok();
    in_other("build").all_hit();
    for _ in 0..2 {
        p.nothing_to_do("build");
        other.cargo("build").env("CARGO_TARGET_DIR", other.target()).nothing_to_do();
    }
    // Without incremental compilation an edit is stored at once.
    lab.set_env("CARGO_INCREMENTAL", "0");
    p.edit("gen/number.txt", "7", "8");
    assert_eq!(p.cargo("run").ok().stdout, "16\n");
    assert_eq!(in_other("run").stdout, "16\n");
    p.nothing_to_do("build");
    other.cargo("build").env("CARGO_TARGET_DIR", other.target()).nothing_to_do();
}

/// Edit and revert, in one checkout and across two; the revert is served.
#[test]
fn edit_and_revert() {
    let lab = lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    for p in [&one, &two] {
        p.edit("dep/src/lib.rs", "1", "2");
        assert_eq!(p.cargo("run").same().stdout, "2\n");
        p.nothing_to_do("build");
        p.edit("dep/src/lib.rs", "2", "1");
        assert_eq!(p.cargo("run").same().stdout, "1\n");
        p.nothing_to_do("build");
    }
}

/// The design's own trap: a dependency is replaced by other content, the session ends before its dependents, and
/// the other content has an old modification time.
#[test]
fn dependency_replaced_and_dependents_built_later() {
    let lab = lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    p.edit("dep/src/lib.rs", "1", "2");
    p.cargo("run").same();
    for (old, new) in [("2", "1"), ("1", "2"), ("2", "1")] {
        p.edit("dep/src/lib.rs", old, new);
        p.cargo("build -p dep").ok();
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// The same with a second checkout that never compiled anything by itself.
#[test]
fn dependency_replaced_in_a_restored_checkout() {
    let lab = lab();
    lab.set_env("CARGO_INCREMENTAL", "0");
    let one = lab.project("one", PAIR);
    one.cargo("run").same();
    one.edit("dep/src/lib.rs", "1", "2");
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    two.edit("dep/src/lib.rs", "2", "1");
    two.cargo("build -p dep").ok().all_hit();
    assert_eq!(two.cargo("run").same().stdout, "1\n");
    two.nothing_to_do("build");
    one.nothing_to_do("build");
}

/// `cargo clean -p`, then a dependency with other content, then its dependents.
#[test]
fn cargo_clean_of_one_package() {
    let lab = lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").same();
    p.cargo("clean -p mid").plain().ok();
    p.cargo("run").same();
    p.nothing_to_do("build");
    p.cargo("clean -p gen").plain().ok();
    p.edit("gen/number.txt", "7", "9");
    p.cargo("build -p gen").ok();
    p.cargo("run").same();
    p.nothing_to_do("build");
    p.cargo("clean -p mid -p gen").plain().ok();
    p.edit("gen/number.txt", "9", "7");
    p.cargo("build -p mid").ok();
    p.cargo("run").same();
    p.nothing_to_do("build");
}

/// All outputs of a dependency are gone, as on the first build here, but dependents have seen other content. (An edit
/// alone leaves the metadata in its place, which is told without a mark.)
#[test]
fn a_dependency_that_was_cleaned_away_comes_back_as_new() {
    let lab = lab();
    lab.set_env("CARGO_INCREMENTAL", "0");
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    p.edit("dep/src/lib.rs", "1", "2");
    assert_eq!(p.cargo("run").same().stdout, "2\n");
    p.edit("dep/src/lib.rs", "2", "1");
    p.cargo("clean -p dep").plain().ok();
    p.cargo("build -p dep").ok().all_hit();
    assert_eq!(p.cargo("run").same().stdout, "1\n");
    p.nothing_to_do("build");
}

/// A56, B4: builds with kache switched off (by variable, by no wrapper at all) in between.
#[test]
fn kache_switched_off_in_between() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same();
    for (number, off) in [("8", "disabled"), ("9", "plain"), ("7", "disabled"), ("8", "plain")] {
        two.write("gen/number.txt", number);
        let without = |args: &str| match off {
            "plain" => two.cargo(args).plain().ok(),
            _ => two.cargo(args).env("KACHE_DISABLED", "1").ok(),
        };
        without("build -p gen");
        two.cargo("run").same();
        two.nothing_to_do("build");
        two.edit("mac/src/lib.rs", "2 *", "5 *");
        without("build");
        two.cargo("run").same();
        two.edit("mac/src/lib.rs", "5 *", "2 *");
        two.cargo("run").same();
        two.nothing_to_do("build");
    }
    one.nothing_to_do("build");
}

/// `touch` without a change: Cargo asks, the cache answers, and afterwards there is nothing to do.
#[test]
fn touch_without_change() {
    let lab = lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").same();
    for file in ["gen/src/lib.rs", "gen/number.txt", "mac/src/lib.rs", "app/src/main.rs", "gen/build.rs"] {
        p.touch(file);
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// The content that was there comes back. Cargo removes a unit's outputs before it asks for it, so nothing shows what was
/// there: the file is private and dated now, and whoever depends on it is asked for too.
#[test]
fn same_content_again() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    one.cargo("run").same();
    let two = one.checkout("two");
    two.cargo("run").same().all_hit();
    let library = two.outputs(|name| name.starts_with("libdep-") && name.ends_with(".rlib"));
    let time = || library[0].metadata().and_then(|data| data.modified()).expect("a library");
    let before = time();
    two.touch("dep/src/lib.rs");
    two.cargo("build -p dep").ok().all_hit();
    assert!(time() > before && time() > two.mtime("dep/src/lib.rs") - Duration::from_secs(1));
    two.cargo("run").same().outcome("app", "hit");
    two.nothing_to_do("build");
    one.nothing_to_do("build");
}

/// B2: a source dated into the future makes Cargo rebuild every time, with kache as without, and heals as soon as
/// the date does.
#[test]
fn b2_source_dated_into_the_future() {
    let lab = lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    p.shift_mtime("dep/src/lib.rs", 3600);
    for _ in 0..2 {
        p.cargo("run").same();
    }
    p.edit("dep/src/lib.rs", "1", "3");
    p.cargo("run").same();
    p.nothing_to_do("build");
}

/// A branch with older modification times (an archive was unpacked): Cargo can't notice, but a new file it does;
/// after a wipe everything is right.
#[test]
fn sources_with_old_dates() {
    let lab = lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").same();
    p.wipe();
    p.edit("dep/src/lib.rs", "1", "2");
    p.set_mtime("dep/src/lib.rs", SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    p.cargo("run").same().not_hit("dep");
    p.nothing_to_do("build");
}

/// B36: nanoseconds are lost (container layers): at worst Cargo asks once more.
#[test]
fn b36_times_without_nanoseconds() {
    let lab = lab();
    let one = lab.project("one", ALL_KINDS);
    one.cargo("build").same();
    let two = one.checkout("two");
    two.cargo("build").same();
    for file in walk(two.target()) {
        let time = file.metadata().and_then(|data| data.modified()).expect("time");
        let whole = time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs();
        let open = std::fs::File::options().read(true).open(&file).expect("open");
        open.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(whole)).expect("set the time");
    }
    settle();
    two.cargo("run").same();
    two.nothing_to_do("build");
    one.cargo("run").same();
    one.nothing_to_do("build");
}

/// Interrupted builds: Cargo and everything below it is killed after a dependency was placed and while a dependent
/// compiles. Whatever was half done, the next build is right.
fn interrupted(signal: &str, changes: &[(&str, &str)]) {
    let lab = lab();
    let p = macro_world(&lab, "w", "concat!(mac::gate!(), dep::VALUE!())");
    add_dep(&p);
    p.cargo("run").same();
    for (old, new) in changes {
        p.edit("dep/src/lib.rs", old, new);
        p.write("user/gate", "");
        let running = p.cargo("build").spawn();
        wait_for("the compile of user", || p.path("user/reached").exists());
        running.signal(signal);
        running.wait(&p);
        p.remove("user/gate");
        p.remove("user/reached");
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// Gives [`macro_world`]'s `user` a library `dep` that it can take `VALUE!()` from.
pub fn add_dep(p: &Project<'_>) {
    p.write("dep/Cargo.toml", "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2021\"\n");
    p.write("dep/src/lib.rs", "#[macro_export]\nmacro_rules! VALUE { () => { \"1\" } }\n");
    p.edit("Cargo.toml", "\"mac\"", "\"dep\", \"mac\"");
    p.edit("user/Cargo.toml", "[dependencies]\n", "[dependencies]\ndep = { path = \"../dep\" }\n");
}

/// Killed with SIGINT, as Ctrl-C does; edits back and forth, so that known content comes back.
#[test]
fn interrupted_by_sigint() {
    interrupted("INT", &[("\"1\"", "\"2\""), ("\"2\"", "\"1\""), ("\"1\"", "\"2\"")]);
}

/// Killed with SIGKILL.
#[test]
fn interrupted_by_sigkill() {
    interrupted("KILL", &[("\"1\"", "\"2\""), ("\"2\"", "\"1\""), ("\"1\"", "\"2\"")]);
}

/// A program that was linked without kache is all that is left of a build: what its library becomes here may not look
/// older than it is. Also where kache had built before: every session looks at what there is.
#[test]
fn program_outlives_the_library_it_was_linked_with() {
    for was_here in [false, true] {
        let lab = lean_lab();
        let p = lab.project("w", PAIR);
        if was_here {
            p.write("other/Cargo.toml", p.read("dep/Cargo.toml").replace("dep", "other"));
            p.write("other/src/lib.rs", "");
            p.edit("Cargo.toml", "\"dep\"", "\"dep\", \"other\"");
            p.cargo("build -p other").ok();
        }
        p.cargo("build -p app").plain().ok();
        p.cargo("clean -p dep").plain().ok();
        p.edit("dep/src/lib.rs", "1", "2");
        p.cargo("build -p dep").ok();
        assert_eq!(p.cargo("run").same().stdout, "2\n");
        p.nothing_to_do("build -p app");
    }
}

/// A build script that depends on another one's metadata, and names no file, comes after a run that is dated now: it
/// may not be dated back behind it.
#[test]
fn script_that_uses_metadata_of_another_one() {
    let lab = lean_lab();
    let p = user_world(&lab, "w", "pub fn value() -> &'static str { env!(\"GIVEN\") }\n");
    p.write(
        "native/Cargo.toml",
        "[package]\nname = \"native\"\nversion = \"0.1.0\"\nedition = \"2021\"\nlinks = \"n\"\n",
    );
    p.write("native/src/lib.rs", "");
    p.write("native/build.rs", "fn main() {\n    println!(\"cargo:rerun-if-changed=build.rs\");\n    println!(\"cargo:value=1\");\n}\n");
    p.write("user/build.rs", "fn main() {\n    println!(\"cargo:rerun-if-env-changed=NOBODY_SETS_THIS\");\n    println!(\"cargo:rustc-env=GIVEN={}\", std::env::var(\"DEP_N_VALUE\").unwrap());\n}\n");
    p.edit("Cargo.toml", "\"user\"", "\"native\", \"user\"");
    p.edit(
        "user/Cargo.toml",
        "edition = \"2021\"\n",
        "edition = \"2021\"\n[dependencies]\nnative = { path = \"../native\" }\n",
    );
    let two = p.checkout("two");
    for p in [&p, &two] {
        p.cargo("run").same();
        p.nothing_to_do("build");
        p.edit("native/build.rs", "value=1", "value=2");
        p.cargo("build -p native").ok();
        p.cargo("run").same();
        p.nothing_to_do("build");
    }
}

/// A script reads a file that it doesn't declare, and a declared variable goes forth and back. What was built with the
/// first run's result is stale after the third, although only another unit was served then: the run may not be dated
/// back, for nothing else tells Cargo.
#[test]
fn script_that_ran_again_is_not_dated_back() {
    let lab = lean_lab();
    let hidden = lab.write("hidden", "1");
    lab.set_env("HIDDEN", &hidden);
    let take = "pub const V: &str = env!(\"V\");\n";
    let manifest = ["x", "y"].map(|name| format!("[[example]]\nname = \"{name}\"\ncrate-type = [\"lib\"]\n"));
    let manifest =
        format!("[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n{}", manifest.concat());
    let script = "fn main() {
    println!(\"cargo:rerun-if-env-changed=FLIP\");
    let hidden = std::fs::read_to_string(std::env::var(\"HIDDEN\").unwrap()).unwrap();
    println!(\"cargo:rustc-env=V={hidden}\");
}
";
    let main = format!("{take}fn main() {{\n    println!(\"{{V}}\");\n}}\n");
    let files = [
        ("Cargo.toml", manifest.as_str()),
        ("build.rs", script),
        ("src/main.rs", &main),
        ("examples/x.rs", take),
        ("examples/y.rs", take),
    ];
    let one = lab.project("one", &files);
    let two = lab.project("two", &files);
    lab.write("hidden", "2");
    two.cargo("build --example y").env("FLIP", "a").ok();
    lab.write("hidden", "1");
    assert_eq!(one.cargo("run").env("FLIP", "a").ok().stdout, "1\n");
    lab.write("hidden", "2");
    one.cargo("build --example x").env("FLIP", "b").ok();
    one.cargo("build --example y").env("FLIP", "a").ok().all_hit();
    assert_eq!(one.cargo("run").env("FLIP", "a").ok().stdout, "2\n");
}

/// A cross build keeps macros and scripts in the host's directory and what they made in the triple's. One of the two is
/// removed: what stayed in the other was built against the old content, and is built again whatever is asked for first.
#[test]
fn half_of_a_cross_build_is_removed() {
    let lab = lean_lab();
    let host = &kache_testkit::toolchain().host;
    for (lost, profile) in [("debug", ""), ("debug", "--profile=dev"), ("release", "--release")] {
        let p = macro_world(&lab, &format!("w{}{lost}", profile.len()), "mac::word!()");
        let macros = |word: &str| {
            format!(
                "use proc_macro::TokenStream;\n#[proc_macro]\npub fn word(_: TokenStream) -> TokenStream {{ \
                 \"\\\"{word}\\\"\".parse().unwrap() }}\n"
            )
        };
        p.write_all(&[
            ("mac/src/lib.rs", &macros("old")),
            (".cargo/config.toml", &format!("build.target = \"{host}\"\n")),
            (
                "b/Cargo.toml",
                &p.read("app/Cargo.toml")
                    .replace("app", "b")
                    .replace("user", "mac")
                    .replace("../mac\" }", "../mac\" }\n"),
            ),
            ("b/src/main.rs", "fn main() {\n    println!(\"b {}\", mac::word!());\n}\n"),
        ]);
        p.edit("Cargo.toml", "\"mac\"", "\"b\", \"mac\"");
        // The store knows both.
        for word in ["new", "old"] {
            p.write("mac/src/lib.rs", macros(word));
            p.wipe();
            p.cargo(&format!("build --workspace {profile}")).ok();
        }
        p.remove(&format!("target/{lost}"));
        p.write("mac/src/lib.rs", macros("new"));
        assert_eq!(p.cargo(&format!("run -q -p app {profile}")).same().stdout, "new\n", "{lost}");
        assert_eq!(p.cargo(&format!("run -q -p b {profile}")).same().stdout, "b new\n", "{lost}");
        // The other half, and back.
        p.remove(&format!("target/{host}/{lost}"));
        p.write("mac/src/lib.rs", macros("old"));
        assert_eq!(p.cargo(&format!("run -q -p b {profile}")).same().stdout, "b old\n", "{lost}");
        assert_eq!(p.cargo(&format!("run -q -p app {profile}")).same().stdout, "old\n", "{lost}");
        p.nothing_to_do(&format!("build -p app -p b {profile}"));
    }
}

/// The first cross build of a checkout is served with links, in whatever order its two directories come into being.
#[test]
fn a_first_cross_build_is_shared() {
    let lab = lean_lab();
    let host = &kache_testkit::toolchain().host;
    let one = lab.project("one", ALL_KINDS);
    let args = format!("build --target {host}");
    one.cargo(&args).ok();
    let two = one.checkout("two");
    two.cargo(&args).ok().all_hit().shared();
    two.nothing_to_do(&args);
    two.wipe();
    // Nothing for the host at first.
    two.cargo(&format!("build -p gen --target {host}")).ok();
    two.cargo(&args).same().all_hit();
    two.nothing_to_do(&args);
}
