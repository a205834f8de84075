//! The link ladder: puts a blob's content under another name with as little copying as the file systems allow, and
//! says which rung it was. Does not know what the file is, nor whether sharing it is wise.
//!
//! | rung | inode | mtime | refused by |
//! | --- | --- | --- | --- |
//! | reflink | own | any | most file systems; other file system |
//! | hard link | the blob's | the blob's | other file system, 65,000 links (ext4), other permissions |
//! | copy | own | any | – |
//!
//! A file appears under its name complete, by link or rename; a file that had the name before is replaced and never
//! written to, so whoever holds it open or linked keeps the old content.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use kache_core::digest::Digest;
use rustix::io::Errno;

use crate::clock::{set_mtime, set_mtime_now};
use crate::error::{Doing, Error, errno, unless_absent};
use crate::fault::{self, Point};
use crate::files::{TmpFile, create_new};
use crate::inode_memo::{self, Redating};
use crate::layout::unique_name;

/// What names of files in the making start with, where outputs are placed.
pub(crate) const TMP_PREFIX: &str = ".kache-";

/// How a file came to its content: the rung really used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mode {
    Reflink,
    /// The blob's inode (perhaps it was there already).
    HardLink,
    /// Own inode, own bytes.
    Copy,
}

/// What a file may share with its blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Everything, inode included; the mtime is the blob's on every rung. Reflink, else hard link, else copy.
    Shared,
    /// Extents at most: reflink, else copy.
    Private(Stamp),
}

/// The mtime of a private file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stamp {
    /// By the kernel's coarse clock, like a file written now.
    Now,
    Blob,
    /// Seconds since 1970, zero nanoseconds.
    At(i64),
}

/// Whether a file can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// 0644, or for private files 0666 less the umask.
    Plain,
    /// 0755, or for private files 0777 less the umask.
    Executable,
}

impl Permission {
    pub const fn executable(yes: bool) -> Self {
        if yes { Permission::Executable } else { Permission::Plain }
    }

    pub(crate) const fn blob_mode(self) -> u32 {
        match self {
            Permission::Plain => 0o644,
            Permission::Executable => 0o755,
        }
    }

    pub(crate) const fn open_mode(self) -> u32 {
        match self {
            Permission::Plain => 0o666,
            Permission::Executable => 0o777,
        }
    }

    /// Whether a file has exactly a blob's mode: a link would take over any other one.
    fn is_of(self, meta: &Metadata) -> bool {
        meta.mode() & 0o7777 == self.blob_mode()
    }
}

/// What a private file remembers of its content, so that those who look at it later don't have to read it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note<'a> {
    None,
    Digest(&'a Digest),
    /// Its digest, and that its mtime may be set back later: Cargo dates the metadata of `check` units to the start
    /// of its own run.
    Redated(&'a Digest),
}

/// Puts the content of `blob` under the name `dest`, whose directory must exist, in place of what has that name.
/// A file of its own gets the note; `note` must be true of the blob.
///
/// # Errors
/// [`Error::is_missing`] with the blob's path when it is gone; others when no rung held. `dest` is then as it was.
pub fn place(
    blob: &Path,
    dest: &Path,
    sharing: Sharing,
    permission: Permission,
    note: Note<'_>,
) -> Result<Mode, Error> {
    let source = File::open(blob).doing("open blob", blob)?;
    let meta = source.metadata().doing("look at blob", blob)?;
    let folder = dest.parent().unwrap_or(Path::new("."));
    let tmp_path = folder.join(unique_name(TMP_PREFIX));
    let open_mode = permission.open_mode();
    let (tmp, file, mode) = match reflink(&source, &meta, &tmp_path, open_mode)? {
        Some((tmp, file)) => (tmp, file, Mode::Reflink),
        None => {
            let linkable = sharing == Sharing::Shared && permission.is_of(&meta);
            if linkable && hard_link(blob, &meta, dest)? {
                fault::point(Point::Placed);
                return Ok(Mode::HardLink);
            }
            let (tmp, file) = copy(&source, &meta, &tmp_path, open_mode)?;
            (tmp, file, Mode::Copy)
        }
    };
    let stamp = match sharing {
        Sharing::Shared => Stamp::Blob,
        Sharing::Private(stamp) => stamp,
    };
    match stamp {
        Stamp::Now => set_mtime_now(&file),
        Stamp::Blob => file.set_modified(meta.modified().doing("look at blob", blob)?),
        Stamp::At(seconds) => set_mtime(&file, seconds),
    }
    .doing("set the time of", tmp.path())?;
    remember(&file, note, tmp.path())?;
    fault::point(Point::PlaceMade);
    tmp.rename_to(dest)?;
    fault::point(Point::Placed);
    Ok(mode)
}

/// Puts down what is known of a file that has a temporary name yet: nobody else can change it there. Without attributes
/// it is read when it is needed.
pub(crate) fn remember(file: &File, note: Note<'_>, path: &Path) -> Result<(), Error> {
    let (digest, redating) = match note {
        Note::None => return Ok(()),
        Note::Digest(digest) => (digest, Redating::Never),
        Note::Redated(digest) => (digest, Redating::Expected),
    };
    let meta = file.metadata().doing("look at", path)?;
    inode_memo::remember(file, &meta, digest, redating);
    Ok(())
}

/// Writes a new file of these bytes under the name `dest`, whose directory must exist, in place of what has it.
///
/// # Errors
/// When it can't be written; `dest` is then as it was.
pub fn place_bytes(bytes: &[u8], dest: &Path) -> Result<(), Error> {
    let folder = dest.parent().unwrap_or(Path::new("."));
    let (tmp, mut file) = create(&folder.join(unique_name(TMP_PREFIX)), Permission::Plain.open_mode())?;
    io::Write::write_all(&mut file, bytes).doing("write", tmp.path())?;
    fault::point(Point::TextMade);
    tmp.rename_to(dest)
}

/// Sets a file's mtime to whole seconds since 1970.
pub fn set_mtime_of(path: &Path, seconds: i64) -> Result<(), Error> {
    let file = File::open(path).doing("open", path)?;
    set_mtime(&file, seconds).doing("set the time of", path)
}

/// Sets a file's mtime to now, by the clock that stamps files that are written now.
pub fn set_mtime_now_of(path: &Path) -> Result<(), Error> {
    let file = File::open(path).doing("open", path)?;
    set_mtime_now(&file).doing("set the time of", path)
}

/// Removes a file that has other names too, so that nobody who writes to this name writes through to them. Returns
/// whether it did.
pub fn unlink_shared(path: &Path) -> Result<bool, Error> {
    match unless_absent(fs::symlink_metadata(path)).doing("look at", path)? {
        Some(meta) if meta.is_file() && meta.nlink() > 1 => crate::files::remove(path),
        Some(_) | None => Ok(false),
    }
}

/// Links `dest` to the blob's inode; `false` where the file systems don't allow it.
pub(crate) fn hard_link(blob: &Path, meta: &Metadata, dest: &Path) -> Result<bool, Error> {
    let refused = match fs::hard_link(blob, dest) {
        Ok(()) => return Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => None,
        Err(error) => Some(error),
    };
    if let Some(error) = refused {
        return if is_link_refused(&error) { Ok(false) } else { Err(Error::new("link", dest, error)) };
    }
    let there = fs::symlink_metadata(dest).doing("look at", dest)?;
    if (there.dev(), there.ino()) == (meta.dev(), meta.ino()) {
        return Ok(true);
    }
    let tmp = TmpFile::at(dest.with_file_name(unique_name(TMP_PREFIX)));
    match fs::hard_link(blob, tmp.path()) {
        // Should another process have put the very inode there meanwhile, the rename does nothing and leaves the
        // temporary name to be removed.
        Ok(()) => fs::rename(tmp.path(), dest).doing("rename into place", dest).map(|()| true),
        Err(error) if is_link_refused(&error) => Ok(false),
        Err(error) => Err(Error::new("link", dest, error)),
    }
}

/// Whether an attempt to hard-link says only that another way has to be taken.
pub(crate) fn is_link_refused(error: &io::Error) -> bool {
    let refusals = [Errno::XDEV, Errno::MLINK, Errno::PERM, Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL];
    errno(error).is_some_and(|errno| refusals.contains(&errno))
}

/// Copies inside the kernel where it can.
pub(crate) fn copy(
    mut source: &File,
    meta: &Metadata,
    path: &Path,
    open_mode: u32,
) -> Result<(TmpFile, File), Error> {
    let (tmp, mut file) = create(path, open_mode)?;
    let copied = io::copy(&mut source, &mut file).doing("copy to", path)?;
    if copied != meta.len() {
        return Err(Error::new("copy to", path, io::Error::other("the source changed meanwhile")));
    }
    Ok((tmp, file))
}

fn create(path: &Path, open_mode: u32) -> Result<(TmpFile, File), Error> {
    let file = create_new(path, open_mode).doing("create", path)?;
    Ok((TmpFile::at(path.to_owned()), file))
}

/// Two device numbers: of a blob and of the folder it goes to. They may differ and still share extents: subvolumes
/// of one btrfs do.
type Devices = (u64, u64);

/// Which pairs of file systems reflink; found out once for each process, since it may change with a mount.
static REFLINKS: Mutex<Vec<(Devices, bool)>> = Mutex::new(Vec::new());

fn known_reflink(devices: Devices) -> Option<bool> {
    let known = REFLINKS.lock().unwrap_or_else(PoisonError::into_inner);
    known.iter().find(|(pair, _)| *pair == devices).map(|(_, works)| *works)
}

fn note_reflink(devices: Devices, works: bool) {
    let mut known = REFLINKS.lock().unwrap_or_else(PoisonError::into_inner);
    if known.iter().all(|(pair, _)| *pair != devices) {
        known.push((devices, works));
    }
}

/// Makes a new file `path` that is a reflink of `source`; `None` where the file systems don't do that, and then
/// there is no file.
pub(crate) fn reflink(
    source: &File,
    meta: &Metadata,
    path: &Path,
    open_mode: u32,
) -> Result<Option<(TmpFile, File)>, Error> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let devices = (meta.dev(), fs::metadata(folder).doing("look at", folder)?.dev());
    let may = known_reflink(devices).unwrap_or_else(|| may_support_reflink(source));
    let cloned = if may { clone_file(source, path, open_mode)? } else { None };
    note_reflink(devices, cloned.is_some());
    Ok(cloned)
}

/// File systems that are common and known never to reflink, so that not even an attempt is made.
#[cfg(target_os = "linux")]
fn may_support_reflink(source: &File) -> bool {
    const EXT: u64 = 0xEF53;
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58F6;
    const MSDOS: u64 = 0x4D44;
    const EXFAT: u64 = 0x2011_BAB0;
    let Ok(fs) = rustix::fs::fstatfs(source) else { return true };
    // The field's type differs between architectures.
    let magic = u64::try_from(fs.f_type).unwrap_or(0) & 0xFFFF_FFFF;
    ![EXT, TMPFS, RAMFS, MSDOS, EXFAT].contains(&magic)
}

#[cfg(not(target_os = "linux"))]
fn may_support_reflink(_source: &File) -> bool {
    cfg!(target_vendor = "apple")
}

#[cfg(target_os = "linux")]
fn clone_file(source: &File, path: &Path, open_mode: u32) -> Result<Option<(TmpFile, File)>, Error> {
    let (tmp, file) = create(path, open_mode)?;
    // Whatever the reason for a refusal, the next rung either works or has the better error.
    Ok(rustix::fs::ioctl_ficlone(&file, source).is_ok().then_some((tmp, file)))
}

#[cfg(target_vendor = "apple")]
fn clone_file(source: &File, path: &Path, _open_mode: u32) -> Result<Option<(TmpFile, File)>, Error> {
    use rustix::fs::{CWD, CloneFlags, fclonefileat};
    if fclonefileat(source, CWD, path, CloneFlags::empty()).is_err() {
        return Ok(None);
    }
    let tmp = TmpFile::at(path.to_owned());
    let file = File::options().read(true).write(true).open(path).doing("open", path)?;
    Ok(Some((tmp, file)))
}

#[cfg(not(any(target_os = "linux", target_vendor = "apple")))]
fn clone_file(_: &File, _: &Path, _: u32) -> Result<Option<(TmpFile, File)>, Error> {
    Ok(None)
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
