//! Objects in memory, as servers inside the test process have them, and their requests' bodies and queries.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hyper::Response;
use hyper::body::{Body as _, Incoming};
use s3s::Body;

/// Objects by name. Clones share them.
#[derive(Clone, Default)]
pub struct Objects(Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

impl Objects {
    pub(crate) fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of all objects, sorted.
    pub fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Writes an object; under a condition only where there is none.
    pub(crate) fn put(&self, name: &str, bytes: Vec<u8>, is_conditional: bool) -> bool {
        let mut objects = self.lock();
        let is_refused = is_conditional && objects.contains_key(name);
        if !is_refused {
            objects.insert(name.to_owned(), bytes);
        }
        !is_refused
    }

    /// Up to `most` objects of a prefix from `from` on, and where the next ones begin.
    pub(crate) fn page(
        &self,
        prefix: &str,
        from: &str,
        most: usize,
    ) -> (Vec<(String, usize)>, Option<String>) {
        let objects = self.lock();
        let mut fitting =
            objects.iter().filter(|(name, _)| name.starts_with(prefix) && name.as_str() >= from);
        let page = fitting.by_ref().take(most).map(|(name, bytes)| (name.clone(), bytes.len())).collect();
        (page, fitting.next().map(|(name, _)| name.clone()))
    }
}

pub(crate) async fn whole(mut body: Incoming) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        if let Ok(data) = frame.expect("a body").into_data() {
            bytes.extend_from_slice(&data);
        }
    }
    bytes
}

/// An answer.
pub(crate) fn reply(status: u16, kind: &str, body: impl Into<Vec<u8>>) -> Response<Body> {
    let body = body.into();
    let response = Response::builder().status(status).header("content-type", kind);
    response.header("content-length", body.len()).body(Body::from(body)).expect("a response")
}

/// The pairs of a query or form, decoded.
pub(crate) fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(n, v)| (decode(n), decode(v)))
        .collect()
}

pub(crate) fn value(pairs: &[(String, String)], name: &str) -> Option<String> {
    pairs.iter().find(|(own, _)| own == name).map(|(_, value)| value.clone())
}

/// Takes `%XX` for what it means.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).filter(|_| first == b'%').and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8(bytes).expect("UTF-8")
}
