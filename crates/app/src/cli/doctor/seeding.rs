//! Checks of seeding: whether it is on, and whether it works with the Cargo at hand. Knows nothing about units.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kache_core::config::Settings;
use kache_core::quantity::format_duration;
use kache_engine::seed::{Recording, last_recording};
use kache_store::Store;

use super::{Findings, Verdict};

/// Says whether fresh target directories are filled before Cargo looks. `cargo_version` is the answer to `cargo -V`.
pub fn check(settings: &Settings, store: &Store, cargo_version: Option<&str>, findings: &mut Findings) {
    findings.section = "Seeding";
    if !cfg!(target_os = "linux") {
        return findings.add(Verdict::Note, "only works on Linux");
    }
    if !settings.seed.value {
        return findings.add(Verdict::Note, "is off (KACHE_SEED or cache.seed)");
    }
    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    judge(cargo_version.and_then(|version| last_recording(store, version)), now_s, findings);
}

fn judge(last: Option<Recording>, now_s: u64, findings: &mut Findings) {
    let Some(last) = last else {
        return findings.add(Verdict::Note, "nothing was recorded with this Cargo yet: build once");
    };
    let what = format!(
        "{}, {} ago",
        last.what,
        format_duration(Duration::from_secs(now_s.saturating_sub(last.at_s)))
    );
    if last.works {
        findings.add(Verdict::Good, what);
    } else {
        let hint = "fresh target directories get their dependencies one compiler call at a time";
        findings.add_with_hint(Verdict::Warning, format!("the last build was not recorded: {what}"), hint);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_last_recording_came_to_is_said() {
        let recording = |works| Recording { what: "recorded 3 units".to_owned(), works, at_s: 100 };
        for (last, verdict, word) in [
            (None, Verdict::Note, "yet"),
            (Some(recording(true)), Verdict::Good, "recorded 3 units, 1m 00s ago"),
            (Some(recording(false)), Verdict::Warning, "not recorded"),
        ] {
            let mut findings = Findings::default();
            judge(last, 160, &mut findings);
            let check = &findings.checks[0];
            assert!(check.verdict == verdict && check.what.contains(word), "{check:?}");
        }
    }
}
