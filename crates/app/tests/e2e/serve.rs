//! `kache serve`: another machine, with another home and another store, builds from this one's store over HTTP.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Stdio};

use kache_testkit::S3;
use serde_json::Value;

use crate::daemon::Machine;
use crate::fixtures::ALL_KINDS;
use crate::remote::{command, machine_with, moved, ok};
use crate::seeding::{LIB, SCRIPT, Upstream, assert_fresh, assert_idle, recorded, seeded};
use crate::seeding_remote::become_another;
use crate::support::{Lab, Outcomes as _, lean_lab};

/// `kache serve` of a machine's store; it is killed when dropped.
pub struct Served {
    process: Child,
    url: String,
}

impl Served {
    pub fn start(lab: &Lab, more: &[&str]) -> Self {
        Self::of(lab, lab.cache_dir(), more)
    }

    /// The same of another store.
    fn of(lab: &Lab, store: &Path, more: &[&str]) -> Self {
        let mut command = lab.command(lab.wrapper());
        command.env("KACHE_CACHE_DIR", store);
        command.args(["serve", "--listen", "127.0.0.1:0", "--json"]).args(more);
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kache runs");
        let mut line = String::new();
        let mut out = BufReader::new(process.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("one line");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(said["version"], 1);
        Self { process, url: said["url"].as_str().expect("an address").to_owned() }
    }

    /// Its address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// What makes another machine use it.
    fn env(&self) -> Vec<(&'static str, String)> {
        vec![("KACHE_REMOTE_URL", self.url.clone()), ("KACHE_READ_ONLY", "1".to_owned())]
    }

    /// Ends it by a signal; it must end well, and have said nothing else.
    fn end(mut self, signal: &str) {
        let sent = std::process::Command::new("kill").args([signal, &self.process.id().to_string()]).status();
        assert!(sent.expect("kill runs").success());
        let status = self.process.wait().expect("it ends");
        let mut said = String::new();
        self.process.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
        assert!(status.success() && said.is_empty(), "{signal}: {status}: {said}");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_fresh_machine_pulls_what_another_one_serves() {
    let here = lean_lab();
    let one = here.project("one", ALL_KINDS);
    // The server is there before anything is built: it looks at the store when it is asked.
    let served = Served::start(&here, &[]);
    one.cargo("build").ok();
    let there = machine_with(served.env());
    let two = moved(&there, &one);
    let said = ok(&two, "sync");
    assert!(said.contains("Nothing is pushed: ") && !said.contains("Pulled 0 entries"), "{said}");
    two.cargo("build").ok().all_hit();
    two.cargo("run").same();
    two.nothing_to_do("build");
    served.end("-TERM");
    // Without its server it builds like any other machine.
    two.cargo("build --release").ok();
    assert_eq!(command(&two, "sync --pull").output().expect("kache runs").status.code(), Some(1));
}

#[test]
fn daemons_fetch_from_a_machine_that_serves() {
    let here = lean_lab();
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let served = Served::start(&here, &[]);
    let there = Machine::with(served.env());
    let two = moved(&there, &one);
    let run = two.cargo("build").ok();
    run.all_hit();
    let is_from_there = |source: &Value| source == "remote" || source == "prefetch";
    assert!(run.events.iter().all(|event| is_from_there(&event.json["source"])), "{run}");
    two.cargo("run").same();
    two.nothing_to_do("build");
    there.daemon("stop");
    served.end("-INT");
}

/// Dependencies are in place before Cargo looks, and nobody has saved anything.
#[test]
fn a_machine_that_serves_fills_fresh_target_directories() {
    let lab = Machine::with(Vec::new());
    lab.set_env("KACHE_DAEMON", "0");
    let one = Upstream::new(&lab, SCRIPT, LIB).user(&lab);
    recorded(&one.cargo("run"));
    become_another(&lab, "b");
    let served = Served::of(&lab, &lab.root().join("b/store of the one before"), &[]);
    for (name, value) in served.env() {
        lab.set_env(name, value);
    }
    lab.set_env("KACHE_DAEMON", "1");
    let two = one.checkout("two");
    let run = two.cargo("run").same();
    assert_eq!((seeded(&run), run.tally().misses), ((4, 1), 0), "{run}");
    assert_fresh(&run);
    assert_idle(&two.cargo("run"));
    lab.daemon("stop");
}

/// What is served is signed, so that the other side need not trust the network; a stranger's isn't taken.
#[test]
fn what_is_served_is_signed() {
    const PRIVATE: &str = "MC4CAQAwBQYDK2VwBCIEILP2jBQzU8D6r08U2KiHwZpVloQnLn0a0dviey3OFGKI";
    const PUBLIC: &str = "MCowBQYDK2VwAyEAVaWsN35x3G/LhFWbltTFO8ibi79WcszEMBKg78MNq1Y=";
    let here = lean_lab();
    let one = here.project("one", ALL_KINDS);
    one.cargo("build").ok();
    let key = here.root().join("kache.key");
    std::fs::write(&key, PRIVATE).expect("written");
    let key = key.display().to_string();
    for (more, hits) in [(&["--signing-key", key.as_str()][..], true), (&[], false)] {
        let served = Served::start(&here, more);
        let there = machine_with(served.env());
        there.set_env("KACHE_S3_TRUSTED_KEYS", PUBLIC);
        let two = moved(&there, &one);
        let pulled = command(&two, "sync --pull").output().expect("kache runs");
        assert_eq!(pulled.status.success(), hits, "{}", String::from_utf8_lossy(&pulled.stderr));
        let run = two.cargo("build").ok();
        assert_eq!(run.tally().misses == 0, hits, "{run}");
    }
    // Who believes some keys and has none to sign with has nothing to serve.
    here.set_env("KACHE_S3_TRUSTED_KEYS", PUBLIC);
    let server = S3::start();
    for (name, value) in server.env() {
        here.set_env(name, value);
    }
    let refused = here.cli(&["serve", "--listen", "127.0.0.1:0"]);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && said.contains("--signing-key"), "{said}");
}
