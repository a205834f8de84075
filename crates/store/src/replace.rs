//! Puts a blob's content in place of a file that has the same already, so that they share bytes. Does not know whether that is
//! wise; a file that has changed since it was read is left alone.

use std::fs::{self, File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Doing, Error};
use crate::fault::{self, Point};
use crate::files::require_unchanged;
use crate::layout::unique_name;
use crate::link::{Note, Permission, TMP_PREFIX, hard_link, reflink, remember};

/// Has the file `dest`, which has the blob's content, share the blob's bytes: where the file systems clone, a clone with
/// its time and permissions takes its place. Elsewhere, and where the file has other names, it stays as it is. Returns
/// whether it was replaced.
///
/// # Errors
/// When either can't be looked at or the clone can't be finished; `dest` is then as it was.
pub(crate) fn share_bytes(blob: &Path, dest: &Path) -> Result<bool, Error> {
    let meta = fs::symlink_metadata(dest).doing("look at", dest)?;
    if meta.nlink() != 1 || meta.len() == 0 {
        return Ok(false);
    }
    clone_over(blob, &[dest.to_owned()], &meta, Note::None)
}

/// Puts a clone of a blob in place of a file with the same content, under all of the file's names, with its time and
/// permissions. `before` is how the file was when its content was read. Returns `false` where the file systems don't
/// clone; the file is then as it was.
///
/// # Errors
/// When either can't be looked at, the file has changed, or the clone can't be finished.
pub fn clone_over(blob: &Path, names: &[PathBuf], before: &Metadata, note: Note<'_>) -> Result<bool, Error> {
    let Some((first, others)) = names.split_first() else { return Ok(false) };
    let source = File::open(blob).doing("open blob", blob)?;
    let source_meta = source.metadata().doing("look at blob", blob)?;
    let tmp_path = first.with_file_name(unique_name(TMP_PREFIX));
    let Some((tmp, file)) = reflink(&source, &source_meta, &tmp_path, Permission::Plain.open_mode())? else {
        return Ok(false);
    };
    file.set_permissions(before.permissions()).doing("set the permissions of", tmp.path())?;
    let time = before.modified().doing("look at", first)?;
    file.set_modified(time).doing("set the time of", tmp.path())?;
    remember(&file, note, tmp.path())?;
    require_unchanged(first, before, &fs::symlink_metadata(first).doing("look at", first)?)?;
    fault::point(Point::PlaceMade);
    tmp.rename_to(first)?;
    fault::point(Point::Placed);
    let meta = file.metadata().doing("look at", first)?;
    others.iter().try_for_each(|name| hard_link(first, &meta, name).map(drop))?;
    Ok(true)
}

/// Links a blob's inode in place of a file with the same content, under all of the file's names. The time is the blob's
/// from then on. `before` is how the file was when its content was read. Returns `false` where no link can be made; the
/// file is then as it was.
///
/// # Errors
/// When either can't be looked at, or the file has changed.
pub fn link_over(blob: &Path, names: &[PathBuf], before: &Metadata) -> Result<bool, Error> {
    let meta = fs::metadata(blob).doing("look at blob", blob)?;
    for name in names {
        require_unchanged(name, before, &fs::symlink_metadata(name).doing("look at", name)?)?;
        if !hard_link(blob, &meta, name)? {
            return Ok(false);
        }
        fault::point(Point::Placed);
    }
    Ok(true)
}

/// Whether a blob can be cloned into a folder. Tries it, under a temporary name.
///
/// # Errors
/// When either can't be looked at.
pub fn can_clone(blob: &Path, folder: &Path) -> Result<bool, Error> {
    let source = File::open(blob).doing("open blob", blob)?;
    let meta = source.metadata().doing("look at blob", blob)?;
    let tmp = folder.join(unique_name(TMP_PREFIX));
    Ok(reflink(&source, &meta, &tmp, Permission::Plain.open_mode())?.is_some())
}
