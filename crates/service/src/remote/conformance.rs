//! One suite for every kind of remote: in memory, a bucket on a real S3 server, a folder, and web servers with good and bad
//! manners. What a kind can't do, it has to say.

mod clouds;

use std::sync::Arc;
use std::time::Duration;

use kache_core::config::{Backend, Http, Settings, env};
use kache_testkit::{Manners, Mischief, S3 as S3Server, Web as WebServer};

use super::folder::Folder;
use super::memory::Memory;
use super::s3::S3;
use super::web::Web;
use super::wire::Patience;
use super::{Body, Fault, Object, Put, Remote};

/// What a remote does with a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Condition {
    Heeded,
    Ignored,
}

fn backend(env: &[(&str, String)]) -> Backend {
    let read = |name: &str| env.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.into());
    let (settings, _) = Settings::resolve(None, read).expect("settings");
    settings.remote().expect("a remote").backend.clone()
}

fn http(env: &[(&str, String)]) -> Http {
    match backend(env) {
        Backend::Http(http) => http,
        other => panic!("{other:?}"),
    }
}

fn body(bytes: &[u8]) -> Body {
    Body::of(bytes.to_vec())
}

/// Everything that callers rely on.
async fn conforms(remote: Arc<dyn Remote>, condition: Condition) {
    objects_come_back_whole(&*remote).await;
    conditions(&remote, condition).await;
    listings(&*remote).await;
}

async fn objects_come_back_whole(remote: &dyn Remote) {
    let fault = |error: super::RemoteError| error.fault;
    for missing in ["none", "a/none", "a/b/c/none"] {
        assert_eq!(remote.get(missing, 10).await.map_err(fault), Err(Fault::NotFound));
        assert_eq!(remote.head(missing).await.map_err(fault), Err(Fault::NotFound));
    }
    for (name, bytes) in
        [("a/b/small", &b"hello"[..]), ("a/b/empty", b""), ("a/b/x ü%25#?&+.json", b"odd"), ("top", b"top")]
    {
        remote.put(name, body(bytes)).await.expect(name);
        assert_eq!(remote.get(name, bytes.len() as u64).await.expect(name), bytes);
        assert_eq!(remote.head(name).await.expect(name), bytes.len() as u64);
    }
    assert_eq!(remote.get("a/b/small", 4).await.map_err(fault), Err(Fault::TooLarge));
    remote.put("a/b/small", body(b"another")).await.expect("replaced");
    assert_eq!(remote.get("a/b/small", 100).await.expect("read"), b"another");

    let dir = tempfile::tempdir().expect("temp dir");
    let (source, target) = (dir.path().join("source"), dir.path().join("target"));
    let large: Vec<u8> = (0..1_500_000u32).flat_map(u32::to_le_bytes).take(5 << 20).collect();
    let size = large.len() as u64;
    std::fs::write(&source, &large).expect("write");
    std::fs::write(&target, b"of an attempt before").expect("write");
    remote.put("a/large", Body::File { path: source, size }).await.expect("written");
    assert_eq!(remote.download("a/large", size, &target).await.expect("read"), size);
    assert!(std::fs::read(&target).expect("read") == large);
    assert_eq!(remote.download("a/large", 1 << 20, &target).await.map_err(fault), Err(Fault::TooLarge));
    let nowhere = dir.path().join("none");
    assert_eq!(remote.download("a/large", size, &nowhere).await.map_err(fault), Err(Fault::Local));
    let gone = Body::File { path: nowhere, size: 7 };
    assert_eq!(remote.put("a/gone", gone).await.map_err(fault), Err(Fault::Local));
    assert_eq!(remote.head("a/gone").await.map_err(fault), Err(Fault::NotFound));
}

async fn conditions(remote: &Arc<dyn Remote>, condition: Condition) {
    let expected = if condition == Condition::Heeded { Put::Present } else { Put::Written };
    assert_eq!(remote.put_if_absent("c/one", body(b"1")).await.expect("written"), Put::Written);
    assert_eq!(remote.put_if_absent("c/one", body(b"2")).await.expect("asked"), expected);
    let kept: &[u8] = if condition == Condition::Heeded { b"1" } else { b"2" };
    assert_eq!(remote.get("c/one", 9).await.expect("read"), kept);
    // Writers at the same time: an object is one of theirs, and one alone believes to be the first.
    let mut writers = tokio::task::JoinSet::new();
    for i in 0..8u8 {
        let remote = Arc::clone(remote);
        writers.spawn(async move { remote.put_if_absent("c/many", body(&vec![i; 100_000])).await });
    }
    let mut first = 0;
    while let Some(put) = writers.join_next().await {
        first += usize::from(put.expect("ended").expect("asked") == Put::Written);
    }
    let got = remote.get("c/many", 100_000).await.expect("read");
    assert!(got.len() == 100_000 && got.iter().all(|byte| *byte == got[0]));
    if condition == Condition::Heeded {
        assert_eq!(first, 1);
    }
}

async fn listings(remote: &dyn Remote) {
    if !remote.can_list() {
        assert_eq!(remote.list("p/", None).await.expect_err("can't").fault, Fault::Unsupported);
        return;
    }
    let mut names: Vec<String> =
        ["p/a/1", "p/a/2", "p/a-b/1", "p/a.json", "p/a0/deep/down", "p/z"].map(Into::into).into();
    for name in names.iter().map(String::as_str).chain(["q", "o/x"]) {
        remote.put(name, body(name.as_bytes())).await.expect("written");
    }
    names.sort_unstable();
    for (prefix, expected) in [
        ("p/", names.clone()),
        ("p/a/", vec!["p/a/1".to_owned(), "p/a/2".to_owned()]),
        ("p/a", names[..names.len() - 1].to_vec()),
        ("p/none/", vec![]),
        ("none/at/all/", vec![]),
    ] {
        let page = remote.list(prefix, None).await.expect("listed");
        let listed = page.objects.iter().map(|object| object.name.clone()).collect::<Vec<_>>();
        assert_eq!((listed, page.next), (expected, None), "{prefix}");
        assert!(page.objects.iter().all(|Object { name, size, .. }| name.len() as u64 == *size));
    }
}

#[tokio::test]
async fn in_memory() {
    conforms(Arc::new(Memory::new()), Condition::Heeded).await;
    conforms(Arc::new(Memory::new().that_overwrites()), Condition::Ignored).await;
}

#[tokio::test]
async fn a_bucket() {
    let server = S3Server::start();
    let Backend::S3(settings) = backend(&server.env()) else { panic!("a bucket") };
    let s3 = S3::connect(&settings).await;
    objects_come_back_whole(&s3).await;
    listings(&s3).await;
}

#[tokio::test]
async fn a_folder() {
    let dir = tempfile::tempdir().expect("temp dir");
    conforms(Arc::new(Folder::new(dir.path())), Condition::Heeded).await;
    let left = std::fs::read_dir(dir.path().join(".incoming")).expect("made").count();
    assert_eq!(left, 0, "nothing is left of what was written");
}

#[tokio::test]
async fn web_servers() {
    for (manners, condition) in [
        (Manners::Kind, Condition::Heeded),
        (Manners::Formal, Condition::Heeded),
        (Manners::Heedless, Condition::Ignored),
        (Manners::Ignorant, Condition::Ignored),
    ] {
        let server = WebServer::start(manners);
        conforms(Arc::new(Web::connect(&http(&server.env()))), condition).await;
        if manners == Manners::Ignorant {
            let asked = server.seen().iter().filter(|seen| seen.header("if-none-match").is_some()).count();
            assert_eq!(asked, 1, "who doesn't know conditions is asked once");
        }
    }
    let server = WebServer::start(Manners::ReadOnly);
    let web = Web::connect(&http(&server.env()));
    assert_eq!(web.put("x", body(b"x")).await.expect_err("refused").fault, Fault::Unsupported);
}

/// nginx as the guide sets it up.
#[tokio::test]
async fn nginx() {
    let dir = tempfile::tempdir().expect("temp dir");
    let port =
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("free").port();
    let at = dir.path().display();
    std::fs::create_dir(dir.path().join("cache")).expect("folder");
    let config = format!(
        "daemon off; master_process off; error_log stderr; pid {at}/pid;\nevents {{}}\nhttp {{\naccess_log off; \
         client_body_temp_path {at}/tmp; proxy_temp_path {at}/p; fastcgi_temp_path {at}/f; uwsgi_temp_path {at}/u; \
         scgi_temp_path {at}/s;\nserver {{ listen 127.0.0.1:{port}; location /kache/ {{ alias {at}/cache/; dav_methods \
         PUT; create_full_put_path on; client_max_body_size 0; }} }}\n}}\n"
    );
    std::fs::write(dir.path().join("conf"), config).expect("write");
    let mut command = std::process::Command::new("nginx");
    command
        .arg("-c")
        .arg(dir.path().join("conf"))
        .arg("-p")
        .arg(dir.path())
        .stderr(std::process::Stdio::null());
    command.stdout(std::process::Stdio::null());
    // It is one process, so nothing is left when it is killed.
    let Ok(mut nginx) = command.spawn() else {
        eprintln!("skipped: there is no nginx");
        return;
    };
    let web = Web::connect(&http(&[(env::KACHE_REMOTE_URL, format!("http://127.0.0.1:{port}/kache"))]));
    let mut up = false;
    for _ in 0..200 {
        up = web.head("none").await.is_err_and(|error| error.fault == Fault::NotFound);
        if up || nginx.try_wait().is_ok_and(|ended| ended.is_some()) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    if up {
        conforms(Arc::new(web), Condition::Ignored).await;
    }
    let _ = nginx.kill();
    let _ = nginx.wait();
    assert!(up, "nginx with DAV didn't start");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_never_made() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = Folder::new(dir.path().join("not/mounted"));
    let faults = [
        folder.get("x", 9).await.map(drop).expect_err("gone").fault,
        folder.head("x").await.map(drop).expect_err("gone").fault,
        folder.put("a/x", body(b"x")).await.expect_err("gone").fault,
        folder.put_if_absent("x", body(b"x")).await.map(drop).expect_err("gone").fault,
        folder.list("x/", None).await.map(drop).expect_err("gone").fault,
    ];
    assert_eq!(faults, [Fault::NoBucket; 5]);
    assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 0);
}

/// Links and what isn't a file are no objects: a writer that isn't trusted could make a reader wait for ever, or write where
/// the folder isn't.
#[tokio::test]
async fn nothing_in_a_folder_leads_out_of_it() {
    let (dir, outside) = (tempfile::tempdir().expect("temp dir"), tempfile::tempdir().expect("temp dir"));
    let folder = Folder::new(dir.path());
    std::fs::write(outside.path().join("secret"), b"secret").expect("write");
    std::os::unix::fs::symlink(outside.path().join("secret"), dir.path().join("link")).expect("link");
    std::os::unix::fs::symlink(outside.path(), dir.path().join("dir")).expect("link");
    std::fs::create_dir(dir.path().join("folder")).expect("folder");
    let fifo = dir.path().join("fifo");
    rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, rustix::fs::Mode::from(0o644), 0)
        .expect("fifo");
    for name in ["link", "folder", "fifo"] {
        assert_eq!(folder.get(name, 99).await.expect_err(name).fault, Fault::NotFound, "{name}");
        assert_eq!(folder.head(name).await.expect_err(name).fault, Fault::NotFound, "{name}");
    }
    let denied = folder.put("dir/x", body(b"x")).await.expect_err("out of the folder");
    assert_eq!(denied.fault, Fault::Denied, "{denied}");
    assert!(!outside.path().join("x").exists());
    for name in ["../x", "/etc/passwd", "a/../../x", "", "a/", "./x"] {
        assert_eq!(folder.get(name, 9).await.expect_err(name).fault, Fault::Unsupported, "{name}");
        assert_eq!(folder.put(name, body(b"x")).await.expect_err(name).fault, Fault::Unsupported, "{name}");
    }
    folder.put("link", body(b"mine")).await.expect("replaced");
    assert_eq!(std::fs::read(outside.path().join("secret")).expect("read"), b"secret");
    let listed = folder.list("", None).await.expect("listed").objects;
    assert_eq!(listed.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["link"]);
}

/// Who reads while others write gets one of the versions, whole.
#[tokio::test]
async fn readers_of_a_folder_see_no_part_of_an_object() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = Folder::new(dir.path());
    folder.put("x", body(&[0; 50_000])).await.expect("written");
    let writing = tokio::spawn({
        let folder = Folder::new(dir.path());
        async move {
            for i in 1..60u8 {
                folder.put("x", body(&vec![i; 50_000 + usize::from(i)])).await.expect("written");
            }
        }
    });
    while !writing.is_finished() {
        let got = folder.get("x", 100_000).await.expect("read");
        assert!(got.len() == 50_000 + usize::from(got[0]) && got.iter().all(|byte| *byte == got[0]));
    }
    writing.await.expect("written");
}

#[tokio::test]
async fn what_a_killed_writer_left_in_a_folder_is_removed_after_a_day() {
    let dir = tempfile::tempdir().expect("temp dir");
    let incoming = dir.path().join(".incoming");
    std::fs::create_dir(&incoming).expect("folder");
    for (name, hours) in [("old", 30), ("young", 1)] {
        let file = std::fs::File::create(incoming.join(name)).expect("file");
        let time = std::time::SystemTime::now() - Duration::from_secs(hours * 3600);
        file.set_modified(time).expect("dated");
    }
    Folder::new(dir.path()).put("x", body(b"x")).await.expect("written");
    assert!(!incoming.join("old").exists() && incoming.join("young").exists());
}

#[tokio::test]
async fn folders_are_listed_in_pages() {
    let dir = tempfile::tempdir().expect("temp dir");
    let folder = Folder::new(dir.path());
    let mut names: Vec<String> = (0..2300).map(|i| format!("p/d{}/{}", i % 7, i)).collect();
    for name in &names {
        let path = dir.path().join(name);
        std::fs::create_dir_all(path.parent().expect("parent")).expect("folder");
        std::fs::write(path, b"x").expect("write");
    }
    names.sort_unstable();
    clouds::in_pages(&folder, "p/", &names).await;
}

#[tokio::test]
async fn answers_of_web_servers_are_told_apart() {
    let server = WebServer::start(Manners::Kind);
    let web = Web::connect(&http(&server.env()));
    let status = |status| Mischief::Status(status, "");
    for (mischief, expected) in [
        (status(401), Fault::Credentials),
        (status(403), Fault::Denied),
        (status(404), Fault::NotFound),
        (status(410), Fault::NotFound),
        (status(429), Fault::Throttled),
        (status(500), Fault::Unavailable),
        (status(302), Fault::WrongRegion),
        (status(206), Fault::Protocol),
    ] {
        server.arrange("GET", "/x", 1, mischief.clone());
        assert_eq!(web.get("x", 10).await.expect_err("failed").fault, expected, "{mischief:?}");
    }
    for (code, expected) in
        [(405, Fault::Unsupported), (413, Fault::TooLarge), (507, Fault::Full), (409, Fault::NoBucket)]
    {
        server.arrange("PUT", "/x", 2, status(code));
        assert_eq!(web.put("x", body(b"x")).await.expect_err("failed").fault, expected, "{code}");
        server.recover();
    }
    server.arrange("GET", "/x", 1, Mischief::StatusWith(503, "", "retry-after", "7".to_owned()));
    assert_eq!(web.get("x", 10).await.expect_err("failed").pause, Some(Duration::from_secs(7)));
    server.arrange(
        "GET",
        "/x",
        1,
        Mischief::StatusWith(301, "", "location", "https://elsewhere/".to_owned()),
    );
    let moved = web.get("x", 10).await.expect_err("failed");
    assert!(moved.detail.contains("https://elsewhere/"), "{moved}");
}

#[tokio::test]
async fn credentials_of_web_servers_are_sent_and_never_shown() {
    let server = WebServer::start(Manners::Kind);
    for (name, value) in [(env::KACHE_REMOTE_TOKEN, "hushhush"), (env::KACHE_REMOTE_TOKEN, "hush\u{fc}hush")]
    {
        let web = Web::connect(&http(&[(env::KACHE_REMOTE_URL, server.url()), (name, value.to_owned())]));
        let error = web.get("x", 10).await.expect_err("refused");
        let shown = format!("{error} {error:?} {web:?}");
        assert!(error.fault == Fault::Credentials && !shown.contains("hush"), "{shown}");
    }
    let env = [
        (env::KACHE_REMOTE_URL, server.url()),
        (env::KACHE_REMOTE_USER, "Aladdin".to_owned()),
        (env::KACHE_REMOTE_PASSWORD, "open:sesame".to_owned()),
    ];
    server.forget();
    let _ = Web::connect(&http(&env)).head("x").await;
    let sent = server.seen()[0].header("authorization").map(str::to_owned);
    assert_eq!(sent.as_deref(), Some("Basic QWxhZGRpbjpvcGVuOnNlc2FtZQ=="));
}

#[tokio::test]
async fn silent_and_absent_web_servers_end() {
    let patience = Patience {
        connect: Duration::from_millis(500),
        silence: Duration::from_millis(300),
        slowest_upload: 1 << 30,
    };
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = |address: String| [(env::KACHE_REMOTE_URL, format!("http://{address}/x"))];
    for (address, expected) in [
        (silent.local_addr().expect("an address").to_string(), Fault::Unavailable),
        ("127.0.0.1:9".to_owned(), Fault::Unreachable),
        ("no-such-host.invalid".to_owned(), Fault::Unreachable),
    ] {
        let web = Web::connect_with(&http(&url(address.clone())), patience);
        assert_eq!(web.head("x").await.expect_err("failed").fault, expected, "{address}");
    }
}
