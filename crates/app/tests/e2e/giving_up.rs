//! Servers that never answer, ask for fewer requests for ever, fail for ever, or stop reading an upload: commands end after a
//! bounded time without progress, keep what was done, and say what is left. A server that takes no connections costs one
//! attempt for all.

use std::io::Read;
use std::net::TcpListener;
use std::process::Output;
use std::time::Duration;

use kache_testkit::{Mischief, Project, S3};

use crate::daemon::{Machine, of_kind};
use crate::fixtures::PAIR;
use crate::remote::{command, machine, ok};

const COMMANDS: &[&str] = &["sync --push", "sync --pull", "sync", "save-manifest"];
const FOR_EVER: u32 = u32::MAX;

/// A server that takes connections and requests, and says nothing.
fn silent() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        let mut open = Vec::new();
        for mut stream in listener.incoming().flatten() {
            let _ = stream.read(&mut [0; 4096]);
            open.push(stream);
        }
    });
    format!("http://{address}")
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Each command ends by itself with exit code 1 and one sentence about the stall.
#[track_caller]
fn give_up(project: &Project<'_>, what: &str) {
    for args in COMMANDS {
        let output = command(project, args).output().expect("kache runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{what}: kache {args}: {said}");
        assert_eq!(said.matches("moved nothing for 1 s").count(), 1, "{what}: kache {args}: {said}");
        assert!(said.contains("KACHE_S3_STALL_TIMEOUT"), "{what}: kache {args}: {said}");
    }
}

#[test]
fn commands_give_up_on_a_remote_that_moves_nothing() {
    let server = S3::start();
    let here = machine(&server);
    here.set_env("KACHE_S3_STALL_TIMEOUT", "1");
    let one = here.project("one", PAIR);
    one.cargo("build").ok();
    for (what, mischief) in [
        ("fewer requests", Mischief::Status(503, "SlowDown")),
        ("errors", Mischief::Status(500, "InternalError")),
        ("no answers", Mischief::Delay(Duration::from_secs(3600))),
    ] {
        for method in ["GET", "PUT", "HEAD"] {
            server.arrange(method, "", FOR_EVER, mischief.clone());
        }
        give_up(&one, what);
        server.recover();
    }
    here.set_env("KACHE_S3_ENDPOINT", silent());
    give_up(&one, "silence");
    let doctor = command(&one, "doctor").output().expect("kache runs");
    let shown = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(shown.contains("gave no more answers within 1 s"), "{shown}");
}

#[test]
fn what_was_done_before_a_stall_stays_and_the_next_run_goes_on() {
    let server = S3::start();
    let here = machine(&server);
    here.set_env("KACHE_S3_STALL_TIMEOUT", "2");
    let one = here.project("one", PAIR);
    one.cargo("build").ok();
    server.arrange("PUT", "/packs/app/", FOR_EVER, Mischief::Delay(Duration::from_secs(3600)));
    let output = command(&one, "sync --push --json").output().expect("kache runs");
    let said = said(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("moved nothing for 2 s") && said.contains("one transfer failed"), "{said}");
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&json["push"]["entries"], &json["failed"]), (&1.into(), &1.into()), "{json:#}");
    assert_eq!(of_kind(&server, "/manifests/dep/"), 1);
    server.recover();
    let said = ok(&one, "sync --push");
    assert!(said.contains("Pushed 1 entry"), "{said}");
}

/// Nobody listens: one sentence, and the attempts of one request, however many entries there are.
#[test]
fn a_server_that_takes_no_connections_is_told_once() {
    let server = S3::start();
    let here = machine(&server);
    let one = here.project("one", PAIR);
    one.cargo("build").ok();
    here.set_env("KACHE_S3_ENDPOINT", "http://127.0.0.1:9");
    for args in COMMANDS {
        let output = command(&one, args).output().expect("kache runs");
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "kache {args}: {said}");
        assert_eq!(said.matches("refused").count(), 1, "{args}: {said}");
        assert_eq!(said.matches("warning:").count(), 0, "{args}: {said}");
    }
}

/// A build whose server is away asks once; the next unit doesn't wait.
#[test]
fn a_build_waits_once_for_a_server_that_takes_no_connections() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_S3_ENDPOINT", "http://127.0.0.1:9");
    let built = machine.project("one", PAIR).cargo("build").ok();
    let sick = machine.status()["daemon"]["sick"].clone();
    assert!(sick.as_str().is_some_and(|why| why.contains("refused")), "{sick}");
    let waited: Vec<u64> = built.events.iter().map(|event| event.number("times/remote_us")).collect();
    let long = waited.iter().filter(|waited| **waited > 100_000).count();
    assert!(long <= 1, "one unit waits for the attempts: {waited:?}");
}
