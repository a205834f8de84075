//! The floor: the least work any hard-linking compiler wrapper can do while Cargo stays content.
//! It knows a unit only by crate name and by the hash that Cargo gives it, so it is wrong as soon as a source changes:
//! a yardstick, never a cache. It hashes nothing and asks nobody.
//!
//! Cargo's hash is the extra-filename, or `-C metadata` where Cargo gives none: binaries, dynamic libraries and build
//! scripts in the per-unit layout, where every unit has a directory of its own and names may be the same. So what is
//! stored carries the unit's name in front of its own.
//!
//! A miss runs the compiler, hard-links what it announced into `$FLOOR_DIR` and writes one manifest. A hit reads that
//! manifest, links the files back, writes a private `.d`, repeats the diagnostics and exits.
//!
//! Cargo judges freshness by mtime, and hard links share one. So everything stored carries the same old time `STORED`:
//! "a dependency is newer than its dependent" is a strict comparison, and equal times are fresh. Two things would
//! break that, and each costs one extra call:
//!
//! * the file with what a build-script run printed (`output`, or `run/stdout` in the per-unit layout) is new in a new
//!   target directory, hence newer than the library that depends on it: the library's hit sets it back to `STORED`;
//! * a workspace member's build script may watch files younger than `STORED`, so that file keeps its own time, and
//!   what is linked for members (but not their build scripts) takes the current time instead.
//!
//! `$FLOOR_ROOT` names the checkout, so that `.d` files and artifact messages can be moved to another one.
//!
//! Manifest: the root, the file names (joined by `/`), the length of the `.d` file, each ended by a newline; then the
//! bytes of the `.d` file; then those of standard error.

use std::borrow::Cow;
use std::env;
use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, exit};

/// 15 June 2025: later than the files of registry packages (2006, a few up to 2023), earlier than any build.
const STORED: i64 = 1_750_000_000;

fn main() {
    let args: Vec<OsString> = env::args_os().skip(1).collect();
    let Some(unit) = Unit::parse(&args) else { run_plain(&args) };
    match fs::read_to_string(&unit.manifest) {
        Ok(manifest) => unit.restore(&manifest).unwrap_or_else(|e| die(&unit.id, &e)),
        Err(_) => unit.compile(&args).unwrap_or_else(|e| die(&unit.id, &e)),
    }
}

/// What the floor needs of one compiler call.
struct Unit {
    /// `<crate name>-<hash>`: the whole identity of a unit here.
    id: String,
    /// `<crate name><extra-filename>`: how the `.d` file is called.
    stem: String,
    out_dir: PathBuf,
    store: PathBuf,
    root: String,
    manifest: PathBuf,
}

impl Unit {
    /// `None` for probes and anything else that isn't an ordinary unit of Cargo's.
    fn parse(args: &[OsString]) -> Option<Unit> {
        let (mut name, mut extra, mut metadata, mut out_dir) = (None, "", None, None);
        let mut words = args.iter().skip(1);
        while let Some(word) = words.next() {
            match word.as_bytes() {
                b"--crate-name" => name = words.next()?.to_str(),
                b"--out-dir" => out_dir = words.next(),
                b"-C" => {
                    let option = words.next()?.to_str()?;
                    extra = option.strip_prefix("extra-filename=").unwrap_or(extra);
                    metadata = option.strip_prefix("metadata=").or(metadata);
                }
                _ => {}
            }
        }
        let stem = format!("{}{extra}", name?);
        let id = if extra.is_empty() { format!("{stem}-{}", metadata?) } else { stem.clone() };
        let store = PathBuf::from(env::var_os("FLOOR_DIR")?);
        let manifest = store.join(format!("{id}.manifest"));
        let root = env::var("FLOOR_ROOT").ok()?;
        Some(Unit { id, stem, out_dir: out_dir?.into(), store, root, manifest })
    }

    fn kept(&self, name: &str) -> PathBuf {
        self.store.join(format!("{}={name}", self.id))
    }

    fn dep_info(&self) -> PathBuf {
        self.out_dir.join(format!("{}.d", self.stem))
    }

    fn restore(&self, manifest: &str) -> io::Result<()> {
        let mut parts = manifest.splitn(4, '\n');
        let mut part = || parts.next().ok_or_else(|| io::Error::other("torn manifest"));
        let (root, names, length, rest) = (part()?, part()?, part()?, part()?);
        let (dep_info, stderr) = rest.split_at(length.parse().map_err(io::Error::other)?);

        let is_member = self.is_member();
        for name in names.split_terminator('/') {
            let to = self.out_dir.join(name);
            link_over(&self.kept(name), &to)?;
            if is_member {
                set_mtime(&to, None)?;
            }
        }
        self.settle_script_output(is_member);
        if !dep_info.is_empty() {
            fs::write(self.dep_info(), moved(dep_info, root, &self.root).as_bytes())?;
        }
        io::stderr().write_all(moved(stderr, root, &self.root).as_bytes())
    }

    fn compile(&self, args: &[OsString]) -> io::Result<()> {
        let mut child = Command::new(&args[0]).args(&args[1..]).stderr(Stdio::piped()).spawn()?;
        let mut source = BufReader::new(child.stderr.take().expect("stderr is piped"));
        let (mut stderr, mut outputs) = (String::new(), Vec::new());
        loop {
            let start = stderr.len();
            if source.read_line(&mut stderr)? == 0 {
                break;
            }
            let line = &stderr[start..];
            // At once: Cargo starts dependents on the metadata's announcement.
            io::stderr().write_all(line.as_bytes())?;
            outputs.extend(announced(line));
        }
        let status = child.wait()?;
        if !status.success() {
            exit(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)));
        }

        let is_member = self.is_member();
        let mut manifest = self.root.clone();
        manifest.push('\n');
        for output in &outputs {
            let Some(name) = output.file_name().and_then(OsStr::to_str) else { continue };
            let kept = self.kept(name);
            link_over(output, &kept)?;
            set_mtime(&kept, if is_member { None } else { Some(STORED) })?;
            manifest.push_str(name);
            manifest.push('/');
        }
        let dep_info = fs::read_to_string(self.dep_info()).unwrap_or_default();
        manifest.push_str(&format!("\n{}\n", dep_info.len()));
        manifest.push_str(&dep_info);
        manifest.push_str(&stderr);
        fs::write(&self.manifest, manifest)?;
        self.settle_script_output(is_member);
        Ok(())
    }

    /// Whether what is linked takes the current time; build scripts stay older than the output of their runs.
    fn is_member(&self) -> bool {
        env::var_os("CARGO_PRIMARY_PACKAGE").is_some() && !self.stem.starts_with("build_script_")
    }

    fn settle_script_output(&self, is_member: bool) {
        if let (false, Some(out_dir)) = (is_member, env::var_os("OUT_DIR")) {
            // In the per-unit layout the compiler's output directory, too, is called `out`.
            let name = if self.out_dir.ends_with("out") { "run/stdout" } else { "output" };
            // A package without a build-script run of its own has no such file: nothing to settle.
            let _ = set_mtime(&Path::new(&out_dir).with_file_name(name), Some(STORED));
        }
    }
}

/// The file that an artifact message of the compiler names; `.d` files are kept in the manifest instead.
fn announced(line: &str) -> Option<PathBuf> {
    let rest = line.strip_prefix(r#"{"$message_type":"artifact","artifact":""#)?;
    let (path, kind) = rest.split_once('"')?;
    (!kind.contains(r#""dep-info""#)).then(|| path.into())
}

/// `text`, which speaks of the checkout `from`, as if it had been written in `to`.
fn moved<'t>(text: &'t str, from: &str, to: &str) -> Cow<'t, str> {
    if from == to { Cow::Borrowed(text) } else { Cow::Owned(text.replace(from, to)) }
}

fn link_over(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            fs::remove_file(to)?;
            fs::hard_link(from, to)
        }
        other => other,
    }
}

#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

unsafe extern "C" {
    fn utimensat(dir: i32, path: *const std::ffi::c_char, times: *const Timespec, flags: i32) -> i32;
}

/// Sets the modification time; `None` is now, by the kernel's coarse clock. (The standard library would open the file.)
fn set_mtime(path: &Path, seconds: Option<i64>) -> io::Result<()> {
    const AT_FDCWD: i32 = -100;
    const UTIME_NOW: i64 = (1 << 30) - 1;
    let time = || match seconds {
        Some(seconds) => Timespec { seconds, nanoseconds: 0 },
        None => Timespec { seconds: 0, nanoseconds: UTIME_NOW },
    };
    let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
    let times = [time(), time()];
    // SAFETY: `path` is nul-terminated and `times` has two elements, as utimensat(2) asks.
    match unsafe { utimensat(AT_FDCWD, path.as_ptr(), times.as_ptr(), 0) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

fn run_plain(args: &[OsString]) -> ! {
    let Some((program, rest)) = args.split_first() else {
        eprintln!("floor: usage: floor RUSTC ARGUMENTS");
        exit(2)
    };
    die("exec", &Command::new(program).args(rest).exec())
}

fn die(what: &str, error: &io::Error) -> ! {
    eprintln!("floor: {what}: {error}");
    exit(1)
}
