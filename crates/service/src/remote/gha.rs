//! The cache service of GitHub Actions as a remote. It keeps few large things under names that are never written twice, and
//! counts requests; so objects are collected, and [`Remote::flush`] uploads them as one bundle.
//!
//! Which bundle has which object is in an index, also under a name of its own each time: the newest one counts, found by the
//! beginning of its name. A job sees what jobs of the same branch and of the default branch have saved, and so has an index for
//! each. Indexes are numbered. Of two jobs that write the next one at the same time, the service refuses the later; that job reads
//! what the other has written and takes the number after it.
//!
//! [`service`] knows the requests, [`index`] what is in an index.

mod index;
mod service;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io::SeekFrom;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache_core::config;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};
use tokio::sync::Mutex;
use tokio::time::Instant;

use self::index::{Index, Place};
use self::service::{Scope, Service};
use super::progress::Progress;
use super::wire::Patience;
use super::wire::http::Failure;
use super::wire::sink::Sink;
use super::{Answer, Body, Fault, Object, Page, PageToken, Put, Remote};

/// A bundle that is larger is uploaded at once.
const BUNDLE_BYTES: u64 = 64 << 20;
/// For how long an index is believed to be the newest.
const FRESH: Duration = Duration::from_secs(60);
/// For how long the address of a bundle is good.
const ADDRESS_VALID: Duration = Duration::from_secs(300);
/// How often an index is written again because another job writes one at the same time.
const ROUNDS_MAX: u32 = 12;
/// How long another job's index is waited for, at first.
const TURN: Duration = Duration::from_millis(250);

/// A client of the cache service.
#[derive(Debug)]
pub(crate) struct Gha {
    service: Service,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What the newest indexes have, and since when.
    known: Option<(Index, Instant)>,
    /// What this process has added to its own index.
    added: Index,
    /// What is collected for the next bundle.
    pending: Option<Pending>,
    /// Addresses of bundles.
    addresses: HashMap<String, (String, Instant)>,
    /// Bundles that the service has dropped.
    gone: HashSet<String>,
}

#[derive(Debug)]
struct Pending {
    file: tempfile::NamedTempFile,
    size: u64,
    /// Where objects begin, and their lengths.
    objects: BTreeMap<String, (u64, u64)>,
}

/// Where an object is.
enum Found {
    Pending(std::io::Result<std::fs::File>, u64, u64),
    There(Place),
}

impl Gha {
    /// A client of the service that the job has. Sends nothing yet.
    pub fn connect(settings: &config::Gha, patience: Patience) -> Self {
        Self { service: Service::new(settings, patience), state: Mutex::default() }
    }

    async fn find(&self, name: &str) -> Result<Found, Failure> {
        let mut state = self.state.lock().await;
        if let Some(pending) = &state.pending
            && let Some(&(offset, size)) = pending.objects.get(name)
        {
            return Ok(Found::Pending(pending.file.reopen(), offset, size));
        }
        let known = self.known(&mut state).await?;
        let none = || Failure::new(Fault::NotFound, "no bundle has it");
        Ok(Found::There(known.get(name).ok_or_else(none)?))
    }

    /// Everything that can be read, as of a while ago.
    async fn known(&self, state: &mut State) -> Result<Index, Failure> {
        if let Some((index, _)) = state.known.as_ref().filter(|(_, since)| since.elapsed() < FRESH) {
            return Ok(index.clone());
        }
        let mut index = Index::default();
        // The nearest wins.
        for scope in self.service.scopes().iter().rev() {
            index.merge(self.service.newest_index(scope).await?.0);
        }
        index.merge(state.added.clone());
        index.forget(&state.gone);
        state.known = Some((index.clone(), Instant::now()));
        Ok(index)
    }

    async fn read(&self, name: &str, bytes_max: u64, sink: &mut Sink) -> Result<u64, Failure> {
        let found = self.find(name).await?;
        let (Found::Pending(_, _, size) | Found::There(Place { size, .. })) = found;
        if size > bytes_max {
            return Err(Failure::new(Fault::TooLarge, format!("longer than {bytes_max} bytes")));
        }
        match found {
            Found::Pending(file, offset, size) => {
                let read = async { copy(tokio::fs::File::from_std(file?), offset, size, sink).await };
                read.await.map_err(|error| Failure::new(Fault::Local, error.to_string()))
            }
            Found::There(place) if place.size == 0 => Ok(0),
            Found::There(place) => {
                let Some(address) = self.address(&place.bundle).await? else {
                    return Err(Failure::new(
                        Fault::NotFound,
                        "the service has dropped the bundle that has it",
                    ));
                };
                let read = self.service.read(&address, place.offset, place.size, sink).await;
                if read.is_err() {
                    // It may have expired.
                    self.state.lock().await.addresses.remove(&place.bundle);
                }
                read
            }
        }
    }

    /// Where a bundle can be read; `None` where the service doesn't have it any more.
    async fn address(&self, bundle: &str) -> Result<Option<String>, Failure> {
        let mut state = self.state.lock().await;
        if let Some((address, since)) = state.addresses.get(bundle)
            && since.elapsed() < ADDRESS_VALID
        {
            return Ok(Some(address.clone()));
        }
        let address = self.service.find(bundle).await?;
        match &address {
            Some(address) => {
                state.addresses.insert(bundle.to_owned(), (address.clone(), Instant::now()));
            }
            None => {
                state.gone.insert(bundle.to_owned());
                let State { known, gone, .. } = &mut *state;
                known.iter_mut().for_each(|(index, _)| index.forget(gone));
            }
        }
        Ok(address)
    }

    async fn write(&self, name: &str, body: Body, is_conditional: bool) -> Result<Put, Failure> {
        if is_conditional && self.find(name).await.is_ok() {
            return Ok(Put::Present);
        }
        let mut state = self.state.lock().await;
        let is_pending = state.pending.as_ref().is_some_and(|pending| pending.objects.contains_key(name));
        if is_conditional && is_pending {
            return Ok(Put::Present);
        }
        let local = |error: std::io::Error| Failure::new(Fault::Local, error.to_string());
        let mut source = match &body {
            Body::Bytes(_) => None,
            Body::File { path, .. } => Some(tokio::fs::File::open(path).await.map_err(local)?),
        };
        if state.pending.is_none() {
            let file = tempfile::Builder::new().prefix("kache-bundle-").tempfile().map_err(local)?;
            state.pending = Some(Pending { file, size: 0, objects: BTreeMap::new() });
        }
        let Some(pending) = &mut state.pending else { return Ok(Put::Written) };
        let mut file =
            tokio::fs::OpenOptions::new().write(true).open(pending.file.path()).await.map_err(local)?;
        // What a write that failed has left is written over.
        file.seek(SeekFrom::Start(pending.size)).await.map_err(local)?;
        let size = match (&mut source, &body) {
            (Some(source), _) => tokio::io::copy(source, &mut file).await.map_err(local)?,
            (None, Body::Bytes(bytes)) => {
                file.write_all(bytes).await.map_err(local)?;
                bytes.len() as u64
            }
            (None, Body::File { .. }) => 0,
        };
        file.flush().await.map_err(local)?;
        self.service.client.progress.note();
        pending.objects.insert(name.to_owned(), (pending.size, size));
        pending.size += size;
        if pending.size >= BUNDLE_BYTES {
            self.upload(&mut state).await?;
        }
        Ok(Put::Written)
    }

    /// Uploads what is collected, and says so in the job's index. What fails stays collected.
    async fn upload(&self, state: &mut State) -> Result<(), Failure> {
        let denied = || Failure::new(Fault::Denied, "the job's token may not save anything");
        if let Some(pending) = state.pending.as_ref().filter(|pending| !pending.objects.is_empty()) {
            let scope = self.service.scopes().iter().find(|scope| scope.is_writable).ok_or_else(denied)?;
            let bundle = Service::bundle_name(scope);
            let path = pending.file.path().to_owned();
            // The file may be longer than what counts.
            pending
                .file
                .as_file()
                .set_len(pending.size)
                .map_err(|error| Failure::new(Fault::Local, error.to_string()))?;
            if self.service.save(&bundle, Body::File { path, size: pending.size }).await? == Put::Present {
                return Err(Failure::new(Fault::Unavailable, "the service reserves no name"));
            }
            let now_s = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
            let modified_s = i64::try_from(now_s).unwrap_or(0);
            for (name, &(offset, size)) in &pending.objects {
                let place = Place { bundle: bundle.clone(), offset, size, modified_s };
                state.added.insert(name.clone(), place);
            }
            state.pending = None;
            state.known = None;
        }
        let Some(scope) = self.service.scopes().iter().find(|scope| scope.is_writable) else { return Ok(()) };
        for round in 0..ROUNDS_MAX {
            let (mut newest, number) = self.service.newest_index(scope).await?;
            if newest.has_all(&state.added) {
                return Ok(());
            }
            newest.merge(state.added.clone());
            newest.forget(&state.gone);
            // A job that has died may have left a number that nothing will be under.
            let next = number + if round < ROUNDS_MAX / 2 { 1 } else { 2 };
            if self.service.save(&Service::index_name(scope, next), Body::of(newest.encode())).await?
                == Put::Written
            {
                return Ok(());
            }
            tokio::time::sleep(TURN * 2u32.pow(round.min(3))).await;
        }
        Err(Failure::new(Fault::Unavailable, "other jobs write their indexes all the time"))
    }
}

/// Hands a part of a file over; its length.
async fn copy(mut file: tokio::fs::File, offset: u64, size: u64, sink: &mut Sink) -> std::io::Result<u64> {
    file.seek(SeekFrom::Start(offset)).await?;
    let mut part = file.take(size);
    let mut piece = vec![0; 64 << 10];
    let mut copied = 0;
    loop {
        let read = part.read(&mut piece).await?;
        if read == 0 {
            break;
        }
        sink.take(&piece[..read]).await?;
        copied += read as u64;
    }
    if copied == size { Ok(size) } else { Err(std::io::ErrorKind::UnexpectedEof.into()) }
}

impl Remote for Gha {
    fn credentials(&self) -> Answer<'_, Option<String>> {
        let words = |scope: &Scope| match scope.is_writable {
            true => scope.name.clone(),
            false => format!("{} (reading)", scope.name),
        };
        let scopes: Vec<String> = self.service.scopes().iter().map(words).collect();
        let said = format!("the job's token opens caches of {}", scopes.join(", "));
        Box::pin(std::future::ready(Ok(Some(said))))
    }

    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let mut sink = Sink::Memory(Vec::new());
            self.read(name, bytes_max, &mut sink).await.map_err(|failure| failure.about("read", name))?;
            Ok(sink.into_bytes())
        })
    }

    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64> {
        Box::pin(async move {
            let local = |error| Sink::local(name, file, &error);
            let mut sink = Sink::open(file).await.map_err(local)?;
            let read = self.read(name, bytes_max, &mut sink).await;
            let size = read.map_err(|failure| failure.about("read", name))?;
            sink.finish().await.map_err(local)?;
            Ok(size)
        })
    }

    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()> {
        Box::pin(async move {
            self.write(name, body, false).await.map(drop).map_err(|failure| failure.about("write", name))
        })
    }

    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put> {
        Box::pin(
            async move { self.write(name, body, true).await.map_err(|failure| failure.about("write", name)) },
        )
    }

    fn collects(&self) -> bool {
        true
    }

    fn flush(&self) -> Answer<'_, ()> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            if state.pending.is_none() && state.added.is_empty() {
                return Ok(());
            }
            let uploaded = self.upload(&mut state).await;
            uploaded.map_err(|failure| failure.about("write", "a bundle"))
        })
    }

    fn progress(&self) -> &Progress {
        &self.service.client.progress
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64> {
        Box::pin(async move {
            match self.find(name).await {
                Ok(Found::Pending(_, _, size)) => Ok(size),
                Ok(Found::There(place)) => Ok(place.size),
                Err(failure) => Err(failure.about("look at", name)),
            }
        })
    }

    fn list<'a>(&'a self, prefix: &'a str, _: Option<PageToken>) -> Answer<'a, Page> {
        Box::pin(async move {
            let mut state = self.state.lock().await;
            let known = self.known(&mut state).await.map_err(|failure| failure.about("list", prefix))?;
            let mut objects: BTreeMap<String, Object> = known
                .below(prefix)
                .map(|(name, place)| {
                    let Place { size, modified_s, .. } = place;
                    (name.to_owned(), Object { name: name.to_owned(), size, modified_s })
                })
                .collect();
            let pending = state.pending.iter().flat_map(|pending| &pending.objects);
            for (name, &(_, size)) in pending.filter(|(name, _)| name.starts_with(prefix)) {
                objects.insert(name.clone(), Object { name: name.clone(), size, modified_s: 0 });
            }
            Ok(Page { objects: objects.into_values().collect(), next: None })
        })
    }
}
