//! A folder as a remote: on a shared file system, a volume or a disk that is carried about. Objects are files below it.
//! Knows nothing about what they mean.
//!
//! Several machines may write at a time. An object is written in `.incoming` inside the folder, and takes its name by one
//! rename, so no reader sees a part of it; where there must not be one before, by a rename that doesn't replace or a
//! link, whichever the file system has. What a writer that was killed left in `.incoming` is removed after a day.
//!
//! The folder itself is never made: where a volume isn't mounted, its place would be filled instead.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Once};
use std::time::{Duration, UNIX_EPOCH};

use tempfile::NamedTempFile;

use super::progress::Progress;
use super::{Answer, Body, Fault, Object, Page, PageToken, Put, Remote, RemoteError};

/// Where objects are while they are written.
const INCOMING: &str = ".incoming";
/// How old is what a writer must have left behind.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);
/// Most objects of one page.
const PAGE_LEN: usize = 1000;
/// So many bytes are copied between two signs of progress.
const PIECE_BYTES: u64 = 4 << 20;
/// Longest wait for a file system, besides what the bytes take.
const SILENCE: Duration = Duration::from_secs(30);
/// Slowest file system that is waited for, in bytes per second.
const SLOWEST: u64 = 64 << 10;

/// As long as for so many bytes a listing is waited for: ten minutes.
const LISTING_BYTES: u64 = 600 * SLOWEST;

/// The folder. Clones are the same.
#[derive(Debug, Clone)]
pub struct Folder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    progress: Progress,
    swept: Once,
}

/// Kind and details of what failed.
type Failure = (Fault, String);

impl Folder {
    /// The folder `root`, which has to be there by the time of the first request.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self(Arc::new(Inner { root: root.into(), progress: Progress::default(), swept: Once::new() }))
    }

    /// Runs blocking work that moves so many bytes, and waits no longer than a slow file system takes for it.
    async fn run<T: Send + 'static>(
        &self,
        act: &'static str,
        name: &str,
        bytes: u64,
        work: impl FnOnce(&Inner, &str) -> Result<T, Failure> + Send + 'static,
    ) -> Result<T, RemoteError> {
        let (inner, owned) = (Arc::clone(&self.0), name.to_owned());
        let work = tokio::task::spawn_blocking(move || work(&inner, &owned));
        let wait = SILENCE + Duration::from_secs(bytes / SLOWEST);
        let (fault, detail) = match tokio::time::timeout(wait, work).await {
            Ok(Ok(Ok(done))) => return Ok(done),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => (Fault::Unavailable, "interrupted".to_owned()),
            Err(_) => {
                (Fault::Unavailable, format!("the file system gave no answer for {} s", wait.as_secs()))
            }
        };
        Err(RemoteError::new(act, name, fault, detail))
    }

    async fn write(&self, name: &str, body: Body, over: Over) -> Result<Put, RemoteError> {
        self.run("write", name, body.size(), move |inner, name| inner.write(name, &body, over)).await
    }
}

/// What happens to an object that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Over {
    Replace,
    Keep,
}

impl Inner {
    /// Where an object is. Names are made by [`super::keys`]; no other leads out of the folder either.
    fn path(&self, name: &str) -> Result<PathBuf, Failure> {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if name.is_empty() || name.ends_with('/') || !Path::new(name).components().all(is_plain) {
            return Err((Fault::Unsupported, "not the name of an object".to_owned()));
        }
        Ok(self.root.join(name))
    }

    /// What an error of the file system means.
    fn judge(&self, path: &Path, error: &io::Error) -> Failure {
        let detail = format!("{}: {error}", path.display());
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory if !self.root.is_dir() => {
                (Fault::NoBucket, format!("there is no folder {}", self.root.display()))
            }
            ErrorKind::NotFound | ErrorKind::NotADirectory => (Fault::NotFound, "no such file".to_owned()),
            // A link in the place of an object.
            _ if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                (Fault::NotFound, "not a file".to_owned())
            }
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => (Fault::Denied, detail),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (Fault::Full, detail),
            _ => (Fault::Unavailable, detail),
        }
    }

    /// Opens an object. Neither links nor what isn't a file are followed or waited for.
    fn open(&self, name: &str, bytes_max: u64) -> Result<(File, u64, PathBuf), Failure> {
        let path = self.path(name)?;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let flags = i32::try_from(flags.bits()).unwrap_or_default();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(&path);
        let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|error| self.judge(&path, &error))?;
        if !metadata.is_file() {
            return Err((Fault::NotFound, "not a file".to_owned()));
        }
        if metadata.len() > bytes_max {
            return Err((Fault::TooLarge, format!("longer than {bytes_max} bytes")));
        }
        Ok((file, metadata.len(), path))
    }

    fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
        let (file, size, path) = self.open(name, bytes_max)?;
        let mut bytes = Vec::new();
        file.take(size).read_to_end(&mut bytes).map_err(|error| self.judge(&path, &error))?;
        whole(bytes.len() as u64, size)?;
        Ok(bytes)
    }

    fn copy_to(&self, name: &str, bytes_max: u64, target: &Path) -> Result<u64, Failure> {
        let local = |error: io::Error| (Fault::Local, format!("{}: {error}", target.display()));
        let mut out = OpenOptions::new().write(true).truncate(true).open(target).map_err(local)?;
        let (mut file, size, path) = self.open(name, bytes_max)?;
        whole(self.copy(&mut file, &mut out, size).map_err(|error| self.judge(&path, &error))?, size)
    }

    /// Copies as much as there is up to `size`, and shows that it goes on.
    fn copy(&self, from: &mut File, to: &mut File, size: u64) -> io::Result<u64> {
        let mut copied = 0;
        while copied < size {
            let piece = io::copy(&mut from.take(PIECE_BYTES.min(size - copied)), to)?;
            if piece == 0 {
                break;
            }
            copied += piece;
            self.progress.note();
        }
        Ok(copied)
    }

    fn write(&self, name: &str, body: &Body, over: Over) -> Result<Put, Failure> {
        let path = self.path(name)?;
        let failed = |error: io::Error| self.judge(&path, &error);
        let mut new = self.incoming().map_err(failed)?;
        match body {
            Body::Bytes(bytes) => new.write_all(bytes).map_err(failed)?,
            Body::File { path: source, size } => {
                let local = |error: io::Error| (Fault::Local, format!("{}: {error}", source.display()));
                let mut file = File::open(source).map_err(local)?;
                whole(self.copy(&mut file, new.as_file_mut(), *size).map_err(failed)?, *size)?;
            }
        }
        // Disks are pulled out: a name that has no content yet would be there for good.
        new.as_file().sync_data().map_err(failed)?;
        let dir = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(dir).map_err(failed)?;
        // A writer who isn't trusted could have put a link to another directory there.
        let is_inside =
            fs::canonicalize(dir).and_then(|dir| Ok(dir.starts_with(fs::canonicalize(&self.root)?)));
        if !is_inside.map_err(failed)? {
            return Err((Fault::Denied, format!("{} leads out of the folder", dir.display())));
        }
        if over == Over::Keep {
            match new.persist_noclobber(&path) {
                Ok(_) => return Ok(Put::Written),
                Err(error) if error.error.kind() == ErrorKind::AlreadyExists => return Ok(Put::Present),
                // Neither such a rename nor links: then the last writer wins, as on servers that know no conditions.
                Err(error) => new = error.file,
            }
        }
        new.persist(&path).map_err(|error| failed(error.error))?;
        Ok(Put::Written)
    }

    /// A file for an object that is on its way; other users of the folder may read it, as far as the umask lets them.
    fn incoming(&self) -> io::Result<NamedTempFile> {
        let dir = self.root.join(INCOMING);
        let make =
            || tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o666)).tempfile_in(&dir);
        let new = make().or_else(|error| {
            if error.kind() != ErrorKind::NotFound {
                return Err(error);
            }
            match fs::create_dir(&dir) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
                _ => make(),
            }
        })?;
        self.swept.call_once(|| sweep(&dir, new.as_file()));
        Ok(new)
    }

    /// Objects with this prefix behind `after`, one more than a page.
    fn list(&self, prefix: &str, after: &str) -> Result<Vec<Object>, Failure> {
        let dir = prefix.rsplit_once('/').map_or("", |(dir, _)| dir);
        let mut found = Vec::new();
        let walked = match dir {
            "" => self.walk("", prefix, after, &mut found),
            dir => self.walk(&format!("{dir}/"), prefix, after, &mut found),
        };
        match walked {
            Err(error) => match self.judge(&self.root.join(dir), &error) {
                (Fault::NotFound, _) => Ok(Vec::new()),
                failure => Err(failure),
            },
            Ok(()) => Ok(found),
        }
    }

    /// Goes through a folder in the order of its objects' names, until a page is full.
    fn walk(&self, dir: &str, prefix: &str, after: &str, found: &mut Vec<Object>) -> io::Result<()> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.root.join(dir))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let slash = if entry.file_type()?.is_dir() { "/" } else { "" };
            let name = format!("{dir}{name}{slash}");
            // A folder is of interest when what is in it can be.
            let leads_to = |further: &str| !slash.is_empty() && further.starts_with(&name);
            let fits = name.starts_with(prefix) || leads_to(prefix);
            if fits && (name.as_str() > after || leads_to(after)) && name.trim_end_matches('/') != INCOMING {
                names.push(name);
            }
        }
        self.progress.note();
        names.sort_unstable();
        for name in names {
            if found.len() > PAGE_LEN {
                break;
            }
            let result = if name.ends_with('/') {
                self.walk(&name, prefix, after, found)
            } else {
                self.describe(name).map(|object| found.extend(object))
            };
            match result {
                // It was removed meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn describe(&self, name: String) -> io::Result<Option<Object>> {
        let metadata = fs::symlink_metadata(self.root.join(&name))?;
        let since = metadata.modified()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified_s = i64::try_from(since.as_secs()).unwrap_or(0);
        Ok(metadata.is_file().then_some(Object { name, size: metadata.len(), modified_s }))
    }
}

/// Files don't change once they have their names, so one that ends early is trouble of the file system.
fn whole(got: u64, size: u64) -> Result<u64, Failure> {
    if got == size {
        Ok(size)
    } else {
        Err((Fault::Unavailable, format!("the file ended after {got} bytes")))
    }
}

/// Removes what writers left behind, by the clock of the file system: `new` was made just now.
fn sweep(dir: &Path, new: &File) {
    let Ok(now) = new.metadata().and_then(|metadata| metadata.modified()) else { return };
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let age =
            entry.metadata().and_then(|metadata| metadata.modified()).map(|time| now.duration_since(time));
        if age.is_ok_and(|age| age.is_ok_and(|age| age > ABANDONED)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl Remote for Folder {
    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>> {
        Box::pin(self.run("read", name, bytes_max, move |inner, name| inner.read(name, bytes_max)))
    }

    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64> {
        let file = file.to_owned();
        Box::pin(self.run("read", name, bytes_max, move |inner, name| inner.copy_to(name, bytes_max, &file)))
    }

    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()> {
        Box::pin(async move { self.write(name, body, Over::Replace).await.map(drop) })
    }

    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put> {
        Box::pin(self.write(name, body, Over::Keep))
    }

    fn progress(&self) -> &Progress {
        &self.0.progress
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64> {
        Box::pin(self.run("look at", name, 0, |inner, name| Ok(inner.open(name, u64::MAX)?.1)))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<PageToken>) -> Answer<'a, Page> {
        let after = page.map(|token| token.0).unwrap_or_default();
        Box::pin(self.run("list", prefix, LISTING_BYTES, move |inner, prefix| {
            let mut objects = inner.list(prefix, &after)?;
            let more = objects.len() > PAGE_LEN;
            objects.truncate(PAGE_LEN);
            let next = objects.last().filter(|_| more).map(|object| PageToken(object.name.clone()));
            Ok(Page { objects, next })
        }))
    }
}
