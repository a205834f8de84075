//! The one headline: how much of what builds asked for they were spared. Knows nothing about who shows it.

use std::time::Duration;

use serde::Serialize;

use crate::quantity::format_duration;
use crate::tally::Tally;

/// What a build asked for, and what of that it was spared: the one headline.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Compiles that were hits, or in place before Cargo looked.
    pub compiles: u64,
    /// All compiles that succeeded, those that no look-up was made for included.
    pub compiles_of: u64,
    /// Runs of build scripts whose results were put into place.
    pub build_scripts: u64,
    pub build_scripts_of: u64,
    /// What the spared work took when it was done, in microseconds, summed over processes side by side.
    pub saved_us: u64,
    /// What serving it took, in microseconds, summed likewise.
    pub cost_us: u64,
}

impl Served {
    /// The headline over some events' sums.
    pub fn of(tally: &Tally) -> Self {
        let (part, seeding) = (&tally.all, &tally.seeding);
        let asked = &seeding.asked;
        let compiled = part.outcomes.total().saturating_sub(part.asides + part.outcomes.error);
        Self {
            compiles: part.outcomes.hit + asked.units,
            compiles_of: compiled + asked.units,
            build_scripts: asked.runs + part.runs.hit,
            build_scripts_of: asked.runs + (asked.runs_left + part.scripts).max(part.runs.total()),
            saved_us: part.times.saved_us + asked.saved_ms.saturating_mul(1000),
            cost_us: part.times.hit_us + seeding.spent_us,
        }
    }

    /// The served share of compiles and runs, from 0 to 1; `None` when nothing was asked for.
    pub fn share(&self) -> Option<f64> {
        let of = self.compiles_of + self.build_scripts_of;
        (of > 0).then(|| (self.compiles + self.build_scripts) as f64 / of as f64)
    }

    /// The headline, without a full stop.
    pub fn sentence(&self) -> String {
        if self.share().is_none() {
            return "Nothing was asked for".to_owned();
        }
        let scripts = match self.build_scripts_of {
            0 => String::new(),
            of => format!(" and {} of {of} build scripts", self.build_scripts),
        };
        let time = |us: u64| format_duration(Duration::from_micros(us));
        let saved = match self.saved_us {
            0 => String::new(),
            us => format!(", saved about {} for {}", time(us), time(self.cost_us)),
        };
        format!("Served {} of {} compiles{scripts}{saved}", self.compiles, self.compiles_of)
    }
}
