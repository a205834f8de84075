//! What is seen, and in what form.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;

use super::super::AccessKind::{Exec, Link, List, Probe, Read, Update, Write};
use super::helper::{self, Role};
use super::*;

#[test]
fn files_directories_and_failed_attempts_of_a_shell_and_its_children() {
    let (_guard, here) = sandbox();
    fs::create_dir_all(here.join("sub/listed")).expect("created");
    fs::write(here.join("file"), "text").expect("written");
    symlink("sub/listed", here.join("link")).expect("linked");
    let script = "cat file; ls sub/listed; cat missing; cat sub/../file; cat link/../odd; \
                  (cd sub && cat ../file ./deep//er; sh -c 'sh -c \"cat third\"'); echo x > written; cat < redirected";
    let mut command = shell(script);
    command.current_dir(&here).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let Some((_, observation)) = observe(command, everything()) else { return };
    assert!(observation.is_complete() && observation.calls > 0);
    for (path, expected) in [
        ("file", Some(Read)),
        ("missing", Some(Read)),
        ("redirected", Some(Read)),
        ("sub/listed", Some(List)),
        ("sub/deep/er", Some(Read)),
        ("sub/third", Some(Read)),
        ("link/../odd", Some(Read)),
        ("odd", None),
        ("written", Some(Write)),
    ] {
        let seen = uses(&observation, &here.join(path));
        let seen = seen.into_iter().filter(|kind| *kind != Probe).collect::<Vec<_>>();
        assert_eq!(seen, Vec::from_iter(expected), "{path}");
    }
    let is_shell = |access: &super::super::ObservedAccess| access.kind == Exec && access.path.ends_with("sh");
    assert!(observation.accesses.iter().any(is_shell));
    assert!(observation.accesses.is_sorted());
}

#[test]
fn every_call_of_every_thread() {
    let (_guard, here) = sandbox();
    fs::create_dir(here.join("directory")).expect("created");
    let mut command = helper::command(Role::Sightseer);
    command.current_dir(&here);
    let Some((status, observation)) = observe(command, everything()) else { return };
    assert!(status.success());
    for (path, expected) in [
        ("opened", &[Read][..]),
        ("directory", &[Read, List]),
        ("directory/at", &[Read]),
        ("directory/at2", &[Read]),
        ("directory/list2", &[List]),
        ("directory/write2", &[Write]),
        ("name-only", &[Probe]),
        ("exists", &[Probe]),
        ("symlink_metadata", &[Probe]),
        ("access", &[Probe]),
        ("read_link", &[Link]),
        ("canonicalize", &[Link]),
        ("created", &[Write]),
        ("updated", &[Update]),
        ("made", &[Write]),
        ("renamed", &[Write]),
        ("symlinked", &[Write]),
        ("linked", &[Write]),
        ("executed", &[Exec]),
        ("descriptor", &[Read, Exec, Write]),
        ("moved/opened", &[Read]),
    ] {
        assert_eq!(uses(&observation, &here.join(path)), expected, "{path}");
    }
    for thread in 0..helper::THREADS {
        assert_eq!(uses(&observation, &here.join(format!("thread-{thread}"))), [Read]);
    }
    assert!(observation.is_complete());
}

#[test]
fn probes_only_as_far_as_asked_for() {
    for (probes, exists, read_link, canonicalize) in [
        (Probes::Skip, &[][..], &[][..], &[][..]),
        (Probes::Existence, &[Probe], &[Link], if cfg!(target_env = "gnu") { &[] } else { &[Link] }),
        (Probes::ExistenceAndRealpath, &[Probe], &[Link], &[Link]),
    ] {
        let (_guard, here) = sandbox();
        fs::create_dir(here.join("directory")).expect("created");
        let mut command = helper::command(Role::Sightseer);
        command.current_dir(&here);
        let Some((_, observation)) = observe(command, Scope { probes, ..Scope::default() }) else { return };
        assert_eq!(uses(&observation, &here.join("opened")), [Read]);
        assert_eq!(uses(&observation, &here.join("exists")), exists, "{probes:?}");
        assert_eq!(uses(&observation, &here.join("read_link")), read_link, "{probes:?}");
        assert_eq!(uses(&observation, &here.join("canonicalize")), canonicalize, "{probes:?}");
        assert_eq!(uses(&observation, &here.join("created")), []);
    }
}

#[test]
fn ignored_prefixes_leave_no_trace() {
    let (_guard, here) = sandbox();
    let mut command = shell("cat in/a out/b /proc/self/status");
    command.current_dir(&here).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let ignored = vec![here.join("in"), Path::new("/proc").to_owned()];
    let Some((_, observation)) = observe(command, Scope { ignored, ..everything() }) else { return };
    assert_eq!(uses(&observation, &here.join("out/b")), [Read]);
    let is_ignored = |path: &Path| path.starts_with(here.join("in")) || path.starts_with("/proc");
    assert!(!observation.accesses.iter().any(|access| is_ignored(&access.path)));
}

#[test]
fn a_path_across_pages_and_one_too_long() {
    let (_guard, here) = sandbox();
    let long = format!("{}/{}", here.display(), "x/".repeat(1500));
    let endless = format!("/{}", "y/".repeat(2100));
    let script = format!("cat {long}end; cat {endless}end");
    let mut command = shell(&script);
    command.stderr(std::process::Stdio::null());
    let Some((_, observation)) = observe(command, everything()) else { return };
    assert_eq!(uses(&observation, &Path::new(&long).join("end")), [Read]);
    assert!(!observation.accesses.iter().any(|access| access.path.starts_with("/y")));
    assert!(observation.is_complete());
}

#[test]
fn many_at_once_each_sees_its_own() {
    let (_guard, here) = sandbox();
    thread::scope(|scope| {
        for worker in 0..12 {
            let here = &here;
            scope.spawn(move || {
                for round in 0..8 {
                    let name = format!("{worker}-{round}");
                    let mut command = shell(&format!("cat {name}; exit {worker}"));
                    command.current_dir(here).stderr(std::process::Stdio::null());
                    let Some((status, observation)) = observe(command, Scope::default()) else { return };
                    assert_eq!(status.code(), Some(worker));
                    assert!(observation.is_complete(), "{observation:?}");
                    let mine = observation
                        .accesses
                        .iter()
                        .filter(|access| access.path.starts_with(here) && access.kind == Read);
                    let names: Vec<_> = mine.filter_map(|access| access.path.file_name()).collect();
                    assert_eq!(names, [name.as_str()]);
                }
            });
        }
    });
}
