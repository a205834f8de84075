//! A store that is served, asked by the client of web servers, by whole transfers, and by hostile bytes on a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use kache_core::config::{Backend, Settings, env};
use kache_core::provenance::Provenance;
use tokio::sync::oneshot;

use super::*;
use crate::remote::web::Web;
use crate::remote::{Body as Sent, Fault, Remote};
use crate::testing::{Machine, Stored};
use crate::transfer::{Fetched, Policy, Transfer, TransferError};
use crate::trust::Trust;

const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI";
const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";

fn policy(signing: Option<&str>, trusted: &[&str]) -> Policy {
    let trusted: Vec<String> = trusted.iter().map(|key| (*key).to_owned()).collect();
    Policy { compression_level: 3, trust: Trust::new(signing, &trusted).expect("keys"), ..Policy::default() }
}

fn machine(policy: Policy) -> Machine {
    Machine::new(&Arc::default(), policy)
}

/// The server of a machine's store, in this test's process; it ends when dropped.
struct Served {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Served {
    fn start(machine: &Machine, policy: Policy, limits: Limits, packs_bytes_max: u64) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel::<()>();
        let store = Arc::clone(machine.transfer.store());
        let objects = Arc::new(Objects::new(store, policy, packs_bytes_max));
        tokio::spawn(async move {
            let stop = async { stopped.await.unwrap_or(()) };
            serve(listener, objects, limits, stop).await.expect("it serves");
        });
        Self { address, _stop: stop }
    }

    fn of(machine: &Machine, policy: Policy) -> Self {
        Self::start(machine, policy, Limits::default(), 1 << 30)
    }

    fn web(&self) -> Arc<Web> {
        let url = format!("http://{}", self.address);
        let read = |name: &str| (name == env::KACHE_REMOTE_URL).then(|| url.clone().into());
        let (settings, _) = Settings::resolve(None, read).expect("settings");
        match &settings.remote().expect("a remote").backend {
            Backend::Http(http) => Arc::new(Web::connect(http)),
            other => panic!("{other:?}"),
        }
    }

    /// Another machine that asks it.
    fn client(&self, prefix: &str, policy: Policy) -> (Machine, Transfer) {
        let there = machine(Policy::default());
        let transfer = Transfer::new(Arc::clone(there.transfer.store()), self.web(), prefix, policy);
        (there, transfer)
    }

    /// What comes back for these bytes until the server ends the connection.
    async fn raw(&self, sent: &[u8]) -> String {
        let (address, sent) = (self.address, sent.to_vec());
        let asked = tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).expect("connected");
            stream.set_read_timeout(Some(Duration::from_secs(60))).expect("patience");
            // The server may have said no before everything is sent.
            let _ = stream.write_all(&sent);
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer);
            String::from_utf8_lossy(&answer).into_owned()
        });
        asked.await.expect("asked")
    }
}

async fn fetched(transfer: &Transfer, stored: &Stored) -> Result<Fetched, TransferError> {
    transfer.fetch_inputs(&stored.dir, stored.unit).await?;
    transfer.fetch_entry(&stored.dir, &stored.key).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_store_has_is_read_as_from_any_remote() {
    let here = machine(Policy::default());
    let small = here.compile("small", b"a library", b"a warning", &[]);
    let noise: Vec<u8> = {
        let mut random = crate::testing::Random::new(7);
        (0..3 << 20).map(|_| random.byte()).collect()
    };
    let large = here.compile("large", &noise, b"", &[]);
    // Packs are made again where none may be kept.
    for (packs_bytes_max, prefix) in [(1 << 30, "artifacts"), (0, "another/prefix")] {
        let served = Served::start(&here, policy(None, &[]), Limits::default(), packs_bytes_max);
        let (there, transfer) = served.client(prefix, policy(None, &[]));
        for stored in [&small, &large] {
            let came = fetched(&transfer, stored).await.expect("fetched");
            assert!(matches!(came, Fetched::Imported { .. }), "{came:?}");
            assert_eq!(there.store().records(&stored.unit).expect("read").records.len(), 1);
            let (mine, theirs) = (here.store(), there.store());
            let read = |store: &kache_store::Store| {
                let entry = store.peek_entry(&stored.key).expect("read").expect("there");
                entry
                    .blobs()
                    .map(|blob| std::fs::read(store.blob_path(&blob)).expect("a blob"))
                    .collect::<Vec<_>>()
            };
            assert!(read(mine) == read(theirs));
        }
        let keys = transfer.keys();
        let web = served.web();
        for name in [keys.pack(&large.dir, &large.key), keys.manifest(&large.dir, &large.key)] {
            let length = web.head(&name).await.expect("there");
            assert_eq!(web.get(&name, length).await.expect("read").len() as u64, length, "{name}");
            assert_eq!(web.get(&name, length - 1).await.expect_err("too long").fault, Fault::TooLarge);
        }
        assert_eq!(
            web.put("artifacts/x", Sent::of(b"x".to_vec())).await.expect_err("no").fault,
            Fault::Unsupported
        );
        // What is no longer in the store isn't served, whatever was packed before.
        if packs_bytes_max == 0 {
            here.store().drop_entry(&small.key).expect("dropped");
            assert_eq!(
                web.head(&keys.pack(&small.dir, &small.key)).await.expect_err("gone").fault,
                Fault::NotFound
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_signed_and_what_may_not_be_signed_stays() {
    let here = machine(Policy::default());
    let own = here.compile("own", b"own", b"", &[]);
    let secret = here.compile("secret", b"secret", b"", &["MY_TOKEN"]);
    let foreign = here.compile("foreign", b"foreign", b"", &[]);
    let mut entry = foreign.entry.clone();
    entry.provenance = Provenance::Unsigned;
    let evidence = here.store().evidence(&foreign.key).expect("read").expect("there");
    here.store().publish(&foreign.key, &entry, &evidence).expect("published");
    let signed = Served::of(&here, policy(Some(PRIVATE), &[]));
    let unsigned = Served::of(&here, policy(None, &[]));
    let absent = |came: &Result<Fetched, TransferError>| matches!(came, Ok(Fetched::Absent));
    let imported = |came: &Result<Fetched, TransferError>| matches!(came, Ok(Fetched::Imported { .. }));
    let refused = |came: &Result<Fetched, TransferError>| matches!(came, Err(TransferError::Refused { .. }));
    type Check = fn(&Result<Fetched, TransferError>) -> bool;
    type Case<'a> = (&'a Served, &'a [&'a str], [(&'a Stored, Check); 3]);
    let cases: [Case<'_>; 3] = [
        (&signed, &[PUBLIC], [(&own, imported), (&secret, absent), (&foreign, absent)]),
        (&unsigned, &[PUBLIC], [(&own, refused), (&secret, absent), (&foreign, refused)]),
        (&unsigned, &[], [(&own, imported), (&secret, absent), (&foreign, imported)]),
    ];
    for (served, trusted, expected) in cases {
        let (_, transfer) = served.client("artifacts", policy(None, trusted));
        for (stored, is_expected) in expected {
            let came = fetched(&transfer, stored).await;
            assert!(is_expected(&came), "{} with {trusted:?}: {came:?}", stored.entry.crate_name);
        }
    }
    // The key of a result that stays here is told to nobody.
    let (there, transfer) = unsigned.client("artifacts", policy(None, &[]));
    transfer.fetch_inputs(&secret.dir, secret.unit).await.expect("asked");
    assert!(
        there.store().records(&secret.unit).expect("read").records.iter().all(|record| record.last.is_none())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_objects_can_be_read() {
    let here = machine(Policy::default());
    let stored = here.compile("demo", b"content", b"", &[]);
    std::fs::write(here.store().root().join("secret"), b"hush").expect("write");
    let served = Served::of(&here, policy(None, &[]));
    let (dir, key) = (&stored.dir, &stored.key);
    let pack = format!("v3/packs/{dir}/{key}.tar.zst");
    let root = here.store().root().display().to_string();
    for (target, status) in [
        (format!("/artifacts/{pack}"), 200),
        (format!("/{pack}?x=1"), 200),
        ("/".to_owned(), 404),
        ("/artifacts".to_owned(), 404),
        (format!("/../{pack}"), 404),
        (format!("/artifacts/./{pack}"), 404),
        (format!("/artifacts/v3/packs/../packs/{dir}/{key}.tar.zst"), 404),
        (format!("/artifacts/v3/packs/{dir}/..%2f..%2fsecret.tar.zst"), 404),
        (format!("/artifacts/v3/packs/other/{key}.tar.zst"), 404),
        (format!("/artifacts/v3/packs/{dir}/{key}.tar.zst/"), 404),
        (format!("/artifacts/v3/packs/{dir}/{key}.json"), 404),
        (format!("/artifacts/v3/packs/{dir}/{}.tar.zst", key.to_string().to_uppercase()), 404),
        (format!("{root}/secret"), 404),
        (format!("/..{root}/secret"), 404),
        ("/../../../../etc/passwd".to_owned(), 404),
        ("/%2e%2e/%2e%2e/etc/passwd".to_owned(), 404),
        ("/etc/passwd%00.json".to_owned(), 404),
        (format!("/v1/entries/{}/{key}", &key.to_string()[..2]), 404),
        ("/artifacts/v3/doctor.txt".to_owned(), 404),
        ("/artifacts/_manifests/v3/main/shards/x.json".to_owned(), 404),
        (format!("/artifacts/_manifests/snapshots/{key}"), 404),
        ("/artifacts/_manifests/any-key.json".to_owned(), 200),
        (format!("http://elsewhere.example/{pack}"), 200),
        ("*".to_owned(), 404),
    ] {
        let head = format!("GET {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        let answer = served.raw(head.as_bytes()).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{target}: {answer:.200}");
        assert!(!answer.contains("hush") && !answer.contains("root:"), "{target}");
    }
    for method in ["PUT", "POST", "DELETE", "MKCOL", "PROPFIND", "OPTIONS", "TRACE", "CONNECT", "PATCH"] {
        let target = if method == "CONNECT" { "x:1".to_owned() } else { format!("/artifacts/{pack}") };
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc"
        );
        let answer = served.raw(head.as_bytes()).await;
        assert!(answer.starts_with("HTTP/1.1 405 "), "{method}: {answer:.200}");
    }
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(64 << 10));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "x: y\r\n".repeat(5000));
    for bad in [
        long.as_bytes(),
        many.as_bytes(),
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\r\n\r\n\0\0\0 x",
    ] {
        let answer = served.raw(bad).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer:.200}");
    }
    let head = format!("HEAD /{pack} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let answer = served.raw(head.as_bytes()).await;
    assert!(answer.contains("content-length: ") && answer.ends_with("\r\n\r\n"), "{answer}");
}

/// Clients that send nothing, half a request, or never read an answer hold no place for ever, and others wait for one.
#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_end_and_others_get_their_places() {
    let here = machine(Policy::default());
    let mut random = crate::testing::Random::new(3);
    let noise: Vec<u8> = (0..24 << 20).map(|_| random.byte()).collect();
    let stored = here.compile("large", &noise, b"", &[]);
    let limits = Limits { connections_max: 1, silence: Duration::from_millis(300), slowest: u64::MAX };
    let served = Served::start(&here, policy(None, &[]), limits, 1 << 30);
    let pack = format!("/v3/packs/{}/{}.tar.zst", stored.dir, stored.key);
    for sent in ["", "GET / HT", &format!("GET {pack} HTTP/1.1\r\nhost: x\r\n\r\n")] {
        let mut slow = TcpStream::connect(served.address).expect("connected");
        slow.write_all(sent.as_bytes()).expect("sent");
        // There is one place, which this one gets after the other.
        let (_there, transfer) = served.client("artifacts", policy(None, &[]));
        let came = transfer.fetch_manifest(&stored.dir, &stored.key).await.expect("fetched");
        assert!(came.is_some());
        slow.set_read_timeout(Some(Duration::from_secs(60))).expect("patience");
        let (mut read, mut buffer) = (0, vec![0; 1 << 20]);
        // The end, or a reset; not all of the pack.
        while let Ok(count @ 1..) = slow.read(&mut buffer) {
            read += count;
        }
        assert!(read < noise.len(), "{sent}: {read} bytes");
    }
}
