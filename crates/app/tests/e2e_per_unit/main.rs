//! The end-to-end tests once more in Cargo's layout with a directory for each unit. The tests are those of `../e2e`; what
//! doesn't depend on where Cargo keeps things (command line, settings, resources, random deaths) runs there alone.

#[path = "../e2e/fixtures.rs"]
mod fixtures;
#[path = "../e2e/support.rs"]
mod support;

#[path = "../e2e/build_scripts.rs"]
mod build_scripts;
#[path = "../e2e/check_clippy.rs"]
mod check_clippy;
#[path = "../e2e/concurrency.rs"]
mod concurrency;
#[cfg(debug_assertions)]
#[path = "../e2e/crash.rs"]
mod crash;
#[path = "../e2e/daemon.rs"]
mod daemon;
#[path = "../e2e/depinfo.rs"]
mod depinfo;
#[path = "../e2e/editing.rs"]
mod editing;
#[path = "../e2e/file_systems.rs"]
mod file_systems;
#[path = "../e2e/freshness.rs"]
mod freshness;
#[path = "../e2e/hits.rs"]
mod hits;
#[path = "../e2e/keys.rs"]
mod keys;
#[path = "../e2e/layouts.rs"]
mod layouts;
#[path = "../e2e/linked.rs"]
mod linked;
#[path = "../e2e/macros.rs"]
mod macros;
#[path = "../e2e/native.rs"]
mod native;
#[path = "../e2e/outputs.rs"]
mod outputs;
#[path = "../e2e/paths.rs"]
mod paths;
#[path = "../e2e/remote.rs"]
mod remote;
#[path = "../e2e/scripted.rs"]
mod scripted;
#[path = "../e2e/seeding.rs"]
mod seeding;
#[path = "../e2e/seeding_daemon.rs"]
mod seeding_daemon;
#[path = "../e2e/seeding_doubts.rs"]
mod seeding_doubts;
#[path = "../e2e/seeding_hidden.rs"]
mod seeding_hidden;
#[path = "../e2e/seeding_remote.rs"]
mod seeding_remote;
#[path = "../e2e/seeding_stories.rs"]
mod seeding_stories;
#[path = "../e2e/tampered.rs"]
mod tampered;
#[path = "../e2e/toolchains.rs"]
mod toolchains;
#[path = "../e2e/verify.rs"]
mod verify;
#[path = "../e2e/why_miss.rs"]
mod why_miss;
