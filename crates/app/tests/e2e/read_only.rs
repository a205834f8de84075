//! Jobs for pull requests pull and never push, and say so; nothing that they owe or find owed leaves the machine.

use kache_testkit::S3;

use crate::daemon::{Machine, of_kind, within};
use crate::fixtures::PAIR;
use crate::remote::{machine, moved_with, ok};
use crate::support::Outcomes as _;

#[test]
fn a_job_for_a_pull_request_pulls_and_never_pushes() {
    for (variable, value) in [("GITHUB_EVENT_NAME", "pull_request"), ("KACHE_READ_ONLY", "1")] {
        let server = S3::start();
        let main = machine(&server);
        let one = main.project("one", PAIR);
        one.cargo("build").ok();
        ok(&one, "sync --push");
        ok(&one, "save-manifest");
        let job = machine(&server);
        job.set_env(variable, value);
        let two = moved_with(&job, &one, PAIR);
        let said = ok(&two, "sync");
        assert!(said.contains("Pulled 2 entries") && said.contains("Nothing is pushed"), "{said}");
        assert!(said.contains(variable), "{said}");
        two.cargo("build").ok().all_hit();
        two.cargo("build --release").ok();
        server.forget();
        for args in ["sync --push", "sync --push --all", "save-manifest"] {
            let said = ok(&two, args);
            assert!(said.contains("Nothing is"), "{args}: {said}");
        }
        assert_eq!(server.count("PUT", ""), 0);
        job.set_env("KACHE_READ_ONLY", "0");
        let said = ok(&two, "sync --push");
        assert!(!said.contains("Nothing is pushed"), "{said}");
        assert!(server.count("PUT", "/packs/") > 0, "{said}");
    }
}

#[test]
fn a_daemon_of_such_a_job_serves_and_uploads_nothing_until_a_build_may_write() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("CI_MERGE_REQUEST_IID", "7");
    let one = machine.project("one", PAIR);
    let built = one.cargo("build").ok();
    assert_eq!((built.tally().hits, machine.queue().len()), (0, 0), "{built}");
    let said = machine.daemon("status");
    assert!(said.contains("CI_MERGE_REQUEST_IID"), "{said}");
    assert_eq!(server.count("PUT", ""), 0);
    // The next job on this machine is one of the main branch.
    machine.set_env("CI_MERGE_REQUEST_IID", "");
    one.edit("dep/src/lib.rs", "1", "2");
    one.cargo("build").ok();
    within("what the main branch built", || of_kind(&server, "/manifests/dep/") == 1);
}
