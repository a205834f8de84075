//! `kache verify --origin`: what the store has from machines that the settings don't trust. Builds and compares nothing.

use std::fmt::Write as _;

use kache_core::config::{Remote, Settings};
use kache_core::provenance::Provenance;
use kache_service::setup::{self, SetupError};
use kache_service::trust::Trust;
use kache_store::Store;
use kache_store::foreign::{Foreign, Sorting};
use serde_json::json;

use crate::error::{Outcome, Status};
use crate::ui::{Style, Ui};

pub fn run(settings: &Settings, store: &Store, drops: bool, as_json: bool, ui: &Ui) -> Outcome {
    let levels = settings.remote().into_iter().flat_map(Remote::levels);
    let mut trusts = levels
        .map(|remote| Ok(setup::policy(settings, &remote)?.trust))
        .collect::<Result<Vec<Trust>, SetupError>>()?;
    if trusts.is_empty() {
        trusts.push(Trust::default());
    }
    let sorting = if drops { Sorting::Drop } else { Sorting::List };
    let found =
        store.sort_out(|provenance| trusts.iter().any(|trust| trust.believes(provenance)), sorting)?;
    ui.print_as(as_json, || json(&found, sorting), || text(&found, sorting, ui))?;
    Ok(if found.is_empty() || drops { Status::Done } else { Status::Found })
}

/// How something came here, for people.
fn words(provenance: &Provenance) -> String {
    match provenance {
        Provenance::Here => "made here".to_owned(),
        Provenance::Unknown => "from before origins were noted".to_owned(),
        Provenance::Unsigned => "unsigned, from a remote".to_owned(),
        Provenance::Signed(key) => format!("signed by {key}, which isn't trusted"),
    }
}

fn text(found: &Foreign, sorting: Sorting, ui: &Ui) -> String {
    if found.is_empty() {
        return format!(
            "{}\n",
            ui.out(Style::Good, "Everything in the store was made here, or is signed by a trusted key.")
        );
    }
    let mut text = String::new();
    for (key, name, provenance) in &found.entries {
        let _ = writeln!(text, "{}  {name}: {}", key.0.short(), words(provenance));
    }
    for (what, counts) in [("input records", &found.records), ("units of snapshots", &found.units)] {
        for (provenance, count) in counts {
            let _ = writeln!(text, "{count} {what}: {}", words(provenance));
        }
    }
    let _ = match sorting {
        Sorting::List => writeln!(
            text,
            "{} `kache verify --origin --drop` removes them.",
            ui.out(Style::Warn, &format!("{} entries aren't trusted.", found.entries.len()))
        ),
        Sorting::Drop => writeln!(
            text,
            "{} entries are dropped. Target directories keep what was put there: `kache clean` removes these.",
            found.entries.len()
        ),
    };
    text
}

fn json(found: &Foreign, sorting: Sorting) -> String {
    let counts = |counts: &std::collections::BTreeMap<Provenance, u64>| -> Vec<_> {
        let one = |(provenance, count): (&Provenance, &u64)| json!({"origin": provenance.to_string(), "count": count});
        counts.iter().map(one).collect()
    };
    let entry = |(key, name, provenance): &(kache_core::key::EntryKey, String, Provenance)| json!({"key": key.to_string(), "package": name, "origin": provenance.to_string()});
    let value = json!({
        "version": 1,
        "dropped": sorting == Sorting::Drop,
        "entries": found.entries.iter().map(entry).collect::<Vec<_>>(),
        "records": counts(&found.records),
        "snapshot_units": counts(&found.units),
    });
    format!("{value:#}\n")
}
