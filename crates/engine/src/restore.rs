//! Puts an entry's outputs into the target directory and replays its messages. Every output is complete before the
//! first line is written, so that Cargo never hears of a file that isn't there. Decides nothing about sharing.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use kache_core::depinfo::{DEP_INFO_BYTES_MAX, DepInfo};
use kache_core::entry::{Entry, OutputKind, Text};
use kache_core::event::Moved;
use kache_core::key::EntryKey;
use kache_core::paths::Roots;
use kache_core::plan::{Occupant, Placement};
use kache_core::unit::Unit;
use kache_store::Store;
use kache_store::blobs::BlobState;
use kache_store::fault::{self, Point};
use kache_store::link::{self, Mode, Note, Permission, Sharing, Stamp};

use crate::placement::Standing;

/// Longest stored message text that is replayed, in bytes.
const TEXT_BYTES_MAX: u64 = 128 << 20;

/// Why an entry could not be restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not what it was when it was stored; it has to go.
    #[error("{0}")]
    Broken(String),
    /// The target directory or the store refused; nothing is wrong with the entry.
    #[error(transparent)]
    Refused(#[from] kache_store::Error),
}

/// Texts of an entry with this checkout's paths.
pub struct Texts {
    dep_info: String,
    stderr: String,
    stdout: String,
}

impl Texts {
    /// The `.d` file.
    pub fn dep_info(&self) -> &str {
        &self.dep_info
    }
}

/// Checks that all of an entry is there, before anything in the target directory is touched.
pub fn check(store: &Store, entry: &Entry, roots: &Roots) -> Result<Texts, RestoreError> {
    check_outputs(store, entry)?;
    // Its paths are escaped, so roots go in between parsing and rendering.
    let dep_info = DepInfo::parse(&stored(store, &entry.dep_info, DEP_INFO_BYTES_MAX)?)
        .ok()
        .and_then(|info| info.map(|text| roots.detokenize(text)))
        .ok_or_else(|| RestoreError::Broken("the stored dep-info is damaged".to_owned()))?
        .render();
    let local = |text: &Text| local_text(store, text, roots);
    Ok(Texts { dep_info, stderr: local(&entry.stderr)?, stdout: local(&entry.stdout)? })
}

/// Checks that the contents of an entry's outputs are there and as they were.
pub fn check_outputs(store: &Store, entry: &Entry) -> Result<(), RestoreError> {
    for output in &entry.outputs {
        match store.check_blob(output)? {
            BlobState::Present => {}
            BlobState::Missing => {
                return Err(RestoreError::Broken(format!("the content of {} is gone", output.name)));
            }
            BlobState::OtherMode => store.put_mode_back(output)?,
            BlobState::Redated if store.acquit(output)? => {}
            BlobState::Redated | BlobState::Altered => {
                store.drop_damaged(&output.digest)?;
                return Err(RestoreError::Broken(format!(
                    "the content of {} was changed in place",
                    output.name
                )));
            }
        }
    }
    Ok(())
}

fn stored(store: &Store, text: &Text, bytes_max: u64) -> Result<String, RestoreError> {
    match text {
        Text::Inline(text) => Ok(text.clone()),
        Text::Blob(digest) => {
            let bytes = store.read_blob(digest, bytes_max)?;
            let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
            text.ok_or_else(|| RestoreError::Broken("a stored text is gone or damaged".to_owned()))
        }
    }
}

/// A text with this checkout's paths.
pub fn local_text(store: &Store, text: &Text, roots: &Roots) -> Result<String, RestoreError> {
    roots
        .detokenize(&stored(store, text, TEXT_BYTES_MAX)?)
        .ok_or_else(|| RestoreError::Broken("a stored text names an unknown root".to_owned()))
}

/// Puts the outputs and the `.d` file into place.
pub fn apply(
    store: &Store,
    (key, entry): (&EntryKey, &Entry),
    unit: &Unit,
    texts: &Texts,
    standing: &Standing,
) -> Result<Moved, RestoreError> {
    fault::point(Point::RestoreChecked);
    let out_dir = Path::new(&unit.out_dir);
    let kinds: Vec<_> = entry.outputs.iter().map(|output| output.kind).collect();
    let oldest_s = entry.oldest_mtime_s().unwrap_or_default();
    let placement = standing.decide(&kinds, occupant(store, entry, out_dir), oldest_s, Some(key));
    let mut moved = Moved::default();
    for output in &entry.outputs {
        let dest = out_dir.join(&output.name);
        let blob = store.blob_path(&output.digest);
        let permission = Permission::executable(output.executable);
        let sharing = match placement {
            Placement::Keep => {
                moved.kept_bytes += output.size;
                continue;
            }
            Placement::Shared => Sharing::Shared,
            Placement::Private => Sharing::Private(Stamp::Now),
        };
        let note = match output.kind {
            OutputKind::CheckMetadata => Note::Redated(&output.digest),
            _ => Note::Digest(&output.digest),
        };
        count(&mut moved, link::place(&blob, &dest, sharing, permission, note)?, output.size);
        fault::point(Point::OutputPlaced);
    }
    link::place_bytes(texts.dep_info.as_bytes(), &out_dir.join(&entry.dep_info_name))?;
    fault::point(Point::OutputsPlaced);
    Ok(moved)
}

/// Adds bytes to those that came into place in this way.
pub fn count(moved: &mut Moved, mode: Mode, bytes: u64) {
    *match mode {
        Mode::Reflink => &mut moved.reflinked_bytes,
        Mode::HardLink => &mut moved.linked_bytes,
        Mode::Copy => &mut moved.copied_bytes,
    } += bytes;
}

/// What lies where the outputs go: the blobs' own inodes, nothing, or anything else.
fn occupant(store: &Store, entry: &Entry, out_dir: &Path) -> Occupant {
    let mut occupant = None;
    for output in &entry.outputs {
        let here = match fs::symlink_metadata(out_dir.join(&output.name)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Occupant::Nothing,
            Err(_) => Occupant::Other,
            Ok(meta) => match fs::symlink_metadata(store.blob_path(&output.digest)) {
                Ok(blob) if (blob.dev(), blob.ino()) == (meta.dev(), meta.ino()) => Occupant::SameInode,
                _ => Occupant::Other,
            },
        };
        match occupant {
            None => occupant = Some(here),
            Some(before) if before == here => {}
            Some(_) => return Occupant::Other,
        }
    }
    occupant.unwrap_or(Occupant::Nothing)
}

/// Writes what the compile had written. When nobody listens any more there is nobody to tell.
pub fn replay(texts: &Texts) {
    tell(&texts.stdout, &texts.stderr);
}

/// Writes to standard output and standard error.
pub fn tell(stdout: &str, stderr: &str) {
    for (text, mut stream) in
        [(stdout, Box::new(io::stdout().lock()) as Box<dyn Write>), (stderr, Box::new(io::stderr().lock()))]
    {
        if !text.is_empty() {
            let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
        }
    }
}

#[cfg(test)]
mod tests {
    use kache_core::digest::Digest;
    use kache_core::key::UnitKey;
    use kache_core::paths::Root;

    use super::*;

    /// Short dep-info lies in the entry, long dep-info in a blob: both get this checkout's paths, escaped.
    #[test]
    fn dep_info_names_a_checkout_with_spaces() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("cache")).expect("store");
        let roots = Roots::new([(Root::Workspace, "/a dir/w".to_owned())]);
        let tokens = format!("out.d: {}/g.rs\n\n{0}/g.rs:\n", Root::Workspace.text_token());
        let blob = store.ingest_bytes(tokens.as_bytes()).expect("stored");
        for dep_info in [Text::Inline(tokens), Text::Blob(blob)] {
            let mut entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
            entry.dep_info = dep_info;
            let texts = check(&store, &entry, &roots).expect("whole");
            assert_eq!(texts.dep_info, "out.d: /a\\ dir/w/g.rs\n\n/a\\ dir/w/g.rs:\n");
        }
    }
}
