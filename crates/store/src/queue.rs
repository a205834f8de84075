//! Uploads owed: what builds have stored and the remote may not have yet. Survives everything that the file system
//! survives, needs no lock and no daemon. Does not know how an upload is done or whether it is worth doing.
//!
//! ```text
//! queue/<entry key>-<remote>       empty; its time says since when the upload is owed
//! ```
//! All that is owed is in the name, so an item can't be torn, and queueing one twice leaves one. An item goes after its
//! upload is done: who dies in between uploads once more, which changes nothing at the remote.

use std::fs;
use std::io;

use kache_core::digest::Digest;
use kache_core::key::EntryKey;

use crate::clock::FileTime;
use crate::error::{Doing, Error, unless_absent};
use crate::fault::{self, Point};
use crate::files::{create_new, remove};
use crate::layout::{Store, inherit_owner, with_folder};

/// Most items that are listed: more are owed only where no daemon has run for very long, and then the first ones are
/// uploaded first all the same.
const LISTED_MAX: usize = 200_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Owed {
    pub key: EntryKey,
    /// Where to: the identity of a remote.
    pub remote: Digest,
    pub since: FileTime,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    pub count: u64,
    /// Size of what they name, in the store, in bytes.
    pub bytes: u64,
    /// For how long the oldest is owed, in seconds.
    pub oldest_s: u64,
}

impl Store {
    /// Notes that an entry has to be uploaded to a remote. One that is noted already stays as it is.
    pub fn owe_upload(&self, key: &EntryKey, remote: &Digest) -> Result<(), Error> {
        let path = self.queue_dir().join(name(key, remote));
        match with_folder(&path, || create_new(&path, 0o600)) {
            Ok(file) => {
                fault::point(Point::UploadOwed);
                inherit_owner(&file, &path).doing("set the owner of", &path)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(Error::new("queue an upload", path, error)),
        }
    }

    /// Everything that is owed to a remote, or to all of them, the oldest first. What has another name is not looked
    /// at.
    pub fn owed_uploads(&self, remote: Option<&Digest>) -> Result<Vec<Owed>, Error> {
        let dir = self.queue_dir();
        let Some(items) = unless_absent(fs::read_dir(&dir)).doing("list", &dir)? else {
            return Ok(Vec::new());
        };
        let mut owed = Vec::new();
        for item in items.flatten().take(LISTED_MAX) {
            if let Some((key, to)) = item.file_name().to_str().and_then(parse)
                && remote.is_none_or(|remote| *remote == to)
                && let Ok(meta) = item.metadata()
            {
                owed.push(Owed { key, remote: to, since: FileTime::modified(&meta) });
            }
        }
        owed.sort_by_key(|owed| (owed.since, owed.key));
        Ok(owed)
    }

    /// Strikes an item: the upload is done, or never will be.
    pub fn strike_upload(&self, owed: &Owed) -> Result<(), Error> {
        fault::point(Point::UploadDone);
        remove(&self.queue_dir().join(name(&owed.key, &owed.remote))).map(drop)
    }

    /// When something was last queued or struck; `None` where nothing ever was. One system call.
    pub fn queue_changed(&self) -> Option<FileTime> {
        fs::metadata(self.queue_dir()).ok().map(|meta| FileTime::modified(&meta))
    }

    /// The queue in numbers, for one remote or all.
    pub fn backlog(&self, remote: Option<&Digest>) -> Result<Backlog, Error> {
        Ok(Backlog::of(&self.owed_uploads(remote)?, |key| self.owed_bytes(key)))
    }

    /// Size of what an upload is about, in bytes; 0 where it is gone.
    pub fn owed_bytes(&self, key: &EntryKey) -> u64 {
        self.peek_entry(key).ok().flatten().map_or(0, |entry| entry.size_bytes())
    }
}

impl Backlog {
    /// The numbers of what is owed, the oldest first. `size` is asked once for each.
    pub fn of(owed: &[Owed], mut size: impl FnMut(&EntryKey) -> u64) -> Self {
        let age_s = owed.first().map_or(0, |item| item.since.age_s(FileTime::now()));
        Self {
            count: owed.len() as u64,
            bytes: owed.iter().map(|item| size(&item.key)).sum(),
            oldest_s: u64::try_from(age_s).unwrap_or(0),
        }
    }
}

fn name(key: &EntryKey, remote: &Digest) -> String {
    format!("{key}-{remote}")
}

fn parse(name: &str) -> Option<(EntryKey, Digest)> {
    let (key, remote) = name.split_once('-')?;
    Some((key.parse().ok()?, remote.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use kache_core::entry::{Entry, Output, OutputKind};
    use kache_core::key::UnitKey;

    use super::*;

    fn key(name: &str) -> EntryKey {
        EntryKey(Digest::of(name.as_bytes()))
    }

    fn keys(store: &Store, remote: Option<&Digest>) -> Vec<EntryKey> {
        store.owed_uploads(remote).expect("listed").into_iter().map(|owed| owed.key).collect()
    }

    #[test]
    fn what_is_owed_stays_until_it_is_struck_and_is_owed_once() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let (here, there) = (Digest::of(b"here"), Digest::of(b"there"));
        assert_eq!(store.backlog(None).expect("listed"), Backlog::default());
        for remote in [&here, &here, &there] {
            store.owe_upload(&key("a"), remote).expect("queued");
        }
        // As after a crash: another process, another `Store`.
        let store = Store::open(dir.path()).expect("open");
        assert_eq!(keys(&store, Some(&here)), [key("a")]);
        assert_eq!(keys(&store, None).len(), 2);
        let first = store.owed_uploads(Some(&here)).expect("listed")[0];
        for _ in 0..2 {
            store.strike_upload(&first).expect("struck");
        }
        assert_eq!(keys(&store, Some(&here)), []);
        assert_eq!(keys(&store, Some(&there)), [key("a")]);
    }

    #[test]
    fn the_oldest_comes_first_and_strange_files_are_left_alone() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let remote = Digest::of(b"r");
        for (name, age) in [("new", 10), ("old", 500), ("middle", 100)] {
            store.owe_upload(&key(name), &remote).expect("queued");
            let path = store.queue_dir().join(super::name(&key(name), &remote));
            let at = std::time::SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::options().write(true).open(path).and_then(|file| file.set_modified(at)).expect("dated");
        }
        for strange in ["x", "-", "README", &format!("{}-zz", Digest::of(b""))] {
            fs::write(store.queue_dir().join(strange), "?").expect("write");
        }
        assert_eq!(keys(&store, None), [key("old"), key("middle"), key("new")]);
        let mut entry = Entry::new(UnitKey(Digest::of(b"u")), "demo");
        entry.dep_info_name = "demo.d".into();
        entry.outputs.push(Output {
            name: "libdemo.rlib".into(),
            kind: OutputKind::Rlib,
            digest: Digest::of(b"x"),
            size: 1234,
            mtime_s: 1,
            executable: false,
        });
        store.publish(&key("old"), &entry, &kache_core::entry::Evidence::default()).expect("published");
        let backlog = store.backlog(Some(&remote)).expect("listed");
        assert_eq!((backlog.count, backlog.bytes), (3, 1234));
        assert!((500..560).contains(&backlog.oldest_s), "{backlog:?}");
        fs::remove_dir_all(store.queue_dir()).expect("remove");
        assert_eq!(keys(&store, None), []);
        store.owe_upload(&key("a"), &remote).expect("the folder is made again");
        assert_eq!(keys(&store, None), [key("a")]);
    }
}
