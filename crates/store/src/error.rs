//! The store's error: what was attempted, on which path, and what the system answered. Knows nothing about what a
//! caller does about it.

use std::io;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Something the store tried and the system refused.
#[derive(Debug, thiserror::Error)]
#[error("can't {act} {}: {source}", path.display())]
pub struct Error {
    act: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl Error {
    /// An error from trying to `act` on `path`; `act` is a verb that reads well after "can't".
    pub fn new(act: &'static str, path: impl Into<PathBuf>, source: impl Into<io::Error>) -> Self {
        Self { act, path: path.into(), source: source.into() }
    }

    pub fn act(&self) -> &'static str {
        self.act
    }

    /// The file or directory concerned.
    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn io(&self) -> &io::Error {
        &self.source
    }

    /// The file is not there: for a blob a hole, for anything else gone meanwhile.
    pub fn is_missing(&self) -> bool {
        is_absent(&self.source)
    }

    /// The disk or the user's quota is full.
    pub fn is_full(&self) -> bool {
        self.is_any(&[Errno::NOSPC, Errno::DQUOT])
    }

    /// The user may not do this, or nobody may (a read-only file system).
    pub fn is_denied(&self) -> bool {
        self.is_any(&[Errno::ACCESS, Errno::PERM, Errno::ROFS])
    }

    /// The process or system ran out of descriptors or memory: says nothing about the state of the file.
    pub fn is_transient(&self) -> bool {
        self.is_any(&[Errno::MFILE, Errno::NFILE, Errno::NOMEM, Errno::INTR, Errno::AGAIN])
    }

    fn is_any(&self, errnos: &[Errno]) -> bool {
        errno(&self.source).is_some_and(|errno| errnos.contains(&errno))
    }
}

/// Names the act and the path of an I/O result.
pub(crate) trait Doing<T> {
    /// Adds what was attempted on which path.
    fn doing(self, act: &'static str, path: &Path) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Doing<T> for Result<T, E> {
    fn doing(self, act: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::new(act, path, source))
    }
}

/// The system's error number, if it is one.
pub(crate) fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw_os_error)
}

/// Whether nothing has that name. A path through something that is not a directory names nothing either.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::NOENT | Errno::NOTDIR))
}

/// `None` where nothing has that name, other errors as they are.
pub(crate) fn unless_absent<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_follow_the_error_number() {
        let is = |errno: Errno| {
            let error = Error::new("open", "/x", errno);
            (error.is_missing(), error.is_full(), error.is_denied(), error.is_transient())
        };
        let cases = [
            (Errno::NOENT, (true, false, false, false)),
            (Errno::NOTDIR, (true, false, false, false)),
            (Errno::NOSPC, (false, true, false, false)),
            (Errno::DQUOT, (false, true, false, false)),
            (Errno::ACCESS, (false, false, true, false)),
            (Errno::ROFS, (false, false, true, false)),
            (Errno::MFILE, (false, false, false, true)),
            (Errno::IO, (false, false, false, false)),
        ];
        for (errno, expected) in cases {
            assert_eq!(is(errno), expected, "{errno:?}");
        }
    }

    #[test]
    fn the_message_names_act_and_path() {
        let error = Error::new("read entry", "/cache/e", Errno::IO);
        assert!(error.to_string().starts_with("can't read entry /cache/e: "), "{error}");
    }
}
