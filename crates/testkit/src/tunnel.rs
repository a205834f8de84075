//! A proxy that gives a way through to a TLS server, and that server's end of TLS: what is in the tunnel goes to an
//! in-process server, and each request line is kept. Knows nothing of S3.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// The name that the certificate is for, which nothing resolves.
pub const HOST: &str = "s3.invalid";

/// The proxy; its thread lives as long as the test.
pub struct Proxy {
    port: u16,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one whose tunnels lead to `endpoint`, as `http://host:port`.
    pub fn start(endpoint: &str) -> Self {
        let target = endpoint.trim_start_matches("http://").to_owned();
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let (tell_port, port) = std::sync::mpsc::channel();
        let kept = lines.clone();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
                tell_port.send(listener.local_addr().expect("an address").port()).expect("heard");
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(tunnel(socket, target.clone(), kept.clone()));
                }
            });
        });
        Self { port: port.recv().expect("the proxy starts"), lines }
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The first line of each request for a tunnel, and of the first request in each.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A file with the certificate of the authority that has signed the server's, for `SSL_CERT_FILE`.
pub fn authority() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/tls/authority.pem")
}

async fn tunnel(socket: TcpStream, target: String, lines: Arc<Mutex<Vec<String>>>) -> Option<()> {
    let keep = |line: &str| {
        lines.lock().unwrap_or_else(PoisonError::into_inner).push(line.trim_end().to_owned());
    };
    let mut socket = BufReader::new(socket);
    let mut line = String::new();
    socket.read_line(&mut line).await.ok()?;
    keep(&line);
    while line.trim_end() != "" {
        line.clear();
        socket.read_line(&mut line).await.ok()?;
    }
    socket.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.ok()?;
    let mut inside = BufReader::new(acceptor().accept(socket).await.ok()?);
    let mut behind = TcpStream::connect(target).await.ok()?;
    line.clear();
    inside.read_line(&mut line).await.ok()?;
    keep(&line);
    behind.write_all(line.as_bytes()).await.ok()?;
    tokio::io::copy_bidirectional(&mut inside, &mut behind).await.ok()?;
    Some(())
}

fn acceptor() -> TlsAcceptor {
    let pem = include_bytes!("tls/s3.invalid.pem");
    let certificates = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().expect("certificates");
    let key = PrivateKeyDer::from_pem_slice(pem).expect("a key");
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions of TLS")
        .with_no_client_auth()
        .with_single_cert(certificates, key);
    TlsAcceptor::from(Arc::new(config.expect("a key that fits the certificate")))
}
