//! Sharing through what isn't a bucket of S3: a folder, web servers that know more or less of WebDAV, and clouds. What one machine made,
//! another doesn't compile, by commands and by the daemon.

use kache_testkit::{Azure, GitHub, Google, Manners, Web};

use crate::daemon::Machine;
use crate::fixtures::ALL_KINDS;
use crate::remote::{command, machine_with, moved, ok};
use crate::support::Outcomes as _;

/// A folder, as variables.
fn folder(dir: &tempfile::TempDir) -> Vec<(&'static str, String)> {
    vec![("KACHE_REMOTE_PATH", dir.path().display().to_string())]
}

/// After `save-manifest`, a fresh machine pulls what the build needs and compiles nothing.
fn serves_a_saved_build(env: &[(&'static str, String)]) {
    serves_a_saved_build_to(env, env);
}

fn serves_a_saved_build_to(env: &[(&'static str, String)], to: &[(&'static str, String)]) {
    let here = machine_with(env.to_vec());
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let said = ok(&one, "sync --push");
    assert!(said.contains("Pushed ") && (env != to || !said.contains("Pushed 0 entries")), "{said}");
    assert!(ok(&one, "sync --push").contains("Pushed 0 entries"));
    ok(&one, "save-manifest --namespace main");

    for pull in ["sync --pull", "sync --pull --manifest-key none"] {
        let there = machine_with(to.to_vec());
        let two = moved(&there, &one);
        let said = ok(&two, pull);
        // Without a saved build only a listing tells what there is.
        if pull.contains("none") && env[0].0 == "KACHE_REMOTE_URL" {
            assert!(said.contains("`kache save-manifest`") && said.contains("Pulled 0 entries"), "{said}");
            continue;
        }
        two.cargo("build").ok().all_hit();
        two.cargo("run").same();
        two.nothing_to_do("build");
        assert!(ok(&two, "sync").contains("Pulled 0 entries"));
    }
}

#[test]
fn a_fresh_machine_pulls_from_a_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    serves_a_saved_build(&folder(&dir));
}

#[test]
fn a_fresh_machine_pulls_from_web_servers() {
    for manners in [Manners::Heedless, Manners::Formal] {
        let server = Web::start(manners);
        serves_a_saved_build(&server.env());
        assert!(server.seen().iter().all(|seen| seen.query.is_empty() && seen.method != "PROPFIND"));
    }
}

/// Nobody said a word about transfers: the daemons of two machines share by themselves.
fn serves_through_daemons(env: &[(&'static str, String)]) {
    let here = Machine::with(env.to_vec());
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    here.finish_uploads();
    let there = Machine::with(env.to_vec());
    let two = moved(&there, &one);
    let served = two.cargo("build").ok();
    let tally = served.tally();
    assert!(tally.hits * 100 >= tally.total() * 95, "{served}");
    let is_from_there = |source: &serde_json::Value| source == "remote" || source == "prefetch";
    assert!(served.events.iter().any(|event| is_from_there(&event.json["source"])), "{served}");
    two.cargo("run").same();
    two.nothing_to_do("build");
}

#[test]
fn daemons_share_through_a_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    serves_through_daemons(&folder(&dir));
}

#[test]
fn a_fresh_machine_pulls_from_clouds() {
    let (google, azure) = (Google::start(), Azure::start());
    serves_a_saved_build(&google.env());
    serves_a_saved_build(&azure.env());
}

/// A job saves a build; another one and one for a pull request compile nothing, and few requests are counted.
#[test]
fn a_fresh_job_pulls_from_the_cache_service_of_github() {
    let server = GitHub::start();
    serves_a_saved_build(&server.env());
    assert!(server.names().len() <= 4, "{:?}", server.names());
    assert!(server.requests() < 60, "{}", server.requests());
    // What the pull request adds is for itself.
    serves_a_saved_build_to(&server.env(), &server.env_of_pull_request());
}

#[test]
fn daemons_share_through_the_cache_service_of_github() {
    let server = GitHub::start();
    serves_through_daemons(&server.env());
    let names = server.names();
    assert!(names.len() <= 20, "{names:?}");
}

/// The daemon gets what says whose credentials are used.
#[test]
fn daemons_share_through_clouds() {
    let (google, azure) = (Google::start(), Azure::start());
    serves_through_daemons(&google.env_with(&google.federation()));
    serves_through_daemons(&azure.env_with_string());
}

#[test]
fn daemons_share_through_a_web_server() {
    serves_through_daemons(&Web::start(Manners::Heedless).env());
}

/// A server that takes no uploads serves what is there; who pushes is told.
#[test]
fn a_web_server_that_only_gives_is_enough_to_pull_from() {
    let dir = tempfile::tempdir().expect("temp dir");
    let server = Web::start(Manners::ReadOnly);
    let here = machine_with(folder(&dir));
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    ok(&one, "sync --push");
    ok(&one, "save-manifest");
    std::os::unix::fs::symlink(dir.path().join("artifacts"), server.dir().join("artifacts")).expect("linked");
    let there = machine_with(server.env());
    let two = moved(&there, &one);
    ok(&two, "sync --pull");
    two.cargo("build").ok().all_hit();
    two.cargo("build --release").ok();
    let pushed = command(&two, "sync --push").output().expect("kache runs");
    let said = String::from_utf8_lossy(&pushed.stderr);
    assert!(pushed.status.code() == Some(1) && said.contains("KACHE_READ_ONLY=1 only reads"), "{said}");
}
