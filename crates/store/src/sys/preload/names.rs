//! Preloaded into the compiler and what it starts: tells the observer which environment variables a program asks its C
//! library for. Owns `getenv` and its siblings, which answer as those of the C library do; knows nothing of kache beyond
//! the form of a report.
//!
//! A report is a system call that the observer sees and that finds nothing: a look for the file
//! `/dev/null/kache-env/own/PROGRAM/NAME`, where no file can be. `plugin` stands for `own` where a library that the
//! program has loaded after its start is among the callers: a proc macro, as opposed to the compiler. Each name is told
//! about once by a process for each of the two, as long as no other takes its place in the table.
//!
//! It is compiled by `build.rs`, carried in kache and written to its cache directory. It links to no library: whatever C library the program has (glibc, musl) brings `environ` and `dl_iterate_phdr`.
#![no_std]

use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

const PREFIX: &[u8] = b"/dev/null/kache-env/";
const OWN: &[u8] = b"own/";
const PLUGIN: &[u8] = b"plugin/";
/// Longer names are nobody's: the report has to fit into a file name.
const NAME_BYTES_MAX: usize = 255;
const EXECUTABLE: &[u8] = b"/proc/self/exe\0";

static TOLD: [AtomicU32; 512] = [const { AtomicU32::new(0) }; 512];

/// Libraries that were there when the program started.
static OBJECTS_AT_START: AtomicUsize = AtomicUsize::new(usize::MAX);
/// How much of the stack is searched for callers: those of a macro are near.
const STACK_BYTES: usize = 64 << 10;
/// Most libraries loaded later whose place is remembered in a search.
const RANGES_MAX: usize = 256;

unsafe extern "C" {
    static environ: *const *const u8;
    fn dl_iterate_phdr(
        callback: unsafe extern "C" fn(*const Object, usize, *mut Search) -> i32,
        search: *mut Search,
    ) -> i32;
}

/// The beginning of `struct dl_phdr_info` (64 bit).
#[repr(C)]
struct Object {
    base: usize,
    name: *const u8,
    headers: *const Header,
    header_count: u16,
}

/// `Elf64_Phdr`.
#[repr(C)]
struct Header {
    kind: u32,
    flags: u32,
    offset: u64,
    address: usize,
    physical: usize,
    size_in_file: u64,
    size_in_memory: usize,
    alignment: u64,
}

#[repr(C)]
struct Search {
    objects: usize,
    first: usize,
    found: usize,
    ranges: [Range; RANGES_MAX],
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Range {
    from: usize,
    to: usize,
}

/// Counts objects; of those from number `first` on, notes where their code is.
unsafe extern "C" fn note(object: *const Object, _: usize, search: *mut Search) -> i32 {
    const LOAD: u32 = 1;
    const EXECUTABLE: u32 = 1;
    let (object, search) = unsafe { (&*object, &mut *search) };
    search.objects += 1;
    if search.objects > search.first {
        let mut at = 0;
        while at < usize::from(object.header_count) {
            let header = unsafe { &*object.headers.add(at) };
            at += 1;
            if header.kind == LOAD && header.flags & EXECUTABLE != 0 && search.found < RANGES_MAX {
                let from = object.base.wrapping_add(header.address);
                let range = Range { from, to: from.wrapping_add(header.size_in_memory) };
                unsafe { *search.ranges.as_mut_ptr().add(search.found) = range };
                search.found += 1;
            }
        }
    }
    0
}

unsafe extern "C" fn count_objects() {
    let mut search = Search { objects: 0, first: usize::MAX, found: 0, ranges: [Range { from: 0, to: 0 }; RANGES_MAX] };
    unsafe { dl_iterate_phdr(note, &raw mut search) };
    OBJECTS_AT_START.store(search.objects, Ordering::Relaxed);
}

#[used]
#[unsafe(link_section = ".init_array")]
static AT_START: unsafe extern "C" fn() = count_objects;

/// Whether code of a library that was loaded later is among the callers, by the return addresses on the stack.
#[inline(never)]
unsafe fn is_called_by_plugin() -> bool {
    let mut search = Search {
        objects: 0,
        first: OBJECTS_AT_START.load(Ordering::Relaxed),
        found: 0,
        ranges: [Range { from: 0, to: 0 }; RANGES_MAX],
    };
    unsafe { dl_iterate_phdr(note, &raw mut search) };
    if search.found == 0 {
        return false;
    }
    const WORDS: usize = 512;
    let mut words = [0_usize; WORDS];
    let start = &raw const search as usize;
    let mut done = 0;
    while done < STACK_BYTES {
        // Through the kernel, which stops where the stack ends instead of ending the program.
        let local = [words.as_mut_ptr() as usize, WORDS * 8];
        let remote = [start + done, WORDS * 8];
        let read = unsafe { read_own_memory(local.as_ptr(), remote.as_ptr()) };
        if read <= 0 {
            return false;
        }
        let mut at = 0;
        while at < read as usize / 8 {
            let word = unsafe { *words.as_ptr().add(at) };
            let mut number = 0;
            while number < search.found {
                let range = unsafe { *search.ranges.as_ptr().add(number) };
                // The borders themselves are on the stack, too.
                if word > range.from && word < range.to {
                    return true;
                }
                number += 1;
            }
            at += 1;
        }
        done += read as usize;
    }
    false
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn getenv(name: *const u8) -> *const u8 {
    unsafe { answer(name) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn secure_getenv(name: *const u8) -> *const u8 {
    // Where it would answer nothing, in a program with more rights than its caller, nothing is preloaded.
    unsafe { answer(name) }
}

#[unsafe(no_mangle)]
pub unsafe extern "C" fn __secure_getenv(name: *const u8) -> *const u8 {
    unsafe { answer(name) }
}

unsafe fn answer(name: *const u8) -> *const u8 {
    if name.is_null() {
        return core::ptr::null();
    }
    let mut length = 0;
    let mut hash: u32 = 0x811c_9dc5;
    unsafe {
        while *name.add(length) != 0 {
            hash = (hash ^ u32::from(*name.add(length))).wrapping_mul(0x0100_0193);
            length += 1;
        }
        if length == 0 {
            return core::ptr::null();
        }
        let by_plugin = is_called_by_plugin();
        tell(name, length, if by_plugin { hash | 1 } else { hash & !1 }, by_plugin);
        value(name, length)
    }
}

unsafe fn value(name: *const u8, length: usize) -> *const u8 {
    unsafe {
        let mut at = environ;
        if at.is_null() {
            return core::ptr::null();
        }
        while !(*at).is_null() {
            let entry = *at;
            let mut same = 0;
            while same < length && *entry.add(same) == *name.add(same) {
                same += 1;
            }
            if same == length && *entry.add(length) == b'=' {
                return entry.add(length + 1);
            }
            at = at.add(1);
        }
        core::ptr::null()
    }
}

unsafe fn tell(name: *const u8, length: usize, hash: u32, by_plugin: bool) {
    let told = unsafe { &*TOLD.as_ptr().add(hash as usize & 511) };
    if length > NAME_BYTES_MAX || told.swap(hash, Ordering::Relaxed) == hash {
        return;
    }
    let mut path = [0_u8; 1024];
    let start = path.as_mut_ptr();
    unsafe {
        let mut end = append(start, PREFIX.as_ptr(), PREFIX.len());
        let caller = if by_plugin { PLUGIN } else { OWN };
        end = append(end, caller.as_ptr(), caller.len());
        let mut program = [0_u8; 512];
        let read = system_call(
            READLINKAT,
            [AT_FDCWD, EXECUTABLE.as_ptr() as isize, program.as_mut_ptr() as isize, 511, 0, 0],
        );
        let read = if read < 0 { 0 } else { read as usize };
        let mut base = read;
        while base > 0 && *program.as_ptr().add(base - 1) != b'/' {
            base -= 1;
        }
        let part = if read - base > 200 { 200 } else { read - base };
        end = append(end, program.as_ptr().add(base), part);
        end = append(end, b"/".as_ptr(), 1);
        append(end, name, length);
        system_call(FACCESSAT, [AT_FDCWD, start as isize, 0, 0, 0, 0]);
    }
}

unsafe fn append(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
    let mut at = 0;
    while at < length {
        unsafe { *to.add(at) = *from.add(at) };
        at += 1;
    }
    unsafe { to.add(length) }
}

#[cfg(target_arch = "x86_64")]
const FACCESSAT: usize = 269;
#[cfg(target_arch = "x86_64")]
const READLINKAT: usize = 267;
#[cfg(target_arch = "x86_64")]
const PROCESS_VM_READV: usize = 310;
#[cfg(target_arch = "x86_64")]
const GETPID: usize = 39;
#[cfg(target_arch = "aarch64")]
const FACCESSAT: usize = 48;
#[cfg(target_arch = "aarch64")]
const READLINKAT: usize = 78;
#[cfg(target_arch = "aarch64")]
const PROCESS_VM_READV: usize = 270;
#[cfg(target_arch = "aarch64")]
const GETPID: usize = 172;

const AT_FDCWD: isize = -100;

unsafe fn read_own_memory(local: *const usize, remote: *const usize) -> isize {
    unsafe {
        let process = system_call(GETPID, [0; 6]);
        system_call(PROCESS_VM_READV, [process, local as isize, 1, remote as isize, 1, 0])
    }
}

/// Leaves `errno` alone.
unsafe fn system_call(number: usize, arguments: [isize; 6]) -> isize {
    let [a, b, c, d, e, f] = arguments;
    let answer: isize;
    #[cfg(target_arch = "x86_64")]
    unsafe {
        core::arch::asm!("syscall", inlateout("rax") number as isize => answer, in("rdi") a, in("rsi") b, in("rdx") c,
            in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    #[cfg(target_arch = "aarch64")]
    unsafe {
        core::arch::asm!("svc 0", in("x8") number, inlateout("x0") a => answer, in("x1") b, in("x2") c, in("x3") d,
            in("x4") e, in("x5") f, options(nostack));
    }
    answer
}
