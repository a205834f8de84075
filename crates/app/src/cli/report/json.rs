//! The report for scripts. Its form is published in `docs/schema/report-v1.json`: fields may be added, and the version
//! rises when one changes its meaning.

use kache_core::tally::{Part, Reasons};
use kache_core::timeline::{Call, CrateCost, Session};
use serde_json::{Value, json};

use super::Report;
use crate::cli::stats::served_json;

const VERSION: u32 = 1;

pub fn render(report: &Report) -> String {
    let tally = &report.tally;
    let value = json!({
        "version": VERSION,
        "kache": env!("CARGO_PKG_VERSION"),
        "from_ms": report.from_ms,
        "until_ms": report.until_ms,
        "served": served_json(tally),
        "totals": part(&tally.all),
        "sources": tally.sources,
        "moved": tally.moved,
        "seeding": tally.seeding,
        "reasons": {
            "misses": reasons(&tally.misses),
            "passthroughs": reasons(&tally.passthroughs),
            "not_stored": reasons(&tally.not_stored),
            "notes": reasons(&tally.notes),
        },
        "crates": report.crates.iter().map(krate).collect::<Vec<_>>(),
        "builds": report.sessions.iter().map(build).collect::<Vec<_>>(),
    });
    format!("{value:#}\n")
}

fn part(part: &Part) -> Value {
    json!({
        "calls": part.outcomes.total(),
        "outcomes": part.outcomes,
        "hit_rate": part.outcomes.hit_rate(),
        "times": part.times,
    })
}

fn reasons(reasons: &Reasons) -> Value {
    let one = |(code, reason): (&String, &kache_core::tally::ReasonCount)| json!({ "code": code, "count": reason.count, "example": reason.example });
    reasons.iter().map(one).collect()
}

fn krate(cost: &CrateCost) -> Value {
    json!({
        "crate": cost.name,
        "reason": cost.reason,
        "detail": cost.detail,
        "totals": part(&cost.part),
    })
}

fn build(session: &Session) -> Value {
    json!({
        "session": session.id,
        "project": session.project,
        "start_us": session.start_us,
        "wall_us": session.wall_us(),
        "lanes": session.lanes,
        "totals": part(&session.part()),
        "calls": session.calls.iter().map(call).collect::<Vec<_>>(),
    })
}

fn call(call: &Call) -> Value {
    let event = &call.event;
    json!({
        "crate": event.crate_name,
        "label": event.label(),
        "package": event.package,
        "version": event.package_version,
        "kind": event.kind,
        "mode": event.mode,
        "outcome": event.outcome,
        "source": event.source,
        "reason": event.reason,
        "detail": event.detail,
        "not_stored": event.not_stored,
        "key": event.entry_key,
        "start_us": call.start_us,
        "duration_us": call.duration_us,
        "lane": call.lane,
        "compile_us": event.times.compile_us,
        "wait_us": event.times.wait_us,
        "saved_ms": event.saved_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::sample;
    use super::*;

    #[test]
    fn the_report_is_what_the_schema_says() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema/report-v1.json");
        let schema: Value =
            serde_json::from_str(&std::fs::read_to_string(path).expect("schema")).expect("JSON");
        for report in [sample(), Report::new(Vec::new(), (0, 1), 5)] {
            let value: Value = serde_json::from_str(&render(&report)).expect("JSON");
            assert_eq!(crate::schema::violations(&schema, &value), [""; 0], "{value:#}");
        }
        let mut broken: Value = serde_json::from_str(&render(&sample())).expect("JSON");
        broken["builds"][0]["calls"][0]["outcome"] = "perhaps".into();
        broken["totals"]["calls"] = "2".into();
        broken["extra"] = 1.into();
        if let Some(map) = broken.as_object_mut() {
            map.remove("crates");
        }
        assert_eq!(crate::schema::violations(&schema, &broken).len(), 4);
    }
}
