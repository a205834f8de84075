//! The remote behind a proxy.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use kache_testkit::{Proxy, S3, authority};

use crate::Home;

/// Listens as a proxy that hears one request line and then refuses.
fn refusing_proxy() -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    let thread = std::thread::spawn(move || {
        loop {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut head = [0; 1024];
            let count = stream.read(&mut head).unwrap_or(0);
            let _ =
                stream.write_all(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            // `kache doctor` only connects at first.
            if count > 0 {
                return String::from_utf8_lossy(&head[..count]).lines().next().unwrap_or_default().to_owned();
            }
        }
    });
    (address, thread)
}

#[test]
fn requests_go_through_the_proxy_that_the_environment_names_unless_the_server_is_near() {
    let (home, server) = (Home::new(), S3::start());
    let env = server.env();
    let env: Vec<(&str, &str)> = env.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let sync = ["sync", "--pull", "--all", "--dry-run"];
    // Nobody listens there, and nobody has to.
    let ran = home.kache_with(&sync, &[&env[..], &[("HTTP_PROXY", "http://127.0.0.1:9")][..]].concat());
    assert_eq!(ran.code, 0, "{ran:?}");
    assert_eq!(server.count("GET", "list-type=2"), 1);
    server.forget();
    // The server of the tests stands in for a proxy: it is asked for a name that only a proxy could resolve.
    let proxy = server.endpoint();
    for (variables, expected) in [
        (&[("http_proxy", proxy.as_str())][..], 1),
        (&[("ALL_PROXY", proxy.as_str())], 1),
        (&[("HTTP_PROXY", proxy.as_str()), ("NO_PROXY", "s3.invalid")], 0),
        (&[("HTTPS_PROXY", proxy.as_str())], 0),
    ] {
        server.forget();
        let far = [("KACHE_S3_ENDPOINT", "http://s3.invalid")];
        let ran = home.kache_with(&sync, &[&env[..], &far[..], variables].concat());
        assert_eq!(server.count("GET", "list-type=2"), expected, "{variables:?} {ran:?}");
        assert_eq!(ran.code == 0, expected == 1, "{ran:?}");
    }
    // To TLS servers a proxy gives a way through.
    for args in [&sync[..], &["doctor"]] {
        let (proxy, heard) = refusing_proxy();
        let far = [("KACHE_S3_ENDPOINT", "https://s3.invalid"), ("HTTPS_PROXY", proxy.as_str())];
        let ran = home.kache_with(args, &[&env[..], &far[..]].concat());
        assert_eq!(heard.join().expect("heard"), "CONNECT s3.invalid:443 HTTP/1.1", "{ran:?}");
        if args == ["doctor"] {
            assert!(ran.out.contains(&format!("go through the proxy {proxy}")), "{ran:?}");
        }
    }
    // In the tunnel, requests look as without a proxy.
    let proxy = Proxy::start(&server.endpoint());
    server.forget();
    let (address, authority) = (proxy.address(), authority());
    let far = [
        ("KACHE_S3_ENDPOINT", "https://s3.invalid"),
        ("HTTPS_PROXY", address.as_str()),
        ("SSL_CERT_FILE", authority.to_str().expect("UTF-8")),
    ];
    let ran = home.kache_with(&sync, &[&env[..], &far[..]].concat());
    let lines = proxy.lines();
    assert!(ran.code == 0 && server.count("GET", "list-type=2") == 1, "{ran:?} {lines:?}");
    assert_eq!(lines[0], "CONNECT s3.invalid:443 HTTP/1.1");
    assert!(lines[1].starts_with("GET /build.cache/?list-type=2&"), "{lines:?}");
}
