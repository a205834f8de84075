//! What the test binary does when a test runs it again as a subject.

use std::ffi::CString;
use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;
use std::thread;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags};

use super::*;

const VARIABLE: &str = "KACHE_TEST_ROLE";
pub(super) const THREADS: usize = 8;

#[derive(Clone, Copy, Debug)]
pub(super) enum Role {
    Sightseer,
    Wrapper,
    WrapperOfBusy,
    Victim,
    Alarmed,
    Unobserved,
    WithoutSeccomp,
    WithoutFilters,
    WithoutMessages,
    WithoutReceipt,
    WithoutMemory,
    FewDescriptors,
    Hidden,
}

/// This binary in another role.
pub(super) fn command(role: Role) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("our path"));
    command.args(["--exact", "sys::tests::helper::play", "--nocapture"]);
    command.env(VARIABLE, format!("{role:?}")).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

#[test]
fn play() {
    let Ok(role) = std::env::var(VARIABLE) else { return };
    match role.as_str() {
        "Sightseer" => see_sights(),
        "Wrapper" => leave_one_behind(),
        "WrapperOfBusy" => leave_a_busy_one_behind(),
        "Victim" => wait_to_be_killed(),
        "Alarmed" => open_among_alarms(),
        "Unobserved" => run_unobserved(),
        "WithoutSeccomp" => refuse_and_run(libc::SYS_seccomp, None),
        "WithoutFilters" => refuse_and_run(libc::SYS_seccomp, Some(libc::SECCOMP_SET_MODE_FILTER)),
        "WithoutMessages" => refuse_and_run(libc::SYS_sendmsg, None),
        "WithoutReceipt" => refuse_and_run(libc::SYS_recvmsg, None),
        "WithoutMemory" => see_nothing(),
        "Hidden" => hide(),
        "FewDescriptors" => run_short_of_descriptors(),
        other => panic!("no such role: {other}"),
    }
}

fn see_sights() {
    drop(File::open("opened"));
    thread::scope(|scope| {
        for number in 0..THREADS {
            scope.spawn(move || drop(fs::read(format!("thread-{number}"))));
        }
    });
    assert_eq!(fs::read_dir("directory").expect("listed").count(), 0);
    let directory: OwnedFd = File::open("directory").map(OwnedFd::from).expect("opened");
    let read = OFlags::RDONLY | OFlags::CLOEXEC;
    let create = OFlags::WRONLY | OFlags::CREATE;
    drop(rustix::fs::openat(&directory, "at", read, Mode::empty()));
    for (name, flags) in [("at2", read), ("list2", read | OFlags::DIRECTORY), ("write2", create)] {
        drop(rustix::fs::openat2(&directory, name, flags, Mode::empty(), ResolveFlags::empty()));
    }
    drop(rustix::fs::open("name-only", OFlags::PATH, Mode::empty()));
    assert!(!Path::new("exists").exists());
    drop(fs::symlink_metadata("symlink_metadata"));
    let _ = rustix::fs::accessat(CWD, "access", rustix::fs::Access::READ_OK, AtFlags::empty());
    drop(fs::read_link("read_link"));
    drop(fs::canonicalize("canonicalize"));
    fs::write("created", "").expect("created");
    drop(OpenOptions::new().read(true).write(true).open("updated"));
    fs::create_dir("made").expect("created");
    fs::rename("made", "renamed").expect("renamed");
    symlink("anything", "symlinked").expect("linked");
    fs::hard_link("created", "linked").expect("linked");
    fs::copy("/bin/sh", "descriptor").expect("copied");
    drop(Command::new("./executed").status());
    execute_descriptor("descriptor");
    fs::create_dir("moved").expect("created");
    rustix::process::chdir("moved").expect("changed");
    drop(File::open("opened"));
}

/// Runs the program by `execveat` on its descriptor, in a child.
fn execute_descriptor(path: &str) {
    let program = File::open(path).expect("opened");
    let empty = CString::default();
    let arguments = [c"sh".as_ptr(), c"-c".as_ptr(), c"exit 5".as_ptr(), std::ptr::null()];
    // SAFETY: the child only makes system calls, on memory that lives until it executes.
    let status = unsafe {
        let child = libc::fork();
        if child == 0 {
            let environment = [std::ptr::null::<libc::c_char>()];
            let fd = program.as_raw_fd();
            let (arguments, environment) = (arguments.as_ptr(), environment.as_ptr());
            libc::syscall(
                libc::SYS_execveat,
                fd,
                empty.as_ptr(),
                arguments,
                environment,
                libc::AT_EMPTY_PATH,
            );
            libc::_exit(1);
        }
        let mut status = 0;
        libc::waitpid(child, &raw mut status, 0);
        status
    };
    assert_eq!(libc::WEXITSTATUS(status), 5);
}

/// A wrapper whose compiler leaves a process behind that opens a file long after the wrapper has exited.
fn leave_one_behind() {
    let script = "(sleep 0.4; cat input > output.new; mv output.new output) < /dev/null > /dev/null 2>&1 &";
    let (mut child, observer) = spawn_observed(shell(script), Scope::default()).expect("spawned");
    assert!(child.wait().expect("waited").success());
    if let Some(observer) = observer {
        assert!(
            observer.finish().is_none_or(|observation| observation.outlived && !observation.is_complete())
        );
    }
}

fn leave_a_busy_one_behind() {
    // Ends with the sandbox, at the latest.
    let script = "(while test -e go; do cat go > busy; done) < /dev/null > /dev/null 2>&1 & exit 3";
    let (mut child, observer) = spawn_observed(shell(script), Scope::default()).expect("spawned");
    assert_eq!(child.wait().expect("waited").code(), Some(3));
    let Some(observer) = observer else { return };
    fs::write("observed", "").expect("written");
    let start = Instant::now();
    assert!(observer.finish().is_none_or(|observation| observation.outlived));
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

/// A wrapper that waits for its compiler on its main thread, which the forking one becomes.
fn wait_to_be_killed() {
    // SAFETY: the other threads of this process wait for this one and hold no lock.
    let wrapper = unsafe { libc::fork() };
    if wrapper != 0 {
        // SAFETY: without a status there is no pointer.
        unsafe { libc::waitpid(wrapper, std::ptr::null_mut(), 0) };
        return;
    }
    let (mut child, observer) = spawn_observed(shell("exec sleep 600"), Scope::default()).expect("spawned");
    fs::write("new", format!("{} {} {}", std::process::id(), child.id(), observer.is_some()))
        .expect("written");
    fs::rename("new", "processes").expect("renamed");
    child.wait().expect("waited");
}

fn open_among_alarms() {
    extern "C" fn ignore(_: libc::c_int) {}
    // SAFETY: the handler does nothing, and both structures are plain data.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = ignore as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        libc::sigaction(libc::SIGALRM, &raw const action, std::ptr::null_mut());
        let interval = libc::timeval { tv_sec: 0, tv_usec: 300 };
        let timer = libc::itimerval { it_interval: interval, it_value: interval };
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, std::ptr::null_mut());
    }
    for _ in 0..3000 {
        // Not `File::open`, which would try again.
        drop(rustix::fs::open("/dev/null", OFlags::RDONLY, Mode::empty()).expect("opened at once"));
    }
}

/// Runs a command that reads a file; returns whether it was observed.
fn run() -> bool {
    let (mut child, observer) = spawn_observed(shell("cat /dev/null"), Scope::default()).expect("spawned");
    assert!(child.wait().expect("waited").success());
    observer.and_then(Observer::finish).is_some()
}

fn run_unobserved() {
    assert!(!run());
}

/// Refuses a system call (all of them, or those with this first argument) to this process and its children.
fn refuse(number: libc::c_long, argument: Option<u32>) {
    let statement =
        |code: u32, value: u32, jump: u8| libc::sock_filter { code: code as u16, jt: 0, jf: jump, k: value };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut program =
        vec![statement(load, 0, 0), statement(equals, number as u32, if argument.is_some() { 3 } else { 1 })];
    if let Some(argument) = argument {
        program.extend([statement(load, 16, 0), statement(equals, argument, 1)]);
    }
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32, 0));
    program.push(statement(libc::BPF_RET, libc::SECCOMP_RET_ALLOW, 0));
    let program = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the filter outlives the call, which copies it.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        let status = libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program);
        assert_eq!(status, 0, "the test's own filter");
    }
}

fn refuse_and_run(number: libc::c_long, argument: Option<u32>) {
    refuse(number, argument);
    run_unobserved();
}

/// As under `ptrace_scope` 3.
fn see_nothing() {
    refuse(libc::SYS_process_vm_readv, None);
    run_unobserved();
}

/// As a program that its user may execute but not read.
fn hide() {
    // SAFETY: a system call without pointers.
    unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0) };
    drop(fs::read("hidden"));
}

fn run_short_of_descriptors() {
    let mut outcomes = Vec::new();
    for limit in 4..40 {
        let limits = rustix::process::Rlimit { current: Some(limit), maximum: Some(1024) };
        rustix::process::setrlimit(rustix::process::Resource::Nofile, limits).expect("limited");
        let outcome = match spawn_observed(shell("cat /dev/null"), Scope::default()) {
            Ok((mut child, observer)) => {
                assert!(child.wait().expect("waited").success(), "limit {limit}");
                observer.and_then(Observer::finish).is_some()
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "limit {limit}");
                false
            }
        };
        outcomes.push(outcome);
    }
    assert!(outcomes.is_sorted(), "{outcomes:?}");
}
