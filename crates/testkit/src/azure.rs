//! The blob service of an Azure storage account, inside the test process: it computes the signature of each request again, or
//! wants the one shared access signature that it knows.

use aws_smithy_types::base64;
use hyper::body::Incoming;
use hyper::{Request, Response};
use ring::hmac;
use s3s::Body;

use crate::objects::{Objects, decode, pairs, reply, value, whole};
use crate::server::Server;

/// The server, with one container; it ends when dropped.
pub struct Azure {
    objects: Objects,
    server: Server,
}

impl Azure {
    /// The storage account.
    pub const ACCOUNT: &'static str = "testkit";
    pub const KEY: &'static str = "c2VjcmV0IG9mIHRoZSB0ZXN0a2l0ISsvKy8rLysvKy8=";
    /// A shared access signature.
    pub const SAS: &'static str = "sv=2021-12-02&ss=b&srt=co&sp=rwl&sig=hush%2Fhush%3D";
    /// Name of the container.
    pub const CONTAINER: &'static str = "build-cache";

    /// Starts a server with an empty container.
    pub fn start() -> Self {
        let objects = Objects::default();
        let of_server = objects.clone();
        let server = Server::start(move |request| answer(of_server.clone(), request));
        Self { objects, server }
    }

    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Variables that make kache use it, with the account's key.
    pub fn env(&self) -> Vec<(&'static str, String)> {
        let mut env = self.place();
        env.push(("AZURE_STORAGE_ACCOUNT", Self::ACCOUNT.to_owned()));
        env.push(("AZURE_STORAGE_KEY", Self::KEY.to_owned()));
        env.push(("KACHE_AZURE_ENDPOINT", self.endpoint()));
        env
    }

    /// The same with a shared access signature.
    pub fn env_with_sas(&self) -> Vec<(&'static str, String)> {
        let mut env = self.place();
        env.push(("KACHE_AZURE_ACCOUNT", Self::ACCOUNT.to_owned()));
        env.push(("AZURE_STORAGE_SAS_TOKEN", format!("?{}", Self::SAS)));
        env.push(("KACHE_AZURE_ENDPOINT", self.endpoint()));
        env
    }

    /// The same with a connection string.
    pub fn env_with_string(&self) -> Vec<(&'static str, String)> {
        let mut env = self.place();
        let (account, key) = (Self::ACCOUNT, Self::KEY);
        let string = format!(
            "DefaultEndpointsProtocol=http;AccountName={account};AccountKey={key};BlobEndpoint={}/;",
            self.endpoint()
        );
        env.push(("AZURE_STORAGE_CONNECTION_STRING", string));
        env
    }

    fn place(&self) -> Vec<(&'static str, String)> {
        vec![("KACHE_AZURE_CONTAINER", Self::CONTAINER.to_owned())]
    }
}

impl std::ops::Deref for Azure {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

async fn answer(objects: Objects, request: Request<Incoming>) -> Response<Body> {
    let fields = pairs(request.uri().query().unwrap_or_default());
    let asked = |name: &str| value(&fields, name);
    let failed = |status: u16, code: &'static str| {
        let text =
            format!("\u{feff}<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>no</Message></Error>");
        let mut response = reply(status, "application/xml", text);
        response.headers_mut().insert("x-ms-error-code", code.parse().expect("a header's value"));
        response
    };
    let has_sas = pairs(Azure::SAS).iter().all(|(name, expected)| asked(name).as_ref() == Some(expected));
    if !has_sas && !is_signed(&request, &fields) {
        return failed(403, "AuthenticationFailed");
    }
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let (container, name) = path.split_once('/').unwrap_or((path.as_str(), ""));
    let name = decode(name);
    if container != Azure::CONTAINER {
        return failed(404, "ContainerNotFound");
    }
    let is_conditional = request.headers().contains_key("if-none-match");
    let is_block = request.headers().get("x-ms-blob-type").is_some_and(|kind| kind == "BlockBlob");
    match request.method().as_str() {
        "GET" if asked("comp").as_deref() == Some("list") => listing(&objects, container, &fields),
        "PUT" if is_block => {
            let bytes = whole(request.into_body()).await;
            if objects.put(&name, bytes, is_conditional) {
                reply(201, "application/xml", "")
            } else {
                failed(409, "BlobAlreadyExists")
            }
        }
        method @ ("GET" | "HEAD") => match objects.lock().get(&name) {
            Some(bytes) => {
                let mut response = reply(200, "application/octet-stream", bytes.clone());
                if method == "HEAD" {
                    *response.body_mut() = Body::empty();
                }
                response
            }
            None if method == "HEAD" => {
                let mut response = failed(404, "BlobNotFound");
                *response.body_mut() = Body::empty();
                response
            }
            None => failed(404, "BlobNotFound"),
        },
        _ => failed(400, "InvalidHeaderValue"),
    }
}

fn listing(objects: &Objects, container: &str, fields: &[(String, String)]) -> Response<Body> {
    let asked = |name: &str| value(fields, name);
    let from = asked("marker").unwrap_or_default();
    let most = asked("maxresults").and_then(|most| most.parse().ok()).unwrap_or(5000);
    let (page, next) = objects.page(&asked("prefix").unwrap_or_default(), &from, most);
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;");
    let blobs: String = page
                .into_iter()
                .map(|(name, size)| {
                    format!(
                        "<Blob><Name>{}</Name><Properties><Last-Modified>Fri, 02 Jan 2026 03:04:05 GMT</Last-Modified>\
                         <Content-Length>{size}</Content-Length><Content-MD5 /></Properties><OrMetadata /></Blob>",
                        escape(&name)
                    )
                })
                .collect();
    let next = next
        .map_or("<NextMarker />".to_owned(), |next| format!("<NextMarker>{}</NextMarker>", escape(&next)));
    let text = format!(
        "\u{feff}<?xml version=\"1.0\" encoding=\"utf-8\"?><EnumerationResults ContainerName=\"{container}\">\
                 <Prefix>p</Prefix><Blobs>{blobs}</Blobs>{next}</EnumerationResults>"
    );
    reply(200, "application/xml", text)
}

/// Whether a request carries the signature that its account's key makes of it.
fn is_signed(request: &Request<Incoming>, fields: &[(String, String)]) -> bool {
    let header =
        |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut text = format!("{}\n", request.method());
    for name in [
        "content-encoding",
        "content-language",
        "content-length",
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    ] {
        let value = header(name);
        let is_left_out = name == "content-length" && value == "0";
        text += &format!("{}\n", if is_left_out { "" } else { value });
    }
    let mut own: Vec<_> =
        request.headers().keys().map(|name| name.as_str()).filter(|name| name.starts_with("x-ms-")).collect();
    own.sort_unstable();
    for name in own {
        text += &format!("{name}:{}\n", header(name).trim());
    }
    text += &format!("/{}{}", Azure::ACCOUNT, request.uri().path());
    let mut fields: Vec<_> = fields.iter().map(|(name, value)| (name.to_lowercase(), value)).collect();
    fields.sort();
    for (name, value) in fields {
        text += &format!("\n{name}:{value}");
    }
    let key = base64::decode(Azure::KEY).expect("base64");
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), text.as_bytes());
    let expected = format!("SharedKey {}:{}", Azure::ACCOUNT, base64::encode(signature));
    header("authorization") == expected && !header("x-ms-date").is_empty() && header("x-ms-version") >= "2020"
}
