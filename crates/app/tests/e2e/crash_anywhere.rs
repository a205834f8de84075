//! Deaths at random moments: four Cargos, sweeps, transfers and a daemon on one store and one bucket, and all the time
//! some process of theirs is killed. What is left is sound at every moment, and builds from it are right.
//!
//! | variable | meaning |
//! | --- | --- |
//! | `KACHE_CRASH_SECONDS` | how long it goes on; a few seconds without it |
//! | `KACHE_CRASH_SEED` | which choices are made; the moments still differ from run to run |

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use kache_testkit::{Project, S3};
use rustix::process::{Pid, Signal, kill_process};

use crate::daemon::Machine;
use crate::fixtures::ALL_KINDS;

/// Without the variable.
const SECONDS: u64 = 15;
/// What runs beside the builds.
const COMMANDS: &[&str] = &[
    "gc --max-age 0s",
    "purge -y",
    "sync --push",
    "sync --pull --all",
    "doctor --verify --repair",
    "daemon start",
];

/// Choices.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn number(name: &str, default: u64) -> u64 {
    let text = env::var(name).ok();
    text.map_or(default, |text| text.parse().unwrap_or_else(|e| panic!("{name}={text}: {e}")))
}

/// Processes of these groups, by name.
fn members(groups: &[u32]) -> Vec<(i32, String)> {
    let list = fs::read_dir("/proc").expect("list /proc");
    let processes = list.flatten().filter_map(|item| {
        let id: i32 = item.file_name().to_str()?.parse().ok()?;
        let stat = fs::read_to_string(item.path().join("stat")).ok()?;
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(')')?;
        let mut fields = rest.split_whitespace();
        let (state, group) = (fields.next()?, fields.nth(1)?);
        (state != "Z" && groups.contains(&group.parse().ok()?)).then(|| (id, name.to_owned()))
    });
    processes.collect()
}

fn kill(id: i32) {
    if let Some(id) = Pid::from_raw(id) {
        // It may just have ended by itself.
        let _ = kill_process(id, Signal::KILL);
    }
}

/// A command in a process group of its own, without anybody who listens.
fn start(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    command.spawn().expect("started")
}

/// One round: everything is started, some of it is killed, the rest goes on to its end.
fn round(
    machine: &Machine,
    projects: &[Project<'_>],
    random: &mut Random,
    deaths: &mut BTreeMap<String, u32>,
) {
    let mut running = Vec::new();
    for project in projects {
        if random.below(3) == 0 {
            project.wipe();
        }
        if random.below(2) == 0 {
            project.write("gen/number.txt", format!("{}\n", random.below(4)));
        }
        let args = ["build", "test --no-run", "check"][usize::try_from(random.below(3)).expect("small")];
        running.push(start(project.cargo(args).command()));
    }
    for _ in 0..2 {
        let which = usize::try_from(random.below(COMMANDS.len() as u64)).expect("small");
        let mut command = machine.command(machine.wrapper());
        command.args(COMMANDS[which].split(' ')).current_dir(projects[0].dir());
        running.push(start(command));
    }
    let groups: Vec<u32> = running.iter().map(Child::id).collect();
    for _ in 0..4 + random.below(8) {
        sleep(Duration::from_millis(random.below(120)));
        let mut victims = members(&groups);
        victims.extend(daemon_process(machine).map(|id| (id, "daemon".to_owned())));
        if !victims.is_empty() {
            let which = usize::try_from(random.below(victims.len() as u64)).expect("small");
            let (id, name) = victims.swap_remove(which);
            kill(id);
            *deaths.entry(name).or_default() += 1;
        }
    }
    for mut child in running {
        child.wait().expect("it ends");
    }
    // What an ended Cargo has left behind goes, too, so that nobody writes into the next round's directories.
    members(&groups).into_iter().for_each(|(id, _)| kill(id));
    machine.assert_store_is_sound();
}

#[test]
fn killed_at_random_moments() {
    let seconds = number("KACHE_CRASH_SECONDS", SECONDS);
    let seed = number("KACHE_CRASH_SEED", 1).max(1);
    let server = S3::start();
    let machine = Machine::new(&server);
    machine.set_env("KACHE_MAX_SIZE", "6MiB");
    let one = machine.project("one", ALL_KINDS);
    let projects = [one.checkout("two"), one.checkout("three"), one.checkout("four"), one];
    let mut random = Random(seed);
    let mut deaths = BTreeMap::new();
    let mut rounds = 0;
    let until = Instant::now() + Duration::from_secs(seconds);
    while Instant::now() < until {
        round(&machine, &projects, &mut random, &mut deaths);
        rounds += 1;
    }
    eprintln!("seed {seed}: {rounds} rounds, deaths: {deaths:?}");
    machine.assert_doctor_is_content();
    for project in &projects {
        project.cargo("run").same();
        project.cargo("test -q").same();
        project.nothing_to_do("test --no-run");
        project.wipe();
        project.cargo("run").same();
        project.nothing_to_do("build");
    }
    machine.assert_doctor_is_content();
    // The bucket, too, holds nothing that a build could be served wrongly.
    machine.clear_cache();
    machine.cli(&["sync", "--pull", "--all"]);
    projects[0].wipe();
    projects[0].cargo("run").same();
}

/// The daemon's process, by its own note, if it lives. A note may be left of one that was killed, and its number be
/// another's by now.
fn daemon_process(machine: &Machine) -> Option<i32> {
    let id: i32 = fs::read_to_string(machine.cache_dir().join("daemon/pid")).ok()?.trim().parse().ok()?;
    let text = |name: &str| fs::read(format!("/proc/{id}/{name}")).ok();
    let is_daemon = text("cmdline")?.ends_with(b"\0daemon\0run\0");
    let ours = format!("KACHE_CACHE_DIR={}", machine.cache_dir().display());
    let is_ours = text("environ")?.split(|byte| *byte == 0).any(|set| set == ours.as_bytes());
    (is_daemon && is_ours).then_some(id)
}
