//! Settings and commands that change what the wrapper does or show what it did.

use crate::fixtures::{ALL_KINDS, PAIR};
use crate::support::{Outcomes, lean_lab};

fn text(output: &std::process::Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// `KACHE_DISABLED`: everything passes through, nothing is stored.
#[test]
fn disabled_by_variable() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    for value in ["1", "true"] {
        p.cargo("run").env("KACHE_DISABLED", value).same();
        p.wipe();
    }
    assert_eq!((lab.blobs().len(), lab.entries().len()), (0, 0));
    p.cargo("run").env("KACHE_DISABLED", "0").same();
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// `cache.exclude`: crates whose source matches pass through.
#[test]
fn excluded_by_config() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    let config = lab.write("kache.config.toml", "[cache]\nexclude = [\"**/mid/**\"]\n");
    lab.set_env("KACHE_CONFIG", config);
    for _ in 0..2 {
        p.wipe();
        p.cargo("run").same().bypassed("mid", "excluded").outcome("app", "miss");
        p.wipe();
        let run = p.cargo("run").same();
        run.bypassed("mid", "excluded").outcome("gen", "hit");
        lab.clear_cache();
    }
}

/// A config that can't be read is counted and the build goes on; a value that can't be understood as well.
#[test]
fn broken_config_is_counted_and_the_build_goes_on() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    for content in ["[cache\n", "[cache]\nlocal_max_size = \"a lot\"\n", "[cache]\nno_such_key = 1\n"] {
        lab.set_env("KACHE_CONFIG", lab.write("kache.config.toml", content));
        p.wipe();
        p.cargo("run").same();
        let output = lab.cli(&["stats"]);
        assert!(!output.status.success(), "{content:?} is no error for a command: {output:?}");
    }
    lab.set_env("KACHE_CONFIG", lab.root().join("no such file"));
    p.wipe();
    p.cargo("run").same();
}

/// `KACHE_CACHE_EXECUTABLES=0`: programs and tests pass through, build scripts and macros don't.
#[test]
fn executables_not_wanted() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    lab.set_env("KACHE_CACHE_EXECUTABLES", "0");
    for _ in 0..2 {
        p.wipe();
        p.cargo("run").same().bypassed("app", "executable");
    }
    p.cargo("run").same();
    p.wipe();
    p.cargo("run").same().outcome("mac", "hit").outcome("build_script_build", "hit");
}

/// `KACHE_LOG`: to a file, never into Cargo's streams.
#[test]
fn log_goes_to_its_file() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let log = lab.root().join("kache.log");
    p.cargo("run").env("KACHE_LOG", "trace").env("KACHE_LOG_FILE", &log).ok();
    assert!(log.metadata().is_ok_and(|data| data.len() > 0), "nothing was logged");
    p.wipe();
    lab.set_env("KACHE_LOG", "trace");
    lab.set_env("KACHE_LOG_FILE", &log);
    p.cargo("run").same();
    let odd = lab.root().join("odd.log");
    p.wipe();
    p.cargo("run").env("KACHE_LOG", "a=b=c=d").env("KACHE_LOG_FILE", &odd).ok();
    let text = std::fs::read_to_string(&odd).expect("log");
    assert!(text.contains("\"a=b=c=d\" is not valid"), "{text}");
}

/// E7: secrets in the environment are in no log and no journal.
#[test]
fn e7_secrets_are_not_written_down() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    let log = lab.root().join("kache.log");
    let secrets = [
        ("CARGO_REGISTRIES_MINE_TOKEN", "s3cr3t-one"),
        ("KACHE_S3_SECRET_KEY", "s3cr3t-two"),
        ("AWS_SECRET_ACCESS_KEY", "s3cr3t-three"),
    ];
    p.cargo("run").envs(&secrets).env("KACHE_LOG", "trace").env("KACHE_LOG_FILE", &log).ok();
    for file in kache_testkit::walk(lab.cache_dir()).into_iter().chain([log]) {
        let content = String::from_utf8_lossy(&std::fs::read(&file).unwrap_or_default()).into_owned();
        assert!(!content.contains("s3cr3t"), "{} holds a secret", file.display());
    }
}

/// `kache stats` and `kache list` tell what the journal tells.
#[test]
fn stats_and_list() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").ok();
    p.wipe();
    let warm = p.cargo("run").ok();
    let stats = text(&lab.cli(&["stats"]));
    for number in [warm.tally().hits, 5] {
        assert!(stats.contains(&number.to_string()), "no {number} in\n{stats}");
    }
    let last = text(&lab.cli(&["stats", "--last-build"]));
    assert!(last.to_lowercase().contains("hit"), "{last}");
    let list = text(&lab.cli(&["list"]));
    for name in ["gen", "mac", "mid", "app"] {
        assert!(list.contains(name), "no {name} in\n{list}");
    }
    let one = text(&lab.cli(&["list", "mid"]));
    assert!(one.contains("mid") && !one.contains("gen"), "{one}");
}

/// `kache purge`: one crate, then everything.
#[test]
fn purge() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").ok();
    text(&lab.cli(&["purge", "-y", "--crate-name", "mid"]));
    p.wipe();
    p.cargo("run").same().not_hit("mid").outcome("gen", "hit").outcome("mac", "hit");
    text(&lab.cli(&["purge", "-y"]));
    assert!(lab.entries().is_empty(), "entries are left");
    p.wipe();
    assert_eq!(p.cargo("run").same().tally().hits, 0);
}

/// `kache gc`: shows and does what is due by age; what is in use stays.
#[test]
fn gc() {
    let lab = lean_lab();
    let p = lab.project("w", PAIR);
    p.cargo("run").ok();
    text(&lab.cli(&["gc"]));
    p.wipe();
    p.cargo("run").same().all_hit();
    let entries = lab.entries().len();
    let dry = text(&lab.cli(&["gc", "--max-age", "0s", "--dry-run"]));
    assert!(dry.contains("entries, ") && dry.contains(" of 50.0 GiB"), "{dry}");
    assert_eq!(lab.entries().len(), entries, "a dry run removed something");
    text(&lab.cli(&["gc", "--max-age", "7d"]));
    assert_eq!(lab.entries().len(), entries, "young entries were removed");
    for entry in lab.entries() {
        let made = std::time::SystemTime::now() - std::time::Duration::from_secs(40 * 60);
        let file = std::fs::File::options().append(true).open(entry).expect("open an entry");
        file.set_modified(made).expect("date an entry");
    }
    p.wipe();
    p.cargo("run").same().all_hit();
    text(&lab.cli(&["gc", "--max-age", "30m"]));
    assert_eq!(lab.entries().len(), entries, "entries that were used just now were removed");
    p.wipe();
    p.cargo("run").same().all_hit();
}

/// `kache report`: one build after the other, each crate in it, in every form.
#[test]
fn report() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("run").ok();
    p.wipe();
    let warm = p.cargo("run").ok();
    let json: serde_json::Value =
        serde_json::from_str(&text(&lab.cli(&["report", "--format", "json"]))).expect("JSON");
    let builds = json["builds"].as_array().expect("builds");
    assert_eq!(builds.len(), 2, "{json:#}");
    assert_eq!(builds[1]["totals"]["outcomes"]["hit"], warm.tally().hits);
    assert!(
        builds[0]["calls"].as_array().is_some_and(|calls| calls.iter().any(|call| call["crate"] == "mid"))
    );
    for format in ["text", "markdown", "github", "html", "perfetto"] {
        let file = lab.root().join(format);
        text(&lab.cli(&["report", "--format", format, "--output", file.to_str().expect("UTF-8")]));
        let written = std::fs::read_to_string(&file).expect("the report");
        assert!(written.contains("mid") && !written.contains('\u{1b}'), "{format}: {written}");
    }
    let last = text(&lab.cli(&["report", "--last-build"]));
    assert!(last.contains("100.0 %"), "{last}");
}

/// A wrapper between Cargo and kache, as a script or cargo-llvm-cov is one, takes no build apart: each of its processes has
/// another parent.
#[cfg(target_os = "linux")]
#[test]
fn a_wrapper_in_front_does_not_take_a_build_apart() {
    let lab = lean_lab();
    let me = lab.wrapper().display().to_string();
    let script = lab.write_program("in front", format!("#!/bin/sh\n\"{me}\" \"$@\"\nexit $?\n"));
    let p = lab.project("w", ALL_KINDS);
    let cold = p.cargo("build").wrapper(&script).ok();
    let calls = cold.tally().hits + cold.tally().misses;
    assert!(calls > 4, "{cold}");
    let said = text(&lab.cli(&["stats", "--last-build"]));
    assert!(
        said.contains(" in 1 build(s)") && said.contains(&format!("Served 0 of {calls} compiles")),
        "{said}"
    );
    p.wipe();
    p.cargo("build").wrapper(&script).ok().all_hit();
    let said = text(&lab.cli(&["stats", "--last-build"]));
    assert!(
        said.contains(" in 1 build(s)") && said.contains(&format!("Served {calls} of {calls} compiles")),
        "{said}"
    );
}

/// Every event of a CI job carries the job's mark.
#[test]
fn a_job_is_told_of_alone() {
    let lab = lean_lab();
    let p = lab.project("w", ALL_KINDS);
    p.cargo("build").env("CI_JOB_ID", "1").ok();
    p.wipe();
    let warm = p.cargo("build").env("CI_JOB_ID", "2").ok();
    warm.all_hit();
    lab.set_env("CI_JOB_ID", "2");
    let json: serde_json::Value = serde_json::from_str(&text(&lab.cli(&["stats", "--json"]))).expect("JSON");
    assert_eq!(
        (&json["period"], &json["served"]["compiles_of"]),
        (&"job".into(), &warm.tally().hits.into()),
        "{json:#}"
    );
    let all: serde_json::Value =
        serde_json::from_str(&text(&lab.cli(&["stats", "--since", "1h", "--json"]))).expect("JSON");
    assert_eq!(all["served"]["compiles_of"].as_u64(), Some(2 * warm.tally().hits as u64), "{all:#}");
    lab.set_env("CI_JOB_ID", "3");
    assert!(text(&lab.cli(&["report"])).to_lowercase().contains("no compiler calls"));
}

/// `kache` bare prints help, an unknown command is an error, neither touches anything.
#[test]
fn bare_and_unknown_commands() {
    let lab = lean_lab();
    assert!(text(&lab.cli(&[])).contains("Usage"));
    assert!(!lab.cli(&["no-such-command"]).status.success());
    assert!(!lab.cli(&["gc", "--max-age", "a while"]).status.success());
}
