//! The daemon behind real builds: it starts by itself, uploads behind the build, serves another machine, and leaves
//! nothing of itself in the build that started it. The bucket is a real S3 server in the test's process; a machine is a
//! sandbox of its own, with another home, another Cargo home and other paths.

use std::fs;
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use kache_testkit::{Mischief, S3, Tally};

use crate::fixtures::ALL_KINDS;
use crate::remote::moved;
use crate::support::{Lab, Outcomes as _, lean_lab};

/// A machine that shares through the server; its daemon ends with it.
pub struct Machine(Lab);

impl Machine {
    pub fn new(server: &S3) -> Self {
        Self::with(server.env())
    }

    /// A machine that shares through what these variables name.
    pub fn with(env: Vec<(&'static str, String)>) -> Self {
        let lab = lean_lab();
        for (name, value) in env {
            lab.set_env(name, value);
        }
        Self(lab)
    }

    /// Runs `kache daemon ACTION`; it must succeed.
    pub fn daemon(&self, action: &str) -> String {
        let args: Vec<&str> = ["daemon"].into_iter().chain(action.split(' ')).collect();
        let output = self.cli(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "kache daemon {action}: {said}");
        String::from_utf8_lossy(&output.stdout).into_owned() + &said
    }

    /// What the running daemon says of itself.
    pub fn status(&self) -> serde_json::Value {
        let output = self.cli(&["daemon", "status", "--json"]);
        serde_json::from_slice(&output.stdout).expect("JSON")
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        let pid = self.status()["daemon"]["pid"].as_u64().expect("it runs");
        u32::try_from(pid).expect("a process id")
    }

    /// Waits until no daemon runs.
    fn until_ended(&self) {
        within("the daemon's end", || self.cli(&["daemon", "status"]).status.code() == Some(3));
    }

    /// Waits until the daemon has uploaded everything, and ends it.
    pub fn finish_uploads(&self) {
        within("the uploads", || self.queue().is_empty());
        self.daemon("stop");
    }

    /// Names in the queue of uploads.
    pub fn queue(&self) -> Vec<PathBuf> {
        fs::read_dir(self.cache_dir().join("queue"))
            .expect("a queue")
            .flatten()
            .map(|item| item.path())
            .collect()
    }
}

impl Deref for Machine {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.0
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.cli(&["daemon", "stop"]);
    }
}

/// Waits for what should come by itself; says what it was when it doesn't.
#[track_caller]
pub fn within(what: &str, mut is_there: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_there() {
        assert!(begun.elapsed() < Duration::from_secs(120), "{what} didn't come");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn of_kind(server: &S3, part: &str) -> usize {
    server.names().iter().filter(|name| name.contains(part)).count()
}

/// Nobody said a word about daemons or transfers: the first machine builds, the second one builds, and hardly anything
/// is compiled there.
#[test]
fn what_one_machine_builds_another_is_served() {
    serves_another(&S3::start());
}

/// The same with every request taking its time.
#[test]
fn a_server_far_away_serves_as_well() {
    let server = S3::start();
    server.slow_down(Duration::from_millis(100));
    serves_another(&server);
}

fn serves_another(server: &S3) {
    let here = Machine::new(server);
    let one = here.project("one", ALL_KINDS);
    let built = one.cargo("build").ok();
    assert_eq!(built.tally().hits, 0, "{built}");
    here.finish_uploads();
    assert_eq!(of_kind(server, "/manifests/"), built.tally().results());
    assert_eq!(of_kind(server, "/packs/"), built.tally().results());

    let there = Machine::new(server);
    there.set_env("CARGO_HOME", there.make_cargo_home("somewhere/else"));
    let two = moved(&there, &one);
    let served = two.cargo("build").ok();
    let tally = served.tally();
    assert!(tally.hits * 100 >= tally.total() * 95, "{served}");
    let far = served
        .events
        .iter()
        .filter(|event| event.json["source"] == "remote" || event.json["source"] == "prefetch");
    assert_eq!(far.count(), tally.served(), "{served}");
    two.cargo("run").same();
    two.nothing_to_do("build");
    let stats = String::from_utf8_lossy(&there.cli(&["stats"]).stdout).into_owned();
    assert!(stats.contains("hits from"), "{stats}");
    let demand = &there.status()["daemon"]["demand"];
    assert!(demand["arrived"].as_u64() >= Some(1), "{demand}");
    // What is purged comes again, at once: the daemon doesn't remember having brought it.
    assert!(there.cli(&["purge", "--yes"]).status.success());
    two.wipe();
    let again = two.cargo("build").ok().tally();
    assert!(again.hits * 100 >= again.total() * 95, "{again:?}");
    let peak_kib = memory_kib(there.pid(), "VmHWM:");
    assert!(peak_kib < 256 << 10, "{peak_kib} KiB while it prefetched");
}

/// A figure of a process's memory.
fn memory_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("its status");
    let figure = status.lines().find_map(|line| line.strip_prefix(name)).expect("a figure");
    figure.split_whitespace().next().expect("a number").parse().expect("a number")
}

/// A Cargo home that has the user's downloads and unpacks them itself, as Cargo's homes do. In the sandbox's own ones
/// the sources lie behind a link, at the same real path on all machines.
fn unpacking_cargo_home(machine: &Machine, name: &str) -> PathBuf {
    let home = machine.make_cargo_home(name);
    let registry = home.join("registry");
    let users = fs::read_link(&registry).expect("a link to the user's registry");
    fs::remove_file(&registry).expect("unlink");
    fs::create_dir(&registry).expect("a registry");
    for part in ["cache", "index"] {
        std::os::unix::fs::symlink(users.join(part), registry.join(part)).expect("linked");
    }
    home
}

/// Crates of a registry lie in Cargo's home, which is elsewhere on the other machine: their paths are kept out of the
/// outputs, or in the key.
#[test]
fn crates_of_a_registry_serve_machines_with_another_cargo_home() {
    let server = S3::start();
    let here = Machine::new(&server);
    let files = [
        (
            "Cargo.toml",
            "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[dependencies]\n\
             itoa = \"1\"\nserde_json = \"1\"\nthiserror = \"2\"\n",
        ),
        (
            "src/main.rs",
            "fn main() {\n    println!(\"{}\", serde_json::json!({ \"n\": itoa::Buffer::new().format(7) }));\n}\n",
        ),
    ];
    here.set_env("CARGO_HOME", unpacking_cargo_home(&here, "cargo"));
    let one = here.project("one", &files);
    let built = one.cargo("build").ok();
    here.finish_uploads();
    let there = Machine::new(&server);
    there.set_env("CARGO_HOME", unpacking_cargo_home(&there, "somewhere/else"));
    let two = there.project("quite/another/place", &files);
    two.write("Cargo.lock", fs::read(one.path("Cargo.lock")).expect("a lockfile"));
    let served = two.cargo("build").ok();
    let tally = served.tally();
    // Build scripts that try out the compiler are handed on; those whose results came in time try nothing out.
    let units_of = |tally: &Tally| tally.hits + tally.misses + tally.dups;
    let units = units_of(&tally);
    assert_eq!(units, units_of(&built.tally()));
    assert!(units > 10 && tally.hits * 20 >= units * 19, "{served}");
    two.cargo("run").same();
    two.nothing_to_do("build");
}

/// Every word that a macro may be handed is an input, here also two that look like credentials. They count as such where
/// they are set: there nobody asks for the key that follows, and its result stays.
#[test]
fn what_looks_like_a_credential_is_one_where_it_is_set() {
    let server = S3::start();
    let machine = || {
        let machine = Machine::new(&server);
        machine.set_env("KACHE_S3_SECRET_ENV", "DEPLOY_PIN");
        machine
    };
    let files = [
        ("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"mac\", \"user\"]\n"),
        (
            "mac/Cargo.toml",
            "[package]\nname = \"mac\"\nversion = \"0.1.0\"\nedition = \"2021\"\n[lib]\nproc-macro = true\n",
        ),
        (
            "mac/src/lib.rs",
            "use proc_macro::TokenStream;\n#[proc_macro]\npub fn var(input: TokenStream) -> TokenStream {\n\
             format!(\"{:?}\", std::env::var(input.to_string()).is_ok()).parse().unwrap()\n}\n",
        ),
        (
            "user/Cargo.toml",
            "[package]\nname = \"user\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\
             [dependencies]\nmac = { path = \"../mac\" }\n",
        ),
        (
            "user/src/lib.rs",
            "pub const PIN: bool = mac::var!(DEPLOY_PIN);\npub const TOKEN: bool = mac::var!(API_TOKEN);\n",
        ),
    ];
    let here = machine();
    let built = here.project("one", &files).cargo("build").ok();
    here.finish_uploads();
    assert_eq!(of_kind(&server, "/manifests/"), built.tally().results());
    let there = machine();
    there.project("quite/another/place", &files).cargo("build").ok().all_hit();
    for (variable, value) in [("DEPLOY_PIN", "1234"), ("API_TOKEN", "swordfish")] {
        let owner = machine();
        server.forget();
        let built = owner.project("mine", &files).cargo("build").env(variable, value).ok();
        let event = built.events.iter().find(|event| event.crate_name == "user").expect("compiled");
        assert!(event.outcome != "hit" && !event.entry_key.is_empty(), "{built}");
        assert!(server.count("GET", "/inputs/user/") > 0, "its records were asked for");
        owner.finish_uploads();
        let is_told = |seen: &kache_testkit::Seen| seen.path.contains(&event.entry_key);
        assert!(!server.seen().iter().any(is_told), "{variable}: {}", event.entry_key);
    }
}

/// The daemon is started by a wrapper below Cargo below `make`: none of them waits for it, it holds none of their
/// descriptors, it is nobody's child, and it needs little memory.
#[test]
fn a_daemon_that_a_build_starts_is_no_part_of_the_build() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let project = machine.project("one", ALL_KINDS);
    project.write("Makefile", "all:\n\t+cargo build\n");
    let cargo = project.cargo("build").command();
    let mut make = Command::new("make");
    make.args(["-j2"]).current_dir(project.dir()).env_clear();
    make.envs(cargo.get_envs().filter_map(|(name, value)| Some((name, value?))));
    make.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    // Returns only when every descriptor of the pipes is closed.
    let output = make.output().expect("make runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let pid = machine.pid();
    let proc = PathBuf::from(format!("/proc/{pid}"));
    let mut links = Vec::new();
    for fd in fs::read_dir(proc.join("fd")).expect("its descriptors").flatten() {
        let link = fs::read_link(fd.path()).unwrap_or_default().display().to_string();
        let number: u32 = fd.file_name().to_string_lossy().parse().expect("a number");
        if number < 3 {
            assert_eq!(link, "/dev/null", "descriptor {number}");
        }
        links.push(link);
    }
    assert!(!links.iter().any(|link| link.starts_with("pipe:")), "{links:?}");
    assert_eq!(fs::read_link(proc.join("cwd")).expect("a directory"), PathBuf::from("/"));
    let environment = fs::read(proc.join("environ")).expect("its environment");
    let environment = String::from_utf8_lossy(&environment).into_owned();
    for stranger in ["MAKEFLAGS", "CARGO_MAKEFLAGS", "CARGO_PKG_NAME", "OUT_DIR", "RUSTC_WRAPPER"] {
        assert!(!environment.contains(&format!("{stranger}=")), "{stranger} in {environment}");
    }
    let (ours, theirs) = (state("self"), state(&pid.to_string()));
    assert!(ours[2] != theirs[2] && ours[3] != theirs[3], "its own group and session");
    // Whoever takes in orphans here: the system's first process, or a session's, above this test.
    let above =
        std::iter::successors(Some(ours[1].clone()), |pid| (pid != "0").then(|| state(pid)[1].clone()));
    let above: Vec<String> = above.collect();
    assert!(above.contains(&theirs[1]), "it is the child of {}, which is none of {above:?}", theirs[1]);
    assert_eq!(children(std::process::id()), Vec::<String>::new(), "nothing is left of make");
    assert_eq!(children(pid), Vec::<String>::new(), "nor has the daemon children that it doesn't wait for");
    let resident_kib = memory_kib(pid, "VmRSS:");
    assert!(resident_kib < 64 << 10, "{resident_kib} KiB");
}

/// State, parent, process group and session of a process: what follows its parenthesised name.
fn state(pid: &str) -> Vec<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("its state");
    stat.rsplit_once(')').expect("a name").1.split_whitespace().take(4).map(str::to_owned).collect()
}

/// Children of a process that have ended and are not waited for.
fn children(pid: u32) -> Vec<String> {
    let pid = pid.to_string();
    let all = fs::read_dir("/proc").expect("processes").flatten().map(|item| item.file_name());
    let all = all.filter_map(|name| name.into_string().ok()).filter(|name| name.parse::<u32>().is_ok());
    let is_zombie = |stat: &str| {
        let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let mut fields = rest.split_whitespace();
        fields.next() == Some("Z") && fields.next() == Some(pid.as_str())
    };
    all.filter(|name| fs::read_to_string(format!("/proc/{name}/stat")).is_ok_and(|stat| is_zombie(&stat)))
        .collect()
}

/// Killed again and again, at any moment, while it uploads to a server that takes its time: what was uploaded stays
/// whole, what wasn't stays owed, and in the end the bucket holds everything once. No life uploads what an earlier one
/// had finished, and no descriptor is left open.
///
/// A life is as long as a number of requests, not of milliseconds: on a busy machine a daemon that lives for 180 ms is
/// killed before its first upload ends, and hundreds of lives get nowhere.
#[test]
fn uploads_survive_a_daemon_that_is_killed_at_any_moment() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let project = machine.project("one", ALL_KINDS);
    server.arrange("PUT", "", u32::MAX, Mischief::Status(403, "AccessDenied"));
    let built = project.cargo("build").ok();
    let all = built.tally().results();
    assert_eq!(machine.queue().len(), all, "{built}");
    machine.daemon("stop");
    server.recover();
    server.slow_down(Duration::from_millis(15));
    // Requests that were under way when their sender was killed still arrive.
    let packs_sent = || {
        let mut seen = server.count("PUT", "/packs/");
        loop {
            std::thread::sleep(Duration::from_millis(60));
            let now = server.count("PUT", "/packs/");
            if now == seen {
                return now;
            }
            seen = now;
        }
    };
    let seed = std::process::id();
    eprintln!("the moments follow from {seed}");
    let mut random = seed;
    let mut below = |end: usize| {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        usize::try_from(random >> 16).expect("16 bits") % end
    };
    let mut lives = 0;
    while !machine.queue().is_empty() {
        lives += 1;
        let (before, owed) = (packs_sent(), machine.queue().len());
        let requests = server.seen().len();
        machine.daemon("start");
        let pid = machine.pid();
        // Between nothing and all that the uploads take, in the middle of a request or between two.
        let enough = requests + below(8 * all);
        within("the daemon's requests", || server.seen().len() >= enough || machine.queue().is_empty());
        std::thread::sleep(Duration::from_millis(below(20).try_into().expect("small")));
        Command::new("kill").args(["-9", &pid.to_string()]).status().expect("killed");
        machine.until_ended();
        let sent = packs_sent() - before;
        // A pack whose manifest is missing is found first, and then replaced.
        assert!(sent <= 2 * owed, "{sent} packs were sent where {owed} were owed");
        assert!(lives < 100, "no life gets anywhere");
    }
    assert_eq!(of_kind(&server, "/packs/"), all);
    assert_eq!(of_kind(&server, "/manifests/"), all);
    // Each is whole: another machine is served all of it.
    server.recover();
    let there = Machine::new(&server);
    let served = moved(&there, &project).cargo("build").ok();
    assert!(served.tally().served() * 100 >= all * 95, "{served}");
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", there.pid())).expect("descriptors").count();
    let before = descriptors();
    for _ in 0..50 {
        there.status();
    }
    assert!(descriptors() <= before + 2, "{before}, then {}", descriptors());
    assert_eq!(children(there.pid()), Vec::<String>::new());
}

/// Killed while uploads wait for a server that fails: the next daemon does them all, and the bucket holds each once.
#[test]
fn uploads_survive_a_daemon_that_is_killed() {
    let server = S3::start();
    let machine = Machine::new(&server);
    let project = machine.project("one", ALL_KINDS);
    server.arrange("PUT", "", 1000, Mischief::Status(503, "SlowDown"));
    let built = project.cargo("build").ok();
    assert_eq!(machine.queue().len(), built.tally().results(), "{built}");
    let pid = machine.pid();
    Command::new("kill").args(["-9", &pid.to_string()]).status().expect("killed");
    machine.until_ended();
    assert!(machine.cache_dir().join("daemon/sock").exists(), "nobody took it away");
    assert_eq!(machine.queue().len(), built.tally().results());
    server.recover();
    machine.daemon("start");
    assert_ne!(machine.pid(), pid);
    machine.daemon("stop");
    assert!(machine.queue().is_empty());
    assert_eq!(of_kind(&server, "/packs/"), built.tally().results());
    assert_eq!(of_kind(&server, "/manifests/"), built.tally().results());
}

/// A server that isn't there, and a daemon that is stopped: the build goes on without.
#[test]
fn a_build_does_without_a_daemon_or_a_server_that_is_away() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_S3_ENDPOINT", "http://127.0.0.1:9");
    let project = machine.project("one", ALL_KINDS);
    let built = project.cargo("build").same();
    assert_eq!(machine.queue().len(), built.tally().results());
    let pid = machine.pid().to_string();
    Command::new("kill").args(["-STOP", &pid]).status().expect("stopped");
    project.wipe();
    machine.clear_entries();
    let again = project.cargo("build").ok();
    assert_eq!(again.tally().hits, 0, "{again}");
    let asked: u64 = again.events.iter().map(|event| event.number("times/remote_us")).sum();
    assert!(asked > 0 && asked < 12_000_000, "{asked} µs in all, for a few that asked at the same time");
    let doctor = String::from_utf8_lossy(&machine.cli(&["doctor"]).stdout).into_owned();
    assert!(doctor.contains("the daemon doesn't answer"), "{doctor}");
    Command::new("kill").args(["-CONT", &pid]).status().expect("continued");
}

/// A second `run` says that there is one and succeeds; `start` twice is one daemon; `status` tells by its exit code.
#[test]
fn one_daemon_however_often_it_is_started() {
    let server = S3::start();
    let machine = Machine::new(&server);
    assert_eq!(machine.cli(&["daemon", "status"]).status.code(), Some(3));
    assert!(machine.daemon("start").contains("The daemon is running"));
    let pid = machine.pid();
    assert!(machine.daemon("start").contains("running already"));
    assert!(machine.daemon("run").contains("A daemon is running for this store already"));
    assert_eq!(machine.pid(), pid);
    assert!(machine.daemon("log").contains("serving"));
    machine.daemon("restart");
    assert_ne!(machine.pid(), pid);
    assert!(machine.daemon("stop").contains("has ended"));
    assert!(machine.daemon("stop").contains("No daemon is running"));
    assert!(!machine.cache_dir().join("daemon/sock").exists());
}

/// A daemon that is started with an idle time ends by itself.
#[test]
fn an_idle_daemon_ends() {
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_DAEMON_IDLE_TIMEOUT", "1");
    machine.daemon("start");
    machine.until_ended();
}
