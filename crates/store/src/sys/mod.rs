//! Owns what the standard library can't do about processes: observing what a compiler and its descendants
//! look at, and starting background work. The only module with unsafe code; knows nothing about caching.
//!
//! # Observing a process tree
//!
//! A proc macro may read or list anything, and the compiler reports none of it. So the compiler is started
//! under a seccomp *user notification* filter: the kernel stops each process of the tree at a system call that
//! opens, lists, probes or executes a path, tells us, and goes on when we say so. Needs no privilege.
//!
//! ```text
//! wrapper, main thread      supervisor thread                   child (after fork, before exec)
//! spawn ─────────────────────────────────────────────────────►  no_new_privs, filter, gets listener fd
//!   (blocked in spawn)      receives the listener  ◄─ socket ─  sends it (SCM_RIGHTS), closes its own
//!                           answers "continue"     ◄─ kernel ─  execve
//!   Child, Observer         reads the path out of the stopped process, answers, records
//! wait
//! finish ─── stop pipe ──►  ends; hands back the record
//! ```
//!
//! The answer is always "continue": the kernel then carries out the call exactly as it would have. That the
//! path might change between our look and the kernel's would matter for a sandbox; it doesn't for a record.
//!
//! ## Why it can't break a build
//!
//! A listener that closes while its filter is in use makes the filtered calls fail with `ENOSYS`: the one thing
//! that must not happen, since a macro that tolerates unreadable files would then expand to something else.
//!
//! | Danger | Answer |
//! |---|---|
//! | Kernel, container or outer filter refuses | the child goes on unfiltered, `spawn_observed` returns `None` |
//! | Filter installed but its listener lost (`EMFILE`, …) | `execve` is filtered, so it fails: `spawn` reports an error and we spawn again, unobserved |
//! | A descendant outlives the compiler | a detached process (`handover`) inherits the listener and answers until the last one is gone |
//! | The wrapper is killed while the compiler runs | the compiler has asked to be killed with it (`PR_SET_PDEATHSIG`), so it can't go on blind |
//! | A signal meets a stopped call | `WAIT_KILLABLE_RECV` (5.19): once we have the call, only a fatal one interrupts; else the call restarts, or is `EINTR` if the handler asked for that |
//! | We may not read other processes | no path is read after the first refusal; `finish` returns `None` |
//! | The supervisor falls over | it indexes nothing, unwraps nothing, and remembers a bounded number of paths |
//!
//! ## Blind spots
//!
//! * What needs no path: inherited descriptors, what a socket says, `io_uring` opens. Environment variables show where [`LIBRARY`]
//!   is preloaded and the program asks its C library.
//! * Programs of another architecture or ABI (32-bit, x32) pass unfiltered.
//! * The kernel's own opens: a `#!` interpreter, the ELF loader.
//! * What `realpath` finds, unless asked for; changes of attributes.
//! * A process in its own mount namespace or `chroot` is recorded by the names it used there.
//! * A descendant whose memory we may not read (it was executable but not readable): counted as `unreadable`.
//! * `PR_SET_NO_NEW_PRIVS` turns off set-user-ID programs in the tree.
//!
//! ## What it costs, and what was dropped
//!
//! Linux 6.18 in a virtual machine with two busy processors: 0.4 ms per command (a fork in place of `posix_spawn`,
//! a thread) and 8 to 11 µs per stopped call; the calls that don't stop cost nothing that can be measured. Stops per
//! compile, for opens and executions only, with existence checks, with links: `cargo check` of a small crate 59, 108,
//! 170; `serde_json` 111, 269, 732; a program with its linker 236, 775, 1784.
//!
//! * A supervisor in a process of its own from the start: not an ancestor of the compiler, so Yama (`ptrace_scope` 1,
//!   the default of Debian's descendants) forbids it to read memory. Hence a thread, and a keeper only at the end.
//! * Not filtering `execve`, so that no thread need be ready before `spawn`: a lost listener would go unnoticed.
//! * `NOTIF_ID_VALID` before the answer: that the answer is accepted says the same.
//! * Recording before the answer instead of after it: no cheaper.
#![expect(unsafe_code, reason = "system calls that neither std nor rustix wraps")]

mod apart;
mod bound;
mod detach;
mod extents;
mod idle;
mod observation;
mod preload;
pub mod script;

#[cfg(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
))]
mod seccomp;
#[cfg(not(all(
    target_os = "linux",
    target_pointer_width = "64",
    target_endian = "little",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
#[path = "unobserved.rs"]
mod seccomp;

#[cfg(all(test, target_os = "linux"))]
mod tests;

pub use apart::apart;
pub use bound::bind_to_us;
pub use detach::detach_and_spawn;
pub use extents::{Extent, Shared, extents};
pub use idle::idle_priority;
pub use observation::{AccessKind, Observation, ObservedAccess, Probes, Scope, Writes};
pub use preload::{LIBRARY, VariableRead, is_report, variable_read};
pub use seccomp::{Observer, can_observe, spawn_observed};
