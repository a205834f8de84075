//! Which compiler this is, by content: the version text, the compiler's library and the standard library's files.
//! The answer is remembered under the files' stamps, so that a hit starts no process; a compiler rebuilt under the
//! same version string is another one. Knows nothing about units.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use kache_core::digest::Digest;
use kache_core::invocation::Invocation;
use kache_core::key::KeyWriter;
use kache_core::reason::Bypass;
use kache_store::hashing::DigestMemo;
use kache_store::layout::Store;
use serde::{Deserialize, Serialize};

/// A compiler.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Toolchain {
    /// Digest of everything below and of the files' contents.
    pub id: Digest,
    /// Where its libraries are.
    pub sysroot: PathBuf,
    /// Host triple.
    pub host: String,
    /// First line of `rustc -vV`.
    pub version: String,
}

#[derive(Serialize, Deserialize)]
struct Memo {
    stamps: Vec<(PathBuf, Stamp)>,
    toolchain: Toolchain,
}

/// What changes when a file is replaced or rewritten.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stamp {
    size: u64,
    mtime_ns: i128,
    ctime_ns: i128,
    inode: u64,
}

impl Stamp {
    fn of(path: &Path) -> Option<Self> {
        let meta = fs::metadata(path).ok()?;
        let ns = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Some(Self {
            size: if meta.is_dir() { 0 } else { meta.len() },
            mtime_ns: ns(meta.mtime(), meta.mtime_nsec()),
            ctime_ns: ns(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
        })
    }
}

/// Identifies the compiler of `call`, for a unit that is compiled for `target`.
pub fn identify(call: &Invocation, store: &Store, target: Option<&str>) -> Result<Toolchain, Bypass> {
    let compiler = Path::new(&call.compiler);
    // A path without a directory, or a rustup proxy, leads to different compilers in different directories; only a
    // compiler that has its library beside it can be remembered.
    let lib = compiler.parent().and_then(Path::parent).map(|root| root.join("lib"));
    let rememberable = compiler.is_absolute() && lib.as_ref().is_some_and(|lib| driver_library(lib).is_some());
    let mut name = KeyWriter::new("toolchain memo");
    name.text("compiler", call.compiler.clone());
    name.text("driver", call.driver.clone().unwrap_or_default());
    name.text("target", target.unwrap_or_default());
    let name = name.finish().0;
    if rememberable
        && let Some(bytes) = store.memo_get("toolchain", &name)
        && let Ok(memo) = serde_json::from_slice::<Memo>(&bytes)
        && memo.stamps.iter().all(|(path, stamp)| Stamp::of(path).as_ref() == Some(stamp))
    {
        return Ok(memo.toolchain);
    }
    let memo = examine(call, store, target)?;
    if rememberable && let Ok(bytes) = serde_json::to_vec(&memo) {
        // Without a memo the next invocation examines again: slower, never wrong.
        let _ = store.memo_put("toolchain", &name, &bytes);
    }
    Ok(memo.toolchain)
}

fn examine(call: &Invocation, store: &Store, target: Option<&str>) -> Result<Memo, Bypass> {
    let text = ask(&call.compiler, &["-vV"])?;
    let sysroot = PathBuf::from(ask(&call.compiler, &["--print", "sysroot"])?.trim());
    let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let host = line("host:").to_owned();
    let lib = sysroot.join("lib");
    let library = driver_library(&lib).ok_or_else(|| Bypass::Toolchain(format!("no compiler library in {}", lib.display())))?;
    let mut stamped = vec![PathBuf::from(&call.compiler), library.clone(), lib.clone()];
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
        stamped.push(PathBuf::from(driver));
    }
    let triple = target.filter(|target| !target.contains('/')).unwrap_or(&host);
    let mut triples = vec![host.as_str()];
    if triple != host {
        triples.push(triple);
    }
    for triple in triples {
        let dir = lib.join("rustlib").join(triple).join("lib");
        for (file, size) in listing(&dir) {
            key.text(format!("library {triple}/{file}"), size.to_string());
            stamped.push(dir.join(file));
        }
        stamped.push(dir);
    }
    let stamps = stamped.into_iter().filter_map(|path| Stamp::of(&path).map(|stamp| (path, stamp))).collect();
    let version = text.lines().next().unwrap_or_default().to_owned();
    Ok(Memo { stamps, toolchain: Toolchain { id: key.finish().0, sysroot, host, version } })
}

/// `librustc_driver-<hash>.so` (or `.dylib`): the compiler proper.
fn driver_library(lib: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(lib).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("librustc_driver-")).min().map(|name| lib.join(name))
}

fn listing(dir: &Path) -> Vec<(String, u64)> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let mut files: Vec<(String, u64)> = entries
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?)))
        .filter(|(_, meta)| meta.is_file())
        .map(|(name, meta)| (name, meta.len()))
        .collect();
    files.sort();
    files
}

fn ask(compiler: &str, args: &[&str]) -> Result<String, Bypass> {
    let output = Command::new(compiler).args(args).output();
    match output {
        Ok(output) if output.status.success() => {
            String::from_utf8(output.stdout).map_err(|_| Bypass::Toolchain("its answer is not UTF-8".to_owned()))
        }
        Ok(output) => Err(Bypass::Toolchain(format!("{compiler} {}: {}", args.join(" "), output.status))),
        Err(error) => Err(Bypass::Toolchain(format!("{compiler}: {error}"))),
    }
}
