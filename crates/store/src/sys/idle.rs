//! Lets a thread do its work only when nobody else wants processor or disk.

/// Gives the calling thread the lowest priority there is, for good. On Linux this concerns the thread alone; elsewhere
/// priorities belong to processes, and nothing happens. What the system refuses stays as it was.
pub fn idle_priority() {
    #[cfg(target_os = "linux")]
    {
        const IOPRIO_WHO_PROCESS: libc::c_int = 1;
        const IOPRIO_CLASS_IDLE: libc::c_int = 3;
        const IOPRIO_CLASS_SHIFT: libc::c_int = 13;
        // What the kernel reads: the C library's type has more in it with musl, whose function does nothing either.
        let priority: libc::c_int = 0;
        // SAFETY: `priority` outlives the call that reads it; the other calls take no pointers. 0 is this thread.
        unsafe {
            libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_IDLE, &raw const priority);
            libc::setpriority(libc::PRIO_PROCESS, 0, 19);
            let class = IOPRIO_CLASS_IDLE << IOPRIO_CLASS_SHIFT;
            libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, class);
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn only_the_calling_thread_stands_back() {
        // Field 19 of a thread's `stat`, counted behind the parenthesised name, is its nice value.
        let nice = || {
            let stat = std::fs::read_to_string("/proc/thread-self/stat").expect("readable");
            let rest = stat.rsplit_once(')').expect("a name").1.to_owned();
            rest.split_whitespace().nth(16).expect("a nice value").parse::<i32>().expect("a number")
        };
        let before = nice();
        let idle = std::thread::spawn(move || {
            idle_priority();
            nice()
        });
        assert_eq!(idle.join().expect("no panic"), 19);
        assert_eq!(nice(), before);
    }
}
