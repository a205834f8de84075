//! rustup's proxies: programs called `rustc` that start the compiler of a toolchain, which they choose by directory. Knows
//! what that choice depends on (rustup 1.28, `src/config.rs`, `find_active_toolchain`), and never makes it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::invocation::Invocation;

/// Longest settings file that is read, in bytes.
const SETTINGS_BYTES_MAX: u64 = 1 << 20;

/// Everything that decides which compiler the proxy `program` starts for `call`; `None` where it is no proxy of rustup's.
pub fn choice(call: &Invocation, program: &Path) -> Option<Vec<String>> {
    if !is_proxy(program) {
        return None;
    }
    let mut fields = Vec::new();
    for name in ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "HOME"] {
        fields.push(format!("{name} {}", call.env.text(name).unwrap_or_default()));
    }
    let home = call.env.text("RUSTUP_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(Path::new(call.env.text("HOME")?).join(".rustup")))?;
    for settings in [home.join("settings.toml"), PathBuf::from("/etc/rustup/settings.toml")] {
        fields.push(stamp(&settings));
        let is_short = fs::metadata(&settings).is_ok_and(|meta| meta.len() <= SETTINGS_BYTES_MAX);
        let text = if is_short { fs::read_to_string(&settings).unwrap_or_default() } else { String::new() };
        // Toolchains that were set for directories count from any directory below.
        if text.split_once("[overrides]").is_some_and(|(_, rest)| rest.trim_start().starts_with(['"', '\'']))
        {
            fields.push(format!("directory {}", call.cwd));
        }
    }
    for dir in Path::new(&call.cwd).ancestors() {
        for name in ["rust-toolchain", "rust-toolchain.toml"] {
            let file = dir.join(name);
            if file.exists() {
                fields.push(stamp(&file));
            }
        }
    }
    Some(fields)
}

/// Whether a program, with symbolic links resolved, is rustup itself under another name.
fn is_proxy(program: &Path) -> bool {
    let is_rustup = |path: &Path| path.file_stem().is_some_and(|name| name == "rustup");
    let identity = |path: &Path| fs::metadata(path).ok().map(|meta| (meta.dev(), meta.ino()));
    // Proxies are symbolic links to rustup, or hard links of it.
    is_rustup(program)
        || identity(&program.with_file_name("rustup")).is_some_and(|rustup| identity(program) == Some(rustup))
}

/// What changes when a file is made, replaced, rewritten or removed.
fn stamp(path: &Path) -> String {
    match fs::metadata(path) {
        Ok(meta) => format!(
            "{} {} {}.{:09} {}.{:09} {}",
            path.display(),
            meta.len(),
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ctime(),
            meta.ctime_nsec(),
            meta.ino()
        ),
        Err(_) => format!("{} absent", path.display()),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::symlink;

    use kache_core::invocation::Env;

    use super::*;

    #[test]
    fn what_decides_is_what_rustup_looks_at() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path();
        let write = |name: &str, text: &str| {
            let path = root.join(name);
            fs::create_dir_all(path.parent().expect("a folder")).expect("mkdir");
            fs::write(path, text).expect("write");
        };
        write("bin/rustup", "x");
        write("bin/other", "x");
        fs::hard_link(root.join("bin/rustup"), root.join("bin/rustc")).expect("link");
        symlink("rustup", root.join("bin/cargo")).expect("link");
        write("home/settings.toml", "default_toolchain = \"stable\"\n\n[overrides]\n");
        fs::create_dir_all(root.join("w/member")).expect("mkdir");
        let choice = |toolchain: &str, cwd: &str, program: &str| {
            let variable = |name: &str, value: OsString| (OsString::from(name), value);
            let env = Env::new([
                variable("RUSTUP_HOME", root.join("home").into_os_string()),
                variable("RUSTUP_TOOLCHAIN", toolchain.into()),
            ]);
            let cwd = root.join(cwd).display().to_string();
            choice(
                &Invocation { env, cwd, ..Invocation::default() },
                &root.join(program).canonicalize().expect("there"),
            )
        };
        assert_eq!(choice("", "w", "bin/other"), None);
        let plain = choice("", "w", "bin/rustc");
        assert!(plain.is_some() && plain == choice("", "w", "bin/cargo"));
        assert_eq!(choice("", "w/member", "bin/rustc"), plain, "directories are alike");
        assert_ne!(choice("nightly", "w", "bin/rustc"), plain);
        write("w/rust-toolchain.toml", "");
        let chosen = choice("", "w/member", "bin/rustc");
        assert!(chosen != plain && chosen == choice("", "w", "bin/rustc"));
        write("home/settings.toml", "[overrides]\n\"/x\" = \"nightly\"\n");
        assert_ne!(
            choice("", "w/member", "bin/rustc"),
            choice("", "w", "bin/rustc"),
            "one may be set for either"
        );
    }
}
