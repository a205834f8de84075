//! The suite for clouds and the cache service of GitHub Actions, on servers that check who asks.

use std::sync::Arc;
use std::time::Duration;

use kache_core::config::{Backend, env};
use kache_testkit::{Azure as AzureServer, GitHub, Google, Mischief};

use super::super::cloud::azure::Azure;
use super::super::cloud::gcs::Gcs;
use super::super::gha::Gha;
use super::super::wire::Patience;
use super::super::{Fault, Object, Remote};
use super::{Condition, backend, body, conforms};

fn google(env: &[(&str, String)]) -> Gcs {
    match backend(env) {
        Backend::Gcs(gcs) => Gcs::connect(&gcs, Patience::default()),
        other => panic!("{other:?}"),
    }
}

fn azure(env: &[(&str, String)]) -> Azure {
    match backend(env) {
        Backend::Azure(azure) => Azure::connect(&azure, Patience::default()),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_bucket_of_google() {
    let server = Google::start();
    conforms(Arc::new(google(&server.env())), Condition::Heeded).await;
    assert_eq!(server.count("POST", "/token"), 1, "a token is used for more than one request");
}

#[tokio::test]
async fn a_container_of_azure() {
    let server = AzureServer::start();
    conforms(Arc::new(azure(&server.env())), Condition::Heeded).await;
    assert!(server.seen().iter().all(|seen| !seen.query.contains("sig=")));
    let server = AzureServer::start();
    conforms(Arc::new(azure(&server.env_with_sas())), Condition::Heeded).await;
    conforms_in_pages(&azure(&server.env_with_string())).await;
}

/// The objects of a listing that has these 2300 names and comes in three pages.
pub(super) async fn in_pages(remote: &dyn Remote, prefix: &str, names: &[String]) -> Vec<Object> {
    let (mut objects, mut page, mut lengths) = (Vec::new(), None, Vec::new());
    while page.is_some() || lengths.is_empty() {
        let next = remote.list(prefix, page).await.expect("listed");
        lengths.push(next.objects.len());
        objects.extend(next.objects);
        page = next.next;
    }
    let is_same = objects.iter().map(|object| &object.name).eq(names);
    assert_eq!((is_same, lengths), (true, vec![1000, 1000, 300]));
    objects
}

/// Listings of clouds go on where the last page ended.
async fn conforms_in_pages(remote: &dyn Remote) {
    let names: Vec<String> = (0..2300).map(|i| format!("many/{i:04}&<")).collect();
    for name in &names {
        remote.put(name, body(b"x")).await.expect("written");
    }
    for object in in_pages(remote, "many/", &names).await {
        assert_eq!(object.modified_s, 1_767_323_045, "{object:?}");
    }
}

#[tokio::test]
async fn listings_of_google_come_in_pages() {
    let server = Google::start();
    conforms_in_pages(&google(&server.env())).await;
}

fn github(env: &[(&str, String)]) -> Gha {
    match backend(env) {
        Backend::Gha(gha) => Gha::connect(&gha, Patience::default()),
        other => panic!("{other:?}"),
    }
}

/// Few large bundles, and few requests that the service counts, however many objects there are.
#[tokio::test]
async fn the_cache_service_of_github() {
    let server = GitHub::start();
    let here = Arc::new(github(&server.env()));
    conforms(here.clone(), Condition::Heeded).await;
    assert_eq!(server.names(), Vec::<String>::new());
    here.flush().await.expect("uploaded");
    let names = server.names();
    assert!(names.len() == 2 && names[0].contains("-bundle-") && names[1].contains("-index-"), "{names:?}");
    assert!(server.requests() <= 7, "{}", server.requests());
    // Another job reads the same, by two counted requests.
    let asked = server.requests();
    let there = github(&server.env());
    let page = here.list("", None).await.expect("listed");
    assert_eq!(there.list("", None).await.expect("listed").objects.len(), page.objects.len());
    for Object { name, size, .. } in &page.objects {
        assert_eq!(there.head(name).await.expect("there"), *size);
        assert_eq!(there.get(name, *size).await.expect(name), here.get(name, *size).await.expect(name));
    }
    assert_eq!(there.get("a/large", 9).await.expect_err("too large").fault, Fault::TooLarge);
    assert!(page.objects.len() > 10 && server.requests() - asked <= 4, "{}", server.requests() - asked);
}

/// Two jobs write at the same time: what each has saved is found. A pull request sees its own and the branch's, the branch
/// doesn't see the pull request's.
#[tokio::test]
async fn jobs_of_github_lose_nothing_of_each_other() {
    let server = GitHub::start();
    let (one, two) = (github(&server.env()), github(&server.env()));
    for (job, name) in [(&one, "one"), (&two, "two")] {
        assert_eq!(job.get(name, 9).await.expect_err("none").fault, Fault::NotFound);
        job.put(name, body(name.as_bytes())).await.expect("put");
    }
    let (first, second) = tokio::join!(one.flush(), two.flush());
    first.and(second).expect("uploaded");
    let pull_request = github(&server.env_of_pull_request());
    pull_request.put("three", body(b"three")).await.expect("put");
    pull_request.flush().await.expect("uploaded");
    for (env, expected) in [(server.env(), 2), (server.env_of_pull_request(), 3)] {
        let job = github(&env);
        let found = job.list("", None).await.expect("listed").objects;
        assert_eq!(found.len(), expected, "{found:?}");
        for object in found {
            assert_eq!(job.get(&object.name, 9).await.expect("read"), object.name.as_bytes());
        }
    }
    // Who may only read is told so when something is to be saved.
    let reader = github(&server.env_of(&[("refs/heads/main", 1)]));
    assert_eq!(reader.get("one", 9).await.expect("read"), b"one");
    reader.put("four", body(b"4")).await.expect("collected");
    assert_eq!(reader.flush().await.expect_err("denied").fault, Fault::Denied);
    // What the service has dropped is missing, and is left out of the next index.
    server.evict("-bundle-");
    let job = github(&server.env());
    assert_eq!(job.get("one", 9).await.expect_err("gone").fault, Fault::NotFound);
    assert_eq!(job.head("one").await.expect_err("gone").fault, Fault::NotFound);
    job.put("five", body(b"five")).await.expect("put");
    job.flush().await.expect("uploaded");
    let found = github(&server.env()).list("", None).await.expect("listed").objects;
    assert!(
        found.iter().all(|object| object.name != "one") && found.iter().any(|object| object.name == "five")
    );
}

/// After "too many requests" none is sent for as long as the service says, and nothing that was collected is lost.
#[tokio::test]
async fn limits_of_github_are_respected() {
    let server = GitHub::start();
    let job = github(&server.env());
    job.put("x", body(b"x")).await.expect("collected");
    server.limit(1);
    let error = job.flush().await.expect_err("limited");
    assert_eq!((error.fault, error.pause), (Fault::Throttled, Some(Duration::from_secs(1))), "{error}");
    let asked = server.requests();
    for _ in 0..20 {
        let error = job.flush().await.expect_err("waits");
        assert!(error.fault == Fault::Throttled && error.pause.is_some(), "{error}");
    }
    assert_eq!(server.requests(), asked, "none is sent meanwhile");
    server.limit(usize::MAX);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    job.flush().await.expect("uploaded");
    assert_eq!(github(&server.env()).get("x", 9).await.expect("read"), b"x");

    for (mischief, expected) in [
        (Mischief::Status(500, "x"), Fault::Unavailable),
        (Mischief::Status(401, "x"), Fault::Credentials),
        (Mischief::Status(403, "x"), Fault::Denied),
        (Mischief::Page, Fault::Unavailable),
    ] {
        server.arrange("POST", "CreateCacheEntry", 1, mischief.clone());
        job.put("y", body(b"y")).await.expect("collected");
        let error = job.flush().await.expect_err("failed");
        assert_eq!(error.fault, expected, "{mischief:?} {error}");
        job.flush().await.expect("the next attempt has it");
        assert_eq!(github(&server.env()).get("y", 9).await.expect("read"), b"y");
        server.arrange("GET", "/blob/", 2, mischief.clone());
        let there = github(&server.env());
        let error = there.get("y", 9).await.expect_err("failed");
        assert!(!format!("{error} {error:?} {there:?}").contains("hush"), "{error}");
        server.recover();
        assert_eq!(there.get("y", 9).await.expect("read"), b"y");
    }
    let env = server.env().into_iter().map(|(name, value)| (name, value.replace(".hush", ".hushhush")));
    let error = github(&env.collect::<Vec<_>>()).get("x", 9).await.expect_err("refused");
    assert!(error.fault == Fault::Credentials && !format!("{error:?}").contains("hush"), "{error:?}");
}

/// Every way in which machines come by tokens of Google's.
#[tokio::test]
async fn google_knows_service_accounts_logins_runners_and_machines() {
    let server = Google::start();
    for (env, from) in [
        (server.env(), "the service account builds@testkit"),
        (server.env_with(&server.login()), "a login in"),
        (server.env_with(&server.federation()), "workload identity federation in"),
        (server.env_on_machine(), "the metadata server"),
    ] {
        let remote = google(&env);
        let said = remote.credentials().await.expect(from).expect("a source");
        assert!(said.starts_with(&format!("credentials from {from}")), "{said}");
        remote.put("x", body(b"x")).await.expect(from);
        // An hour later, or after the key was changed.
        server.revoke();
        tokio::time::sleep(Duration::from_millis(250)).await;
        let refused = remote.get("x", 9).await.expect_err("revoked");
        assert_eq!((refused.fault, refused.is_renewed), (Fault::Credentials, true), "{refused}");
        assert_eq!(remote.get("x", 9).await.expect(from), b"x");
    }
}

#[tokio::test]
async fn credentials_of_clouds_are_never_shown() {
    let server = Google::start();
    let file = server.service_account();
    let secret = std::fs::read_to_string(&file).expect("read");
    let line = "MIIE";
    assert!(secret.contains(line));
    for wrong in [
        secret.replace(line, "AAAA"),
        secret.replace("builds@", "others@"),
        "not JSON: hush".to_owned(),
        secret.replace("service_account", "executable"),
    ] {
        std::fs::write(&file, &wrong).expect("written");
        let remote = google(&server.env_with(&file));
        let error = remote.get("x", 9).await.expect_err("refused");
        let shown = format!("{error} {error:?} {remote:?}");
        assert_eq!(error.fault, Fault::Credentials, "{shown}");
        assert!(!shown.contains("hush") && !shown.contains("AAAA") && !shown.contains(line), "{shown}");
    }
    let server = AzureServer::start();
    for (key, value) in [
        ("AZURE_STORAGE_KEY", "aHVzaA=="),
        ("AZURE_STORAGE_KEY", "hush!"),
        ("AZURE_STORAGE_SAS_TOKEN", "sig=hush"),
    ] {
        let mut env = server.env();
        env.retain(|(name, _)| *name != "AZURE_STORAGE_KEY");
        env.push((key, value.to_owned()));
        let remote = azure(&env);
        let error = remote.get("x", 9).await.expect_err("refused");
        let shown = format!("{error} {error:?} {remote:?}");
        assert_eq!(error.fault, Fault::Credentials, "{shown}");
        assert!(!shown.contains("hush") && !shown.contains("aHVzaA"), "{shown}");
    }
}

#[tokio::test]
async fn answers_of_clouds_are_told_apart() {
    let (gcs, blobs) = (Google::start(), AzureServer::start());
    let nowhere = |env: Vec<(&'static str, String)>, name: &'static str| {
        [env, vec![(name, "elsewhere".to_owned())]].concat()
    };
    let missing: [Box<dyn Remote>; 2] = [
        Box::new(google(&nowhere(gcs.env(), env::KACHE_GCS_BUCKET))),
        Box::new(azure(&nowhere(blobs.env(), env::KACHE_AZURE_CONTAINER))),
    ];
    for remote in missing {
        assert_eq!(remote.list("x/", None).await.expect_err("none").fault, Fault::NoBucket, "{remote:?}");
        assert_eq!(remote.put("x", body(b"x")).await.expect_err("none").fault, Fault::NoBucket, "{remote:?}");
    }
    let kinds: [(&kache_testkit::Server, Box<dyn Remote>); 2] =
        [(&gcs, Box::new(google(&gcs.env()))), (&blobs, Box::new(azure(&blobs.env())))];
    for (server, remote) in kinds {
        for (mischief, expected) in [
            (Mischief::Status(403, "AuthorizationPermissionMismatch"), Fault::Denied),
            (Mischief::Status(429, "SlowDown"), Fault::Throttled),
            (Mischief::Status(503, "ServerBusy"), Fault::Throttled),
            (Mischief::Status(500, "InternalError"), Fault::Unavailable),
            (Mischief::Status(404, "BlobNotFound"), Fault::NotFound),
            (Mischief::Page, Fault::Unavailable),
        ] {
            server.arrange("GET", "build-cache", 1, mischief.clone());
            assert_eq!(
                remote.get("x", 9).await.expect_err("failed").fault,
                expected,
                "{remote:?} {mischief:?}"
            );
        }
        let busy = Mischief::StatusWith(503, "ServerBusy", "retry-after", "7".to_owned());
        server.arrange("GET", "build-cache", 1, busy);
        let error = remote.get("x", 9).await.expect_err("failed");
        assert_eq!(error.pause, Some(Duration::from_secs(7)), "{remote:?}");
    }
    // Where tokens come from may have trouble of its own, which passes.
    let remote = google(&gcs.env());
    for (mischief, expected) in [
        (Mischief::Status(500, "x"), Fault::Unavailable),
        (Mischief::Status(429, "x"), Fault::Throttled),
        (Mischief::Status(403, "x"), Fault::Credentials),
    ] {
        gcs.arrange("POST", "/token", 1, mischief.clone());
        assert_eq!(remote.get("x", 9).await.expect_err("failed").fault, expected, "{mischief:?}");
    }
    assert_eq!(remote.get("x", 9).await.expect_err("none").fault, Fault::NotFound);
}
