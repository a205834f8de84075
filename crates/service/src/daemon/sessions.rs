//! Whether a build is still running and whether it has asked before, by the name that the wrapper gives it: process id and
//! start time of Cargo.

use std::collections::HashSet;
use std::sync::Mutex;

use kache_core::process_stat::ProcessStat;

use super::lock;

/// Builds that are remembered; beyond it all are forgotten.
const BUILDS_MAX: usize = 10_000;

#[derive(Debug, Default)]
pub struct Builds(Mutex<HashSet<String>>);

impl Builds {
    /// Whether this is the first question of a build.
    pub fn is_new(&self, session: &str) -> bool {
        let mut builds = lock(&self.0);
        if builds.len() >= BUILDS_MAX {
            builds.clear();
        }
        !builds.contains(session) && builds.insert(session.to_owned())
    }
}

/// Whether the process of a session runs. A name that makes no sense, or a system without `/proc`, says yes.
pub fn is_running(session: &str) -> bool {
    let Some((pid, start)) = session.split_once('-') else { return true };
    if pid.parse::<u32>().is_err() || !cfg!(target_os = "linux") {
        return true;
    }
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(line) => ProcessStat::parse(&line)
            .is_some_and(|stat| !stat.is_over() && (start == "0" || stat.start == start)),
        Err(error) => error.kind() != std::io::ErrorKind::NotFound,
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn this_process_runs_and_its_namesakes_do_not() {
        let pid = std::process::id();
        let stat = std::fs::read_to_string("/proc/self/stat").expect("readable");
        let start = ProcessStat::parse(&stat).expect("a line").start;
        assert!(is_running(&format!("{pid}-{start}")));
        assert!(!is_running(&format!("{pid}-{start}1")));
        assert!(!is_running("4194999-17"));
        assert!(is_running("") && is_running("x-y"));
        let mut child = std::process::Command::new("true").spawn().expect("started");
        while is_running(&format!("{}-0", child.id())) {
            std::thread::yield_now();
        }
        child.wait().expect("waited");
    }
}
