//! Where everything is below the cache directory, and how it comes into being. Does not know what is inside the
//! files.
//!
//! ```text
//! <cache_dir>/                 0700, CACHEDIR.TAG, .gitignore
//!   v1/blobs/ab/<digest>       contents, named by BLAKE3
//!   v1/entries/ab/<key>        results; the mtime is the LRU clock
//!   v1/evidence/ab/<key>       what made an entry's key, for `why-miss`
//!   v1/units/ab/<key>          input records
//!   v1/snapshots/<context>/<lock>  what target directories held, see `snapshots`
//!   v1/tmp/                    files in the making, renamed or linked into place
//!   v1/usage                   approximate size, see `usage`
//!   served/                    build directories that were served, see `served`
//!   journal/  memo/  queue/  locks/  daemon/
//! ```
//! `v1` is the version of the layout; another version lives beside it and is left alone.

use std::fs::{self, DirBuilder, File, Metadata, OpenOptions, Permissions};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use kache_core::digest::Digest;
use kache_core::key::{EntryKey, UnitKey};

use crate::error::{Doing, Error, is_absent};

const VERSION_DIR: &str = "v1";

/// First line as the specification of cache directory tags wants it, so that backups skip the directory.
const CACHEDIR_TAG: &str = "Signature: 8a477f597d28d172789f06886806bc55\n\
    # This is the build cache of kache. It can be removed at any time.\n";

/// What Git, and with it Cargo, reads in a store inside a checkout: none of it is a source, or to be packaged.
const GITIGNORE: &str = "*\n";

/// A kind of file that is kept in 256 folders by the first two digits of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    Blobs,
    Entries,
    Evidence,
    Units,
}

impl Shelf {
    pub(crate) const ALL: [Self; 4] = [Shelf::Blobs, Shelf::Entries, Shelf::Evidence, Shelf::Units];

    const fn dir_name(self) -> &'static str {
        match self {
            Shelf::Blobs => "blobs",
            Shelf::Entries => "entries",
            Shelf::Evidence => "evidence",
            Shelf::Units => "units",
        }
    }
}

/// The store under one cache directory. Opening it is one system call; it holds no file open.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    base: PathBuf,
    /// Bytes that came into the store through this value and are not yet in the usage file.
    pub(crate) new_bytes: AtomicU64,
    /// What stays free on its disk, where that is set, in bytes.
    pub(crate) free_bytes_min: Option<u64>,
}

impl Store {
    /// Opens the store in `cache_dir`, creating directories, CACHEDIR.TAG and .gitignore at first use.
    pub fn open(cache_dir: &Path) -> Result<Store, Error> {
        let store = Self::at(cache_dir)?;
        let last_made = store.tmp_dir();
        match fs::symlink_metadata(&last_made) {
            Ok(meta) => owned(&meta, &last_made).map(|()| store),
            Err(error) if is_absent(&error) => store.create().map(|()| store),
            Err(error) => Err(Error::new("open cache directory", last_made, error)),
        }
    }

    /// Opens a store that must exist already; creates nothing.
    ///
    /// # Errors
    /// [`Error::is_missing`] when there is none.
    pub fn open_existing(cache_dir: &Path) -> Result<Store, Error> {
        let store = Self::at(cache_dir)?;
        let meta = fs::metadata(&store.base).doing("open cache directory", &store.base)?;
        owned(&meta, &store.base).map(|()| store)
    }

    fn at(cache_dir: &Path) -> Result<Store, Error> {
        let root = std::path::absolute(cache_dir).doing("locate cache directory", cache_dir)?;
        let base = root.join(VERSION_DIR);
        Ok(Store { root, base, new_bytes: AtomicU64::new(0), free_bytes_min: None })
    }

    fn create(&self) -> Result<(), Error> {
        if !self.root.exists() {
            make_dir_all(&self.root).doing("create cache directory", &self.root)?;
        }
        // Where other things lie as well, in a home directory for instance, neither backups nor Git are told to skip
        // them.
        if fs::read_dir(&self.root).is_ok_and(|mut items| items.next().is_none()) {
            for (name, content) in [("CACHEDIR.TAG", CACHEDIR_TAG), (".gitignore", GITIGNORE)] {
                let path = self.root.join(name);
                let mut file = File::create(&path).doing("create", &path)?;
                file.write_all(content.as_bytes()).doing("write", &path)?;
                let mode = Permissions::from_mode(0o644);
                file.set_permissions(mode).doing("set permissions of", &path)?;
                inherit_owner(&file, &path).doing("set the owner of", &path)?;
            }
        }
        let in_root =
            [self.journal_dir(), self.memo_dir(), self.queue_dir(), self.locks_dir(), self.daemon_dir()];
        let in_base = Shelf::ALL.map(|shelf| self.shelf_dir(shelf));
        // The one that `open` looks for comes last.
        for dir in in_root.iter().chain([&self.base]).chain(&in_base).chain([&self.tmp_dir()]) {
            make_dir(dir).doing("create directory", dir)?;
        }
        Ok(())
    }

    /// The cache directory, absolute.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where the blob of this digest is, if it is there.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.shelf_path(Shelf::Blobs, digest)
    }

    /// Where the entry of this key is, if it is there.
    pub fn entry_path(&self, key: &EntryKey) -> PathBuf {
        self.shelf_path(Shelf::Entries, &key.0)
    }

    /// Where the evidence of this key is, if it is there.
    pub fn evidence_path(&self, key: &EntryKey) -> PathBuf {
        self.shelf_path(Shelf::Evidence, &key.0)
    }

    /// Where the input records of this unit are, if they are there.
    pub fn records_path(&self, key: &UnitKey) -> PathBuf {
        self.shelf_path(Shelf::Units, &key.0)
    }

    pub fn journal_dir(&self) -> PathBuf {
        self.root.join("journal")
    }

    /// Folder of memos: facts that are only ever a shortcut.
    pub fn memo_dir(&self) -> PathBuf {
        self.root.join("memo")
    }

    pub fn queue_dir(&self) -> PathBuf {
        self.root.join("queue")
    }

    pub(crate) fn served_dir(&self) -> PathBuf {
        self.root.join("served")
    }

    pub fn locks_dir(&self) -> PathBuf {
        self.root.join("locks")
    }

    pub(crate) fn usage_path(&self) -> PathBuf {
        self.base.join("usage")
    }

    pub(crate) fn base_dir(&self) -> &Path {
        &self.base
    }

    pub(crate) fn tmp_dir(&self) -> PathBuf {
        self.base.join("tmp")
    }

    pub(crate) fn shelf_dir(&self, shelf: Shelf) -> PathBuf {
        self.base.join(shelf.dir_name())
    }

    fn shelf_path(&self, shelf: Shelf, name: &Digest) -> PathBuf {
        let name = name.to_string();
        let mut path = self.shelf_dir(shelf);
        path.push(&name[..2]);
        path.push(name);
        path
    }

    /// A name for a file in the making that nothing else uses.
    pub(crate) fn tmp_path(&self) -> PathBuf {
        self.tmp_dir().join(unique_name(""))
    }
}

/// Refuses a store that somebody else has laid out, perhaps where everybody may write: they could put anything there,
/// and what is there runs. The store's folders let in nobody but their owner, so it is of no use to others anyway.
fn owned(meta: &Metadata, path: &Path) -> Result<(), Error> {
    let (owner, me) = (meta.uid(), rustix::process::geteuid().as_raw());
    if is_usable_by(me, owner) {
        return Ok(());
    }
    let why = format!("it belongs to another user (uid {owner})");
    Err(Error::new("open cache directory", path, io::Error::new(io::ErrorKind::PermissionDenied, why)))
}

/// Root uses everybody's store and leaves it its owner's: in containers, directories of the host's user are root's
/// business.
fn is_usable_by(me: u32, owner: u32) -> bool {
    owner == me || owner == 0 || me == 0
}

/// A file name that no other process or thread comes up with: random for the process, counted within it.
pub(crate) fn unique_name(prefix: &str) -> String {
    static PROCESS: OnceLock<u64> = OnceLock::new();
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let process = PROCESS.get_or_init(|| RandomState::new().hash_one(std::process::id()));
    format!("{prefix}{process:016x}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Runs `act`, which needs the folder of `path`; where that is missing, makes it and runs `act` once more.
pub(crate) fn with_folder<T>(path: &Path, mut act: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    match act() {
        Err(error) if is_absent(&error) => {
            let Some(folder) = path.parent() else { return Err(error) };
            make_dir_and_above(folder)?;
            act()
        }
        result => result,
    }
}

/// Makes a folder of the store and the one above it, where they are missing. A whole cache directory that is gone
/// stays gone: somebody removed it.
pub(crate) fn make_dir_and_above(folder: &Path) -> io::Result<()> {
    match make_dir(folder) {
        Err(error) if is_absent(&error) => {
            make_dir(folder.parent().unwrap_or(folder))?;
            make_dir(folder)
        }
        result => result,
    }
}

/// Makes a directory that only its owner may use, whatever the umask; one that exists is fine.
pub(crate) fn make_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => {
            fs::set_permissions(path, Permissions::from_mode(0o700))?;
            let nofollow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
            inherit_owner(&OpenOptions::new().read(true).custom_flags(nofollow).open(path)?, path)
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

/// Makes the cache directory, and what is missing above it.
fn make_dir_all(path: &Path) -> io::Result<()> {
    match (make_dir(path), path.parent()) {
        (Err(error), Some(above)) if is_absent(&error) => {
            make_dir_all(above)?;
            make_dir(path)
        }
        (result, _) => result,
    }
}

/// Who owns the folder of `path`, where root works for that user.
pub(crate) fn foreign_owner(path: &Path) -> io::Result<Option<(u32, u32)>> {
    let Some(folder) = path.parent().filter(|_| rustix::process::geteuid().is_root()) else {
        return Ok(None);
    };
    let meta = fs::metadata(folder)?;
    Ok(Some((meta.uid(), meta.gid())).filter(|(user, _)| *user != 0))
}

/// Gives what root has made in another user's folder to that user, who could neither use nor remove it (`sudo -E cargo
/// build`, a container that works in a directory of the host's). `made` is the open file, so that no other one gets the
/// owner.
pub(crate) fn inherit_owner(made: &File, path: &Path) -> io::Result<()> {
    match foreign_owner(path)? {
        Some((user, group)) => fchown(made, Some(user), Some(group)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("exists").permissions().mode() & 0o7777
    }

    #[test]
    fn first_use_creates_a_private_tagged_directory_and_later_ones_change_nothing() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("deep/er/kache");
        assert!(Store::open_existing(&root).expect_err("nothing there").is_missing());
        assert!(!root.exists());
        let store = Store::open(&root).expect("open");
        assert_eq!(store.root(), root);
        for made in [&root, &root.join("v1"), &root.join("v1/tmp"), &root.join("queue"), &root.join("locks")]
        {
            assert_eq!(mode(made), 0o700, "{}", made.display());
        }
        let tag = fs::read_to_string(root.join("CACHEDIR.TAG")).expect("tag");
        assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n"));
        assert_eq!(fs::read_to_string(root.join(".gitignore")).expect("written"), "*\n");
        fs::remove_dir(store.journal_dir()).expect("remove");
        Store::open(&root).expect("open again");
        Store::open_existing(&root).expect("open existing");
        assert!(!store.journal_dir().exists());
    }

    #[test]
    fn a_cache_directory_with_wider_permissions_is_the_users_choice() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).expect("chmod");
        Store::open(dir.path()).expect("open");
        assert_eq!(mode(dir.path()), 0o755);
    }

    #[test]
    fn a_directory_with_other_things_in_it_is_not_tagged() {
        let dir = tempfile::tempdir().expect("temp dir");
        fs::write(dir.path().join("diary"), "x").expect("write");
        Store::open(dir.path()).expect("open");
        assert!(!dir.path().join("CACHEDIR.TAG").exists());
        assert!(!dir.path().join(".gitignore").exists());
    }

    #[test]
    fn a_store_is_for_its_owner_and_for_root() {
        for (me, owner, usable) in [(7, 7, true), (7, 0, true), (0, 7, true), (7, 8, false)] {
            assert_eq!(is_usable_by(me, owner), usable, "{me} {owner}");
        }
    }

    #[test]
    fn files_are_shelved_by_their_first_two_digits() {
        let store = Store::at(Path::new("/c")).expect("no I/O");
        let digest = Digest::of(b"abc");
        assert_eq!(store.blob_path(&digest), PathBuf::from(format!("/c/v1/blobs/64/{digest}")));
        assert_eq!(store.entry_path(&EntryKey(digest)), PathBuf::from(format!("/c/v1/entries/64/{digest}")));
        assert_ne!(store.tmp_path(), store.tmp_path());
    }

    #[test]
    fn a_file_in_the_way_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().expect("temp dir");
        let root = dir.path().join("file");
        fs::write(&root, "x").expect("write");
        let error = Store::open(&root).expect_err("not a directory");
        assert!(error.to_string().contains("file"), "{error}");
    }
}
