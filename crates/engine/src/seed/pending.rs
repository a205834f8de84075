//! Recorders that are at work: each says by its process's name what it does, and others wait for it, or don't. Needs
//! `/proc`; where there is none, nothing is recorded.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use kache_core::config::env;
use kache_core::process_stat::ProcessStat;
use kache_store::Store;
use kache_store::progress::processes;

use super::parent;
use crate::world::{Session, callers};

const LOOK: Duration = Duration::from_millis(20);
/// How long a recorder is waited for that gets no time on a processor.
const IDLE_MAX: Duration = Duration::from_secs(2);

/// What a process of kache is about, as the name that `/proc` and `ps` show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// A recorder that will have its snapshot soon after its Cargo has ended.
    Recording,
    /// A recorder that waits for other Cargos, or has written its snapshot.
    Waiting,
    /// A wrapper whose unit is done.
    Ending,
}

impl Doing {
    const fn name(self) -> &'static str {
        match self {
            Doing::Recording => "kache-records",
            Doing::Waiting => "kache-waits",
            Doing::Ending => "kache-ends",
        }
    }

    pub fn tell(self) {
        // Where it can't be told, others wait in vain for a bounded time.
        let _ = fs::write("/proc/self/comm", self.name());
    }
}

/// Waits until no recorder is at work for this store whose Cargo has ended; `false` when one took longer than `patience`
/// or got nowhere. Recorders of Cargos that still build are not waited for.
pub fn wait_for_recorders(store: &Store, patience: Duration) -> bool {
    let started = Instant::now();
    let mut last = (0, started);
    loop {
        let at_work: Vec<u64> = processes().filter_map(|(pid, line)| at_work(&pid, &line, store)).collect();
        let ticks = at_work.iter().sum();
        if ticks != last.0 {
            last = (ticks, Instant::now());
        }
        if at_work.is_empty() {
            return true;
        }
        if started.elapsed() > patience || last.1.elapsed() > IDLE_MAX {
            return false;
        }
        std::thread::sleep(LOOK);
    }
}

/// What a process has worked so far, if it is a recorder of this store without its Cargo.
fn at_work(pid: &str, line: &str, store: &Store) -> Option<u64> {
    let stat = ProcessStat::parse(line)?;
    if stat.name != Doing::Recording.name() || stat.is_over() || stat.is_stopped() {
        return None;
    }
    let process = Path::new("/proc").join(pid);
    // The number of a Cargo in another container says nothing here.
    let namespace = |process: &Path| fs::read_link(process.join("ns/pid")).ok();
    if namespace(&process) != namespace(Path::new("/proc/self")) {
        return None;
    }
    let words = fs::read(process.join("cmdline")).ok()?;
    let mut words = words.split(|byte| *byte == 0).skip(1);
    // As `watch` starts it.
    if words.next()? != b"snapshot" || words.next()? != b"--cargo" {
        return None;
    }
    let id = std::str::from_utf8(words.next()?).ok()?.to_owned();
    let variables = fs::read(process.join("environ")).ok()?;
    let own = [env::KACHE_CACHE_DIR.as_bytes(), b"=", store.root().as_os_str().as_encoded_bytes()].concat();
    let is_ours = variables.split(|byte| *byte == 0).any(|pair| pair == own);
    (is_ours && !parent::is_alive(&Session { id, ..Session::default() })).then_some(stat.ticks)
}

/// Whether processes here may be ended together with a build: in a container, with its last command.
pub fn may_not_outlive_builds() -> bool {
    // The number of the system's own namespace of processes, the same on every Linux.
    fs::read_link("/proc/self/ns/pid").is_ok_and(|name| name != Path::new("pid:[4026531836]"))
}

/// Whether no other process that the Cargo of `session` has started is at work. Of two wrappers that end at the same
/// time at least one is told so. Detached processes are the children of a Cargo that is the first one in a container.
pub fn is_last(session: &Session) -> bool {
    Doing::Ending.tell();
    let Some((cargo, _)) = session.id.split_once('-') else { return false };
    let own = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let own = ProcessStat::parse(&own).map(|stat| stat.session);
    let is_done = |name: &str| [Doing::Recording, Doing::Ending].iter().any(|doing| doing.name() == name);
    // A wrapper that has called this process waits for it.
    let callers: Vec<String> = callers("self").collect();
    let is_at_work =
        |stat: &ProcessStat<'_>| stat.parent == cargo && Some(stat.session) == own && !stat.is_over();
    processes().all(|(pid, line)| {
        let stat = ProcessStat::parse(&line).filter(|_| !callers.contains(&pid));
        stat.is_none_or(|stat| !is_at_work(&stat) || is_done(stat.name))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command};

    use rustix::process::{Pid, Signal, kill_process};

    use super::*;

    /// A process that looks like a recorder whose Cargo has ended, and does `work`.
    fn recorder(dir: &Path, work: &str, doing: Doing) -> Child {
        let script = format!("printf {} > /proc/self/comm; {work}", doing.name());
        fs::write(dir.join("snapshot"), script).expect("write");
        let mut command = Command::new("/bin/sh");
        command.args(["snapshot", "--cargo", "999999999-1"]).current_dir(dir).process_group(0);
        let child = command.env(env::KACHE_CACHE_DIR, dir).spawn().expect("a shell");
        while !fs::read_to_string(format!("/proc/{}/comm", child.id())).is_ok_and(|n| n.starts_with("kache"))
        {
            std::thread::sleep(Duration::from_millis(1));
        }
        child
    }

    fn end(mut child: Child) {
        let group = Pid::from_raw(i32::try_from(child.id()).expect("small")).expect("a process");
        rustix::process::kill_process_group(group, Signal::KILL).expect("kill");
        child.wait().expect("ended");
    }

    #[test]
    fn recorders_are_waited_for_as_long_as_they_get_anywhere() {
        let dir = tempfile::tempdir().expect("temp dir");
        let other = tempfile::tempdir().expect("temp dir");
        let store = Store::open(dir.path()).expect("opened");
        let [short, long] = [Duration::from_millis(300), Duration::from_secs(600)];
        assert!(wait_for_recorders(&store, long), "there is none");

        let busy = recorder(dir.path(), "while :; do :; done", Doing::Recording);
        assert!(!wait_for_recorders(&store, short), "it is at work");
        assert!(wait_for_recorders(&Store::open(other.path()).expect("opened"), long), "for another store");
        let pid = Pid::from_raw(i32::try_from(busy.id()).expect("small")).expect("a process");
        kill_process(pid, Signal::STOP).expect("stop");
        assert!(wait_for_recorders(&store, long), "a stopped one isn't waited for");
        end(busy);

        let waits = recorder(dir.path(), "while :; do :; done", Doing::Waiting);
        assert!(wait_for_recorders(&store, long), "it has nothing to record for the moment");
        end(waits);

        let idle = recorder(dir.path(), "sleep 1000", Doing::Recording);
        assert!(!wait_for_recorders(&store, long), "it gets nowhere");
        end(idle);
    }
}
