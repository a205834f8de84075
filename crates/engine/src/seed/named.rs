//! Absolute paths that a build script's program has among its texts. A script that reads `/etc/os-release` or runs
//! `/usr/bin/foo` shows nowhere what it reads, but that text is in its program. Knows ELF programs; decides nothing.
//!
//! Texts in a Rust program are not delimited: `/etc/foo` and what the compiler put behind it are one text. So what is
//! kept is the text as far as it could be a path, and its state is that of *every* path that it begins with. A file that
//! appears later changes that state as well as one that changes or vanishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use kache_core::digest::Digest;
use kache_core::paths::Root;
use kache_core::seeding::Unseeded;
use object::{Object, ObjectSection, SectionFlags};

use super::surroundings::Surroundings;
use super::{stamps, times};
use crate::facts::cpu_identity;

/// Longest path that is looked at, in bytes.
const PATH_BYTES_MAX: usize = 192;
/// What is read of a file of the kernel's, in bytes.
const KERNEL_BYTES_MAX: u64 = 64 << 10;
/// Texts of the standard library, which is in every program: what they lead to is another for each process, or only
/// read when the program crashes.
const OF_STD: &[&str] = &["/lib/debug/", "/proc/self/", "/sys/fs/cgroup", "/usr/lib/debug/"];
/// Folders of the root that a path may begin with, whether they are there or not.
const TOP: &[&str] =
    &["bin", "etc", "home", "lib", "lib64", "mnt", "nix", "opt", "run", "sbin", "srv", "usr", "var"];
/// Where something is made and removed all the time, so that a folder's time says nothing.
const RESTLESS: &[&str] = &["/dev", "/proc", "/run", "/sys", "/tmp", "/var"];
/// The kernel's files.
const OF_KERNEL: &[&str] = &["/proc", "/sys"];

/// What stands for a device, a socket and the like.
const SPECIAL: &str = "special";

/// What there is of a text's paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Each path that is there, by its length, with what tells its content.
    pub stamp: String,
    /// When one of them, or a folder in which one might be, was changed last, in nanoseconds since 1970.
    pub changed_ns: i64,
    /// What comes after this many bytes can't be there as long as nothing else changes.
    end: usize,
}

/// What the program in the file `program` names outside Cargo's home, the toolchain and the build directory, and its
/// state, in which nothing may have changed since `started_ns`. The kernel's clock for files ticks every few milliseconds:
/// what changed in the tick of the start may have changed after it.
pub fn record(
    program: &Path,
    around: &Surroundings,
    started_ns: i64,
) -> Result<BTreeMap<String, String>, Unseeded> {
    let program = fs::read(program).map_err(|_| Unseeded::EntryGone)?;
    let own = [Root::CargoHome, Root::Sysroot, Root::Target].map(|root| around.roots.get(root));
    let texts = texts(&program, &own.into_iter().flatten().collect::<Vec<_>>());
    let texts = texts.ok_or_else(|| Unseeded::Unknown("the build script's program".to_owned()))?;
    let look = |text: String| {
        let state = state(&text);
        if state.changed_ns >= started_ns { Err(Unseeded::Native(text)) } else { Ok((text, state.stamp)) }
    };
    texts.into_iter().map(look).collect()
}

/// The texts in the data of `program` that could be paths, none of which leads below a directory of `own`. `None` where
/// the program isn't understood.
fn texts(program: &[u8], own: &[&str]) -> Option<BTreeSet<String>> {
    let mut top: BTreeSet<String> = TOP.iter().map(|name| (*name).to_owned()).collect();
    top.extend(super::target_dir::folders(Path::new("/")));
    let file = object::File::parse(program).ok()?;
    let mut found = BTreeSet::new();
    for section in file.sections() {
        let SectionFlags::Elf { sh_flags } = section.flags() else { return None };
        let is_loaded = sh_flags & u64::from(object::elf::SHF_ALLOC) != 0;
        let is_code = sh_flags & u64::from(object::elf::SHF_EXECINSTR) != 0;
        // The program's loader is nothing that it reads.
        if is_loaded && !is_code && section.name() != Ok(".interp") {
            found.extend(paths(section.data().ok()?, &top));
        }
    }
    let is_own = |text: &str| own.iter().chain(OF_STD).any(|dir| text.starts_with(dir));
    let foreign = found.into_iter().filter(|text| !is_own(text));
    // Many begin with the same file, or with the same nothing.
    Some(foreign.map(|text| text[..state(&text).end].to_owned()).collect())
}

/// Texts of the form of an absolute path with at least two parts, of which the first is in `top`.
fn paths(data: &[u8], top: &BTreeSet<String>) -> BTreeSet<String> {
    let ends = |byte: &u8| {
        !(byte.is_ascii_alphanumeric() || b"/._-+@%~#".contains(byte) || *byte >= 0x80) || *byte == 0
    };
    let starts = memchr::memchr_iter(b'/', data);
    let texts = starts.filter_map(|start| {
        let text = &data[start..data.len().min(start + PATH_BYTES_MAX)];
        let text = &text[..text.iter().position(ends).unwrap_or(text.len())];
        let text = text.utf8_chunks().next()?.valid();
        let (first, rest) = text[1..].split_once('/')?;
        (top.contains(first) && !rest.is_empty()).then(|| text.to_owned())
    });
    texts.collect()
}

/// What there is of the paths that `text` begins with.
pub fn state(text: &str) -> State {
    let mut state = State { stamp: String::new(), changed_ns: i64::MIN, end: text.len() };
    for end in (2..=text.len().min(PATH_BYTES_MAX))
        .filter(|end| text.is_char_boundary(*end) && !text[..*end].ends_with('/'))
    {
        let path = Path::new(&text[..end]);
        let content = content(path);
        if let Some(content) = &content {
            state.stamp.push_str(&format!("{end} {content}\n"));
            let timeless = if content == stamps::DIRECTORY { RESTLESS } else { OF_KERNEL };
            if content != SPECIAL && !is_below(path, timeless) {
                state.changed_ns = state.changed_ns.max(times::changed_ns(path).unwrap_or(i64::MAX));
            }
        }
        if text[end..].starts_with('/') && content.as_deref() != Some(stamps::DIRECTORY) {
            state.end = end + 1;
            break;
        }
    }
    state
}

fn is_below(path: &Path, dirs: &[&str]) -> bool {
    dirs.iter().any(|dir| path.starts_with(dir))
}

/// What tells a file's content; `None` where there is none. Files of the kernel have no size and no time.
fn content(path: &Path) -> Option<String> {
    let meta = fs::metadata(path).ok()?;
    if !meta.is_file() {
        return Some(if meta.is_dir() { stamps::DIRECTORY } else { SPECIAL }.to_owned());
    }
    if path == Path::new("/proc/cpuinfo") {
        // It says how fast each processor runs at the moment.
        return Some(cpu_identity().map_or_else(|| "unknown".to_owned(), |cpu| cpu.to_string()));
    }
    if is_below(path, OF_KERNEL) {
        let nonblocking = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
        let mut bytes = Vec::new();
        let read = file.and_then(|file| file.take(KERNEL_BYTES_MAX).read_to_end(&mut bytes));
        return Some(read.map_or_else(|error| error.to_string(), |_| Digest::of(&bytes).to_string()));
    }
    Some(stamps::file(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_could_be_paths() {
        let top = BTreeSet::from(["etc".to_owned(), "usr".to_owned()]);
        let of = |data: &[u8]| paths(data, &top).into_iter().collect::<Vec<_>>();
        assert_eq!(
            of(b"x/etc/foosrc/main.rs cannot read /usr/bin/a b"),
            ["/etc/foosrc/main.rs", "/usr/bin/a"]
        );
        assert_eq!(of(b"/etc"), [""; 0]);
        assert_eq!(of(b"/etc/ /etcetera/x src/etc /lib/x and/or"), [""; 0]);
        assert_eq!(of(b"/usr/\xc3\xa4/x\xff/etc/y\0z"), ["/etc/y", "/usr/\u{e4}/x"]);
        assert_eq!(of(format!("/usr/{}", "a".repeat(999)).as_bytes())[0].len(), PATH_BYTES_MAX);
    }

    #[test]
    fn a_state_is_that_of_every_path_that_a_text_begins_with() {
        let dir = tempfile::tempdir_in("/tmp").expect("temp dir");
        let text = format!("{}/foobar/baz", dir.path().display());
        let nothing = state(&text);
        assert_eq!(&text[..nothing.end], format!("{}/foobar/", dir.path().display()));
        assert_eq!(state(&text[..nothing.end]), nothing);
        let mut seen = vec![nothing.stamp];
        for (name, content) in [("other", ""), ("foo", "1"), ("foo", "22"), ("foobar", "")] {
            fs::write(dir.path().join(name), content).expect("write");
            let now = state(&text).stamp;
            assert_eq!(seen.contains(&now), name == "other", "{name} {content}: {now}");
            seen.push(now);
        }
        fs::remove_file(dir.path().join("foobar")).expect("remove");
        assert_eq!(state(&text).stamp, seen[3]);
        fs::create_dir(dir.path().join("foobar")).expect("mkdir");
        assert_eq!(state(&text).end, text.len());
    }

    #[test]
    fn files_of_the_kernel_are_told_by_what_they_hold() {
        let content = |path: &str| content(Path::new(path));
        assert_eq!(content("/proc/version"), content("/proc/version"));
        assert_eq!(content("/proc/version").map(|digest| digest.len()), Some(64));
        assert_eq!(content("/proc/cpuinfo"), content("/proc/cpuinfo"));
        assert_eq!(content("/dev/null").as_deref(), Some("special"));
        assert_eq!((content("/proc").as_deref(), content("/proc/none")), (Some("directory"), None));
    }

    #[test]
    fn the_standard_library_adds_nothing_that_changes_by_itself() {
        let dir = tempfile::tempdir().expect("temp dir");
        let source = dir.path().join("a.rs");
        fs::write(&source, "fn main() { println!(\"{:?}\", std::fs::read(\"/etc/kache-test\").is_ok()); }\n")
            .expect("write");
        let program = dir.path().join("a");
        let made = std::process::Command::new("rustc").arg(&source).arg("-o").arg(&program).status();
        assert!(made.expect("rustc").success());
        let program = fs::read(&program).expect("read");
        let texts = texts(&program, &[]).expect("a program");
        assert!(texts.iter().any(|text| text.starts_with("/etc/kache-test")), "{texts:?}");
        let states: Vec<State> = texts.iter().map(|text| state(text)).collect();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert_eq!(texts.iter().map(|text| state(text)).collect::<Vec<_>>(), states);
        assert_eq!(super::texts(b"no program", &[]), None);
    }
}
