//! Builds laid out in time: when each compiler call began and ended, which of them ran side by side, and which cost
//! most. Made from events alone; knows nothing about how it is drawn.

use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::event::{Event, Outcome};
use crate::tally::Part;

#[derive(Debug, Clone, PartialEq)]
pub struct Session {
    /// Its process id and start time.
    pub id: String,
    /// Directory in which Cargo was started.
    pub project: String,
    /// Its calls, in the order in which they began.
    pub calls: Vec<Call>,
    /// How many ran side by side.
    pub lanes: usize,
    /// When the first call began, in microseconds since 1970.
    pub start_us: u64,
    /// When the last call ended, in microseconds since 1970.
    pub end_us: u64,
}

/// One compiler call in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    pub event: Event,
    /// The row it is drawn in, from 0: no two calls of a row overlap.
    pub lane: usize,
    /// When it began, in microseconds since 1970.
    pub start_us: u64,
    /// How long it took, in microseconds.
    pub duration_us: u64,
}

impl Session {
    /// Wall time from the first call's beginning to the last one's end, in microseconds.
    pub fn wall_us(&self) -> u64 {
        self.end_us - self.start_us
    }

    pub fn part(&self) -> Part {
        Part::of(self.calls.iter().map(|call| &call.event))
    }
}

/// Sessions from events, the latest last. Events that name none share one.
pub fn sessions(events: impl IntoIterator<Item = Event>) -> Vec<Session> {
    let mut by_id: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    for event in events {
        by_id.entry(event.build().to_owned()).or_default().push(event);
    }
    let mut sessions: Vec<Session> = by_id.into_iter().map(|(id, events)| lay_out(id, events)).collect();
    sessions.sort_by(|a, b| (a.start_us, &a.id).cmp(&(b.start_us, &b.id)));
    sessions
}

fn lay_out(id: String, events: Vec<Event>) -> Session {
    let own = events.iter().rev().find(|event| event.within.is_none()).or(events.last());
    let project = own.map(|event| event.project.clone()).unwrap_or_default();
    let mut calls: Vec<Call> = events
        .into_iter()
        .map(|event| {
            // A call of less than a microsecond would be invisible.
            let duration_us = event.times.total_us.max(1);
            let start_us = event.at_ms.saturating_mul(1000).saturating_sub(duration_us);
            Call { event, lane: 0, start_us, duration_us }
        })
        .collect();
    calls.sort_by(|a, b| (a.start_us, &a.event.crate_name).cmp(&(b.start_us, &b.event.crate_name)));
    let mut lane_ends: Vec<u64> = Vec::new();
    for call in &mut calls {
        let free = lane_ends.iter().position(|end_us| *end_us <= call.start_us);
        call.lane = free.unwrap_or(lane_ends.len());
        let end_us = call.start_us + call.duration_us;
        match free {
            Some(lane) => lane_ends[lane] = end_us,
            None => lane_ends.push(end_us),
        }
    }
    let start_us = calls.first().map_or(0, |call| call.start_us);
    let end_us = lane_ends.iter().copied().max().unwrap_or(start_us);
    Session { id, project, calls, lanes: lane_ends.len(), start_us, end_us }
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct CrateCost {
    /// See `Event::label`.
    pub name: String,
    pub part: Part,
    /// The reason of its latest call that was no hit.
    pub reason: Option<String>,
    pub detail: Option<String>,
}

/// Crates by what the compiler spent on them, the costliest first.
pub fn costs<'a>(events: impl IntoIterator<Item = &'a Event>) -> Vec<CrateCost> {
    let mut by_name: BTreeMap<Cow<'a, str>, CrateCost> = BTreeMap::new();
    for event in events {
        let cost = by_name.entry(event.label()).or_default();
        cost.part.add(event);
        if event.outcome != Outcome::Hit {
            cost.reason.clone_from(&event.reason);
            cost.detail.clone_from(&event.detail);
        }
    }
    let mut costs: Vec<CrateCost> =
        by_name.into_iter().map(|(name, cost)| CrateCost { name: name.into_owned(), ..cost }).collect();
    // Names are sorted already, and stay so among equals.
    costs.sort_by_key(|cost| std::cmp::Reverse(cost.part.times.compile_us));
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: &str, session: &str, end_ms: u64, total_ms: u64) -> Event {
        let mut event = Event::new(name, Outcome::Miss);
        event.session = session.to_owned();
        event.project = format!("/p/{session}");
        event.at_ms = end_ms;
        event.times.total_us = total_ms * 1000;
        event.times.compile_us = total_ms * 900;
        event
    }

    #[test]
    fn calls_that_overlap_are_in_different_lanes() {
        let events = [
            event("a", "1", 1100, 100),
            event("b", "1", 1300, 250),
            event("c", "1", 1200, 100),
            event("other", "2", 900, 10),
            event("d", "1", 1400, 100),
        ];
        let sessions = sessions(events);
        assert_eq!(sessions.iter().map(|s| s.id.as_str()).collect::<Vec<_>>(), ["2", "1"]);
        let placed: Vec<(&str, usize)> =
            sessions[1].calls.iter().map(|call| (call.event.crate_name.as_str(), call.lane)).collect();
        assert_eq!(placed, [("a", 0), ("b", 1), ("c", 0), ("d", 0)]);
        assert_eq!((sessions[1].lanes, sessions[1].wall_us()), (2, 400_000));
        assert_eq!((sessions[1].project.as_str(), sessions[1].part().outcomes.miss), ("/p/1", 4));
        assert_eq!(super::sessions([]), []);
    }

    #[test]
    fn the_costliest_crate_comes_first_with_its_latest_reason() {
        let mut hit = event("a", "1", 5, 1);
        hit.outcome = Outcome::Hit;
        hit.times.compile_us = 0;
        let mut miss = event("a", "1", 4, 2);
        miss.reason = Some("inputs-changed".into());
        let events = [miss, hit, event("b", "1", 9, 900)];
        let costs = costs(&events);
        assert_eq!(costs.iter().map(|cost| cost.name.as_str()).collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(costs[1].reason.as_deref(), Some("inputs-changed"));
        assert_eq!((costs[1].part.outcomes.hit, costs[1].part.outcomes.miss), (1, 1));
    }
}
