use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use kache_core::remote::shared::About;

use super::*;

/// A store, and settings that name a remote.
struct World {
    _dir: tempfile::TempDir,
    store: Store,
    settings: Settings,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("open");
        let env = |name: &str| (name == env::KACHE_S3_BUCKET).then(|| "bucket".into());
        let (settings, _) = Settings::resolve(None, env).expect("settings");
        Self { _dir: dir, store, settings }
    }

    /// A client whose attempts to start a daemon come to nothing.
    fn daemon(&self) -> Daemon<'_> {
        let program = Ok(PathBuf::from("/nowhere/kache"));
        Daemon { program, ..Daemon::of(&self.store, &self.settings).expect("a remote") }
    }

    fn listen(&self) -> UnixListener {
        UnixListener::bind(self.store.socket_address().expect("an address").path()).expect("bound")
    }

    fn find(&self) -> Answer {
        let names = Names { crate_name: "demo", package: "demo" };
        self.daemon().find(UnitKey(Digest::of(b"u")), names, &[], &Build::default())
    }

    fn note(&self) -> Option<String> {
        self.store.avoided_daemon(self.daemon().remote())
    }
}

/// Reads a request and answers with these bytes, then waits for the client to go.
fn answer_once(listener: UnixListener, bytes: Vec<u8>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        let mut header = [0; HEADER_BYTES];
        stream.read_exact(&mut header).expect("a header");
        let mut body = vec![0; protocol::body_length(&header).expect("a header")];
        stream.read_exact(&mut body).expect("a body");
        stream.write_all(&bytes).expect("answered");
        let _ = stream.read(&mut [0]);
        body
    })
}

/// A daemon that makes way is asked again until it is gone, and then the next one.
#[test]
fn the_next_daemon_is_asked_when_one_makes_way() {
    let world = World::new();
    let listener = world.listen();
    let served = thread::spawn(move || {
        for reply in [Reply::Unavailable(Unavailable::Outdated), Reply::Arrived] {
            let (mut stream, _) = listener.accept().expect("a client");
            let is_last = reply == Reply::Arrived;
            let mut header = [0; HEADER_BYTES];
            stream.read_exact(&mut header).expect("a header");
            let mut body = vec![0; protocol::body_length(&header).expect("a header")];
            stream.read_exact(&mut body).expect("a body");
            stream.write_all(&frames(&[reply])).expect("answered");
            if !is_last {
                // One that got in just before the end.
                drop(listener.accept().expect("a client"));
            }
        }
    });
    assert_eq!(world.find(), Answer::Arrived);
    served.join().expect("served");
    assert_eq!(world.note(), None);
}

fn frames(replies: &[Reply]) -> Vec<u8> {
    replies.iter().flat_map(|reply| protocol::encode(reply).expect("short")).collect()
}

#[test]
fn without_a_remote_there_is_no_daemon() {
    let world = World::new();
    for on in [env::KACHE_LOCAL_ONLY, "", env::KACHE_DAEMON] {
        let value = if on == env::KACHE_DAEMON { "0" } else { "1" };
        let variables = |name: &str| match name {
            _ if name == on => Some(value.into()),
            env::KACHE_S3_BUCKET if !on.is_empty() => Some("bucket".into()),
            _ => None,
        };
        let (settings, _) = Settings::resolve(None, variables).expect("settings");
        assert!(Daemon::of(&world.store, &settings).is_none(), "{on}");
    }
}

#[test]
fn answers_are_taken_as_they_are() {
    for (replies, answer) in [
        (vec![Reply::Arrived], Answer::Arrived),
        (vec![Reply::Working, Reply::Working, Reply::Arrived], Answer::Arrived),
        (vec![Reply::Absent], Answer::Nothing),
        (vec![Reply::Unavailable(Unavailable::Sick)], Answer::Nothing),
        (vec![Reply::Unavailable(Unavailable::Full)], Answer::Nothing),
        (vec![Reply::Refused { why: "about this unit".into() }], Answer::Nothing),
    ] {
        let world = World::new();
        let server = answer_once(world.listen(), frames(&replies));
        assert_eq!(world.find(), answer, "{replies:?}");
        assert_eq!(world.note(), None, "{replies:?}");
        let request = protocol::decode::<Request>(&server.join().expect("served")).expect("a request");
        let Request::Find(find) = request else { panic!("{request:?}") };
        assert_eq!((find.crate_name.as_str(), find.remote), ("demo", *world.daemon().remote()));
    }
}

/// A daemon that is older than the question refuses it; it is asked for units as ever.
#[test]
fn a_daemon_that_does_not_know_a_question_is_asked_others() {
    let world = World::new();
    let refusal = Reply::Refused { why: "unknown variant `seed`".into() };
    let server = answer_once(world.listen(), frames(&[refusal]));
    let daemon = world.daemon();
    let about = About {
        manifest_key: "host".parse().expect("a label"),
        lockfile: Digest::of(b"lock"),
        compiler: Digest::of(b"compiler"),
        cargo_home: "/cargo".to_owned(),
    };
    let wanted = Seed {
        remote: *daemon.remote(),
        about,
        context: Digest::of(b"context"),
        dir: "/w".to_owned(),
        session: "1-2".to_owned(),
        patience_ms: 0,
        ambient: daemon.ambient(),
    };
    assert_eq!(daemon.seed(wanted.clone()), Answer::Nothing);
    assert_eq!(world.note(), None);
    let request = protocol::decode::<Request>(&server.join().expect("served")).expect("a request");
    assert_eq!(request, Request::Seed(Box::new(wanted)));
}

#[test]
fn what_cannot_be_answered_leaves_a_note_and_is_not_asked_again() {
    let mut other_version = frames(&[Reply::Arrived]);
    other_version[4] = 77;
    let mut giant = frames(&[Reply::Arrived]);
    giant[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut nonsense = frames(&[Reply::Arrived]);
    nonsense.truncate(HEADER_BYTES + 2);
    nonsense[8..12].copy_from_slice(&2u32.to_le_bytes());
    for (bytes, note) in [
        (other_version, "version 77"),
        (giant, "4294967295 bytes"),
        (b"HTTP/1.1 400 Bad Request\r\n".to_vec(), "not a message of kache"),
        (nonsense, "makes no sense"),
    ] {
        let world = World::new();
        let server = answer_once(world.listen(), bytes);
        assert_eq!(world.find(), Answer::Nothing);
        assert!(world.note().is_some_and(|why| why.contains(note)), "{:?} has no {note:?}", world.note());
        server.join().expect("served");
        // Nobody listens any more: whoever asked now would try to start a daemon and say so in the note.
        let before = world.note();
        assert_eq!(world.find(), Answer::Nothing);
        assert_eq!(world.note(), before);
    }
}

#[test]
fn a_daemon_for_another_remote_is_avoided_by_those_who_mean_this_one() {
    let world = World::new();
    let server = answer_once(world.listen(), frames(&[Reply::Unavailable(Unavailable::OtherRemote)]));
    assert_eq!(world.find(), Answer::Nothing);
    server.join().expect("served");
    assert!(world.note().is_some());
    assert_eq!(world.store.avoided_daemon(&Digest::of(b"another")), None);
}

#[test]
fn an_absent_daemon_and_a_stale_socket_cost_a_note() {
    let world = World::new();
    assert_eq!(world.find(), Answer::Nothing);
    assert!(world.note().is_some_and(|why| why.contains("none could be started")), "{:?}", world.note());
    let world = World::new();
    drop(world.listen());
    assert!(world.store.socket_path().exists());
    assert_eq!(world.find(), Answer::Nothing);
    assert!(world.note().is_some_and(|why| why.contains("none could be started")), "{:?}", world.note());
}

#[test]
fn a_connection_that_ends_in_the_middle_costs_a_note() {
    let world = World::new();
    let listener = world.listen();
    let server = thread::spawn(move || listener.accept().map(drop).expect("a client"));
    assert_eq!(world.find(), Answer::Nothing);
    assert!(world.note().is_some());
    server.join().expect("no panic");
}

/// A stopped daemon: the kernel takes connections for it until its queue is full.
#[test]
fn a_hung_daemon_is_waited_for_once() {
    let world = World::new();
    let _listener = world.listen();
    let start = Instant::now();
    assert_eq!(world.find(), Answer::Nothing);
    assert!(start.elapsed() >= PATIENCE - PAUSE_MAX, "it was given its time");
    assert!(world.note().is_some_and(|why| why.contains("no sign of life")));
    let first = world.note();
    assert_eq!(world.find(), Answer::Nothing);
    assert_eq!(world.note(), first);
}

/// With a blocking socket this would never return.
#[test]
fn a_full_queue_of_connections_is_not_waited_in() {
    let world = World::new();
    let _listener = world.listen();
    let address = world.store.socket_address().expect("an address");
    let address = SocketAddrUnix::new(address.path()).expect("an address");
    let mut waiting = Vec::new();
    while let Ok(stream) = connect(&address) {
        waiting.push(stream);
    }
    assert_eq!(world.find(), Answer::Nothing);
    assert!(world.note().is_some_and(|why| why.contains("no more connections")), "{:?}", world.note());
}

#[test]
fn signs_of_life_extend_the_wait() {
    let world = World::new();
    let listener = world.listen();
    let (answered, done) = mpsc::channel::<()>();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client");
        for _ in 0..4 {
            stream.write_all(&frames(&[Reply::Working])).expect("written");
            thread::sleep(SILENCE_MAX / 3);
        }
        stream.write_all(&frames(&[Reply::Arrived])).expect("written");
        let _ = done.recv();
    });
    assert_eq!(world.find(), Answer::Arrived);
    assert_eq!(world.note(), None);
    drop(answered);
    server.join().expect("no panic");
}
