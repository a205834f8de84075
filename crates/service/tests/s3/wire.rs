//! What goes over the wire, and that objects come back whole.

use kache_service::remote::{Body, Fault, Put, Remote};
use kache_testkit::S3;

use crate::{client, remote};

#[tokio::test]
async fn objects_come_back_from_memory_and_from_files() {
    let server = S3::start();
    let client = client(&server).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    let large: Vec<u8> = (0..9_000_000u32).flat_map(|i| i.to_le_bytes()).take(9 << 20).collect();
    std::fs::write(&source, &large).expect("write");
    std::fs::write(&target, b"").expect("write");
    client.put("a/small", Body::of(&b"hello"[..])).await.expect("written");
    client.put("a/large", Body::File { path: source, size: large.len() as u64 }).await.expect("written");
    assert_eq!(client.get("a/small", 5).await.expect("read"), b"hello");
    assert_eq!(client.head("a/small").await.expect("looked"), 5);
    let size = client.download("a/large", large.len() as u64, &target).await.expect("read");
    assert_eq!(size, large.len() as u64);
    assert!(std::fs::read(&target).expect("read") == large);
    for (bytes_max, name) in [(4, "a/small"), (1 << 20, "a/large")] {
        assert_eq!(client.get(name, bytes_max).await.expect_err("too long").fault, Fault::TooLarge);
    }
    for missing in ["a/none", "none"] {
        assert_eq!(client.get(missing, 10).await.expect_err("missing").fault, Fault::NotFound);
        assert_eq!(client.head(missing).await.expect_err("missing").fault, Fault::NotFound);
    }
}

#[tokio::test]
async fn a_conditional_write_is_told_that_there_is_one() {
    let server = S3::start();
    let client = client(&server).await;
    let body = |text: &str| Body::of(text.as_bytes().to_vec());
    assert_eq!(client.put_if_absent("x", body("1")).await.expect("written"), Put::Written);
    assert_eq!(client.put_if_absent("x", body("2")).await.expect("asked"), Put::Present);
    assert_eq!(client.get("x", 9).await.expect("read"), b"1");
}

#[tokio::test]
async fn a_server_without_conditional_writes_is_asked_once() {
    let server = S3::start();
    let client = client(&server).await;
    server.arrange("PUT", "/x", 1, kache_testkit::Mischief::Status(501, "NotImplemented"));
    for text in ["1", "2"] {
        let put = client.put_if_absent("x", Body::of(text)).await;
        assert_eq!(put.expect("written"), Put::Written);
    }
    let conditional = server.seen().iter().filter(|seen| seen.header("if-none-match").is_some()).count();
    assert_eq!(conditional, 1);
    assert_eq!(client.get("x", 9).await.expect("read"), b"2");
}

#[tokio::test]
async fn listings_continue_where_the_last_page_ended() {
    let server = S3::start();
    let client = client(&server).await;
    for i in 0..1005 {
        let path = server.bucket_dir().join(format!("p/{i:04}"));
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, b"x").expect("write");
    }
    std::fs::write(server.bucket_dir().join("q"), b"x").expect("write");
    let first = client.list("p/", None).await.expect("listed");
    assert_eq!(first.objects.len(), 1000);
    let object = &first.objects[0];
    assert_eq!((object.name.as_str(), object.size), ("p/0000", 1));
    assert!(object.modified_s > 1_600_000_000, "{object:?}");
    let second = client.list("p/", first.next).await.expect("listed");
    assert_eq!(second.objects.len(), 5);
    assert_eq!(second.next, None);
    assert_eq!(server.count("GET", "list-type=2"), 2);
}

#[tokio::test]
async fn requests_are_plain_enough_for_every_server() {
    let server = S3::start();
    let client = client(&server).await;
    let dir = tempfile::tempdir().expect("temp dir");
    let path = dir.path().join("file");
    std::fs::write(&path, vec![7; 3 << 20]).expect("write");
    client.put("k/memory", Body::of(vec![7; 1000])).await.expect("written");
    client.put_if_absent("k/absent", Body::of(vec![7; 10])).await.expect("written");
    client.put("k/file", Body::File { path, size: 3 << 20 }).await.expect("written");
    client.get("k/memory", 1000).await.expect("read");
    client.head("k/memory").await.expect("looked");
    client.list("k/", None).await.expect("listed");
    let seen = server.seen();
    assert_eq!(seen.len(), 6, "one request for each");
    for request in &seen {
        // The bucket is in the path, also where it has dots in its name.
        assert!(request.path.starts_with("/build.cache"), "{request:?}");
        assert!(request.header("host").is_some_and(|host| host.starts_with("127.0.0.1:")), "{request:?}");
        assert!(!request.query.contains("encoding-type"), "{request:?}");
        for (name, value) in &request.headers {
            let odd = name.contains("checksum") || name == "x-amz-trailer" || value.contains("aws-chunked");
            assert!(!odd && !value.contains("STREAMING-"), "{name}: {value}");
        }
        assert!(request.header("content-encoding").is_none());
        let hash = request.header("x-amz-content-sha256").expect("signed");
        assert!(
            hash.len() == 64 || (hash == "UNSIGNED-PAYLOAD" && request.path.ends_with("/file")),
            "{hash}"
        );
    }
}

#[tokio::test]
async fn an_endpoint_may_have_a_path_and_a_region_of_its_own() {
    let server = S3::start();
    let mut env = server.env();
    env.push(("KACHE_S3_ENDPOINT", format!("{}/behind/a/proxy/", server.endpoint())));
    env.push(("KACHE_S3_REGION", "garage".to_owned()));
    let client = kache_service::remote::s3::S3::connect(&remote(&env)).await;
    // This server has nothing there; how it was asked is what matters.
    let _ = client.head("k/x").await;
    let seen = server.seen();
    assert_eq!(seen[0].path, "/behind/a/proxy/build.cache/k/x");
    let authorization = seen[0].header("authorization").expect("signed");
    assert!(authorization.contains("/garage/s3/aws4_request"), "{authorization}");
    assert!(format!("{client:?}").ends_with("/behind/a/proxy/build.cache)"), "{client:?}");
}
