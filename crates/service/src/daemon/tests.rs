//! Whole daemons over real sockets, with buckets in memory.

use std::os::unix::fs::PermissionsExt;

use kache_core::event::{Event, Outcome};
use kache_core::process_stat::ProcessStat;
use kache_core::protocol::{self, Build, FRAME_BYTES_MAX, HEADER_BYTES};
use kache_core::remote::build::{Build as SavedBuild, BuildUnit};
use kache_core::remote::fit::{Kind, Shape};
use kache_core::remote::manifest::profile_of;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::bucket::Bucket;
use super::*;
use crate::remote::Fault;
use crate::remote::memory::{Memory, Mischief, Request as Asked};
use crate::testing::{Machine, Stored};
use crate::transfer::{BuildPlace, Policy};

pub fn remote() -> Digest {
    Digest::of(b"the remote")
}

pub fn machine(bucket: &Arc<Memory>) -> Machine {
    Machine::new(bucket, Policy { compression_level: 3, ..Policy::default() })
}

fn config(machine: &Machine) -> Config {
    Config {
        store: Arc::clone(machine.transfer.store()),
        remote: Some(("memory".to_owned(), remote())),
        ambient: None,
        read_only: false,
        slots: 8,
        idle: None,
        limit_bytes: u64::MAX,
        program: Program::at(std::path::Path::new("/nowhere/kache")),
        version: "test".to_owned(),
    }
}

/// Starts a daemon on a machine.
pub fn daemon(machine: &Machine) -> JoinHandle<End> {
    daemon_with(machine, config(machine))
}

fn daemon_with(machine: &Machine, config: Config) -> JoinHandle<End> {
    let endpoint = Endpoint::bind(&config.store).expect("bound");
    let backend = Arc::new(Bucket::new(machine.transfer.clone()));
    tokio::spawn(run(config, endpoint, Some(backend)))
}

pub async fn connect(machine: &Machine) -> UnixStream {
    UnixStream::connect(machine.store().socket_path()).await.expect("connected")
}

async fn reply(stream: &mut UnixStream) -> Reply {
    loop {
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).await.expect("a header");
        let mut body = vec![0; protocol::body_length(&header).expect("a header")];
        stream.read_exact(&mut body).await.expect("a body");
        match protocol::decode(&body).expect("a reply") {
            Reply::Working => {}
            reply => return reply,
        }
    }
}

async fn ask(machine: &Machine, request: &Request) -> Reply {
    let mut stream = connect(machine).await;
    stream.write_all(&protocol::encode(request).expect("short")).await.expect("sent");
    reply(&mut stream).await
}

pub async fn status(machine: &Machine) -> Status {
    match ask(machine, &Request::Status).await {
        Reply::Status(status) => *status,
        other => panic!("{other:?}"),
    }
}

pub async fn stop(machine: &Machine, daemon: JoinHandle<End>) {
    let reply = ask(machine, &Request::Stop { drain_ms: 20_000 }).await;
    assert!(matches!(reply, Reply::Stopping { .. }), "{reply:?}");
    assert_eq!(daemon.await.expect("no panic"), End::Stopped);
    assert!(!machine.store().socket_path().exists());
}

/// The question that a wrapper asks about a unit.
pub fn question(stored: &Stored, wanted: &[EntryKey], build: Build) -> Request {
    Request::Find(Box::new(Find {
        remote: remote(),
        unit: stored.unit,
        crate_name: stored.entry.crate_name.clone(),
        package: stored.entry.package.clone(),
        wanted: wanted.to_vec(),
        build,
        ambient: None,
    }))
}

fn owe(machine: &Machine, stored: &Stored) {
    machine.store().owe_upload(&stored.key, &remote()).expect("queued");
}

fn has(machine: &Machine, stored: &Stored) -> bool {
    machine.store().peek_entry(&stored.key).expect("readable").is_some()
}

/// Waits for something that has to come about.
async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A directory with this lockfile.
fn locking(lockfile: &str) -> tempfile::TempDir {
    let project = tempfile::tempdir().expect("temp dir");
    std::fs::write(project.path().join("Cargo.lock"), lockfile).expect("written");
    project
}

/// This process as a build's session.
fn session() -> String {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
    let start = ProcessStat::parse(&stat).expect("a line").start;
    format!("{}-{start}", std::process::id())
}

#[tokio::test]
async fn one_daemon_per_store_and_a_socket_that_was_left_behind_is_taken_over() {
    let machine = machine(&Arc::new(Memory::new()));
    let first = Endpoint::bind(machine.store()).expect("bound");
    assert!(matches!(Endpoint::bind(machine.store()), Err(BindError::Taken)));
    let mode = |path: &std::path::Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&machine.store().socket_path()), 0o600);
    assert_eq!(mode(&machine.store().daemon_dir()), 0o700);
    // As if it had been killed: the socket stays, nobody listens.
    drop(first);
    assert!(machine.store().socket_path().exists());
    machine.store().avoid_daemon(kache_store::rendezvous::Concerns::All, "hung").expect("noted");
    let daemon = daemon(&machine);
    assert_eq!(machine.store().avoided_daemon(&remote()), None, "a new daemon, a new chance");
    assert_eq!(status(&machine).await.pid, std::process::id());
    stop(&machine, daemon).await;
}

#[tokio::test]
async fn what_one_machine_uploads_another_is_given_when_it_asks() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let stored = here.compile("demo", b"object code", b"warning", &[]);
    owe(&here, &stored);
    let uploader = daemon(&here);
    until("uploaded", || here.store().owed_uploads(None).expect("listed").is_empty()).await;
    assert_eq!(status(&here).await.uploads.done, 1);
    stop(&here, uploader).await;

    let server = daemon(&there);
    let first = ask(&there, &question(&stored, &[], Build::default())).await;
    assert_eq!(first, Reply::Arrived, "the records");
    assert_eq!(there.store().records(&stored.unit).expect("readable").records.len(), 1);
    let second = ask(&there, &question(&stored, &[stored.key], Build::default())).await;
    assert_eq!(second, Reply::Arrived, "the entry");
    assert!(has(&there, &stored));
    let unknown = here.compile("other", b"never uploaded", b"", &[]);
    for _ in 0..3 {
        assert_eq!(ask(&there, &question(&unknown, &[unknown.key], Build::default())).await, Reply::Absent);
    }
    let demand = status(&there).await.demand;
    assert_eq!((demand.asked, demand.arrived, demand.absent), (5, 2, 3));
    // Two absences, twice; and, unless the entry was there first, that the records had come just before.
    assert!((4..=5).contains(&demand.remembered), "{demand:?}");
    stop(&there, server).await;
}

#[tokio::test]
async fn a_build_that_means_another_remote_gets_nothing() {
    let bucket = Arc::new(Memory::new());
    let machine = machine(&bucket);
    let stored = machine.compile("demo", b"x", b"", &[]);
    let daemon = daemon(&machine);
    let Request::Find(mut find) = question(&stored, &[], Build::default()) else { panic!("a question") };
    find.remote = Digest::of(b"a stranger's");
    let answer = ask(&machine, &Request::Find(find)).await;
    assert_eq!(answer, Reply::Unavailable(Unavailable::OtherRemote));
    machine.store().owe_upload(&stored.key, &Digest::of(b"a stranger's")).expect("queued");
    stop(&machine, daemon).await;
    assert_eq!(bucket.names(), Vec::<String>::new());
    assert_eq!(machine.store().owed_uploads(None).expect("listed").len(), 1);
}

#[tokio::test]
async fn hostile_clients_lose_their_connection_and_nothing_else() {
    let machine = machine(&Arc::new(Memory::new()));
    let daemon = daemon(&machine);
    let mut giant = protocol::encode(&Request::Status).expect("short");
    giant[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut newer = protocol::encode(&Request::Status).expect("short");
    newer[4] = 99;
    let frame = |body: &[u8]| {
        let mut frame = protocol::encode(&Request::Status).expect("short");
        frame.truncate(8);
        frame.extend(u32::try_from(body.len()).expect("short").to_le_bytes());
        frame.extend(body);
        frame
    };
    let deep = "[".repeat(FRAME_BYTES_MAX);
    let evil = br#"{"ask":"find","remote":"x","unit":"../../etc","crate_name":"../..","package":"","wanted":[],"build":{}}"#;
    for bytes in [
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 5000],
        giant,
        newer,
        frame(b"{}"),
        frame(b"\xff\xfe"),
        frame(deep.as_bytes()),
        frame(evil),
    ] {
        let mut stream = connect(&machine).await;
        let _ = stream.write_all(&bytes).await;
        let mut rest = Vec::new();
        // Refused or cut off, but soon, and never waited for.
        let end = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await;
        assert!(end.is_ok(), "{:?}", &bytes[..8]);
    }
    // Some say nothing, some stop in the middle, some leave at once.
    let mut silent = Vec::new();
    for i in 0..100 {
        let mut stream = connect(&machine).await;
        if i % 3 == 0 {
            let _ = stream.write_all(&protocol::encode(&Request::Status).expect("short")[..i % 12 + 1]).await;
        }
        if i % 2 == 0 {
            silent.push(stream);
        }
    }
    assert_eq!(status(&machine).await.version, "test");
    stop(&machine, daemon).await;
}

#[tokio::test]
async fn a_full_daemon_says_so_at_once() {
    let machine = machine(&Arc::new(Memory::new()));
    let daemon = daemon(&machine);
    let mut all = Vec::new();
    for _ in 0..256 {
        all.push(connect(&machine).await);
    }
    let mut one_more = connect(&machine).await;
    assert_eq!(reply(&mut one_more).await, Reply::Unavailable(Unavailable::Full));
    drop(all);
    // As soon as places are free again.
    let mut reply = Reply::Unavailable(Unavailable::Full);
    while !matches!(reply, Reply::Status(_)) {
        let mut stream = connect(&machine).await;
        let frame = protocol::encode(&Request::Status).expect("short");
        if stream.write_all(&frame).await.is_ok() {
            reply = self::reply(&mut stream).await;
        }
    }
    stop(&machine, daemon).await;
}

#[tokio::test]
async fn a_remote_that_is_down_is_soon_left_alone() {
    for (fault, requests) in [(Fault::NoBucket, 3), (Fault::Credentials, 1)] {
        let bucket = Arc::new(Memory::new());
        let machine = machine(&bucket);
        bucket.arrange(Asked::Get, "", u32::MAX, Mischief::Fail(fault));
        let daemon = daemon(&machine);
        for i in 0..10 {
            let stored = machine.compile(&format!("c{i}"), b"x", b"", &[]);
            let answer = ask(&machine, &question(&stored, &[], Build::default())).await;
            assert_eq!(answer, Reply::Unavailable(Unavailable::Sick));
        }
        assert_eq!(bucket.count(Asked::Get), requests, "{fault:?}");
        assert!(status(&machine).await.sick.is_some_and(|why| why.contains("arranged")));
        stop(&machine, daemon).await;
    }
}

#[tokio::test]
async fn a_bucket_that_lies_puts_nothing_into_the_store() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let stored = here.compile("demo", &b"object code ".repeat(1000), b"", &[]);
    here.transfer.push_entry(stored.key).await.expect("pushed");
    let pack = here.transfer.keys().pack(&stored.dir, &stored.key);
    let mut bytes = bucket.object(&pack).expect("there");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    bucket.set_object(&pack, bytes);
    let daemon = daemon(&there);
    let answer = ask(&there, &question(&stored, &[stored.key], Build::default())).await;
    assert_eq!(answer, Reply::Arrived, "the records are fine");
    let answer = ask(&there, &question(&stored, &[stored.key], Build::default())).await;
    assert_eq!(answer, Reply::Absent);
    assert!(!has(&there, &stored));
    stop(&there, daemon).await;
}

/// The packages of a lockfile are brought once a build has asked its first question, those of other shapes only when
/// it asks for them.
#[tokio::test]
async fn the_rest_of_a_build_is_there_before_it_is_asked_for() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let all: Vec<Stored> =
        (0..20).map(|i| here.compile(&format!("dep{i}"), format!("code {i}").as_bytes(), b"", &[])).collect();
    for stored in &all {
        here.transfer.push_entry(stored.key).await.expect("pushed");
    }
    let package = |i: usize| {
        let version = if i == 19 { "2.0.0" } else { "1.0.0" };
        format!("[[package]]\nname = \"dep{i}\"\nversion = \"{version}\"\n")
    };
    let twice = "[[package]]\nname = \"dep5\"\nversion = \"3.0.0\"\n";
    let project = locking(&((0..20).map(package).collect::<String>() + twice));
    let below = project.path().join("member/src");
    std::fs::create_dir_all(&below).expect("made");
    let evidence = here.store().evidence(&all[0].key).expect("readable").expect("kept");
    let build = Build {
        session: session(),
        dir: below.display().to_string(),
        host: "x86_64-unknown-linux-gnu".to_owned(),
        host_toolchain: Digest::of(b"rustc").to_string(),
        toolchain: Digest::of(b"rustc").to_string(),
        mode: "check".to_owned(),
        profile: profile_of(&evidence.unit_fields),
        ..Build::default()
    };
    let daemon = daemon(&there);
    let answer = ask(&there, &question(&all[0], &[], build.clone())).await;
    assert_eq!(answer, Reply::Arrived);
    // It was a check; what is there are builds.
    until("listed", || bucket.count(Asked::List) >= 20).await;
    let build = Build { mode: "build".to_owned(), ..build };
    let answer = ask(&there, &question(&all[0], &[all[0].key], build)).await;
    assert_eq!(answer, Reply::Arrived);
    until("prefetched", || all[..19].iter().all(|stored| has(&there, stored))).await;
    assert!(!has(&there, &all[19]), "another version than the lockfile's");
    let entry = there.store().peek_entry(&all[5].key).expect("readable").expect("there");
    assert_eq!(entry.prefetched_for, session(), "from the moment it is there");
    let mut hit = Event::new("dep5", Outcome::Hit);
    hit.entry_key = Some(all[5].key);
    there.store().append(&hit).expect("appended");
    let mut prefetch = status(&there).await.prefetch;
    for _ in 0..1000 {
        if prefetch.used == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
        prefetch = status(&there).await.prefetch;
    }
    assert_eq!((prefetch.builds, prefetch.used), (1, 1));
    assert!(prefetch.entries >= 18 && prefetch.bytes > prefetch.used_bytes, "{prefetch:?}");
    assert_eq!(bucket.count(Asked::List), 21, "one for shards, and each crate once, whatever its versions");
    stop(&there, daemon).await;
}

/// Where somebody has saved what builds of the lockfile needed, nothing is listed and nothing else is fetched.
#[tokio::test]
async fn a_saved_build_is_fetched_without_a_listing() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let names = ["a", "b", "c", "unneeded"];
    let all: Vec<Stored> = names.iter().map(|name| here.compile(name, name.as_bytes(), b"", &[])).collect();
    for stored in &all {
        here.transfer.push_entry(stored.key).await.expect("pushed");
    }
    let lockfile = "[[package]]\nname = \"a\"\nversion = \"1.0.0\"\n";
    let project = locking(lockfile);
    let shape = |mode: &str| Shape { mode: mode.to_owned(), profile: "opt-level=3".to_owned() };
    let unit = |stored: &Stored| BuildUnit {
        crate_name: stored.entry.crate_name.clone(),
        package: stored.entry.package.clone(),
        package_version: stored.entry.package_version.clone(),
        unit_key: stored.unit,
        entry_key: stored.key,
        kind: Some(Kind {
            target: String::new(),
            toolchain: Digest::of(b"rustc").to_string(),
            shape: shape("build"),
        }),
        slot: stored.entry.crate_name.clone(),
    };
    let saved = SavedBuild {
        lockfile: Digest::of(lockfile.as_bytes()),
        toolchain: Digest::of(b"rustc"),
        saved_s: 1,
        units: all[..3].iter().map(unit).collect(),
    };
    let target = "x86_64-unknown-linux-gnu";
    let place = BuildPlace { manifest_key: target.parse().expect("a label"), namespace: None };
    here.transfer.save_build(&place, &saved).await.expect("saved");
    let build = Build {
        session: session(),
        dir: project.path().display().to_string(),
        host: target.to_owned(),
        host_toolchain: saved.toolchain.to_string(),
        // The first unit that asks is for another target.
        toolchain: Digest::of(b"rustc with another target").to_string(),
        target: "wasm32-wasip1".to_owned(),
        mode: "build".to_owned(),
        profile: "opt-level=3".to_owned(),
    };
    let daemon = daemon(&there);
    ask(&there, &question(&all[0], &[], build.clone())).await;
    // What is saved for the host is fetched once the host's units turn out to be a part of this build.
    let host = Build { target: String::new(), toolchain: saved.toolchain.to_string(), ..build };
    ask(&there, &question(&all[1], &[], host.clone())).await;
    until("prefetched", || all[..3].iter().all(|stored| has(&there, stored))).await;
    assert_eq!(bucket.count(Asked::List), 0);
    assert!(!has(&there, &all[3]));
    // Nobody has saved what a check needs.
    ask(&there, &question(&all[2], &[], Build { mode: "check".to_owned(), ..host })).await;
    until("listed", || bucket.count(Asked::List) > 0).await;
    stop(&there, daemon).await;
}

/// A build that has fallen out of the manifest is found in the shard of a namespace that nobody here has heard of.
#[tokio::test]
async fn a_shard_is_found_without_its_namespace() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let (asked, other) = (here.compile("asked", b"1", b"", &[]), here.compile("other", b"2", b"", &[]));
    here.transfer.push_entry(other.key).await.expect("pushed");
    let lockfile = "[[package]]\nname = \"unheard-of\"\nversion = \"1.0.0\"\n";
    let project = locking(lockfile);
    let unit = BuildUnit {
        crate_name: "other".to_owned(),
        package: "other".to_owned(),
        package_version: "1.0.0".to_owned(),
        unit_key: other.unit,
        entry_key: other.key,
        kind: None,
        slot: "other".to_owned(),
    };
    let (lockfile, toolchain) = (Digest::of(lockfile.as_bytes()), Digest::of(b"rustc"));
    let saved = SavedBuild { lockfile, toolchain, saved_s: 1, units: vec![unit] };
    let (label, namespace) = ("host".parse().expect("a label"), "main".parse().expect("a label"));
    let place = BuildPlace { manifest_key: label, namespace: Some(namespace) };
    here.transfer.save_build(&place, &saved).await.expect("saved");
    bucket.remove_object("artifacts/_manifests/host.json");
    let build = Build {
        session: session(),
        dir: project.path().display().to_string(),
        host: "host".to_owned(),
        host_toolchain: toolchain.to_string(),
        ..Build::default()
    };
    let daemon = daemon(&there);
    ask(&there, &question(&asked, &[], build)).await;
    until("prefetched", || has(&there, &other)).await;
    stop(&there, daemon).await;
}

#[tokio::test]
async fn an_idle_daemon_ends_and_takes_its_socket_along() {
    let machine = machine(&Arc::new(Memory::new()));
    let idle = Some(Duration::from_millis(400));
    let daemon = daemon_with(&machine, Config { idle, ..config(&machine) });
    assert_eq!(daemon.await.expect("no panic"), End::Idle);
    assert!(!machine.store().socket_path().exists());
    assert_eq!(machine.store().daemon_pid().expect("asked"), None);
}

#[tokio::test]
async fn a_daemon_whose_cache_directory_is_gone_ends() {
    let machine = machine(&Arc::new(Memory::new()));
    let idle = Some(Duration::from_secs(60));
    let daemon = daemon_with(&machine, Config { idle, ..config(&machine) });
    std::fs::remove_dir_all(machine.store().root()).expect("removed");
    assert_eq!(daemon.await.expect("no panic"), End::Orphaned);
}

#[tokio::test]
async fn a_daemon_whose_program_was_replaced_finishes_and_makes_way() {
    let bucket = Arc::new(Memory::new());
    let machine = machine(&bucket);
    let program = machine.dir.path().join("kache");
    std::fs::write(&program, "old").expect("write");
    let idle = Some(Duration::from_secs(60));
    let daemon = daemon_with(&machine, Config { idle, program: Program::at(&program), ..config(&machine) });
    std::fs::write(&program, "newer").expect("write");
    assert_eq!(daemon.await.expect("no panic"), End::Replaced);
    assert!(Endpoint::bind(machine.store()).is_ok());
}

/// What can't be uploaded in time is uploaded by the next daemon.
#[tokio::test]
async fn stopping_waits_for_uploads_and_leaves_the_rest_in_the_queue() {
    let bucket = Arc::new(Memory::new());
    let machine = machine(&bucket);
    let names: Vec<Stored> = (0..10).map(|i| machine.compile(&format!("c{i}"), b"x", b"", &[])).collect();
    names.iter().for_each(|stored| owe(&machine, stored));
    let first = daemon(&machine);
    stop(&machine, first).await;
    assert_eq!(machine.store().owed_uploads(None).expect("listed").len(), 0, "all of it in time");

    let late = machine.compile("late", b"y", b"", &[]);
    owe(&machine, &late);
    bucket.arrange(Asked::Put, "late", 1, Mischief::Hang);
    let second = daemon(&machine);
    until("it tries", || bucket.count(Asked::Put) > 30).await;
    let reply = ask(&machine, &Request::Stop { drain_ms: 2000 }).await;
    assert_eq!(reply, Reply::Stopping { owed: 1 });
    // Who asks in between is told so at once.
    let answer = ask(&machine, &question(&late, &[], Build::default())).await;
    assert_eq!(answer, Reply::Unavailable(Unavailable::Ending));
    assert_eq!(second.await.expect("no panic"), End::Stopped);
    assert_eq!(machine.store().owed_uploads(None).expect("listed").len(), 1);
    let third = daemon(&machine);
    until("uploaded", || machine.store().owed_uploads(None).expect("listed").is_empty()).await;
    stop(&machine, third).await;
    let packs = bucket.names().into_iter().filter(|name| name.contains("/packs/")).count();
    assert_eq!(packs, 11);
}

/// Somebody removes the cache directory and goes on building: the daemon that was there takes nothing of the new one's
/// away.
#[tokio::test]
async fn a_daemon_of_a_removed_cache_leaves_the_next_one_alone() {
    let machine = machine(&Arc::new(Memory::new()));
    let idle = Some(Duration::from_secs(60));
    let first = daemon_with(&machine, Config { idle, ..config(&machine) });
    assert_eq!(status(&machine).await.version, "test");
    std::fs::remove_dir_all(machine.store().root()).expect("removed");
    let again = Arc::new(Store::open(machine.dir.path()).expect("open"));
    let second =
        daemon_with(&machine, Config { store: again, version: "second".to_owned(), ..config(&machine) });
    assert_eq!(first.await.expect("no panic"), End::Orphaned);
    assert_eq!(status(&machine).await.version, "second");
    stop(&machine, second).await;
}

/// A prefetch that hangs keeps nobody from ending the daemon, and neither does a build that goes on for days.
#[tokio::test]
async fn what_is_fetched_ahead_is_given_up_when_the_daemon_ends() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let (asked, ahead) = (here.compile("a", b"a", b"", &[]), here.compile("b", b"b", b"", &[]));
    for stored in [&asked, &ahead] {
        here.transfer.push_entry(stored.key).await.expect("pushed");
    }
    let project = locking("[[package]]\nname = \"b\"\nversion = \"1.0.0\"\n");
    bucket.arrange(Asked::Get, "/packs/b/", u32::MAX, Mischief::Hang);
    let evidence = here.store().evidence(&asked.key).expect("readable").expect("kept");
    let build = Build {
        session: session(),
        dir: project.path().display().to_string(),
        toolchain: Digest::of(b"rustc").to_string(),
        mode: "build".to_owned(),
        profile: profile_of(&evidence.unit_fields),
        ..Build::default()
    };
    let daemon = daemon(&there);
    ask(&there, &question(&asked, &[], build)).await;
    until("the pack hangs", || bucket.count(Asked::Get) >= 5).await;
    let begun = std::time::Instant::now();
    let reply = ask(&there, &Request::Stop { drain_ms: 600_000 }).await;
    assert_eq!(reply, Reply::Stopping { owed: 0 });
    assert_eq!(daemon.await.expect("no panic"), End::Stopped);
    assert!(begun.elapsed() < Duration::from_secs(300), "the time for uploads is not waited for");
}

/// The session tokens of a shell expire. The daemon that was started from it is refused, and ends once a build comes
/// that has others.
#[tokio::test]
async fn expired_credentials_make_way_for_those_of_a_build() {
    let bucket = Arc::new(Memory::new());
    let machine = machine(&bucket);
    let (old, new) = (Some(Digest::of(b"old token")), Some(Digest::of(b"new token")));
    let daemon = daemon_with(&machine, Config { ambient: old, ..config(&machine) });
    let ask_with = async |i: i32, ambient| {
        let stored = machine.compile(&format!("c{i}"), b"x", b"", &[]);
        let Request::Find(find) = question(&stored, &[], Build::default()) else { panic!("a question") };
        ask(&machine, &Request::Find(Box::new(Find { ambient, ..*find }))).await
    };
    assert_eq!(ask_with(0, new).await, Reply::Absent, "as long as its own serve, they do");
    bucket.arrange(Asked::Get, "", u32::MAX, Mischief::Fail(Fault::Credentials));
    for i in 1..6 {
        assert_eq!(ask_with(i, old).await, Reply::Unavailable(Unavailable::Sick));
    }
    assert_eq!(ask_with(6, None).await, Reply::Unavailable(Unavailable::Sick));
    assert_eq!(ask_with(7, new).await, Reply::Unavailable(Unavailable::Outdated));
    assert_eq!(daemon.await.expect("no panic"), End::Outdated);
}

/// All that may be of use is asked for at once, and the first entry that comes is the answer.
#[tokio::test]
async fn one_slow_key_holds_up_no_other() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    let (one, other) = (here.compile("demo", b"1", b"", &[]), here.compile("demo", b"2", b"", &[]));
    here.transfer.push_entry(other.key).await.expect("pushed");
    bucket.arrange(Asked::Get, &one.key.to_string(), u32::MAX, Mischief::Hang);
    let daemon = daemon(&there);
    let answer = ask(&there, &question(&one, &[one.key, other.key], Build::default())).await;
    assert_eq!(answer, Reply::Arrived);
    assert!(has(&there, &other));
    assert!(status(&there).await.sick.is_none(), "nobody has waited too long");
    daemon.abort();
}

/// Of a crate that has very many entries, the newest are looked at, whatever their keys are.
#[tokio::test]
async fn a_crowded_crate_is_prefetched_from_its_newest_entries() {
    let bucket = Arc::new(Memory::new());
    let (here, there) = (machine(&bucket), machine(&bucket));
    for i in 0..100 {
        let mut stored = here.compile("crowd", format!("{i}").as_bytes(), b"", &[]);
        stored.entry.package_version = "0.9.0".to_owned();
        let evidence = here.store().evidence(&stored.key).expect("readable").expect("kept");
        here.store().publish(&stored.key, &stored.entry, &evidence).expect("published");
        here.transfer.push_entry(stored.key).await.expect("pushed");
    }
    let newest: Vec<Stored> =
        (0..5).map(|i| here.compile("crowd", format!("new {i}").as_bytes(), b"", &[])).collect();
    for stored in &newest {
        here.transfer.push_entry(stored.key).await.expect("pushed");
    }
    let project = locking("[[package]]\nname = \"crowd\"\nversion = \"1.0.0\"\n");
    let evidence = here.store().evidence(&newest[0].key).expect("readable").expect("kept");
    let build = Build {
        session: session(),
        dir: project.path().display().to_string(),
        toolchain: Digest::of(b"rustc").to_string(),
        mode: "build".to_owned(),
        profile: profile_of(&evidence.unit_fields),
        ..Build::default()
    };
    let daemon = daemon(&there);
    let other = here.compile("other", b"x", b"", &[]);
    let before = bucket.count(Asked::Get);
    ask(&there, &question(&other, &[], build)).await;
    until("prefetched", || newest.iter().all(|stored| has(&there, stored))).await;
    let gets = bucket.count(Asked::Get) - before;
    assert!(gets < 64 + 5 + 10, "{gets}: the newest manifests, and one pack each");
    stop(&there, daemon).await;
}
