//! A web server inside the test process, on loopback and a port of its own. Every request is written down; on demand
//! requests go wrong before they are answered. What is answered is the business of whoever starts it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::Body;
use tokio::net::TcpListener;
use tokio::sync::oneshot;

/// A request as it came over the wire.
#[derive(Debug, Clone)]
pub struct Seen {
    /// `GET`, `PUT`, …
    pub method: String,
    /// Without the query.
    pub path: String,
    /// Empty where there is none.
    pub query: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
}

impl Seen {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

/// What goes wrong with a request.
#[derive(Debug, Clone)]
pub enum Mischief {
    /// This status, with an error of this code.
    Status(u16, &'static str),
    /// A status with a header more, as a redirection has.
    StatusWith(u16, &'static str, &'static str, String),
    /// It is answered as ever, but only after so long.
    Delay(Duration),
    /// A page for people, with status 200.
    Page,
    /// It is answered as ever, but called `text/html`, as servers written in Python do.
    CalledPage,
}

struct Rule {
    method: &'static str,
    part_of_path: String,
    times: u32,
    mischief: Mischief,
}

const PAGE: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");

#[derive(Default)]
struct Shared {
    seen: Vec<Seen>,
    rules: Vec<Rule>,
}

/// The server; it ends when dropped.
pub struct Server {
    port: u16,
    shared: Arc<Mutex<Shared>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Server {
    /// Starts one that answers like this.
    pub(crate) fn start<F>(answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static) -> Self
    where
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let shared = Arc::<Mutex<Shared>>::default();
        let (stop, stopped) = oneshot::channel();
        let (tell_port, port) = std::sync::mpsc::channel();
        let log = shared.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async move {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
                tell_port.send(listener.local_addr().expect("an address").port()).expect("heard");
                tokio::select! {
                    () = serve(listener, answer, log) => {}
                    _ = stopped => {}
                }
            });
        });
        let port = port.recv().expect("the server starts");
        Self { port, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Its address.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests since the start or the last call of [`Server::forget`].
    pub fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests of a method there were whose path or query has `part` in it.
    pub fn count(&self, method: &str, part: &str) -> usize {
        let is =
            |seen: &&Seen| seen.method == method && (seen.path.contains(part) || seen.query.contains(part));
        self.lock().seen.iter().filter(is).count()
    }

    /// Forgets the requests so far.
    pub fn forget(&self) {
        self.lock().seen.clear();
    }

    /// From now on, the next `times` requests of this method whose path has `part_of_path` in it go wrong.
    pub fn arrange(&self, method: &'static str, part_of_path: &str, times: u32, mischief: Mischief) {
        self.lock().rules.push(Rule { method, part_of_path: part_of_path.to_owned(), times, mischief });
    }

    /// From now on, every request takes so long.
    pub fn slow_down(&self, by: Duration) {
        for method in ["GET", "PUT", "HEAD"] {
            self.arrange(method, "", u32::MAX, Mischief::Delay(by));
        }
    }

    /// Nothing goes wrong any more.
    pub fn recover(&self) {
        self.lock().rules.clear();
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn serve<F>(
    listener: TcpListener,
    answer: impl Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    shared: Arc<Mutex<Shared>>,
) where
    F: Future<Output = Response<Body>> + Send + 'static,
{
    loop {
        let Ok((socket, _)) = listener.accept().await else { continue };
        let _ = socket.set_nodelay(true);
        let (answer, shared) = (answer.clone(), shared.clone());
        let answer = service_fn(move |request: Request<Incoming>| {
            let (answer, mischief) = (answer.clone(), note(&shared, &request));
            async move {
                let response = match mischief {
                    None => answer(request).await,
                    Some(Mischief::Delay(long)) => {
                        tokio::time::sleep(long).await;
                        answer(request).await
                    }
                    Some(Mischief::Page) => {
                        let mut page =
                            Response::new(Body::from("\n<!DOCTYPE html><title>Sign in</title>".to_owned()));
                        page.headers_mut().insert(CONTENT_TYPE, PAGE);
                        page
                    }
                    Some(Mischief::CalledPage) => {
                        let mut answer = answer(request).await;
                        answer.headers_mut().insert(CONTENT_TYPE, PAGE);
                        answer
                    }
                    Some(Mischief::Status(status, code)) => failure(status, code, None),
                    Some(Mischief::StatusWith(status, code, name, value)) => {
                        failure(status, code, Some((name, &value)))
                    }
                };
                Ok::<_, std::convert::Infallible>(response)
            }
        });
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            let _ = builder.serve_connection(TokioIo::new(socket), answer).await;
        });
    }
}

/// Writes a request down and finds out what is to happen to it.
fn note(shared: &Mutex<Shared>, request: &Request<Incoming>) -> Option<Mischief> {
    let headers = request.headers().iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let seen = Seen {
        method: request.method().to_string(),
        path: request.uri().path().to_owned(),
        query: request.uri().query().unwrap_or_default().to_owned(),
        headers: headers.collect(),
    };
    let mut shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let rule = shared
        .rules
        .iter_mut()
        .find(|rule| rule.times > 0 && rule.method == seen.method && seen.path.contains(&rule.part_of_path));
    let mischief = rule.map(|rule| {
        rule.times -= 1;
        rule.mischief.clone()
    });
    shared.seen.push(seen);
    mischief
}

fn failure(status: u16, code: &str, header: Option<(&'static str, &str)>) -> Response<Body> {
    let text = format!("<Error><Code>{code}</Code><Message>arranged by the test</Message></Error>");
    let mut response = Response::builder().status(status).header("content-type", "application/xml");
    if let Some((name, value)) = header {
        response
            .headers_mut()
            .expect("no mistake")
            .insert(HeaderName::from_static(name), value.parse().expect("a header's value"));
    }
    response.body(Body::from(text)).expect("a response")
}
