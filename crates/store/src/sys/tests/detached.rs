//! Background processes share nothing with us.

use std::fs;
use std::os::fd::AsRawFd;

use super::super::detach_and_spawn;
use super::*;

#[test]
fn a_detached_process_shares_nothing_with_us() {
    let (_guard, here) = sandbox();
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let inherited = rustix::io::fcntl_dupfd_cloexec(&writer, 70).expect("a high descriptor");
    rustix::io::fcntl_setfd(&inherited, rustix::io::FdFlags::empty()).expect("inheritable");
    let report = here.join("report");
    let out = report.display();
    // The shell's own redirections come and go, so the descriptors are listed into a variable first.
    let mut command = shell(&format!(
        "fds=$(for fd in /proc/$$/fd/*; do echo $fd:$(readlink $fd); done); \
         (echo $fds; readlink /proc/$$/cwd; cat /proc/$$/stat; echo \"$MAKEFLAGS\") > {out}.new; mv {out}.new {out}"
    ));
    command.env("MAKEFLAGS", "--jobserver-auth=70,71");
    detach_and_spawn(command).expect("spawned");
    eventually("the report is written", || report.exists());

    let text = fs::read_to_string(&report).expect("a report");
    let mut lines = text.lines();
    let fds = lines.next().unwrap_or_default();
    for standard in 0..3 {
        assert!(fds.contains(&format!("/{standard}:/dev/null")), "{fds}");
    }
    assert!(!fds.contains(&format!("/{}:", inherited.as_raw_fd())), "{fds}");
    assert_eq!(lines.next(), Some("/"));
    let stat = lines.next().and_then(|stat| stat.rsplit_once(") ")).map_or("", |(_, fields)| fields);
    let fields: Vec<u32> = stat.split(' ').skip(1).take(3).filter_map(|field| field.parse().ok()).collect();
    let [parent, group, session] = fields.try_into().expect("three numbers");
    assert_ne!(parent, std::process::id());
    assert_eq!(group, session, "its own session, not ours");
    assert_eq!(lines.next(), Some(""), "no jobserver");
}

#[test]
fn a_detached_program_that_does_not_exist_is_an_error() {
    let error = detach_and_spawn(Command::new("/nonexistent/program")).expect_err("missing");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
}
