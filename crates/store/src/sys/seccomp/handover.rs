//! Passes a filter that is still in use on to a process of its own, which answers until nobody needs it.
//!
//! Whoever holds the listener must outlive every process under the filter, and the wrapper must not: Cargo waits
//! for it. So a descendant that stays behind (a server started by a linker wrapper, say) gets a keeper: a fork of
//! this process, in its own session, with no descriptor but the listener, reparented to init. It ends with the
//! last process under the filter.

use std::io;
use std::os::fd::RawFd;
use std::thread;

use libc::c_int;

use super::super::detach::descriptor_limit;
use super::listener::{Listener, Wake};

/// Leaves the listener to a detached process.
pub(super) fn hand_over(listener: Listener) {
    if !fork_keeper(&listener) {
        // No process to be had: answer for as long as this one lives.
        let name = "kache-keeper".to_owned();
        drop(thread::Builder::new().name(name).spawn(move || answer_until_unused(&listener)));
    }
}

/// Whether a detached process now answers on `listener`.
fn fork_keeper(listener: &Listener) -> bool {
    // SAFETY: the child makes only async-signal-safe calls, allocates nothing and leaves by `_exit`.
    unsafe {
        match libc::fork() {
            -1 => false,
            0 => {
                libc::setsid();
                match libc::fork() {
                    -1 => libc::_exit(1),
                    0 => {
                        leave_all_but(listener.as_raw_fd());
                        answer_until_unused(listener);
                        libc::_exit(0)
                    }
                    _ => libc::_exit(0),
                }
            }
            go_between => exited_well(go_between),
        }
    }
}

/// Waits for a child that exits at once. Where SIGCHLD is ignored there is no status; then its second fork is
/// taken to have worked, like the first.
fn exited_well(child: libc::pid_t) -> bool {
    let mut status: c_int = 0;
    loop {
        // SAFETY: `status` is a local.
        if unsafe { libc::waitpid(child, &raw mut status, 0) } >= 0 {
            return status == 0;
        }
        if io::Error::last_os_error().raw_os_error() != Some(libc::EINTR) {
            return true;
        }
    }
}

/// Gives up everything inherited except the descriptor `kept`.
///
/// # Safety
/// Only in a forked child that uses no other descriptor and runs none of its parent's signal handlers.
unsafe fn leave_all_but(kept: RawFd) {
    // SAFETY: system calls on constants and on descriptors that nobody here uses any more.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, c"kache-keeper".as_ptr());
        libc::chdir(c"/".as_ptr());
        for signal in 1..=libc::SIGRTMAX() {
            libc::signal(signal, libc::SIG_DFL);
        }
        close_range(0, kept - 1);
        close_range(kept + 1, c_int::MAX);
    }
}

/// Closes the descriptors from `first` to `last`. Async-signal-safe.
///
/// # Safety
/// Nobody may use them afterwards.
unsafe fn close_range(first: c_int, last: c_int) {
    if first > last {
        return;
    }
    // SAFETY: system calls without pointers; the caller has no use for these descriptors.
    unsafe {
        if libc::syscall(libc::SYS_close_range, first, last, 0) != 0 {
            for fd in first..=last.min(descriptor_limit()) {
                libc::close(fd);
            }
        }
    }
}

/// Lets every call go on until no process is left to make one. Async-signal-safe.
fn answer_until_unused(listener: &Listener) {
    loop {
        match listener.wait(None, None) {
            Wake::Call => {
                if let Some(call) = listener.take() {
                    listener.pass(&call);
                }
            }
            Wake::Unused => return,
            Wake::Stop | Wake::Timeout => {}
        }
    }
}
