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

/// A remembered answer: valid while the stamps of these files are the same.
#[derive(Serialize, Deserialize)]
struct Memo {
    dirs: Vec<(PathBuf, Vec<String>)>,
    stamps: Digest,
    toolchain: Toolchain,
}

/// What changes when one of the files is replaced or rewritten; `None` when one is gone.
fn stamps(dirs: &[(PathBuf, Vec<String>)]) -> Option<Digest> {
    let mut bytes = Vec::with_capacity(64 * 40);
    for (dir, files) in dirs {
        for file in files {
            let meta = fs::metadata(dir.join(file)).ok()?;
            let size = if meta.is_dir() { 0 } else { meta.len() };
            for number in [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&size.to_le_bytes());
            bytes.extend_from_slice(&meta.ino().to_le_bytes());
        }
    }
    Some(Digest::of(&bytes))
}

/// Identifies the compiler of `call`, for a unit that is compiled for `target`.
pub fn identify(call: &Invocation, store: &Store, target: Option<&str>) -> Result<Toolchain, Bypass> {
    let compiler = Path::new(&call.compiler);
    // A path without a directory, or a rustup proxy, leads to different compilers in different directories; only a
    // compiler that has its library beside it can be remembered.
    let lib = compiler.parent().and_then(Path::parent).map(|root| root.join("lib"));
    let rememberable =
        compiler.is_absolute() && lib.as_ref().is_some_and(|lib| driver_library(lib).is_some());
    let mut name = KeyWriter::new("toolchain memo");
    name.text("compiler", call.compiler.clone());
    name.text("driver", call.driver.clone().unwrap_or_default());
    name.text("target", target.unwrap_or_default());
    let name = name.finish().0;
    if rememberable
        && let Some(bytes) = store.memo_get("toolchain", &name)
        && let Ok(memo) = serde_json::from_slice::<Memo>(&bytes)
        && stamps(&memo.dirs) == Some(memo.stamps)
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
    let line =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim).unwrap_or_default();
    let host = line("host:").to_owned();
    let lib = sysroot.join("lib");
    let library = driver_library(&lib)
        .ok_or_else(|| Bypass::Toolchain(format!("no compiler library in {}", lib.display())))?;
    let mut stamped =
        vec![whole(Path::new(&call.compiler)), (lib.clone(), vec![file_name(&library), ".".to_owned()])];
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
            for (file, size) in listing(&dir) {
                key.text(format!("{part} {triple}/{file}"), size.to_string());
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
    Ok(Memo { dirs: stamped, stamps, toolchain: Toolchain { id: key.finish().0, sysroot, host, version } })
}

/// `librustc_driver-<hash>.so` (or `.dylib`): the compiler proper.
fn driver_library(lib: &Path) -> Option<PathBuf> {
    let names = fs::read_dir(lib).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with("librustc_driver-")).min().map(|name| lib.join(name))
}

/// A file as a directory and the one name in it.
fn whole(path: &Path) -> (PathBuf, Vec<String>) {
    (path.parent().unwrap_or(Path::new("/")).to_owned(), vec![file_name(path)])
}

fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
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
        Ok(output) if output.status.success() => String::from_utf8(output.stdout)
            .map_err(|_| Bypass::Toolchain("its answer is not UTF-8".to_owned())),
        Ok(output) => Err(Bypass::Toolchain(format!("{compiler} {}: {}", args.join(" "), output.status))),
        Err(error) => Err(Bypass::Toolchain(format!("{compiler}: {error}"))),
    }
}
