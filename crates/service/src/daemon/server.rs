//! The daemon's end of the socket: one instance per store, connections of the same user only, and nothing that a client
//! does or leaves undone takes more than its own connection down. Does not know what is asked.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use kache_core::protocol::{self, FrameError, HEADER_BYTES, Reply, Request, Unavailable};
use kache_store::Store;
use kache_store::lock::{Lock, Locking};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{interval, sleep, timeout};

/// Connections that are served at once; more are told so.
const CONNECTIONS_MAX: usize = 256;
/// Longest time for a request to come in, and for a reply to go out.
const EXCHANGE_MAX: Duration = Duration::from_secs(5);
/// How often somebody who waits is told that there is still somebody here.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);

pub trait Answers: Send + Sync + 'static {
    /// Answers one request. May be dropped at any point: the asker has gone.
    fn answer(&self, request: Request) -> impl Future<Output = Reply> + Send;
}

/// The socket of the only daemon of a store.
#[derive(Debug)]
pub struct Endpoint {
    listener: UnixListener,
    socket: Socket,
    _lock: Lock,
}

/// The file of a socket. Another daemon's may come to lie at its path once somebody has removed the cache directory.
#[derive(Debug, Clone)]
pub struct Socket {
    path: PathBuf,
    id: Option<(u64, u64)>,
}

impl Socket {
    /// The socket that is at `path` now.
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), id: file_id(path) }
    }

    /// Whether it is still the one at its path.
    pub fn is_in_place(&self) -> bool {
        self.id.is_some() && file_id(&self.path) == self.id
    }
}

fn file_id(path: &Path) -> Option<(u64, u64)> {
    fs::symlink_metadata(path).ok().map(|meta| (meta.dev(), meta.ino()))
}

#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("a daemon is running for this store already")]
    Taken,
    #[error(transparent)]
    Store(#[from] kache_store::Error),
    /// The socket can't be made.
    #[error("can't listen on {path}: {source}")]
    Socket { path: String, source: io::Error },
}

impl Endpoint {
    /// Takes the store's socket. Whoever holds the lock is the only daemon, so a socket that is there was left behind.
    pub fn bind(store: &Store) -> Result<Self, BindError> {
        store.make_daemon_dir()?;
        let Locking::Locked(lock) = store.lock_daemon(Duration::ZERO)? else { return Err(BindError::Taken) };
        let path = store.socket_path();
        let refused = |source| BindError::Socket { path: path.display().to_string(), source };
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(refused(error)),
            _ => {}
        }
        let address = store.socket_address()?;
        let listener = UnixListener::bind(address.path()).map_err(refused)?;
        fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(refused)?;
        store.note_daemon_pid(std::process::id())?;
        store.forget_avoidance()?;
        Ok(Self { listener, socket: Socket::at(&path), _lock: lock })
    }

    pub fn socket(&self) -> &Socket {
        &self.socket
    }

    /// Ends the service: takes the socket away before anybody else can take its place. One of another daemon stays.
    pub fn close(self) {
        if self.socket.is_in_place()
            && let Err(error) = fs::remove_file(&self.socket.path)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the socket stays behind");
        }
    }

    /// Serves connections for as long as this is polled.
    pub async fn serve(&self, answers: Arc<impl Answers>) {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if !is_same_user(&stream) {
                tracing::warn!("a connection of another user was refused");
                continue;
            }
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                send(&stream, &Reply::Unavailable(Unavailable::Full));
                continue;
            };
            let answers = Arc::clone(&answers);
            tokio::spawn(async move {
                converse(stream, &*answers).await;
                drop(place);
            });
        }
    }
}

/// The socket's folder lets nobody else in; this holds even where it does.
fn is_same_user(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|peer| peer.uid() == rustix::process::geteuid().as_raw())
}

/// A few bytes into an empty socket: either they go at once or nobody wants them.
fn send(stream: &UnixStream, reply: &Reply) {
    if let Ok(frame) = protocol::encode(reply) {
        let _ = stream.try_write(&frame);
    }
}

/// One request and its reply. Whoever is slow, silent or hostile loses the connection.
async fn converse(mut stream: UnixStream, answers: &impl Answers) {
    let request = match timeout(EXCHANGE_MAX, read_request(&mut stream)).await {
        Ok(Ok(request)) => request,
        Ok(Err(Garbled::Io)) | Err(_) => return,
        Ok(Err(Garbled::Frame(error))) => {
            tracing::debug!(%error, "a request was refused");
            let _ = write(&mut stream, &Reply::Refused { why: error.to_string() }).await;
            return;
        }
    };
    if let Err(why) = request.check() {
        tracing::debug!(why, "a request was refused");
        let _ = write(&mut stream, &Reply::Refused { why: why.to_owned() }).await;
        return;
    }
    let answer = answers.answer(request);
    tokio::pin!(answer);
    let mut beat = interval(SIGN_OF_LIFE);
    beat.tick().await;
    let reply = loop {
        tokio::select! {
            reply = &mut answer => break reply,
            _ = beat.tick() => {
                if write(&mut stream, &Reply::Working).await.is_err() {
                    return;
                }
            }
        }
    };
    let _ = write(&mut stream, &reply).await;
}

enum Garbled {
    Io,
    Frame(FrameError),
}

async fn read_request(stream: &mut UnixStream) -> Result<Request, Garbled> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header).await.map_err(|_| Garbled::Io)?;
    let length = protocol::body_length(&header).map_err(Garbled::Frame)?;
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.map_err(|_| Garbled::Io)?;
    protocol::decode(&body).map_err(Garbled::Frame)
}

async fn write(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let frame = protocol::encode(reply).map_err(io::Error::other)?;
    timeout(EXCHANGE_MAX, stream.write_all(&frame)).await?
}
