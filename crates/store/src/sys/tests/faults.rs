//! Where observation is refused or falls apart, the command runs all the same.

use super::helper::{self, Role};
use super::*;

fn succeeds(role: Role) {
    let output = helper::command(role).output().expect("ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn a_nested_observation_is_none() {
    let Some((status, _)) = observe(helper::command(Role::Unobserved), Scope::default()) else { return };
    assert!(status.success());
}

#[test]
fn no_seccomp_at_all() {
    succeeds(Role::WithoutSeccomp);
}

#[test]
fn no_new_filters() {
    succeeds(Role::WithoutFilters);
}

#[test]
fn a_listener_that_can_not_be_sent() {
    succeeds(Role::WithoutMessages);
}

#[test]
fn a_listener_that_can_not_be_received() {
    succeeds(Role::WithoutReceipt);
}

#[test]
fn descriptors_run_out() {
    succeeds(Role::FewDescriptors);
}

#[test]
fn no_process_can_be_read() {
    succeeds(Role::WithoutMemory);
}

#[test]
fn a_process_that_can_not_be_read_makes_the_observation_incomplete() {
    let Some((status, observation)) = observe(helper::command(Role::Hidden), Scope::default()) else {
        return;
    };
    assert!(status.success());
    // Nothing is hidden from root, who may trace anyone.
    assert!(observation.unreadable > 0 && !observation.is_complete() || rustix::process::geteuid().is_root());
}
