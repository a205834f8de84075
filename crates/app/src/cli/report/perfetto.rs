//! The report as trace events, the JSON form that trace viewers read: a process per build, a thread per job slot, a
//! slice per compiler call with its phases inside.
//!
//! ```text
//! {"displayTimeUnit":"ms","traceEvents":[
//!   {"ph":"M","pid":1,"name":"process_name","args":{"name":…}},
//!   {"ph":"X","pid":1,"tid":1,"ts":…,"dur":…,"name":"serde","cat":"hit","args":{…}}]}
//! ```
//! Times are microseconds from the beginning of the first build.

use kache_core::event::{Outcome, Times};
use kache_core::timeline::{Call, Session};
use serde_json::{Value, json};

use super::Report;

pub fn render(report: &Report) -> String {
    let origin_us = report.builds().next().map_or(0, |session| session.start_us);
    let mut events = Vec::new();
    for (pid, session) in (1u64..).zip(report.builds()) {
        name_tracks(&mut events, pid, session);
        for call in &session.calls {
            slices(&mut events, pid, call, call.start_us - origin_us);
        }
    }
    let value = json!({ "displayTimeUnit": "ms", "traceEvents": events });
    format!("{value}\n")
}

fn name_tracks(events: &mut Vec<Value>, pid: u64, session: &Session) {
    let name = format!("cargo in {} ({})", session.project, session.id);
    events.push(json!({ "ph": "M", "pid": pid, "tid": 0, "name": "process_name", "args": { "name": name } }));
    events.push(json!({ "ph": "M", "pid": pid, "tid": 0, "name": "process_sort_index", "args": { "sort_index": pid } }));
    for lane in 1..=session.lanes {
        let name = format!("job slot {lane}");
        events.push(
            json!({ "ph": "M", "pid": pid, "tid": lane, "name": "thread_name", "args": { "name": name } }),
        );
    }
}

fn slices(events: &mut Vec<Value>, pid: u64, call: &Call, start_us: u64) {
    let event = &call.event;
    let colour = match event.outcome {
        Outcome::Hit => "good",
        Outcome::Dup => "yellow",
        Outcome::Miss => "bad",
        Outcome::Passthrough => "grey",
        Outcome::Error => "terrible",
    };
    let tid = call.lane + 1;
    events.push(json!({
        "ph": "X", "pid": pid, "tid": tid, "ts": start_us, "dur": call.duration_us,
        "name": event.label(), "cat": event.outcome.word(), "cname": colour,
        "args": {
            "package": event.package, "version": event.package_version, "kind": event.kind, "mode": event.mode,
            "outcome": event.outcome.word(), "reason": event.reason, "detail": event.detail,
            "not_stored": event.not_stored, "saved_ms": event.saved_ms, "key": event.entry_key,
        },
    }));
    let mut at_us = start_us;
    let end_us = start_us + call.duration_us;
    for (name, duration_us) in phases(&event.times) {
        let duration_us = duration_us.min(end_us - at_us);
        if duration_us > 0 {
            events.push(json!({
                "ph": "X", "pid": pid, "tid": tid, "ts": at_us, "dur": duration_us, "name": name, "cat": "phase",
            }));
        }
        at_us += duration_us;
    }
}

/// The phases of a call, in their order.
fn phases(times: &Times) -> [(&'static str, u64); 7] {
    [
        ("key", times.key_us),
        ("look-up", times.lookup_us),
        ("wait", times.wait_us),
        ("remote", times.remote_us),
        ("compile", times.compile_us),
        ("restore", times.restore_us),
        ("store", times.store_us),
    ]
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    /// What a viewer insists on: complete events with times, nested properly in their track, and names for all tracks.
    #[test]
    fn the_trace_is_well_formed() {
        let trace: Value = serde_json::from_str(&render(&sample())).expect("JSON");
        let events = trace["traceEvents"].as_array().expect("events");
        let number =
            |event: &Value, name: &str| event[name].as_u64().unwrap_or_else(|| panic!("{name} in {event}"));
        let slices: Vec<&Value> = events.iter().filter(|event| event["ph"] == "X").collect();
        assert_eq!(slices.iter().filter(|event| event["cat"] != "phase").count(), 5);
        for slice in &slices {
            let (start, end) = (number(slice, "ts"), number(slice, "ts") + number(slice, "dur"));
            assert!(number(slice, "dur") > 0 && slice["name"].is_string() && slice["cat"].is_string());
            let track = (number(slice, "pid"), number(slice, "tid"));
            let is_named = |event: &&Value| {
                event["name"] == "thread_name" && (number(event, "pid"), number(event, "tid")) == track
            };
            assert_eq!(events.iter().filter(is_named).count(), 1, "{slice}");
            for other in &slices {
                let (from, to) = (number(other, "ts"), number(other, "ts") + number(other, "dur"));
                let is_apart = to <= start || end <= from;
                let is_nested = (from <= start && end <= to) || (start <= from && to <= end);
                assert!((number(other, "pid"), number(other, "tid")) != track || is_apart || is_nested);
            }
        }
        for name in ["wait", "remote", "compile", "restore", "store"] {
            assert!(slices.iter().any(|slice| slice["name"] == name), "no {name}");
        }
        assert_eq!(events.iter().filter(|event| event["name"] == "process_name").count(), 2);
        assert_eq!(slices.iter().map(|slice| number(slice, "ts")).min(), Some(0));
    }
}
