//! Where wrapper and daemon meet: the socket and the files beside it, and the notes by which wrappers tell each other
//! to leave a daemon alone. Knows neither what is said nor who starts what.
//!
//! ```text
//! daemon/sock            the socket, 0600 in a 0700 directory whatever the cache directory allows
//! daemon/pid             whom to signal when the socket doesn't answer; only true while locks/daemon is held
//! daemon/log             what the daemon has to say
//! daemon/avoid           not asked before this file is a while old
//! daemon/avoid-<remote>  the same, for those who mean this remote
//! locks/daemon           held by the one daemon as long as it lives
//! locks/daemon-start     held by who starts one
//! ```

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::digest::Digest;

use crate::clock::FileTime;
use crate::error::{Doing, Error};
use crate::files::remove;
use crate::layout::{Store, inherit_owner, make_dir_and_above};
use crate::lock::Locking;

/// Longest path that fits into a socket's address on every system, in bytes.
const ADDRESS_BYTES_MAX: usize = 100;

/// How long a daemon is left alone after it disappointed, in seconds.
const AVOIDED_S: i64 = 60;

/// A path for a socket's address; short enough even where the cache directory is deep.
#[derive(Debug)]
pub struct Address {
    path: PathBuf,
    /// The path leads through this descriptor.
    _dir: Option<File>,
}

impl Address {
    /// To bind or connect to, as long as this value lives.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concerns<'a> {
    All,
    Remote(&'a Digest),
}

impl Store {
    pub fn daemon_dir(&self) -> PathBuf {
        self.root().join("daemon")
    }

    pub fn daemon_log(&self) -> PathBuf {
        self.daemon_dir().join("log")
    }

    pub fn socket_path(&self) -> PathBuf {
        self.daemon_dir().join("sock")
    }

    pub fn socket_address(&self) -> Result<Address, Error> {
        let path = self.socket_path();
        if path.as_os_str().len() <= ADDRESS_BYTES_MAX {
            return Ok(Address { path, _dir: None });
        }
        let dir = self.daemon_dir();
        let open = File::open(&dir).doing("open", &dir)?;
        let path = PathBuf::from(format!("/proc/self/fd/{}/sock", open.as_raw_fd()));
        Ok(Address { path, _dir: Some(open) })
    }

    /// Makes the folder of the daemon's files.
    pub fn make_daemon_dir(&self) -> Result<(), Error> {
        let dir = self.daemon_dir();
        make_dir_and_above(&dir).doing("create directory", &dir)
    }

    /// The right to be the one daemon of this store, for as long as the lock is held.
    pub fn lock_daemon(&self, timeout: Duration) -> Result<Locking, Error> {
        self.lock("daemon", timeout)
    }

    /// Notes the process of the daemon.
    pub fn note_daemon_pid(&self, pid: u32) -> Result<(), Error> {
        self.publish_bytes(&self.daemon_dir().join("pid"), pid.to_string().as_bytes())
    }

    /// The process of the daemon that holds the lock now; `None` when nobody holds it.
    pub fn daemon_pid(&self) -> Result<Option<i32>, Error> {
        match self.lock_daemon(Duration::ZERO)? {
            Locking::Locked(_) => Ok(None),
            Locking::TimedOut => {
                let text = fs::read_to_string(self.daemon_dir().join("pid")).unwrap_or_default();
                Ok(text.trim().parse().ok().filter(|pid| *pid > 1))
            }
        }
    }

    /// The right to start a daemon, so that only one of many tries.
    pub fn lock_daemon_start(&self) -> Result<Locking, Error> {
        self.lock("daemon-start", Duration::ZERO)
    }

    /// Tells everybody whom it concerns to do without the daemon for a while.
    pub fn avoid_daemon(&self, concerns: Concerns<'_>, why: &str) -> Result<(), Error> {
        self.publish_bytes(&self.avoidance(concerns), why.as_bytes())
    }

    /// Why the daemon is to be left alone at the moment, if it is.
    pub fn avoided_daemon(&self, remote: &Digest) -> Option<String> {
        [Concerns::All, Concerns::Remote(remote)].into_iter().find_map(|concerns| {
            let path = self.avoidance(concerns);
            let noted = FileTime::modified(&fs::metadata(&path).ok()?);
            let is_fresh = (-AVOIDED_S..AVOIDED_S).contains(&noted.age_s(FileTime::now()));
            is_fresh.then(|| fs::read_to_string(&path).unwrap_or_default())
        })
    }

    /// A daemon is there: what was noted about earlier ones says nothing any more.
    pub fn forget_avoidance(&self) -> Result<(), Error> {
        let dir = self.daemon_dir();
        for item in fs::read_dir(&dir).doing("list", &dir)?.flatten() {
            if item.file_name().to_str().is_some_and(|name| name.starts_with("avoid")) {
                remove(&item.path())?;
            }
        }
        Ok(())
    }

    fn avoidance(&self, concerns: Concerns<'_>) -> PathBuf {
        self.daemon_dir().join(match concerns {
            Concerns::All => "avoid".to_owned(),
            Concerns::Remote(remote) => format!("avoid-{remote}"),
        })
    }
}

/// A log that is put aside when it has grown long, so that a new one begins; the one before it goes. A daemon may run
/// for months.
#[derive(Debug)]
pub struct RotatingLog {
    path: PathBuf,
    bytes_max: u64,
    file: File,
    bytes: u64,
}

impl RotatingLog {
    /// Goes on with the log at `path`, or begins it.
    pub fn open(path: &Path, bytes_max: u64) -> io::Result<Self> {
        let file = File::options().create(true).append(true).open(path)?;
        inherit_owner(&file, path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path: path.to_owned(), bytes_max, file, bytes })
    }

    fn rotate(&mut self) -> io::Result<()> {
        fs::rename(&self.path, self.path.with_extension("old"))?;
        *self = Self::open(&self.path, self.bytes_max)?;
        Ok(())
    }
}

impl io::Write for RotatingLog {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes > self.bytes_max {
            // Where that fails the log goes on as it is, and the next try is some time away.
            self.bytes = 0;
            let _ = self.rotate();
        }
        let count = self.file.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn one_daemon_at_a_time_and_one_starter() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let held = store.lock_daemon(Duration::ZERO).expect("asked");
        assert!(matches!(held, Locking::Locked(_)));
        assert!(matches!(store.lock_daemon(Duration::ZERO), Ok(Locking::TimedOut)));
        assert!(matches!(store.lock_daemon_start(), Ok(Locking::Locked(_))), "another lock");
        store.make_daemon_dir().expect("made");
        store.note_daemon_pid(4711).expect("noted");
        assert_eq!(store.daemon_pid().expect("asked"), Some(4711));
        drop(held);
        assert_eq!(store.daemon_pid().expect("asked"), None, "nobody holds the lock");
        assert!(matches!(store.lock_daemon(Duration::ZERO), Ok(Locking::Locked(_))));
    }

    #[test]
    fn a_note_concerns_whom_it_names_and_fades() {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let (here, there) = (Digest::of(b"here"), Digest::of(b"there"));
        assert_eq!(store.avoided_daemon(&here), None);
        store.avoid_daemon(Concerns::Remote(&here), "other remote").expect("noted");
        assert_eq!(store.avoided_daemon(&here).as_deref(), Some("other remote"));
        assert_eq!(store.avoided_daemon(&there), None);
        store.avoid_daemon(Concerns::All, "hung").expect("noted");
        assert_eq!(store.avoided_daemon(&there).as_deref(), Some("hung"));
        for name in ["avoid".to_owned(), format!("avoid-{here}")] {
            let file = File::options().write(true).open(store.daemon_dir().join(name)).expect("open");
            let age = Duration::from_secs(AVOIDED_S.unsigned_abs() + 1);
            file.set_modified(std::time::SystemTime::now() - age).expect("dated");
        }
        assert_eq!(store.avoided_daemon(&here), None);
        store.avoid_daemon(Concerns::All, "hung").expect("noted");
        store.forget_avoidance().expect("forgotten");
        assert_eq!(store.avoided_daemon(&here), None);
    }

    #[test]
    fn a_deep_cache_directory_still_has_an_address() {
        let dir = tempfile::tempdir().expect("temp dir");
        for deep in ["c".to_owned(), format!("{}/{}", "a".repeat(90), "b".repeat(90))] {
            let store = Store::open(&dir.path().join(deep)).expect("open");
            store.make_daemon_dir().expect("made");
            let mode = fs::metadata(store.daemon_dir()).expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
            let address = store.socket_address().expect("an address");
            let _listener = UnixListener::bind(address.path()).expect("bound");
            assert!(store.socket_path().exists());
            UnixStream::connect(store.socket_address().expect("an address").path()).expect("connected");
        }
    }

    #[test]
    fn a_long_log_is_put_aside_while_it_is_written() {
        let dir = tempfile::tempdir().expect("temp dir");
        let path = dir.path().join("log");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        let mut log = RotatingLog::open(&path, 3).expect("open");
        for (text, now, old) in
            [("abc", "abc", ""), ("d", "abcd", ""), ("e", "e", "abcd"), ("fgh", "efgh", "abcd")]
        {
            log.write_all(text.as_bytes()).expect("written");
            assert_eq!((read("log").as_str(), read("log.old").as_str()), (now, old));
        }
        // The next daemon goes on where this one stopped, or begins again.
        let mut next = RotatingLog::open(&path, 3).expect("open");
        next.write_all(b"i").expect("written");
        assert_eq!((read("log").as_str(), read("log.old").as_str()), ("i", "efgh"));
        fs::remove_dir_all(dir.path()).expect("removed");
        next.write_all(b"jklm").expect("a log without a name is still a file");
        next.write_all(b"n").expect("although it can't be put aside");
    }
}
