//! Whether another process, with all that it has started, gets anywhere: by the time that they have had on a processor,
//! as Linux tells it. Knows nothing about what they do.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, Instant};

use kache_core::process_stat::ProcessStat;

const SAMPLE_EVERY: Duration = Duration::from_millis(250);
/// How long a process that is stopped (Ctrl-Z, a debugger) is waited for.
const STOPPED_MAX: Duration = Duration::from_secs(1);
/// How long one is waited for that gets no time on a processor: swapped out, uninterruptible, asleep.
const IDLE_MAX: Duration = Duration::from_secs(10);
/// How long one is waited for that can't be seen: of another container or machine.
const UNSEEN_MAX: Duration = Duration::from_secs(60);

/// A process, as it writes itself down for others: number and time of start. The start tells it from a later process of
/// that number, and from one of that number in another container.
pub(crate) fn own_name() -> String {
    let pid = std::process::id().to_string();
    let start = stat_of(&pid).and_then(|line| Some(ProcessStat::parse(&line)?.start.to_owned()));
    format!("{pid} {}\n", start.unwrap_or_default())
}

#[derive(Debug)]
pub(crate) struct Patience {
    name: String,
    work: Option<Work>,
    since: Instant,
    next: Instant,
}

/// What a process and its descendants have done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Work {
    ticks: u64,
    is_stopped: bool,
}

impl Patience {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self { name: String::new(), work: None, since: now, next: now }
    }

    /// Whether it is worth while to wait on for the process of that name: see [`own_name`].
    pub(crate) fn lasts(&mut self, name: impl FnOnce() -> String) -> bool {
        let now = Instant::now();
        if now < self.next || !cfg!(target_os = "linux") {
            return true;
        }
        self.next = now + SAMPLE_EVERY;
        let name = name();
        let work = work_of(&name);
        if (&name, &work) != (&self.name, &self.work) {
            (self.name, self.work, self.since) = (name, work, now);
        }
        now - self.since
            < match work {
                Some(Work { is_stopped: true, .. }) => STOPPED_MAX,
                Some(_) => IDLE_MAX,
                None => UNSEEN_MAX,
            }
    }
}

fn stat_of(pid: &str) -> Option<String> {
    fs::read(format!("/proc/{pid}/stat")).ok().map(|line| String::from_utf8_lossy(&line).into_owned())
}

/// The processes that can be seen: number, and the line that [`ProcessStat`] reads.
pub fn processes() -> impl Iterator<Item = (String, String)> {
    fs::read_dir("/proc").into_iter().flatten().flatten().filter_map(|item| {
        let pid = item.file_name().into_string().ok()?;
        let is_number = pid.bytes().all(|b| b.is_ascii_digit());
        Some((is_number.then(|| stat_of(&pid))??, pid)).map(|(line, pid)| (pid, line))
    })
}

/// `None` where that process can't be seen.
fn work_of(name: &str) -> Option<Work> {
    let (root, start) = name.trim().split_once(' ')?;
    let lines: Vec<(String, String)> = processes().collect();
    let stats: HashMap<&str, ProcessStat<'_>> =
        lines.iter().filter_map(|(pid, line)| Some((pid.as_str(), ProcessStat::parse(line)?))).collect();
    let mut found: Vec<&str> = stats
        .get_key_value(root)
        .filter(|(_, stat)| stat.start == start)
        .map(|(pid, _)| *pid)
        .into_iter()
        .collect();
    let mut work = found.first().map(|_| Work { ticks: 0, is_stopped: false })?;
    while let Some(pid) = found.pop() {
        found.extend(stats.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
        let stat = stats[pid];
        work.ticks += stat.ticks;
        work.is_stopped |= stat.is_stopped();
    }
    Some(work)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use rustix::process::{Pid, Signal, kill_process};
    use std::process::{Child, Command};

    /// A shell that has a child of its own.
    fn shell(line: &str) -> (Child, String) {
        let child = Command::new("/bin/sh").args(["-c", &format!("{line} & wait")]).spawn().expect("a shell");
        let pid = child.id().to_string();
        let line = stat_of(&pid).expect("it runs");
        let start = ProcessStat::parse(&line).expect("a line").start.to_owned();
        (child, format!("{pid} {start}\n"))
    }

    fn end(mut child: Child) {
        let pid = child.id().to_string();
        let lines = fs::read_dir("/proc").expect("list").flatten();
        let pids = lines.filter_map(|item| item.file_name().into_string().ok());
        let children: Vec<String> = pids
            .filter(|child| {
                stat_of(child)
                    .is_some_and(|line| ProcessStat::parse(&line).is_some_and(|stat| stat.parent == pid))
            })
            .collect();
        child.kill().expect("kill");
        child.wait().expect("ended");
        for pid in children {
            let pid = Pid::from_raw(pid.parse().expect("a number")).expect("a process");
            kill_process(pid, Signal::KILL).expect("kill");
        }
    }

    #[test]
    fn work_is_that_of_all_descendants() {
        let (busy, name) = shell("while :; do :; done");
        let first = work_of(&name).expect("seen");
        while work_of(&name).expect("seen").ticks <= first.ticks {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(!first.is_stopped);
        let pid = Pid::from_raw(i32::try_from(busy.id()).expect("small")).expect("a process");
        kill_process(pid, Signal::STOP).expect("stop");
        while !work_of(&name).expect("seen").is_stopped {
            std::thread::sleep(Duration::from_millis(10));
        }
        end(busy);
        assert_eq!(work_of(&name), None, "it has ended");
    }

    #[test]
    fn another_process_of_that_number_is_not_it() {
        let own = own_name();
        assert!(work_of(&own).is_some());
        for name in [own.replace('\n', "1\n").as_str(), "", "x", "1", "0 0", "999999999 1"] {
            assert_eq!(work_of(name), None, "{name:?}");
        }
    }

    #[test]
    fn a_busy_process_is_waited_for_and_a_stopped_one_is_not() {
        let (idle, name) = shell("sleep 1000");
        let pid = Pid::from_raw(i32::try_from(idle.id()).expect("small")).expect("a process");
        kill_process(pid, Signal::STOP).expect("stop");
        let mut patience = Patience::new();
        while patience.lasts(|| name.clone()) {
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(patience.work.is_some_and(|work| work.is_stopped));
        end(idle);
    }
}
