//! Does something in a process of its own, and waits for it.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Does `work` in a copy of this process, and waits for its end. Whatever becomes of it there, a panic or a signal, this
/// process goes on; nothing that it does to memory is seen here. Not done at all where no process can be had. To be called
/// while this process has one thread: a copy has no other, and locks that those hold would stay locked.
pub fn apart(work: impl FnOnce()) {
    // SAFETY: the caller has one thread, so the copy is as good as the original; it ends below without returning.
    match unsafe { libc::fork() } {
        -1 => {}
        0 => {
            let _ = catch_unwind(AssertUnwindSafe(work));
            // SAFETY: ends this process, without what the original will do at its own end.
            unsafe { libc::_exit(0) }
        }
        child => {
            let mut status = 0;
            // SAFETY: `status` outlives the call. What the child came to is its own business.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::{Signal, getpid, kill_process};

    use super::*;

    #[test]
    fn work_is_done_elsewhere_and_may_end_as_it_likes() {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("done");
        let mut count = 0;
        apart(|| {
            count += 1;
            std::fs::write(&file, "done").expect("written");
        });
        assert!(file.exists() && count == 0, "done, and not here");
        apart(|| kill_process(getpid(), Signal::KILL).expect("it ends here"));
        assert!(file.exists(), "this one goes on");
    }
}
