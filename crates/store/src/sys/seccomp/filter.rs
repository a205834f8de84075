//! Owns the filter program: which system calls stop for the supervisor and what a stopped call is about.
//! Pure; the table here is the only place that names system calls to observe.

use std::mem::offset_of;

use libc::{c_long, seccomp_data, sock_filter};

use super::super::observation::{AccessKind, Probes, Scope, Writes};

#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e; // AUDIT_ARCH_X86_64
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7; // AUDIT_ARCH_AARCH64

/// The kernel's: musl counts `O_PATH` to its `O_ACCMODE`.
const ACCESS_MODE: u64 = 3;
const EMPTY_PATH: u64 = libc::AT_EMPTY_PATH as u64;

/// Of these flags, each means that nothing is read which was there before.
const NOTHING_READ: u64 = (libc::O_WRONLY | libc::O_TRUNC | libc::O_EXCL) as u64;
/// The buffer that glibc's `realpath` (since 2.33) reads links into, and nobody else: Rust starts with 256 bytes, most
/// others take 4096.
const REALPATH_SIZE_BYTES: u64 = 1023;

/// One observed system call: where its arguments are and which of its calls are passed unseen.
struct Row {
    number: c_long,
    directory: Directory,
    path: usize,
    /// Calls that don't stop.
    passed: Option<Passed>,
    means: Means,
}

/// A test of the lower half of an argument.
#[derive(Clone, Copy)]
struct Passed {
    argument: usize,
    /// `BPF_JSET` (any of the bits) or `BPF_JEQ`.
    test: u32,
    value: u64,
}

/// What a relative path starts from.
#[derive(Clone, Copy)]
enum Directory {
    Working,
    Argument(usize),
}

/// What the call does with its path.
#[derive(Clone, Copy)]
enum Means {
    Open(usize),
    /// Flags in the first word behind this argument.
    OpenHow(usize),
    Exec,
    /// Flags, among them `AT_EMPTY_PATH`, in this argument.
    ExecAt(usize),
    Probe,
    Link,
    Write,
    Remove,
    /// Makes a socket of the family in the first argument.
    Socket,
}

impl Row {
    const fn in_working(number: c_long, path: usize, means: Means) -> Self {
        Self { number, directory: Directory::Working, path, passed: None, means }
    }

    const fn at(number: c_long, directory: usize, means: Means) -> Self {
        Self { number, directory: Directory::Argument(directory), path: directory + 1, passed: None, means }
    }

    const fn passing(mut self, argument: usize, test: u32, value: u64) -> Self {
        self.passed = Some(Passed { argument, test, value });
        self
    }

    /// The calls of this row that don't stop in `scope`.
    fn passed_in(&self, scope: &Scope) -> Option<Passed> {
        let is_wanted = match self.means {
            Means::Open(_) => scope.writes == Writes::Observe,
            Means::Link => scope.probes == Probes::ExistenceAndRealpath,
            _ => false,
        };
        self.passed.filter(|_| !is_wanted)
    }
}

/// Always observed. `execve` has to be: a lost listener shows as a failed `exec` (see `install`).
const USES: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_open, 0, Means::Open(1)).passing(1, libc::BPF_JSET, NOTHING_READ),
    Row::at(libc::SYS_openat, 0, Means::Open(2)).passing(2, libc::BPF_JSET, NOTHING_READ),
    Row::at(libc::SYS_openat2, 0, Means::OpenHow(2)),
    Row::in_working(libc::SYS_execve, 0, Means::Exec),
    Row::at(libc::SYS_execveat, 0, Means::ExecAt(4)),
];

/// With an empty path they are about an open descriptor, whose path was seen when it was opened.
const PROBES: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_stat, 0, Means::Probe),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_lstat, 0, Means::Probe),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_access, 0, Means::Probe),
    Row::at(libc::SYS_newfstatat, 0, Means::Probe).passing(3, libc::BPF_JSET, EMPTY_PATH),
    Row::at(libc::SYS_statx, 0, Means::Probe).passing(2, libc::BPF_JSET, EMPTY_PATH),
    Row::at(libc::SYS_faccessat, 0, Means::Probe),
    Row::at(libc::SYS_faccessat2, 0, Means::Probe).passing(3, libc::BPF_JSET, EMPTY_PATH),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_readlink, 0, Means::Link).passing(2, libc::BPF_JEQ, REALPATH_SIZE_BYTES),
    Row::at(libc::SYS_readlinkat, 0, Means::Link).passing(3, libc::BPF_JEQ, REALPATH_SIZE_BYTES),
];

/// Beside opens for writing. Of two paths, the one that comes to be.
const WRITES: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_creat, 0, Means::Write),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_mkdir, 0, Means::Write),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_rename, 1, Means::Write),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_link, 1, Means::Write),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_symlink, 1, Means::Write),
    Row::at(libc::SYS_mkdirat, 0, Means::Write),
    Row::at(libc::SYS_renameat, 2, Means::Write),
    Row::at(libc::SYS_renameat2, 2, Means::Write),
    Row::at(libc::SYS_linkat, 2, Means::Write),
    Row::at(libc::SYS_symlinkat, 1, Means::Write),
    Row::in_working(libc::SYS_socket, 1, Means::Socket).passing(0, libc::BPF_JEQ, libc::AF_UNIX as u64),
];

/// Names that go. A `rename` is in [`WRITES`] as well.
const REMOVALS: &[Row] = &[
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_unlink, 0, Means::Remove),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_rmdir, 0, Means::Remove),
    #[cfg(target_arch = "x86_64")]
    Row::in_working(libc::SYS_rename, 0, Means::Remove),
    Row::at(libc::SYS_unlinkat, 0, Means::Remove),
    Row::at(libc::SYS_renameat, 0, Means::Remove),
    Row::at(libc::SYS_renameat2, 0, Means::Remove),
];

/// The program: stop at the calls in scope, allow everything else.
///
/// No call outside the rows gets as far as a test of its arguments, so the kernel knows beforehand that it is
/// allowed and doesn't run the program for it.
pub(super) fn program(scope: &Scope) -> Vec<sock_filter> {
    let probes = if scope.probes == Probes::Skip { &[] } else { PROBES };
    let (writes, removals) =
        if scope.writes == Writes::Skip { (&[][..], &[][..]) } else { (WRITES, REMOVALS) };
    let mut program = vec![
        load(offset_of!(seccomp_data, arch)),
        jump(libc::BPF_JEQ, ARCHITECTURE, 1, 0),
        answer(libc::SECCOMP_RET_ALLOW),
        load(offset_of!(seccomp_data, nr)),
    ];
    for row in USES.iter().chain(probes).chain(writes).chain(removals) {
        let number = row.number as u32;
        if let Some(Passed { argument, test, value }) = row.passed_in(scope) {
            program.extend([
                jump(libc::BPF_JEQ, number, 0, 4),
                // Little endian: the low word, which holds every flag, comes first.
                load(offset_of!(seccomp_data, args) + size_of::<u64>() * argument),
                jump(test, value as u32, 0, 1),
                answer(libc::SECCOMP_RET_ALLOW),
                answer(libc::SECCOMP_RET_USER_NOTIF),
            ]);
        } else {
            program.extend([jump(libc::BPF_JEQ, number, 0, 1), answer(libc::SECCOMP_RET_USER_NOTIF)]);
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    program
}

fn load(offset: usize) -> sock_filter {
    sock_filter { code: (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, jt: 0, jf: 0, k: offset as u32 }
}

fn jump(test: u32, value: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: (libc::BPF_JMP | test | libc::BPF_K) as u16, jt: if_true, jf: if_false, k: value }
}

fn answer(action: u32) -> sock_filter {
    sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: action }
}

/// A stopped call, in terms of the stopped process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// Descriptor that a relative path starts from, or `AT_FDCWD`.
    pub(super) directory: i32,
    /// Where the path is in memory.
    pub(super) path_address: u64,
    pub(super) kind: RequestKind,
}

/// What is known of a stopped call's purpose without reading memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RequestKind {
    Known(AccessKind),
    /// `open` flags are at this address.
    FlagsAt(u64),
    /// Executes the descriptor itself where the path is empty.
    ExecDescriptor,
    /// There is no path: another machine may be spoken to, or (`false`) only the kernel.
    Socket(bool),
}

/// What a stopped call is about: what goes first, then what is used or comes to be. Empty for a call that isn't in the
/// tables.
pub(super) fn decode(call: &seccomp_data) -> impl Iterator<Item = Request> {
    let of_call = |row: &&Row| row.number == c_long::from(call.nr);
    let used = USES.iter().chain(PROBES).chain(WRITES).find(of_call);
    REMOVALS.iter().find(of_call).into_iter().chain(used).map(|row| request(row, call))
}

fn request(row: &Row, call: &seccomp_data) -> Request {
    let argument = |index: usize| call.args.get(index).copied().unwrap_or(0);
    let kind = match row.means {
        Means::Open(flags) => RequestKind::Known(open_kind(argument(flags))),
        Means::OpenHow(how) => RequestKind::FlagsAt(argument(how)),
        Means::ExecAt(flags) if argument(flags) & EMPTY_PATH != 0 => RequestKind::ExecDescriptor,
        Means::Exec | Means::ExecAt(_) => RequestKind::Known(AccessKind::Exec),
        Means::Probe => RequestKind::Known(AccessKind::Probe),
        Means::Link => RequestKind::Known(AccessKind::Link),
        Means::Write => RequestKind::Known(AccessKind::Write),
        Means::Remove => RequestKind::Known(AccessKind::Remove),
        Means::Socket => {
            let family = argument(0) as i32;
            RequestKind::Socket(family == libc::AF_INET || family == libc::AF_INET6)
        }
    };
    let directory = match row.directory {
        Directory::Working => libc::AT_FDCWD,
        Directory::Argument(index) => argument(index) as i32,
    };
    Request { directory, path_address: argument(row.path), kind }
}

/// What an open with these flags does.
pub(super) fn open_kind(flags: u64) -> AccessKind {
    let has = |bits: u64| flags & bits != 0;
    if has(libc::O_PATH as u64) {
        AccessKind::Probe
    } else if has(NOTHING_READ) {
        AccessKind::Write
    } else if flags & ACCESS_MODE != libc::O_RDONLY as u64 {
        AccessKind::Update
    } else if has(libc::O_DIRECTORY as u64) {
        AccessKind::List
    } else {
        AccessKind::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs the program as the kernel would.
    fn verdict(program: &[sock_filter], call: &seccomp_data) -> u32 {
        let mut words = vec![call.nr as u32, call.arch, call.instruction_pointer as u32, 0];
        words.extend(call.args.iter().flat_map(|argument| [*argument as u32, (*argument >> 32) as u32]));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let instruction = &program[at];
            at += 1;
            let code = u32::from(instruction.code);
            let holds = match code & 0xf0 {
                _ if code & 0x07 == libc::BPF_LD => {
                    accumulator = words[instruction.k as usize / 4];
                    continue;
                }
                _ if code & 0x07 == libc::BPF_RET => return instruction.k,
                libc::BPF_JEQ => accumulator == instruction.k,
                libc::BPF_JSET => accumulator & instruction.k != 0,
                other => panic!("unknown jump {other:#x}"),
            };
            at += usize::from(if holds { instruction.jt } else { instruction.jf });
        }
    }

    fn call(number: c_long, args: [u64; 6]) -> seccomp_data {
        seccomp_data { nr: number as i32, arch: ARCHITECTURE, instruction_pointer: 0, args }
    }

    const READ: u64 = (libc::O_RDONLY | libc::O_CLOEXEC) as u64;
    const LIST: u64 = (libc::O_RDONLY | libc::O_DIRECTORY) as u64;
    const WRITE: u64 = (libc::O_WRONLY | libc::O_CREAT) as u64;
    const UPDATE: u64 = (libc::O_RDWR | libc::O_CREAT) as u64;
    const RENEW: u64 = (libc::O_RDWR | libc::O_CREAT | libc::O_TRUNC) as u64;
    const NO_OPEN: u64 = (libc::O_PATH | libc::O_DIRECTORY) as u64;

    const SKIP: Scope = Scope { ignored: Vec::new(), probes: Probes::Skip, writes: Writes::Skip };
    const DEFAULT: Scope = Scope { ignored: Vec::new(), probes: Probes::Existence, writes: Writes::Skip };
    const ALL: Scope =
        Scope { ignored: Vec::new(), probes: Probes::ExistenceAndRealpath, writes: Writes::Observe };

    fn stops(scope: &Scope, call: &seccomp_data) -> bool {
        verdict(&program(scope), call) == libc::SECCOMP_RET_USER_NOTIF
    }

    #[test]
    fn calls_stop_only_where_they_look_at_something() {
        use AccessKind::{Exec, Link, List, Probe, Read, Update};
        let known = |kind| Some(RequestKind::Known(kind));
        for (name, number, args, expected) in [
            ("read", libc::SYS_openat, [9, 7, READ, 0, 0, 0], known(Read)),
            ("list", libc::SYS_openat, [9, 7, LIST, 0, 0, 0], known(List)),
            ("write", libc::SYS_openat, [9, 7, WRITE, 0, 0, 0], None),
            ("update", libc::SYS_openat, [9, 7, UPDATE, 0, 0, 0], known(Update)),
            ("renew", libc::SYS_openat, [9, 7, RENEW, 0, 0, 0], None),
            ("name only", libc::SYS_openat, [9, 7, NO_OPEN, 0, 0, 0], known(Probe)),
            ("how", libc::SYS_openat2, [9, 7, 8, 24, 0, 0], Some(RequestKind::FlagsAt(8))),
            ("execveat", libc::SYS_execveat, [9, 7, 0, 0, 0, 0], known(Exec)),
            ("fexecve", libc::SYS_execveat, [9, 7, 0, 0, EMPTY_PATH, 0], Some(RequestKind::ExecDescriptor)),
            ("stat", libc::SYS_newfstatat, [9, 7, 0, 0, 0, 0], known(Probe)),
            ("fstat", libc::SYS_newfstatat, [9, 7, 0, EMPTY_PATH, 0, 0], None),
            ("statx", libc::SYS_statx, [9, 7, 0, 0, 0, 0], known(Probe)),
            ("statx fd", libc::SYS_statx, [9, 7, EMPTY_PATH, 0, 0, 0], None),
            ("access", libc::SYS_faccessat, [9, 7, 0, 0, 0, 0], known(Probe)),
            ("read_link", libc::SYS_readlinkat, [9, 7, 0, 256, 0, 0], known(Link)),
            ("realpath", libc::SYS_readlinkat, [9, 7, 0, REALPATH_SIZE_BYTES, 0, 0], None),
            ("mkdir", libc::SYS_mkdirat, [9, 7, 0, 0, 0, 0], None),
            ("close", libc::SYS_close, [9, 7, 0, 0, 0, 0], None),
        ] {
            let call = call(number, args);
            assert_eq!(stops(&DEFAULT, &call), expected.is_some(), "{name}");
            let expected = expected.map(|kind| Request { directory: 9, path_address: 7, kind });
            assert_eq!(decode(&call).next().filter(|_| expected.is_some()), expected, "{name}");
        }
        let exec = call(libc::SYS_execve, [7, 0, 0, 0, 0, 0]);
        assert!(stops(&SKIP, &exec));
        assert_eq!(decode(&exec).next().map(|request| request.directory), Some(libc::AT_FDCWD));
    }

    #[test]
    fn changes_are_about_the_path_that_comes_to_be() {
        for (name, number, args) in [
            ("write", libc::SYS_openat, [9, 7, WRITE, 0, 0, 0]),
            ("renew", libc::SYS_openat, [9, 7, RENEW, 0, 0, 0]),
            ("mkdir", libc::SYS_mkdirat, [9, 7, 0, 0, 0, 0]),
            ("rename", libc::SYS_renameat2, [1, 2, 9, 7, 0, 0]),
            ("link", libc::SYS_linkat, [1, 2, 9, 7, 0, 0]),
            ("symlink", libc::SYS_symlinkat, [1, 9, 7, 0, 0, 0]),
        ] {
            let call = call(number, args);
            assert!(!stops(&DEFAULT, &call) && stops(&ALL, &call), "{name}");
            let kind = RequestKind::Known(AccessKind::Write);
            assert_eq!(decode(&call).last(), Some(Request { directory: 9, path_address: 7, kind }), "{name}");
        }
    }

    #[test]
    fn sockets_for_the_internet_show() {
        for (family, stops_here, is_network) in [
            (libc::AF_UNIX, false, false),
            (libc::AF_INET, true, true),
            (libc::AF_INET6, true, true),
            (libc::AF_NETLINK, true, false),
        ] {
            let call = call(libc::SYS_socket, [family as u64, 1, 0, 0, 0, 0]);
            assert_eq!((stops(&DEFAULT, &call), stops(&ALL, &call)), (false, stops_here), "{family}");
            let kind = decode(&call).next().map(|request| request.kind);
            assert_eq!(kind, Some(RequestKind::Socket(is_network)), "{family}");
        }
    }

    #[test]
    fn what_goes_is_told_before_what_comes() {
        for (name, number, args, count) in [
            ("unlink", libc::SYS_unlinkat, [9, 7, 0, 0, 0, 0], 1),
            ("rename", libc::SYS_renameat2, [9, 7, 1, 2, 0, 0], 2),
        ] {
            let call = call(number, args);
            assert!(!stops(&DEFAULT, &call) && stops(&ALL, &call), "{name}");
            let kind = RequestKind::Known(AccessKind::Remove);
            let gone = Request { directory: 9, path_address: 7, kind };
            assert_eq!((decode(&call).next(), decode(&call).count()), (Some(gone), count), "{name}");
        }
    }

    #[test]
    fn rows_stop_as_far_as_asked_for() {
        let realpath = REALPATH_SIZE_BYTES;
        for (rows, skip, default) in
            [(USES, true, true), (PROBES, false, true), (WRITES, false, false), (REMOVALS, false, false)]
        {
            for row in rows {
                let call = call(row.number, [0; 6]);
                let stopping = [&SKIP, &DEFAULT, &ALL].map(|scope| stops(scope, &call));
                assert_eq!(stopping, [skip, default, true], "{}", row.number);
            }
        }
        assert!(stops(&ALL, &call(libc::SYS_readlinkat, [0, 0, 0, realpath, 0, 0])));
    }

    #[test]
    fn another_architecture_passes() {
        let mut call = call(libc::SYS_openat, [9, 7, READ, 0, 0, 0]);
        call.arch = 0x4000_0003;
        assert_eq!(verdict(&program(&ALL), &call), libc::SECCOMP_RET_ALLOW);
    }
}
