//! Writes a user's configuration file, whole or not at all. Knows nothing about what is in it.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// Replaces a file as a whole, following a symbolic link (the real file may live among the user's dotfiles) and
/// keeping its permissions.
pub fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let target: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let dir = target.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir)?;
    let tmp = dir.join(format!(".config.toml.kache-{}", std::process::id()));
    let written = write_new(&tmp, &target, text).and_then(|()| std::fs::rename(&tmp, &target));
    if written.is_err() {
        let _ = std::fs::remove_file(&tmp);
    }
    written
}

fn write_new(tmp: &Path, like: &Path, text: &str) -> io::Result<()> {
    let mut file = std::fs::File::create_new(tmp)?;
    if let Ok(meta) = std::fs::metadata(like) {
        file.set_permissions(meta.permissions())?;
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
