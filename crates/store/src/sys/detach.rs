//! Starts background work that outlives this process and shares nothing with it.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

/// Variables that name descriptors of the jobserver, which a detached process no longer has.
const JOBSERVER_VARIABLES: [&str; 3] = ["CARGO_MAKEFLAGS", "MAKEFLAGS", "MFLAGS"];

/// Starts `command` in its own session, in `/`, with the null device for stdio and no other descriptor of ours,
/// and as nobody's child, so that neither Cargo nor a terminal ever waits for it.
///
/// Returns once the program runs. A relative program path would be looked up from `/`: pass an absolute one.
pub fn detach_and_spawn(mut command: Command) -> io::Result<()> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    for name in JOBSERVER_VARIABLES {
        command.env_remove(name);
    }
    // SAFETY: `leave_family` makes only async-signal-safe calls.
    unsafe { command.pre_exec(leave_family) };
    let mut go_between = command.spawn()?;
    // The status of the go-between says nothing, and where SIGCHLD is ignored there is none.
    drop(go_between.wait());
    Ok(())
}

/// Runs in the forked child: its own child goes on to execute the program.
fn leave_family() -> io::Result<()> {
    // SAFETY: plain system calls without pointers. The process has a single thread, and both sides of the fork
    // do nothing but system calls before they exit or execute.
    unsafe {
        libc::setsid();
        match libc::fork() {
            -1 => return Err(io::Error::last_os_error()),
            0 => {}
            _ => libc::_exit(0),
        }
    }
    // Not closed at once: through one of them std reports whether the program could be executed.
    close_on_exec_from(3);
    Ok(())
}

/// Marks every descriptor from `first` on to be closed by the next `exec`. Async-signal-safe.
fn close_on_exec_from(first: libc::c_int) {
    #[cfg(target_os = "linux")]
    {
        // SAFETY: a system call without pointers.
        let done = unsafe {
            libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
        };
        if done == 0 {
            return;
        }
    }
    for fd in first..descriptor_limit() {
        // SAFETY: a system call without pointers; it fails harmlessly where nothing is open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
}

/// One more than the highest descriptor worth looking at where the kernel has no `close_range`.
pub(super) fn descriptor_limit() -> libc::c_int {
    // SAFETY: a system call without pointers.
    let limit = unsafe { libc::sysconf(libc::_SC_OPEN_MAX) };
    limit.clamp(256, 65_536) as libc::c_int
}
