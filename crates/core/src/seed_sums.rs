//! Sums over what was put into place before builds. Seeding is no look-up, so it is counted apart from hits and
//! misses.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::event::{Asked, Event};

/// Sums over any number of seedings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeedSums {
    /// Builds before which something was put into place.
    pub builds: u64,
    /// Compiles that were put into place.
    pub units: u64,
    /// Runs of build scripts that were put into place.
    pub runs: u64,
    /// What of that the builds asked for.
    #[serde(default)]
    pub asked: Asked,
    /// Units that were not, although the builds asked for their profile.
    pub left_out: u64,
    /// How many of these for which reason.
    pub reasons: BTreeMap<String, u64>,
    /// What making the placed units took when it was done, in microseconds.
    pub saved_us: u64,
    /// What placing them took, in microseconds.
    pub spent_us: u64,
    /// Why fresh directories were not seeded, and how often.
    pub declined: BTreeMap<String, u64>,
}

impl SeedSums {
    /// Counts an event if it is about seeding; says whether it was.
    pub fn add(&mut self, event: &Event) -> bool {
        let Some(seeding) = &event.seeding else { return false };
        if let Some(why) = &seeding.declined {
            *self.declined.entry(why.clone()).or_default() += 1;
        } else if seeding.units + seeding.runs > 0 {
            self.builds += 1;
        }
        self.units += seeding.units;
        self.runs += seeding.runs;
        add_asked(&mut self.asked, &seeding.asked);
        self.left_out += seeding.left_out;
        for (code, count) in &seeding.reasons {
            *self.reasons.entry(code.clone()).or_default() += count;
        }
        self.saved_us += event.saved_ms.saturating_mul(1000);
        self.spent_us += event.times.restore_us;
        true
    }

    pub fn merge(&mut self, other: Self) {
        self.builds += other.builds;
        self.units += other.units;
        self.runs += other.runs;
        add_asked(&mut self.asked, &other.asked);
        self.left_out += other.left_out;
        self.saved_us += other.saved_us;
        self.spent_us += other.spent_us;
        for (mine, theirs) in [(&mut self.reasons, other.reasons), (&mut self.declined, other.declined)] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
    }
}

fn add_asked(sum: &mut Asked, other: &Asked) {
    sum.units += other.units;
    sum.runs += other.runs;
    sum.runs_left += other.runs_left;
    sum.saved_ms += other.saved_ms;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Outcome, Seeding};

    #[test]
    fn seedings_add_up_and_other_events_do_not_count() {
        let mut event = Event::new("-", Outcome::Passthrough);
        assert!(!SeedSums::default().add(&event));
        event.saved_ms = 3;
        event.times.restore_us = 5;
        let reasons = BTreeMap::from([("stale".to_owned(), 2)]);
        event.seeding = Some(Seeding {
            units: 4,
            runs: 1,
            asked: Asked { units: 3, runs: 1, runs_left: 1, saved_ms: 2 },
            left_out: 2,
            reasons,
            declined: None,
        });
        let mut sums = SeedSums::default();
        assert!(sums.add(&event) && sums.add(&event));
        event.seeding = Some(Seeding { declined: Some("doubt".into()), ..Seeding::default() });
        let mut other = SeedSums::default();
        assert!(other.add(&event));
        sums.merge(other);
        assert_eq!((sums.builds, sums.units, sums.runs, sums.left_out), (2, 8, 2, 4));
        assert_eq!((sums.saved_us, sums.spent_us), (9000, 15));
        assert_eq!(sums.asked, Asked { units: 6, runs: 2, runs_left: 2, saved_ms: 4 });
        assert_eq!((sums.reasons["stale"], sums.declined["doubt"]), (4, 1));
    }
}
