//! Whether compiles can be observed here, and how completely: a kernel, a container or a sandbox may refuse. Tried once
//! for each compiler, boot, container and user, and remembered. Does not observe compiles itself.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use kache_core::key::KeyWriter;
use kache_core::record::Sight;
use kache_store::Store;
use kache_store::clock::boot_id;
use kache_store::sys::{self, Scope};

const MEMO: &str = "sight";

/// How completely the inputs of a compile come to light here.
pub fn here(store: &Store, compiler: &str) -> Sight {
    if !sys::can_observe() {
        return Sight::Reported;
    }
    let mut key = KeyWriter::new("sight");
    key.text("boot", boot_id());
    key.text("compiler", compiler);
    key.text("library", kache_core::digest::Digest::of(sys::LIBRARY).to_string());
    // A container has namespaces of its own, and with them filters of its own.
    for namespace in ["mnt", "pid", "user"] {
        let link = fs::read_link(format!("/proc/self/ns/{namespace}")).unwrap_or_default();
        key.text(namespace, link.to_string_lossy());
    }
    let user = fs::metadata("/proc/self").map(|meta| meta.uid()).unwrap_or_default();
    key.text("user", user.to_string());
    let key = key.finish().0;
    if let Some(sight) = store.memo_get(MEMO, &key).and_then(|word| serde_json::from_slice(&word).ok()) {
        return sight;
    }
    let sight = tried(store, compiler);
    // Without it the next invocation tries again.
    let _ = store.memo_put(MEMO, &key, &serde_json::to_vec(&sight).unwrap_or_default());
    sight
}

/// Asks the compiler for its version.
fn tried(store: &Store, compiler: &str) -> Sight {
    let mut command = Command::new(compiler);
    command.arg("-vV").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(library) = library(store) {
        preload(&mut command, &library, |name| std::env::var_os(name));
    }
    let Ok((mut child, observer)) = sys::spawn_observed(command, Scope::default()) else {
        return Sight::Reported;
    };
    let _ = child.wait();
    match observer.and_then(sys::Observer::finish) {
        None => Sight::Reported,
        Some(seen) if seen.accesses.iter().any(|access| sys::is_report(&access.path)) => Sight::Variables,
        Some(_) => Sight::Files,
    }
}

/// The library to preload into a compile; `None` where reads of variables don't show.
pub fn preloaded(store: &Store, compiler: &str) -> Option<PathBuf> {
    library(store).filter(|_| here(store, compiler) == Sight::Variables)
}

/// The library, written to the cache directory where it isn't there; `None` where it can't be named: the loader takes a
/// blank and a colon for the end of a path.
fn library(store: &Store) -> Option<PathBuf> {
    if sys::LIBRARY.is_empty() {
        return None;
    }
    let path = store.memo_file("preload", sys::LIBRARY).ok()?;
    let is_nameable = path.to_str().is_some_and(|path| !path.contains([' ', ':', '\t', '\n']));
    is_nameable.then_some(path)
}

/// Preloads the library, after what the user has preloaded.
pub fn preload(command: &mut Command, library: &Path, env: impl Fn(&str) -> Option<OsString>) {
    let joined = |name: &str, value: &OsStr| {
        let mut list = env(name).filter(|list| !list.is_empty()).unwrap_or_default();
        if !list.is_empty() {
            list.push(":");
        }
        list.push(value);
        list
    };
    command.env("LD_PRELOAD", joined("LD_PRELOAD", library.as_os_str()));
    // The address sanitizer ends a program in which another library comes before its own (GCC 12, `asan_linux.cpp`).
    command.env("ASAN_OPTIONS", joined("ASAN_OPTIONS", OsStr::new("verify_asan_link_order=0")));
}
