//! Each kind of trouble gets its name, and none takes for ever.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use kache_service::remote::s3::{Patience, S3 as Client};
use kache_service::remote::{Body, Fault, Remote};
use kache_testkit::{Mischief, S3};

use crate::{client, remote};

const SHORT: Patience = Patience {
    connect: Duration::from_millis(500),
    silence: Duration::from_millis(300),
    slowest_upload: 1 << 30,
};

/// A server that sends to another place of the same service is followed, once.
#[tokio::test]
async fn the_same_service_is_followed_to_another_place_once() {
    let (server, other) = (S3::start(), S3::start());
    let there = client(&other).await;
    there.put("k/x", Body::of("there")).await.expect("written");
    let here = client(&server).await;
    let location = format!("{}/{}/k/x", other.endpoint(), S3::BUCKET);
    server.arrange("GET", "", 9, Mischief::StatusWith(307, "TemporaryRedirect", "location", location));
    let error = here.get("k/x", 9).await.expect_err("elsewhere");
    assert!(error.is_renewed, "{error}");
    assert_eq!(here.get("k/x", 9).await.expect("there"), b"there");
    assert_eq!((server.seen().len(), other.count("GET", "k/x")), (1, 1));
    let back = format!("{}/{}/k/x", server.endpoint(), S3::BUCKET);
    other.arrange("GET", "", 1, Mischief::StatusWith(307, "TemporaryRedirect", "location", back));
    let error = here.get("k/x", 9).await.expect_err("in a circle");
    assert!(!error.is_renewed && error.detail.contains("the server sends to"), "{error}");

    let here = client(&server).await;
    server.recover();
    let region = || "eu-central-1".to_owned();
    let moved = Mischief::StatusWith(301, "PermanentRedirect", "x-amz-bucket-region", region());
    server.arrange("GET", "", 1, moved);
    server.forget();
    assert!(here.get("k/x", 9).await.expect_err("elsewhere").is_renewed);
    let _ = here.get("k/x", 9).await;
    let signed = server.seen()[1].header("authorization").expect("signed").to_owned();
    assert!(signed.contains("/eu-central-1/s3/"), "{signed}");
}

#[tokio::test]
async fn answers_are_told_apart() {
    let server = S3::start();
    let client = client(&server).await;
    let status = Mischief::Status;
    let region = ("x-amz-bucket-region", "eu-west-1".to_owned());
    for (mischief, expected) in [
        (status(403, "AccessDenied"), Fault::Denied),
        (status(400, "ExpiredToken"), Fault::Credentials),
        (status(403, "InvalidAccessKeyId"), Fault::Credentials),
        (status(403, "RequestTimeTooSkewed"), Fault::ClockSkew),
        (status(404, "NoSuchBucket"), Fault::NoBucket),
        (status(400, "AuthorizationHeaderMalformed"), Fault::WrongRegion),
        (Mischief::StatusWith(301, "PermanentRedirect", region.0, region.1.clone()), Fault::WrongRegion),
        (Mischief::StatusWith(307, "TemporaryRedirect", region.0, region.1), Fault::WrongRegion),
        (status(501, "NotImplemented"), Fault::Unsupported),
    ] {
        server.arrange("GET", "/x", 1, mischief.clone());
        let error = client.get("x", 10).await.expect_err("failed");
        assert_eq!(error.fault, expected, "{mischief:?}: {error}");
        if expected == Fault::WrongRegion && matches!(mischief, Mischief::StatusWith(..)) {
            assert!(error.detail.contains("eu-west-1"), "{error}");
        }
    }
    // The client tries these again itself, so they have to last.
    for (mischief, expected) in [
        (status(503, "SlowDown"), Fault::Throttled),
        (status(429, "TooManyRequests"), Fault::Throttled),
        (status(500, "InternalError"), Fault::Unavailable),
    ] {
        let name = format!("y{mischief:?}").replace(['(', ')', '"', ',', ' '], "");
        server.arrange("GET", &name, 2, mischief);
        assert_eq!(client.get(&name, 10).await.expect_err("failed").fault, expected);
    }
    let later = Mischief::StatusWith(503, "SlowDown", "retry-after", "7".to_owned());
    server.arrange("GET", "/z", 2, later);
    let error = client.get("z", 10).await.expect_err("failed");
    assert_eq!((error.fault, error.pause), (Fault::Throttled, Some(Duration::from_secs(7))));
    server.arrange("PUT", "/x", 1, status(503, "SlowDown"));
    client.put("x", Body::of(&b"y"[..])).await.expect("the second attempt");
}

#[tokio::test]
async fn wrong_credentials_are_told_and_never_shown() {
    let server = S3::start();
    for (name, value) in [("KACHE_S3_SECRET_KEY", "hushhush"), ("KACHE_S3_ACCESS_KEY", "AKNOBODY")] {
        let mut env = server.env();
        env.push((name, value.to_owned()));
        let client = Client::connect(&remote(&env)).await;
        let error = client.get("x", 10).await.expect_err("refused");
        assert_eq!(error.fault, Fault::Credentials, "{error}");
        let shown = format!("{error} {error:?} {client:?}");
        assert!(!shown.contains("hushhush") && !shown.contains(S3::SECRET_KEY), "{shown}");
    }
}

/// A server that answers each connection with these bytes, then keeps silent or closes.
fn raw_server(answer: &'static [u8], then: Then) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut head = [0; 4096];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(answer);
            if then == Then::Silence {
                open.push(stream);
            }
        }
    });
    format!("http://{address}")
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Silence,
    Close,
}

#[tokio::test]
async fn silence_cut_off_bodies_and_nonsense_end() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf";
    for (answer, then) in [
        (&b""[..], Then::Silence),
        (b"", Then::Close),
        (half, Then::Silence),
        (half, Then::Close),
        (b"SSH-2.0-whatever\r\n", Then::Close),
    ] {
        let mut env = S3::start().env();
        env.push(("KACHE_S3_ENDPOINT", raw_server(answer, then)));
        let client = Client::connect_with(&remote(&env), SHORT).await;
        let error = client.get("x", 1000).await.expect_err("failed");
        assert!(error.fault.is_passing(), "{error}");
    }
    let mut env = S3::start().env();
    env.push(("KACHE_S3_ENDPOINT", raw_server(b"HTTP/1.1 200 OK\r\n\r\n<html>not a listing", Then::Close)));
    let client = Client::connect_with(&remote(&env), SHORT).await;
    let listed = client.list("p/", None).await;
    assert!(listed.as_ref().is_err_and(|error| error.fault.is_passing()), "{listed:?}");
    // Nobody listens there.
    env.push(("KACHE_S3_ENDPOINT", "http://127.0.0.1:9".to_owned()));
    let client = Client::connect_with(&remote(&env), SHORT).await;
    assert_eq!(client.head("x").await.expect_err("refused").fault, Fault::Unreachable);
    env.push(("KACHE_S3_ENDPOINT", "http://no-such-host.invalid".to_owned()));
    let client = Client::connect_with(&remote(&env), SHORT).await;
    assert_eq!(client.head("x").await.expect_err("no name").fault, Fault::Unreachable);
}
