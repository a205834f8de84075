//! Where an answer's body goes: into memory or a file, within bounds.

use std::path::Path;

use aws_smithy_types::byte_stream::ByteStream;
use tokio::io::AsyncWriteExt;

use super::Patience;
use super::fault::describe;
use crate::remote::progress::Progress;
use crate::remote::{Fault, RemoteError};

/// Where the pieces of an object go.
pub(crate) enum Sink {
    Memory(Vec<u8>),
    File(tokio::fs::File),
}

impl Sink {
    /// A file that is there.
    pub(in crate::remote) async fn open(file: &Path) -> std::io::Result<Self> {
        tokio::fs::OpenOptions::new().write(true).truncate(true).open(file).await.map(Sink::File)
    }

    /// An error of the file that an object goes to.
    pub(in crate::remote) fn local(name: &str, file: &Path, error: &std::io::Error) -> RemoteError {
        RemoteError::new("read", name, Fault::Local, format!("{}: {error}", file.display()))
    }

    /// Takes a body piece by piece, if it is no longer than `bytes_max`, and returns its length.
    pub(in crate::remote) async fn fill(
        &mut self,
        mut body: ByteStream,
        announced: Option<u64>,
        bytes_max: u64,
        (patience, progress): (&Patience, &Progress),
    ) -> Result<u64, (Fault, String)> {
        let too_large = || (Fault::TooLarge, format!("longer than {bytes_max} bytes"));
        if announced.is_some_and(|length| length > bytes_max) {
            return Err(too_large());
        }
        let mut size = 0;
        loop {
            let piece = match tokio::time::timeout(patience.silence, body.next()).await {
                Err(_) => return Err((Fault::Unavailable, "the server stopped sending".to_owned())),
                Ok(None) => break,
                Ok(Some(Err(error))) => return Err((Fault::Unavailable, describe(&error))),
                Ok(Some(Ok(piece))) => piece,
            };
            progress.note();
            size += piece.len() as u64;
            if size > bytes_max {
                return Err(too_large());
            }
            self.take(&piece).await.map_err(|error| (Fault::Local, error.to_string()))?;
        }
        match announced {
            Some(length) if length != size => {
                Err((Fault::Unavailable, format!("the body ended after {size} bytes")))
            }
            _ => Ok(size),
        }
    }

    pub(in crate::remote) async fn take(&mut self, piece: &[u8]) -> std::io::Result<()> {
        match self {
            Sink::Memory(bytes) => bytes.extend_from_slice(piece),
            Sink::File(file) => file.write_all(piece).await?,
        }
        Ok(())
    }

    /// Waits until everything is written.
    pub(in crate::remote) async fn finish(&mut self) -> std::io::Result<()> {
        match self {
            Sink::Memory(_) => Ok(()),
            Sink::File(file) => file.flush().await,
        }
    }

    pub(in crate::remote) fn into_bytes(self) -> Vec<u8> {
        match self {
            Sink::Memory(bytes) => bytes,
            Sink::File(_) => Vec::new(),
        }
    }
}
