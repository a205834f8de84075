//! Owns the listener descriptor: waits for stopped calls, lets them continue, reads the stopped process.
//! Does not know what is recorded.

use std::fs;
use std::io::{self, IoSliceMut};
use std::mem::{MaybeUninit, zeroed};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libc::{c_int, c_void};
use rustix::io::retry_on_intr;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

/// The supervisor's end of an installed filter.
#[derive(Debug)]
pub(super) struct Listener(OwnedFd);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wake {
    Call,
    /// No process uses the filter any more.
    Unused,
    /// The other descriptor became readable. Comes before calls, of which there may be no end.
    Stop,
    Timeout,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// The call went on; what was read of its process until now was that process's.
    Delivered,
    /// The process had died; what was read may be anyone's.
    Gone,
}

impl Listener {
    /// Whether this kernel's messages are the ones this module was written for.
    pub(super) fn is_supported() -> bool {
        // SAFETY: the structure is plain data, and the call writes at most its size.
        let (status, sizes) = unsafe {
            let mut sizes: libc::seccomp_notif_sizes = zeroed();
            let status = libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_NOTIF_SIZES, 0, &raw mut sizes);
            (status, sizes)
        };
        status == 0
            && usize::from(sizes.seccomp_notif) == size_of::<libc::seccomp_notif>()
            && usize::from(sizes.seccomp_notif_resp) == size_of::<libc::seccomp_notif_resp>()
    }

    /// Takes the listener that the child sends, or nothing if it has none.
    pub(super) fn receive(socket: &UnixStream) -> Option<Self> {
        let listener = receive_descriptor(socket)?;
        // Wakes the stopped process on this processor, right after us: saves an idle processor's wake-up on each
        // call. Unknown before Linux 6.6, and not needed.
        let flags: u64 = 1; // SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
        // SAFETY: the request takes its argument by value.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS as _, flags) };
        Some(Self(listener))
    }

    pub(super) fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    /// Waits for a stopped call, for `stop` to become readable, or for the last process to go. Without `timeout`,
    /// for as long as it takes.
    pub(super) fn wait(&self, stop: Option<RawFd>, timeout: Option<Duration>) -> Wake {
        let polled = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut fds = [polled(self.as_raw_fd()), polled(stop.unwrap_or(-1))];
        let timeout_ms = timeout.map_or(-1, |timeout| (timeout.as_millis() as c_int).saturating_add(1));
        // SAFETY: the pointer and the length are those of `fds`.
        if unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout_ms) } <= 0 {
            return Wake::Timeout;
        }
        let [listener, stop] = fds;
        if listener.revents & libc::POLLHUP != 0 {
            Wake::Unused
        } else if stop.revents != 0 {
            Wake::Stop
        } else if listener.revents & libc::POLLIN != 0 {
            Wake::Call
        } else {
            Wake::Timeout
        }
    }

    /// Takes a stopped call. To be called after [`Wake::Call`], else it blocks. Nothing when the process died.
    pub(super) fn take(&self) -> Option<libc::seccomp_notif> {
        // SAFETY: the structure is plain data, zeroed as the request demands, and of the size the kernel writes
        // (`is_supported`).
        let (status, call) = unsafe {
            let mut call: libc::seccomp_notif = zeroed();
            let status = libc::ioctl(self.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV as _, &raw mut call);
            (status, call)
        };
        (status == 0).then_some(call)
    }

    /// Lets a taken call go on as if nobody had looked.
    pub(super) fn pass(&self, call: &libc::seccomp_notif) -> Answer {
        let mut answer = libc::seccomp_notif_resp {
            id: call.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        loop {
            // SAFETY: the structure is the one the request reads.
            let status = unsafe {
                libc::ioctl(self.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND as _, &raw mut answer)
            };
            match (status, errno()) {
                (0, _) => return Answer::Delivered,
                (_, libc::EINTR) => {}
                _ => return Answer::Gone,
            }
        }
    }
}

/// Receives one descriptor. Nothing if the message carries none, or the other end is closed.
fn receive_descriptor(socket: &UnixStream) -> Option<OwnedFd> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8];
    let mut into = [IoSliceMut::new(&mut byte)];
    retry_on_intr(|| recvmsg(socket, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    })
}

/// Why a path could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ReadError {
    /// The call itself will fail, so nothing is looked at: a bad address, an endless name, a closed descriptor.
    Void,
    /// We may not read this process, or it is gone (then so is the call, see [`Answer::Gone`]).
    Forbidden,
}

/// Reads the path at `address` in the memory of `process` into `buffer`, without its terminator.
pub(super) fn read_path(process: u32, address: u64, buffer: &mut [u8]) -> Result<&[u8], ReadError> {
    const PAGE_SIZE_BYTES: u64 = 4096;
    let mut length = 0;
    while length < buffer.len() {
        // Page by page: the next one may not exist, and a partly readable range reads as nothing.
        let start = address.wrapping_add(length as u64);
        let in_page = (PAGE_SIZE_BYTES - start % PAGE_SIZE_BYTES) as usize;
        let Some(rest) = buffer.get_mut(length..) else { return Err(ReadError::Void) };
        let wanted = in_page.min(rest.len());
        let read = read_memory(process, start, rest.get_mut(..wanted).unwrap_or_default())?;
        let end = rest.iter().take(read).position(|byte| *byte == 0);
        length += end.unwrap_or(read);
        if end.is_some() {
            return buffer.get(..length).ok_or(ReadError::Void);
        }
        if read == 0 {
            break;
        }
    }
    Err(ReadError::Void)
}

/// Reads the word at `address` in the memory of `process`.
pub(super) fn read_word(process: u32, address: u64) -> Result<u64, ReadError> {
    let mut word = [0; 8];
    match read_memory(process, address, &mut word)? {
        8 => Ok(u64::from_ne_bytes(word)),
        _ => Err(ReadError::Void),
    }
}

fn read_memory(process: u32, address: u64, buffer: &mut [u8]) -> Result<usize, ReadError> {
    let local = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let remote = libc::iovec { iov_base: address as usize as *mut c_void, iov_len: buffer.len() };
    // SAFETY: `local` is exactly `buffer`; `remote` is never used as a pointer in this process.
    let read = unsafe {
        libc::process_vm_readv(process as libc::pid_t, &raw const local, 1, &raw const remote, 1, 0)
    };
    match (usize::try_from(read), errno()) {
        (Ok(read), _) => Ok(read),
        (Err(_), libc::EFAULT) => Err(ReadError::Void),
        (Err(_), _) => Err(ReadError::Forbidden),
    }
}

/// Where a relative path of `process` starts from: its working directory or one of its descriptors.
pub(super) fn directory(process: u32, descriptor: c_int) -> Result<Vec<u8>, ReadError> {
    let link = if descriptor == libc::AT_FDCWD {
        format!("/proc/{process}/cwd")
    } else {
        format!("/proc/{process}/fd/{descriptor}")
    };
    match fs::read_link(link) {
        Ok(path) => {
            let path = path.into_os_string().into_vec();
            // Not a path: a pipe, a socket, or a directory outside our root. A call relative to it fails.
            if path.starts_with(b"/") { Ok(path) } else { Err(ReadError::Void) }
        }
        // Not open, unless it is `/proc` that is missing.
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                && descriptor != libc::AT_FDCWD
                && fs::exists(format!("/proc/{process}/fd")).unwrap_or(false) =>
        {
            Err(ReadError::Void)
        }
        Err(_) => Err(ReadError::Forbidden),
    }
}

fn errno() -> c_int {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}
