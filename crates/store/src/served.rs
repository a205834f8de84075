//! Which build directories kache has served, for which project and with which compiler. A census of the disk begins
//! here, and so does the question which compilers are gone.
//!
//! ```text
//! served/<digest>   {"version":1,"build_dir":…,"project":…,"compiler":{"id":…,"version":…,"files":[…]}}
//! ```
//! One file for each of these combinations, named by their digest; its modification time is the last build. A sweep
//! removes it after a year.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use kache_core::digest::Digest;
use serde::{Deserialize, Serialize};

use crate::clock::FileTime;
use crate::entries::TOUCH_EVERY_S;
use crate::error::{Doing, Error};
use crate::files::{Content, read_capped};
use crate::layout::{Store, make_dir};

const VERSION: u32 = 1;
/// Longest note that is read, in bytes.
const NOTE_BYTES_MAX: u64 = 64 << 10;

/// A compiler, by what is lost when it is removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compiler {
    /// Its identity, as in an entry.
    pub id: Digest,
    /// First line of `rustc -vV`.
    pub version: String,
    pub files: Vec<PathBuf>,
}

impl Compiler {
    /// Whether all of its files are there.
    pub fn is_installed(&self) -> bool {
        self.files.iter().all(|file| file.exists())
    }
}

/// A build directory that was served.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Served {
    version: u32,
    pub build_dir: PathBuf,
    /// The workspace that was built there.
    pub project: PathBuf,
    /// The compiler that it was built with.
    pub compiler: Compiler,
    /// The last build, to the minute.
    #[serde(skip)]
    pub used_s: i64,
}

impl Store {
    /// Notes that a build directory was served for a project, at most once a minute. `compiler` is asked for only when
    /// the note is written.
    pub fn note_served(
        &self,
        (build_dir, project): (&Path, &Path),
        id: &Digest,
        compiler: impl FnOnce() -> Option<Compiler>,
    ) -> Result<(), Error> {
        let name = [build_dir.as_os_str(), project.as_os_str()].map(std::ffi::OsStr::as_encoded_bytes);
        let name = Digest::of(&[name[0], name[1], id.to_string().as_bytes()].join(&0));
        let path = self.served_dir().join(name.to_string());
        let age_s = fs::metadata(&path).map(|meta| FileTime::modified(&meta).age_s(FileTime::now()));
        if age_s.is_ok_and(|age_s| (-TOUCH_EVERY_S..TOUCH_EVERY_S).contains(&age_s)) {
            return Ok(());
        }
        let Some(compiler) = compiler() else { return Ok(()) };
        let (build_dir, project) = (build_dir.to_owned(), project.to_owned());
        let note = Served { version: VERSION, build_dir, project, compiler, used_s: 0 };
        let bytes = serde_json::to_vec(&note).unwrap_or_default();
        match self.publish_bytes(&path, &bytes) {
            Err(error) if error.is_missing() => {
                make_dir(&self.served_dir()).doing("create directory", &self.served_dir())?;
                self.publish_bytes(&path, &bytes)
            }
            result => result,
        }
    }

    /// All notes. What can't be read is left out.
    pub fn served(&self) -> Vec<Served> {
        let files = fs::read_dir(self.served_dir()).into_iter().flatten().flatten();
        let read = |path: PathBuf| {
            let Ok(Content::Whole(bytes, file)) = read_capped(&path, NOTE_BYTES_MAX) else { return None };
            let note: Served = serde_json::from_slice(&bytes).ok()?;
            let used_s = FileTime::modified(&file.metadata().ok()?).seconds();
            (note.version == VERSION).then_some(Served { used_s, ..note })
        };
        files.filter_map(|file| read(file.path())).collect()
    }
}

/// The compilers of some notes, and whether each is installed, in one place at least.
pub fn compilers(served: &[Served]) -> BTreeMap<Digest, bool> {
    let mut known = BTreeMap::new();
    for Served { compiler, .. } in served {
        let is_installed = known.entry(compiler.id).or_insert(false);
        *is_installed = *is_installed || compiler.is_installed();
    }
    known
}

/// Compilers that are no longer installed.
pub fn gone_compilers(served: &[Served]) -> BTreeSet<Digest> {
    compilers(served).into_iter().filter(|(_, is_installed)| !is_installed).map(|(id, _)| id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_compiler_is_gone_when_no_place_has_it_any_more() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(&dir.path().join("store")).expect("open");
        let (here, there) = (dir.path().join("here"), dir.path().join("there"));
        let id = Digest::of(b"compiler");
        let note = |build_dir: &str, file: &Path| {
            let files = vec![file.to_owned()];
            let compiler = Compiler { id, version: "rustc 1".to_owned(), files };
            let place = (Path::new(build_dir), Path::new("/p"));
            store.note_served(place, &id, || Some(compiler)).expect("noted");
        };
        fs::write(&here, "").expect("write");
        fs::write(&there, "").expect("write");
        assert!(store.served().is_empty());
        note("/a", &here);
        note("/b", &there);
        note("/b", &here);
        let mut served = store.served();
        served.sort_by(|a, b| a.build_dir.cmp(&b.build_dir));
        let dirs: Vec<_> = served.iter().map(|note| note.build_dir.display().to_string()).collect();
        assert_eq!(dirs, ["/a", "/b"], "one note for each place, and not again within a minute");
        assert_eq!(served[1].compiler.files, std::slice::from_ref(&there));
        assert!(served[0].used_s > 1_700_000_000);
        assert!(gone_compilers(&served).is_empty());
        fs::remove_file(&here).expect("remove");
        assert!(gone_compilers(&served).is_empty(), "it is there");
        fs::remove_file(&there).expect("remove");
        assert_eq!(gone_compilers(&served), BTreeSet::from([id]));
    }
}
