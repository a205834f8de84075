//! What clients of servers have in common: ways to them, patience, bodies that show that they move, and what failures mean.

pub(super) mod body;
pub(super) mod fault;
pub(super) mod http;
pub(crate) mod route;
pub(super) mod sink;
pub(super) mod tunnel;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use self::sink::Sink;
use super::{Body, Fault, Put, RemoteError};

/// Under which condition an object is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// None.
    Any,
    /// That there is none of its name.
    Absent,
}

/// One request for an object, as a kind of server has it. What the operations of a [`super::Remote`] make of them is the
/// same for all: [`get`], [`download`], [`put_if_absent`].
pub(super) trait Requests: Sync {
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

    /// Whether the server has said that it doesn't know conditional writes.
    fn is_unconditional(&self) -> &AtomicBool;
}

/// An object in memory.
pub(super) async fn get(server: &impl Requests, name: &str, bytes_max: u64) -> Result<Vec<u8>, RemoteError> {
    let mut sink = Sink::Memory(Vec::new());
    server.read(name, bytes_max, &mut sink).await?;
    Ok(sink.into_bytes())
}

/// An object in a file that is there; its length.
pub(super) async fn download(
    server: &impl Requests,
    name: &str,
    bytes_max: u64,
    file: &Path,
) -> Result<u64, RemoteError> {
    let local = |error| Sink::local(name, file, &error);
    let mut sink = Sink::open(file).await.map_err(local)?;
    let size = server.read(name, bytes_max, &mut sink).await?;
    sink.finish().await.map_err(local)?;
    Ok(size)
}

/// Writes an object that isn't there; one that may be, where the server doesn't know the condition.
pub(super) async fn put_if_absent(
    server: &impl Requests,
    name: &str,
    body: Body,
) -> Result<Put, RemoteError> {
    if !server.is_unconditional().load(Ordering::Relaxed) {
        match server.write(name, body.clone(), Condition::Absent).await {
            Err(error) if error.fault == Fault::Unsupported => {
                server.is_unconditional().store(true, Ordering::Relaxed);
            }
            result => return result,
        }
    }
    server.write(name, body, Condition::Any).await
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
