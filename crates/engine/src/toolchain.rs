//! Which compiler this is, by content: the version text, the compiler's library and the standard library's files; and
//! which files belong to it.
//! The answer is remembered under the files' stamps, so that a hit starts no process; a compiler rebuilt under the
//! same version string is another one. Knows nothing about units.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use kache_core::digest::Digest;
use kache_core::invocation::{Env, Invocation};
use kache_core::key::KeyWriter;
use kache_core::reason::Bypass;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;
use kache_store::sys::{self, Scope};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, open, statat};
use serde::{Deserialize, Serialize};

use crate::rustup;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Digest of everything below and of the files' contents.
    pub id: Digest,
    pub sysroot: PathBuf,
    pub host: String,
    /// First line of `rustc -vV`.
    pub version: String,
    /// What it reads to start, wherever that lies, sorted: the C library, the loader's cache. Empty where nothing can be
    /// observed.
    pub own: Vec<PathBuf>,
}

impl Toolchain {
    /// Whether a path belongs to the compiler. Its directory does as a whole, unless it shares it with the system (a
    /// distribution's is `/usr`): then the standard library's does, and what the compiler reads to start.
    pub fn owns(&self, path: &Path) -> bool {
        let is_shared = SHARED_PREFIXES.iter().any(|prefix| self.sysroot == Path::new(prefix));
        let of_sysroot = |rest: &Path| !is_shared || rest.starts_with("lib/rustlib");
        path.strip_prefix(&self.sysroot).is_ok_and(of_sysroot)
            || self.own.binary_search_by(|own| own.as_path().cmp(path)).is_ok()
    }
}

/// Installation prefixes that a compiler shares with other programs (Filesystem Hierarchy Standard 3.0).
const SHARED_PREFIXES: &[&str] = &["/", "/usr", "/usr/local"];

/// A remembered answer: valid while the stamps of these files are the same.
#[derive(Serialize, Deserialize)]
struct Memo {
    dirs: Vec<(PathBuf, Vec<String>)>,
    stamps: Digest,
    toolchain: Toolchain,
}

/// What changes when one of the files is replaced or rewritten; `None` when one is gone. Some sixty files are looked at
/// in every invocation, by way of their few directories.
fn stamps(dirs: &[(PathBuf, Vec<String>)]) -> Option<Digest> {
    let mut bytes = Vec::with_capacity(64 * 48);
    for (path, files) in dirs {
        let dir = open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
        for file in files {
            let stat = statat(&dir, file.as_str(), AtFlags::empty()).ok()?;
            let is_dir = FileType::from_raw_mode(stat.st_mode).is_dir();
            let size = if is_dir { 0 } else { i128::from(stat.st_size) };
            for number in [
                i128::from(stat.st_mtime),
                i128::from(stat.st_mtime_nsec),
                i128::from(stat.st_ctime),
                i128::from(stat.st_ctime_nsec),
                size,
                i128::from(stat.st_ino),
            ] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
        }
    }
    Some(Digest::of(&bytes))
}

/// Identifies the compiler of `call`, for a unit that is compiled for `target`.
pub fn identify(call: &Invocation, store: &Store, target: Option<&str>) -> Result<Toolchain, Bypass> {
    let located = find_program(&call.env, &call.cwd, &call.compiler);
    let mut name = KeyWriter::new("toolchain memo");
    // What is remembered in another form has another name.
    name.text("form", "2");
    name.text("compiler", located.as_deref().unwrap_or(Path::new("")).to_string_lossy());
    name.text("driver", call.driver.clone().unwrap_or_default());
    name.text("target", target.unwrap_or_default());
    let choice = located.as_deref().and_then(|program| rustup::choice(call, program));
    for field in choice.iter().flatten() {
        name.text("choice", field.as_str());
    }
    let name = name.finish().0;
    if located.is_some()
        && let Some(bytes) = store.memo_get("toolchain", &name)
        && let Ok(memo) = serde_json::from_slice::<Memo>(&bytes)
        && stamps(&memo.dirs) == Some(memo.stamps)
    {
        return Ok(memo.toolchain);
    }
    let memo = examine(call, located.as_deref(), store, target)?;
    if (choice.is_some() || located.as_deref().is_some_and(is_compiler_itself))
        && let Ok(bytes) = serde_json::to_vec(&memo)
    {
        // Without a memo the next invocation examines again: slower, never wrong.
        let _ = store.memo_put("toolchain", &name, &bytes);
    }
    Ok(memo.toolchain)
}

/// Whether a program has the compiler's library beside it. A script leads to different compilers in different directories:
/// only what is answered by the compiler itself, or chosen by rustup, may be remembered.
fn is_compiler_itself(program: &Path) -> bool {
    program.parent().and_then(Path::parent).and_then(driver_library).is_some()
}

/// The path of the compiler proper: a Cargo that rustup didn't start calls it `rustc`, and what this leads to may be
/// rustup's proxy. `None` where it can't be told.
pub(crate) fn compiler_proper(call: &Invocation, store: &Store) -> Option<String> {
    let program = find_program(&call.env, &call.cwd, &call.compiler)?;
    if is_compiler_itself(&program) {
        let is_absolute = call.compiler.starts_with('/');
        return if is_absolute { Some(call.compiler.clone()) } else { program.to_str().map(str::to_owned) };
    }
    rustup::choice(call, &program)?;
    let plain = Invocation { driver: None, ..call.clone() };
    let compiler = identify(&plain, store, None).ok()?.sysroot.join("bin/rustc");
    compiler.is_file().then(|| compiler.to_str().map(str::to_owned))?
}

/// The compiler of `call` for the host, and without a driver around it; where that can't be told, as it is.
pub fn of_host(call: &Invocation, store: &Store, (this, target): (&Toolchain, Option<&str>)) -> Toolchain {
    if target.is_none() && call.driver.is_none() {
        return this.clone();
    }
    let plain = Invocation { driver: None, ..call.clone() };
    identify(&plain, store, None).unwrap_or_else(|_| this.clone())
}

/// A program's file with symbolic links resolved, found as the system would find it: by `PATH`, unless the name has a
/// directory.
pub(crate) fn find_program(env: &Env, cwd: &str, name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return fs::canonicalize(Path::new(cwd).join(name)).ok();
    }
    let is_program = |file: &PathBuf| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    let mut found = std::env::split_paths(env.get("PATH")?).map(|dir| Path::new(cwd).join(dir).join(name));
    found.find(is_program).and_then(|file| fs::canonicalize(file).ok())
}

fn examine(
    call: &Invocation,
    located: Option<&Path>,
    store: &Store,
    target: Option<&str>,
) -> Result<Memo, Bypass> {
    let (text, own) = introduce(&call.compiler)?;
    let sysroot = PathBuf::from(ask(&call.compiler, &["--print", "sysroot"])?.trim());
    let line =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let host = line("host:").to_owned();
    let lib = sysroot.join("lib");
    let library = driver_library(&sysroot)
        .ok_or_else(|| Bypass::Toolchain(format!("no compiler library in {}", lib.display())))?;
    let mut stamped = vec![whole(located.unwrap_or(Path::new(&call.compiler))), whole(&library)];
    stamped.extend(library.parent().map(|dir| (dir.to_owned(), vec![".".to_owned()])));
    let mut key = KeyWriter::new("toolchain");
    key.text("version", text.clone());
    let memo = DigestMemo::new(store);
    let content = |key: &mut KeyWriter, what: &str, path: &Path| match memo.digest(path) {
        Ok(Some(digest)) => {
            key.digest(what, digest);
            Ok(())
        }
        _ => Err(Bypass::Toolchain(format!("can't read {}", path.display()))),
    };
    content(&mut key, "compiler library", &library)?;
    if let Some(driver) = &call.driver {
        content(&mut key, "driver", Path::new(driver))?;
        stamped.push(whole(Path::new(driver)));
    }
    let triple = target.filter(|target| !target.contains('/')).unwrap_or(&host);
    let mut triples = vec![host.as_str()];
    if triple != host {
        triples.push(triple);
    }
    for triple in triples {
        for part in ["lib", "bin"] {
            let dir = lib.join("rustlib").join(triple).join(part);
            let mut files = vec![".".to_owned()];
            for file in listing(&dir) {
                content(&mut key, &format!("{part} {triple}/{file}"), &dir.join(&file))?;
                files.push(file);
            }
            if dir.is_dir() {
                stamped.push((dir, files));
            }
        }
    }
    // A compiler without a directory has no stamp of its own, and its answer isn't remembered.
    let stamps = stamps(&stamped).unwrap_or(Digest::of(b"unknown"));
    let version = text.lines().next().unwrap_or_default().to_owned();
    Ok(Memo {
        dirs: stamped,
        stamps,
        toolchain: Toolchain { id: key.finish().0, sysroot, host, version, own },
    })
}

/// `librustc_driver-<hash>.so` (or `.dylib`), the compiler proper, of an installation: in `lib`, in `lib64`, or where
/// Debian has it, in the directory of an architecture below `lib`.
pub(crate) fn driver_library(root: &Path) -> Option<PathBuf> {
    let is_architecture = |name: &OsStr| name.to_str().is_some_and(|name| name.contains("-linux-"));
    let lib = root.join("lib");
    let nested = fs::read_dir(&lib).into_iter().flatten().flatten();
    let nested = nested.filter(|entry| is_architecture(&entry.file_name())).map(|entry| entry.path());
    let mut dirs = [lib.clone(), root.join("lib64")].into_iter().chain(nested);
    dirs.find_map(|dir| {
        let names = fs::read_dir(&dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names.filter(|name| name.starts_with("librustc_driver-")).min().map(|name| dir.join(name))
    })
}

/// A file as a directory and the one name in it.
fn whole(path: &Path) -> (PathBuf, Vec<String>) {
    (path.parent().unwrap_or(Path::new("/")).to_owned(), vec![file_name(path)])
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn listing(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut files: Vec<String> = files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    files.sort();
    files
}

/// `rustc -vV`, and what it reads to say so.
fn introduce(compiler: &str) -> Result<(String, Vec<PathBuf>), Bypass> {
    let mut command = Command::new(compiler);
    command.arg("-vV").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let started = sys::spawn_observed(command, Scope::default());
    let ended = started.and_then(|(child, observer)| Ok((child.wait_with_output()?, observer)));
    let (output, observer) =
        ended.map_err(|error| Bypass::Toolchain(format!("can't run {compiler}: {error}")))?;
    let seen = observer.and_then(sys::Observer::finish).unwrap_or_default();
    // Without repetition and sorted, as `Toolchain::owns` searches it: a path may have been used in several ways.
    let own: BTreeSet<PathBuf> = seen.accesses.into_iter().map(|access| access.path).collect();
    Ok((answer_of(Ok(output), compiler, "-vV")?, own.into_iter().collect()))
}

fn ask(compiler: &str, args: &[&str]) -> Result<String, Bypass> {
    answer_of(Command::new(compiler).args(args).output(), compiler, &args.join(" "))
}

fn answer_of(output: io::Result<Output>, compiler: &str, args: &str) -> Result<String, Bypass> {
    match output {
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .map_err(|_| Bypass::Toolchain("its answer is not UTF-8".to_owned())),
        Ok(output) => Err(Bypass::Toolchain(format!("{compiler} {args}: {}", output.status))),
        Err(error) => Err(Bypass::Toolchain(format!("{compiler}: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;

    #[test]
    fn the_compilers_library_is_found_in_every_layout() {
        for dir in ["lib", "lib64", "lib/x86_64-linux-gnu"] {
            let root = tempfile::tempdir().expect("temp dir");
            assert_eq!(driver_library(root.path()), None);
            fs::create_dir_all(root.path().join(dir)).expect("directory");
            fs::create_dir_all(root.path().join("lib/other")).expect("directory");
            assert_eq!(driver_library(root.path()), None);
            let file = root.path().join(dir).join("librustc_driver-12.so");
            fs::write(&file, "").expect("file");
            assert_eq!(driver_library(root.path()), Some(file));
        }
    }

    #[test]
    fn a_bare_name_is_looked_up_like_the_system_does() {
        let dir = tempfile::tempdir().expect("temp dir");
        let dir = dir.path().canonicalize().expect("real path");
        for place in ["data", "first", "second"] {
            fs::create_dir(dir.join(place)).expect("directory");
            fs::write(dir.join(place).join("rustc"), "").expect("file");
        }
        let run = std::fs::Permissions::from_mode(0o755);
        fs::set_permissions(dir.join("second/rustc"), run.clone()).expect("executable");
        std::os::unix::fs::symlink("../second/rustc", dir.join("first/link")).expect("link");
        let path = format!("{0}/data:{0}/none:relative:{0}/second", dir.display());
        let located = |compiler: &str| {
            let env = Env::new([(OsString::from("PATH"), OsString::from(&path))]);
            find_program(&env, dir.to_str().expect("UTF-8"), compiler)
        };
        let second = Some(dir.join("second/rustc"));
        assert_eq!(located("rustc"), second);
        assert_eq!(located(&format!("{}/first/link", dir.display())), second, "links are resolved");
        assert_eq!(located("second/rustc"), second, "from the working directory");
        assert_eq!(located("none/rustc"), None);
    }
}
