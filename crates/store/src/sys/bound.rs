//! Has a process end with the one that starts it.

use std::process::Command;

/// Has `command` killed when this process dies, however that comes about: nobody would read its messages or store what it
/// makes, and it would write into a directory in which the next build is at work. Only on Linux, and only where the main
/// thread spawns it; else it goes on.
pub fn bind_to_us(command: &mut Command) {
    #[cfg(target_os = "linux")]
    {
        use std::io;
        use std::os::unix::process::CommandExt;

        let parent = std::process::id();
        // SAFETY: system calls without pointers.
        let is_main = unsafe { u32::try_from(libc::gettid()) } == Ok(parent);
        if !is_main {
            return;
        }
        let bind = move || {
            // SAFETY: system calls without pointers.
            let ours = unsafe {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong, 0, 0, 0);
                libc::getppid()
            };
            // It may have died just before.
            if u32::try_from(ours) == Ok(parent) {
                Ok(())
            } else {
                Err(io::Error::from_raw_os_error(libc::ESRCH))
            }
        };
        // SAFETY: the closure allocates nothing and makes system calls only.
        unsafe { command.pre_exec(bind) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = command;
}
