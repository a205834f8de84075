//! Exit statuses, signals, descriptors, and who outlives whom.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use super::helper::{self, Role};
use super::*;

#[test]
fn exit_codes_and_signals_pass_through() {
    for (script, code, signal) in [
        ("exit 0", Some(0), None),
        ("exit 101", Some(101), None),
        ("kill -KILL $$", None, Some(libc::SIGKILL)),
        ("kill -TERM $$", None, Some(libc::SIGTERM)),
        ("sh -c 'kill -SEGV $$'; exit 7", Some(7), None),
    ] {
        let mut command = shell(script);
        command.stderr(Stdio::null());
        let Some((status, observation)) = observe(command, Scope::default()) else { return };
        assert_eq!((status.code(), status.signal()), (code, signal), "{script}");
        assert!(observation.is_complete(), "{script}");
    }
}

#[test]
fn a_child_that_dies_before_it_is_the_command_is_no_reason_to_wait() {
    use std::os::unix::process::CommandExt;
    let mut command = shell("exit 0");
    let die = || {
        // SAFETY: a system call without pointers.
        unsafe { libc::raise(libc::SIGKILL) };
        Ok(())
    };
    // SAFETY: the closure is async-signal-safe. It comes before the one that sends the listener.
    unsafe { command.pre_exec(die) };
    let (mut child, observer) = spawn_observed(command, Scope::default()).expect("spawned");
    assert_eq!(child.wait().expect("wait").signal(), Some(libc::SIGKILL));
    assert!(observer.is_none(), "nothing was observed");
}

#[test]
fn stdio_and_inherited_descriptors_are_unchanged() {
    let (mut reader, writer) = std::io::pipe().expect("a pipe");
    let inherited = rustix::io::fcntl_dupfd_cloexec(&writer, 60).expect("a high descriptor");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("inheritable");
    let number = inherited.as_raw_fd();
    // Not `>&$number`: a shell need not take more than one digit.
    let mut command =
        shell(&format!("cat; echo err >&2; echo token > /proc/self/fd/{number}; ls /proc/self/fd >&2"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let Some((mut child, observer)) = spawn(command, Scope::default()) else { return };
    child.stdin.take().expect("piped").write_all(b"in").expect("written");
    let output = child.wait_with_output().expect("waited");
    assert!(observer.finish().is_none_or(|observation| observation.is_complete()));
    assert_eq!(output.stdout, b"in");
    let errors = String::from_utf8_lossy(&output.stderr);
    let mut lines = errors.lines();
    assert_eq!(lines.next(), Some("err"));
    let open: Vec<i32> = lines.filter_map(|line| line.parse().ok()).collect();
    assert!(open.contains(&number), "{errors}");
    drop((inherited, writer));
    let mut token = String::new();
    reader.read_to_string(&mut token).expect("read to its end: nobody of ours holds it");
    assert_eq!(token, "token\n");
}

#[test]
fn a_program_that_does_not_exist_is_the_same_error_as_ever() {
    let missing = "/nonexistent/program";
    let plain = Command::new(missing).spawn().expect_err("missing");
    let observed = spawn_observed(Command::new(missing), Scope::default()).expect_err("missing");
    assert_eq!(observed.raw_os_error(), plain.raw_os_error());
}

#[test]
fn a_descendant_that_stays_behind_finds_its_files_after_we_are_gone() {
    let (_guard, here) = sandbox();
    fs::write(here.join("input"), "still there").expect("written");
    let mut wrapper = helper::command(Role::Wrapper);
    wrapper.current_dir(&here).env("KACHE_TEST_SANDBOX", &here);
    assert!(wrapper.status().expect("ran").success());
    eventually("the descendant reads its input", || {
        fs::read(here.join("output")).is_ok_and(|output| output == b"still there")
    });
    eventually("the keeper ends with the last process", || keepers(&here) == 0);
}

#[test]
fn finish_does_not_wait_for_a_busy_descendant() {
    let (_guard, here) = sandbox();
    fs::write(here.join("go"), "").expect("written");
    let mut wrapper = helper::command(Role::WrapperOfBusy);
    wrapper.current_dir(&here).env("KACHE_TEST_SANDBOX", &here);
    assert!(wrapper.status().expect("ran").success());
    if !here.join("observed").exists() {
        return;
    }
    eventually("a keeper takes over", || keepers(&here) == 1);
    for _ in 0..3 {
        fs::remove_file(here.join("busy")).expect("the descendant finds its files");
        eventually("the descendant goes on", || here.join("busy").exists());
    }
    fs::remove_file(here.join("go")).expect("removed");
    eventually("the keeper ends with the last process", || keepers(&here) == 0);
}

/// Processes that answer for what a wrapper in this sandbox left behind.
fn keepers(sandbox: &Path) -> usize {
    let sandbox = format!("KACHE_TEST_SANDBOX={}", sandbox.display());
    let processes = fs::read_dir("/proc").expect("/proc").flatten().map(|entry| entry.path());
    let is_keeper = |process: &PathBuf| {
        fs::read(process.join("comm")).is_ok_and(|name| name == b"kache-keeper\n")
            && fs::read(process.join("environ")).is_ok_and(|environment| {
                environment.split(|byte| *byte == 0).any(|variable| variable == sandbox.as_bytes())
            })
    };
    processes.filter(is_keeper).count()
}

#[test]
fn a_dropped_observer_does_not_blind_the_command() {
    let mut command = shell("sleep 0.2; cat /dev/null && echo seen");
    command.stdout(Stdio::piped());
    let Some((child, observer)) = spawn(command, Scope::default()) else { return };
    drop(observer);
    assert_eq!(child.wait_with_output().expect("waited").stdout, b"seen\n");
}

#[test]
fn a_compiler_dies_with_its_wrapper() {
    let (_guard, here) = sandbox();
    let mut command = helper::command(Role::Victim);
    let mut outer = command.current_dir(&here).stdout(Stdio::null()).spawn().expect("spawned");
    let processes = here.join("processes");
    eventually("the compiler runs", || processes.exists());
    let processes = fs::read_to_string(processes).expect("read");
    let [wrapper, compiler, is_observed] =
        processes.split(' ').collect::<Vec<_>>().try_into().expect("three");
    assert!(shell(&format!("kill -KILL {wrapper}")).status().expect("ran").success());
    outer.wait().expect("waited");
    if is_observed == "false" {
        assert!(shell(&format!("kill {compiler}")).status().expect("ran").success());
    }
    // As a zombie it counts as gone: who reaps it is not our affair.
    eventually("the compiler is gone", || {
        let stat = fs::read_to_string(format!("/proc/{compiler}/stat")).unwrap_or_default();
        stat.is_empty() || stat.contains(") Z ")
    });
}

#[test]
fn signals_do_not_disturb_opens_and_kills_do_not_disturb_us() {
    let Some((status, observation)) = observe(helper::command(Role::Alarmed), Scope::default()) else {
        return;
    };
    assert!(status.success() && observation.is_complete());
    for delay_ms in 0..20 {
        let Some((mut child, observer)) = spawn(helper::command(Role::Alarmed), Scope::default()) else {
            return;
        };
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().expect("killed");
        child.wait().expect("waited");
        assert!(observer.finish().is_none_or(|observation| !observation.outlived));
    }
}
