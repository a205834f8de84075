//! A web server of files inside the test process: GET, HEAD and PUT, and as much of WebDAV as some servers want. It can be
//! as unhelpful as real ones are.

use std::path::{Path, PathBuf};

use hyper::body::Incoming;
use hyper::{Request, Response};
use s3s::Body;

use crate::objects::whole;
use crate::server::Server;

/// What a server does with `if-none-match` and with folders that aren't there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// Heeds the condition, makes folders.
    Kind,
    /// Ignores the condition, makes folders, as nginx does.
    Heedless,
    /// Knows no condition, makes folders.
    Ignorant,
    /// Heeds the condition; who writes has to make folders first, as with Apache.
    Formal,
    /// Takes no writes.
    ReadOnly,
}

/// The server; it ends when dropped.
pub struct Web {
    dir: tempfile::TempDir,
    server: Server,
}

impl Web {
    /// What requests have to carry.
    pub const TOKEN: &'static str = "testkit-token";

    /// Starts a server with an empty folder.
    pub fn start(manners: Manners) -> Self {
        let dir = tempfile::Builder::new().prefix("kweb-").tempdir().expect("make a temporary directory");
        let root = dir.path().to_owned();
        let server = Server::start(move |request| answer(root.clone(), manners, request));
        Self { dir, server }
    }

    /// Where the objects are.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the names of all objects are relative to.
    pub fn url(&self) -> String {
        format!("{}/some/where", self.endpoint())
    }

    /// Variables that make kache use it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![("KACHE_REMOTE_URL", self.url()), ("KACHE_REMOTE_TOKEN", Self::TOKEN.to_owned())]
    }
}

impl std::ops::Deref for Web {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn answer(root: PathBuf, manners: Manners, request: Request<Incoming>) -> Response<Body> {
    let status = |status: u16| Response::builder().status(status).body(Body::empty()).expect("a response");
    let authorization = request.headers().get("authorization").and_then(|value| value.to_str().ok());
    if authorization != Some(&format!("Bearer {}", Web::TOKEN)) {
        return status(401);
    }
    let Some(name) = request.uri().path().strip_prefix("/some/where/") else { return status(404) };
    let path = root.join(name.trim_end_matches('/'));
    let method = request.method().as_str().to_owned();
    if manners == Manners::ReadOnly && !matches!(method.as_str(), "GET" | "HEAD") {
        return status(405);
    }
    match method.as_str() {
        "GET" | "HEAD" => match std::fs::read(&path) {
            Ok(bytes) => {
                let response = Response::builder().header("content-length", bytes.len());
                let body = if method == "GET" { Body::from(bytes) } else { Body::empty() };
                response.body(body).expect("a response")
            }
            Err(_) => status(404),
        },
        "MKCOL" if manners == Manners::Formal => match std::fs::create_dir(&path) {
            Ok(()) => status(201),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => status(405),
            Err(_) => status(409),
        },
        "PUT" => {
            let is_conditional = request.headers().contains_key("if-none-match");
            if is_conditional && manners == Manners::Ignorant {
                return status(501);
            }
            let parent = path.parent().expect("a folder");
            if manners != Manners::Formal {
                std::fs::create_dir_all(parent).expect("folders");
            } else if !parent.is_dir() {
                return status(409);
            }
            let bytes = whole(request.into_body()).await;
            if is_conditional && manners != Manners::Heedless && path.exists() {
                return status(412);
            }
            std::fs::write(&path, bytes).expect("written");
            status(201)
        }
        _ => status(405),
    }
}
