//! The files of a build script's run, by name. Knows nothing about what is in them.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::{INVOKED, ROOT_OUTPUT, UnitDir};

use crate::times::mtime_ns;

pub struct RunFiles {
    /// `OUT_DIR`.
    pub out_dir: PathBuf,
    pub stdout: PathBuf,
    /// What it said on standard error.
    pub stderr: PathBuf,
    /// Its time tells when the run started.
    pub invoked: PathBuf,
    /// Its content is the path of `OUT_DIR`, its time tells when the run had ended.
    pub root_output: PathBuf,
}

impl RunFiles {
    /// The files of a unit in a profile directory.
    pub fn of(profile_dir: &Path, unit: &UnitDir) -> Self {
        let dir = profile_dir.join(unit.run());
        Self {
            out_dir: profile_dir.join(unit.out_dir()),
            stdout: profile_dir.join(unit.stdout()),
            stderr: dir.join("stderr"),
            invoked: dir.join(INVOKED),
            root_output: dir.join(ROOT_OUTPUT),
        }
    }

    /// Times of the standard output and of the start, in nanoseconds since 1970, and the inode of the former.
    pub fn stamp(&self) -> Option<(i64, i64, u64)> {
        let inode = fs::metadata(&self.stdout).ok()?.ino();
        Some((mtime_ns(&self.stdout)?, mtime_ns(&self.invoked)?, inode))
    }
}
