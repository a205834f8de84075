//! Random frames at a running daemon: whole ones, damaged ones, half ones, from many connections that end as they like.
//! The daemon goes on to answer, and its store stays as it was.
//!
//! `KACHE_FUZZ_ROUNDS` says how many; the number of a round fixes what is sent.

use std::sync::atomic::{AtomicUsize, Ordering};

use kache_core::protocol::{self, Build, HEADER_BYTES};
use kache_core::remote::shared::About;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::tests::{connect, daemon, machine, question, status, stop};
use super::*;
use crate::remote::memory::Memory;
use crate::testing::Random;

const ROUNDS: u64 = 2000;
/// Connections at once.
const CROWD: u64 = 20;

/// Something in the place of a JSON value.
fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth > 3 { 6 } else { 8 }) {
        0 => Value::Null,
        1 => json!(random.number()),
        2 => json!(-1.5e300),
        3 => json!("x".repeat(random.below(600))),
        4 => json!(["find", "status", "/../..", "\u{0}\n", "serde"][random.below(5)]),
        5 => json!(Digest::of(&[random.byte()])),
        6 => (0..random.below(40)).map(|_| value(random, depth + 1)).collect(),
        _ => json!({ "session": value(random, depth + 1), "dir": value(random, depth + 1) }),
    }
}

/// A request with some of its parts replaced.
fn request(honest: &Request, random: &mut Random) -> Vec<u8> {
    let mut json = serde_json::to_value(honest).expect("JSON");
    for _ in 0..random.below(3) {
        let parts = json.as_object_mut().expect("an object");
        let names: Vec<String> = parts.keys().cloned().collect();
        let name = &names[random.below(names.len())];
        match parts.get_mut(name) {
            Some(Value::Object(inner)) if random.below(2) == 0 => {
                let names: Vec<String> = inner.keys().cloned().collect();
                let name = names[random.below(names.len())].clone();
                inner.insert(name, value(random, 0));
            }
            // What would end it is said at the end.
            _ if name == "ask" => {}
            _ => drop(parts.insert(name.clone(), value(random, 0))),
        }
    }
    protocol::encode(&json).unwrap_or_default()
}

/// What is sent in a round.
fn bytes(honest: &Request, random: &mut Random) -> Vec<u8> {
    let mut frame = request(honest, random);
    if frame.is_empty() {
        return frame;
    }
    for _ in 0..random.below(3) {
        let at = random.below(frame.len());
        match random.below(5) {
            0 => frame[at] ^= 1 << random.below(8),
            1 => frame.truncate(at.max(1)),
            2 => frame.extend((0..random.below(300)).map(|_| random.byte()).collect::<Vec<_>>()),
            3 => frame = (0..=random.below(200)).map(|_| random.byte()).collect(),
            _ if frame.len() > HEADER_BYTES => frame[8] = random.byte(),
            _ => {}
        }
    }
    // A damaged word must not become the one that ends it.
    if frame.windows(4).any(|word| word == b"stop") { Vec::new() } else { frame }
}

#[tokio::test]
async fn random_frames_take_nothing_down() {
    let rounds = std::env::var("KACHE_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().expect("a number"));
    static PANICS: AtomicUsize = AtomicUsize::new(0);
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::Relaxed);
        usual(info);
    }));
    let machine = machine(&Arc::new(Memory::new()));
    let stored = machine.compile("demo", b"object code", b"warning", &[]);
    let snapshot = Seed {
        remote: super::tests::remote(),
        about: About {
            manifest_key: "host".parse().expect("a label"),
            lockfile: Digest::of(b"lock"),
            compiler: Digest::of(b"compiler"),
            cargo_home: "/cargo".to_owned(),
        },
        context: Digest::of(b"context"),
        dir: machine.dir.path().to_str().expect("UTF-8").to_owned(),
        session: String::new(),
        patience_ms: 1,
        ambient: None,
    };
    let honest = [question(&stored, &[stored.key], Build::default()), Request::Seed(Box::new(snapshot))];
    let running = daemon(&machine);
    for crowd in 0..rounds.div_ceil(CROWD) {
        let mut connections = Vec::new();
        for round in crowd * CROWD..(crowd + 1) * CROWD {
            let random = &mut Random::new(round);
            let mut stream = connect(&machine).await;
            let frame = bytes(&honest[random.below(2)], random);
            let cut = random.below(frame.len() + 1);
            // It may have been refused before all of it was sent.
            let _ = stream.write_all(&frame[..cut]).await;
            match random.below(4) {
                // Gone in the middle.
                0 => drop(stream),
                _ => connections.push((stream, frame[cut..].to_vec(), random.below(2) == 0)),
            }
        }
        for (stream, rest, reads) in &mut connections {
            let _ = stream.write_all(rest).await;
            let _ = stream.shutdown().await;
            if *reads {
                let mut answer = Vec::new();
                let _ = stream.read_to_end(&mut answer).await;
            }
        }
    }
    assert_eq!(status(&machine).await.pid, std::process::id(), "it answers");
    assert_eq!(PANICS.load(Ordering::Relaxed), 0, "something in it fell over");
    assert_eq!(machine.store().entry_count().expect("counted"), 1);
    assert!(machine.store().owed_uploads(None).expect("listed").is_empty());
    stop(&machine, running).await;
}
