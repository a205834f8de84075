//! Runs in the forked child before it executes the command: installs the filter and sends its listener away.
//! Nothing here may allocate, lock or panic.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, c_ulong, sock_filter};

/// All the child needs, made ready before the fork.
pub(super) struct Installer {
    pub(super) program: Vec<sock_filter>,
    pub(super) socket: UnixStream,
    /// The supervisor's end of the same socket.
    pub(super) peer: RawFd,
    /// Cleared for a second, unobserved try with the same command.
    pub(super) is_wanted: Arc<AtomicBool>,
    pub(super) parent: ParentDeath,
}

/// What becomes of the child when the thread that spawned it ends.
#[derive(Clone, Copy)]
pub(super) enum ParentDeath {
    /// It is killed, if that thread's process is this one.
    Kills(u32),
    /// Nothing, because other threads may still answer for it.
    Ignored,
}

impl ParentDeath {
    /// For a child of the calling thread. The kernel's notion of a parent is a thread; only the end of the main
    /// thread says for sure that the process has ended.
    pub(super) fn of_this_thread() -> Self {
        let process = std::process::id();
        // SAFETY: a system call without pointers.
        let thread = unsafe { libc::gettid() };
        if u32::try_from(thread) == Ok(process) { Self::Kills(process) } else { Self::Ignored }
    }
}

impl Installer {
    /// Returns an error only if the command must not be executed: with a filter whose listener is lost it would
    /// find no file at all.
    pub(super) fn run(&self) -> io::Result<()> {
        if !self.is_wanted.load(Ordering::Relaxed) {
            return Ok(());
        }
        // If the supervisor ends without having taken the message, its end must close, with the listener in it.
        // Our copy would keep both, and our `execve` would wait for ever.
        // SAFETY: a system call without pointers; this process doesn't use that copy.
        unsafe { libc::close(self.peer) };
        let Some(listener) = self.install() else { return send(&self.socket, None) };
        send(&self.socket, Some(listener))?;
        // SAFETY: plain system calls without pointers; the descriptor is ours.
        unsafe {
            libc::close(listener);
            if let ParentDeath::Kills(parent) = self.parent {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as c_ulong, 0, 0, 0);
                if u32::try_from(libc::getppid()) != Ok(parent) {
                    return Err(io::Error::from_raw_os_error(libc::ESRCH));
                }
            }
        }
        Ok(())
    }

    /// Installs the filter. Nothing where the kernel, a container or an outer filter doesn't let us.
    fn install(&self) -> Option<RawFd> {
        let program =
            libc::sock_fprog { len: self.program.len() as u16, filter: self.program.as_ptr().cast_mut() };
        // Without the second flag, kernels before 5.16 slow a filtered process down by turning off speculation.
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        // SAFETY: `program` points to a filter of that length, which the kernel copies.
        unsafe {
            if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1 as c_ulong, 0, 0, 0) != 0 {
                return None;
            }
            let install = |flags: c_ulong| {
                libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)
                    as c_int
            };
            let mut listener = install(flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
            if listener < 0 && *libc::__errno_location() == libc::EINVAL {
                listener = install(flags);
            }
            (listener >= 0).then_some(listener)
        }
    }
}

/// Sends one byte, with the descriptor if there is one.
fn send(socket: &UnixStream, descriptor: Option<RawFd>) -> io::Result<()> {
    let mut byte = 0_u8;
    let mut control = [0_u64; 4];
    // SAFETY: the pointers in `message` are to locals of the given lengths, and `control` has room for a header
    // with one descriptor and is aligned for it.
    unsafe {
        let mut buffer = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
        let mut message: libc::msghdr = zeroed();
        message.msg_iov = &raw mut buffer;
        message.msg_iovlen = 1;
        if let Some(descriptor) = descriptor {
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as _;
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = libc::SOL_SOCKET;
            (*header).cmsg_type = libc::SCM_RIGHTS;
            (*header).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as _;
            libc::CMSG_DATA(header).cast::<RawFd>().write_unaligned(descriptor);
        }
        loop {
            if libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) == 1 {
                return Ok(());
            }
            let error = io::Error::last_os_error();
            if error.raw_os_error() != Some(libc::EINTR) {
                return Err(error);
            }
        }
    }
}
