//! What is removed of which target directory, and what it takes to have it back. The same plan is shown, chosen from and
//! carried out.

use std::path::{Path, PathBuf};
use std::time::Duration;

use kache_core::quantity::{format_duration, format_size};
use kache_store::footprint::Footprint;

use crate::cli::census::find::{self, Programs};
use crate::cli::census::units::{self, Unit, Use};
use crate::cli::census::{Census, Cost, Durations, Target};
use crate::error::CliError;

/// What is asked for. Without any of it, whole directories are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules {
    /// Units and directories that weren't used for longer.
    pub unused_for: Option<Duration>,
    /// Units of compilers that are no longer installed.
    pub old_compilers: bool,
    /// Directories of projects that are gone.
    pub orphaned: bool,
}

/// What goes of a directory.
#[derive(Debug)]
pub enum What {
    /// All of it.
    Whole,
    /// These units.
    Units(Vec<Unit>),
}

/// What goes of one directory.
pub struct Removal<'c> {
    /// The directory.
    pub target: &'c Target,
    /// What goes of it.
    pub what: What,
    /// What that occupies.
    pub footprint: Footprint,
    /// What it takes to have it back.
    pub cost: Cost,
}

/// Decides what goes. `now_s` is in seconds since 1970.
pub fn plan<'c>(
    census: &'c Census,
    rules: &Rules,
    durations: &Durations,
    now_s: i64,
) -> Result<Vec<Removal<'c>>, CliError> {
    let mut removals = Vec::new();
    for target in &census.targets {
        let Some(what) = choose(census, target, rules, now_s) else { continue };
        let (footprint, cost) = match &what {
            What::Whole => (target.footprint.clone(), census.cost(&target.units, durations)),
            What::Units(units) => {
                let footprint = Footprint::of_all(units.iter().flat_map(Unit::paths), &census.blobs)?;
                (footprint, census.cost(units, durations))
            }
        };
        removals.push(Removal { target, what, footprint, cost });
    }
    removals.sort_by_key(|removal| std::cmp::Reverse(removal.footprint.reclaimable_bytes()));
    Ok(removals)
}

fn choose(census: &Census, target: &Target, rules: &Rules, now_s: i64) -> Option<What> {
    if *rules == Rules::default() {
        return Some(What::Whole);
    }
    let max_s = rules.unused_for.map(|age| i64::try_from(age.as_secs()).unwrap_or(i64::MAX));
    let is_old = |used_s: i64| max_s.is_some_and(|max_s| now_s.saturating_sub(used_s) > max_s);
    if (rules.orphaned && target.is_orphaned()) || target.used_s.is_some_and(is_old) {
        return Some(What::Whole);
    }
    if max_s.is_none() && !rules.old_compilers {
        return None;
    }
    let goes = |unit: &&Unit| match unit.used {
        Use::Broken => true,
        Use::At(used_s) if is_old(used_s) => true,
        Use::At(_) | Use::Unknown => rules.old_compilers && census.is_of_gone_compiler(unit),
    };
    let units: Vec<Unit> = target.units.iter().filter(goes).cloned().collect();
    (!units.is_empty()).then_some(What::Units(units))
}

/// What several occupy together: an inode that two of them have counts once, and is free only when both go.
pub fn sum<'r>(removals: impl IntoIterator<Item = &'r Removal<'r>>) -> (Footprint, Cost) {
    let (mut footprint, mut cost) = (Footprint::default(), Cost::default());
    for removal in removals {
        footprint.merge(&removal.footprint);
        cost.add(removal.cost);
    }
    (footprint, cost)
}

/// How a removal ended.
#[derive(Debug)]
pub enum Ended {
    /// All of it is gone.
    Gone,
    /// Nothing was removed, for this reason.
    Stays(String),
}

impl Removal<'_> {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.target.found.path
    }

    /// Why nothing of it can be removed right now.
    pub fn busy(&self) -> Option<&str> {
        self.target.found.busy.as_deref()
    }

    /// What goes, in a word or two.
    pub fn label(&self) -> String {
        match &self.what {
            What::Whole => "all of it".to_owned(),
            What::Units(units) if units.len() == 1 => "1 unit".to_owned(),
            What::Units(units) => format!("{} units", units.len()),
        }
    }

    /// Removes it, with Cargo's locks held.
    pub fn apply(&self, programs: &Programs) -> Result<Ended, CliError> {
        let path = self.path();
        let failed = |(path, error): (PathBuf, std::io::Error)| CliError::file("remove", &path, &error);
        // What was a target directory when it was found may be something else by now.
        let Some(found) = find::check(path, programs) else {
            return Ok(Ended::Stays("it is no target directory any more".to_owned()));
        };
        if let Some(busy) = found.busy {
            return Ok(Ended::Stays(busy));
        }
        let Some(_locks) = find::lock(path).map_err(|error| failed((path.to_owned(), error)))? else {
            return Ok(Ended::Stays("a build has just begun in it".to_owned()));
        };
        match &self.what {
            What::Whole => units::remove_all(path).map_err(failed)?,
            What::Units(units) => {
                let mut idle = units.iter().filter(|unit| !unit.was_used_since());
                idle.try_for_each(Unit::remove).map_err(failed)?;
            }
        }
        Ok(Ended::Gone)
    }
}

/// What it takes to have something back, for people.
pub fn cost_text(cost: &Cost) -> String {
    let counted = |count: u64, one: &str, many: &str| match count {
        1 => format!("1 {one}"),
        count => format!("{count} {many}"),
    };
    let mut parts = Vec::new();
    if cost.served > 0 {
        parts.push(format!("{} from the store", counted(cost.served, "unit", "units")));
    }
    if cost.compiles > 0 {
        let time = match (cost.compile_ms, cost.untimed) {
            (0, _) => String::new(),
            (ms, 0) => format!(" ({})", format_duration(Duration::from_millis(ms))),
            (ms, untimed) => {
                format!(" ({} and {untimed} of unknown length)", format_duration(Duration::from_millis(ms)))
            }
        };
        parts.push(format!("{}{time}", counted(cost.compiles, "compile", "compiles")));
    }
    if cost.runs > 0 {
        parts.push(counted(cost.runs, "run of a build script", "runs of build scripts"));
    }
    if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
}

/// The sum of a plan, for people.
pub fn sum_text(removals: &[Removal<'_>]) -> String {
    let (footprint, cost) = sum(removals);
    format!(
        "removing all of that would free {}; to have it back takes {}",
        format_size(footprint.reclaimable_bytes()),
        cost_text(&cost)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_it_costs_is_said_in_units_and_time() {
        let cost = |served, compiles, runs, compile_ms, untimed| Cost {
            served,
            compiles,
            runs,
            compile_ms,
            untimed,
        };
        for (cost, text) in [
            (cost(0, 0, 0, 0, 0), "nothing"),
            (cost(1, 0, 0, 0, 0), "1 unit from the store"),
            (cost(0, 2, 0, 0, 2), "2 compiles"),
            (
                cost(5, 2, 1, 90_000, 0),
                "5 units from the store, 2 compiles (1m 30s), 1 run of a build script",
            ),
            (cost(0, 3, 2, 2000, 1), "3 compiles (2.0s and 1 of unknown length), 2 runs of build scripts"),
        ] {
            assert_eq!(cost_text(&cost), text);
        }
    }
}
