//! An S3 server inside the test process, on loopback and a port of its own: checks signatures, pages listings, keeps
//! its objects as files. Every request is written down; on demand requests go wrong before they reach it.

use std::path::PathBuf;

use s3s::Body;
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};

use crate::server::Server;

/// The server, with one bucket; it ends when dropped.
pub struct S3 {
    dir: tempfile::TempDir,
    server: Server,
}

impl S3 {
    /// Name of the bucket.
    pub const BUCKET: &'static str = "build.cache";
    /// The access key that is accepted.
    pub const ACCESS_KEY: &'static str = "AKTESTKIT";
    pub const SECRET_KEY: &'static str = "testkit-secret";

    /// Starts a server with an empty bucket.
    pub fn start() -> Self {
        let dir = tempfile::Builder::new().prefix("ks3-").tempdir().expect("make a temporary directory");
        std::fs::create_dir(dir.path().join(Self::BUCKET)).expect("make the bucket");
        let service = service(dir.path().to_owned());
        let server = Server::start(move |request| {
            let service = service.clone();
            async move { service.call(request.map(Body::from)).await.expect("an answer") }
        });
        Self { dir, server }
    }

    /// Where the objects are.
    pub fn bucket_dir(&self) -> PathBuf {
        self.dir.path().join(Self::BUCKET)
    }

    /// Names of all objects, sorted.
    pub fn names(&self) -> Vec<String> {
        let bucket = self.bucket_dir();
        let name = |path: PathBuf| {
            let inside = path.strip_prefix(&bucket).expect("below the bucket");
            inside.to_string_lossy().into_owned()
        };
        crate::files::walk(&bucket).into_iter().map(name).collect()
    }

    /// Variables that make kache use it.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        vec![
            ("KACHE_S3_BUCKET", Self::BUCKET.to_owned()),
            ("KACHE_S3_ENDPOINT", self.endpoint()),
            ("KACHE_S3_ACCESS_KEY", Self::ACCESS_KEY.to_owned()),
            ("KACHE_S3_SECRET_KEY", Self::SECRET_KEY.to_owned()),
        ]
    }
}

impl std::ops::Deref for S3 {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn service(root: PathBuf) -> S3Service {
    let files = s3s_fs::FileSystem::new(root).expect("a directory for buckets");
    let mut builder = S3ServiceBuilder::new(files);
    builder.set_auth(SimpleAuth::from_single(S3::ACCESS_KEY, S3::SECRET_KEY));
    builder.build()
}
