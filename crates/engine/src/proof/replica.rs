//! A place with the files of a compile: copies of everything that the compile has read below the roots that are moved, and
//! links to what it is told to use besides. What it hasn't read isn't there, so that nothing leads back to the first place.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use kache_core::cargo::layout::LOCKS;
use kache_core::paths::{Root, Roots};
use kache_core::proof::{Job, MOVED};
use kache_core::record::Input;

/// Most that is copied, in bytes.
const BYTES_MAX: u64 = 1 << 30;

/// Makes the place `to` for `job`. `stem` is what the names of the unit's own outputs start with.
pub fn build(job: &Job, to: &Roots, stem: &str) -> io::Result<()> {
    let moved = job.moved_to(to);
    let mut replica = Replica { own: job.own_roots(), to, left_bytes: BYTES_MAX };
    fs::create_dir_all(&moved.profile_dir)?;
    fs::write(Path::new(&moved.profile_dir).join(LOCKS[2]), "")?;
    fs::create_dir_all(&moved.cwd)?;
    if let (Some(own), Some(new)) = (replica.own.get(Root::Workspace), to.get(Root::Workspace)) {
        fs::create_dir_all(new)?;
        // By it the workspace is recognised where a package from elsewhere is compiled.
        if Path::new(own).join("Cargo.toml").is_file() && !job.cwd.starts_with(own) {
            fs::write(Path::new(new).join("Cargo.toml"), "")?;
        }
    }
    let inputs = || job.record.inputs.iter();
    for input in inputs() {
        if let Input::Link(name) = input {
            replica.link(name)?;
        }
    }
    for input in inputs() {
        if let Input::File(name) | Input::Probe(name) = input {
            replica.file(name)?;
        }
    }
    for input in inputs() {
        if let Input::Dir(name) = input {
            replica.listing(name)?;
        }
    }
    for value in job.env.values() {
        if let Some(new) = replica.moved(value).filter(|_| Path::new(value).is_dir()) {
            fs::create_dir_all(new)?;
        }
    }
    for arg in job.argv.iter().filter(|arg| !arg.contains("incremental=")) {
        replica.argument(arg, stem)?;
    }
    Ok(())
}

struct Replica<'a> {
    own: Roots,
    to: &'a Roots,
    left_bytes: u64,
}

impl Replica<'_> {
    /// Here and elsewhere, of a portable name below a moved root.
    fn both(&self, name: &str) -> Option<(PathBuf, PathBuf)> {
        let is_moved = MOVED.iter().any(|root| name.starts_with(root.name_prefix()));
        let own = self.own.path_of(name).filter(|_| is_moved)?;
        Some((own.into(), self.to.path_of(name)?.into()))
    }

    /// The path elsewhere of one below a moved root.
    fn moved(&self, path: &str) -> Option<PathBuf> {
        self.both(&self.own.name_of(path)).map(|(_, new)| new)
    }

    fn file(&mut self, name: &str) -> io::Result<()> {
        let Some((own, new)) = self.both(name) else { return Ok(()) };
        let Ok(meta) = fs::metadata(&own) else { return Ok(()) };
        if meta.is_dir() {
            return fs::create_dir_all(new);
        }
        if new.exists() || !meta.is_file() {
            return Ok(());
        }
        self.left_bytes = self
            .left_bytes
            .checked_sub(meta.len())
            .ok_or_else(|| io::Error::new(io::ErrorKind::FileTooLarge, "there is too much to copy"))?;
        with_parent(&new, || fs::copy(&own, &new).map(drop))?;
        fs::File::open(&new)?.set_modified(meta.modified()?)
    }

    fn link(&self, name: &str) -> io::Result<()> {
        let Some((own, new)) = self.both(name) else { return Ok(()) };
        let Ok(leads_to) = fs::read_link(&own) else { return Ok(()) };
        let leads_to = leads_to.to_str().and_then(|path| self.moved(path)).unwrap_or(leads_to);
        with_parent(&new, || unless_there(symlink(&leads_to, &new)))
    }

    /// The same names; what wasn't read is empty.
    fn listing(&self, name: &str) -> io::Result<()> {
        let Some((own, new)) = self.both(name) else { return Ok(()) };
        let Ok(items) = fs::read_dir(&own) else { return Ok(()) };
        fs::create_dir_all(&new)?;
        for item in items.flatten() {
            let dest = new.join(item.file_name());
            if dest.symlink_metadata().is_ok() {
                continue;
            }
            let kind = item.file_type()?;
            if kind.is_dir() {
                fs::create_dir(dest)?;
            } else if kind.is_symlink() {
                symlink(fs::read_link(item.path())?, dest)?;
            } else {
                fs::write(dest, "")?;
            }
        }
        Ok(())
    }

    /// Links to a file that an argument names, or to the files in a directory. Cargo names each with `=` before it, or as
    /// an argument of its own.
    fn argument(&self, arg: &str, stem: &str) -> io::Result<()> {
        let Some(at) = arg.find('/').filter(|at| *at == 0 || arg[..*at].ends_with(['=', 'L'])) else {
            return Ok(());
        };
        let (own, Some(new)) = (Path::new(&arg[at..]), self.moved(&arg[at..])) else { return Ok(()) };
        if own.is_file() {
            return with_parent(&new, || unless_there(symlink(own, &new)));
        }
        let Ok(items) = fs::read_dir(own) else { return Ok(()) };
        fs::create_dir_all(&new)?;
        let is_own = |name: &str| name.starts_with(stem) || name.starts_with(&format!("lib{stem}"));
        for item in items.flatten() {
            let name = item.file_name();
            if !is_own(&name.to_string_lossy()) && !item.path().is_dir() {
                unless_there(symlink(item.path(), new.join(name)))?;
            }
        }
        Ok(())
    }
}

fn with_parent(path: &Path, make: impl Fn() -> io::Result<()>) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)?;
    make()
}

fn unless_there(made: io::Result<()>) -> io::Result<()> {
    made.or_else(|error| if error.kind() == io::ErrorKind::AlreadyExists { Ok(()) } else { Err(error) })
}
