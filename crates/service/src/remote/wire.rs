//! What clients of servers have in common: ways to them, patience, bodies that show that they move, and what failures mean.

pub(super) mod body;
pub(super) mod fault;
pub(super) mod http;
pub(crate) mod route;
pub(super) mod sink;
pub(super) mod tunnel;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::sink::Sink;
use super::progress::Progress;
use super::{Answer, Body, Fault, Page, PageToken, Put, Remote, RemoteError};

/// Under which condition an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// None.
    Any,
    /// That there is none of its name.
    Absent,
}

/// One request for an object, as a kind of server has it. What the operations of a [`Remote`] make of them is the same for
/// all.
pub(super) trait Requests: fmt::Debug + Send + Sync {
    /// See [`Remote::can_list`].
    const LISTS: bool = true;

    /// Hands an object's pieces over one by one; its length.
    fn read(
        &self,
        name: &str,
        bytes_max: u64,
        sink: &mut Sink,
    ) -> impl Future<Output = Result<u64, RemoteError>> + Send;

    /// Writes an object, under a condition where the server knows it.
    fn write(
        &self,
        name: &str,
        body: Body,
        condition: Condition,
    ) -> impl Future<Output = Result<Put, RemoteError>> + Send;

    /// See [`Remote::head`].
    fn look(&self, name: &str) -> impl Future<Output = Result<u64, RemoteError>> + Send;

    /// See [`Remote::list`].
    fn part(
        &self,
        prefix: &str,
        page: Option<PageToken>,
    ) -> impl Future<Output = Result<Page, RemoteError>> + Send;

    /// See [`Remote::credentials`].
    fn identity(&self) -> impl Future<Output = Result<Option<String>, RemoteError>> + Send {
        std::future::ready(Ok(None))
    }

    /// See [`Remote::progress`].
    fn moved(&self) -> &Progress;

    /// Whether the server has said that it doesn't know conditional writes.
    fn is_unconditional(&self) -> &AtomicBool;
}

impl<S: Requests> Remote for S {
    fn get<'a>(&'a self, name: &'a str, bytes_max: u64) -> Answer<'a, Vec<u8>> {
        Box::pin(async move {
            let mut sink = Sink::Memory(Vec::new());
            self.read(name, bytes_max, &mut sink).await?;
            Ok(sink.into_bytes())
        })
    }

    fn download<'a>(&'a self, name: &'a str, bytes_max: u64, file: &'a Path) -> Answer<'a, u64> {
        Box::pin(async move {
            let local = |error| Sink::local(name, file, &error);
            let mut sink = Sink::open(file).await.map_err(local)?;
            let size = self.read(name, bytes_max, &mut sink).await?;
            sink.finish().await.map_err(local)?;
            Ok(size)
        })
    }

    fn put<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, ()> {
        Box::pin(async move { self.write(name, body, Condition::Any).await.map(drop) })
    }

    fn put_if_absent<'a>(&'a self, name: &'a str, body: Body) -> Answer<'a, Put> {
        Box::pin(async move {
            if !self.is_unconditional().load(Ordering::Relaxed) {
                match self.write(name, body.clone(), Condition::Absent).await {
                    Err(error) if error.fault == Fault::Unsupported => {
                        self.is_unconditional().store(true, Ordering::Relaxed);
                    }
                    result => return result,
                }
            }
            self.write(name, body, Condition::Any).await
        })
    }

    fn head<'a>(&'a self, name: &'a str) -> Answer<'a, u64> {
        Box::pin(self.look(name))
    }

    fn list<'a>(&'a self, prefix: &'a str, page: Option<PageToken>) -> Answer<'a, Page> {
        Box::pin(self.part(prefix, page))
    }

    fn credentials(&self) -> Answer<'_, Option<String>> {
        Box::pin(self.identity())
    }

    fn progress(&self) -> &Progress {
        self.moved()
    }

    fn can_list(&self) -> bool {
        S::LISTS
    }
}

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For a connection.
    pub connect: Duration,
    /// For the first byte of an answer, once the request is sent, and for each further piece of a body.
    pub silence: Duration,
    /// Slowest upload that is waited for, in bytes per second.
    pub slowest_upload: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), silence: Duration::from_secs(30), slowest_upload: 64 << 10 }
    }
}

impl Patience {
    /// How long the answer to a request that carries so many bytes is waited for.
    pub(super) fn for_upload(&self, bytes: u64) -> Duration {
        self.silence + Duration::from_secs(bytes / self.slowest_upload.max(1))
    }
}
