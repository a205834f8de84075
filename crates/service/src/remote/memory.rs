//! A bucket in memory, with faults on demand: for tests of whatever uses a [`Remote`]. Counts requests.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::progress::Progress;
use super::{Answer, Body, Fault, Object, Page, PageToken, Put, Remote, RemoteError};

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Request {
    /// Reading an object, by either way.
    Get,
    /// Writing one, by either way.
    Put,
    /// Asking for its length.
    Head,
    /// Listing.
    List,
}

/// What is to happen to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mischief {
    /// It fails.
    Fail(Fault),
    /// It fails, and the server wants to be left alone for so long.
    Throttle(Duration),
    /// A read gives only the first bytes.
    Truncate(usize),
    /// A read gives other bytes.
    Replace(Vec<u8>),
    /// It never ends.
    Hang,
}

#[derive(Debug)]
struct Rule {
    request: Request,
    part_of_name: String,
    times: u32,
    mischief: Mischief,
}

#[derive(Debug, Default)]
struct Inner {
    objects: BTreeMap<String, Vec<u8>>,
    /// How many writes there had been before each object's: the seconds of its time.
    written: BTreeMap<String, i64>,
    writes: i64,
    rules: Vec<Rule>,
    counts: BTreeMap<Request, u64>,
}

impl Inner {
    fn set(&mut self, name: &str, bytes: Vec<u8>) {
        self.objects.insert(name.to_owned(), bytes);
        self.written.insert(name.to_owned(), self.writes);
        self.writes += 1;
    }
}

/// The bucket.
#[derive(Debug)]
pub struct Memory {
    inner: Mutex<Inner>,
    page_len: usize,
    /// Like servers that don't look at conditions.
    overwrites: bool,
    progress: Progress,
}

impl Default for Memory {
    fn default() -> Self {
        Self { inner: Mutex::default(), page_len: 1000, overwrites: false, progress: Progress::default() }
    }
}

impl Memory {
    /// An empty bucket.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same bucket with listings of at most `page_len` objects.
    pub fn with_pages_of(self, page_len: usize) -> Self {
        Self { page_len, ..self }
    }

    /// The same bucket behind a server that ignores conditions.
    pub fn that_overwrites(self) -> Self {
        Self { overwrites: true, ..self }
    }

    /// From now on, the next `times` requests of this kind whose object's name has `part_of_name` in it suffer.
    pub fn arrange(&self, request: Request, part_of_name: &str, times: u32, mischief: Mischief) {
        self.lock().rules.push(Rule { request, part_of_name: part_of_name.to_owned(), times, mischief });
    }

    /// How many requests of a kind there were.
    pub fn count(&self, request: Request) -> u64 {
        self.lock().counts.get(&request).copied().unwrap_or(0)
    }

    /// Names of all objects, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().objects.keys().cloned().collect()
    }

    /// An object, without a request.
    pub fn object(&self, name: &str) -> Option<Vec<u8>> {
        self.lock().objects.get(name).cloned()
    }

    /// Sets an object, without a request.
    pub fn set_object(&self, name: &str, bytes: Vec<u8>) {
        self.lock().set(name, bytes);
    }

    /// Removes all objects, without a request.
    pub fn clear(&self) {
        self.names().iter().for_each(|name| self.remove_object(name));
    }

    /// Removes an object, without a request.
    pub fn remove_object(&self, name: &str) {
        self.lock().objects.remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request and finds out what is to happen to it.
    async fn begin(
        &self,
        request: Request,
        act: &'static str,
        name: &str,
    ) -> Result<Option<Mischief>, RemoteError> {
        let mischief = {
            let mut inner = self.lock();
            *inner.counts.entry(request).or_default() += 1;
            let rule = inner
                .rules
                .iter_mut()
                .find(|rule| rule.times > 0 && rule.request == request && name.contains(&rule.part_of_name));
            rule.map(|rule| {
                rule.times -= 1;
                rule.mischief.clone()
            })
        };
        match mischief {
            Some(Mischief::Fail(fault)) => Err(RemoteError::new(act, name, fault, "arranged")),
            Some(Mischief::Throttle(pause)) => {
                let error = RemoteError::new(act, name, Fault::Throttled, "arranged");
                Err(RemoteError { pause: Some(pause), ..error })
            }
            Some(Mischief::Hang) => std::future::pending().await,
            other => Ok(other),
        }
    }

    async fn read(&self, name: &str, bytes_max: u64) -> Result<Vec<u8>, RemoteError> {
        let act = "read";
        let mischief = self.begin(Request::Get, act, name).await?;
        let bytes = self.object(name);
        let mut bytes =
            bytes.ok_or_else(|| RemoteError::new(act, name, Fault::NotFound, "no such object"))?;
        match mischief {
            Some(Mischief::Truncate(length)) => bytes.truncate(length),
            Some(Mischief::Replace(others)) => bytes = others,
            _ => {}
        }
        if bytes.len() as u64 > bytes_max {
            return Err(RemoteError::new(act, name, Fault::TooLarge, "longer than expected"));
        }
        Ok(bytes)
    }

    async fn write(&self, name: &str, body: Body) -> Result<Vec<u8>, RemoteError> {
        self.begin(Request::Put, "write", name).await?;
        match body {
            Body::Bytes(bytes) => Ok(bytes.into()),
            Body::File { path, .. } => std::fs::read(path)
                .map_err(|error| RemoteError::new("write", name, Fault::Local, error.to_string())),
        }
    }
}

impl Remote for Memory {
    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>> {
        Box::pin(self.read(name, bytes_max))
    }

    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64> {
        Box::pin(async move {
            let bytes = self.read(name, bytes_max).await?;
            let opened = std::fs::OpenOptions::new().write(true).truncate(true).open(file);
            opened
                .and_then(|mut file| std::io::Write::write_all(&mut file, &bytes))
                .map_err(|error| RemoteError::new("read", name, Fault::Local, error.to_string()))?;
            Ok(bytes.len() as u64)
        })
    }

    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()> {
        Box::pin(async move {
            let bytes = self.write(name, body).await?;
            self.set_object(name, bytes);
            Ok(())
        })
    }

    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put> {
        Box::pin(async move {
            let bytes = self.write(name, body).await?;
            let mut inner = self.lock();
            if !self.overwrites && inner.objects.contains_key(name) {
                return Ok(Put::Present);
            }
            inner.set(name, bytes);
            Ok(Put::Written)
        })
    }

    fn progress(&self) -> &Progress {
        &self.progress
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            self.begin(Request::Head, "look at", name).await?;
            let length = self.lock().objects.get(name).map(|bytes| bytes.len() as u64);
            length.ok_or_else(|| RemoteError::new("look at", name, Fault::NotFound, "no such object"))
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<PageToken>) -> Answer<'a, Page> {
        Box::pin(async move {
            self.begin(Request::List, "list", prefix).await?;
            let after = page.map(|token| token.0).unwrap_or_default();
            let inner = self.lock();
            let mut rest =
                inner.objects.iter().filter(|(name, _)| name.starts_with(prefix) && **name > after).map(
                    |(name, bytes)| Object {
                        name: name.clone(),
                        size: bytes.len() as u64,
                        modified_s: inner.written.get(name).copied().unwrap_or(0),
                    },
                );
            let objects: Vec<_> = rest.by_ref().take(self.page_len).collect();
            let more = rest.next().is_some();
            let next = objects.last().filter(|_| more).map(|object| PageToken(object.name.clone()));
            Ok(Page { objects, next })
        })
    }
}
