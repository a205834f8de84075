//! Unstable flags of Cargo and the compiler, and what they bring: checksums in dep-info, libraries in two files, timings
//! among the messages; argument lists that only a file can hold. On a stable toolchain with `RUSTC_BOOTSTRAP`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kache_core::paths::Root;
use kache_core::unstable_flags::UNSTABLE;
use kache_testkit::{Audit, Call, Project, toolchain, tree};

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::paths::assert_no_mention;
use crate::support::{Lab, Outcomes, lab, lean_lab};

/// A library with something for many flags to work on, and the call that compiles it.
fn library_call(lab: &Lab) -> Call {
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let p = lab.project("w", PAIR);
    p.write(
        "dep/src/lib.rs",
        "#[derive(Debug)]\npub struct S { pub a: u8, pub b: u64, pub c: u16 }\n\
         pub fn value() -> String { format!(\"{:?} {}\", S { a: 1, b: 2, c: 3 }, std::panic::Location::caller()) }\n\
         pub fn cut(text: &[u8], at: usize) -> u8 { text[at] }\n",
    );
    Audit::new(lab, "audit").record(&p.cargo("build -p dep")).remove(0)
}

fn with(call: &Call, flags: &str) -> Call {
    let mut call = call.clone();
    call.args.extend(flags.split_whitespace().map(OsString::from));
    call
}

/// The call with the names that kache gives to directories.
fn portable(lab: &Lab, call: &Call) -> Call {
    let home = call.env.iter().find(|(name, _)| name == "CARGO_HOME").expect("CARGO_HOME").1.clone();
    let workspace = lab.root().join("w");
    let roots = [
        (Root::CargoHome, PathBuf::from(home)),
        (Root::Target, workspace.join("target")),
        (Root::Workspace, workspace),
    ];
    let mut call = call.clone();
    for (root, path) in roots {
        let rule = format!("--remap-path-prefix={}={}", path.display(), root.remap_target());
        call.args.insert(1, rule.into());
    }
    call
}

/// Outcome and reason of a call through kache, and everything that it left and said.
struct Done {
    outcome: String,
    reason: String,
    files: BTreeMap<PathBuf, Vec<u8>>,
    stderr: String,
}

fn out_dir(call: &Call) -> PathBuf {
    PathBuf::from(call.value_of("--out-dir").expect("--out-dir"))
}

fn clear(dir: &Path) {
    for file in fs::read_dir(dir).expect("list").flatten() {
        fs::remove_file(file.path()).expect("remove an output");
    }
}

fn finish(command: &mut Command, dir: &Path) -> (BTreeMap<PathBuf, Vec<u8>>, String) {
    clear(dir);
    let output = command.stdin(Stdio::null()).output().expect("start a compiler");
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}\n{stderr}");
    (tree(dir, &[]), stderr)
}

fn through_kache(lab: &Lab, call: &Call) -> Done {
    through_kache_into(lab, call, &out_dir(call))
}

fn through_kache_into(lab: &Lab, call: &Call, out_dir: &Path) -> Done {
    let mark = lab.mark();
    let (files, stderr) = finish(&mut call.through(lab.wrapper()), out_dir);
    let event = lab.events_since(&mark).remove(0);
    Done { outcome: event.outcome, reason: event.reason, files, stderr }
}

/// Every row of the table is an option of this compiler, but for a few of newer ones.
#[test]
fn rows_are_options_of_the_compiler() {
    let help = Command::new(&toolchain().rustc).args(["-Z", "help"]).env("RUSTC_BOOTSTRAP", "1").output();
    let help = String::from_utf8(help.expect("start rustc").stdout).expect("UTF-8");
    let has = |name: &str| help.lines().any(|line| line.contains(&format!(" {name}=val ")));
    let missing: Vec<&str> = UNSTABLE.iter().map(|flag| flag.name).filter(|name| !has(name)).collect();
    assert!(has("threads") && missing.len() <= 8, "{missing:?}");
}

/// A36: two calls that differ in a keyed flag are two units, and each gives what the compiler gives.
#[test]
fn a36_unstable_flags_that_change_outputs() {
    let lab = lean_lab();
    let call = library_call(&lab);
    let table = [
        "",
        "-Zembed-metadata=no",
        "-Zhint-mostly-unused",
        "-Zrandomize-layout",
        "-Zrandomize-layout -Zlayout-seed=7",
        "-Zlocation-detail=none",
        "-Zlocation-detail=line",
        "-Zfmt-debug=none",
        "-Zfmt_debug=shallow",
        "-Zallow-features=",
        "-Zcrate-attr=allow(dead_code)",
        "-Zremap-cwd-prefix=/elsewhere",
        "-Zthreads=2",
        "-Zsanitizer=address",
        "-Zmir-opt-level=0",
        "-Zinline-mir=no",
        "-Zub-checks=no",
        "-Zstack-protector=all",
        "-Cdebuginfo=2 -Zdwarf-version=5",
        "-Cdebuginfo=2 -Zdwarf-version=4",
        "-Cdebuginfo=2 -Zdebuginfo-compression=zlib",
        "-Zchecksum-hash-algorithm=blake3",
        "-Zchecksum-hash-algorithm=sha256",
        "-Zbinary-dep-depinfo",
    ];
    for known in [false, true] {
        for flags in table {
            let call = with(&call, flags);
            let done = through_kache(&lab, &call);
            let expected = if known { &["hit"][..] } else { &["miss", "dup"] };
            assert!(expected.contains(&done.outcome.as_str()), "{flags}: {} {}", done.outcome, done.reason);
            let (files, stderr) = finish(&mut portable(&lab, &call).direct(), &out_dir(&call));
            assert_eq!(done.stderr, stderr, "{flags}");
            assert_eq!(done.files.keys().collect::<Vec<_>>(), files.keys().collect::<Vec<_>>(), "{flags}");
            for (name, content) in &files {
                assert!(done.files[name] == *content, "{flags}: {}", name.display());
            }
        }
    }
}

/// C6: flags for the looks of messages matter to nobody as long as there is nothing to say; A52: then they do.
#[test]
fn c6_unstable_flags_for_messages() {
    let lab = lean_lab();
    let call = library_call(&lab);
    let looks = ["-Zmacro-backtrace", "-Zterminal-urls=yes", "-Ztrack-diagnostics", "-Zproc-macro-backtrace"];
    assert_eq!(through_kache(&lab, &call).outcome, "miss");
    for flags in looks {
        assert_eq!(through_kache(&lab, &with(&call, flags)).outcome, "hit", "{flags}");
    }
    lab.write("w/dep/src/lib.rs", "fn unused() {}\n");
    for expected in ["miss", "hit"] {
        for flags in looks {
            let call = with(&call, flags);
            let done = through_kache(&lab, &call);
            assert!([expected, "dup"].contains(&done.outcome.as_str()), "{flags}: {}", done.outcome);
            assert_eq!(done.stderr, finish(&mut call.direct(), &out_dir(&call)).1, "{flags}");
        }
    }
}

/// A40: what is refused is refused by name.
#[test]
fn a40_unstable_flags_that_are_refused() {
    let lab = lean_lab();
    let call = library_call(&lab);
    let profile = format!("-Zself-profile={}", lab.root().join("profile").display());
    let table = [
        "-Ztime-passes",
        "-Zmacro-stats",
        "-Zprint-type-sizes",
        "-Zinput-stats",
        "-Zno-codegen",
        profile.as_str(),
    ];
    for flags in table {
        for _ in 0..2 {
            let done = through_kache(&lab, &with(&call, flags));
            let found = (done.outcome.as_str(), done.reason.as_str());
            assert_eq!(found, ("passthrough", "uncacheable-flag"), "{flags}");
        }
    }
}

/// A36: by way of Cargo; a program shows the difference, a second checkout is served.
#[test]
fn a36_programs_differ_by_unstable_flags() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let one = lab.project("one", PAIR);
    one.write(
        "dep/src/lib.rs",
        "#[derive(Debug)]\npub struct S;\n#[track_caller]\nfn place() -> String { std::panic::Location::caller().to_string() }\n\
         pub fn value() -> String { format!(\"{S:?} {}\", place()) }\n",
    );
    let two = one.checkout("two");
    let mut seen = Vec::new();
    for flags in
        ["-Zfmt-debug=full", "-Zfmt-debug=none", "-Zlocation-detail=none", "-Zcrate-attr=feature(test)"]
    {
        let run = one.cargo("run").rustflags(flags).same();
        run.not_hit("dep");
        two.cargo("run").rustflags(flags).same().all_hit();
        two.cargo("build").rustflags(flags).nothing_to_do();
        seen.push(run.stdout);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

/// A sanitizer's runtime comes from the compiler's own directories; where it has none there is nothing to test.
#[test]
fn programs_with_a_sanitizer() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let host = &toolchain().host;
    let libraries = toolchain().sysroot.join("lib/rustlib").join(host).join("lib");
    let names = fs::read_dir(libraries).expect("list").flatten().map(|file| file.file_name());
    if !names.into_iter().any(|name| name.to_string_lossy().ends_with("_rt.asan.a")) {
        return;
    }
    let one = lab.project("one", PAIR);
    let two = one.checkout("two");
    let run =
        |p: &Project<'_>| p.cargo(&format!("run --target {host}")).rustflags("-Zsanitizer=address").ok();
    assert_eq!(run(&one).stdout, "1\n");
    let served = run(&two);
    assert_eq!(served.all_hit().of("app").len(), 1);
    assert_eq!(served.stdout, "1\n");
    let program = two.target().join(host).join("debug/app");
    let text = fs::read(program).expect("read the program");
    assert!(text.windows(11).any(|window| window == b"__asan_init"));
}

/// `-Zbinary-dep-depinfo` names the dependencies' files and the standard library's in dep-info.
#[test]
fn a58_dep_info_names_libraries() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    served_twice(&lab, "-Zbinary-dep-depinfo", |two| {
        two.edit("gen/number.txt", "7", "8");
        two.cargo("run -Zbinary-dep-depinfo").same().not_hit("app");
    });
}

/// Builds everything with a flag of Cargo's, has a second checkout served, and lets `then` go on there.
fn served_twice(lab: &Lab, flag: &str, then: impl Fn(&Project<'_>)) {
    let one = lab.project("one", ALL_KINDS);
    let run = one.cargo(&format!("run {flag}")).same();
    assert_eq!(run.stdout, "14\n");
    one.nothing_to_do(&format!("build {flag}"));
    let two = one.checkout("two");
    two.cargo(&format!("run {flag}")).same().all_hit();
    two.nothing_to_do(&format!("build {flag}"));
    assert_no_mention(&two, one.dir());
    two.cargo(&format!("test --no-run {flag}")).ok();
    then(&two);
    two.nothing_to_do(&format!("build {flag}"));
}

/// A7, A58: Cargo goes by checksums instead of times: those of a restored unit are of this checkout's files. An edit that
/// keeps length and time is noticed, a new time alone is not.
#[test]
fn a58_checksums_of_a_restored_unit() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    // From 1.100 on the flag only allows it.
    lab.set_env("CARGO_BUILD_FINGERPRINT", "content");
    served_twice(&lab, "-Zchecksum-freshness", |two| {
        let dep_info = two.outputs(|name| name.starts_with("gen-") && name.ends_with(".d"));
        let text = fs::read_to_string(&dep_info[0]).expect("read a .d file");
        let sums =
            text.lines().filter_map(|line| line.strip_prefix("# checksum:blake3=")).collect::<Vec<_>>();
        let generated = sums.iter().any(|sum| sum.contains(&format!(" {}/", two.target().display())));
        assert!(sums.len() == 2 && generated, "{text}");
        let kept = two.mtime("mid/src/lib.rs");
        two.edit("mid/src/lib.rs", "twice!(gen::NUMBER)", "twice!(gen::NUMBER+1)");
        two.cargo("run -Zchecksum-freshness").same().not_hit("mid");
        two.edit("mid/src/lib.rs", "+1", "+3");
        two.set_mtime("mid/src/lib.rs", kept);
        let run = two.cargo("run -Zchecksum-freshness").same();
        assert_eq!(run.not_hit("mid").not_hit("app").of("gen").len(), 0, "{run}");
        assert_eq!(run.stdout, "20\n");
        two.touch("mid/src/lib.rs");
    });
}

/// A46: declared inputs get checksums, too; without them Cargo would compile every time.
#[test]
fn a46_declared_inputs_have_checksums() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    lab.set_env("CARGO_BUILD_FINGERPRINT", "content");
    let one = lab.project("one", PAIR);
    one.write("dep/kache.toml", "extra_inputs = [\"data/*.txt\"]\n");
    one.write("dep/data/a.txt", "1");
    one.cargo("run -Zchecksum-freshness").same();
    one.nothing_to_do("build -Zchecksum-freshness");
    let two = one.checkout("two");
    two.cargo("run -Zchecksum-freshness").same().all_hit();
    two.nothing_to_do("build -Zchecksum-freshness");
    two.write("dep/data/a.txt", "2");
    two.cargo("run -Zchecksum-freshness").same().not_hit("dep");
    two.nothing_to_do("build -Zchecksum-freshness");
}

/// How this Cargo is told to keep metadata out of libraries.
fn no_embedded_metadata() -> &'static str {
    let help = Command::new(&toolchain().cargo).args(["-Z", "help"]).env("RUSTC_BOOTSTRAP", "1").output();
    let help = String::from_utf8(help.expect("start cargo").stdout).expect("UTF-8");
    if help.contains("no-embed-metadata") { "-Zno-embed-metadata" } else { "-Zembed-metadata=no" }
}

/// Libraries in two files: links get both, both are served, and a change in one that is not named itself is noticed.
#[test]
fn libraries_without_embedded_metadata() {
    let lab = lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let flag = no_embedded_metadata();
    served_twice(&lab, flag, |two| {
        let of_gen = |name: &str| name.starts_with("libgen-");
        assert_eq!(two.outputs(|name| of_gen(name) && name.ends_with(".rmeta")).len(), 1);
        assert_eq!(two.outputs(|name| of_gen(name) && name.ends_with(".rlib")).len(), 1);
        two.write("gen/number.txt", "9\n");
        let run = two.cargo(&format!("run {flag}")).same();
        assert_eq!(run.not_hit("app").stdout, "18\n");
        two.write("gen/number.txt", "7\n");
        two.cargo(&format!("run {flag}")).same().outcome("app", "hit");
        two.wipe();
        two.cargo(&format!("run {flag}")).same().all_hit();
    });
}

/// Timings are of one compile: Cargo gets them from the compiler, and none from the store.
#[test]
fn timings_are_passed_on_and_not_kept() {
    let lab = lean_lab();
    lab.set_env("RUSTC_BOOTSTRAP", "1");
    let p = lab.project("w", PAIR);
    let build = "build --timings -Zsection-timings";
    p.cargo(build).ok().outcome("dep", "miss");
    let report = || fs::read_to_string(p.target().join("cargo-timings/cargo-timing.html")).expect("a report");
    assert!(report().contains("codegen"));
    p.wipe();
    p.cargo(build).ok().all_hit();
    assert!(report().contains("dep"));
    p.nothing_to_do(build);
    for entry in lab.entries() {
        let text = fs::read_to_string(entry).expect("read an entry");
        assert!(!text.contains("section_timing"), "{text}");
    }
    p.cargo("build").ok();
    p.cargo("run").same();
}

/// A41: how much fits on a command line depends on the limit for the stack and on the environment; what Cargo could
/// only say in a file, the compiler is told in a file.
#[test]
fn a41_arguments_that_the_kernel_refuses() {
    let lab = lean_lab();
    let one = lab.project("one", PAIR);
    let names: Vec<String> = (0..1500).map(|i| format!("a-feature-with-quite-a-long-name-{i}")).collect();
    let features: String = names.iter().map(|name| format!("{name} = []\n")).collect();
    let manifest = "[package]\nname = \"dep\"\nversion = \"0.1.0\"\nedition = \"2024\"\n[features]\n";
    one.write("dep/Cargo.toml", format!("{manifest}default = {names:?}\n{features}"));
    // 128 KiB is the least that the kernel grants.
    let build = |p: &Project<'_>| p.cargo("build").shell("ulimit -s 512").same();
    build(&one).outcome("dep", "miss");
    let two = one.checkout("two");
    build(&two).all_hit();
    one.wipe();
    one.cargo("run").same().outcome("dep", "hit");
}

/// A41: a file with a relative name, and in it a line that looks like another file.
#[test]
fn a41_argument_file_beside_the_sources() {
    let lab = lean_lab();
    let call = library_call(&lab);
    let dir = out_dir(&call);
    let in_file = |extra: &[&str]| {
        let mut call = call.clone();
        let args: Vec<String> = call.args.drain(1..).map(|arg| arg.into_string().expect("UTF-8")).collect();
        let extra = extra.iter().map(|arg| (*arg).to_owned());
        lab.write("w/some args", args.into_iter().chain(extra).collect::<Vec<_>>().join("\n"));
        call.args.push("@some args".into());
        through_kache_into(&lab, &call, &dir).outcome
    };
    assert_eq!(through_kache(&lab, &call).outcome, "miss");
    assert_eq!(in_file(&[]), "hit");
    assert_eq!([in_file(&["-L", "@w"]), in_file(&["-L", "@w"])], ["dup", "hit"]);
}
