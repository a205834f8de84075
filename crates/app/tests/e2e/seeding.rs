//! Seeding: what a build left is in place in another target directory before Cargo looks, and Cargo still notices
//! whatever it would have noticed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use kache_testkit::{Cargo, Project, Run};

use crate::support::{Lab, Outcomes, lean_lab};

/// A repository with three packages: `low` (a build script that generates code), `mac` (a proc macro), `top` (uses
/// both). `script` is the script's body after `out` is known; `lib` is what `low` has beside the generated code.
pub struct Upstream<'s> {
    /// Where it lies.
    pub project: Project<'s>,
}

pub const SCRIPT: &str = r#"    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=FLAVOUR");
    let flavour = std::env::var("FLAVOUR").unwrap_or("plain".into());
    std::fs::write(out.join("g.rs"), format!("pub const FLAVOUR: &str = {flavour:?};\n")).unwrap();
"#;
pub const LIB: &str =
    "include!(concat!(env!(\"OUT_DIR\"), \"/g.rs\"));\npub fn low() -> String { FLAVOUR.to_string() }\n";

impl<'s> Upstream<'s> {
    pub fn new(lab: &'s Lab, script: &str, lib: &str) -> Self {
        let manifest = |name: &str, rest: &str| {
            format!("[package]\nname = \"{name}\"\nversion = \"1.0.0\"\nedition = \"2021\"\n{rest}")
        };
        let files = [
            (
                "Cargo.toml",
                "[workspace]\nmembers = [\"low\", \"mac\", \"top\"]\nresolver = \"2\"\n".to_owned(),
            ),
            ("low/Cargo.toml", manifest("low", "[features]\nloud = []\n")),
            ("low/src/lib.rs", lib.to_owned()),
            ("low/build.rs", build_script(script)),
            ("mac/Cargo.toml", manifest("mac", "[lib]\nproc-macro = true\n")),
            (
                "mac/src/lib.rs",
                "#[proc_macro]\npub fn answer(_: proc_macro::TokenStream) -> proc_macro::TokenStream {\n    \
                 \"41 + 1\".parse().unwrap()\n}\n"
                    .to_owned(),
            ),
            (
                "top/Cargo.toml",
                manifest("top", "[dependencies]\nlow = { path = \"../low\" }\nmac = { path = \"../mac\" }\n"),
            ),
            (
                "top/src/lib.rs",
                "pub fn top() -> String { format!(\"{} {}\", low::low(), mac::answer!()) }\n".to_owned(),
            ),
        ];
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
        let project = lab.project("upstream", &files);
        let upstream = Self { project };
        upstream.git(&["init", "-q", "-b", "main"]);
        upstream.commit();
        upstream
    }

    pub fn git(&self, args: &[&str]) {
        self.project.sandbox().git(self.project.dir(), args);
    }

    pub fn commit(&self) {
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "-m", "state"]);
    }

    /// A workspace that uses `top`, with its lockfile and sources fetched.
    pub fn user(&self, lab: &'s Lab) -> Project<'s> {
        let url = self.project.dir().display();
        let manifest = format!(
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
             top = {{ git = \"file://{url}\" }}\nbeside = {{ path = \"beside\" }}\n[workspace]\nmembers = [\"beside\"]\n"
        );
        let user = lab.project(
            "one",
            &[
                ("Cargo.toml", &manifest),
                ("src/main.rs", "fn main() { println!(\"{} {}\", top::top(), beside::one()); }\n"),
                (
                    "beside/Cargo.toml",
                    "[package]\nname = \"beside\"\nversion = \"0.1.0\"\nedition = \"2021\"\n",
                ),
                ("beside/src/lib.rs", "pub fn one() -> u32 { 1 }\n#[test]\nfn t() {}\n"),
            ],
        );
        fetch(&user);
        user
    }
}

pub fn build_script(body: &str) -> String {
    format!(
        "fn main() {{\n    let out = std::path::PathBuf::from(std::env::var_os(\"OUT_DIR\").unwrap());\n{body}\n    \
         let _ = &out;\n}}\n"
    )
}

/// A script that puts into the library whatever `read` gives, and tells Cargo to watch nothing but the script.
pub fn reading(read: &str) -> String {
    format!(
        "    println!(\"cargo:rerun-if-changed=build.rs\");\n    let found: String = {read};\n    \
         std::fs::write(out.join(\"g.rs\"), format!(\"pub const FLAVOUR: &str = {{found:?}};\\n\")).unwrap();\n"
    )
}

pub fn fetch(project: &Project<'_>) {
    project.cargo("fetch").plain().env("CARGO_NET_OFFLINE", "false").ok();
}

/// The usual world: `one` is built, and what it holds is recorded.
pub fn built<'s>(lab: &'s Lab, script: &str, lib: &str, args: &str) -> (Upstream<'s>, Project<'s>) {
    let upstream = Upstream::new(lab, script, lib);
    let one = upstream.user(lab);
    recorded(&one.cargo(args));
    (upstream, one)
}

/// Runs Cargo and waits until what it has built is recorded.
pub fn recorded(cargo: &Cargo<'_>) -> Run {
    let run = cargo.ok();
    wait_for_recorder(cargo);
    run
}

/// Waits until the recorder that the last run has started says what came of it.
pub fn wait_for_recorder(cargo: &Cargo<'_>) {
    let until = Instant::now() + Duration::from_secs(120);
    // The comparison with a clean build moves a target directory away, perhaps from under an earlier recorder.
    let patience = Instant::now() + Duration::from_secs(15);
    loop {
        let notes: Vec<String> = notes_of(cargo);
        let ended = notes.iter().filter(|note| note.lines().count() > 1).count();
        if ended > 0 && (ended == notes.len() || Instant::now() > patience) {
            // One line of each is enough to see why an assertion that follows fails.
            eprintln!("recorders: {notes:?}");
            return;
        }
        assert!(Instant::now() < until, "no recorder has ended: {notes:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn notes_of(cargo: &Cargo<'_>) -> Vec<String> {
    let command = cargo.command();
    let dir = command.get_current_dir().expect("a directory").to_owned();
    let set = command.get_envs().find(|(name, _)| *name == "CARGO_TARGET_DIR").and_then(|(_, value)| value);
    let target = set.map_or_else(|| dir.join("target"), PathBuf::from);
    kache_testkit::walk(&target)
        .into_iter()
        .filter(|path| path.ends_with(".kache/recorder"))
        .filter_map(|path| std::fs::read_to_string(path).ok())
        .collect()
}

/// What the journal says about seeding in a run.
pub fn seeded(run: &Run) -> (u64, u64) {
    let events = run.events.iter().filter(|event| event.kind == "seeding");
    events.fold((0, 0), |(units, runs), event| {
        (units + event.number("seeding/units"), runs + event.number("seeding/runs"))
    })
}

/// Why units were left out in a run.
pub fn left_out(run: &Run, code: &str) -> u64 {
    let events = run.events.iter().filter(|event| event.kind == "seeding");
    events.map(|event| event.number(&format!("seeding/reasons/{code}"))).sum()
}

/// Nothing of the three packages was compiled or asked for, and Cargo took all of them for fresh.
pub fn assert_fresh(run: &Run) {
    for name in ["low", "mac", "top", "build_script_build"] {
        assert!(run.of(name).is_empty(), "{run}\n{name} was asked for");
    }
}

/// Nothing is left to do.
pub fn assert_idle(cargo: &Cargo<'_>) {
    let run = cargo.ok();
    assert!(run.events.is_empty(), "{run}\nexpected nothing to do");
}

#[test]
fn a_second_checkout_starts_with_its_dependencies_in_place() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("elsewhere/two");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_fresh(&run);
    assert!(run.number_of_hits() > 0, "members are served as ever: {run}");
    assert_idle(&two.cargo("run"));
    assert_idle(&one.cargo("run"));
    assert!(two.target().join("CACHEDIR.TAG").is_file());
    // What kache places and what Cargo builds go on side by side.
    two.edit("beside/src/lib.rs", "1 }", "2 }");
    let edited = two.cargo("run").same();
    assert_fresh(&edited);
    assert_idle(&two.cargo("run"));
}

#[test]
fn the_headline_counts_what_this_build_asked_for() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    recorded(&one.cargo("run --release"));
    let run = one.checkout("elsewhere/two").cargo("run").same();
    let output = lab.cli(&["stats", "--last-build", "--json"]);
    let stats: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let (served, asked) = (&stats["served"], &stats["tally"]["seeding"]["asked"]);
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_eq!((&asked["units"], &asked["runs"]), (&4.into(), &1.into()), "{stats:#}");
    let expected = serde_json::Value::from(4 + run.number_of_hits());
    assert_eq!((&served["compiles"], &served["compiles_of"]), (&expected, &expected), "{stats:#}");
    assert_eq!((&served["build_scripts"], &served["build_scripts_of"]), (&1.into(), &1.into()), "{stats:#}");
    assert!(
        served["text"].as_str().is_some_and(|text| text.contains(" and 1 of 1 build scripts, saved about "))
    );
}

/// A Cargo that rustup didn't start calls the compiler `rustc`.
#[test]
fn a_compiler_with_a_bare_name() {
    let lab = lean_lab();
    lab.set_env("RUSTC", "rustc");
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let run = one.checkout("elsewhere/two").cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_fresh(&run);
}

trait Hits {
    fn number_of_hits(&self) -> u64;
}

impl Hits for Run {
    fn number_of_hits(&self) -> u64 {
        self.tally().hits as u64
    }
}

#[test]
fn members_and_path_packages_are_never_seeded() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "build");
    let two = one.checkout("two");
    let run = two.cargo("build").ok();
    run.outcome("beside", "hit");
    let text = std::fs::read_dir(lab.cache_dir().join("v1/snapshots")).expect("snapshots").count();
    assert_eq!(text, 1, "one context");
    for file in kache_testkit::walk(&lab.cache_dir().join("v1/snapshots")) {
        let text = std::fs::read_to_string(file).expect("text");
        assert!(!text.contains("lib-beside") && text.contains("lib-top"), "{text}");
    }
}

#[test]
fn every_command_and_profile_finds_what_it_needs() {
    let lab = lean_lab();
    let upstream = Upstream::new(&lab, SCRIPT, LIB);
    let one = upstream.user(&lab);
    let host = kache_testkit::toolchain().host.clone();
    let commands = [
        "check".to_owned(),
        "build".into(),
        "test".into(),
        "build --release".into(),
        format!("build --target {host}"),
    ];
    for args in &commands {
        recorded(&one.cargo(args));
    }
    for args in &commands {
        let two = one.checkout("two");
        let run = two.cargo(args).same();
        assert_eq!(seeded(&run), (4, 1), "what this one needs: {run}");
        assert_fresh(&run);
        for again in &commands {
            let run = two.cargo(again).same();
            let others = ["low", "mac", "top"].into_iter().flat_map(|name| run.of(name));
            assert!(others.into_iter().all(|event| event.outcome == "hit"), "{run}");
        }
        for again in &commands {
            assert_idle(&two.cargo(again));
        }
        lab.remove(&two);
    }
}

#[test]
fn a_variable_that_the_script_asked_for_changes() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").env("FLAVOUR", "sour").same();
    assert_eq!(seeded(&run), (2, 0), "the script and the macro; the run starts in an empty directory: {run}");
    assert!(run.stdout.contains("sour"), "{run}");
    assert!(two.cargo("run").same().stdout.contains("plain"));
    // The flavour that was recorded last is what is placed now.
    recorded(&one.cargo("run").env("FLAVOUR", "sweet"));
    let three = one.checkout("three");
    assert!(three.cargo("run").same().stdout.contains("plain"));
    assert!(three.cargo("run").env("FLAVOUR", "sweet").same().stdout.contains("sweet"));
}

#[test]
fn a_watched_file_of_the_system_changes() {
    let lab = lean_lab();
    let file = lab.write("etc/flavour", "old");
    let script = format!(
        "    let file = {:?};\n    println!(\"cargo:rerun-if-changed={{file}}\");\n    \
         let text = std::fs::read_to_string(file).unwrap();\n    \
         std::fs::write(out.join(\"g.rs\"), format!(\"pub const FLAVOUR: &str = {{text:?}};\\n\")).unwrap();\n",
        file.to_str().expect("UTF-8")
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    let same = one.checkout("same").cargo("run").same();
    assert_eq!(seeded(&same), (4, 1), "{same}");
    assert_fresh(&same);
    lab.write("etc/flavour", "new");
    let two = one.checkout("two");
    assert!(two.cargo("run").same().stdout.contains("new"));
    assert_idle(&two.cargo("run"));
}

#[test]
fn what_a_script_found_on_the_system_changes_undeclared() {
    let lab = lean_lab();
    let file = lab.write("opt/lib/libfound.so", "old");
    let dir = file.parent().expect("a folder").display().to_string();
    let script = format!(
        "    println!(\"cargo:rerun-if-changed=build.rs\");\n    println!(\"cargo:root={dir}/libfound.so\");\n    \
         let text = std::fs::read_to_string(\"{dir}/libfound.so\").unwrap();\n    \
         std::fs::write(out.join(\"g.rs\"), format!(\"pub const FLAVOUR: &str = {{text:?}};\\n\")).unwrap();\n"
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    lab.write("opt/lib/libfound.so", "newer");
    let run = one.checkout("two").cargo("run").same();
    assert!(run.stdout.contains("newer"), "{run}");
    assert_eq!((left_out(&run, "input-changed"), left_out(&run, "dependency")), (1, 2), "{run}");
}

#[test]
fn a_script_that_keeps_its_directory_in_the_library_stays_at_home() {
    let lab = lean_lab();
    let script = "    println!(\"cargo:rerun-if-changed=build.rs\");\n    \
        std::fs::write(out.join(\"g.rs\"), format!(\"pub const FLAVOUR: &str = {:?};\\n\", out.display().to_string())).unwrap();\n";
    let (_, one) = built(&lab, script, LIB, "run");
    // In the directory that it names it is welcome.
    one.wipe();
    let home = one.cargo("run").same();
    assert_fresh(&home);
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert!(run.stdout.contains(two.target().to_str().expect("UTF-8")), "{run}");
    assert_eq!(left_out(&run, "path-in-output"), 1, "{run}");
    crate::paths::assert_no_mention(&two, one.dir());
}

#[test]
fn a_script_that_writes_its_directory_into_a_text_gets_the_new_one() {
    let lab = lean_lab();
    let script = format!(
        "{SCRIPT}    std::fs::create_dir_all(out.join(\"lib/empty\")).unwrap();\n    \
         std::fs::write(out.join(\"lib/x.pc\"), format!(\"prefix={{}}\\n\", out.display())).unwrap();\n    \
         std::os::unix::fs::symlink(out.join(\"lib/x.pc\"), out.join(\"link\")).unwrap();\n    \
         println!(\"cargo:root={{}}\", out.display());\n"
    );
    let (_, one) = built(&lab, &script, LIB, "run");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    crate::paths::assert_no_mention(&two, one.dir());
    let found = two.outputs(|name| name == "x.pc");
    assert_eq!(found.len(), 1);
    let out_dir = found[0].parent().and_then(Path::parent).expect("OUT_DIR");
    assert_eq!(std::fs::read_to_string(&found[0]).expect("text"), format!("prefix={}\n", out_dir.display()));
    assert_eq!(std::fs::read_link(out_dir.join("link")).expect("link"), found[0]);
    assert!(out_dir.join("lib/empty").is_dir());
    assert_idle(&two.cargo("run"));
}

#[test]
fn a_script_that_wants_to_run_always_runs_always() {
    let lab = lean_lab();
    let script = "    println!(\"cargo:rerun-if-changed=/does/not/exist\");\n    \
        std::fs::write(out.join(\"g.rs\"), \"pub const FLAVOUR: &str = \\\"x\\\";\\n\").unwrap();\n    \
        std::fs::OpenOptions::new().create(true).append(true).open(std::env::var(\"COUNT\").unwrap()).unwrap().set_len(0).unwrap();\n";
    let count = lab.write("count", "x");
    lab.set_env("COUNT", &count);
    let (_, one) = built(&lab, script, LIB, "run");
    std::fs::write(&count, "x").expect("write");
    let two = one.checkout("two");
    two.cargo("run").ok();
    assert_eq!(std::fs::read(&count).expect("read"), b"", "the script has run in the second checkout");
}

#[test]
fn another_commit_is_built_and_the_rest_is_seeded() {
    let lab = lean_lab();
    let (upstream, one) = built(&lab, SCRIPT, LIB, "run");
    upstream.project.edit("low/src/lib.rs", "FLAVOUR.to_string()", "format!(\"new {FLAVOUR}\")");
    upstream.commit();
    let two = one.checkout("two");
    two.cargo("update").plain().env("CARGO_NET_OFFLINE", "false").ok();
    fetch(&two);
    let run = two.cargo("run").same();
    assert!(run.stdout.contains("new plain"), "{run}");
    // The first lockfile still means the first commit.
    let three = one.checkout("three");
    let run = three.cargo("run").same();
    assert!(!run.stdout.contains("new"), "{run}");
    assert_fresh(&run);
}

#[test]
fn a_source_that_somebody_edits_in_place_is_compiled() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let checkouts = lab.root().join("cargo-home/git/checkouts");
    let source = kache_testkit::walk(&checkouts).into_iter().find(|path| path.ends_with("top/src/lib.rs"));
    let source = source.expect("the checkout of top");
    let text = std::fs::read_to_string(&source).expect("read");
    std::fs::write(&source, text.replace("format!(\"{}", "format!(\"edited {}")).expect("write");
    let run = one.checkout("two").cargo("run").same();
    assert!(run.stdout.contains("edited"), "{run}");
    assert_eq!(left_out(&run, "sources-changed"), 1, "{run}");
}

#[test]
fn switched_off_nothing_is_placed_or_recorded() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    for (name, value) in [("KACHE_SEED", "0"), ("KACHE_DISABLED", "1")] {
        let two = one.checkout("two");
        let run = two.cargo("run").env(name, value).same();
        assert_eq!(seeded(&run), (0, 0), "{name}: {run}");
        assert!(!two.target().join("debug/.kache/recorder").exists());
        lab.remove(&two);
    }
}

#[test]
fn a_directory_that_is_in_use_is_left_alone() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    two.cargo("build -p beside").plain().ok();
    std::fs::remove_file(two.target().join(".rustc_info.json")).expect("Cargo's memo");
    let run = two.cargo("run").same();
    assert_eq!(seeded(&run), (0, 0), "{run}");
}

#[test]
fn the_target_directory_is_where_cargo_says() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let out = |name: &str| lab.root().join(name);
    let by_variable = one.checkout("v").with_target(out("by-variable"));
    let run = by_variable.cargo("run").env("CARGO_TARGET_DIR", out("by-variable")).ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    let by_option = one.checkout("o").with_target(out("o/out"));
    let run = by_option.cargo("run --target-dir out").subdir("beside/..").ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert!(out("o/out/debug/app").is_file() && !out("o/target").exists());
    let by_config = one.checkout("c");
    by_config.write(".cargo/config.toml", "[build]\ntarget-dir = \"conf\"\n");
    let run = by_config.cargo("run --manifest-path ../Cargo.toml --bin app").subdir("beside").ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert!(out("c/conf/debug/app").is_file() && !out("c/target").exists());
    let split = one.checkout("s");
    split.write(".cargo/config.toml", "[build]\nbuild-dir = \"inner\"\n");
    let run = split.cargo("run").ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_fresh(&run);
    assert!(!lab.layout().fingerprints(&out("s/inner/debug")).is_empty());
    // Not told for certain.
    let doubt = one.checkout("d");
    doubt.write(".cargo/config.toml", "[alias]\nb = \"build --release\"\n");
    let run = doubt.cargo("b").ok();
    let declined = run.events.iter().find(|event| event.kind == "seeding").expect("a word about it");
    assert!(declined.json["seeding"]["declined"].as_str().is_some_and(|why| why.contains("alias")));
}

#[test]
fn another_file_system_gets_copies() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let other = tempfile::tempdir_in("/dev/shm").expect("a memory file system");
    let target = other.path().join("target");
    let two = one.checkout("two");
    let cargo = two.cargo("run").env("CARGO_TARGET_DIR", &target);
    let run = cargo.ok();
    assert_eq!(seeded(&run), (4, 1), "{run}");
    assert_fresh(&run);
    assert_idle(&cargo);
}

#[test]
fn two_cargos_at_once_in_a_fresh_directory() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "build");
    recorded(&one.cargo("check"));
    for i in 0..3 {
        let two = one.checkout(&format!("two-{i}"));
        let both = [two.cargo("build").spawn(), two.cargo("check").spawn()];
        for run in both.map(|running| running.wait(&two)) {
            assert!(run.status.success(), "{run}");
        }
        two.cargo("run").same();
        assert_idle(&two.cargo("build"));
        assert_idle(&two.cargo("check"));
    }
}

#[test]
fn killed_at_any_moment_leaves_what_cargo_rebuilds() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    for (i, signal) in ["KILL", "INT", "KILL", "INT", "KILL", "KILL"].iter().enumerate() {
        let two = one.checkout(&format!("two-{i}"));
        let running = two.cargo("run").spawn();
        std::thread::sleep(Duration::from_millis(15 + 12 * i as u64));
        running.signal(signal);
        running.wait(&two);
        two.cargo("run").same();
        assert_idle(&two.cargo("run"));
    }
}

/// Whatever is missing of a unit that was placed, Cargo and kache bring it back.
#[test]
fn holes_in_what_was_placed_are_filled() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    for missing in ["lib-low", "liblow", "g.rs", lab.layout().script_output(), "build_script_build", "libmac"]
    {
        let two = one.checkout("two");
        two.cargo("run").ok();
        let wanted =
            |name: &str| name.starts_with(missing) && !name.ends_with(".json") && !name.ends_with(".d");
        let gone = two.outputs(wanted);
        assert!(!gone.is_empty(), "{missing}");
        for path in gone {
            std::fs::remove_file(path).expect("remove");
        }
        if missing != "g.rs" {
            two.cargo("run").same();
            // As without kache: what was made anew is newer than its dependents, which Cargo sees the next time.
            two.cargo("run").same();
            let again = two.cargo("run").ok();
            assert!(again.events.is_empty(), "{again}\n{missing} was missing; expected nothing to do now");
        }
        lab.remove(&two);
    }
}

/// A script that runs again in a directory that was seeded writes in place: nobody else may notice.
#[test]
fn a_script_that_runs_again_does_not_reach_the_store() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let (two, three) = (one.checkout("two"), one.checkout("three"));
    assert_eq!(seeded(&two.cargo("run").ok()), (4, 1));
    assert_eq!(seeded(&three.cargo("run").ok()), (4, 1));
    two.cargo("run").env("FLAVOUR", "in place").same();
    assert!(three.cargo("run").same().stdout.contains("plain"));
    assert!(one.checkout("four").cargo("run").same().stdout.contains("plain"));
    lab.assert_store_is_sound();
}

/// Interrupted between a dependency and its dependents, the directory holds two states; neither is recorded wrongly.
#[test]
fn a_half_built_directory_is_not_recorded_as_whole() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    one.cargo("build -p low").env("FLAVOUR", "half").ok();
    wait_for_recorder(&one.cargo("build"));
    let two = one.checkout("two");
    for flavour in ["half", "plain"] {
        let run = two.cargo("run").env("FLAVOUR", flavour).same();
        assert!(run.stdout.contains(flavour), "{run}");
    }
}

#[test]
fn the_lockfile_alone_decides_nothing_about_content() {
    let lab = lean_lab();
    let (_, one) = built(&lab, SCRIPT, LIB, "run");
    let two = one.checkout("two");
    two.edit("src/main.rs", "println!(\"", "println!(\"two \"); println!(\"");
    two.write("Cargo.toml", format!("{}[profile.dev]\nopt-level = 1\n", two.read("Cargo.toml")));
    let run = two.cargo("run").same();
    assert!(run.stdout.starts_with("two"), "{run}");
}
