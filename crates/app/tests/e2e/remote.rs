//! Sharing through a bucket: what one machine pushed, another pulls and doesn't compile. The bucket is a real S3 server
//! in the test's process; a machine is a sandbox of its own.

use std::process::{Command, Output};

use kache_testkit::{Mischief, Project, S3};

use crate::fixtures::ALL_KINDS;
use crate::support::{Lab, Outcomes as _, lean_lab};

/// A machine that shares through the server, by commands only.
pub fn machine(server: &S3) -> Lab {
    machine_with(server.env())
}

/// The same, through what these variables name.
pub fn machine_with(env: Vec<(&'static str, String)>) -> Lab {
    let lab = lean_lab();
    for (name, value) in env {
        lab.set_env(name, value);
    }
    // What is transferred here, commands transfer.
    lab.set_env("KACHE_DAEMON", "0");
    lab
}

/// A command of kache, to be run in a project.
pub fn command(project: &Project<'_>, args: &str) -> Command {
    let sandbox = project.sandbox();
    let mut command = sandbox.command(sandbox.wrapper());
    command.current_dir(project.dir()).args(args.split_whitespace());
    command
}

/// Runs it.
fn kache(project: &Project<'_>, args: &str) -> Output {
    command(project, args).output().expect("kache runs")
}

/// The same; it must succeed. What it said.
#[track_caller]
pub fn ok(project: &Project<'_>, args: &str) -> String {
    let output = kache(project, args);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "kache {args}: {said}");
    said
}

/// The same project on another machine, elsewhere, with the same lockfile.
pub fn moved<'l>(lab: &'l Lab, project: &Project<'_>) -> Project<'l> {
    moved_with(lab, project, ALL_KINDS)
}

/// The same, of a project with these files.
pub fn moved_with<'l>(lab: &'l Lab, project: &Project<'_>, files: &[(&str, &str)]) -> Project<'l> {
    let other = lab.project("quite/another/place", files);
    other.write("Cargo.lock", std::fs::read(project.path("Cargo.lock")).expect("a lockfile"));
    other
}

/// What was built before there was a remote serves another machine, with another home, as what was built with it.
#[test]
fn what_was_built_before_there_was_a_remote_is_shared() {
    let server = S3::start();
    let here = lean_lab();
    let there = machine(&server);
    let home = there.make_cargo_home("another/home/.cargo");
    there.set_env("CARGO_HOME", &home);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build --tests").ok();
    for (name, value) in server.env() {
        here.set_env(name, value);
    }
    here.set_env("KACHE_DAEMON", "0");
    one.wipe();
    one.cargo("build --tests").same().all_hit();
    ok(&one, "sync --push");
    let two = moved(&there, &one);
    ok(&two, "sync --pull");
    two.cargo("build --tests").same().all_hit();
    one.wipe();
    one.cargo("build --tests").env("KACHE_LOCAL_ONLY", "1").same().all_hit();
}

/// After `save-manifest`, a fresh machine pulls exactly what the build needs without a listing, and compiles nothing.
#[test]
fn a_fresh_machine_pulls_a_saved_build_and_compiles_nothing() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    // What would be pushed is what is pushed then, to the byte.
    let [planned, pushed] = ["sync --push --dry-run --json", "sync --push --json"].map(|args| {
        let json: serde_json::Value = serde_json::from_slice(&kache(&one, args).stdout).expect("JSON");
        json["push"].clone()
    });
    assert_eq!(planned, pushed);
    assert!(pushed["bytes"].as_u64() > Some(1000), "{pushed:#}");
    ok(&one, "save-manifest");
    server.forget();
    let again = ok(&one, "sync --push");
    assert!(again.contains("Pushed 0 entries"), "{again}");
    assert_eq!(server.count("PUT", ""), 0);
    assert_eq!(server.seen().len(), 1, "what was pushed is remembered, and one of it looked at");

    let there = machine(&server);
    let two = moved(&there, &one);
    server.forget();
    let said = ok(&two, "sync --pull");
    assert_eq!(server.count("GET", "list-type=2"), 0, "{said}");
    let packs = server.count("GET", "/packs/");
    assert_eq!(packs, server.names().iter().filter(|name| name.contains("/packs/")).count());
    let built = two.cargo("build").ok();
    built.all_hit();
    // What came from there is there.
    server.forget();
    let said = ok(&two, "sync --push");
    assert!(said.contains("Pushed 0 entries"), "{said}");
    assert_eq!(server.seen().len(), 1, "{said}");
    assert!(built.tally().results() >= packs);
    two.cargo("run").same();
    two.nothing_to_do("build");
    server.forget();
    let said = ok(&two, "sync --pull");
    assert!(said.contains("Pulled 0 entries"), "{said}");
    assert_eq!(server.count("GET", "/packs/"), 0);
    let output = kache(&two, "sync --json");
    let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&value["pull"]["entries"], &value["failed"]), (&0.into(), &0.into()), "{value:#}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/schema/sync-v1.json");
    let schema: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path).expect("schema")).expect("JSON");
    let names =
        |value: &serde_json::Value| value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&value), names(&schema["properties"]));
    assert_eq!(names(&value["pull"]), names(&schema["properties"]["pull"]["properties"]));
    assert_eq!(
        (&value["pull"]["known"], &value["push"]["known"]),
        (&packs.into(), &packs.into()),
        "{value:#}"
    );
}

/// Each job builds its own profile with the same lockfile, and saves; whoever comes next has what all of them saved.
#[test]
fn what_several_jobs_saved_serves_them_all() {
    let server = S3::start();
    let debug = machine(&server);
    let one = debug.project("one", ALL_KINDS);
    let release = machine(&server);
    one.cargo("build").ok();
    let two = moved(&release, &one);
    two.cargo("build --release").ok();
    for job in [&one, &two] {
        ok(job, "sync --push");
        ok(job, "save-manifest --namespace main");
    }
    for pull in ["sync --pull", "sync --pull --manifest-key none --namespace main"] {
        let next = machine(&server);
        let three = moved(&next, &one);
        let said = ok(&three, pull);
        // A shard is found under the manifest key that it was saved with.
        let is_found = !pull.contains("none");
        assert_eq!(said.contains("A saved build"), is_found, "{said}");
        three.cargo("build --release").ok().all_hit();
        three.cargo("build").ok().all_hit();
    }
}

/// Cargo's lockfile says which packages are meant; without it, what was used in the workspace is.
#[test]
fn a_workspace_without_a_lockfile_saves_what_was_used() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let lock = std::fs::read(one.path("Cargo.lock")).expect("a lockfile");
    std::fs::remove_file(one.path("Cargo.lock")).expect("removed");
    ok(&one, "sync --push");
    let said = ok(&one, "save-manifest --namespace main");
    assert!(said.contains("no shard") && said.contains("Saved "), "{said}");
    assert!(!server.names().iter().any(|name| name.contains("/shards/")));

    let there = machine(&server);
    let two = there.project("quite/another/place", ALL_KINDS);
    server.forget();
    ok(&two, "sync --pull");
    assert_eq!(server.count("GET", "list-type=2"), 0);
    two.write("Cargo.lock", lock);
    two.cargo("build").ok().all_hit();
    // Nothing to go by at all.
    std::fs::remove_file(two.path("Cargo.lock")).expect("removed");
    let output = kache(&two, "sync --pull --manifest-key other");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && said.contains("cargo generate-lockfile"), "{said}");
}

/// Without a saved build: one listing for each package of the lockfile, nothing of other versions.
#[test]
fn without_a_saved_build_the_packages_of_the_lockfile_are_listed() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let other = here.project(
        "other",
        &[
            ("Cargo.toml", "[package]\nname = \"stranger\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ("src/lib.rs", "pub fn f() {}\n"),
        ],
    );
    other.cargo("build").ok();
    ok(&one, "sync --push");
    ok(&other, "sync --push");

    let there = machine(&server);
    let two = moved(&there, &one);
    server.forget();
    let dry = ok(&two, "sync --pull --dry-run");
    assert!(dry.contains("Would pull "), "{dry}");
    assert_eq!(server.count("GET", "/packs/"), 0);
    server.forget();
    ok(&two, "sync --pull");
    let lock = std::fs::read_to_string(two.path("Cargo.lock")).expect("a lockfile");
    assert_eq!(server.count("GET", "list-type=2"), lock.matches("[[package]]").count());
    assert_eq!(server.count("GET", "stranger/"), 0);
    two.cargo("build").ok().all_hit();
    let all = ok(&two, "sync --pull --all");
    assert!(all.contains("Pulled 1 entry"), "{all}");
}

/// A transfer that fails is told, the others go on, the exit code says it, and the next run finishes the work.
#[test]
fn a_failed_transfer_is_told_and_a_second_run_finishes() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    ok(&one, "sync --push");
    ok(&one, "save-manifest");
    let victim = server.names().into_iter().find(|name| name.contains("/packs/")).expect("a pack");
    let path = server.bucket_dir().join(&victim);
    let pack = std::fs::read(&path).expect("read");
    std::fs::write(&path, &pack[..pack.len() / 2]).expect("write");

    let there = machine(&server);
    let two = moved(&there, &one);
    let output = kache(&two, "sync --pull");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("one transfer failed") && said.contains(&victim), "{said}");
    std::fs::write(&path, &pack).expect("write");
    let said = ok(&two, "sync --pull");
    assert!(said.contains("Pulled 1 entry"), "{said}");
    two.cargo("build").ok().all_hit();

    // A flipped bit: another machine refuses the pack, compiles, and does what it was told: its push replaces it.
    let mut flipped = pack.clone();
    flipped[pack.len() / 2] ^= 1;
    std::fs::write(&path, &flipped).expect("write");
    let third = machine(&server);
    let three = moved(&third, &one);
    let said = String::from_utf8_lossy(&kache(&three, "sync --pull").stderr).into_owned();
    assert!(said.contains("damaged or changed") && said.contains("push of that entry from this"), "{said}");
    three.cargo("build").ok();
    let said = ok(&three, "sync --push");
    assert!(said.contains("Pushed 1 entry"), "{said}");
    let said = ok(&three, "sync --push");
    assert!(said.contains("Pushed 0 entries"), "{said}");
    let fourth = machine(&server);
    let four = moved(&fourth, &one);
    ok(&four, "sync --pull");
    four.cargo("build").ok().all_hit();
}

/// A compile that read a credential stays on its machine; nothing of it reaches the bucket.
#[test]
fn what_read_a_credential_stays_here() {
    let server = S3::start();
    let here = machine(&server);
    here.set_env("DEPLOY_TOKEN", "swordfish-12345");
    let one = here.project(
        "one",
        &[
            ("Cargo.toml", "[package]\nname = \"leaky\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ("src/lib.rs", "pub const T: Option<&str> = option_env!(\"DEPLOY_TOKEN\");\n"),
        ],
    );
    one.cargo("build").ok();
    let said = ok(&one, "sync --push");
    assert!(said.contains("DEPLOY_TOKEN") && !said.contains("swordfish"), "{said}");
    // Nor its key, by way of what builds used.
    let said = String::from_utf8_lossy(&kache(&one, "save-manifest").stderr).into_owned();
    assert!(said.contains("no build of this workspace"), "{said}");
    assert_eq!(server.names(), Vec::<String>::new());
}

/// A digest of an address with a password in it can be guessed at, so nothing that follows from it leaves the machine,
/// unless the user says that it is no credential.
#[test]
fn the_address_of_a_database_stays_here_unless_it_may_be_known() {
    let server = S3::start();
    let here = machine(&server);
    here.set_env("DATABASE_URL", "postgres://me:swordfish@db/app");
    let one = here.project(
        "one",
        &[
            ("Cargo.toml", "[package]\nname = \"queries\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
            ("src/lib.rs", "pub const URL: Option<&str> = option_env!(\"DATABASE_URL\");\n"),
        ],
    );
    one.cargo("build").ok();
    let said = ok(&one, "sync --push");
    assert!(said.contains("DATABASE_URL") && !said.contains("swordfish"), "{said}");
    assert_eq!(server.names(), Vec::<String>::new());
    here.set_env("KACHE_S3_SECRET_ENV", "!DATABASE_URL");
    let said = ok(&one, "sync --push");
    assert!(said.contains("Pushed 1 entry"), "{said}");
}

/// Lasting trouble ends a sync at once, with its name and what to do; builds don't mind.
#[test]
fn lasting_trouble_is_named_once_and_builds_go_on() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    here.set_env("KACHE_S3_CONCURRENCY", "1");
    server.arrange("HEAD", "", 1000, Mischief::Status(403, "AccessDenied"));
    server.arrange("PUT", "", 1000, Mischief::Status(403, "AccessDenied"));
    let output = kache(&one, "sync --push");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("s3:PutObject") && said.contains("not begun"), "{said}");
    assert!(!said.contains(S3::SECRET_KEY), "{said}");
    here.set_env("KACHE_S3_ENDPOINT", "http://127.0.0.1:9");
    let two = moved(&here, &one);
    two.cargo("build").ok().all_hit();
}

/// Runs a command of kache and follows how much memory it has used at most, in MiB.
fn peak_mib(project: &Project<'_>, args: &str) -> u64 {
    let mut child = command(project, args).stderr(std::process::Stdio::null()).spawn().expect("kache runs");
    let mut peak_kib = 0;
    loop {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak_kib = kib.unwrap_or(0).max(peak_kib);
        if let Some(ended) = child.try_wait().expect("waited") {
            assert!(ended.success() && peak_kib > 0, "kache {args}: {ended}");
            return peak_kib >> 10;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
}

/// Many transfers at a time don't add up: a hundred MiB of packs that nothing compresses, each small enough to travel
/// from memory, all at once.
#[test]
fn memory_is_bounded_whatever_the_concurrency() {
    const MEMBERS: usize = 32;
    let server = S3::start();
    let here = machine(&server);
    here.set_env("KACHE_S3_CONCURRENCY", "512");
    let one = here.project("one", &[("Cargo.toml", "[workspace]\nmembers = [\"m*\"]\nresolver = \"3\"\n")]);
    let mut state = 1u64;
    for i in 0..MEMBERS {
        let data = (0..3 << 17).flat_map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        });
        one.write(&format!("m{i}/data"), data.collect::<Vec<u8>>());
        one.write(
            &format!("m{i}/Cargo.toml"),
            format!("[package]\nname = \"m{i}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n"),
        );
        one.write(&format!("m{i}/src/lib.rs"), "pub static DATA: &[u8] = include_bytes!(\"../data\");\n");
    }
    one.cargo("build").ok();
    let pushing = peak_mib(&one, "sync --push");
    assert_eq!(server.names().iter().filter(|name| name.contains("/packs/")).count(), MEMBERS);
    let there = machine(&server);
    there.set_env("KACHE_S3_CONCURRENCY", "512");
    let two = there.project("two", &[]);
    let pulling = peak_mib(&two, "sync --pull --all");
    assert!(pushing < 256 && pulling < 256, "{pushing} MiB for the push, {pulling} MiB for the pull");
}
