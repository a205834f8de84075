//! Runs a command and prints what it and its descendants looked at: `observe plain|uses|probes|writes|all COMMAND…`.

use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Instant;

use kache_store::sys::{Probes, Scope, Writes, spawn_observed};

fn main() -> io::Result<ExitCode> {
    let mut words = std::env::args_os().skip(1);
    let (Some(mode), Some(program)) = (words.next(), words.next()) else { return Ok(ExitCode::from(2)) };
    let mut command = Command::new(program);
    command.args(words);
    let start = Instant::now();
    let scope = |probes, writes| Scope { ignored: Vec::new(), probes, writes };
    let (mut child, observer) = match mode.to_str() {
        Some("plain") => (command.spawn()?, None),
        Some("uses") => spawn_observed(command, scope(Probes::Skip, Writes::Skip))?,
        Some("probes") => spawn_observed(command, scope(Probes::Existence, Writes::Skip))?,
        Some("writes") => spawn_observed(command, scope(Probes::Existence, Writes::Observe))?,
        _ => spawn_observed(command, scope(Probes::ExistenceAndRealpath, Writes::Observe))?,
    };
    let spawned = start.elapsed();
    let status = child.wait()?;
    let waited = start.elapsed();
    let observation = observer.and_then(|observer| observer.finish());
    let finished = start.elapsed();
    if let Some(observation) = observation {
        let mut out = io::stdout().lock();
        for access in &observation.accesses {
            writeln!(out, "{:?}\t{}", access.kind, access.path.display())?;
        }
        let number = observation.accesses.len();
        let complete = observation.is_complete();
        let (calls, unreadable) = (observation.calls, observation.unreadable);
        writeln!(out, "{number} paths, {calls} calls, complete: {complete}, unreadable: {unreadable}")?;
    }
    eprintln!("spawn {spawned:?}, wait {:?}, finish {:?}", waited - spawned, finished - waited);
    Ok(ExitCode::from(status.code().unwrap_or(1) as u8))
}
