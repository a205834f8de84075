//! Linked into build scripts: before `main`, hands the process to kache, which runs the script again or puts back what an
//! earlier run made. Owns the decision whether there is a kache to hand it to; knows nothing of what kache does.
//!
//! Cargo tells a script which wrapper it uses (`RUSTC_WRAPPER`; `src/cargo/core/compiler/custom_build.rs`, 1.95). Where
//! that isn't kache, or can't be executed, where the script was given arguments, or is a process that a script has
//! started, the program goes on as it would have without this code. kache is called as around a compiler, so that a kache
//! which doesn't know the variable [`MARK`] runs the program.
//!
//! It is compiled by `build.rs` to an object file, carried in kache and written to its cache directory. It calls the C
//! library that every build script is linked with.
#![no_std]

use core::ffi::{c_char, c_int};
use core::ptr::null;

/// Holds the `OUT_DIR` of the script that kache runs.
const MARK: &[u8] = b"KACHE_IN_SCRIPT\0";
const OUT_DIR: &[u8] = b"OUT_DIR\0";
const WRAPPER: &[u8] = b"RUSTC_WRAPPER\0";
const WORKSPACE_WRAPPER: &[u8] = b"RUSTC_WORKSPACE_WRAPPER\0";
const KACHE: &[u8] = b"kache";
const PROGRAM: &[u8] = b"/proc/self/exe\0";
const ARGUMENTS: &[u8] = b"/proc/self/cmdline\0";
const PATH_BYTES_MAX: usize = 4096;

unsafe extern "C" {
    static environ: *const *const c_char;
    fn setenv(name: *const c_char, value: *const c_char, replaces: c_int) -> c_int;
    fn unsetenv(name: *const c_char) -> c_int;
    fn execvp(program: *const c_char, arguments: *const *const c_char) -> c_int;
    fn readlink(path: *const c_char, to: *mut c_char, size: usize) -> isize;
    fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    fn read(file: c_int, to: *mut c_char, size: usize) -> isize;
    fn close(file: c_int) -> c_int;
}

#[used]
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: unsafe extern "C" fn() = hand_over;

unsafe extern "C" fn hand_over() {
    unsafe {
        let out_dir = variable(OUT_DIR);
        let mut wrapper = variable(WRAPPER);
        if !is_kache(wrapper) {
            wrapper = variable(WORKSPACE_WRAPPER);
        }
        if out_dir.is_null() || !is_kache(wrapper) || is_same(variable(MARK), out_dir) || has_arguments() {
            return;
        }
        let mut program = [0 as c_char; PATH_BYTES_MAX];
        let length = readlink(PROGRAM.as_ptr().cast(), program.as_mut_ptr(), PATH_BYTES_MAX - 1);
        if length <= 0 || setenv(MARK.as_ptr().cast(), out_dir, 1) != 0 {
            return;
        }
        let arguments = [wrapper, program.as_ptr(), null()];
        execvp(wrapper, arguments.as_ptr());
        unsetenv(MARK.as_ptr().cast());
    }
}

/// The value of a variable: without a call that a preloaded library could see.
unsafe fn variable(name: &[u8]) -> *const c_char {
    unsafe {
        let mut at = environ;
        while !at.is_null() && !(*at).is_null() {
            let (entry, name): (*const c_char, *const c_char) = (*at, name.as_ptr().cast());
            let mut same = 0;
            while *name.add(same) != 0 && *entry.add(same) == *name.add(same) {
                same += 1;
            }
            if *name.add(same) == 0 && *entry.add(same) == b'=' as c_char {
                return entry.add(same + 1);
            }
            at = at.add(1);
        }
        null()
    }
}

/// Whether the last component of a path begins with kache's name.
unsafe fn is_kache(path: *const c_char) -> bool {
    unsafe {
        if path.is_null() {
            return false;
        }
        let (mut name, mut at) = (path, path);
        while *at != 0 {
            at = at.add(1);
            if *at.sub(1) == b'/' as c_char {
                name = at;
            }
        }
        let mut same = 0;
        while same < KACHE.len() && *name.add(same) == *KACHE.as_ptr().add(same) as c_char {
            same += 1;
        }
        same == KACHE.len()
    }
}

unsafe fn is_same(one: *const c_char, other: *const c_char) -> bool {
    unsafe {
        let mut at = 0;
        while !one.is_null() && *one.add(at) == *other.add(at) {
            if *one.add(at) == 0 {
                return true;
            }
            at += 1;
        }
        false
    }
}

/// Whether there is more than the program's name; also where that can't be known.
unsafe fn has_arguments() -> bool {
    unsafe {
        let file = open(ARGUMENTS.as_ptr().cast(), 0);
        if file < 0 {
            return true;
        }
        let mut text = [0 as c_char; PATH_BYTES_MAX];
        let length = read(file, text.as_mut_ptr(), PATH_BYTES_MAX);
        close(file);
        let (mut words, mut at) = (0, 0);
        while at < length {
            words += c_int::from(*text.as_ptr().offset(at) == 0);
            at += 1;
        }
        words != 1
    }
}
