//! A tiny key-value memo on disk: facts that took long to find out and can be found out again. Does not know what
//! keys and values mean; whatever decides about a fact's truth must be in the key.
//!
//! A value is one file `memo/<kind>/ab/<key>`, its bytes as they are, at most [`VALUE_BYTES_MAX`].

use std::path::PathBuf;

use kache_core::digest::Digest;
use kache_core::entry::is_safe_name;
use rustix::io::Errno;

use crate::error::{Doing, Error};
use crate::files::{Content, read_capped, remove};
use crate::layout::{Store, make_dir_and_above};

pub const VALUE_BYTES_MAX: u64 = 1 << 20;

impl Store {
    /// The remembered value; `None` also where it can't be read.
    pub fn memo_get(&self, kind: &str, key: &Digest) -> Option<Vec<u8>> {
        match read_capped(&self.memo_path(kind, key), VALUE_BYTES_MAX) {
            Ok(Content::Whole(bytes, _)) => Some(bytes),
            Ok(Content::Absent | Content::TooLong) | Err(_) => None,
        }
    }

    /// Remembers a value, in place of a former one. `kind` is a plain file name.
    pub fn memo_put(&self, kind: &str, key: &Digest, value: &[u8]) -> Result<(), Error> {
        let path = self.memo_path(kind, key);
        if value.len() as u64 > VALUE_BYTES_MAX || !is_safe_name(kind) {
            return Err(Error::new("remember", path, Errno::FBIG));
        }
        match self.publish_bytes(&path, value) {
            // Somebody has removed all memos, their folder too.
            Err(error) if error.is_missing() => {
                let of_kind = self.memo_dir().join(kind);
                make_dir_and_above(&of_kind).doing("create directory", &of_kind)?;
                self.publish_bytes(&path, value)
            }
            result => result,
        }
    }

    /// Forgets a value.
    pub fn memo_forget(&self, kind: &str, key: &Digest) -> Result<(), Error> {
        remove(&self.memo_path(kind, key)).map(drop)
    }

    /// Path of a file with these bytes, of which others may map or read but not change the content.
    pub fn memo_file(&self, kind: &str, value: &[u8]) -> Result<PathBuf, Error> {
        let key = Digest::of(value);
        let path = self.memo_path(kind, &key);
        let is_whole = std::fs::metadata(&path).is_ok_and(|meta| meta.len() == value.len() as u64);
        if !is_whole {
            self.memo_put(kind, &key, value)?;
        }
        Ok(path)
    }

    /// Keys of all values of one kind, sorted.
    pub fn memo_keys(&self, kind: &str) -> Vec<Digest> {
        let names = |dir: PathBuf| {
            let items = std::fs::read_dir(dir).into_iter().flatten().flatten();
            items.map(|item| item.file_name().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let dir = self.memo_dir().join(kind);
        let folders = names(dir.clone()).into_iter();
        let files = folders.flat_map(|folder| names(dir.join(folder)));
        let mut keys: Vec<Digest> = files.filter_map(|name| name.parse().ok()).collect();
        keys.sort_unstable();
        keys
    }

    pub fn memo_drop(&self, kind: &str, key: &Digest) {
        let path = self.memo_path(kind, key);
        // One that stays is forgotten by its age.
        let _ = std::fs::remove_file(&path);
        // So that asking for all keys is cheap where there are none.
        let _ = path.parent().map(std::fs::remove_dir);
    }

    fn memo_path(&self, kind: &str, key: &Digest) -> PathBuf {
        let name = key.to_string();
        let mut path = self.memo_dir();
        path.push(kind);
        path.push(&name[..2]);
        path.push(name);
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_kinds_are_apart() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let key = Digest::of(b"k");
        assert_eq!(store.memo_get("toolchains", &key), None);
        store.memo_put("toolchains", &key, b"one").expect("put");
        store.memo_put("toolchains", &key, b"two").expect("put");
        assert_eq!(store.memo_get("toolchains", &key).as_deref(), Some(&b"two"[..]));
        assert_eq!(store.memo_get("linkers", &key), None);
        let long = vec![0; usize::try_from(VALUE_BYTES_MAX).expect("fits") + 1];
        store.memo_put("toolchains", &key, &long).expect_err("too long");
        store.memo_put("../x", &key, b"").expect_err("not a plain name");
        store.memo_put("linkers", &key, b"three").expect("put");
        store.memo_put("linkers", &Digest::of(b"l"), b"four").expect("put");
        store.memo_drop("linkers", &key);
        assert_eq!(store.memo_keys("linkers"), [Digest::of(b"l")]);
        store.memo_drop("linkers", &Digest::of(b"l"));
        let left = std::fs::read_dir(store.memo_dir().join("linkers")).expect("read").count();
        assert_eq!((store.memo_keys("linkers").len(), left), (0, 0));
        std::fs::remove_dir_all(store.memo_dir()).expect("removed");
        store.memo_put("toolchains", &key, b"three").expect("the folder is made again");
        assert_eq!(store.memo_get("toolchains", &key).as_deref(), Some(&b"three"[..]));
        std::fs::write(store.memo_path("toolchains", &key), long).expect("write");
        assert_eq!(store.memo_get("toolchains", &key), None);
    }
}
